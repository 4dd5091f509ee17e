"""The ways to invert rows that a table knows, with their networks: other encoders, a hypernetwork, features."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Loaded
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.geometry import Frame
from gan_core.inversion.allocation import MAKE, Choice, Way
from gan_core.inversion.features import HFGI
from gan_core.inversion.locality import Perceptual
from gan_core.inversion.pti import Tuned
from gan_core.inversion.refinement import (
    REFINEMENTS,
    ByFeatures,
    Inverted,
    PivotalTuning,
    Refinement,
    build_refinements,
    refine_all,
)
from gan_core.loading import load_encoder
from gan_core.params import ModelPaths, TuneParams
from gan_core.rows import Progress


def parse_way(text: str) -> tuple[str, tuple[str, ...]]:
    """Read ``psp-w: hypernetwork, pti``, ``features`` or ``psp-w:`` as the name of an encoder and refinements.

    Raises ``ParamsError`` for a text that names nothing, and for an unknown refinement.
    """
    encoder, _, rest = text.rpartition(":")
    refine = tuple(part.strip() for part in rest.split(",") if part.strip())
    for part in refine:
        REFINEMENTS.get(part)
    if not refine and not encoder.strip():
        raise ParamsError(f"{text!r} is no way to invert: write `features`, `psp-w: hypernetwork, pti` or `e4e:`")
    return encoder.strip(), refine


class OpenWay:
    """A way with its networks; what it does with rows does not depend on others with them."""

    def __init__(
        self,
        way: Way,
        generator: Loaded[Generator],
        loss: Perceptual,
        params: TuneParams,
        models: ModelPaths,
        frame: Frame,
    ) -> None:
        self.way, self.encoder, self.hashes = way, None, {}
        if way.encoder:
            encoder = load_encoder(models.beside_encoder(way.encoder), generator, way.encoder)
            self.encoder, self.hashes = encoder.model, {f"{way.encoder}_sha256": encoder.sha256}
            if not frame.is_square or not self.encoder.framing.is_square:
                raise ParamsError(
                    f"the way {str(way)!r} needs square pictures, for the run's encoder and for {way.encoder!r}: "
                    "leave it out, or name encoders with square input"
                )
        chosen = params.model_copy(update={"refine": list(way.refine or (PivotalTuning.name,))})
        self.refinements: Sequence[Refinement] = build_refinements(generator, loss, chosen, models, frame)
        for refinement in self.refinements:
            self.hashes |= refinement.identity

    @property
    def steps_matter(self) -> bool:
        """Whether tuning is among its refinements."""
        return PivotalTuning.name in self.way.refine

    @property
    def features(self) -> HFGI | None:
        """The feature network of its last refinement, if it is one."""
        return next((each.network for each in self.refinements if isinstance(each, ByFeatures)), None)

    @torch.no_grad()
    def begin(self, rows: Inverted) -> Inverted:
        """Return the rows at the pivots of its own encoder."""
        if self.encoder is None:
            return rows
        return replace(rows, pivots=in_chunks(self.encoder.encode, rows.targets))

    def refine(self, rows: Inverted, finished: Progress | None) -> list[Tuned]:
        """Return what becomes of rows that have begun."""
        return refine_all(self.refinements, rows, finished)


def check_hashes(opened: OpenWay, path: str) -> None:
    """Raise ``ParamsError`` if a table in ``path`` was measured with other networks than the way has now."""
    if other := sorted(name for name, sha256 in opened.hashes.items() if opened.way.hashes.get(name) != sha256):
        raise ParamsError(f"{path} was measured with another {', '.join(other)} ({opened.way}): {MAKE} anew")


def groups_of(choices: Sequence[Choice], size: int) -> list[list[int]]:
    """Return the places of rows by ``size`` or fewer: those of one way, with about the same steps, together."""
    order = sorted(range(len(choices)), key=lambda place: choices[place])
    groups: list[list[int]] = []
    for place in order:
        if groups and len(groups[-1]) < size and choices[groups[-1][0]].way == choices[place].way:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def part_of(rows: Inverted, places: Sequence[int], steps: Sequence[int] | None = None) -> Inverted:
    """Return some of the rows, with ``steps`` of their own."""
    chosen = list(places)
    return Inverted(rows.pivots[chosen], rows.targets[chosen], [rows.seeds[place] for place in chosen], steps)
