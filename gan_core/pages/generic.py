"""The page about a run of any recipe: its metrics, some rows with all their images, and the rejected rows."""

from itertools import islice

from gan_core.metrics.names import Score
from gan_core.pages.page import Page, Plot, Plots, Section, Strips, Text, Tile
from gan_core.pages.pictures import read_images
from gan_core.pages.plots import COLOURS, histogram
from gan_core.pages.rows import Rows, read_rows_of
from gan_core.pages.sections import (
    make_strip,
    note,
    number_tiles,
    outcome_tiles,
    read_numbers,
    rejected_section,
    scores_table,
    stages_section,
)
from gan_core.pages.totals import read_totals, totals_table
from gan_core.runs.run import SOURCE, Run
from gan_core.storage.urls import base_name

MOST_TILES = 12
"""Further metrics are in the tables only, so that the tiles can be read quickly."""


def page(run: Run) -> Page:
    """Return the page about a finished run."""
    rows = read_rows_of(run)
    rows_tile = Tile("Rows", f"{rows.total:,}", f"From {base_name(run.source)}, through {' → '.join(run.stages)}.")
    return Page(
        heading=base_name(run.output),
        kicker=f"edit-dataset {run.recipe}",
        tiles=[rows_tile, *outcome_tiles(rows), *islice(number_tiles(read_numbers(run, rows)), MOST_TILES)],
        sections=[
            images_section(run, rows),
            *rejected_section(run, rows),
            *scores_section(rows),
            *totals_section(run, rows),
            stages_section(run),
        ],
    )


def images_section(run: Run, rows: Rows) -> Section:
    """Show some rows with all images that stages made of them; scores that belong to no image stand beside the key."""
    if not rows.sample:
        return Section("Images", "images", [Text("No row passed all stages.")])
    images = read_images(run, rows.sample, (SOURCE, *run.stages))
    said = f"{len(rows.sample)} of {rows.ok:,} finished rows, chosen by the hash of their key."
    strips = []
    for line in rows.sample:
        shown = images[line.shard, line.position]
        beside = [score for score in rows.scores.values() if score.picture not in shown and score.name in line.scores]
        strips.append(make_strip(rows, line, images, [note(line, score) for score in beside]))
    return Section("Images", "images", [Text(said), Strips(strips)])


def scores_section(rows: Rows) -> list[Section]:
    """Every score of the last stage in a table and a plot; no section where there is none."""
    scores = [score for score in rows.scores.values() if len(rows.values_of(score))]
    if not scores:
        return []
    said = Text("Over all finished rows. Dashed lines are medians.")
    same: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        same.setdefault((score.metric, score.extractor), []).append(score)
    plots = Plots([_plot(rows, each[:COLOURS]) for each in same.values()])
    return [Section("Scores", "scores", [said, scores_table(rows, scores), plots])]


def _plot(rows: Rows, same: list[Score]) -> Plot:
    meaning, series = same[0].meaning, {score.picture: rows.values_of(score) for score in same}
    return Plot(meaning.label, histogram(series, meaning, meaning.label), tuple(filter(None, series)))


def totals_section(run: Run, rows: Rows) -> list[Section]:
    """The numbers about the dataset as a whole; no section where there is none."""
    table = totals_table(read_totals(run, rows), "number")
    return [Section("Whole dataset", "dataset", table)] if table else []
