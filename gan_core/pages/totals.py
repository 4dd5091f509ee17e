"""The numbers about the dataset as a whole, from ``summary.json``."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from gan_core.meaning import Meaning
from gan_core.metrics.names import Score
from gan_core.pages.numbers import STEP
from gan_core.pages.page import Block, Cell, Cells, Column, Table, Text, Tile
from gan_core.pages.rows import Rows, explainer
from gan_core.runs.run import Run
from gan_core.runs.summary import find_summary


@dataclass(frozen=True)
class Total:
    """One metric of sets of pictures with its value for each picture of ``Totals.pictures``, if it was computed."""

    meaning: Meaning
    values: dict[str, float]


@dataclass(frozen=True)
class Totals:
    """All metrics of sets of pictures, and the names of those that were left out, by reason."""

    pictures: list[str] = field(default_factory=list)
    table: list[Total] = field(default_factory=list)
    omitted: dict[str, list[str]] = field(default_factory=dict)


def read_totals(run: Run, rows: Rows) -> Totals:
    """Read the metrics that compare sets; means over rows are left out, a page computes its own."""
    summary, explain = find_summary(run.output), explainer(run)
    found = {explain(name): v for name, v in summary["metrics"].items() if name not in rows.scores}
    pictures = sorted({score.picture for score in found}, key=_order)
    omitted: dict[str, list[str]] = {}
    for name, reason in summary["omitted"].items():
        omitted.setdefault(reason, []).append(name)
    return Totals(pictures, list(_table(found)), omitted)


def totals_table(totals: Totals, head: str) -> list[Block]:
    """Put the metrics of sets into a table under ``head``, and say which were left out and why."""
    rows: list[Cells] = [
        [Cell(t.meaning.label, t.meaning.help), *(_show(t, picture) for picture in totals.pictures)]
        for t in totals.table
    ]
    heads = [Column(head, number=False), *(Column(picture or "all") for picture in totals.pictures)]
    return [*([Table(heads, rows)] if rows else []), *say_omitted(totals)]


def say_omitted(totals: Totals) -> list[Text]:
    """Say which metrics were left out, and why."""
    return [Text(f"Left out ({reason}): {', '.join(names)}.") for reason, names in totals.omitted.items()]


def _show(total: Total, picture: str) -> str:
    return total.meaning.show(total.values[picture]) if picture in total.values else ""


def total_tiles(totals: Totals) -> Iterator[Tile]:
    """Show the leading metrics of the last reconstruction."""
    for total in totals.table:
        picture = next((picture for picture in STEP if picture in total.values), None)
        if picture and total.meaning.headline:
            value = total.meaning.show_with_unit(total.values[picture])
            yield Tile(f"{total.meaning.label} {STEP[picture]}", value, total.meaning.sentence)


def _table(found: dict[Score, float]) -> Iterator[Total]:
    for _, scores in groupby(sorted(found, key=_metric), key=_metric):
        same = list(scores)
        yield Total(same[0].meaning, {score.picture: found[score] for score in same})


def _metric(score: Score) -> tuple[str, bool, str]:
    return score.metric, not score.meaning.headline, score.extractor


def _order(picture: str) -> tuple[bool, bool, str]:
    return picture != "encoded", picture != "tuned", picture
