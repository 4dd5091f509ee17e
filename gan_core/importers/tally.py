"""Counts by label, each with the first names that were counted: what an import says beside its rows."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

FIRST_NAMES = 3
MAX_LABELS = 50
"""Different labels that are kept; it bounds the memory where a reason holds a number or a name."""
REST = "other reasons"


class Group(BaseModel):
    """What was counted under one ``label``: how often, and the first few names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    count: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.names) else ""
        return f"{self.count} {self.label} ({', '.join(self.names)}{more})"


class Tally:
    """Counts names by label. After 50 different labels, new ones are counted together."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, label: str, name: str) -> None:
        """Count ``name``, which should be printable, under ``label``."""
        if label not in self._counts and len(self._counts) >= MAX_LABELS:
            label = REST
        self._counts[label] = self._counts.get(label, 0) + 1
        first = self._names.setdefault(label, [])
        if len(first) < FIRST_NAMES:
            first.append(name)

    def include(self, other: "Tally") -> None:
        """Add the counts of ``other`` to these."""
        for label, count in other._counts.items():
            for name in other._names[label]:
                self.add(label, name)
            self._counts[label if label in self._counts else REST] += count - len(other._names[label])

    def total(self) -> int:
        """Return how many names were counted."""
        return sum(self._counts.values())

    def groups(self) -> Iterator[Group]:
        """Yield what was counted, the most frequent label first."""
        for label in sorted(self._counts, key=lambda label: (-self._counts[label], label)):
            yield Group(label=label, count=self._counts[label], names=tuple(self._names[label]))
