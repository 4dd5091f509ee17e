"""The report of a run: one self-contained HTML file."""

from dataclasses import replace

from gan_core.pages.page import Page
from gan_core.recipes.base import recipe_of
from gan_core.report.about import describe_origin, describe_settings, sentences
from gan_core.report.gates_page import gates_section, gates_tile
from gan_core.report.gating import judge
from gan_core.report.render import render
from gan_core.runs.run import Run, load_run
from gan_core.storage.atomic import write_bytes

REPORT = "report.html"
OUTCOMES = 3
"""The tiles of a page begin with its rows, those that finished and those that were rejected."""


def write_report(run: Run | str) -> str:
    """Write ``OUTPUT/report.html`` about a finished run, given itself or by its folder, and return its path.

    Reads the run's folder and, for the source images, its source if that is still there. All scores are read, but only
    the images of the rows that are shown. Raises ``DataError`` if there is no finished run.
    """
    found = load_run(run) if isinstance(run, str) else run
    for shard in found.shards:
        found.require_receipt(found.stages[-1], shard)
    path = found.path(REPORT)
    write_bytes(path, render(page_of(found)).encode())
    return path


def page_of(run: Run) -> Page:
    """Return the page about a finished run: what its recipe says, how it was made, and what its gates keep."""
    made = recipe_of(run).page(run)
    said = [text for text in (made.subtitle, sentences(describe_origin(run))) if text]
    page = replace(made, kicker=f"{made.kicker} · {describe_settings(run)}", subtitle=" ".join(said))
    if not run.params.gates:
        return page
    verdicts = judge(run)
    *sections, stages = page.sections
    return replace(
        page,
        tiles=[*page.tiles[:OUTCOMES], gates_tile(verdicts), *page.tiles[OUTCOMES:]],
        sections=[*sections, gates_section(run, verdicts), stages],
    )
