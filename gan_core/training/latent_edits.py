"""Train the classifier of latents and the transfer blocks.

Trained on latents of the generator alone, labelled by the attribute regressor (Hu et al. 2022, section 3.4). The
published loss of a block asks the classifier alone, and latents are found that please it while the picture changes in
other ways; here each block then learns from its pictures.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.device import place
from gan_core.editing.latent_editor import LatentEditor, save_editor
from gan_core.generators.base import Generator
from gan_core.judges.scorers import Scorers, load_scorers
from gan_core.loading import load_generator, model_tensors
from gan_core.params import ModelPaths
from gan_core.precision import in_precision
from gan_core.training.fit import Course, fit
from gan_core.training.latent_edit_losses import PICTURES, EditorLosses
from gan_core.training.latent_edit_scores import Labelled, label_samples, score
from gan_core.training.log import Report
from gan_core.training.params import LatentEditsParams
from gan_core.training.schedule import set_rate, warm_cosine
from gan_core.training.state import Resumable, fingerprint

HELD_OUT = 128
REPORT_STEPS = 100
SHOWN = 8


class PartState(Resumable):
    """One part of the editor in training; ``key`` stands for all that it is trained with."""

    kept = ("network", "optimiser", "seen")

    def __init__(self, network: nn.Module, params: LatentEditsParams, key: str) -> None:
        self.network, self.key, self.seen = network, key, 0
        self.optimiser = torch.optim.Adam(network.parameters(), params.lr, weight_decay=params.weight_decay)


def train_editor(
    params: LatentEditsParams, generator: Generator, scorers: Scorers, folder: Path, report: Report
) -> tuple[LatentEditor, Labelled]:
    """Train classifier and blocks, or go on in ``folder``; return them with held-out latents."""
    samples = label_samples(generator, scorers, params.samples + HELD_OUT, params.seed)
    known, held_out = samples.part(slice(HELD_OUT, None)), samples.part(slice(HELD_OUT))
    editor = build_editor(params, generator, scorers, known)
    losses = EditorLosses(editor, generator, scorers, known, params.batch_size)
    shown = held_out.w_plus[:SHOWN]

    def fit_part(
        name: str, part: nn.Module, steps: int, batch: int, loss: Callable[[torch.Generator], Tensor], block: str = ""
    ) -> None:
        learnt_from = f"{fingerprint(model_tensors(generator))} {scorers.attributes_sha256}"
        state = PartState(part, params, f"{params.model_dump_json()} {learnt_from}")

        def step(stream: torch.Generator) -> dict[str, float]:
            set_rate(state.optimiser, params.lr * warm_cosine(state.seen // batch, steps))
            value = loss(stream)
            state.optimiser.zero_grad(set_to_none=True)
            value.backward()
            state.optimiser.step()
            return {name: value.item()}

        def show() -> tuple[dict[str, float], Tensor]:
            return {}, transfers(editor, generator, shown, block)

        course = Course(steps * batch, batch, params.seed, REPORT_STEPS * batch)
        fit(state, course, step, report, show, folder / f"{name}.pt")

    fit_part("classifier", editor.classifier, params.classifier_steps, params.batch_size, losses.classify)
    editor.classifier.requires_grad_(False)
    for name in params.blocks:
        block = editor.blocks[name]
        fit_part(name, block, params.block_steps, params.batch_size, partial(losses.transfer, name), name)
        with in_precision(generator, params.precision):
            fit_part(f"{name}-pictures", block, params.picture_steps, PICTURES, partial(losses.draw, name), name)
    return editor.eval().requires_grad_(False), held_out


def build_editor(params: LatentEditsParams, generator: Generator, scorers: Scorers, known: Labelled) -> LatentEditor:
    """Build an untrained editor that standardises as ``known`` asks; raises ``ParamsError`` for unknown blocks."""
    torch.manual_seed(params.seed)
    sizes = {"hidden": params.hidden, "embedding": params.embedding, "heads": params.heads}
    editor = LatentEditor(scorers.names, params.blocks, generator.n_latent, generator.w_dim, **sizes)  # type: ignore[arg-type]
    for name in params.blocks:
        editor.column(name)
    w = known.w_plus.flatten(0, 1)
    editor.mean.copy_(w.mean(0))
    editor.scale.copy_(w.std(0))
    return place(editor)


@torch.no_grad()
def transfers(editor: LatentEditor, generator: Generator, w_plus: Tensor, block: str) -> Tensor:
    """Pictures ``[N, 3, H, W]`` of latents and, with a ``block``, of each given that attribute of the one before."""
    shown = [w_plus] if not block else [w_plus, editor.transfer(w_plus, w_plus.roll(1, 0), block)]
    return generator.synthesis(torch.cat(shown))


def train_latent_edits(
    params: LatentEditsParams, models: ModelPaths, folder: Path, report: Report
) -> dict[str, dict[str, float]]:
    """Train, score and store what ``models.latent_edits`` names; return the scores."""
    loaded, scorers = load_generator(models.generator), load_scorers(models)
    generator = loaded.model
    editor, held_out = train_editor(params, generator, scorers, folder, report)
    scores = score(editor, generator, scorers, held_out)
    save_editor(models.latent_edits, editor, loaded.sha256, {"held_out": scores, "params": params.model_dump()})
    return scores
