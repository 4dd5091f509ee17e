"""How claims are judged by what was stored of several seeds: the rules behind ``benchmarks.claims``."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from scipy.stats import t as student

from gan_core.training.study import Row

FEWEST_SEEDS = 3
CONFIDENCE, EARLY = 0.95, 0.999
"""What an answer needs with all planned seeds, and before: who looks often would find one by chance otherwise."""
Answer = Literal["yes", "no", "unclear"]
Verdict = Literal["held", "held_in_part", "refuted", "open"]


@dataclass(frozen=True)
class Part:
    """One comparison of a claim: ``measure`` of ``method`` is less (or ``more``) than ``share`` of the rival's.

    Without a ``rival`` it is compared with the number ``limit``. What is ``fixed``, such as a size or a speed, doesn't
    depend on the budget.
    """

    measure: str
    method: str
    rival: str | None = None
    limit: float = 0.0
    share: float = 1.0
    more: bool = False
    fixed: bool = False

    def margins(self, rows: Sequence[Row]) -> list[float]:
        """Return how clearly the claimed order is kept, for each seed; negative if it is not."""
        return list(self.by_seed(rows).values())

    def by_seed(self, rows: Sequence[Row]) -> dict[int, float]:
        """Return the margin of each seed for which all that is compared was measured."""
        bounds = dict.fromkeys(_values(rows, self.method, self.measure), self.limit)
        if self.rival is not None:
            bounds = {seed: self.share * value for seed, value in _values(rows, self.rival, self.measure).items()}
        sign = 1 if self.more else -1
        found = _values(rows, self.method, self.measure)
        return {seed: sign * (found[seed] - bound) for seed, bound in sorted(bounds.items()) if seed in found}

    def shown(self, rows: Sequence[Row]) -> str:
        """Say the means over seeds ± their standard deviations, and the mean margin ± half of its interval."""
        sides = [name for name in (self.method, self.rival) if name is not None]
        means = [f"{name} {_spread(list(_values(rows, name, self.measure).values()))}" for name in sides]
        mean, width = interval(self.margins(rows))
        return f"{', '.join(means)} (by {mean:.3g} ± {width:.2g})"


@dataclass(frozen=True)
class Claim:
    """One claim of an article, in our words, and what would show it: ``parts``, by the rows of ``source``.

    Budgets of its rows are counted in ``unit``.
    """

    name: str
    article: str
    text: str
    source: str
    parts: tuple[Part, ...]
    unit: str = "moves"

    @property
    def methods(self) -> set[str]:
        """What its parts compare."""
        return {name for part in self.parts for name in (part.method, part.rival) if name is not None}


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict and why; ``budget`` is that of each training, where one was studied."""

    claim: Claim
    verdict: Verdict
    why: str
    seeds: int = 0
    budget: int | None = None
    numbers: Sequence[str] = field(default_factory=tuple)


def interval(margins: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the mean and half the width of its interval by Student's t, infinite for fewer than two margins."""
    mean, count = statistics.fmean(margins), len(margins)
    if count < 2:
        return mean, float("inf")
    return mean, float(student.ppf((1 + confidence) / 2, count - 1)) * statistics.stdev(margins) / count**0.5


def answer(margins: Sequence[float], confidence: float = CONFIDENCE) -> Answer:
    """Return yes (or no) if the interval of the mean margin is above (or below) 0, else unclear."""
    mean, width = interval(margins, confidence)
    if abs(mean) <= width:
        return "unclear"
    return "yes" if mean > 0 else "no"


def verdict_of(answers: Iterable[Answer]) -> Verdict:
    """Return held if every part is shown, held in part if some are, refuted if the opposite of each is, else open."""
    answers = list(answers)
    if set(answers) == {"yes"}:
        return "held"
    if "yes" in answers:
        return "held_in_part"
    return "refuted" if set(answers) == {"no"} else "open"


def judge(claim: Claim, stored: Mapping[str, Sequence[Row]], goal: int = 0, planned: int = FEWEST_SEEDS) -> Judged:
    """Judge a claim by the ``stored`` rows of its source; ``goal`` is the budget that its trainings are to reach.

    It stays open with fewer than three seeds, before the goal, and while a larger budget still puts it at risk: the
    budget is enough if the parts had the same answers at half of it or less, and no mean margin has come nearer to 0
    by more than its deviation over seeds and a twentieth of itself. With fewer seeds than ``planned`` answers need
    99.9 % confidence instead of 95 % (as interim analyses by Haybittle 1971 and Peto et al. 1976), and every part one.
    """
    rows = stored.get(claim.source, [])
    if not rows:
        return Judged(claim, "open", "not measured yet")
    budgets = _budgets(rows, claim)
    if not budgets:
        return Judged(claim, "open", f"fewer than {FEWEST_SEEDS} seeds", len({row["seed"] for row in rows}))
    newest = _at(rows, claim.unit, budgets[-1])
    seeds = len(_seeds(claim, newest))
    confidence = CONFIDENCE if seeds >= planned else EARLY
    answers = [answer(part.margins(newest), confidence) for part in claim.parts]
    verdict = verdict_of(answers)
    why = _too_few(claim, rows, budgets, goal, confidence)
    if not why and seeds < planned and "unclear" in answers:
        why = f"no clear answer from {seeds} of {planned} seeds"
    if not why and verdict == "open":
        why = "no clear answer"
    numbers = [part.shown(newest) for part in claim.parts]
    return Judged(claim, "open" if why else verdict, why, seeds, budgets[-1], numbers)


def _too_few(claim: Claim, rows: Sequence[Row], budgets: Sequence[Any], goal: int, confidence: float) -> str:
    """Say why the budget is not enough; nothing if it is, or if there is none."""
    last = budgets[-1]
    if last is None:
        return ""
    if last < goal:
        return f"{last:,} of {goal:,} {claim.unit} so far"
    earlier = [budget for budget in budgets if budget <= last / 2]
    if not earlier:
        return f"nothing shows that more {claim.unit} don't change it"
    before, after = (_at(rows, claim.unit, budget) for budget in (earlier[-1], last))
    moved = any(_moved(part, before, after, confidence) for part in claim.parts if not part.fixed)
    return f"more {claim.unit} still change it" if moved else ""


def _moved(part: Part, before: Sequence[Row], after: Sequence[Row], confidence: float) -> bool:
    """Say whether the answer has changed, or comes nearer to none: a margin that grows only makes it clearer."""
    old, new = part.margins(before), part.margins(after)
    nearer = abs(statistics.fmean(old)) - abs(statistics.fmean(new))
    allowed = max(statistics.stdev(new), abs(statistics.fmean(new)) / 20)  # a twentieth can't turn an answer
    return answer(old, confidence) != answer(new, confidence) or nearer > allowed


def _budgets(rows: Sequence[Row], claim: Claim) -> list[Any]:
    """Return the budgets at which all methods have enough seeds in common; None alone for rows without any."""
    seen = sorted({row.get(claim.unit) for row in rows}, key=lambda budget: budget or 0)
    return [budget for budget in seen if len(_seeds(claim, _at(rows, claim.unit, budget))) >= FEWEST_SEEDS]


def _seeds(claim: Claim, rows: Sequence[Row]) -> set[int]:
    """Return the seeds for which all that a claim compares was measured."""
    return set.intersection(*(set(part.by_seed(rows)) for part in claim.parts))


def _at(rows: Sequence[Row], unit: str, budget: int | None) -> list[Row]:
    return [row for row in rows if row.get(unit) == budget]


def _values(rows: Sequence[Row], method: str, measure: str) -> dict[int, float]:
    return {row["seed"]: row[measure] for row in rows if row["method"] == method and measure in row}


def _spread(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.3g} ± {deviation:.2g}"


def at_equal_seconds(rows: Sequence[Row], unit: str) -> list[Row]:
    """Return what every method had after the same seconds of training as the quickest had at each budget, by seed.

    Measures are interpolated between the two budgets around these seconds. Budgets are left out at which a method had
    not reached its first one yet.
    """
    found: list[Row] = []
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for budget, seed in sorted({(row[unit], row["seed"]) for row in rows}):
        curves = {name: _curve(rows, name, seed, unit) for name in methods}
        here = [row["seconds"] for curve in curves.values() for row in curve if row[unit] == budget]
        if len(here) < len(methods):
            continue
        then = [_between(curve, min(here)) for curve in curves.values()]
        found += [row | {unit: budget} for row in then if row is not None] if None not in then else []
    return found


def _curve(rows: Sequence[Row], method: str, seed: int, unit: str) -> list[Row]:
    return sorted((row for row in rows if (row["method"], row["seed"]) == (method, seed)), key=lambda row: row[unit])


def _between(curve: Sequence[Row], seconds: float) -> Row | None:
    """Return a row of the measures after so many ``seconds``, or None before the first row."""
    earlier = [row for row in curve if row["seconds"] <= seconds]
    later = [row for row in curve if row["seconds"] > seconds]
    if not earlier or not later:
        return dict(earlier[-1]) if earlier else None
    first, second = earlier[-1], later[0]
    share = (seconds - first["seconds"]) / (second["seconds"] - first["seconds"])
    measured = {name: first[name] + share * (second[name] - first[name]) for name in _measures(first)}
    return dict(first) | measured


def _measures(row: Row) -> list[str]:
    return [name for name, value in row.items() if isinstance(value, float)]
