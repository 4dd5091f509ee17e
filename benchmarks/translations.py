"""How well pSp's tasks are done on portraits that nothing was trained on: ``python -m benchmarks.translations``.

256 held-out toy portraits go through the stage of each task, with three variants each. Beside it stands what a user
would try first: bicubic enlargement (super-resolution), the training portrait with the nearest input (sketch,
segmentation, inpainting), the plain inversion encoder (frontalisation, and toonify through the same swapped generator).
``truth`` scores the portraits themselves, which tells how far the measuring networks can be trusted. IoU is the mean
over rows of the mean over the classes that occur in either map; ``lpips_cel`` is the distance of a toonified face to
the renderer's own cel-shaded drawing of the same head, which no encoder has seen.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import print_result
from gan_core.batching import in_chunks
from gan_core.loading import load_encoder, load_generator
from gan_core.params import Params, load_params
from gan_core.rows import Row
from gan_core.runs.stage import build_stage
from gan_core.stages.translate import INPUT, OUTPUT, TranslateStage
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.urls import exists
from gan_core.toy.params import TRANSLATIONS
from gan_core.toy.renderer.cel import render_cel
from gan_core.toy.training.portraits import PortraitSet, load_portraits
from gan_core.training.log import tile
from gan_core.translation.degradations import reduce_bicubic
from gan_core.translation.inputs import EncoderInput, picture_cell
from gan_core.translation.scores import Translated
from gan_core.translation.tasks import TASKS, translator_path

Draw = Callable[[Sequence[EncoderInput]], Tensor]
Baseline = Callable[[TranslateStage, PortraitSet, Params], Draw]
BATCH = 32
SIDE = 16
"""Inputs are compared at this size in pixels to find the nearest."""
FACTORS = [2, 4, 8, 16, 32]
EXAMPLES = (3, 5)
HEADLINES = {
    "frontalisation": ("yaw_after", -1),
    "sketch": ("edges", 1),
    "segmentation": ("mean_iou", 1),
    "super-resolution": ("lpips", -1),
    "inpainting": ("mse_hidden", -1),
    "toonify": ("identity", 1),
}
"""The score that a task is to beat its baseline in, and which way is better."""


def make_rows(portraits: PortraitSet, numbers: Sequence[int]) -> list[Row]:
    """Turn held-out portraits into rows of a dataset, label maps as grey values."""
    labels = portraits.segmentation
    return [
        {
            "key": f"held-out-{i}",
            "image": image_value(encode_png(np.asarray(portraits.image[i])), ""),
            "labels": image_value(encode_png(np.asarray(labels[i])[..., None].repeat(3, 2)), ""),
        }
        for i in numbers
    ]


def enlarge(stage: TranslateStage, portraits: PortraitSet, params: Params) -> Draw:
    """Reduce again what was seen, and enlarge it bicubically."""

    def draw(seen: Sequence[EncoderInput]) -> Tensor:
        size = stage.side
        small = [reduce_bicubic(one.tensor[None], one.factor) for one in seen]
        return torch.cat([F.interpolate(x, (size, size), mode="bicubic").clamp(-1, 1) for x in small])

    return draw


def find_nearest(stage: TranslateStage, portraits: PortraitSet, params: Params) -> Draw:
    """Return the training portraits whose inputs, small, are nearest; what a mask hides isn't compared."""
    candidates = small_inputs(stage, portraits)

    def draw(seen: Sequence[EncoderInput]) -> Tensor:
        found = []
        for one in seen:
            hidden = torch.zeros(one.tensor.shape[1:]) if one.hidden is None else one.hidden.float()
            compared = F.adaptive_avg_pool2d(hidden[None], SIDE) == 0
            own = F.adaptive_avg_pool2d(one.tensor, SIDE)
            found.append(int(((candidates - own) * compared).square().sum((1, 2, 3)).argmin()))
        return portraits.images(np.array(found))

    return draw


def invert(stage: TranslateStage, portraits: PortraitSet, params: Params) -> Draw:
    """Take the inversion encoder instead, and the task's generator."""
    generator = load_generator(params.models.generator)
    encoder = load_encoder(params.models.encoder, generator, params.encode.encoder).model

    def draw(seen: Sequence[EncoderInput]) -> Tensor:
        latents = in_chunks(encoder.encode, torch.stack([one.tensor for one in seen]))
        return in_chunks(stage.generator.synthesis, latents).clamp(-1, 1)

    return draw


def small_inputs(stage: TranslateStage, portraits: PortraitSet) -> Tensor:
    """Whole inputs of all training portraits, small, ``[N, C, 16, 16]``; nothing is hidden of them."""
    parts = []
    for rows in torch.arange(len(portraits)).split(512):
        inputs = portraits.images(rows.numpy())
        if stage.transform.from_labels:
            labels = torch.from_numpy(np.array(portraits.segmentation[rows.numpy()]))
            made = [stage.transform.make(*pair, torch.Generator()) for pair in zip(inputs, labels, strict=True)]
            inputs = torch.stack([one.tensor for one in made])
        parts.append(F.adaptive_avg_pool2d(inputs, SIDE))
    return torch.cat(parts)


BASELINES: dict[str, tuple[str, Baseline]] = {
    "frontalisation": ("plain inversion", invert),
    "sketch": ("nearest training portrait", find_nearest),
    "segmentation": ("nearest training portrait", find_nearest),
    "super-resolution": ("bicubic", enlarge),
    "inpainting": ("nearest training portrait", find_nearest),
    "toonify": ("plain inversion, decoder swapped", invert),
}


def task_params(task: str, params: Params) -> Params:
    """Return the parameters with this task over pictures, at every factor and mask that it was trained with."""
    chosen = {"task": task, "made": True, "align": False, "column": "image", "labels": "labels", "truth": ""}
    drawn = {"factors": FACTORS if task == "super-resolution" else [8], "masks": TRANSLATIONS[task].masks}
    return params.model_copy(update={"translate": params.translate.model_copy(update=chosen | drawn)})


@torch.no_grad()
def examine(task: str, params: Params, held_out: PortraitSet, train: PortraitSet, images: int) -> dict[str, float]:
    """Return the mean scores of a task, of its baseline (``baseline/...``) and of the truth (``truth/...``).

    ``gain`` is how much better the headline is than the baseline's, row by row, and ``gain_error`` its standard error.
    """
    stage = build_stage("translate", task_params(task, params), "")
    assert isinstance(stage, TranslateStage)
    sums: dict[str, list[float]] = {}
    baseline = BASELINES[task][1](stage, train, params)
    for numbers in torch.arange(images).split(BATCH):
        rows = make_rows(held_out, numbers.tolist())
        made = stage.process(rows)
        seen = [stage.see(row) for row in rows]
        truth = held_out.images(numbers.numpy())
        inputs = torch.stack([one.tensor for one in seen])
        others = {"baseline": baseline(seen), "truth": truth}
        finished = [row for row in made if isinstance(row, dict)]
        _add(sums, "", {name: [row[name] for row in finished] for name in stage.scorer.names}, seen)
        for who, output in others.items():
            scores = stage.scorer.score(Translated(seen, inputs, output, [output, output], truth))
            _add(sums, f"{who}/", scores, seen)
        if task == "toonify":
            drawn = torch.stack([picture_cell({"": row[OUTPUT]}, "", stage.side) for row in finished])
            cel = render_cel(torch.from_numpy(held_out.factors[numbers.numpy()]))
            for who, output in {"": drawn, "baseline/": others["baseline"], "truth/": truth}.items():
                _add(sums, who, {"lpips_cel": stage.scorer.lpips(output, cel).tolist()}, seen)
    headline, sign = HEADLINES[task]
    gains = sign * (np.array(sums[headline]) - np.array(sums[f"baseline/{headline}"]))
    found = {name: float(np.mean(values)) for name, values in sums.items() if values}
    return found | {"gain": float(gains.mean()), "gain_error": float(gains.std() / len(gains) ** 0.5)}


def _add(
    sums: dict[str, list[float]],
    prefix: str,
    scores: Mapping[str, Sequence[float]],
    seen: Sequence[EncoderInput],
) -> None:
    for name, values in scores.items():
        for value, one in zip(values, seen, strict=True):
            sums.setdefault(prefix + name, []).append(value)
            if one.factor > 1 and name in ("psnr", "lpips"):
                sums.setdefault(f"{prefix}{name}/x{one.factor}", []).append(value)


@torch.no_grad()
def draw_examples(task: str, params: Params, held_out: PortraitSet, numbers: Sequence[int]) -> Tensor:
    """What became of some held-out portraits: of each the input, the output, its variants and the truth."""
    stage = build_stage("translate", task_params(task, params), "")
    assert isinstance(stage, TranslateStage)
    columns = [INPUT, OUTPUT, *(picture.column for picture in stage.plan)]
    made = [row for row in stage.process(make_rows(held_out, numbers)) if isinstance(row, dict)]
    cells = [{"": row[column]} for row in made for column in columns]
    drawn = torch.stack([picture_cell(cell, "", stage.side) for cell in cells]).unflatten(0, (len(made), -1))
    return torch.cat([drawn, held_out.images(np.array(numbers))[:, None]], 1).flatten(0, 1)


def describe(task: str, found: dict[str, float]) -> list[str]:
    """Return the lines about a task: each score, its baseline's and the truth's, and which is better."""
    headline, gain = HEADLINES[task][0], found["gain"]
    lines = [f"{task} (baseline: {BASELINES[task][0]})"]
    for name, value in found.items():
        if name.partition("/")[0] not in ("baseline", "truth", "gain", "gain_error"):
            others = [
                f"{who} {found[f'{who}/{name}']:.4g}" for who in ("baseline", "truth") if f"{who}/{name}" in found
            ]
            lines.append(f"  {name:14} {value:.4g}  {', '.join(others)}")
    verdict = "beats" if gain > 0 else "does not beat"
    lines.append(f"  {headline}: {verdict} the baseline, by {gain:.4g} +- {found['gain_error']:.2g}")
    if task == "frontalisation":
        turn, identity = found["yaw_after"] / found["yaw_before"], found["identity"] / found["baseline/identity"]
        lines.append(f"  {turn:.3f} of the turn is left, with {identity:.3f} of the plain inversion's identity")
    return lines


def main() -> None:
    """Measure every task whose encoder is there, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--task", action="append", choices=sorted(BASELINES))
    parser.add_argument("--pictures", metavar="FILE", help="draw examples, a line for each task")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    params = load_params(overrides={"run.device": "cpu"} | dict(text.split("=", 1) for text in options.set))
    held_out, train = load_portraits("held_out"), load_portraits("train")
    results: dict[str, float | dict[str, float]] = {}
    examples: list[Tensor] = []
    for task in options.task or [name for name in TASKS.names() if name in BASELINES]:
        if not exists(translator_path(params, task)):
            print(f"{task}: no encoder yet; train it with `python -m tasks.train train-translation@{task}`")
            continue
        found = examine(task, params, held_out, train, options.images)
        print("\n".join(describe(task, found)), flush=True)
        results[task.replace("-", "_")] = {name.replace("/", "_"): value for name, value in found.items()}
        if options.pictures:
            examples.append(draw_examples(task, params, held_out, EXAMPLES))
    if examples:
        tile(torch.cat(examples), len(examples[0])).save(options.pictures, quality=92)
    print_result(**results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
