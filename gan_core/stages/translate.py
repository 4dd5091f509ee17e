"""The stage that translates: what the task's encoder sees -> an output, its variants, and scores that fit the task."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from gan_core.align.framing import UNKNOWN_SIZE, Framing
from gan_core.batching import chunk_size, in_chunks, one_thread
from gan_core.device import fetch, place
from gan_core.edits.base import EDIT_KINDS, EditSetting, LatentEdit, LatentsOf, edit_latents, no_references
from gan_core.edits.plan import TAKEN, plan_edits
from gan_core.encoders.base import ENCODERS
from gan_core.errors import CheckpointError, ParamsError
from gan_core.geometry import SQUARE
from gan_core.judges.segmenter import CLASSES
from gan_core.loading import load_encoder, load_generator, outline
from gan_core.meaning import Meaning
from gan_core.params import ModelPaths, Params, TranslateParams
from gan_core.rows import Rejected, Row, row_seed
from gan_core.runs.stage import STAGES, Stage, settle
from gan_core.stages.align import AlignStage
from gan_core.stages.references import SourceLatents
from gan_core.storage.images import ImageError, to_uint8
from gan_core.storage.shards import IMAGE, latent_type
from gan_core.translation.inputs import INPUTS, MASK, EncoderInput, MaskedInput, check_factors, label_cell, picture_cell
from gan_core.translation.masks import MASKS
from gan_core.translation.scores import SCORES, SCORES_OF, Scorer, Translated
from gan_core.translation.tasks import TASKS, find_translator

INPUT, OUTPUT, LATENT, FACTOR = "input", "output", "latent", "factor"
SEEN, TRUTH = "translate/seen", "translate/truth"
"""Where a loaded row has what the encoder sees, and what its output should be, or None."""


@STAGES.register("translate")
class TranslateStage(Stage):
    """Encodes what ``translate.column`` holds, or what is made of it, and draws it by the task's generator.

    Adds ``input`` (what the encoder saw) and ``output``, one picture for each of ``translate.variants``, ``latent``,
    ``factor`` (of super-resolution, else 1) and the task's scores, float32. Inputs are made, and outputs scored, at the
    size that the encoder sees; ``mean_iou`` is left out where label maps have other classes than the segmenter. A row
    is rejected with its fault: a ``bad_size``, ``bad_labels``, ``bad_mask``, bytes that are no image, or ``bad_latent``
    where numbers aren't finite.
    """

    name: ClassVar[str] = "translate"
    inputs: tuple[str, ...] = ("source",)
    meanings: ClassVar[Mapping[str, Meaning]] = {name: score.meaning for name, score in SCORES.items()}

    def __init__(
        self,
        params: TranslateParams,
        models: ModelPaths,
        encoder_path: str,
        source: str = "",
        batch_size: int = 32,
        latents_of: LatentsOf = no_references,
    ) -> None:
        self.params, self.source, self.batch_size = params, source, batch_size
        self.task = TASKS.get(params.task)
        self.inputs = ("align",) if params.align else ("source",)
        decoder = str(getattr(models, self.task.decoder))
        self.transform = INPUTS.get(self.task.input_kind)(
            params.factors, params.masks, params.classes, params.label_resampling
        )
        generator = load_generator(decoder)
        encoder = load_encoder(encoder_path, generator)
        self.encoder, self.generator, self.side = encoder.model, generator.model, encoder.model.input_size
        self._check(encoder_path)
        self.reads = self._pictures()
        own = models.model_copy(update={"generator": decoder})
        taken = TAKEN.union((INPUT, OUTPUT, FACTOR), SCORES)
        self.plan = plan_edits(params.variants, taken, "translate.variants")
        self.kinds = self._build(EditSetting(own, generator, latents_of))
        scores = [name for name in SCORES_OF[self.task.name] if not why_unscored(name, params)]
        scores += ["diversity"] if len(self.plan) > 1 else []
        self.scorer = Scorer(scores, models)
        self.fields: Sequence[pa.Field] = [
            pa.field(INPUT, IMAGE),
            pa.field(OUTPUT, IMAGE),
            *(pa.field(picture.column, IMAGE) for picture in self.plan),
            pa.field(LATENT, latent_type(self.encoder.n_latent, self.encoder.w_dim)),
            pa.field(FACTOR, pa.int32()),
            *(pa.field(score, pa.float32()) for score in scores),
        ]
        self._hashes = {"encoder_sha256": encoder.sha256, "generator_sha256": generator.sha256}

    def _pictures(self) -> dict[str, str]:
        """The columns of the source that hold pictures, by parameter."""
        wanted = {} if self.params.align else {"column": self.params.column}
        if self.params.made and self.transform.from_labels:
            wanted["labels"] = self.params.labels
        if self.params.truth and not self.params.made:
            wanted["truth"] = self.params.truth
        if not self.params.made and isinstance(self.transform, MaskedInput):
            wanted["made"] = MASK
        return {f"translate.{name}": column for name, column in wanted.items()}

    @classmethod
    def build(cls, params: Params, source: str) -> "TranslateStage":
        """Build the stage from ``translate`` and ``models``; rows that variants refer to are inverted as it says."""
        plain = params.model_copy(update={"translate": style_params(params.translate)})
        path = find_translator(params, params.translate.task)

        def stages() -> list[Stage]:
            own = cls.build(plain, source)
            if not params.translate.align:
                return [own]
            return [settle(AlignStage.framed(params, source, translation_framing(params)), params), own]

        latents_of = SourceLatents(source, stages)
        return cls(params.translate, params.models, path, source, params.run.batch_size, latents_of)

    def identity(self) -> dict[str, Any]:
        """The task's settings, all that decides the variants, and the hashes of all networks."""
        pairs = zip(self.plan, self.kinds, strict=True)
        variants = [{"column": picture.column, **kind.describe(picture)} for picture, kind in pairs]
        files = {name: digest for kind in self.kinds for name, digest in kind.files().items()}
        settings = self.params.model_dump(mode="json", exclude={"variants"})
        if settings["label_resampling"] == "nearest":
            del settings["label_resampling"]  # the only way once, so that runs made then are still known
        return {"params": settings, "variants": variants, **self._hashes, **self.scorer.files, **files}

    def see(self, row: Row) -> EncoderInput:
        """What the encoder sees of a row, read or made, as its key has it; raises ``ImageError`` for a bad cell."""
        side, column = self.side, "image" if self.params.align else self.params.column
        if not self.params.made:
            return self.transform.read(row, column, side)
        labels = None
        if self.transform.from_labels:
            labels = label_cell(row, self.params.labels, side, self.transform.classes, self.transform.resampling)
        stream = torch.Generator().manual_seed(row_seed(f"translate/{row['key']}"))
        return self.transform.make(picture_cell(row, column, side), labels, stream)

    def load(self, row: Row) -> Row | Rejected:
        """Make or read what the encoder sees of a row, and read the truth if it is known."""
        column = "image" if self.params.align else self.params.column
        name = column if self.params.made else self.params.truth
        try:
            return row | {SEEN: self.see(row)} | ({TRUTH: picture_cell(row, name, self.side)} if name else {})
        except ImageError as error:
            return Rejected(error.status, error.reason)
        except ParamsError as error:
            return Rejected("bad_mask", str(error))

    @torch.no_grad()
    def calculate(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Translate all rows; their number and order change no result."""
        seen, truth = [row[SEEN] for row in rows], [row[TRUTH] for row in rows if TRUTH in row]
        inputs = place(torch.stack([one.tensor for one in seen]))
        with one_thread():
            latents = in_chunks(self.encoder.encode, inputs)
            finite = latents.isfinite().flatten(1).all(1)
            safe = torch.where(finite[:, None, None], latents, torch.zeros_like(latents))
            mixed = [
                edit_latents(kind, safe, rows, picture) for kind, picture in zip(self.kinds, self.plan, strict=True)
            ]
            size = chunk_size(self.generator.size)
            output, *variants = (in_chunks(self.generator.synthesis, w, size).clamp(-1, 1) for w in (safe, *mixed))
            known = place(torch.stack(truth)) if truth else None
            small, *smaller = (F.adaptive_avg_pool2d(picture, self.side) for picture in (output, *variants))
            scores = self.scorer.score(Translated(seen, inputs, small, smaller, known))
        pictures = {INPUT: self.transform.show(inputs), OUTPUT: output} | {
            picture.column: drawn for picture, drawn in zip(self.plan, variants, strict=True)
        }
        columns: dict[str, Any] = {name: to_uint8(drawn) for name, drawn in pictures.items()}
        columns |= {LATENT: fetch(latents).astype(np.float32), FACTOR: [one.factor for one in seen], **scores}
        return [
            {name: values[i] for name, values in columns.items()}
            if fine
            else Rejected("bad_latent", "the encoder gave NaN or infinity for this row")
            for i, fine in enumerate(finite.tolist())
        ]

    def _build(self, setting: EditSetting) -> list[LatentEdit]:
        kinds: list[LatentEdit] = []
        for spec in self.params.variants:
            kind = EDIT_KINDS.get(spec.kind)
            built = kind(spec, setting)
            if not isinstance(built, LatentEdit):
                raise ParamsError(
                    f"translate.variants: the kind {spec.kind!r} draws in its own way; use one of latents"
                )
            kinds += [built] * len(kind.plan(spec))
        return kinds

    def _check(self, encoder_path: str) -> None:
        channels = int(self.encoder.arguments.get("input_channels", 3))
        if channels != self.transform.channels:
            raise CheckpointError(
                f"{encoder_path} sees {channels} channels, but {self.task.name!r} gives it {self.transform.channels}: "
                "choose the encoder that was trained for this task, or set translate.classes for a label map"
            )
        if self.params.align and (self.transform.from_labels or not self.params.made):
            raise ParamsError(
                f"translate.align: only pictures can be aligned, and {self.task.name!r} reads something else here; "
                "set it to false and give aligned rows"
            )
        if self.params.align and self.params.column != "image":
            raise ParamsError(
                f"translate.column: with translate.align the pictures in 'image' are translated, not those in "
                f"{self.params.column!r}: leave it out, or set translate.align to false and give aligned rows"
            )
        if self.task.input_kind == "low-resolution":
            check_factors(self.params.factors, self.side)
        for mask in self.params.masks:
            MASKS.get(mask)


def why_unscored(score: str, params: TranslateParams) -> str:
    """Return why no row of a translation can have one of its task's scores, or an empty string if rows can."""
    if SCORES[score].needs_truth and not (params.made or params.truth):
        return "the true pictures are not known: translate.truth names their column"
    if score == "mean_iou" and params.classes != CLASSES:
        return f"the segmenter knows {CLASSES} classes, not {params.classes}"
    return ""


def translation_framing(params: Params) -> Framing:
    """Return how pictures are aligned for the encoder of ``translate``: squares, as large as its input if not said."""
    encoder = outline(find_translator(params, params.translate.task), "encoder", ENCODERS)
    side = encoder.input_size if encoder else UNKNOWN_SIZE
    return Framing(SQUARE, side, params.align.size or side)


def style_params(params: TranslateParams) -> TranslateParams:
    """What gives the styles of rows that variants refer to: the inversion of their pictures, where a column has them.

    A label map or a sketch says nothing of colours; without pictures its own translation has to do.
    """
    pictures = params.column if params.made or params.align else params.truth
    inversion = {"task": "inversion", "encoder": "", "made": True, "column": pictures} if pictures else {}
    return params.model_copy(update={"variants": [], **inversion})
