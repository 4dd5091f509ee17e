"""Trained and named paths of one generator, as edits use them, and their checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, Loaded, find_card, load_checkpoint, save_checkpoint
from gan_core.device import place
from gan_core.errors import CheckpointError, ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.loading import build_described, load_state
from gan_core.paths.base import PATHS, PathModel
from gan_core.paths.space import Frame


@dataclass(frozen=True)
class NamedPath:
    """A path that changes one attribute. Strength 1 is the signed amount ``unit`` along path number ``path``.

    ``move`` is the measured change by one unit in shares of the attribute's range, ``range`` are the measured
    strengths, and ``scores`` are those of ``gan_core.editing.calibrate``.
    """

    path: int
    unit: float
    move: float
    range: tuple[float, float] = (-1.0, 1.0)
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """Where paths come from, and under which terms: ``source`` and ``licence`` of their card."""

    source: str = "learnt from pictures of the generator alone, named by an attribute network"
    licence: str = "Apache-2.0"


class SemanticPaths(nn.Module):
    """A path model with its frame, for one space of one generator."""

    def __init__(
        self, model: PathModel, frame: Frame, space: str, generator_sha256: str, origin: Origin = Origin()
    ) -> None:
        super().__init__()
        self.model, self.frame = model, frame
        self.space, self.generator_sha256, self.origin = space, generator_sha256, origin
        self.named: dict[str, NamedPath] = {}

    def move(self, codes: Tensor, paths: Tensor, amounts: Tensor) -> Tensor:
        """Move each of ``codes [B, width]`` along its own path ``[B]`` (an integer) by its own amount ``[B]``."""
        before = self.frame.coordinates(codes)
        return self.frame.moved(codes, before, self.model.move(before, paths, amounts))

    def edit(self, codes: Tensor, strengths: Mapping[str, float | Tensor]) -> Tensor:
        """Move ``codes [B, width]`` along several named paths, each by its strength (a number, or ``[B]``).

        If the model commutes, this is one step; otherwise the moves are made in the given order. Raises ``ParamsError``
        for unknown names and for strengths outside of the measured range.
        """
        before = after = self.frame.coordinates(codes)
        amounts = codes.new_zeros(len(codes), self.model.count)
        for name, strength in strengths.items():
            amounts[:, self.find(name, strength).path] += self.named[name].unit * torch.as_tensor(strength)
            if not self.model.commutes:
                after, amounts = self.model.move_all(after, amounts), torch.zeros_like(amounts)
        if self.model.commutes:
            after = self.model.move_all(before, amounts)
        return self.frame.moved(codes, before, after)

    def find(self, name: str, strength: float | Tensor = 0.0) -> NamedPath:
        """Return the path ``name``, after checking ``strength`` (a number, or ``[B]``).

        Raises ``ParamsError`` with near matches for an unknown name, and for a strength outside of the measured range.
        """
        if name not in self.named:
            raise ParamsError(f"no path is called {name!r}{near_matches(name, self.named)}")
        low, high = self.named[name].range
        strength = torch.as_tensor(strength)
        if not bool(((strength >= low - 1e-6) & (strength <= high + 1e-6)).all()):
            far = strength.flatten()[strength.abs().argmax()].item()
            raise ParamsError(f"strength {far:g} of {name!r} is outside of {low:g} to {high:g}, where it was measured")
        return self.named[name]


def describe_named(paths: SemanticPaths) -> list[str]:
    """Return a line per named path with its number, space, range and scores, and whether the order of moves matters."""
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


def save_paths(path: str | Path, paths: SemanticPaths, made_by: str, extra: Mapping[str, object] = {}) -> str:
    """Write paths with a card, and return the file's sha256; ``extra`` is added to the card."""
    card = Card(
        kind="paths",
        name=paths.model.name,
        arguments=paths.model.arguments,
        space=paths.space,
        generator_sha256=paths.generator_sha256,
        made_by=made_by,
        licence=paths.origin.licence,
        source=paths.origin.source,
        extra={**extra, "named": {name: asdict(named) for name, named in paths.named.items()}},
    )
    return save_checkpoint(path, dict(paths.state_dict()), card, half=False)


def check_target(path: str | Path, model: str, generator_sha256: str) -> None:
    """Raise ``CheckpointError`` if a file is at ``path`` already, unless it holds paths of this model and generator."""
    if not Path(path).exists():
        return
    card = find_card(path)
    if card is None or (card.kind, card.name, card.generator_sha256) != ("paths", model, generator_sha256):
        held = f"{card.kind} ({card.name})" if card else "something else"
        raise CheckpointError(
            f"{path} is there already and holds {held}, not paths of {model} for this generator: "
            "name another target, or move it away"
        )


def load_paths(path: str | Path, generator: Loaded[Generator] | None = None) -> Loaded[SemanticPaths]:
    """Load trained paths, frozen and in eval mode.

    Raises ``CheckpointError`` if the file holds something else, or was made for another generator than ``generator``.
    """
    stored = load_checkpoint(path)
    card, tensors = stored.card, stored.model
    if card.kind != "paths" or card.space is None or card.generator_sha256 is None or "frame.axes" not in tensors:
        raise CheckpointError(f"{path} holds {card.kind}, not paths: name a file that `directions fit` has written")
    if generator is not None:
        stored.check_made_for(generator, "fit the paths again (`dvc repro`) or choose those made for it")
    rank, width = tensors["frame.axes"].shape
    model = build_described(PATHS.get(card.name), stored)
    origin = Origin(card.source, card.licence)
    paths = SemanticPaths(model, Frame(width, rank), card.space, card.generator_sha256, origin)
    load_state(paths, tensors, path)
    try:
        paths.named = {name: _named(values) for name, values in card.extra.get("named", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the card of {path} doesn't describe its paths ({error}): fit them again") from None
    return stored.with_model(place(paths.eval().requires_grad_(False)))


def _named(values: dict[str, Any]) -> NamedPath:
    low, high = values["range"]
    return NamedPath(**(values | {"range": (float(low), float(high))}))
