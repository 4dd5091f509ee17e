"""The page about a run that translated: its totals, and rows as input, output, variants and truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gan_core.edits.plan import plan_edits
from gan_core.recipes.translate import STAGE
from gan_core.report.numbers import Tile
from gan_core.report.pictures import NAMES, Strips, read_strips
from gan_core.report.rows import Line, read_rows_of
from gan_core.runs.run import Run
from gan_core.runs.summary import load_summary
from gan_core.stages.translate import INPUT, OUTPUT
from gan_core.translation.scores import SCORES

TRUTH = "truth"


@dataclass(frozen=True)
class Translation:
    """One row: its key, its pictures by name in order, and its scores in words."""

    key: str
    pictures: dict[str, str]
    scores: list[str]


def translation_gallery(run: Run) -> dict[str, Any]:
    """Return what the template ``translations.html.j2`` shows of a finished run."""
    rows, settings = read_rows_of(run), run.params.translate
    strips = read_strips(run, rows.sample, ("source", *run.stages))
    failed: dict[tuple[str, str], int] = {}
    for line in rows.failed:
        failed[line.status, line.reason] = failed.get((line.status, line.reason), 0) + 1
    return {
        "task": settings.task,
        "tiles": list(_tiles(run)),
        "translations": [_translation(line, strips, run) for line in rows.sample],
        "meanings": {SCORES[name].meaning.label: SCORES[name].meaning.help for name in rows.values if name in SCORES},
        "failures": failed,
        "failed": rows.total - rows.ok,
    }


def _translation(line: Line, strips: Strips, run: Run) -> Translation:
    found, settings = strips[line.shard, line.position], run.params.translate
    variants = [picture.column for picture in plan_edits(settings.variants)]
    column = settings.column if settings.made else settings.truth
    truth = "aligned" if settings.align else NAMES.get(("source", column), column)
    names = {name: name for name in (INPUT, OUTPUT, *variants)} | {TRUTH: truth}
    pictures = {shown: found[name] for shown, name in names.items() if name in found}
    return Translation(line.key, pictures, list(_scores(line)))


def _scores(line: Line) -> Iterator[str]:
    for name, value in line.scores.items():
        meaning = SCORES[name].meaning
        yield f"{meaning.label} {meaning.show_with_unit(value)}"


def _tiles(run: Run) -> Iterator[Tile]:
    summary = load_summary(run.output)
    yield Tile("Translated", f"{summary['rows'].get('ok', 0):,}", f"Rows of {run.source}, by {STAGE}.")
    for name, value in summary["metrics"].items():
        score, _, factor = name.partition("/")
        meaning = SCORES[score].meaning
        yield Tile(f"{meaning.label} {factor}".rstrip(), meaning.show_with_unit(value), meaning.sentence)
