"""The stage that refines: each aligned face gets its own small change of the generator's weights."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_core.align.framing import framing_of
from gan_core.batching import chunk_size, in_chunks_each, one_thread
from gan_core.budgets import REACHED, InvertParams
from gan_core.capture import Recorded
from gan_core.checkpoints.files import file_sha256
from gan_core.device import computing, fetch, place_array
from gan_core.errors import ParamsError
from gan_core.geometry import SQUARE, Frame, average_down
from gan_core.inversion.allocation import ALONE, Allocation, Choice, Way, ends_with_look, read_table
from gan_core.inversion.delta import pack_delta, pack_full
from gan_core.inversion.in_domain import InDomain, optimise_in_domain
from gan_core.inversion.objective import is_compared, objective, read_losses
from gan_core.inversion.own import own_generator
from gan_core.inversion.projector import PTI, Space, project
from gan_core.inversion.pti import Tuned
from gan_core.inversion.refinement import ByFeatures, Inverted, PivotalTuning, build_refinements, refine_all
from gan_core.inversion.ways import OpenWay, check_hashes, groups_of, part_of
from gan_core.judges.perceptual import load_perceptual
from gan_core.loading import load_encoder, load_generator
from gan_core.params import ModelPaths, Params, TuneParams
from gan_core.rows import Progress, Rejected, Row, row_seed
from gan_core.runs.stage import STAGES, Stage
from gan_core.stages.edit import drawing_stage
from gan_core.stages.encode import MOST_ALIGNED
from gan_core.storage.images import load_pictures, stack_pictures, to_uint8
from gan_core.storage.shards import IMAGE, latent_type

_log = logging.getLogger(__name__)
TOGETHER = 4
"""Batches whose rows are looked at before any is refined by a table, so that those with like steps meet in one."""
DIVERGED = "diverged: tuning ended farther away than it began, so this is what the pivot gives untuned"
DRAWN = "reconstruction"
"""The encode stage's picture of a row's latent."""
KEPT = "diverged: tuning ended farther away than it began, so this is what it began with"
FIELDS = (
    pa.field("tuned", IMAGE),
    pa.field("delta", pa.binary()),
    pa.field("steps", pa.int32()),
    pa.field("loss", pa.float32()),
    pa.field("loss_l2", pa.float32()),
    pa.field("loss_perceptual", pa.float32()),
    pa.field("stop_reason", pa.string()),
)


@STAGES.register("tune")
class TuneStage(Stage):
    """Tunes the generator to each row at its latent, ``params.batch_size`` rows at a time, as ``params.refine`` says.

    The number and the order of rows that are tuned together change results by rounding only: a picture by at most one
    level of grey in 255 where nothing diverges.

    Adds ``tuned`` (drawn with ``delta``), ``delta`` (``gan_core.inversion.delta``; empty where tuning diverged),
    ``steps``, ``loss`` (the objective at the end), its terms ``loss_l2`` and ``loss_perceptual`` (null where no
    parameter asks for it), and ``stop_reason`` (``steps``, ``perceptual``, ``diverged``: such a row is flagged); with a
    pivot that isn't the encoder's, ``latent`` too; where ``invert`` gives each row its steps, ``spent_s``, the seconds
    of its inversion by the table (rows that miss a target are flagged), and ``inverted_by``, if the table has several
    ways. ``edits`` is the stage that draws edits: given where ``params.persist`` is ``none``, its columns are added
    here and ``delta`` stays empty. Each row is logged as it ends.

    Only the ``frame`` of what the generator draws is compared and kept. Aligned images of another size are compared
    with it at the smaller of both sizes, the larger ones averaged down. A row is rejected as ``bad_latent`` if its
    latent isn't finite. Raises ``ParamsError`` for images of another proportion than the frame.
    """

    name: ClassVar[str] = "tune"
    inputs: tuple[str, ...] = ("align", "encode")
    version: ClassVar[int] = 4

    def __init__(
        self,
        params: TuneParams,
        models: ModelPaths,
        edits: Stage | None = None,
        frame: Frame = SQUARE,
        invert: InvertParams | None = None,
    ) -> None:
        self.target = invert.target.limit if invert and invert.target else None
        self.params = params if self.target is None else params.model_copy(update={"stop_perceptual": self.target})
        self.edits = edits
        self.frame = frame
        self.batch_size = params.batch_size * (TOGETHER if invert and invert.given else 1)
        generator, loss = load_generator(models.generator), load_perceptual(models.perceptual)
        self._loaded, self._models = generator, models
        self.generator, self.loss = generator.model, loss.model
        self.synthesis = Recorded(self.generator.synthesis)
        hashes = {"perceptual_sha256": loss.sha256, "generator_sha256": generator.sha256}
        self.refinements = build_refinements(generator, self.loss, self.params, models, frame)
        self.features = next((each.network for each in self.refinements if isinstance(each, ByFeatures)), None)
        self.at_layers = any(each.at_layers for each in self.refinements)
        unsaid = {"enabled"} | ({"refine"} if params.refine == [ALONE] else set())  # older runs don't say it
        self._identity: dict[str, Any] = {"params": params.model_dump(exclude=unsaid), **hashes}
        for refinement in self.refinements:
            self._identity |= refinement.identity
        if params.pivot == "w" and self.generator.per_layer:
            raise ParamsError(
                f"tune.pivot w: {models.generator} has a latent for each layer, none that all layers share: use w_plus"
            )
        if params.pivot == "in_domain":
            encoder = load_encoder(models.encoder, generator)
            self.encoder = encoder.model
            self._identity["encoder_sha256"] = encoder.sha256
        if not frame.is_square:
            self._identity["frame"] = [frame.height, frame.width]
        if edits:
            self._identity["edits"] = edits.identity()
        self.ways: list[OpenWay | None] = []
        self.allocation = self._allocate(invert, models.inversion) if invert and invert.given else None
        self.fields: Sequence[pa.Field] = [*FIELDS, *self._more_fields()]

    @classmethod
    def build(cls, params: Params, source: str) -> "TuneStage":
        """Build the stage from ``tune`` and ``models``; where no weights are kept it draws ``edits`` too."""
        edits = drawing_stage(params, source) if params.tune.persist == "none" else None
        return cls(params.tune, params.models, edits, framing_of(params).frame, params.invert)

    def identity(self) -> dict[str, Any]:
        """The tuning parameters, the hashes of the generator and the perceptual trunk, and the edits drawn here."""
        return self._identity

    def load(self, row: Row) -> Row | Rejected:
        """Decode the aligned image of a row whose latent is finite, and what a look at it compares with it."""
        return self.load_to_look(row) if self.allocation and self.allocation.looks else self._load(row, ["image"])

    def load_to_look(self, row: Row) -> Row | Rejected:
        """Decode the aligned image, and what the encoder's latent gives, where that is the pivot's picture."""
        return self._load(row, ["image", *([DRAWN] if self._is_drawn else [])])

    def _load(self, row: Row, columns: Sequence[str]) -> Row | Rejected:
        if not np.isfinite(row["latent"]).all():
            return Rejected("bad_latent", "the latent has NaN or infinity")
        return load_pictures(row, columns, MOST_ALIGNED)

    @property
    def _is_drawn(self) -> bool:
        return self.params.pivot == "encoder" and self.frame.is_square

    def calculate(self, rows: Sequence[Row]) -> Iterator[Row | Rejected]:
        """Refine the rows, each from the same generator, then draw one after the other."""
        with one_thread():
            inverted = self.invert(rows)
            if self.allocation:
                looked = self.look(rows, inverted) if self.allocation.looks else []
                starts = [one.reached for one in looked]
                choices = self.allocation.choose(starts) if looked else self.allocation.for_all(len(rows))
                for row, found, choice in zip(rows, self._refine_each(inverted, looked, choices), choices, strict=True):
                    yield self.columns(row, *found, choice)
            else:
                tuned = self.refine(inverted, self.finished)
                for row, pivot, one in zip(rows, inverted.pivots.split(1), tuned, strict=True):
                    yield self.columns(row, pivot, one)

    def invert(self, rows: Sequence[Row]) -> Inverted:
        """Return the rows as refinements take them."""
        targets = self._targets(rows)
        seeds = [row_seed(row["key"]) for row in rows]
        return Inverted(self._pivots(rows, targets, seeds), targets, seeds)

    def refine(self, rows: Inverted, finished: Progress | None = None) -> list[Tuned]:
        """Return what becomes of rows by the run's own refinements."""
        return refine_all(self.refinements, rows, finished)

    def open_way(self, way: Way) -> OpenWay:
        """Return another way to invert the rows, with its networks; raises ``UserError`` for one that can't be."""
        opened = OpenWay(way, self._loaded, self.loss, self.params, self._models, self.frame)
        self.features = self.features or opened.features
        self.at_layers = self.at_layers or any(each.at_layers for each in opened.refinements)
        return opened

    def _refine_each(
        self, rows: Inverted, looked: Sequence[Tuned], choices: Sequence[Choice]
    ) -> list[tuple[Tensor, Tuned]]:
        """Return pivots ``[1, n_latent, w_dim]`` and what becomes of them, each row by its own way and steps.

        Rows of one way and about the same steps are refined together, so that batches stay full. Rows that get nothing
        end as they were looked at.
        """
        found = {
            place: (rows.pivots[place : place + 1], looked[place])
            for place, choice in enumerate(choices)
            if ends_with_look(choice, self.params.refine)
        }
        left = [place for place in range(len(choices)) if place not in found]
        for group in groups_of([choices[place] for place in left], self.params.batch_size):
            places = [left[i] for i in group]
            way = self.ways[choices[places[0]].way]
            part = part_of(rows, places, [choices[place].steps for place in places])
            begun = way.begin(part) if way else part
            tuned = way.refine(begun, self.finished) if way else self.refine(begun, self.finished)
            found |= zip(places, zip(begun.pivots.split(1), tuned, strict=True), strict=True)
        return [found[place] for place in range(len(choices))]

    @torch.no_grad()
    def look(self, rows: Sequence[Row], inverted: Inverted) -> list[Tuned]:
        """Return each of the ``rows`` as it is before anything is refined, with the losses at its pivot.

        Raises ``ParamsError`` where the objective has no perceptual distance, which tables are made of.
        """
        if not self.params.perceptual_weight:
            raise ParamsError("invert compares perceptual distances: tune.perceptual_weight has to be above 0")
        known = stack_pictures(rows, DRAWN) if self._is_drawn else None

        def seen(part: Tensor) -> tuple[Tensor, Tensor]:
            drawn = self.generator.synthesis(inverted.pivots[part]) if known is None else known[part]
            return drawn, objective(drawn, inverted.targets[part], self.loss, self.params)[1]

        places = torch.arange(len(inverted.pivots), device=inverted.pivots.device)
        images, terms = in_chunks_each(seen, places, chunk_size(self.generator.size))
        (losses,) = read_losses([terms])
        return [Tuned({}, image, 0, [loss], "steps", True) for image, loss in zip(images.split(1), losses, strict=True)]

    def setting(self) -> dict[str, Any]:
        """What the seconds and the distances of inversion depend on, as a table of them has it."""
        unset = {"enabled", "steps", "stop_perceptual", "persist"}
        others = {name: value for name, value in self._identity.items() if name.endswith("sha256") or name == "frame"}
        own = {"tune": self.params.model_dump(mode="json", exclude=unset), "device": computing().kind}
        return own | others | {"encoder_sha256": file_sha256(self._models.encoder)}

    def _allocate(self, invert: InvertParams, path: str) -> Allocation:
        if self.params.shared or PivotalTuning.name not in self.params.refine:
            raise ParamsError(
                "invert chooses the steps of each row's tuning: tune.refine needs pti, and tune.shared is off"
            )
        table, sha256 = read_table(path, self.setting())
        self._identity["invert"] = invert.model_dump(mode="json") | {"table_sha256": sha256, "version": 2}
        self.ways = [None, *(self.open_way(way) for way in table.others)]
        for way in self.ways:
            if way is not None:
                check_hashes(way, path)
        return Allocation(invert, table, path, self.params.refine)

    def _targets(self, rows: Sequence[Row]) -> Tensor:
        targets = stack_pictures(rows, "image")
        side = max(targets.shape[2:])
        if targets.shape[2:] != self.frame.shape(side):
            raise ParamsError(
                f"the aligned images have {targets.shape[3]}x{targets.shape[2]} px, but this encoder's pictures are "
                f"{self.frame.width} wide and {self.frame.height} high: align them again"
            )
        return average_down(targets, self.frame.shape(min(side, self.generator.size)))

    def _pivots(self, rows: Sequence[Row], targets: Tensor, seeds: Sequence[int]) -> Tensor:
        """The encoder's latents, or those that an optimisation after PTI's recipe finds, ``[B, n_latent, w_dim]``."""
        if self.params.pivot in ("w", "w_plus"):
            return self._projected(targets, seeds)
        latents = place_array(np.stack([row["latent"] for row in rows]).astype(np.float32))
        if self.params.pivot == "encoder":
            return latents
        weight, params = self.params.perceptual_weight, self.params
        recipe = InDomain(params.pivot_steps, params.pivot_lr, feature_weight=weight)
        return optimise_in_domain(self.generator, self.encoder.encode, targets, latents, self.loss, recipe)

    def _projected(self, targets: Tensor, seeds: Sequence[int]) -> Tensor:
        space: Space = "w" if self.params.pivot == "w" else "w_plus"
        recipe = replace(PTI, space=space, steps=self.params.pivot_steps, lr=self.params.pivot_lr)
        return project(self.generator, targets, self.loss, recipe, seeds)[0]

    @torch.no_grad()
    def columns(self, row: Row, pivot: Tensor, tuned: Tuned, choice: Choice | None = None) -> Row | Rejected:
        """Return what a row at ``pivot [1, n_latent, w_dim]`` gets of how it was refined, drawn and packed."""
        if not pivot.isfinite().all():
            return Rejected("bad_latent", "the optimisation of the pivot ended in NaN or infinity")
        delta = pack_full(tuned.delta) if self.params.persist == "full" else pack_delta(tuned.delta)
        image = tuned.image
        if not tuned.as_stored:
            draw = self.generator.synthesis if self.at_layers else self.synthesis  # one recorded misses changed layers
            with own_generator(self.generator, delta, self.features) as own:
                image = own(lambda: draw(pivot))
        pixels = to_uint8(self.frame.crop(image))[0]
        columns: Row = {"tuned": pixels, "delta": delta} | self._ending(row["key"], tuned)
        if self.allocation and choice:
            columns |= self._spent(columns, choice)
        if self._own_latents:
            columns["latent"] = fetch(pivot[0])
        return self._edited(row | columns, columns) if self.edits else columns

    def _spent(self, columns: Row, choice: Choice) -> Row:
        assert self.allocation is not None
        reached = columns["loss_perceptual"]
        taken = choice._replace(steps=min(choice.steps, columns["steps"]))
        spent: Row = {"spent_s": self.allocation.seconds(taken)}
        if len(self.ways) > 1:
            spent["inverted_by"] = str(self.allocation.ways[choice.way])
        if self.target is None or reached <= self.target or "reason" in columns:
            return spent
        return spent | {"reason": f"missed_target: {REACHED} is {reached:.3g} after {columns['steps']} steps"}

    def _ending(self, key: str, tuned: Tuned) -> Row:
        """What a row says of how its tuning ended, which is also logged; where it diverged, of its pivot."""
        diverged = tuned.stop_reason == "diverged"
        first, last = tuned.losses[0], tuned.losses[0 if diverged else -1]
        _log.info("%s: %d steps, loss %.4g to %.4g, %s", key, tuned.steps, first.total, last.total, tuned.stop_reason)
        columns: Row = {
            "steps": tuned.steps,
            "loss": last.total,
            "loss_l2": last.l2,
            "loss_perceptual": last.perceptual if is_compared(self.params) else None,
            "stop_reason": tuned.stop_reason,
        }
        return columns | ({"reason": KEPT if tuned.delta else DIVERGED} if diverged else {})

    def _edited(self, row: Row, columns: Row) -> Row | Rejected:
        """Draw the edits while the tuned weights are at hand, and keep nothing of the weights."""
        assert self.edits is not None
        (drawn,) = self.edits.calculate([row])
        return drawn if isinstance(drawn, Rejected) else columns | drawn | {"delta": b""}

    @property
    def _own_latents(self) -> bool:
        """Whether rows end with other latents than the encoder's."""
        return self.params.pivot != "encoder" or any(way and way.encoder for way in self.ways)

    def _more_fields(self) -> list[pa.Field]:
        latent = pa.field("latent", latent_type(self.generator.n_latent, self.generator.w_dim))
        spent = [pa.field("spent_s", pa.float32())] if self.allocation else []
        spent += [pa.field("inverted_by", pa.string())] if len(self.ways) > 1 else []
        own = [latent] if self._own_latents else []
        return [*own, *spent, *(self.edits.fields if self.edits else [])]
