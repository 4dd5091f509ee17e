"""What the five articles claim, by what was stored of all seeds: ``python -m benchmarks.claims``.

It trains nothing. It reads the rows of the studies in ``data/metrics`` (``gan_core.toy.training.path_study``,
``.encoder_study``, ``.translation_study``, ``.singan_study``, ``benchmarks.neighbours --store``), judges each claim by
the rules of ``benchmarks.verdicts``, and prints the tables of ``docs/claims.md`` (``--page`` writes them there). RESULT
has the names of the claims that ``held``, ``held_in_part``, were ``refuted``, or are ``open``: fewer than three seeds,
no clear answer, or too small a budget.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.articles import CLAIMS, EQUAL_SECONDS, WORLDS
from benchmarks.harness import print_result
from benchmarks.neighbours import SEEDS
from benchmarks.verdicts import Claim, Judged, at_equal_seconds, judge
from gan_core.toy.params import ToyParams, load_toy_params
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


def stored_rows() -> dict[str, list[Row]]:
    """Read the rows of every source that is there, those of pairs of encoders after equal seconds too."""
    files = {source: SCORES / f"{name}.json" for source, name in SOURCES.items()}
    found = {source: json.loads(path.read_text())["rows"] for source, path in files.items() if path.exists()}
    for rival, source in EQUAL_SECONDS.items() if "encoders" in found else ():
        pair = [row for row in found["encoders"] if row["method"] in (rival, "style-transformer")]
        found[source] = at_equal_seconds(pair, "images")
    return found


def study_of(claim: Claim, toy: ToyParams) -> Any:
    """Return the section of ``toy.yaml`` that plans the rows of a claim; ``None`` for those of tuning."""
    if COMMANDS.get(claim.source) == ENCODERS:
        return toy.study_encoders
    studies = {
        "digits": toy.study_digit_paths,
        "portraits": toy.study_paths,
        "shapes": toy.study_shape_paths,
        "translations": toy.study_translations,
        "singan": toy.study_singan,
    }
    return studies.get(claim.source)


def goal_of(claim: Claim, toy: ToyParams) -> int:
    """Return the budget that all trainings of a claim are to reach; 0 if there is none."""
    study = study_of(claim, toy)
    if study is toy.study_encoders:
        return min(map(toy.study_encoders.last_of, claim.methods))
    return max(getattr(study, claim.unit, [0]))


def seeds_of(claim: Claim, toy: ToyParams) -> int:
    """Return the number of seeds that are planned for a claim."""
    return len(getattr(study_of(claim, toy), "seeds", range(SEEDS)))


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
