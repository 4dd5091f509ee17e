"""Parts of the pages of every recipe: row counts, scores, rejected rows, stages and parameters."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from gan_core.metrics.names import Score
from gan_core.pages.page import (
    Caption,
    Cell,
    Cells,
    Column,
    Details,
    Example,
    Examples,
    Picture,
    Section,
    Strip,
    Table,
    Text,
    Tile,
)
from gan_core.pages.pictures import Images, read_images
from gan_core.pages.rows import Line, Rows, explainer
from gan_core.pages.stages import StageSummary, summarise_stages
from gan_core.runs.run import SOURCE, Run
from gan_core.runs.summary import find_summary
from gan_core.secrets import hide

TAIL = 0.05
"""The share of rows beyond the value that tables give for the worst rows."""


def outcome_tiles(rows: Rows) -> Iterator[Tile]:
    """Say how many rows finished, with which flags, and how many were rejected."""
    failed = rows.total - rows.ok
    words = {flag: flag.capitalize().replace("_", " ") for flag in rows.flags}
    flags = "".join(f" {words[flag]}: {n:,}." for flag, n in sorted(rows.flags.items()))
    yield Tile("Finished", f"{rows.ok:,}", "Rows that passed all stages." + flags)
    yield Tile("Rejected", f"{failed:,}", "The reasons are given below." if failed else "No row was rejected.")


def read_numbers(run: Run, rows: Rows) -> dict[Score, float]:
    """Read the numbers of ``summary.json``, those of the rows' scores first and in their order."""
    explain, order = explainer(run), [score.metric for score in rows.scores.values()]
    numbers = {explain(name): value for name, value in find_summary(run.output)["metrics"].items()}
    place = {metric: order.index(metric) for metric in order}
    return dict(sorted(numbers.items(), key=lambda item: place.get(item[0].metric, len(order))))


def number_tiles(numbers: Mapping[Score, float]) -> Iterator[Tile]:
    """Show the first metrics of a run."""
    for score, value in numbers.items():
        meaning = score.meaning
        if meaning.headline:
            label = f"{meaning.label}, {score.picture}" if score.picture else meaning.label
            yield Tile(label, meaning.show_with_unit(value), meaning.sentence)


def make_strip(rows: Rows, line: Line, images: Images, notes: Sequence[str] = ()) -> Strip:
    """Put a row's images side by side, with the scores of each below it."""
    found = images[line.shard, line.position]
    return Strip(line.key, [make_picture(rows, line, name, url) for name, url in found.items()], notes)


def make_picture(rows: Rows, line: Line, name: str, url: str) -> Picture:
    """Put the scores of an image below it, the change that an edit is for first."""
    scores = [score for score in rows.scores.values() if score.picture == name and score.name in line.scores]
    scores.sort(key=lambda score: not score.meaning.signed)
    metrics = [score.metric for score in scores]
    captions = [_caption(score, line.scores[score.name], metrics.count(score.metric) == 1) for score in scores]
    return Picture(name, url, f"{name} image of {line.key}", captions)


def _caption(score: Score, value: float, alone: bool) -> Caption:
    """Keep it short: extractors are named only where two of them score the image."""
    label = score.meaning.label.removesuffix(f" ({score.extractor})") if alone else score.meaning.label
    return Caption(label, score.meaning.show(value), f"{score.name}: {score.meaning.help}")


def note(line: Line, score: Score) -> str:
    """Write a row's score with its label and unit."""
    return f"{score.meaning.label} {score.meaning.show_with_unit(line.scores[score.name])}"


def scores_table(rows: Rows, scores: Iterable[Score]) -> Table:
    """Mean and median of scores over all finished rows, and the value that the worst twentieth is beyond."""
    heads = [Column("score", number=False), Column("mean"), Column("median"), Column("worst 5 %")]
    return Table(heads, [_score_row(score, rows.values_of(score)) for score in scores if len(rows.values_of(score))])


def _score_row(score: Score, values: np.ndarray) -> Cells:
    meaning = score.meaning
    label = Cell(f"{meaning.label}, {score.picture}" if score.picture else meaning.label, meaning.help)
    worst = meaning.show(worst_value(score, values)) if meaning.better else ""
    return [label, meaning.show(float(values.mean())), meaning.show(float(np.median(values))), worst]


def worst_value(score: Score, values: np.ndarray) -> float:
    """Return the value that the worst twentieth of the rows is beyond."""
    return float(np.quantile(values, TAIL if score.meaning.better == "higher" else 1 - TAIL))


def rejected_section(run: Run, rows: Rows, pictured: bool = True) -> list[Section]:
    """Count rejected rows by status and stage and show some of each; no section where there are none."""
    failed = rows.total - rows.ok
    if not failed:
        return []
    images = read_images(run, rows.failed, [SOURCE] if pictured else [])
    examples = [_example(line, images, pictured) for line in rows.failed]
    said = f"{failed:,} of {rows.total:,} rows {'was' if failed == 1 else 'were'} rejected. They stay in the output, "
    said += "each with its status; no row is dropped."
    if len(examples) < failed:
        said += f" {len(examples)} of them are shown, some of every status."
    counts = sorted(((n, *key) for key, n in rows.counts.items() if key[0] != "ok"), key=lambda c: (-c[0], c[1]))
    table: list[Cells] = [[Cell(status, badge=True), stage, f"{n:,}"] for n, status, stage in counts]
    heads = [Column("status", number=False), Column("stage", number=False), Column("rows")]
    return [Section("Rejected rows", "rejected", [Text(said), Table(heads, table), Examples(examples)])]


def _example(line: Line, images: Images, pictured: bool) -> Example:
    url = images[line.shard, line.position].get(SOURCE)
    return Example(line.key, line.status, line.stage, line.reason, url, pictured)


def stages_section(run: Run) -> Section:
    """Show what each stage did, what determined its output, and the parameters of the run."""
    stages = summarise_stages(run)
    heads = ["shards", "rows ok", "rows not ok", "seconds", "rows per second"]
    table = Table([Column("stage", number=False), *map(Column, heads)], [_stage_row(stage) for stage in stages])
    said = "Seconds are the sum over all workers. A skipped shard counts with the time that it took when it was made."
    details = [_stage_details(stage) for stage in stages]
    parameters = Details("All parameters", [json.dumps(run.params.model_dump(mode="json"), indent=1)])
    source = Text("Source:", hide(run.source))
    return Section("Stages and hashes", "stages", [Text(said), table, *details, parameters, source])


def _stage_row(stage: StageSummary) -> Cells:
    failed = stage.rows.total() - stage.ok
    return [stage.name, f"{stage.shards:,}", f"{stage.ok:,}", f"{failed:,}", f"{stage.seconds:.1f}", stage.speed]


def _stage_details(stage: StageSummary) -> Details:
    hashes = "\n".join(f"{sha256}  {shard}" for shard, sha256 in stage.hashes)
    more = stage.shards - len(stage.hashes)
    said = f"{stage.name}: parameters and networks that determine its output, and the sha256 of its shards"
    return Details(said, [stage.identity, f"{hashes}\nand {more:,} more" if more else hashes])
