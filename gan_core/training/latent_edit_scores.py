"""Latents with the attributes of their pictures, and how well edits of latents do on them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.device import place
from gan_core.editing.label import move_to_label
from gan_core.editing.latent_editor import LatentEditor
from gan_core.generators.base import Generator
from gan_core.judges.scorers import Scorers

BATCH = 64


@dataclass(frozen=True)
class Labelled:
    """Latents ``w_plus [N, n_latent, w_dim]`` with what the regressor sees: shares ``[N, A]`` of each range, 0 to 1."""

    w_plus: Tensor
    shares: Tensor

    def part(self, rows: slice) -> "Labelled":
        """Some of the rows."""
        return Labelled(self.w_plus[rows], self.shares[rows])


@torch.no_grad()
def label_latents(generator: Generator, scorers: Scorers, w_plus: Tensor) -> Labelled:
    """Draw latents ``[N, n_latent, w_dim]`` and read their pictures, some at a time."""
    shares = torch.cat([scorers.attributes(generator.synthesis(part)) for part in w_plus.split(BATCH)])
    return Labelled(w_plus, shares.clamp(0, 1))


@torch.no_grad()
def label_samples(generator: Generator, scorers: Scorers, n: int, seed: int) -> Labelled:
    """Draw latents, every second one mixed of two styles, and read their pictures."""
    stream = torch.Generator().manual_seed(seed)
    w, other = (generator.mapping(place(torch.randn(n, generator.z_dim, generator=stream))) for _ in range(2))
    first = torch.randint(1, generator.n_latent, (n, 1), generator=stream)
    first[::2] = generator.n_latent
    mixed = place(torch.arange(generator.n_latent) >= first)
    w_plus = torch.where(mixed[:, :, None], generator.broadcast(other), generator.broadcast(w))
    return label_latents(generator, scorers, w_plus)


@torch.no_grad()
def score_transfer(
    editor: LatentEditor, generator: Generator, scorers: Scorers, held_out: Labelled, name: str
) -> dict[str, float]:
    """Measure a block on pairs of held-out latents, by the regressor.

    ``way``: how far the attribute moves from the source's value to the reference's (regression slope);
    ``others_kept``: 1 less the mean change of the other attributes as a share of the difference of the two faces.
    """
    source, reference = held_out, Labelled(held_out.w_plus.roll(1, 0), held_out.shares.roll(1, 0))
    after = label_latents(generator, scorers, editor.transfer(source.w_plus, reference.w_plus, name))
    change, gap = after.shares - source.shares, reference.shares - source.shares
    column = scorers.names.index(name)
    others = [i for i in range(len(scorers.names)) if i != column]
    way = (change[:, column] * gap[:, column]).sum() / gap[:, column].square().sum()
    kept = 1 - change[:, others].abs().mean() / gap[:, others].abs().mean()
    return {"way": way.item(), "others_kept": kept.item()}


def score_label(editor: LatentEditor, held_out: Labelled, name: str, target: bool) -> float:
    """The share of held-out latents on the other side that a label edit of strength 1 brings over."""
    column = editor.column(name)
    w_plus = held_out.w_plus[(editor.logits(held_out.w_plus)[:, column] > 0) != target]
    if not len(w_plus):
        return 1.0
    noise = place(torch.randn(w_plus.shape, generator=torch.Generator().manual_seed(0)))
    moved = move_to_label(lambda w: editor.logits(w)[:, column], w_plus, target, editor.length, noise)
    return ((editor.logits(moved)[:, column] > 0) == target).float().mean().item()


def score(
    editor: LatentEditor, generator: Generator, scorers: Scorers, held_out: Labelled
) -> dict[str, dict[str, float]]:
    """Scores by attribute: the classifier's agreement with the regressor, label edits both ways, and transfer."""
    found: dict[str, dict[str, float]] = {}
    logits = editor.logits(held_out.w_plus)
    for name in scorers.names:
        column = editor.column(name)
        agree = ((logits[:, column] > 0) == (held_out.shares[:, column] > 0.5)).float().mean().item()
        flips = {f"flips_{word}": score_label(editor, held_out, name, word == "on") for word in ("on", "off")}
        moved = score_transfer(editor, generator, scorers, held_out, name) if name in editor.blocks else {}
        found[name] = {"agreement": agree, **flips, **moved}
    return found
