"""Train the classifier of latents and the transfer blocks: ``python -m gan_core.training.latent_edits``.

Trained on latents of the generator alone, labelled by the attribute regressor (Hu et al. 2022, section 3.4).
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.checkpoints.store import load_generator
from gan_core.editing.calibrate import Eyes
from gan_core.editing.label import move_to_label
from gan_core.editing.latent_editor import LatentEditor, save_editor
from gan_core.generators.base import Generator
from gan_core.params import LatentEditsParams, ModelPaths, load_params
from gan_core.training.directions import network_eyes
from gan_core.training.schedule import warm_cosine

METRICS = Path("data/metrics/latent-edits.json")
BATCH = 64
HELD_OUT = 128
JITTER = 0.15
"""Noise on the standardised latents that are learnt from: an encoder's latents are not quite the generator's."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """Latents ``w_plus [N, n_latent, w_dim]`` with what the regressor sees: shares ``[N, A]`` of each range, 0 to 1."""

    w_plus: Tensor
    shares: Tensor

    def part(self, rows: slice) -> "Labelled":
        """Some of the rows."""
        return Labelled(self.w_plus[rows], self.shares[rows])


def train_editor(params: LatentEditsParams, generator: Generator, eyes: Eyes) -> tuple[LatentEditor, Labelled]:
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
        log.info("the block for %s is trained", name)
    return editor.eval().requires_grad_(False), held_out


@torch.no_grad()
def label_samples(generator: Generator, eyes: Eyes, n: int, seed: int) -> Labelled:
    """Draw latents, every second one mixed of two styles, and read their pictures."""
    stream = torch.Generator().manual_seed(seed)
    w, other = (generator.mapping(torch.randn(n, generator.z_dim, generator=stream)) for _ in range(2))
    first = torch.randint(1, generator.n_latent, (n, 1), generator=stream)
    first[::2] = generator.n_latent
    mixed = torch.arange(generator.n_latent) >= first
    w_plus = torch.where(mixed[:, :, None], generator.broadcast(other), generator.broadcast(w))
    shares = torch.cat([eyes.attributes(generator.synthesis(part)) for part in w_plus.split(BATCH)])
    return Labelled(w_plus, shares.clamp(0, 1))


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


@torch.no_grad()
def score_transfer(
    editor: LatentEditor, generator: Generator, eyes: Eyes, held_out: Labelled, name: str
) -> dict[str, float]:
    """Measure a block on pairs of held-out latents, by the regressor.

    ``way``: how far the attribute moves from the source's value to the reference's (regression slope);
    ``others_kept``: 1 less the mean change of the other attributes as a share of the difference of the two faces.
    """
    source, reference = held_out, Labelled(held_out.w_plus.roll(1, 0), held_out.shares.roll(1, 0))
    mixed = editor.transfer(source.w_plus, reference.w_plus, name)
    after = torch.cat([eyes.attributes(generator.synthesis(part)) for part in mixed.split(BATCH)])
    change, gap = after - source.shares, reference.shares - source.shares
    column = eyes.names.index(name)
    others = [i for i in range(len(eyes.names)) if i != column]
    way = (change[:, column] * gap[:, column]).sum() / gap[:, column].square().sum()
    kept = 1 - change[:, others].abs().mean() / gap[:, others].abs().mean()
    return {"way": way.item(), "others_kept": kept.item()}


def score_label(editor: LatentEditor, held_out: Labelled, name: str, target: bool) -> float:
    """The share of held-out latents on the other side that a label edit of strength 1 brings over."""
    column = editor.column(name)
    w_plus = held_out.w_plus[(editor.logits(held_out.w_plus)[:, column] > 0) != target]
    if not len(w_plus):
        return 1.0
    noise = torch.randn(w_plus.shape, generator=torch.Generator().manual_seed(0))
    moved = move_to_label(lambda w: editor.logits(w)[:, column], w_plus, target, editor.length, noise)
    return ((editor.logits(moved)[:, column] > 0) == target).float().mean().item()


def score(editor: LatentEditor, generator: Generator, eyes: Eyes, held_out: Labelled) -> dict[str, dict[str, float]]:
    """Scores by attribute: the classifier's agreement with the regressor, label edits both ways, and transfer."""
    found: dict[str, dict[str, float]] = {}
    logits = editor.logits(held_out.w_plus)
    for name in eyes.names:
        column = editor.column(name)
        agree = ((logits[:, column] > 0) == (held_out.shares[:, column] > 0.5)).float().mean().item()
        flips = {f"flips_{word}": score_label(editor, held_out, name, word == "on") for word in ("on", "off")}
        moved = score_transfer(editor, generator, eyes, held_out, name) if name in editor.blocks else {}
        found[name] = {"agreement": agree, **flips, **moved}
    return found


def train_latent_edits(params: LatentEditsParams, models: ModelPaths) -> dict[str, dict[str, float]]:
    """Train, score and store what ``models.latent_edits`` names; return the scores."""
    generator, eyes = load_generator(models.generator), network_eyes(models)
    editor, held_out = train_editor(params, generator, eyes)
    scores = score(editor, generator, eyes, held_out)
    save_editor(models.latent_edits, editor, models.generator, {"held_out": scores, "params": params.model_dump()})
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
