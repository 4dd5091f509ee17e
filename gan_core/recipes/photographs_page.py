"""The page about a run of photographs: views and damages of each face, and whether the judges order them rightly."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gan_core.judges.dlib_resnet import SAME_PERSON
from gan_core.meaning import Meaning
from gan_core.metrics.base import ALIGNED
from gan_core.metrics.names import Score, find_score
from gan_core.metrics.photographs import IdentityDistance, IdentityPairs
from gan_core.pages.page import Block, Cell, Cells, Column, Page, Section, Strip, Strips, Table, Text, Tile
from gan_core.pages.pictures import Images, read_images
from gan_core.pages.rows import Line, Rows, read_rows_of
from gan_core.pages.sections import make_picture, outcome_tiles, rejected_section, stages_section
from gan_core.pages.totals import read_totals, totals_table
from gan_core.recipes.photographs import ORDER
from gan_core.runs.run import SOURCE, Run
from gan_core.runs.summary import find_summary
from gan_core.stages.damage import DAMAGES, GREY, VIEWS
from gan_core.stages.paste import SUFFIX
from gan_core.storage.urls import base_name

CAPTIONS = ("identity-distance", "perceptual")
"""Metrics that stand below pictures; the tables have all."""
SHOWN = 2
"""Faces whose damages are shown."""
RIGHT = 0.9
"""Below this correlation a judge does not order a damage rightly."""
CORRELATION = Meaning("", digits=2)
SUBTITLE = (
    "No generator was given, so nothing is inverted or edited: each face is compared with other pictures of itself, "
    "damaged ones and undamaged ones."
)


def page(run: Run) -> Page:
    """Return the page about a finished run."""
    rows = read_rows_of(run)
    summary = find_summary(run.output)
    numbers = {find_score(name): value for name, value in summary["metrics"].items()}
    order = summary.get(ORDER, {})
    images = read_images(run, rows.sample, (SOURCE, *run.stages))
    captioned = replace(rows, scores={n: s for n, s in rows.scores.items() if s.metric in CAPTIONS})
    return Page(
        heading=base_name(run.source),
        kicker="edit-dataset photographs",
        subtitle=SUBTITLE,
        tiles=[
            Tile("Rows", f"{rows.total:,}", f"From {base_name(run.source)}; every row is in the output."),
            *outcome_tiles(rows),
            *_order_tile(order),
        ],
        sections=[
            _faces(captioned, images),
            *_people(numbers),
            *_order(order, rows.ok),
            *_damages(captioned, images),
            *rejected_section(run, rows),
            *_scores(numbers),
            *_omitted(run, rows),
            stages_section(run),
        ],
    )


def _order_tile(order: dict[str, dict[str, float]]) -> list[Tile]:
    found = [value for kinds in order.values() for value in kinds.values()]
    if not found:
        return []
    right = sum(value >= RIGHT for value in found)
    said = f"Pairs of a judge and a kind of damage whose order is right: a correlation of {RIGHT} or more."
    return [Tile("In the right order", f"{right} of {len(found)}", said)]


def _faces(rows: Rows, images: Images) -> Section:
    if not rows.sample:
        return Section("Faces", "faces", [Text("No row passed all stages.")])
    said = (
        f"{len(rows.sample)} of {rows.ok:,} finished rows: the photograph, the aligned face, the same face cut a "
        "little aside, mirrored and in grey, and the grey face pasted back. Distances are from the aligned face."
    )
    names = (SOURCE, ALIGNED, *VIEWS, f"{GREY}{SUFFIX}")
    return Section("Faces", "faces", [Text(said), Strips([_strip(rows, r, images, names) for r in rows.sample])])


def _damages(rows: Rows, images: Images) -> list[Section]:
    if not rows.sample:
        return []
    said = Text(
        "Each damage in five strengths, the weakest first, with the distances from the aligned face. The number is, "
        "for blur, the standard deviation in pixels of a face of 256; for noise, that in levels of 255; for jpeg, the "
        "quality; for scale, the factor by which the face was reduced."
    )
    strips = [
        _strip(rows, line, images, [f"{kind}@{s:g}" for s in strengths], f"{line.key}: {kind}")
        for line in rows.sample[:SHOWN]
        for kind, strengths in DAMAGES.items()
    ]
    return [Section("Damages", "damages", [said, Strips(strips)])]


def _strip(rows: Rows, line: Line, images: Images, names: Iterable[str], key: str = "") -> Strip:
    found = images[line.shard, line.position]
    return Strip(key or line.key, [make_picture(rows, line, name, found[name]) for name in names if name in found])


def _people(numbers: dict[Score, float]) -> list[Section]:
    found = {s.metric: (s, v) for s, v in numbers.items() if s.picture == ALIGNED}
    apart = [found[metric] for metric in IdentityPairs.meanings if metric in found]
    same = [(s, v) for s, v in numbers.items() if s.metric == IdentityDistance.name and s.picture in VIEWS]
    if not apart or not same:
        return []
    said = Text(
        f"Mean identity distances of two pictures of one person, and of the aligned faces of two rows. Below "
        f"{SAME_PERSON} two faces count as one person. If two rows show one person, the smallest distance is small."
    )
    rows: list[Cells] = [[f"one person: aligned and {s.picture}", s.meaning.show(v)] for s, v in same]
    rows += [[s.meaning.sentence.rstrip("."), s.meaning.show(v)] for s, v in apart]
    return [Section("People", "people", [said, Table([Column("pictures", number=False), Column("value")], rows)])]


def _order(order: dict[str, dict[str, float]], faces: int) -> list[Section]:
    if not order:
        return []
    wrong = [f"{_label(j)} with {kind}" for j, kinds in order.items() for kind, v in kinds.items() if v < RIGHT]
    said = Text(
        "Whether the mean scores have the order of the strengths (Spearman's correlation): 1 where each stronger "
        f"damage scores higher. A judge that has less than {RIGHT} is not to be trusted with that damage; over few "
        f"faces, here {faces:,}, it can have less by chance. Below it: {', '.join(wrong) or 'none'}."
    )
    heads = [Column("judge", number=False), *map(Column, DAMAGES)]
    table: list[Cells] = [
        [_label(judge), *(CORRELATION.show(kinds[kind]) if kind in kinds else "" for kind in DAMAGES)]
        for judge, kinds in order.items()
    ]
    return [Section("Order of damages", "order", [said, Table(heads, table)])]


def _label(judge: str) -> str:
    return find_score(f"{judge}/").meaning.label


def _scores(numbers: dict[Score, float]) -> list[Section]:
    tables = [block for kind, strengths in DAMAGES.items() for block in _kind(numbers, kind, strengths)]
    said = Text("Means over all finished rows, by the strength of the damage.")
    return [Section("Scores", "scores", [said, *tables])] if tables else []


def _kind(numbers: dict[Score, float], kind: str, strengths: Sequence[float]) -> list[Block]:
    pictures = [f"{kind}@{strength:g}" for strength in strengths]
    judges = {(s.metric, s.extractor): s for s in numbers if s.picture in pictures}
    values = {(s.metric, s.extractor, s.picture): v for s, v in numbers.items()}
    table: list[Cells] = []
    for judge, score in judges.items():
        found = [values.get((*judge, picture)) for picture in pictures]
        cells = ["" if value is None else score.meaning.show(value) for value in found]
        table.append([Cell(score.meaning.label, score.meaning.help), *cells])
    heads = [Column(kind, number=False), *(Column(picture) for picture in pictures)]
    return [Table(heads, table)] if table else []


def _omitted(run: Run, rows: Rows) -> list[Section]:
    blocks = totals_table(replace(read_totals(run, rows), table=[]), "")
    return [Section("Left out", "left-out", blocks)] if blocks else []
