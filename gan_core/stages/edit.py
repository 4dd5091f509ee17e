"""The stage that edits: latents -> one image for each picture of the plan."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_core.align.framing import framing_of
from gan_core.batching import chunk_size, in_chunks
from gan_core.capture import Recorded
from gan_core.device import place_array
from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import (
    EDIT_KINDS,
    EditKind,
    EditSetting,
    ImageEdit,
    LatentEdit,
    LatentsOf,
    draw_images,
    edit_latents,
    no_references,
)
from gan_core.edits.plan import plan_edits
from gan_core.errors import ParamsError
from gan_core.geometry import SQUARE, Frame
from gan_core.inversion.allocation import read_table
from gan_core.inversion.features import load_features
from gan_core.inversion.own import own_generator
from gan_core.inversion.refinement import REFINEMENTS, ByFeatures
from gan_core.loading import load_generator
from gan_core.params import EditSpec, ModelPaths, Params
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage, build_stage
from gan_core.stages.drawn import DrawnEditStage
from gan_core.stages.references import SourceLatents
from gan_core.storage.images import ImageError, to_uint8
from gan_core.storage.shards import IMAGE


@STAGES.register("edit")
class EditStage(Stage):
    """Makes every planned picture of each row (``gan_core.edits``).

    Adds one image column per picture. With ``tuned`` each row is drawn by its own tuned generator, all its edited
    latents in one batch; otherwise each edit is drawn once for the batch of rows. Of squares the ``frame`` is kept.
    ``refined`` are the refinements that tuned rows may have: pictures of rows with features get the row's detail.
    ``latents_of`` finds the rows that edits refer to. Rows are rejected as ``bad_latent`` or ``bad_edit`` where numbers
    aren't finite.
    """

    name: ClassVar[str] = "edit"
    inputs: tuple[str, ...] = ("encode", "tune")

    def __init__(
        self,
        edits: Sequence[EditSpec],
        models: ModelPaths,
        tuned: bool,
        batch_size: int = 32,
        latents_of: LatentsOf = no_references,
        frame: Frame = SQUARE,
        refined: Collection[str] = (),
    ) -> None:
        self.frame = frame
        self.plan: list[PlannedEdit] = plan_edits(edits)
        self.tuned = tuned
        self.inputs = ("encode", "tune") if tuned else ("encode",)
        self.fields: Sequence[pa.Field] = [pa.field(edit.column, IMAGE) for edit in self.plan]
        self.batch_size = batch_size
        generator = load_generator(models.generator)
        self.generator, self._hash = generator.model, generator.sha256
        detail = load_features(models.features, generator) if ByFeatures.name in refined else None
        self.features = detail.model if detail else None
        self._at_layers = any(REFINEMENTS.get(name).at_layers for name in refined)
        # what is recorded would not see that a layer is changed
        self.synthesis = self.generator.synthesis if self._at_layers else Recorded(self.generator.synthesis)
        self._files = {"features": detail.sha256} if detail else {}
        self.kinds = self._build(edits, EditSetting(models, generator, latents_of))

    @classmethod
    def build(cls, params: Params, source: str) -> Stage:
        """Build the stage that draws ``edits``, or takes them over from a tune stage that keeps no weights."""
        edits = drawing_stage(params, source)
        return DrawnEditStage(edits) if params.tune.enabled and params.tune.persist == "none" else edits

    def identity(self) -> dict[str, Any]:
        """The plan, with all that decides each picture, the frame if it isn't the square, and the files' hashes."""
        pairs = list(zip(self.plan, self.kinds, strict=True))
        files = self._files | {name: digest for kind in self.kinds for name, digest in kind.files().items()}
        plan = [{"column": picture.column, **kind.describe(picture)} for picture, kind in pairs]
        framed = {} if self.frame.is_square else {"frame": [self.frame.height, self.frame.width]}
        return {"plan": plan, "tuned": self.tuned, "generator": self._hash, **framed, **files}

    def load(self, row: Row) -> Row | Rejected:
        """Reject a latent that isn't finite."""
        return row if np.isfinite(row["latent"]).all() else Rejected("bad_latent", "the latent has NaN or infinity")

    @torch.no_grad()
    def calculate(self, rows: Sequence[Row]) -> Iterator[Row | Rejected]:
        """Draw all pictures of each row, a chunk of rows at a time."""
        if not self.plan:
            yield from ({} for _ in rows)
            return
        w_plus = place_array(np.stack([row["latent"] for row in rows]))
        edited = [
            edit_latents(kind, w_plus, rows, picture) if isinstance(kind, LatentEdit) else w_plus
            for picture, kind in zip(self.plan, self.kinds, strict=True)
        ]
        size = 1 if self.tuned else chunk_size(self.generator.size)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            yield from self._render(rows[part], [w[part] for w in edited])

    def _build(self, edits: Sequence[EditSpec], setting: EditSetting) -> list[EditKind]:
        kinds: list[EditKind] = []
        for spec in edits:
            kind = EDIT_KINDS.get(spec.kind)
            if self._at_layers and issubclass(kind, ImageEdit) and not kind.of_one:
                raise ParamsError(
                    f"edits: {spec.kind} draws several rows into one picture, which what features or hybrid change "
                    "in a layer can't follow: leave it out, or choose another tune.refine"
                )
            kinds += [kind(spec, setting)] * len(kind.plan(spec))
        return kinds

    def _render(self, rows: Sequence[Row], edited: Sequence[Tensor]) -> list[Row | Rejected]:
        """Draw a chunk of rows; ``edited`` holds the latents ``[B, n_latent, w_dim]`` of each picture."""
        if self.tuned:
            return [self._render_tuned(rows[0], edited)]
        pictures = [self._draw(w, rows, i) for i, w in enumerate(edited)]
        return [self._columns([images[i] for images in pictures]) for i in range(len(rows))]

    def _draw(self, w_plus: Tensor, rows: Sequence[Row], index: int) -> Tensor:
        kind = self.kinds[index]
        if isinstance(kind, ImageEdit):
            return draw_images(kind, self.generator, w_plus, rows, self.plan[index])
        return in_chunks(self.synthesis, w_plus, chunk_size(self.generator.size))

    def _render_tuned(self, row: Row, edited: Sequence[Tensor]) -> Row | Rejected:
        """Draw one row; ``edited`` holds the latents ``[1, n_latent, w_dim]`` of each picture."""
        try:
            return self._columns(self._drawn_tuned(row, edited))
        except ImageError as error:
            return Rejected(error.status, error.reason)

    def _drawn_tuned(self, row: Row, edited: Sequence[Tensor]) -> list[Tensor]:
        plain = [i for i, kind in enumerate(self.kinds) if not isinstance(kind, ImageEdit)]
        images: dict[int, Tensor] = {}
        with own_generator(self.generator, row["delta"], self.features) as own:
            if plain:
                parts = torch.cat([edited[i] for i in plain]).split(chunk_size(self.generator.size))
                drawn = torch.cat([own(partial(self.synthesis, part)) for part in parts])
                images = dict(zip(plain, drawn, strict=True))
            for i in range(len(self.plan)):
                if i not in images:
                    images[i] = own(partial(self._draw, edited[i], [row], i))[0]
        return [images[i] for i in range(len(self.plan))]

    def _columns(self, images: Sequence[Tensor]) -> Row | Rejected:
        finite = torch.stack([image.isfinite().all() for image in images]).tolist()
        for edit, fine in zip(self.plan, finite, strict=True):
            if not fine:
                return Rejected("bad_edit", f"{edit.column} gives an image with NaN or infinity")
        pixels = [to_uint8(self.frame.crop(image[None]))[0] for image in images]
        return {edit.column: picture for edit, picture in zip(self.plan, pixels, strict=True)}


def refinements_of(params: Params) -> set[str]:
    """Return the names of the refinements that rows may have; raises ``ParamsError`` without a table of ``invert``."""
    names = set(params.tune.refine)
    if params.invert.given:
        table, _ = read_table(params.models.inversion, {})
        names |= {name for way in table.others for name in way.refine}
    return names


def drawing_stage(params: Params, source: str) -> EditStage:
    """Build the stage that draws the planned edits; rows that they refer to are aligned and encoded as the run does."""
    latents_of = SourceLatents(source, lambda: [build_stage(name, params, source) for name in ("align", "encode")])
    models, frame = params.models, framing_of(params).frame
    refined = refinements_of(params) if params.tune.enabled else ()
    return EditStage(params.edits, models, params.tune.enabled, params.run.batch_size, latents_of, frame, refined)
