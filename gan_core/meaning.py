"""What a number means to a reader: its label, its unit, which way is better, how it is written, and a sentence."""

from dataclasses import dataclass, replace
from typing import Literal

MINUS = "\u2212"


@dataclass(frozen=True)
class Meaning:
    """How a number is shown.

    ``digits`` after the point (``None``: four significant ones), ``unit`` after the value, a sign where ``signed``.
    ``headline`` is false for a number that belongs into tables but not among the first numbers of a page.
    """

    label: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    digits: int | None = None
    sentence: str = ""
    signed: bool = False
    headline: bool = True

    def by(self, extractor: str) -> "Meaning":
        """Return the meaning of the same number as a certain network measures it (empty: there is but one)."""
        return replace(self, label=f"{self.label} ({extractor})") if extractor else self

    def show(self, value: float) -> str:
        """Write a value without its unit."""
        sign = "+" if self.signed else ""
        if self.digits is None:
            return f"{value:{sign}.4g}".replace("-", MINUS)
        rounded = round(value, self.digits) + 0.0  # + 0.0 turns -0.0 into 0.0
        return f"{rounded:{sign}.{self.digits}f}".replace("-", MINUS)

    def show_with_unit(self, value: float) -> str:
        """Write a value and its unit."""
        return f"{self.show(value)} {self.unit}".rstrip()

    def show_change(self, before: float, after: float) -> str:
        """Write a change: a ratio of positive values where lower is better, else a difference."""
        if self.better == "lower" and before > 0 and after > 0:
            return f"÷ {before / after:.1f}" if before >= after else f"× {after / before:.1f}"
        digits = "4g" if self.digits is None else f"{self.digits}f"
        return f"{after - before:+.{digits}}".replace("-", MINUS)

    @property
    def help(self) -> str:
        """The sentence, and which way is better."""
        return f"{self.sentence} {self.better.capitalize()} is better.".strip() if self.better else self.sentence
