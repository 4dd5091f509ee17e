"""The losses of the classifier of latents and of the transfer blocks, each from a stream of its own batches."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.device import place
from gan_core.editing.latent_editor import LatentEditor
from gan_core.generators.base import Generator
from gan_core.judges.scorers import Scorers
from gan_core.training.latent_edit_scores import Labelled

PICTURES = 16
"""Pairs of faces in a step that learns from pictures."""
MOVE_WEIGHT = 1.0
NEAR_WEIGHT = 0.1
JITTER = 0.15
"""Noise on the standardised latents that are learnt from: an encoder's latents are not quite the generator's."""


@dataclass(frozen=True)
class EditorLosses:
    """What the losses are computed with; ``known`` are latents with the scores of their pictures."""

    editor: LatentEditor
    generator: Generator
    scorers: Scorers
    known: Labelled
    batch_size: int

    def classify(self, stream: torch.Generator) -> Tensor:
        """Cross entropy towards the shares: a logit of 0 is the middle of a range."""
        latents, shares = self._batch(stream)
        return F.binary_cross_entropy_with_logits(self.editor.classifier(latents), shares)

    def transfer(self, name: str, stream: torch.Generator) -> Tensor:
        """The published loss: one embedding as in the reference, latents and other embeddings as in the source."""
        (source, _), (reference, _) = self._batch(stream), self._batch(stream)
        change = self.editor.blocks[name](source, reference)
        embeddings = self.editor.classifier.embeddings
        before, wanted, after = embeddings(source), embeddings(reference), embeddings(source + change)
        column = self.editor.column(name)
        kept = [i for i in range(before.shape[1]) if i != column]
        return (
            change.square().mean()
            + (after[:, column] - wanted[:, column]).square().mean()
            + (after[:, kept] - before[:, kept]).square().mean()
        )

    def draw(self, name: str, stream: torch.Generator) -> Tensor:
        """What pictures show: one attribute as in the reference, others as in the source, and latents near its own."""
        rows, others = torch.randint(len(self.known.w_plus), (2, PICTURES), generator=stream)
        source, wanted, column = self.known.w_plus[rows], self.known.shares[rows], self.editor.column(name)
        wanted[:, column] = self.known.shares[others, column]
        mixed = self.editor.transfer(source, self.known.w_plus[others], name)
        error = self.scorers.attributes(self.generator.synthesis(mixed)) - wanted
        kept = [i for i in range(error.shape[1]) if i != column]
        near = ((mixed - source) / self.editor.scale).square().mean()
        return MOVE_WEIGHT * error[:, column].square().mean() + error[:, kept].abs().mean() + NEAR_WEIGHT * near

    def _batch(self, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.known.w_plus), (self.batch_size,), generator=stream)
        latents = self.editor.standardise(self.known.w_plus[rows])
        return latents + JITTER * place(torch.randn(latents.shape, generator=stream)), self.known.shares[rows]
