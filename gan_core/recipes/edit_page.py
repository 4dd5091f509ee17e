"""The page about an edited and measured dataset: rows as strips, what tuning gained, what each edit changed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gan_core.edits.plan import known_edits
from gan_core.judges.domain import FLAG
from gan_core.meaning import Meaning
from gan_core.pages.numbers import (
    Effect,
    Gain,
    effect_tiles,
    gain_tiles,
    make_plots,
    measure_effects,
    measure_gains,
)
from gan_core.pages.page import Cell, Cells, Column, Page, Plot, Plots, Section, Strips, Table, Text, Tile
from gan_core.pages.pictures import Images, read_images
from gan_core.pages.rows import Line, Rows, read_rows_of
from gan_core.pages.sections import make_strip, note, outcome_tiles, rejected_section, stages_section
from gan_core.pages.totals import Totals, read_totals, total_tiles, totals_table
from gan_core.runs.run import SOURCE, Run
from gan_core.runs.summary import find_summary
from gan_core.storage.urls import base_name

CHANGE = Meaning("", digits=2, signed=True)
OUTLIERS = 8
"""Rows out of the generator's domain that are shown."""


def page(run: Run) -> Page:
    """Return the page about a finished run."""
    rows, plan = read_rows_of(run), known_edits(run.params.edits)
    images, totals = read_images(run, [*rows.sample, *rows.worst], (SOURCE, *run.stages)), read_totals(run, rows)
    outliers = find_summary(run.output).get(FLAG, {})
    rows.flags |= Counter({FLAG: outliers.get("rows", 0)})
    gains, effects = measure_gains(rows), measure_effects(rows, plan, _layers(run), _orders(run))
    rows_tile = Tile("Rows", f"{rows.total:,}", "Every row of the dataset is in the output, with a status.")
    return Page(
        heading=base_name(run.source),
        kicker="edit-dataset report",
        tiles=[
            rows_tile,
            *outcome_tiles(rows),
            *_outlier_tiles(outliers),
            *gain_tiles(gains),
            *effect_tiles(effects),
            *total_tiles(totals),
        ],
        sections=[
            _sample(rows, images),
            *_worst(rows, images),
            *_outliers(run, rows, outliers),
            *rejected_section(run, rows),
            *_inversion(gains),
            *_edits(effects),
            *_distributions(make_plots(rows, plan)),
            *_dataset(totals),
            stages_section(run),
        ],
    )


def _sample(rows: Rows, images: Images) -> Section:
    if not rows.sample:
        return Section("Images", "images", [Text("No row passed all stages.")])
    said = (
        f"{len(rows.sample)} of {rows.ok:,} finished rows, chosen by the hash of their key: source, aligned image, "
        "reconstructions and edits. Scores compare with the aligned image."
    )
    return Section("Images", "images", [Text(said), Strips([make_strip(rows, line, images) for line in rows.sample])])


def _worst(rows: Rows, images: Images) -> list[Section]:
    score = rows.ranked_by
    if score is None or not rows.worst:
        return []
    side = "lowest" if score.meaning.better == "higher" else "highest"
    said = f"The finished rows with the {side} {score.meaning.label} of the {score.picture} image, worst first."
    strips = [make_strip(rows, line, images, [note(line, score)]) for line in rows.worst]
    return [Section("Worst rows", "worst", [Text(said), Strips(strips)])]


def _outlier_tiles(told: Mapping[str, Any]) -> Iterator[Tile]:
    if told.get("rows"):
        generator = f" ({told['generator']})" if told.get("generator") else ""
        said = f"Finished rows that are probably not what the generator{generator} can draw: do not trust their edits."
        yield Tile("Out of domain", f"{told['rows']:,}", said)


def _outliers(run: Run, rows: Rows, told: Mapping[str, Any]) -> list[Section]:
    if "why" in told:
        return [Section("Out of domain", "out-of-domain", [Text(f"No row was judged: {told['why']}.")])]
    if not told.get("rows"):
        return []
    said = (
        f"{told['rows']:,} of {rows.ok:,} finished rows are probably nothing that the generator can draw: "
        f"{told['score']} of the encoder's picture is above {told['limit']:.3g}. Of pictures like the "
        f"{told['rows_known']:,} that the limit was fitted to, {told['false_positives']:.2%} are. "
        "encode.out_of_domain=reject keeps them out."
    )
    lines = [Line(r["shard"], r["position"], r["key"], "ok", "", "measure", {}) for r in told["farthest"][:OUTLIERS]]
    images = read_images(run, lines, (SOURCE, *run.stages))
    notes = [[f"{told['score']} {row['value']:.3g}"] for row in told["farthest"]]
    strips = [make_strip(rows, line, images, said) for line, said in zip(lines, notes, strict=False)]
    return [Section("Out of domain", "out-of-domain", [Text(said), Strips(strips)])]


def _inversion(gains: Sequence[Gain]) -> list[Section]:
    if not gains:
        return []
    tuned = any(gain.tuned for gain in gains)
    pictures = "the encoder's reconstruction and the tuned one come" if tuned else "the encoder's reconstruction comes"
    said = (
        f"How close {pictures} to the aligned image: means over all finished rows. The last column is the value that "
        f"the worst 5 % of the rows are beyond{', after the last step' if tuned else ''}."
    )
    heads = ["encoded", *(["tuned", "gain by tuning"] if tuned else []), "worst 5 %"]
    table: list[Cells] = [
        [_label(g.score.meaning), g.encoded, *([g.tuned, g.change] if tuned else []), g.worst] for g in gains
    ]
    return [Section("Inversion", "inversion", [Text(said), Table(_heads("score", heads), table)])]


def _edits(effects: Sequence[Effect]) -> list[Section]:
    if not effects:
        return []
    said = (
        "Attributes as the attribute network sees them before and after each edit. A row whose attribute is near the "
        "end of its range cannot move far, so means over all rows are below strength × ½."
    )
    sides = list(dict.fromkeys(side.label for effect in effects for side in effect.sides))
    heads = _heads("edit", ["layers", "mean change", "10–90 % of rows", *sides])
    return [Section("Edits", "edits", [Text(said), Table(heads, [_effect_row(effect, sides) for effect in effects])])]


def _effect_row(effect: Effect, sides: Sequence[str]) -> Cells:
    texts = {side.label: side.text for side in effect.sides}
    order = f"in this order: {effect.order}" if effect.order else ""
    move = CHANGE.show(effect.move) if effect.move is not None else ""
    spread = " … ".join(map(CHANGE.show, effect.spread or ()))
    return [Cell(effect.edit, order), effect.layers, move, spread, *(texts.get(side, "") for side in sides)]


def _distributions(plots: Sequence[Plot]) -> list[Section]:
    said = Text("Number of rows by score. Dashed lines are medians.")
    return [Section("Distributions", "distributions", [said, Plots(plots)])] if plots else []


def _dataset(totals: Totals) -> list[Section]:
    if not totals.table and not totals.omitted:
        return []
    said = (
        "Each set of generated images against the set of aligned ones. The name in brackets is the network that "
        "measures: do not compare numbers of different networks. Edits are meant to change the set, so their "
        "distances are larger."
    )
    return [Section("Whole dataset", "dataset", [Text(said), *totals_table(totals, "distance to the aligned images")])]


def _label(meaning: Meaning) -> Cell:
    return Cell(meaning.label, meaning.help)


def _heads(first: str, numbers: Iterable[str]) -> list[Column]:
    return [Column(first, number=False), *map(Column, numbers)]


def _layers(run: Run) -> dict[str, str]:
    return {edit["column"]: f"{edit['layers'][0]}–{edit['layers'][1] - 1}" for edit in _plan(run) if "layers" in edit}


def _orders(run: Run) -> dict[str, str]:
    """The order of the moves of each edit, where the order matters."""
    several = [edit for edit in _plan(run) if edit.get("in_order") and len(edit["moves"]) > 1]
    return {edit["column"]: ", then ".join(name for name, _ in edit["moves"]) for edit in several}


def _plan(run: Run) -> Iterable[Mapping[str, Any]]:
    plan: Iterable[Mapping[str, Any]] = run.identities.get("edit", {}).get("plan", [])
    return plan
