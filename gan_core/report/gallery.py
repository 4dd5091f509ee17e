"""The page about a run that composed: one strip of pictures for each entry of its plan."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gan_core.compose.base import OPERATIONS, SCORES, entry_name
from gan_core.metrics.names import find_score
from gan_core.recipes.compose import count_failures, read_compositions
from gan_core.report.numbers import Tile
from gan_core.report.pictures import to_data_url
from gan_core.runs.run import Run
from gan_core.runs.summary import load_summary
from gan_core.stages.compose import INPUTS_SHOWN, describe_entry
from gan_core.storage.images import decode_image

SHOWN = 4
LARGEST_SIDE, LOSSLESS_SIDE = 1536, 768
SMALL = 160


@dataclass(frozen=True)
class Shown:
    """A picture as the page shows it: its address and its width there in pixels."""

    url: str
    width: int


@dataclass(frozen=True)
class Composed:
    """One composition: what it was made of, what came out, and its scores in words."""

    key: str
    sources: str
    inputs: Shown | None
    image: Shown | None
    scores: list[str]


@dataclass(frozen=True)
class Entry:
    """One entry of the plan with some of its compositions; ``omitted`` are numbers that it has too few for."""

    name: str
    operation: str
    sentence: str
    settings: str
    compositions: list[Composed]
    omitted: list[str]


def gallery(run: Run) -> dict[str, Any]:
    """Return what the template ``gallery.html.j2`` shows of a finished run."""
    found, summary = read_compositions(run, SHOWN), load_summary(run.output)
    entries = [
        _entry(spec, found.get(entry_name(spec), []), summary["omitted"], run) for spec in run.params.compose.plan
    ]
    return {"entries": entries, "tiles": list(_tiles(summary, run.source)), "failures": count_failures(run)}


def _entry(spec: Any, rows: list[dict[str, Any]], omitted: dict[str, str], run: Run) -> Entry:
    sentence = " ".join((OPERATIONS.get(spec.operation).__doc__ or "").split("\n\n")[0].split())
    shown = [_composed(row, run.params.align.max_pixels) for row in rows]
    name, settings = entry_name(spec), describe_entry(spec.model_dump(mode="json"))
    left_out = [
        f"{metric.removesuffix('/' + name)} {why}" for metric, why in omitted.items() if metric.endswith(f"/{name}")
    ]
    return Entry(name, spec.operation, sentence, settings, shown, left_out)


def _composed(row: dict[str, Any], max_pixels: int) -> Composed:
    more = len(row["sources"]) - INPUTS_SHOWN
    sources = ", ".join(row["sources"][:INPUTS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    scores = [f"{m.label} {m.show_with_unit(row[score])}" for score, m in SCORES.items() if row[score] is not None]
    return Composed(
        row["key"],
        sources,
        _shown(row["inputs"]["bytes"], max_pixels),
        _shown(row["image"]["bytes"], max_pixels),
        scores,
    )


def _shown(data: bytes, max_pixels: int) -> Shown | None:
    url = to_data_url(data, max_pixels, LARGEST_SIDE, LOSSLESS_SIDE)
    if url is None:
        return None
    width, height = decode_image(data, max_pixels).size
    return Shown(url, 2 * width if min(width, height) < SMALL else width)


def _tiles(summary: dict[str, Any], source: str) -> Iterator[Tile]:
    failed = sum(summary["rows"].values()) - summary["rows"].get("ok", 0)
    yield Tile("Compositions", f"{summary['rows'].get('ok', 0):,}", f"Drawn from {source}.")
    if failed:
        yield Tile("Turned away", f"{failed:,}", "Each with its reason, below.")
    for name, value in summary["metrics"].items():
        score = find_score(name)
        meaning = SCORES.get(score.metric, score.meaning)
        if meaning.headline:
            yield Tile(f"{meaning.label} · {score.picture}", meaning.show_with_unit(value), meaning.sentence)
