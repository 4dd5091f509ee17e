"""The page about a composition run: for each entry of its plan some images with their sources."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from gan_core.compose.base import OPERATIONS, SCORES, entry_name
from gan_core.pages.page import Composition, Compositions, Page, Picture, Section, Text, Tile
from gan_core.pages.pictures import row_groups, to_data_url
from gan_core.pages.rows import read_rows_of
from gan_core.pages.sections import number_tiles, outcome_tiles, read_numbers, rejected_section, stages_section
from gan_core.params import CompositionSpec
from gan_core.rows import Row
from gan_core.runs.run import Run
from gan_core.runs.summary import find_summary
from gan_core.stages.compose import INPUTS_SHOWN, describe_entry
from gan_core.storage.images import decode_image
from gan_core.storage.shards import open_shard
from gan_core.storage.urls import base_name

SHOWN = 4
LARGEST_SIDE, LOSSLESS_SIDE = 1536, 768
SMALL = 160
"""Images with a shorter side than this, in pixels, are shown at twice their size."""
SETS = (
    "FID and SWD compare all images of an entry with the images of its sources; wide and tall images are cut into "
    "squares for that."
)


def page(run: Run) -> Page:
    """Return the page about a finished run."""
    rows, found, plan = read_rows_of(run), read_compositions(run, SHOWN), run.params.compose.plan
    numbers, omitted = read_numbers(run, rows), find_summary(run.output)["omitted"]
    first = Tile("Compositions", f"{rows.total:,}", f"Planned from {base_name(run.source)}.")
    return Page(
        heading=base_name(run.output),
        kicker="edit-dataset compositions",
        subtitle=SETS if any(score.metric not in SCORES for score in numbers) else "",
        tiles=[first, *outcome_tiles(rows), *number_tiles(numbers)],
        sections=[
            *(_entry(spec, found.get(entry_name(spec), []), omitted, run) for spec in plan),
            *rejected_section(run, rows, pictured=False),
            stages_section(run),
        ],
    )


def read_compositions(run: Run, limit: int) -> dict[str, list[Row]]:
    """Return the first ``limit`` finished rows of each entry by its name; only their row groups are read."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for shard in run.shards:
        room = {name: limit - len(rows) for name, rows in found.items()}
        with open_shard(run.shard("compose", shard)) as file:
            wanted = set[int]()
            for i, name in enumerate(file.read(columns=["name"])["name"].to_pylist()):
                if name and room.setdefault(name, limit) > 0:
                    room[name] -= 1
                    wanted.add(i)
            for group, start, inside in row_groups(file, wanted):
                for row in file.read_row_group(group).take(np.array(inside) - start).to_pylist():
                    found[row["name"]].append(row)
    return dict(found)


def _entry(spec: CompositionSpec, rows: list[Row], omitted: Mapping[str, str], run: Run) -> Section:
    operation = dict(OPERATIONS).get(spec.operation)  # of a package that may not be installed any more
    sentence = " ".join(((operation and operation.__doc__) or "").split("\n\n")[0].split())
    name, settings = entry_name(spec), describe_entry(spec.model_dump(mode="json"))
    max_pixels = run.params.align.max_pixels
    drawn = Compositions([_composition(name, row, max_pixels) for row in rows]) if rows else Text("None was drawn.")
    left_out = [f"{n.removesuffix(f'/{name}')} {why}" for n, why in omitted.items() if n.endswith(f"/{name}")]
    said = [Text(f"Left out: {'; '.join(left_out)}.")] if left_out else []
    return Section(name, name, [Text(sentence, settings), drawn, *said])


def _composition(entry: str, row: Row, max_pixels: int) -> Composition:
    more = len(row["sources"]) - INPUTS_SHOWN
    sources = ", ".join(row["sources"][:INPUTS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    scores = [f"{m.label} {m.show_with_unit(row[name])}" for name, m in SCORES.items() if row[name] is not None]
    made = _picture(row["image"]["bytes"], max_pixels, entry, f"{entry} of {sources}")
    return Composition(row["key"], made, _picture(row["inputs"]["bytes"], max_pixels, sources, sources), scores)


def _picture(data: bytes, max_pixels: int, name: str, alt: str) -> Picture:
    url = to_data_url(data, max_pixels, LARGEST_SIDE, LOSSLESS_SIDE)
    if url is None:
        return Picture(name, None, alt)
    width, height = decode_image(data, max_pixels).size
    return Picture(name, url, alt, width=2 * width if min(width, height) < SMALL else width)
