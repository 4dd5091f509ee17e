"""The numbers about the dataset as a whole, from ``summary.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gan_core.report.metrics import Meaning, explain_total
from gan_core.runs.run import Run
from gan_core.runs.summary import load_summary

OF_SETS = ("fid", "swd")


@dataclass(frozen=True)
class Total:
    """One metric of sets of pictures, with its value for each picture of ``Totals.pictures`` (empty: not computed)."""

    meaning: Meaning
    values: list[str]


@dataclass(frozen=True)
class Totals:
    """All metrics of sets of pictures; ``headlines`` are the most telling of them, ``omitted`` are names by reason."""

    pictures: list[str] = field(default_factory=list)
    table: list[Total] = field(default_factory=list)
    headlines: dict[str, float] = field(default_factory=dict)
    omitted: dict[str, list[str]] = field(default_factory=dict)


def read_totals(run: Run) -> Totals:
    """Read the metrics that compare sets; means over rows are left out, the report computes its own."""
    try:
        summary = load_summary(run.output)
    except (FileNotFoundError, ValueError):
        return Totals()
    values = {name: value for name, value in summary["metrics"].items() if name.partition("/")[0] in OF_SETS}
    split = {name: tuple(name.rsplit("/", 1)) for name in values}
    pictures = sorted({picture for _, picture in split.values()}, key=_order)
    metrics = list(dict.fromkeys(metric for metric, _ in split.values()))
    table = [_total(metric, pictures, values) for metric in metrics]
    omitted: dict[str, list[str]] = {}
    for name, reason in summary["omitted"].items():
        omitted.setdefault(reason, []).append(name)
    return Totals(pictures, table, _headlines(values), omitted)


def _total(metric: str, pictures: list[str], values: Mapping[str, float]) -> Total:
    meaning = explain_total(metric)
    cells = [values.get(f"{metric}/{picture}") for picture in pictures]
    return Total(meaning, ["" if cell is None else meaning.show(cell) for cell in cells])


def _headlines(values: Mapping[str, float]) -> dict[str, float]:
    found = {}
    for kind in OF_SETS:
        names = [name for name in values if name.startswith(f"{kind}/")]
        for picture in ("tuned", "encoded"):
            ending = ("/mean/" if kind == "swd" else "/") + picture
            if name := next((n for n in names if n.endswith(ending)), None):
                found[name] = values[name]
                break
    return found


def _order(picture: str) -> tuple[bool, bool, str]:
    return picture != "encoded", picture != "tuned", picture
