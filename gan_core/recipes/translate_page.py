"""The page about a translation run: its scores, and rows as input, output, variants and ground truth."""

from collections.abc import Sequence

from gan_core.edits.plan import known_edits
from gan_core.pages.generic import scores_section
from gan_core.pages.page import Page, Picture, Section, Strip, Strips, Text, Tile
from gan_core.pages.pictures import Images, image_name, name_images, read_images
from gan_core.pages.rows import Line, Rows, read_rows_of
from gan_core.pages.sections import note, number_tiles, outcome_tiles, read_numbers, rejected_section, stages_section
from gan_core.pages.totals import read_totals, say_omitted
from gan_core.params import TranslateParams
from gan_core.runs.run import SOURCE, Run
from gan_core.stages.translate import INPUT, OUTPUT, TranslateStage
from gan_core.storage.urls import base_name
from gan_core.translation.inputs import INPUTS
from gan_core.translation.tasks import TASKS

TRUTH = "truth"
RESAMPLED = {
    "nearest": "the nearest class (label_resampling: nearest)",
    "bilinear": "interpolated class ids, as in pSp's code (label_resampling: bilinear)",
}


def page(run: Run) -> Page:
    """Return the page about a finished run."""
    rows = read_rows_of(run)
    images = read_images(run, rows.sample, (SOURCE, *run.stages))
    rows_tile = Tile("Rows", f"{rows.total:,}", f"From {base_name(run.source)}.")
    return Page(
        heading=f"{run.params.translate.task}: {base_name(run.output)}",
        kicker="edit-dataset translations",
        tiles=[rows_tile, *outcome_tiles(rows), *number_tiles(read_numbers(run, rows))],
        sections=[
            _images(run, rows, images),
            *rejected_section(run, rows),
            *scores_section(rows),
            stages_section(run),
        ],
    )


def _images(run: Run, rows: Rows, images: Images) -> Section:
    if not rows.sample:
        return Section("Images", "images", [Text("No row was translated.")])
    settings = run.params.translate
    said = (
        f"{len(rows.sample)} of {rows.ok:,} finished rows, chosen by the hash of their key: the encoder's input, the "
        "output, its variants, and the ground truth where it is known."
    )
    if INPUTS.get(TASKS.get(settings.task).input_kind).from_labels:
        said += (
            f" Label maps of another size than the encoder's were resized with {RESAMPLED[settings.label_resampling]}."
        )
    strips = Strips([_strip(run, rows, line, images) for line in rows.sample])
    return Section("Images", "images", [Text(said), *say_omitted(read_totals(run, rows)), strips])


def _strip(run: Run, rows: Rows, line: Line, images: Images) -> Strip:
    found, settings = images[line.shard, line.position], run.params.translate
    variants = [picture.column for picture in known_edits(settings.variants)]
    names = {name: name for name in (INPUT, OUTPUT, *variants)} | {TRUTH: _truth(settings, variants)}
    pictures = [
        Picture(shown, found[name], f"{shown} image of {line.key}") for shown, name in names.items() if name in found
    ]
    return Strip(line.key, pictures, [note(line, score) for score in rows.scores.values() if score.name in line.scores])


def _truth(settings: TranslateParams, variants: Sequence[str]) -> str:
    """Return what the ground truth is called among the images of a row."""
    if settings.align:
        return image_name("align", "image")
    truth = SOURCE, settings.column if settings.made else settings.truth
    drawn = ((TranslateStage.name, column) for column in (INPUT, OUTPUT, *variants))
    return name_images({*drawn, (SOURCE, "image"), truth})[truth]
