"""Train the classifier of latents and the transfer blocks: ``python -m gan_core.training.latent_edits``.

Trained on latents of the generator alone, labelled by the attribute regressor (Hu et al. 2022, section 3.4). The
published loss of a block asks the classifier alone, and latents are found that please it while the picture changes in
other ways; here each block then learns from its pictures.
"""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.editing.calibrate import Scorers
from gan_core.editing.latent_editor import LatentEditor, save_editor
from gan_core.generators.base import Generator
from gan_core.loading import load_generator
from gan_core.params import LatentEditsParams, ModelPaths, load_params
from gan_core.precision import set_precision
from gan_core.training.directions import network_eyes
from gan_core.training.latent_edit_scores import Labelled, label_samples, score
from gan_core.training.schedule import warm_cosine

METRICS = Path("data/metrics/latent-edits.json")
HELD_OUT = 128
PICTURES = 16
"""Pairs of faces in a step that learns from pictures."""
MOVE_WEIGHT = 1.0
NEAR_WEIGHT = 0.1
JITTER = 0.15
"""Noise on the standardised latents that are learnt from: an encoder's latents are not quite the generator's."""
log = logging.getLogger(__name__)


def train_editor(params: LatentEditsParams, generator: Generator, eyes: Scorers) -> tuple[LatentEditor, Labelled]:
    """Train classifier and blocks; return them with held-out latents."""
    samples = label_samples(generator, eyes, params.samples + HELD_OUT, params.seed)
    known, held_out = samples.part(slice(HELD_OUT, None)), samples.part(slice(HELD_OUT))
    torch.manual_seed(params.seed)
    sizes = {"hidden": params.hidden, "embedding": params.embedding, "heads": params.heads}
    editor = LatentEditor(eyes.names, params.blocks, generator.n_latent, generator.w_dim, **sizes)  # type: ignore[arg-type]
    for name in params.blocks:
        editor.column(name)
    w = known.w_plus.flatten(0, 1)
    editor.mean.copy_(w.mean(0))
    editor.scale.copy_(w.std(0))
    _fit(editor.classifier, params, params.classifier_steps, partial(_classify, editor, params, known))
    editor.classifier.requires_grad_(False)
    for name in params.blocks:
        _fit(editor.blocks[name], params, params.block_steps, partial(_transfer, editor, params, known, name))
        set_precision(generator, params.precision)
        _fit(editor.blocks[name], params, params.picture_steps, partial(_draw, editor, generator, eyes, known, name))
        set_precision(generator, "exact")
        log.info("the block for %s is trained", name)
    return editor.eval().requires_grad_(False), held_out


def _fit(model: nn.Module, params: LatentEditsParams, steps: int, loss: Callable[[torch.Generator], Tensor]) -> None:
    optimiser = torch.optim.Adam(model.parameters(), params.lr, weight_decay=params.weight_decay)
    stream = torch.Generator().manual_seed(params.seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = params.lr * warm_cosine(step, steps)
        optimiser.zero_grad(set_to_none=True)
        loss(stream).backward()
        optimiser.step()


def _batches(
    editor: LatentEditor, params: LatentEditsParams, known: Labelled, stream: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        rows = torch.randint(len(known.w_plus), (params.batch_size,), generator=stream)
        latents = editor.standardise(known.w_plus[rows])
        yield latents + JITTER * torch.randn(latents.shape, generator=stream), known.shares[rows]


def _classify(editor: LatentEditor, params: LatentEditsParams, known: Labelled, stream: torch.Generator) -> Tensor:
    """Cross entropy towards the shares: a logit of 0 is the middle of a range."""
    latents, shares = next(_batches(editor, params, known, stream))
    return F.binary_cross_entropy_with_logits(editor.classifier(latents), shares)


def _transfer(
    editor: LatentEditor, params: LatentEditsParams, known: Labelled, name: str, stream: torch.Generator
) -> Tensor:
    """The published loss: one embedding as in the reference, latents and other embeddings as in the source."""
    batches = _batches(editor, params, known, stream)
    (source, _), (reference, _) = next(batches), next(batches)
    change = editor.blocks[name](source, reference)
    before, wanted = editor.classifier.embeddings(source), editor.classifier.embeddings(reference)
    after, column = editor.classifier.embeddings(source + change), editor.column(name)
    kept = [i for i in range(before.shape[1]) if i != column]
    return (
        change.square().mean()
        + (after[:, column] - wanted[:, column]).square().mean()
        + (after[:, kept] - before[:, kept]).square().mean()
    )


def _draw(
    editor: LatentEditor, generator: Generator, eyes: Scorers, known: Labelled, name: str, stream: torch.Generator
) -> Tensor:
    """What pictures show: one attribute as in the reference, the others as in the source, and latents near its own."""
    rows, others = torch.randint(len(known.w_plus), (2, PICTURES), generator=stream)
    source, wanted, column = known.w_plus[rows], known.shares[rows], editor.column(name)
    wanted[:, column] = known.shares[others, column]
    mixed = editor.transfer(source, known.w_plus[others], name)
    error = eyes.attributes(generator.synthesis(mixed)) - wanted
    kept = [i for i in range(error.shape[1]) if i != column]
    near = ((mixed - source) / editor.scale).square().mean()
    return MOVE_WEIGHT * error[:, column].square().mean() + error[:, kept].abs().mean() + NEAR_WEIGHT * near


def train_latent_edits(params: LatentEditsParams, models: ModelPaths) -> dict[str, dict[str, float]]:
    """Train, score and store what ``models.latent_edits`` names; return the scores."""
    loaded, eyes = load_generator(models.generator), network_eyes(models)
    generator = loaded.model
    editor, held_out = train_editor(params, generator, eyes)
    scores = score(editor, generator, eyes, held_out)
    save_editor(models.latent_edits, editor, loaded.sha256, {"held_out": scores, "params": params.model_dump()})
    return scores


def main() -> None:
    """Train what ``params.yaml`` asks for, and write the scores to ``data/metrics/latent-edits.json``."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    params = load_params()
    scores = train_latent_edits(params.train_latent_edits, params.models)
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
