"""How claims are judged by what was stored of several seeds: the rules behind ``benchmarks.claims``."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gan_core.training.study import Row

FEWEST_SEEDS = 3
Answer = Literal["yes", "no", "unclear"]
Verdict = Literal["held", "held_in_part", "refuted", "open"]


@dataclass(frozen=True)
class Part:
    """One comparison of a claim: ``measure`` of ``method`` is less (or ``more``) than ``share`` of the rival's.

    Without a ``rival`` it is compared with the number ``limit``.
    """

    measure: str
    method: str
    rival: str | None = None
    limit: float = 0.0
    share: float = 1.0
    more: bool = False

    def margins(self, rows: Sequence[Row]) -> list[float]:
        """Return for each seed how clearly the claimed order is kept; negative if it is not."""
        bounds = dict.fromkeys(_values(rows, self.method, self.measure), self.limit)
        if self.rival is not None:
            bounds = {seed: self.share * value for seed, value in _values(rows, self.rival, self.measure).items()}
        sign = 1 if self.more else -1
        found = _values(rows, self.method, self.measure)
        return [sign * (found[seed] - bound) for seed, bound in sorted(bounds.items()) if seed in found]

    def shown(self, rows: Sequence[Row]) -> str:
        """Say the means over seeds, ± their standard deviations."""
        return ", ".join(
            f"{name} {_spread(list(_values(rows, name, self.measure).values()))}"
            for name in (self.method, self.rival)
            if name is not None
        )


@dataclass(frozen=True)
class Claim:
    """One claim of an article, in our words, and what would show it; without ``parts`` it is open, for ``missing``."""

    name: str
    article: str
    text: str
    source: str = ""
    parts: tuple[Part, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict and why; ``budget`` are the moves of each training, where one was studied."""

    claim: Claim
    verdict: Verdict
    why: str
    seeds: int = 0
    budget: int | None = None
    numbers: Sequence[str] = field(default_factory=tuple)


def answer(margins: Sequence[float]) -> Answer:
    """Return yes (or no) if all seeds agree and the mean is more than two standard errors from 0, else unclear."""
    mean = statistics.fmean(margins)
    error = statistics.stdev(margins) / len(margins) ** 0.5 if len(margins) > 1 else float("inf")
    if abs(mean) <= 2 * error or min(margins) <= 0 <= max(margins):
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


def judge(claim: Claim, stored: Mapping[str, Sequence[Row]], goals: Mapping[str, int] = {}) -> Judged:
    """Judge a claim by the ``stored`` rows of its source; ``goals`` are the moves that a study is to reach.

    It stays open with fewer than three seeds, before the goal, and while more moves still change it: the budget is
    enough if the parts had the same answers at half of it or less, and no mean margin has changed by more than its
    deviation over seeds and a twentieth of itself.
    """
    rows = stored.get(claim.source, [])
    if not claim.parts or not rows:
        return Judged(claim, "open", claim.missing or "not measured yet")
    budgets = _budgets(rows)
    if not budgets:
        return Judged(claim, "open", f"fewer than {FEWEST_SEEDS} seeds", len({row["seed"] for row in rows}))
    newest = _at(rows, budgets[-1])
    verdict = verdict_of(answer(part.margins(newest)) for part in claim.parts)
    why = _too_few(claim, rows, budgets, goals.get(claim.source, 0)) or (
        "the seeds don't agree" if verdict == "open" else ""
    )
    numbers = [part.shown(newest) for part in claim.parts]
    seeds = len({row["seed"] for row in newest})
    return Judged(claim, "open" if why else verdict, why, seeds, budgets[-1], numbers)


def _too_few(claim: Claim, rows: Sequence[Row], budgets: Sequence[Any], goal: int) -> str:
    """Say why the budget is not enough; nothing if it is, or if there is none."""
    last = budgets[-1]
    if last is None:
        return ""
    if last < goal:
        return f"{last:,} of {goal:,} moves so far"
    earlier = [budget for budget in budgets if budget <= last / 2]
    if not earlier:
        return "nothing shows that more moves don't change it"
    moved = any(_moved(part, _at(rows, earlier[-1]), _at(rows, last)) for part in claim.parts)
    return "more moves still change it" if moved else ""


def _moved(part: Part, before: Sequence[Row], after: Sequence[Row]) -> bool:
    old, new = part.margins(before), part.margins(after)
    change = abs(statistics.fmean(new) - statistics.fmean(old))
    allowed = max(statistics.stdev(new), abs(statistics.fmean(new)) / 20)  # a twentieth can't turn an answer
    return answer(old) != answer(new) or change > allowed


def _budgets(rows: Sequence[Row]) -> list[Any]:
    """Return the numbers of moves at which enough seeds were measured; None alone for rows without any."""
    seen = sorted({row.get("moves") for row in rows}, key=lambda moves: moves or 0)
    return [moves for moves in seen if len({row["seed"] for row in _at(rows, moves)}) >= FEWEST_SEEDS]


def _at(rows: Sequence[Row], moves: int | None) -> list[Row]:
    return [row for row in rows if row.get("moves") == moves]


def _values(rows: Sequence[Row], method: str, measure: str) -> dict[int, float]:
    return {row["seed"]: row[measure] for row in rows if row["method"] == method}


def _spread(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.3g} ± {deviation:.2g}"
