"""What the five articles claim, by what was stored of all seeds: ``python -m benchmarks.claims``.

It trains nothing. It reads the rows of the studies in ``data/metrics`` (``gan_core.toy.training.path_study``,
``.encoder_study``, ``.translation_study``, ``.singan_study``, ``benchmarks.neighbours --store``), judges each claim by
the rules of ``benchmarks.verdicts``, and prints the tables of ``docs/claims.md`` (``--page`` writes them there). RESULT
has the names of the claims that ``held``, ``held_in_part``, were ``refuted``, or are ``open``: fewer than three seeds,
or too small a budget.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import print_result
from benchmarks.neighbours import NEAR
from benchmarks.verdicts import FEWEST_SEEDS, Claim, Judged, Part, at_equal_seconds, judge
from gan_core.toy.params import ToyParams, load_toy_params
from gan_core.toy.training.path_study import MOMENTS, SECOND
from gan_core.training.log import SCORES
from gan_core.training.study import Row

PAGE = Path("docs/claims.md")
SOURCES = {
    "digits": "study-digit-paths",
    "portraits": "study-paths",
    "shapes": "study-shape-paths",
    "tuning": "neighbours",
    "encoders": "study-encoders",
    "translations": "study-translations",
    "singan": "study-singan",
}
EQUAL_SECONDS = {rival: f"{rival} in equal seconds" for rival in ("psp", "e4e")}
"""The sources whose rows compare Style Transformer with a rival after equal seconds instead of equally many images."""
ENCODERS, TRANSLATIONS = (f"python -m gan_core.toy.training.{name}_study" for name in ("encoder", "translation"))
COMMANDS = {
    "digits": "python -m gan_core.toy.training.path_study digits",
    "portraits": "python -m gan_core.toy.training.path_study portraits",
    "shapes": "python -m gan_core.toy.training.path_study shapes",
    "tuning": "python -m benchmarks.neighbours --store",
    "encoders": ENCODERS,
    **dict.fromkeys(EQUAL_SECONDS.values(), ENCODERS),
    "translations": TRANSLATIONS,
    "singan": "python -m gan_core.toy.training.singan_study --workers 2",
}
WORLDS = {"digits": ("",), "portraits": ("", f" by {SECOND}"), "shapes": ("", f" by {MOMENTS}")}
"""The worlds of paths, each with how its measures end: those by what named the paths, and those by other judges."""
JUDGED = ("reached", "side_effects", "identity")
ENCODER_CURVE = (
    *("seconds", "mse", "lpips", "identity", "fid", "swd", "fid of edits", "swd of edits", "move", "identity_kept"),
    *("reference_diversity", "parameters", "seconds_per_picture"),
)
TRANSLATION_CURVE = (
    *("seconds", "lpips", "identity", "fid", "yaw_after", "edges", "mean_iou", "lpips_growth", "outputs", "diversity"),
    *("parameters", "seconds_per_picture"),
)
CURVES = {
    world: ("moves", ("recognised", "bend", "alignment", "order", *(name + by for by in judges for name in JUDGED)))
    for world, judges in WORLDS.items()
} | {
    "encoders": ("images", ENCODER_CURVE),
    **dict.fromkeys(EQUAL_SECONDS.values(), ("images", ENCODER_CURVE)),
    "translations": ("images", TRANSLATION_CURVE),
}
"""Learning curves by source: what a budget counts, and the measures."""
MARK = "<!-- {} -->"
"""The line of the page that the table of a source follows, to the next heading; that of verdicts is ``claims``."""

CURVILINEAR = "CurvilinearGANSpace (Aoshima and Matsubara 2023)"
PTI, STYLE = "pivotal tuning (Roich et al. 2021)", "Style Transformer (Hu et al. 2022)"
PSP, SOAT = "pSp (Richardson et al. 2021)", "SOAT (Chong et al. 2021)"
RECONSTRUCTION, EDITS = ("mse", "lpips", "fid", "swd"), ("fid of edits", "swd of edits")
COST = ("parameters", "seconds_per_picture")


def smallest(measure: str, source: str) -> tuple[Part, ...]:
    """Say that the curvilinear paths of a world have the smallest ``measure``, by all who judge it."""
    return tuple(Part(measure + by, "curvilinear", rival) for by in WORLDS[source] for rival in ("linear", "warped"))


def order_of(method: str, source: str, matters: bool) -> tuple[Part, ...]:
    """Say that the order of a method's edits ``matters``, by 1 % of an edit or more, or doesn't, by all judges."""
    measures = (measure + by for by in WORLDS[source] for measure in ("order", "undo"))
    return tuple(Part(measure, method, limit=1.0, more=matters) for measure in measures)


def beats(rival: str, seconds: bool = False) -> Claim:
    """Say that Style Transformer has better reconstructions and edits than ``rival``, by what its article measures.

    After equal numbers of images it must be smaller and quicker too; or after equal ``seconds`` of training.
    """
    parts = [Part(measure, "style-transformer", rival) for measure in (*RECONSTRUCTION, *EDITS)]
    cost = [Part(measure, "style-transformer", rival, fixed=True) for measure in COST]
    name = f"style_transformer_beats_{rival}"
    if seconds:
        text = f"better reconstructions and edits than {rival} after equally long trainings"
        return Claim(f"{name}_in_equal_seconds", STYLE, text, EQUAL_SECONDS[rival], tuple(parts), unit="images")
    text = f"better reconstructions and edits than {rival}, smaller and quicker"
    return Claim(name, STYLE, text, "encoders", (*parts, *cost), unit="images")


def nearer(method: str, rival: str, *errors: str) -> tuple[Part, ...]:
    """Say that pictures of a method are nearer to what they should be than a rival's, by ``errors`` and identity."""
    return (*(Part(error, method, rival) for error in errors), Part("identity", method, rival, more=True))


def of_tuning(group: str = "") -> tuple[Claim, ...]:
    """Say what pivotal tuning does, of portraits each by itself or, with the prefix ``group``, by one generator."""
    tuned, locality = f"{group}tuned", f"{group}locality"
    of_eight = " (one generator for eight)" if group else ""
    near = [f"{distance:g}" for distance in NEAR]
    within = f"with the locality term, pictures of neighbours ({', '.join(near[:-1])} and {near[-1]} from the pivot)"
    said: dict[str, tuple[str, tuple[Part, ...]]] = {
        "tuning_lowers_distortion": (
            "tuning brings the picture closer to the portrait, by error, LPIPS and identity",
            nearer(tuned, "untuned", "mse", "lpips"),
        ),
        "tuning_keeps_editability": (
            "edits after tuning move attributes at least 0.9 as far as before, and keep 0.9 as much identity",
            tuple(Part(measure, tuned, "untuned", share=0.9, more=True) for measure in ("move", "identity_kept")),
        ),
        "locality_keeps_neighbours": (
            f"{within} change less",
            tuple(Part(f"changed {distance}", locality, tuned) for distance in near),
        ),
        "locality_keeps_quality": (
            f"{within} are of better quality",
            tuple(Part(f"quality {distance}", locality, tuned) for distance in near),
        ),
    }
    return tuple(
        Claim(f"{group.replace(' ', '_')}{name}", PTI, text + of_eight, "tuning", parts)
        for name, (text, parts) in said.items()
    )


def several_outputs(task: str) -> Part:
    """Say that pSp's outputs for one input of a task differ more than its rival's."""
    return Part("diversity", f"psp-{task}", f"pix2pix-{task}", more=True)


CLAIMS = (
    *(
        claim
        for source in WORLDS
        for claim in (
            Claim(
                f"curvilinear_commutes_{source}",
                CURVILINEAR,
                f"edits commute ({source})",
                source,
                order_of("curvilinear", source, matters=False),
            ),
            Claim(
                f"curvilinear_side_effects_{source}",
                CURVILINEAR,
                f"the smallest side effects of linear, warped and curvilinear paths ({source})",
                source,
                smallest("side_effects", source),
            ),
            Claim(
                f"curvilinear_identity_{source}",
                CURVILINEAR,
                f"the smallest identity error of the three ({source})",
                source,
                smallest("identity", source),
            ),
            Claim(
                f"warped_order_matters_{source}",
                CURVILINEAR,
                f"warped edits don't commute ({source})",
                source,
                order_of("warped", source, matters=True),
            ),
        )
    ),
    Claim(
        "curvilinear_reaches_shapes",
        CURVILINEAR,
        "moves attributes that linear paths can't: nearer to the wanted move of each, wherever it starts (shapes)",
        "shapes",
        tuple(Part("reached" + by, "curvilinear", "linear", more=True) for by in WORLDS["shapes"]),
    ),
    *of_tuning(),
    *of_tuning("group "),
    *(beats(rival, seconds) for seconds in (False, True) for rival in EQUAL_SECONDS),
    Claim(
        "reference_edits_differ_little",
        STYLE,
        "edits by different references differ less than the renderer's drawings of what they ask for",
        "encoders",
        (Part("reference_diversity", "style-transformer", limit=1.0),),
        unit="images",
    ),
    Claim(
        "psp_beats_naive_w_plus",
        PSP,
        "a pyramid with a network for each style is nearer to the portrait, by LPIPS and identity, than all styles "
        "from one vector",
        "encoders",
        nearer("psp", "psp-w-plus", "lpips"),
        unit="images",
    ),
    *(
        Claim(
            f"psp_beats_{rival}",
            PSP,
            f"nearer to the portrait, by LPIPS, error and identity, than {name}'s encoder",
            "encoders",
            nearer("psp", rival, "lpips", "mse"),
            unit="images",
        )
        for rival, name in (("alae", "ALAE"), ("idinvert", "in-domain inversion"))
    ),
    Claim(
        "identity_loss_keeps_identity",
        PSP,
        "the loss on identity keeps more of it",
        "encoders",
        (Part("identity", "psp", "psp-without-identity", more=True),),
        unit="images",
    ),
    Claim(
        "psp_needs_no_correspondence",
        PSP,
        "faces are turned to the front nearer to the truth than by pix2pixHD, and more turned ones lose less",
        "translations",
        (
            *nearer("psp-frontalisation", "pix2pix-frontalisation", "lpips"),
            Part("lpips_growth", "psp-frontalisation", "pix2pix-frontalisation"),
        ),
        unit="images",
    ),
    Claim(
        "psp_beats_pix2pix",
        PSP,
        "better pictures of sketches and label maps than by pix2pixHD, by the distance to portraits and to the truth",
        "translations",
        tuple(
            Part(measure, f"psp-{task}", f"pix2pix-{task}")
            for task in ("sketch", "segmentation")
            for measure in ("fid", "lpips")
        ),
        unit="images",
    ),
    Claim(
        "psp_gives_several_outputs",
        PSP,
        "gives several outputs for one sketch or label map, where pix2pixHD gives one",
        "translations",
        (several_outputs("sketch"), several_outputs("segmentation")),
        unit="images",
    ),
    Claim(
        "soat_more_natural",
        SOAT,
        "pictures made of one picture are more natural than SinGAN's: nearer to portraits, and to that one by patches",
        "singan",
        tuple(Part(f"wide {measure}", "soat", "singan") for measure in ("nearest/toy-attr", "sifid/toy-perceptual")),
    ),
    Claim(
        "soat_blends_more_natural",
        SOAT,
        "blends of two pictures are more natural than collages that SinGAN harmonises: nearer to portraits, less seam",
        "singan",
        tuple(
            Part(f"{axis} {measure}", "soat", "singan")
            for axis in ("horizontal", "vertical")
            for measure in ("nearest/toy-attr", "seam")
        ),
    ),
    Claim(
        "soat_needs_no_training",
        SOAT,
        "without training: in less than a thousandth of SinGAN's time a picture",
        "singan",
        (Part("seconds", "soat", "singan", share=1e-3),),
    ),
)  # fmt: skip


def stored_rows() -> dict[str, list[Row]]:
    """Read the rows of every source that is there, those of pairs of encoders after equal seconds too."""
    files = {source: SCORES / f"{name}.json" for source, name in SOURCES.items()}
    found = {source: json.loads(path.read_text())["rows"] for source, path in files.items() if path.exists()}
    for rival, source in EQUAL_SECONDS.items() if "encoders" in found else ():
        pair = [row for row in found["encoders"] if row["method"] in (rival, "style-transformer")]
        found[source] = at_equal_seconds(pair, "images")
    return found


def goal_of(claim: Claim, toy: ToyParams) -> int:
    """Return the budget that all trainings of a claim are to reach, by ``toy.yaml``; 0 if there is none."""
    if COMMANDS.get(claim.source) == ENCODERS:
        return min(map(toy.study_encoders.last_of, claim.methods))
    last = {
        "digits": toy.study_digit_paths.moves[-1],
        "portraits": toy.study_paths.moves[-1],
        "shapes": toy.study_shape_paths.moves[-1],
        "translations": toy.study_translations.images[-1],
    }
    return last.get(claim.source, 0)


def seeds_of(claim: Claim, toy: ToyParams) -> int:
    """Return the number of seeds that are planned for a claim."""
    return len(toy.study_singan.seeds) if claim.source == "singan" else FEWEST_SEEDS


def judge_all(stored: Mapping[str, Sequence[Row]]) -> list[Judged]:
    """Judge every claim by ``stored`` rows and what ``toy.yaml`` plans."""
    toy = load_toy_params()
    return [judge(claim, stored, goal_of(claim, toy), seeds_of(claim, toy)) for claim in CLAIMS]


def table_of(judged: Sequence[Judged]) -> str:
    """Return the table of claims, in Markdown."""
    lines = [
        "| claim | article | measured, ± over seeds | budget | seeds | verdict | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in judged:
        claim = found.claim
        shown = zip(claim.parts, found.numbers, strict=False)
        measured = "; ".join(f"{part.measure.replace('_', ' ')}: {numbers}" for part, numbers in shown)
        cells = (
            f"{claim.text} (`{claim.name}`)",
            claim.article,
            measured,
            f"{found.budget:,} {claim.unit}" if found.budget else "",
            str(found.seeds or ""),
            f"**{found.verdict.replace('_', ' ')}**" + (f": {found.why}" if found.why else ""),
            f"`{COMMANDS[claim.source]}`",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curve_table(rows: Sequence[Row], unit: str, measures: Sequence[str]) -> str:
    """Return a learning curve in Markdown: means ± deviations over seeds of what rows have, by budget and method."""
    measures = [name for name in measures if any(name in row for row in rows)]
    names = [unit, "method", "seeds", *(name.replace("_", " ") for name in measures)]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for budget, method in dict.fromkeys((row[unit], row["method"]) for row in rows):
        these = [row for row in rows if (row[unit], row["method"]) == (budget, method)]
        cells = [f"{budget:,}", method, str(len(these)), *(mean_of(these, measure) for measure in measures)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if rows else "Not measured yet."


def tables_of(judged: Sequence[Judged], stored: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Return the table of claims and all learning curves, by the lines of the page that they follow."""
    curves = {MARK.format(source): curve_table(stored.get(source, []), *what) for source, what in CURVES.items()}
    return {MARK.format("claims"): table_of(judged)} | curves


def page_with(page: str, parts: Mapping[str, str]) -> str:
    """Return ``page`` with what follows each marker, to the next heading or the end, replaced."""
    for marker, text in parts.items():
        before, _, after = page.partition(marker)
        _, heading, rest = after.partition("\n## ")
        page = f"{before}{marker}\n{text}\n{heading}{rest}"
    return page


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help=f"write the tables into {PAGE}")
    options = parser.parse_args()
    stored = stored_rows()
    judged = judge_all(stored)
    parts = tables_of(judged, stored)
    print("\n\n".join(parts.values()))
    if options.page:
        PAGE.write_text(page_with(PAGE.read_text(), parts))
    verdicts = ("held", "held_in_part", "refuted", "open")
    print_result(**{name: [found.claim.name for found in judged if found.verdict == name] for name in verdicts})


def mean_of(rows: Sequence[Row], measure: str) -> str:
    """Return the mean of a measure over rows, ± its standard deviation; nothing for a measure that none has."""
    values = [row[measure] for row in rows if measure in row]
    if not values:
        return ""
    return f"{statistics.fmean(values):.3g}" + (f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
