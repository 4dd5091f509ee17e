"""The networks of Style Transformer's edits (Hu et al. 2022, section 3.4): a latent classifier and transfer blocks."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, Loaded, load_checkpoint, save_checkpoint
from gan_core.device import place
from gan_core.encoders.transformer import DecoderLayer
from gan_core.errors import CheckpointError, ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.loading import load_state
from gan_core.registry import Arguments

NAME = "latent-editor"


class LatentClassifier(nn.Module):
    """Predicts attributes from ``w_plus [B, n_latent, w_dim]``, with the state-dict names of the published LCNet.

    Two layers are shared; each attribute then has an embedding and a logit, which is positive if the attribute is in
    the upper half of its range. The published sizes are 18 x 512, (2048, 512), 32 and the 40 attributes of CelebA.
    """

    def __init__(
        self,
        names: Sequence[str],
        n_latent: int = 18,
        w_dim: int = 512,
        hidden: Sequence[int] = (2048, 512),
        embedding: int = 32,
    ) -> None:
        super().__init__()
        self.names = list(names)
        sizes = [n_latent * w_dim, *hidden]
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.indep_fcs = nn.ModuleList(nn.Linear(sizes[-1], embedding) for _ in names)
        self.output_fcs = nn.ModuleList(nn.Linear(embedding, 1) for _ in names)

    def embeddings(self, w_plus: Tensor) -> Tensor:
        """Return one vector per attribute, ``[B, A, embedding]``, for ``w_plus [B, n_latent, w_dim]``."""
        x = w_plus.flatten(1)
        for layer in self.fcs:
            x = F.leaky_relu(layer(x), 0.2)
        return torch.stack([layer(x) for layer in self.indep_fcs], dim=1)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits ``[B, A]`` of embeddings ``[B, A, embedding]``."""
        return torch.cat([layer(embeddings[:, i]) for i, layer in enumerate(self.output_fcs)], dim=1)

    def forward(self, w_plus: Tensor) -> Tensor:
        return self.logits(self.embeddings(w_plus))


class TransferBlock(nn.Module):
    """Transfers an attribute from reference latents: a decoder layer in which the source attends to the reference.

    ``forward(source, reference)``, both ``[B, n_latent, w_dim]`` and standardised, returns the change of the source.
    Differences from the published block: it outputs the new latents, while this one outputs a change that starts at 0,
    which preserves what isn't edited. It can't distinguish equal latents, while here ``places`` are learned positions.
    """

    def __init__(self, n_latent: int = 18, w_dim: int = 512, heads: int = 4) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(n_latent, w_dim))
        self.transformerlayer = DecoderLayer(w_dim, heads=heads)
        self.change = nn.Linear(w_dim, w_dim)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, source: Tensor, reference: Tensor) -> Tensor:
        return self.change(self.transformerlayer(source + self.places, reference + self.places))


class LatentEditor(nn.Module):
    """A classifier, and a transfer block for each of ``blocks``; both work on standardised latents.

    ``mean`` and ``scale``, both ``[w_dim]``, are the mean and deviation of the generator's latents.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        names: Sequence[str],
        blocks: Sequence[str],
        n_latent: int,
        w_dim: int,
        hidden: Sequence[int] = (512, 128),
        embedding: int = 32,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.arguments: Arguments = {
            "names": list(names),
            "blocks": list(blocks),
            "n_latent": n_latent,
            "w_dim": w_dim,
            "hidden": list(hidden),
            "embedding": embedding,
            "heads": heads,
        }
        self.classifier = LatentClassifier(names, n_latent, w_dim, hidden, embedding)
        self.blocks = nn.ModuleDict({name: TransferBlock(n_latent, w_dim, heads) for name in blocks})
        self.register_buffer("mean", torch.zeros(w_dim))
        self.register_buffer("scale", torch.ones(w_dim))

    @property
    def length(self) -> float:
        """The typical distance of a latent from the mean."""
        return float(self.scale.norm())

    def standardise(self, w_plus: Tensor) -> Tensor:
        """Normalise latents ``[..., w_dim]`` to mean 0 and deviation 1 in each dimension."""
        return (w_plus - self.mean) / self.scale

    def logits(self, w_plus: Tensor) -> Tensor:
        """Return the logits ``[B, A]`` of ``w_plus [B, n_latent, w_dim]``."""
        return self.classifier(self.standardise(w_plus))

    def transfer(self, w_plus: Tensor, reference: Tensor, attribute: str, strength: float = 1.0) -> Tensor:
        """Transfer ``attribute`` from ``reference`` to ``w_plus``, both ``[B, n_latent, w_dim]``.

        Raises ``KeyError`` for an attribute without a block.
        """
        change = self.blocks[attribute](self.standardise(w_plus), self.standardise(reference))
        return w_plus + strength * self.scale * change

    def column(self, attribute: str) -> int:
        """Return the index of the attribute's logit; raises ``ParamsError`` with near matches if there is none."""
        names = self.classifier.names
        if attribute not in names:
            raise ParamsError(f"edits: unknown attribute {attribute!r}{near_matches(attribute, names)}")
        return names.index(attribute)


def save_editor(path: str | Path, editor: LatentEditor, generator_sha256: str, extra: Mapping[str, object]) -> str:
    """Write the editor with a card that binds it to its generator, and return the file's sha256."""
    card = Card(
        kind="network",
        name=NAME,
        arguments=editor.arguments,
        space="w_plus",
        generator_sha256=generator_sha256,
        made_by="python -m tasks.train train-latent-edits",
        licence="Apache-2.0",
        source="trained on labelled samples of the generator",
        extra=dict(extra),
    )
    return save_checkpoint(path, editor.state_dict(), card)


def load_editor(path: str | Path, generator: Loaded[Generator]) -> Loaded[LatentEditor]:
    """Load an editor, frozen and in eval mode.

    Raises ``CheckpointError`` if the file holds something else or was made for another generator.
    """
    stored = load_checkpoint(path)
    card = stored.card
    if card.name != NAME:
        raise CheckpointError(f"{path} holds a {card.kind} {card.name!r}, not a {NAME}: name another file")
    stored.check_made_for(generator, "train it again (`dvc repro train-latent-edits`)")
    editor = LatentEditor(**card.arguments)
    load_state(editor, stored.model, path)
    return stored.with_model(place(editor.eval().requires_grad_(False)))
