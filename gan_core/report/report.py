"""One HTML file about a run: nothing outside it is needed to look at it."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from gan_core.edits.plan import plan_edits
from gan_core.recipes.base import recipe_of
from gan_core.report.gallery import gallery
from gan_core.report.metrics import Meaning, parse_score
from gan_core.report.numbers import make_plots, make_tiles, measure_effects, measure_gains
from gan_core.report.pictures import Strips, read_strips
from gan_core.report.rows import Line, Rows, read_rows_of
from gan_core.report.stages import summarise_stages
from gan_core.report.totals import read_totals
from gan_core.report.translations import translation_gallery
from gan_core.runs.run import Run, load_run
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import base_name, join_url

REPORT = "report.html"


@dataclass(frozen=True)
class Picture:
    """A picture of a row with the scores to show under it: short label, number, and what it means."""

    name: str
    url: str
    scores: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Strip:
    """A row and its pictures, in order; ``note`` is shown beside the key."""

    line: Line
    pictures: list[Picture]
    note: str = ""


def write_report(output: str) -> str:
    """Write ``OUTPUT/report.html`` about the finished run in ``output`` and return its path.

    Reads the run's folder and, for the pictures as they came, its source if that is still there. All scores are read,
    but only the pictures of the rows that are shown. Raises ``DataError`` if there is no finished run.
    """
    run = load_run(output)
    path = join_url(output, REPORT)
    page = _page(run)
    write_bytes(path, page.encode())
    return path


def _page(run: Run) -> str:
    recipe = recipe_of(run).name
    if recipe == "translate":
        return render_translations(run)
    return render_gallery(run) if recipe == "compose" else render(run)


def render_translations(run: Run) -> str:
    """Return the page about a finished run that translated."""
    template = _environment().get_template("translations.html.j2")
    shown = translation_gallery(run)
    return template.render(name=base_name(run.output), run=run, stages=summarise_stages(run), **shown)


def render_gallery(run: Run) -> str:
    """Return the page about a finished run that composed."""
    template = _environment().get_template("gallery.html.j2")
    return template.render(name=base_name(run.output), run=run, stages=summarise_stages(run), **gallery(run))


def render(run: Run) -> str:
    """Return the page about a finished run."""
    rows, totals, plan = read_rows_of(run), read_totals(run), plan_edits(run.params.edits)
    strips = read_strips(run, [*rows.sample, *rows.worst], ("source", *run.stages))
    failed = read_strips(run, rows.failed, ("source",))
    gains, effects = measure_gains(rows), measure_effects(rows, plan, _layers(run), _orders(run))
    ranked_by = parse_score(rows.ranked_by) if rows.ranked_by else None
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            name=base_name(run.source),
            run=run,
            rows=rows,
            tiles=make_tiles(rows, gains, effects, totals.headlines),
            gains=gains,
            effects=effects,
            plots=make_plots(rows, plan),
            totals=totals,
            sample=[_strip(line, strips) for line in rows.sample],
            worst=[_strip(line, strips, rows.ranked_by) for line in rows.worst],
            ranked_by=ranked_by,
            failures=[(line, failed[line.shard, line.position].get("source")) for line in rows.failed],
            failed_counts=_failed_counts(rows),
            stages=summarise_stages(run),
            params=json.dumps(run.params.model_dump(mode="json"), indent=1),
        )
    )


def show_invisible(text: str) -> str:
    """Write control characters and marks that turn the direction of writing as escapes: a name can't deceive then."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _environment() -> Environment:
    loader = PackageLoader("gan_core.report", "templates")
    environment = Environment(
        loader=loader,
        autoescape=select_autoescape(["html.j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["change"] = Meaning("", "", 2, "", signed=True).show
    environment.filters["visible"] = show_invisible
    return environment


def _strip(line: Line, strips: Strips, note: str | None = None) -> Strip:
    pictures = strips[line.shard, line.position]
    said = f"{parse_score(note).meaning.label} {parse_score(note).meaning.show(line.scores[note])}" if note else ""
    return Strip(line, [Picture(name, url, _captions(line.scores, name)) for name, url in pictures.items()], said)


def _captions(scores: Mapping[str, float], picture: str) -> list[tuple[str, str, str]]:
    found = [(parse_score(name), value) for name, value in scores.items() if name.partition("/")[2] == picture]
    found.sort(key=lambda item: not item[0].meaning.signed)  # what an edit is for comes first
    times = Counter(score.metric for score, _ in found)
    return [
        (
            _short(score.meaning.label, times[score.metric]),
            score.meaning.show(value),
            f"{score.name}: {score.meaning.sentence}",
        )
        for score, value in found
    ]


def _short(label: str, times: int) -> str:
    return label.partition(" (")[0] if times == 1 else label


def _failed_counts(rows: Rows) -> list[tuple[str, str, int]]:
    counts = ((status, stage, n) for (status, stage), n in rows.counts.items() if status != "ok")
    return sorted(counts, key=lambda item: (-item[2], item[0]))


def _layers(run: Run) -> dict[str, str]:
    return {edit["column"]: f"{edit['layers'][0]}–{edit['layers'][1] - 1}" for edit in _plan(run) if "layers" in edit}


def _orders(run: Run) -> dict[str, str]:
    """In which order an edit of several moves made them, where that counts."""
    several = [edit for edit in _plan(run) if edit.get("in_order") and len(edit["moves"]) > 1]
    return {edit["column"]: ", then ".join(name for name, _ in edit["moves"]) for edit in several}


def _plan(run: Run) -> Iterable[Mapping[str, Any]]:
    plan: Iterable[Mapping[str, Any]] = run.identities.get("edit", {}).get("plan", [])
    return plan
