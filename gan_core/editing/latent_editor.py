"""The networks of Style Transformer's edits (Hu et al. 2022, section 3.4): a classifier of latents, transfer blocks."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, Loaded, load_checkpoint, save_checkpoint
from gan_core.encoders.transformer import DecoderLayer
from gan_core.errors import CheckpointError, ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.loading import load_state

NAME = "latent-editor"


class LatentClassifier(nn.Module):
    """Reads attributes off ``w_plus [B, n_latent, w_dim]``, with the names of the published LCNet.

    Two layers for all attributes, then for each an embedding and a logit: positive where the attribute is in the upper
    half of its range. The published sizes are 18 x 512, (2048, 512), 32 and the 40 attributes of CelebA.
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
        """``[B, n_latent, w_dim]`` -> one vector an attribute, ``[B, A, embedding]``."""
        x = w_plus.flatten(1)
        for layer in self.fcs:
            x = F.leaky_relu(layer(x), 0.2)
        return torch.stack([layer(x) for layer in self.indep_fcs], dim=1)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Embeddings ``[B, A, embedding]`` -> logits ``[B, A]``."""
        return torch.cat([layer(embeddings[:, i]) for i, layer in enumerate(self.output_fcs)], dim=1)

    def forward(self, w_plus: Tensor) -> Tensor:
        return self.logits(self.embeddings(w_plus))


class TransferBlock(nn.Module):
    """Gives latents an attribute of reference latents: one decoder layer that queries the reference with the source.

    ``forward(source, reference)``, both ``[B, n_latent, w_dim]`` and standardised, gives the change of the source. The
    published block gives the new latents themselves; learning the change, which starts at 0, keeps what isn't edited.
    It also can't tell latents that are equal apart; here each has a learnt vector of its ``places`` added.
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
    """A classifier and one transfer block for each of ``blocks``; works on standardised latents.

    ``mean`` and ``scale`` ``[w_dim]`` are those of the generator's latents, ``length`` their typical distance from it.
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
        self.arguments: dict[str, Any] = {
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
        """Typical distance of a latent from the mean."""
        return float(self.scale.norm())

    def standardise(self, w_plus: Tensor) -> Tensor:
        """Bring latents to mean 0 and deviation 1 in each dimension."""
        return (w_plus - self.mean) / self.scale

    def logits(self, w_plus: Tensor) -> Tensor:
        """``[B, n_latent, w_dim]`` -> logits ``[B, A]``."""
        return self.classifier(self.standardise(w_plus))

    def transfer(self, w_plus: Tensor, reference: Tensor, attribute: str, strength: float = 1.0) -> Tensor:
        """Give ``w_plus`` the ``attribute`` that ``reference`` has, both ``[B, n_latent, w_dim]``."""
        change = self.blocks[attribute](self.standardise(w_plus), self.standardise(reference))
        return w_plus + strength * self.scale * change

    def column(self, attribute: str) -> int:
        """Which logit is the attribute's; raises ``ParamsError`` with near matches."""
        names = self.classifier.names
        if attribute not in names:
            raise ParamsError(f"edits: unknown attribute {attribute!r}{near_matches(attribute, names)}")
        return names.index(attribute)


def save_editor(path: str | Path, editor: LatentEditor, generator_sha256: str, extra: Mapping[str, Any]) -> str:
    """Write the editor with a card that binds it to its generator; return the file's sha256."""
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
    """Read an editor, frozen and in eval mode; raises ``CheckpointError`` if it is of another kind or generator."""
    stored = load_checkpoint(path)
    card = stored.card
    if card.name != NAME:
        raise CheckpointError(f"{path} holds a {card.kind} {card.name!r}, not a {NAME}: name another file")
    stored.check_made_for(generator, "train it again (`dvc repro train-latent-edits`)")
    editor = LatentEditor(**card.arguments)
    load_state(editor, stored.model, path)
    return stored.with_model(editor.eval().requires_grad_(False))
