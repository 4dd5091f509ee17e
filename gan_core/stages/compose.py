"""The stage that composes: planned groups of codes -> one picture each, of any width and height."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_core.batching import one_thread
from gan_core.compose.base import SCORES, Operation, check_composer, entry_name, open_operation
from gan_core.device import place_array
from gan_core.errors import UserError
from gan_core.loading import load_generator
from gan_core.meaning import Meaning
from gan_core.params import ComposeParams, MeasureParams, ModelPaths, Params
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.stages.composition_distances import Distances, Pair, pair_squares
from gan_core.storage.images import to_tensor, to_uint8
from gan_core.storage.shards import IMAGE

INPUTS_SHOWN = 8


@STAGES.register("compose")
class ComposeStage(Stage):
    """Draws every planned composition (``gan_core.compose.kinds``).

    Adds ``image``; ``inputs``, the first sources side by side; ``name``, ``operation`` and ``sources``, the lineage;
    and one float32 column for each of ``SCORES`` (empty where an operation has no such score). A row is rejected as
    ``bad_composition`` where it can't be drawn or isn't finite. Pictures, of longer ones the first squares, are held
    against their sources in the statistics (``gan_core.stages.composition_distances``).
    """

    name: ClassVar[str] = "compose"
    version: ClassVar[int] = 3
    inputs: tuple[str, ...] = ("plan",)
    meanings: ClassVar[Mapping[str, Meaning]] = SCORES
    fields: Sequence[pa.Field] = (
        pa.field("image", IMAGE),
        pa.field("inputs", IMAGE),
        pa.field("name", pa.string()),
        pa.field("operation", pa.string()),
        pa.field("sources", pa.list_(pa.string())),
        *(pa.field(score, pa.float32()) for score in SCORES),
    )

    def __init__(self, params: ComposeParams, models: ModelPaths, measure: MeasureParams) -> None:
        self.params = params
        self.batch_size = 8
        generator = check_composer(load_generator(models.generator))
        self.generator = generator.model
        self.operations: list[Operation] = [open_operation(spec, models, generator) for spec in params.plan]
        self.distances = Distances(measure, models)
        files = {name: digest for operation in self.operations for name, digest in operation.files().items()}
        plan = [spec.model_dump(mode="json") for spec in params.plan]
        self._identity = {"plan": plan, "psi": params.psi, "generator": generator.sha256, **files}
        self._identity["measure"] = self.distances.identity()

    @classmethod
    def build(cls, params: Params, source: str) -> "ComposeStage":
        """Build the stage from ``compose``, ``models`` and ``measure``."""
        return cls(params.compose, params.models, params.measure)

    def identity(self) -> dict[str, Any]:
        """The plan, what is measured, and the hashes of all networks that they need."""
        return self._identity

    def statistics(self) -> dict[str, np.ndarray]:
        """Statistics of the rows since the last call."""
        return self.distances.statistics()

    def calculate(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Draw the rows one after the other: a row's picture is its own alone."""
        pairs: list[Pair] = []
        with one_thread(), torch.no_grad():
            results = [self._compose(row, pairs) for row in rows]
            self.distances.add(pairs)
        return results

    def _compose(self, row: Row, pairs: list[Pair]) -> Row | Rejected:
        generator, operation = self.generator, self.operations[row["entry"]].with_boxes(row["boxes"])
        codes = np.frombuffer(row["codes"], "<f4").reshape(-1, generator.n_latent, generator.w_dim)
        w_plus = place_array(codes.copy())
        if not w_plus.isfinite().all():
            return Rejected("bad_composition", "a source's latent has NaN or infinity")
        try:
            drawing = operation.draw(generator, w_plus)
        except UserError as error:
            return Rejected("bad_composition", str(error))
        if not drawing.image.isfinite().all():
            return Rejected("bad_composition", "the picture has NaN or infinity")
        inputs = torch.cat([generator.synthesis(w[None]) for w in w_plus[:INPUTS_SHOWN]]).clamp(-1, 1)
        if drawing.one_scene:
            pairs += pair_squares(row["entry"], row["key"], _as_stored(inputs), _as_stored(drawing.image))
        return {
            "image": to_uint8(drawing.image)[0],
            "inputs": to_uint8(torch.cat(inputs.split(1), 3))[0],
            "name": entry_name(self.params.plan[row["entry"]]),
            "operation": row["operation"],
            "sources": row["sources"],
            **drawing.scores,
        }


def _as_stored(image: Tensor) -> Tensor:
    return to_tensor(list(to_uint8(image)))


def describe_entry(spec: dict[str, Any]) -> str:
    """Return an entry of a stored plan as one line: its own settings, without its sources."""
    left_out = {"operation", "name", "sources", "count", "group", "seed"}
    return ", ".join(f"{name}: {json.dumps(value)}" for name, value in spec.items() if name not in left_out)
