"""SOAT and SinGAN side by side: ``python -m benchmarks.singan``.

It trains nothing. It prints means over seeds of what ``python -m gan_core.toy.training.singan_study`` stored;
``--page`` writes them into ``docs/singan.md``, with a picture that the kept trainings draw. RESULT has the mean of each
measure by method, where there are rows.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.claims import mean_of, page_with
from benchmarks.harness import print_result
from gan_core.device import compute_on
from gan_core.errors import ParamsError
from gan_core.params import load_params
from gan_core.precision import prepare_worker
from gan_core.toy.params import load_toy_params
from gan_core.toy.training.singan_study import NAME, TARGET, singan_study
from gan_core.training.log import FOLDER, tile
from gan_core.training.singan_study import COLLAGE, SINGAN, SOAT, Made, SinganStudy
from gan_core.training.study import Row

PAGE, PICTURE = Path("docs/singan.md"), Path("docs/singan.jpg")
MEASURED = "<!-- measured -->"
NOT_YET = "Nothing is measured yet: `python -m gan_core.toy.training.singan_study --workers 2` trains and measures."
CAPTION = (
    "From left to right: a portrait; in twice its width by SinGAN, and by SOAT (the first of `extensions`); with the "
    "next portrait from left to right as a collage, by SinGAN and by SOAT, and from top to bottom as well"
)
SHOWN = 6
"""Portraits in the picture."""
NO_MEASURES = ("method", "seed", "pictures")
QUALITY = 92


def table_of(rows: Sequence[Row]) -> str:
    """Return means ± deviations over seeds, in Markdown: a row for each measure, a column for each method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    measures = [name for name in rows[0] if name not in NO_MEASURES]
    lines = [f"| measure | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for measure in measures:
        these = [[row for row in rows if row["method"] == method and measure in row] for method in methods]
        lines.append(f"| {measure} | {' | '.join(mean_of(part, measure) if part else '' for part in these)} |")
    return "\n".join(lines)


def strips(pictures: Tensor, made: dict[str, Made], samples: int) -> Tensor:
    """Return a strip ``[3, H, 9 W]`` of each portrait, as ``CAPTION`` says, ``[N, 3, H, ...]``."""
    blends = [made[method].blends[axis] for axis in made[COLLAGE].blends for method in (COLLAGE, SINGAN, SOAT)]
    wide = [found[::samples] for method in (SINGAN, SOAT) if (found := made[method].wide) is not None]
    return torch.cat([pictures, *wide, *blends], 3)


def drawn(study: SinganStudy, seeds: Sequence[int], folder: Path) -> Image.Image:
    """Draw the strips of seeds whose trainings are kept in ``folder``; raises ``ParamsError`` where they aren't."""
    made = ((study.group(seed), study.make(seed, study.trained(seed, folder))) for seed in seeds)
    return tile(torch.cat([strips(*each, study.params.samples) for each in made])[:SHOWN], 1)


def write_page(rows: Sequence[Row]) -> None:
    """Write the table, and the picture of the first seeds, into the page."""
    text = NOT_YET
    if rows:
        params = load_params()
        with compute_on(params.run.device):
            study, seeds = singan_study(load_toy_params(), params), sorted({row["seed"] for row in rows})
            picture = drawn(study, seeds[: math.ceil(SHOWN / study.params.pictures)], FOLDER / NAME)
        picture.save(PICTURE, quality=QUALITY)
        so_far = f"{len(seeds)} of {len(study.params.seeds)} seeds are done; ± is the standard deviation over seeds."
        text = f"![{CAPTION}]({PICTURE.name})\n\n{CAPTION}.\n\n{so_far}\n\n{table_of(rows)}"
    PAGE.write_text(page_with(PAGE.read_text(), {MEASURED: text}))


def main() -> None:
    """Print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help=f"write {PAGE} and its picture")
    options = parser.parse_args()
    prepare_worker()
    rows: list[Row] = json.loads(TARGET.read_text())["rows"] if TARGET.exists() else []
    print(table_of(rows) if rows else NOT_YET)
    if options.page:
        try:
            write_page(rows)
        except ParamsError as error:
            parser.error(str(error))
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        these = [other for other in rows if other["method"] == row["method"]]
        names = [name for name in row if name not in NO_MEASURES]
        found[row["method"]] = {name: statistics.fmean(other[name] for other in these) for name in names}
    print_result(**found)


if __name__ == "__main__":
    main()
