"""The stage that edits: latents -> one image for each edit and strength."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.checkpoints.store import file_sha256, load_generator
from gan_core.data.images import encode_png, image_value, to_uint8
from gan_core.data.shards import IMAGE
from gan_core.data.stages import Rejected, Row, Stage
from gan_core.editing.apply import apply_edit, check_layers
from gan_core.editing.directions import Direction, find_direction, load_directions
from gan_core.editing.plan import PlannedEdit, plan_edits
from gan_core.inversion.delta import apply_delta
from gan_core.params import EditParams, ModelPaths


class EditStage(Stage):
    """Moves each row's latent along every planned direction and renders it.

    Adds one image column per edit, named ``<direction>@<signed strength>``. With ``tuned`` each row is rendered by its
    own tuned generator, all its edits in one batch; otherwise each edit is rendered once for the batch of rows. Rows
    are rejected as ``bad_latent`` or ``bad_edit`` where numbers aren't finite.
    """

    name: ClassVar[str] = "edit"
    inputs: ClassVar[tuple[str, ...]] = ("encode", "tune")

    def __init__(self, edits: Sequence[EditParams], models: ModelPaths, tuned: bool, batch_size: int = 32) -> None:
        self.plan: list[PlannedEdit] = plan_edits(edits)
        self.tuned = tuned
        self.inputs = ("encode", "tune") if tuned else ("encode",)  # type: ignore[misc]
        self.fields: Sequence[pa.Field] = [pa.field(edit.column, IMAGE) for edit in self.plan]
        self.batch_size = batch_size
        self.generator = load_generator(models.generator)
        directions = load_directions(models.directions, models.generator)
        self.directions: dict[str, Direction] = {
            e.direction: find_direction(directions, e.direction) for e in self.plan
        }
        self._layers = [self._check(edit) for edit in self.plan]
        self._hashes = {"generator": file_sha256(models.generator), "directions": file_sha256(models.directions)}

    def identity(self) -> dict[str, Any]:
        """The plan, with the layers that it comes down to, and the hashes of generator and directions."""
        plan = [
            {"column": edit.column, "strength": edit.strength, "layers": list(layers)}
            for edit, layers in zip(self.plan, self._layers, strict=True)
        ]
        return {"plan": plan, "tuned": self.tuned, **self._hashes}

    @torch.no_grad()
    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Render all edits of each row; PNG images of the generator's size."""
        finite = [bool(np.isfinite(row["latent"]).all()) for row in rows]
        good = [row for row, ok in zip(rows, finite, strict=True) if ok]
        rendered = iter(self._render(good) if good else [])
        return [next(rendered) if ok else Rejected("bad_latent", "the latent has NaN or infinity") for ok in finite]

    def edit(self, w_plus: Tensor) -> Tensor:
        """Latents ``[B, n_latent, w_dim]`` -> all planned edits of them, ``[edits, B, n_latent, w_dim]``."""
        edited = [apply_edit(w_plus, self.directions[e.direction], e.strength, e.layers) for e in self.plan]
        return torch.stack(edited) if edited else w_plus.new_empty(0, *w_plus.shape)

    def _render(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        edited = self.edit(torch.from_numpy(np.stack([row["latent"] for row in rows])))
        if self.tuned:
            images = [self._render_tuned(edited[:, i], row["delta"]) for i, row in enumerate(rows)]
        else:
            images = list(torch.stack([in_chunks(self.generator.synthesis, w) for w in edited], 1)) if self.plan else []
        return [self._columns(row["key"], images[i]) if images else {} for i, row in enumerate(rows)]

    def _render_tuned(self, w_plus: Tensor, delta: bytes) -> Tensor:
        with apply_delta(self.generator, delta):
            return self.generator.synthesis(w_plus)

    def _columns(self, key: str, images: Tensor) -> Row | Rejected:
        for edit, image in zip(self.plan, images, strict=True):
            if not image.isfinite().all():
                return Rejected("bad_edit", f"{edit.column} gives an image with NaN or infinity")
        pixels = to_uint8(images)
        return {e.column: image_value(encode_png(p), f"{key}.png") for e, p in zip(self.plan, pixels, strict=True)}

    def _check(self, edit: PlannedEdit) -> tuple[int, int]:
        direction = self.directions[edit.direction]
        return check_layers(edit.layers or direction.layers, self.generator.n_latent, edit.direction)
