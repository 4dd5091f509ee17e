"""Whole runs with encoders, generators and pictures of different shapes and sizes: from the file to the scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.errors import CheckpointError, ParamsError
from gan_core.importers import import_dataset
from gan_core.loading import load_encoder, load_generator, model_tensors
from gan_core.metrics.pixel import mse
from gan_core.params import Params, check_params
from gan_core.plain import run_plain
from gan_core.recipes.base import Plan, plan_params
from gan_core.report import write_report
from gan_core.rows import Row
from gan_core.storage.images import decode_image, to_tensor, to_uint8
from gan_core.storage.shards import read_rows
from gan_core.toy.renderer import render, sample_factors

W_DIM, SEEDS = 16, [7, 8]
ABOUT: dict[str, Any] = {"made_by": "tests", "licence": "none", "source": "random weights"}
BASE: dict[str, Any] = {
    "run": {"workers": 1, "batch_size": 2},
    "align": {"landmarks": "aligned"},
    "tune": {"steps": 1, "batch_size": 2},
    "edits": [{"direction": "smile", "strengths": [1]}],
    "paste": {"enabled": True},
    "measure": {"metrics": ["mse", "lpips", "identity"]},
}
QUICK: dict[str, Any] = {"tune": {"enabled": False}, "paste": {"enabled": False}, "edits": []}
Planned = Callable[..., Plan]


def write_encoder(path: Path, name: str, shape: list[int], channels: int = 3) -> str:
    """Write an encoder with random weights and statistics that let pictures differ."""
    torch.manual_seed(3)
    encoder = ENCODERS.get(name)(
        n_latent=10, style_dim=W_DIM, input_size=shape, units=(1, 1, 1, 1), width=8, input_channels=channels
    )  # type: ignore[call-arg]
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    encoder.train()(torch.randn(4, channels, *shape))
    card = Card(kind="encoder", name=name, arguments=encoder.arguments, space=encoder.space, **ABOUT)
    save_checkpoint(path, model_tensors(encoder), card, half=False)
    return str(path)


def portraits(size: tuple[int, int]) -> list[Image.Image]:
    """Draw portraits of ``size`` (width and height): the middle of squares."""
    side = max(size)
    drawn = [Image.fromarray(pixels) for pixels in to_uint8(render(sample_factors(SEEDS), 64).image)]
    squares = [image.resize((side, side), Image.Resampling.BICUBIC) for image in drawn]
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    return [square.crop((left, top, left + size[0], top + size[1])) for square in squares]


@pytest.fixture
def planned(tmp_path: Path, tiny_models: dict[str, str]) -> Planned:
    """Returns a function that imports pictures and plans a run over them with an encoder of ``shape``."""

    def plan(size: tuple[int, int], shape: list[int], name: str = "psp", channels: int = 3, **sections: Any) -> Plan:
        files = tmp_path / "files"
        files.mkdir(exist_ok=True)
        for seed, image in zip(SEEDS, portraits(size), strict=True):
            image.save(files / f"{seed}.png")
        import_dataset(str(files), str(tmp_path / "data"))
        encoder = write_encoder(tmp_path / "encoder.safetensors", name, shape, channels)
        models = tiny_models | {"encoder": encoder}
        values = BASE | {"models": models, "encode": {"encoder": name}} | sections
        return plan_params(check_params(values), str(tmp_path / "data"), str(tmp_path / "run"))

    return plan


def rows_of(plan: Plan, stage: str) -> list[Row]:
    return [row for path in plan.run.stage_shards(stage) for rows in read_rows(path) for row in rows]


def picture(cell: Row) -> Image.Image:
    return decode_image(cell["bytes"], 1 << 24)


def encoder_of(params: Params) -> Encoder:
    return load_encoder(params.models.encoder, None).model


@torch.no_grad()
def published_latents(plan: Plan, images: list[Image.Image]) -> np.ndarray:
    """Return what the published loaders give: whole pictures through Pillow's bilinear resize, eight bits a channel."""
    encoder = encoder_of(plan.run.params)
    height, width = encoder.input_shape
    resized = [image.resize((width, height), Image.Resampling.BILINEAR) for image in images]
    return encoder.encode(to_tensor(resized)).numpy()


def check_latents(plan: Plan, expected: np.ndarray) -> None:
    found = np.stack([row["latent"] for row in rows_of(plan, "encode")])
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "name",
    [
        "psp",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("style-transformer", "e4e", "psp-w", "psp-w-plus")),
    ],
)
def test_an_encoder_for_cars_sees_whole_pictures(planned: Planned, name: str) -> None:
    plan = planned((160, 120), [48, 64], name, **QUICK)
    run_plain(plan)
    check_latents(plan, published_latents(plan, portraits((160, 120))))


def test_every_stage_keeps_the_frame_of_its_encoder(planned: Planned) -> None:
    metrics = ["mse", "psnr", "lpips", "identity", "attributes", "fid", "swd"]
    plan = planned((160, 120), [48, 64], measure={"metrics": metrics, "swd_edits": True})
    scores = run_plain(plan)
    assert picture(rows_of(plan, "edit")[0]["smile@+1"]).size == (64, 48)
    assert picture(rows_of(plan, "paste")[0]["smile@+1/pasted"]).size == (160, 120)
    for aligned, encoded, tuned in zip(*(rows_of(plan, stage) for stage in ("align", "encode", "tune")), strict=True):
        shown = [picture(cell) for cell in (aligned["image"], encoded["reconstruction"], tuned["tuned"])]
        assert {image.size for image in shown} == {(64, 48)}
        with torch.no_grad():
            square = load_generator(plan.run.params.models.generator).model.synthesis(
                torch.from_numpy(encoded["latent"][None])
            )
        middle = to_uint8(square)[0, 8:56].astype(int)
        assert np.abs(np.asarray(shown[1]) - middle).max() <= 1
    scored = rows_of(plan, "measure")[-1]
    assert scored["mse/encoded"] == pytest.approx(float(mse(to_tensor([shown[0]]), to_tensor([shown[1]]))))
    assert all(np.isfinite(value) for value in scores.values()) and "mse/tuned" in scores
    assert Path(write_report(plan.run.output)).stat().st_size > 10_000


@pytest.mark.parametrize("pivot", ["w", "w_plus"])
def test_pivots_are_optimised_and_edits_drawn_in_the_frame(planned: Planned, pivot: str) -> None:
    tune = {"steps": 1, "pivot": pivot, "pivot_steps": 1, "persist": "none", "shared": pivot == "w"}
    plan = planned((64, 48), [48, 64], tune=tune)
    run_plain(plan)
    assert {picture(row[name]).size for row in rows_of(plan, "tune") for name in ("tuned", "smile@+1")} == {(64, 48)}


@pytest.mark.parametrize("pictures", [(64, 48), (96, 48), pytest.param((64, 64), marks=pytest.mark.slow)])
def test_the_middle_of_pictures_and_of_padded_squares_is_framed(planned: Planned, pictures: tuple[int, int]) -> None:
    plan = planned(pictures, [48, 64], **QUICK | {"align": {"landmarks": "centre", "transform_size": 64}})
    run_plain(plan)
    left, top = (pictures[0] - 64) // 2, (pictures[1] - 48) // 2
    middles = [image.crop((left, top, left + 64, top + 48)) for image in portraits(pictures)]
    check_latents(plan, published_latents(plan, middles))


@pytest.mark.parametrize(
    ("pictures", "seen", "size", "aligned"),
    [
        ((256, 256), [64, 64], None, 64),  # as FFHQ's 1024 px before an encoder and a generator of 256 px
        pytest.param((32, 32), [64, 64], None, 64, marks=pytest.mark.slow),
        ((256, 256), [128, 128], None, 64),  # the encoder sees more than the generator draws
        pytest.param((96, 96), [128, 128], None, 64, marks=pytest.mark.slow),
        pytest.param((256, 256), [64, 64], 32, 32, marks=pytest.mark.slow),
        pytest.param((256, 256), [64, 64], 128, 128, marks=pytest.mark.slow),
        ((200, 150), [64, 64], None, 64),  # churches: squeezed
        pytest.param(
            (256, 256), [32, 32], None, 64, marks=pytest.mark.slow
        ),  # the generator draws more than the encoder sees
    ],
)
def test_aligned_pictures_give_the_published_latents_at_any_size(
    planned: Planned, pictures: Any, seen: list[int], size: int | None, aligned: int
) -> None:
    quick = QUICK | {"tune": {"steps": 1, "batch_size": 2}}
    plan = planned(pictures, seen, **quick | {"align": {"landmarks": "aligned", "size": size}})
    metrics = run_plain(plan)
    check_latents(plan, published_latents(plan, portraits(pictures)))
    assert picture(rows_of(plan, "align")[0]["image"]).size == (aligned, aligned)
    assert picture(rows_of(plan, "encode")[0]["reconstruction"]).size == (64, 64)
    assert plan.run.params.align.size == aligned and plan.run.params.align.transform_size == 4 * aligned
    assert np.isfinite(metrics["lpips/toy/tuned"]) and np.isfinite(metrics["identity/toy/encoded"])


def test_pictures_of_different_sizes_are_scored_at_the_smaller_one(planned: Planned) -> None:
    plan = planned((64, 64), [64, 64], **QUICK | {"align": {"landmarks": "aligned", "size": 32}})
    run_plain(plan)
    assert plan.run.identities["measure"]["compared"] == [32, 32]
    for aligned, encoded, scored in zip(*(rows_of(plan, s) for s in ("align", "encode", "measure")), strict=True):
        drawn = torch.nn.functional.avg_pool2d(to_tensor([picture(encoded["reconstruction"])]), 2)
        expected = float(mse(to_tensor([picture(aligned["image"])]), drawn))
        assert scored["mse/encoded"] == pytest.approx(expected, rel=1e-5)


def test_inputs_are_rounded_as_published_where_asked_for(planned: Planned) -> None:
    sizes = {"landmarks": "centre", "size": 128, "transform_size": 128}
    plan = planned((128, 128), [64, 64], align=sizes, encode={"encoder": "psp", "rounded": True}, **QUICK)
    run_plain(plan)
    check_latents(plan, published_latents(plan, portraits((128, 128))))
    assert plan.run.identities["encode"]["params"] == {"encoder": "psp", "rounded": True}


def test_what_cannot_work_is_refused_before_anything_is_written(planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="sees 1 channels, not pictures of 3"):
        planned((64, 64), [64, 64], channels=1)
    with pytest.raises(ParamsError, match=r"align\.transform_size is 32, less than align\.size \(64\)"):
        planned((64, 64), [64, 64], align={"landmarks": "centre", "size": 64, "transform_size": 32})
    assert not (tmp_path / "run").exists()
