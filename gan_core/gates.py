"""Gates: limits of scores that say which finished rows are good enough to be published."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator

from gan_core.sections import as_list

PATTERN = re.compile(r"(?P<score>.*\S)\s*(?P<sign>>=|<=|≥|≤)\s*(?P<quantile>q?)(?P<limit>[^\sq]+)")
SIGNS: dict[str, Literal[">=", "<="]] = {">=": ">=", "≥": ">=", "<=": "<=", "≤": "<="}
MOST = 100
"""Gates of one run: each keeps a number and two flags of every row in memory."""
WRITE = 'write SCORE >= LIMIT or SCORE <= LIMIT, such as "lpips <= 0.2", or "lpips <= q0.9" for its 0.9 quantile'


@dataclass(frozen=True)
class Gate:
    """A limit of a score; rows pass that lie on the named side of it, the limit included.

    ``score`` is a score's whole name or a short one, see ``gan_core.metrics.names.find_columns``. With ``quantile`` the
    limit is that of the scores themselves: ``<= q0.9`` keeps the lowest nine tenths, ``>= q0.1`` the highest.
    """

    score: str
    sign: Literal[">=", "<="]
    limit: float
    quantile: bool = False

    @classmethod
    def parse(cls, text: object) -> "Gate":
        """Read a gate as it is written; raises ``ValueError`` of one sentence for anything else."""
        if isinstance(text, Gate):
            return text
        found = PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f"no gate: {WRITE}")
        try:
            limit = float(found["limit"])
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise ValueError(f"{found['limit'][:40]!r} is no limit of a gate: {WRITE}")
        if found["quantile"] and not 0 <= limit <= 1:
            raise ValueError(f"q{limit:g} is no quantile: they are q0 to q1")
        return cls(found["score"], SIGNS[found["sign"]], limit, bool(found["quantile"]))

    def __str__(self) -> str:
        """Write the gate as ``parse`` reads it."""
        limit = f"{self.limit:g}" if float(f"{self.limit:g}") == self.limit else repr(self.limit)
        return f"{self.score} {self.sign} {'q' if self.quantile else ''}{limit}"

    @property
    def higher(self) -> bool:
        """Whether high scores pass."""
        return self.sign == ">="

    def place(self, values: np.ndarray) -> float | None:
        """Return the limit for scores ``[N]``, of which NaN are left out; ``None`` for a quantile of no score.

        A quantile is the score of the last row that passes, so that no fewer pass than it says.
        """
        if not self.quantile:
            return self.limit
        known = np.sort(values[np.isfinite(values)])
        if not len(known):
            return None
        share = 1 - self.limit if self.higher else self.limit
        kept = max(math.ceil(round(share * len(known), 6)), 1)
        return float(known[-kept] if self.higher else known[kept - 1])

    def passes(self, values: np.ndarray, limit: float | None) -> np.ndarray:
        """Tell which of the scores ``[N]`` lie on the passing side of ``limit``; NaN never does.

        They are compared as the float32 that shards hold: 0.2 is at most 0.2 there too.
        """
        if limit is None:
            return np.zeros(len(values), bool)
        with np.errstate(over="ignore"):  # a limit beyond float32 is infinity there, and no score
            edge, scores = np.float32(limit), values.astype(np.float32)
        inside: np.ndarray = scores >= edge if self.higher else scores <= edge
        return inside


def _without_doubles(gates: list[Gate]) -> list[Gate]:
    double, times = next(iter(Counter(gates).most_common(1)), (None, 0))
    if times > 1:
        raise ValueError(f"the gate {str(double)!r} is there twice")
    return gates


Gates = Annotated[
    list[Annotated[Gate, PlainValidator(Gate.parse), PlainSerializer(str, return_type=str)]],
    Field(max_length=MOST),
    BeforeValidator(as_list),
    AfterValidator(_without_doubles),
]
"""The section ``gates`` of the parameters: a list of texts, or one text."""
