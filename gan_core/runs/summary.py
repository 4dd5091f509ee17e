"""The metrics of a run, merged from the statistics of its shards."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from gan_core.gates import Gate
from gan_core.judges.domain import FLAG
from gan_core.metrics.base import METRICS, Summary
from gan_core.metrics.names import normal_name
from gan_core.metrics.statistics import merge_all
from gan_core.storage.atomic import write_bytes
from gan_core.storage.receipts import read_json, read_statistics, require_receipt
from gan_core.storage.shards import list_shards
from gan_core.storage.urls import join_url

SUMMARY_FILE = "summary.json"
GATES = "gates"
"""The key of what the gates say, where a run has gates: see ``gan_core.report.gating``."""


NAMED = 5
"""Rows out of the domain that a line names."""


class Farthest(BaseModel):
    """A row that is out of the domain."""

    model_config = ConfigDict(strict=True, extra="allow")

    key: str


class Outliers(BaseModel):
    """Which rows are out of the domain of encoder and generator (``gan_core.recipes.outliers``)."""

    model_config = ConfigDict(strict=True, extra="allow")

    rows: Annotated[int, Field(ge=0)] = 0
    why: str = ""
    generator: str = ""
    score: str = ""
    limit: float = 0.0
    farthest: list[Farthest] = []


class StoredSummary(BaseModel):
    """What is read of ``summary.json``."""

    model_config = ConfigDict(strict=True, extra="allow")

    metrics: dict[str, Annotated[float, Field(allow_inf_nan=False)]]
    omitted: dict[str, str]
    rows: dict[str, Annotated[int, Field(ge=0)]]
    out_of_domain: Outliers = Outliers()


def summarise(output: str, stage: str, names: Iterable[str] | None = None) -> dict[str, float]:
    """Merge the statistics of a stage of the run in ``output``, write ``summary.json`` there and return its metrics.

    ``names`` are those of its shards; without them it is all that lie there. Raises ``DataError`` for a shard that
    isn't finished.
    """
    folder = join_url(output, stage)
    shards = list_shards(folder) if names is None else [join_url(folder, name) for name in names]
    rows, flags = count_rows(shards, stage)
    merged = merge_all(read_statistics(shard) for shard in shards)
    total = Summary()
    for name in METRICS.names():
        if name in merged:
            part = METRICS.get(name).compute(merged[name])
            total.values |= part.values
            total.omitted |= part.omitted
    if not merged:
        total.omitted["all"] = "no row was measured"
    return write_summary(output, total, rows, flags)


def count_rows(shards: Iterable[str], stage: str) -> tuple[Counter[str], Counter[str]]:
    """Add up the rows of a stage's shards by status, and the ``ok`` ones by flag.

    Raises ``DataError`` for a shard that is not finished.
    """
    rows: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    for shard in shards:
        receipt = require_receipt(shard, f"run the {stage} stage again")
        rows.update(receipt.rows)
        flags.update(receipt.flags)
    return rows, flags


def write_summary(
    output: str, total: Summary, rows: Counter[str], flags: Mapping[str, int] = MappingProxyType({})
) -> dict[str, float]:
    """Write ``summary.json`` and return its metrics.

    The file has ``metrics`` (finite numbers by name, such as ``fid/toy-attr/tuned``), ``omitted`` (reasons by name),
    ``rows`` (counts by status) and, where ``ok`` rows have some, ``flags`` (counts by flag).
    """
    summary = _finite(total) | {"rows": dict(sorted(rows.items()))}
    _write(output, summary, flags)
    return dict(summary["metrics"])


def add_to_summary(output: str, more: Mapping[str, Any], flags: Mapping[str, int] = MappingProxyType({})) -> None:
    """Add values and counts of flags to ``summary.json``; a flag that the rows have themselves keeps its count."""
    summary = read_json(join_url(output, SUMMARY_FILE)) | dict(more)
    _write(output, summary, dict(flags) | summary.get("flags", {}))


def _write(output: str, summary: dict[str, Any], flags: Mapping[str, int]) -> None:
    if flags:
        summary["flags"] = dict(sorted(flags.items()))
    write_bytes(join_url(output, SUMMARY_FILE), (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode())


def load_summary(output: str) -> dict[str, Any]:
    """Return what ``write_summary`` wrote, with today's names.

    Raises ``FileNotFoundError`` before that, and ``ValueError`` for a file with something else in it.
    """
    summary = StoredSummary.model_validate(read_json(join_url(output, SUMMARY_FILE))).model_dump(exclude_unset=True)
    named = {part: {normal_name(n): v for n, v in summary[part].items()} for part in ("metrics", "omitted")}
    return summary | named


def find_summary(output: str) -> dict[str, Any]:
    """Return what ``load_summary`` does, or an empty summary where there is no readable file yet."""
    try:
        return load_summary(output)
    except (FileNotFoundError, ValueError):
        return {"metrics": {}, "omitted": {}, "rows": {}}


def gate_numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the rows that pass and that fail the gates of a summary, and the limits of quantiles, as numbers by name.

    They are logged beside its metrics: ``gates/passed``, ``gates/failed``, ``gates/failed/lpips <= 0.2``.
    """
    if not (told := summary.get(GATES)):
        return {}
    numbers = {f"{GATES}/{name}": float(told[name]) for name in ("passed", "failed")}
    for each in told["each"]:
        numbers[f"{GATES}/failed/{each['gate']}"] = float(each["failed"])
        if Gate.parse(each["gate"]).quantile and each["limit"] is not None:
            numbers[f"{GATES}/limit/{each['gate']}"] = each["limit"]
    return numbers


def describe_gates(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line on all gates of a summary and one on each; none for a run without gates."""
    if not (told := summary.get(GATES)):
        return
    passed, finished = told["passed"], told["passed"] + told["failed"]
    yield f"{GATES:8} {passed} of {finished} finished rows pass all {len(told['each'])}"
    for each in told["each"]:
        quantile = Gate.parse(each["gate"]).quantile and each["limit"] is not None
        limit = f" (limit {each['limit']:.4g})" if quantile else ""
        missing = f", {each['not_measured']} of them not measured" if each["not_measured"] else ""
        yield f"  {each['gate']}{limit}: {each['failed']} of {each['judged']} fail{missing}"


def describe_outliers(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line on the rows of a summary that its generator can't draw, and one on what to do if most rows are so.

    Where no row was judged, it is the reason; none for a summary without such rows.
    """
    told = Outliers.model_validate(summary.get(FLAG, {}))
    finished = summary["rows"].get("ok", 0)
    if told.why:
        yield f"{FLAG}: no row was judged: {told.why}"
    if told.rows:
        keys = ", ".join([*(row.key for row in told.farthest[:NAMED]), *["..."] * (told.rows > NAMED)])
        drawn = f"what the generator ({told.generator}) can draw" if told.generator else "what the generator can draw"
        score = f"{told.score} above {told.limit:.3g}"
        yield f"{FLAG}: {told.rows} of {finished} finished rows are probably not {drawn}, {score}: {keys}"
    if told.rows > finished / 2:
        yield "  give models.generator and models.encoder of such pictures: `edit-dataset checkpoints list` names some"


def _finite(total: Summary) -> dict[str, Any]:
    broken = {name: "not a finite number" for name, value in total.values.items() if not math.isfinite(value)}
    metrics = {name: value for name, value in sorted(total.values.items()) if name not in broken}
    return {"metrics": metrics, "omitted": dict(sorted((total.omitted | broken).items()))}
