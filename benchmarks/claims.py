"""What the five articles claim, by what was stored of all seeds: ``python -m benchmarks.claims``.

It trains nothing. It reads the rows of the studies in ``data/metrics`` (``gan_core.toy.training.path_study``,
``gan_core.toy.training.singan_study``, ``benchmarks.neighbours --store``), judges each claim by the rules of
``benchmarks.verdicts``, and prints the table of ``docs/claims.md`` (``--page`` writes it there). RESULT has the names
of the claims that ``held``, ``held_in_part``, were ``refuted``, or are ``open``: fewer than three seeds, or too few
moves.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import print_result
from benchmarks.verdicts import Claim, Judged, Part, judge
from gan_core.toy.params import load_toy_params
from gan_core.training.log import SCORES
from gan_core.training.path_study import Row

PAGE = Path("docs/claims.md")
SOURCES = {"digits": "study-digit-paths", "portraits": "study-paths", "tuning": "neighbours", "singan": "study-singan"}
COMMANDS = {
    "digits": "python -m gan_core.toy.training.path_study digits",
    "portraits": "python -m gan_core.toy.training.path_study portraits",
    "tuning": "python -m benchmarks.neighbours --store",
    "singan": "python -m gan_core.toy.training.singan_study --workers 2",
    "": "",
}
CURVE = ("recognised", "bend", "side_effects", "identity", "order")
CURVES, CLAIMED = "<!-- curves -->", "<!-- claims -->"
"""Lines of the page between which, to its next heading, what is printed goes."""

CURVILINEAR = "CurvilinearGANSpace (Aoshima and Matsubara 2023)"
PTI, STYLE = "pivotal tuning (Roich et al. 2021)", "Style Transformer (Hu et al. 2022)"
PSP, SOAT = "pSp (Richardson et al. 2021)", "SOAT (Chong et al. 2021)"
ONE_SEED = "one seed, see `docs/encoders.md`"


def smallest(measure: str) -> tuple[Part, ...]:
    """Say that the curvilinear paths have the smallest ``measure``."""
    return tuple(Part(measure, "curvilinear", rival) for rival in ("linear", "warped"))


def commutes(source: str) -> Claim:
    """Say that the order of curvilinear edits doesn't matter, by less than 1 % of an edit."""
    parts = (Part("order", "curvilinear", limit=1.0), Part("undo", "curvilinear", limit=1.0))
    return Claim(f"curvilinear_commutes_{source}", CURVILINEAR, f"edits commute ({source})", source, parts)


CLAIMS = (
    *(
        claim
        for source in ("digits", "portraits")
        for claim in (
            commutes(source),
            Claim(
                f"curvilinear_side_effects_{source}",
                CURVILINEAR,
                f"the smallest side effects of linear, warped and curvilinear paths ({source})",
                source,
                smallest("side_effects"),
            ),
            Claim(
                f"curvilinear_identity_{source}",
                CURVILINEAR,
                f"the smallest identity error of the three ({source})",
                source,
                smallest("identity"),
            ),
            Claim(
                f"warped_order_matters_{source}",
                CURVILINEAR,
                f"warped edits don't commute ({source})",
                source,
                (Part("order", "warped", limit=1.0, more=True), Part("undo", "warped", limit=1.0, more=True)),
            ),
        )
    ),
    Claim(
        "tuning_lowers_distortion",
        PTI,
        "tuning brings the picture closer to the portrait, by error, LPIPS and identity",
        "tuning",
        (
            Part("mse", "tuned", "untuned"),
            Part("lpips", "tuned", "untuned"),
            Part("identity", "tuned", "untuned", more=True),
        ),
    ),
    Claim(
        "tuning_keeps_editability",
        PTI,
        "edits after tuning move attributes at least 0.9 as far as before, and keep 0.9 as much identity",
        "tuning",
        tuple(Part(measure, "tuned", "untuned", share=0.9, more=True) for measure in ("move", "identity_kept")),
    ),
    Claim(
        "locality_keeps_neighbours",
        PTI,
        "with the locality term, pictures of neighbours (2.75, 5.5 and 11 from the pivot) change less",
        "tuning",
        tuple(Part(f"changed {distance}", "locality", "tuned") for distance in ("2.75", "5.5", "11")),
    ),
    Claim(
        "locality_keeps_quality",
        PTI,
        "with the locality term, pictures of neighbours (2.75, 5.5 and 11 from the pivot) are of better quality",
        "tuning",
        tuple(Part(f"quality {distance}", "locality", "tuned") for distance in ("2.75", "5.5", "11")),
    ),
    Claim("style_transformer_beats_psp", STYLE, "better reconstructions and edits than pSp", missing=ONE_SEED),
    Claim("style_transformer_beats_e4e", STYLE, "better reconstructions and edits than e4e", missing=ONE_SEED),
    Claim(
        "psp_needs_no_correspondence",
        PSP,
        "translates without pixel correspondence, and gives several outputs",
        missing="one seed, and no rival was trained: see `docs/translations.md`",
    ),
    Claim(
        "soat_more_natural",
        SOAT,
        "pictures made of one picture are more natural than SinGAN's: nearer to portraits, and to that one by patches",
        "singan",
        tuple(Part(f"wide {measure}", "soat", "singan") for measure in ("fid/toy-attr", "sifid/toy-perceptual")),
    ),
    Claim(
        "soat_blends_more_natural",
        SOAT,
        "blends of two pictures are more natural than collages that SinGAN harmonises: nearer to portraits, less seam",
        "singan",
        tuple(
            Part(f"{axis} {measure}", "soat", "singan")
            for axis in ("horizontal", "vertical")
            for measure in ("fid/toy-attr", "seam")
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
    """Read the rows of every source that is there."""
    files = {source: SCORES / f"{name}.json" for source, name in SOURCES.items()}
    return {source: json.loads(path.read_text())["rows"] for source, path in files.items() if path.exists()}


def goals() -> dict[str, int]:
    """Return how many moves each study is to reach, from ``toy.yaml``."""
    toy = load_toy_params()
    return {"digits": toy.study_digit_paths.moves[-1], "portraits": toy.study_paths.moves[-1]}


def table_of(judged: Sequence[Judged]) -> str:
    """Return the table of claims, in Markdown."""
    lines = [
        "| claim | article | measured, ± over seeds | moves | seeds | verdict | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in judged:
        claim = found.claim
        shown = zip(claim.parts, found.numbers, strict=False)
        measured = "; ".join(f"{part.measure.replace('_', ' ')}: {numbers}" for part, numbers in shown)
        command = COMMANDS[claim.source]
        cells = (
            f"{claim.text} (`{claim.name}`)",
            claim.article,
            measured,
            f"{found.budget:,}" if found.budget else "",
            str(found.seeds or ""),
            f"**{found.verdict.replace('_', ' ')}**" + (f": {found.why}" if found.why else ""),
            f"`{command}`" if command else "",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curves_of(stored: Mapping[str, Sequence[Row]]) -> str:
    """Return the learning curves of the studies of paths, in Markdown: means ± deviations over seeds."""
    lines = [
        f"| world | moves | method | seeds | {' | '.join(CURVE).replace('_', ' ')} |",
        "|---|---|---|---|" + "---|" * len(CURVE),
    ]
    for world in ("digits", "portraits"):
        rows = stored.get(world, [])
        for moves, method in dict.fromkeys((row["moves"], row["method"]) for row in rows):
            these = [row for row in rows if (row["moves"], row["method"]) == (moves, method)]
            cells = [mean_of(these, measure) for measure in CURVE]
            lines.append(f"| {world} | {moves:,} | {method} | {len(these)} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
    judged = [judge(claim, stored, goals()) for claim in CLAIMS]
    parts = {CLAIMED: table_of(judged), CURVES: curves_of(stored)}
    print("\n\n".join(parts.values()))
    if options.page:
        PAGE.write_text(page_with(PAGE.read_text(), parts))
    verdicts = ("held", "held_in_part", "refuted", "open")
    print_result(**{name: [found.claim.name for found in judged if found.verdict == name] for name in verdicts})


def mean_of(rows: Sequence[Row], measure: str) -> str:
    """Return the mean of a measure over rows, ± its standard deviation."""
    values = [row[measure] for row in rows]
    return f"{statistics.fmean(values):.3g}" + (f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
