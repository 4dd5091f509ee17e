"""Edits along learned paths: one or several attributes at once, by any registered path model."""

import logging
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.editing.apply import check_layers
from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS, EditSetting, LatentEdit
from gan_core.errors import ParamsError
from gan_core.params import EditSpec
from gan_core.paths.latents import check_latents, move_latents
from gan_core.paths.stored import load_paths
from gan_core.rows import Row
from gan_core.sections import Name

log = logging.getLogger(__name__)


class PathSpec(EditSpec):
    """Learned paths: one or several attributes at once."""

    kind: Literal["path"] = "path"
    name: Name = "path"
    """Tells apart what moves the same attributes, by another model or in another order."""
    moves: Annotated[dict[str, float], Field(min_length=1)]
    """A strength for each attribute."""
    scales: Annotated[tuple[float, ...], Field(min_length=1)] = (1.0,)
    """One column of pictures each; multiplies all strengths."""
    file: str | None = None
    """The file of paths; null: `models.paths`."""
    layers: tuple[int, int] | None = None
    """The latents that move, from the first up to but not including the last; null: all."""


@EDIT_KINDS.register("path")
class PathEdit(LatentEdit[PathSpec]):
    """``{kind: path, moves: {smile: 1, yaw: -0.5}}``: column ``smile+yaw@path+1``.

    If the model commutes, the order of ``moves`` has no effect. Otherwise the moves are made in the given order, which
    is part of the edit's description, and a warning is logged.
    """

    spec = PathSpec

    def __init__(self, spec: PathSpec, setting: EditSetting) -> None:
        file = spec.file or setting.models.paths
        generator, loaded = setting.generator.model, load_paths(file, setting.generator)
        self.paths, self.name, self._file = loaded.model, f"paths {file}", loaded.sha256
        check_latents(self.paths, generator)
        self.truncation = generator.truncation
        if spec.layers is not None and self.paths.space != "w":
            raise ParamsError(f"edits: paths in {self.paths.space} move all latents together: leave out layers")
        self.layers = check_layers(spec.layers, generator.n_latent, " and ".join(spec.moves))
        for name, strength in spec.moves.items():
            for scale in spec.scales:
                self.paths.find(name, scale * strength)
        if len(spec.moves) > 1 and not self.paths.model.commutes:
            order = ", then ".join(spec.moves)
            log.warning("edits: moves along %s paths don't commute: %s, in this order", self.paths.model.name, order)

    @classmethod
    def plan(cls, spec: PathSpec) -> list[PlannedEdit[PathSpec]]:
        target, move = next(iter(spec.moves.items())) if len(spec.moves) == 1 else ("", 1.0)
        moves = "+".join(sorted(spec.moves))
        return [PlannedEdit(spec, f"{moves}@{spec.name}{scale:+g}", target, scale, move) for scale in spec.scales]

    def describe(self, picture: PlannedEdit[PathSpec]) -> dict[str, object]:
        commutes, given = self.paths.model.commutes, picture.spec.moves.items()
        moves = [[name, picture.strength * strength] for name, strength in (sorted(given) if commutes else given)]
        truncation = {"truncation": self.truncation} if self.truncation != 1 else {}
        return {"moves": moves, "in_order": not commutes, "layers": list(self.layers), **truncation}

    def files(self) -> dict[str, str]:
        return {self.name: self._file}

    def edit(self, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[PathSpec]) -> Tensor:
        strengths = {name: picture.strength * strength for name, strength in picture.spec.moves.items()}
        return in_chunks(
            lambda latents: move_latents(self.paths, latents, strengths, self.layers, self.truncation), w_plus
        )
