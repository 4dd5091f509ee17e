"""Trained paths of one generator, with the names they were given: what an edit moves along, and its file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, Loaded, load_checkpoint, save_checkpoint
from gan_core.errors import CheckpointError, ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.loading import load_state
from gan_core.paths.base import PATHS, PathModel
from gan_core.paths.space import Frame


@dataclass(frozen=True)
class NamedPath:
    """A path that changes one attribute: strength 1 is the amount ``unit`` (signed) along path number ``path``.

    ``move`` is the change that one unit was measured to make, a share of the attribute's range; ``range`` the strengths
    that were measured; ``scores`` as those of a direction.
    """

    path: int
    unit: float
    move: float
    range: tuple[float, float] = (-1.0, 1.0)
    scores: Mapping[str, float] = field(default_factory=dict)


class SemanticPaths(nn.Module):
    """A path model in its frame, bound to a space of a generator."""

    def __init__(self, model: PathModel, frame: Frame, space: str, generator_sha256: str) -> None:
        super().__init__()
        self.model, self.frame = model, frame
        self.space, self.generator_sha256 = space, generator_sha256
        self.named: dict[str, NamedPath] = {}

    def move(self, codes: Tensor, paths: Tensor, amounts: Tensor) -> Tensor:
        """Move each of ``codes [B, width]`` along its own path ``[B]`` by its own amount ``[B]``."""
        before = self.frame.coordinates(codes)
        return self.frame.moved(codes, before, self.model.move(before, paths, amounts))

    def edit(self, codes: Tensor, strengths: Mapping[str, float | Tensor]) -> Tensor:
        """Move codes along several named paths, each by its strength (a number, or one a row ``[B]``).

        One step where the model commutes; otherwise one after the other, in the order given. Raises ``ParamsError`` for
        names without a path and for strengths outside of what the paths were measured at.
        """
        before = after = self.frame.coordinates(codes)
        amounts = torch.zeros(len(codes), self.model.count, dtype=codes.dtype)
        for name, strength in strengths.items():
            amounts[:, self.find(name, strength).path] += self.named[name].unit * torch.as_tensor(strength)
            if not self.model.commutes:
                after, amounts = self.model.move_all(after, amounts), torch.zeros_like(amounts)
        if self.model.commutes:
            after = self.model.move_all(before, amounts)
        return self.frame.moved(codes, before, after)

    def find(self, name: str, strength: float | Tensor = 0.0) -> NamedPath:
        """Return the path called ``name``; raises ``ParamsError`` with near matches, or for a strength out of range."""
        if name not in self.named:
            raise ParamsError(f"no path is called {name!r}{near_matches(name, self.named)}")
        low, high = self.named[name].range
        strength = torch.as_tensor(strength)
        if bool((strength < low - 1e-6).any() | (strength > high + 1e-6).any()):
            far = strength.flatten()[strength.abs().argmax()].item()
            raise ParamsError(f"strength {far:g} of {name!r} is outside of {low:g} to {high:g}, where it was measured")
        return self.named[name]


def describe_named(paths: SemanticPaths) -> list[str]:
    """One line for each named path: its number, space, range and scores, and whether the order of moves counts."""
    order = "any order" if paths.model.commutes else "the order of moves counts"
    lines = []
    for name, named in paths.named.items():
        low, high = named.range
        scores = ", ".join(f"{key} {value:.3g}" for key, value in named.scores.items())
        lines.append(
            f"{name:16} {paths.model.name} path {named.path} in {paths.space}, {order}, strengths {low:g} to {high:g}; "
            f"{scores}"
        )
    return lines


def save_paths(
    path: str | Path, paths: SemanticPaths, made_by: str, licence: str = "Apache-2.0", extra: Mapping[str, Any] = {}
) -> str:
    """Write trained paths with a card and return the file's sha256."""
    card = Card(
        kind="paths",
        name=paths.model.name,
        arguments=paths.model.arguments,
        space=paths.space,
        generator_sha256=paths.generator_sha256,
        made_by=made_by,
        licence=licence,
        source="learnt from pictures of the generator alone, named by an attribute network",
        extra={**extra, "named": {name: asdict(named) for name, named in paths.named.items()}},
    )
    return save_checkpoint(path, dict(paths.state_dict()), card, half=False)


def load_paths(path: str | Path, generator: Loaded[Generator] | None = None) -> Loaded[SemanticPaths]:
    """Read trained paths, frozen.

    Raises ``CheckpointError`` for another kind of file, or for paths of another generator than ``generator``.
    """
    stored = load_checkpoint(path)
    card, tensors = stored.card, stored.model
    if card.kind != "paths" or card.space is None or card.generator_sha256 is None or "frame.axes" not in tensors:
        raise CheckpointError(f"{path} holds {card.kind}, not paths: name a file that `directions fit` has written")
    if generator is not None:
        stored.check_made_for(generator, "fit the paths again (`dvc repro`) or choose those made for it")
    rank, width = tensors["frame.axes"].shape
    paths = SemanticPaths(PATHS.get(card.name)(**card.arguments), Frame(width, rank), card.space, card.generator_sha256)
    load_state(paths, tensors, path)
    paths.named = {name: _named(values) for name, values in card.extra.get("named", {}).items()}
    return stored.with_model(paths.eval().requires_grad_(False))


def _named(values: dict[str, Any]) -> NamedPath:
    low, high = values["range"]
    return NamedPath(**(values | {"range": (float(low), float(high))}))
