"""The history of nightly measurements, kept in one small file, and which metrics have moved by more than chance."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import fmean, median
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter
from scipy.stats import norm, t

from gan_core.errors import DataError
from gan_core.meaning import Meaning
from gan_core.metrics.names import find_score
from gan_core.metrics.noise import SWAPS
from gan_core.secrets import hide
from gan_core.storage.atomic import write_bytes
from gan_core.storage.receipts import read_json
from gan_core.storage.urls import exists, join_url

HISTORY_FILE = "history.json"
WINDOW = 14
CHANCE = 0.001
"""How often a night on which nothing got worse or better may raise anything at all."""
POWER = 0.9
"""How often a change of the size that pages state is raised."""
SAME = 1e-4
"""Changes by a smaller share of a number are other processors' rounding, however many rows show them."""
SPEED = "images_per_s"
NIGHTS_FOR_SPEED = 7
"""The number of nights from which the variation of speed, which depends on the machine, is estimated."""
REJECTED = "rejected"
"""The number of rows that could not be measured. It is no sample, so that any change of it counts."""
ROWS = "rows"
"""The number of rows of the dataset, which may grow: only a smaller one counts."""
COUNTS = (ROWS, REJECTED)
MEANINGS = {
    SPEED: Meaning(
        "Images per second",
        better="higher",
        sentence="Speed of the encoder on the first rows, measured again each night.",
    ),
    ROWS: Meaning("Rows", better="higher", digits=0, sentence="Rows of the dataset, which may grow."),
    REJECTED: Meaning(
        "Rejected rows", better="lower", digits=0, sentence="Rows of the dataset that could not be measured."
    ),
}


def explain_number(name: str) -> Meaning:
    """Return what a number of a night means."""
    return MEANINGS.get(name) or find_score(name).meaning


def count_tests(entries: Iterable["Entry"]) -> int:
    """Return how many numbers of a night may be changed by chance."""
    return sum(name not in COUNTS for entry in entries for name in entry.measured)


class Measured(BaseModel):
    """A number and its bootstrap standard error over other rows.

    Where the night is compared row by row: ``change`` is how much it has changed since the reference, over the
    ``rows`` that both have, and ``error`` the standard error of that.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    value: float
    noise: float
    change: float | None = None
    error: float = 0.0
    rows: int = 0


@dataclass(frozen=True)
class Band:
    """What a number usually is, and how far from it chance takes a night.

    ``seen`` is the smallest change that is raised with ``POWER``; ``paired``: both nights are compared row by row.
    """

    usual: float
    width: float
    seen: float
    paired: bool


class Finding(BaseModel):
    """A number that is ``change`` away from its usual value, which is more than ``band``."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    encoder: str
    dataset: str
    metric: str
    value: float
    usual: float
    band: float

    @property
    def worse(self) -> bool:
        """Whether the number became worse."""
        return (self.value < self.usual) == (explain_number(self.metric).better == "higher")

    def __str__(self) -> str:
        side = "worse" if self.worse else "better"
        return (
            f"{self.encoder} on {hide(self.dataset)}: {self.metric} is {self.value:.4g}, usual is {self.usual:.4g} "
            f"± {self.band:.2g}: {side}"
        )


def check_day(text: str) -> str:
    """Return a date that is written as 2026-11-21; raises ``ValueError`` for anything else."""
    if date.fromisoformat(text).isoformat() != text:
        raise ValueError("it is not written as 2026-11-21")
    return text


Day = Annotated[str, AfterValidator(check_day)]


class Entry(BaseModel):
    """One encoder on one dataset in one night.

    ``version`` and ``path`` say which encoder, ``sha256`` which bytes; ``accepted``: this is the new usual. ``omitted``
    says why numbers were not measured. ``rows`` is the digest of the night's rows, ``reference`` that of the rows that
    the next night is compared with: those of the last accepted night, or of the first one. Nights of earlier versions
    have neither.
    """

    date: Day
    encoder: str
    dataset: str
    version: str = ""
    path: str = ""
    sha256: str = ""
    measured: dict[str, Measured]
    omitted: dict[str, str] = {}
    rows: str = ""
    reference: str = ""
    findings: list[Finding] = []
    accepted: bool = False
    tracked: bool = False

    @property
    def series(self) -> tuple[str, str]:
        """What is followed from night to night."""
        return self.encoder, self.dataset


_ENTRIES = TypeAdapter(list[Entry])


def read_history(output: str) -> list[Entry]:
    """Return all entries, oldest first; raises ``DataError`` for a damaged file."""
    path = join_url(output, HISTORY_FILE)
    if not exists(path):
        return []
    try:
        return _ENTRIES.validate_python(read_json(path))
    except ValueError:
        raise DataError(f"{path} is damaged: move it away, the next night starts a new one") from None


def write_history(output: str, entries: Sequence[Entry]) -> None:
    """Write all entries, oldest first."""
    ordered = sorted(entries, key=lambda entry: (entry.date, *entry.series))
    text = json.dumps([entry.model_dump() for entry in ordered], indent=1, allow_nan=False)
    write_bytes(join_url(output, HISTORY_FILE), (text + "\n").encode())


def find_reference(history: Sequence[Entry], series: tuple[str, str], date: str) -> str:
    """Return the digest of the rows that a night of a series is compared with; empty where there are none yet.

    A night that is repeated is compared with the reference that held after its first time.
    """
    nights = [entry for entry in history if entry.series == series and entry.date <= date]
    return max(nights, key=lambda entry: entry.date).reference if nights else ""


def add_night(history: Sequence[Entry], tonight: Sequence[Entry]) -> tuple[list[Entry], list[Finding]]:
    """Compare tonight's entries with earlier nights; return the new history and the findings.

    A night that is repeated replaces its earlier entries; one that was accepted is compared with itself, and stays so
    while nothing moves. The rows of an accepted night become the reference, and so do those of a night that has none to
    be compared with and shows nothing.
    """
    done = {(entry.date, *entry.series) for entry in tonight}
    kept = [entry for entry in history if (entry.date, *entry.series) not in done]
    accepted = {e.series: e for e in history if (e.date, *e.series) in done and e.accepted}
    tests = count_tests(tonight)
    settled = [_settle(entry, kept, accepted.get(entry.series), tests) for entry in tonight]
    return [*kept, *settled], [finding for entry in settled for finding in entry.findings]


def _settle(entry: Entry, history: Sequence[Entry], repeated: Entry | None, tests: int) -> Entry:
    """Judge an entry by the one that it repeats, if that was accepted, else by the nights before it."""
    findings = list(judge(entry, [repeated] if repeated else trailing(history, entry), tests))
    accepted = entry.accepted or (repeated is not None and not findings)
    fresh = {"reference": entry.rows} if accepted or not (entry.reference or findings) else {}
    return entry.model_copy(update={"findings": findings, "accepted": accepted, **fresh})


def judge(entry: Entry, window: Sequence[Entry], tests: int) -> Iterator[Finding]:
    """Yield the numbers of ``entry`` outside of their band, as the nights of ``window`` give it."""
    for name, now in entry.measured.items():
        band = find_band(name, now, window, tests)
        if band and abs(now.value - band.usual) > band.width:
            yield Finding(
                encoder=entry.encoder,
                dataset=entry.dataset,
                metric=name,
                value=now.value,
                usual=band.usual,
                band=band.width,
            )


def find_band(name: str, now: Measured, window: Sequence[Entry], tests: int) -> Band | None:
    """Return the band of a number in the nights before, ``None`` where too few were measured.

    ``CHANCE`` is shared by the night's ``tests`` numbers (Bonferroni). Of rows that are the same in both nights only
    their changes count: the band is their standard error times the quantile of Student's t (with no more degrees of
    freedom than the error of a distance of sets has swaps), and at least ``SAME``. Of rejected rows the usual number
    is the first of the window, that of the accepted night; of rows it is the largest. Without rows that are the same
    (an earlier version's nights, speed) the usual value is the median of the window, and the band is ``q sqrt(noise^2
    + usual_noise^2 + spread^2)``: tonight's bootstrap error, the median one of the window, and the window's own
    spread from night to night (1.48 times its median deviation, for speed 1.25 times its mean one).
    """
    earlier = [night.measured[name] for night in window if name in night.measured]
    share = 1 - CHANCE / (2 * max(tests, 1))
    if name == ROWS:
        return Band(max(now.value, *(night.value for night in earlier)), 0.5, 1.0, paired=True) if earlier else None
    if name == REJECTED:
        return Band(earlier[0].value, 0.5, 1.0, paired=True) if earlier else None
    if now.change is not None and now.rows > 1:
        return _paired_band(now, now.change, earlier, share)
    if len(earlier) < (NIGHTS_FOR_SPEED if name == SPEED else 1):
        return None
    usual = median(night.value for night in earlier)
    away = [abs(night.value - usual) for night in earlier]
    spread = 1.2533 * fmean(away) if name == SPEED else 1.4826 * median(away)
    quantile = t.ppf(share, len(earlier) - 1) if name == SPEED else norm.ppf(share)
    error = (now.noise**2 + median(night.noise for night in earlier) ** 2 + spread**2) ** 0.5
    return _band(usual, error, quantile * error + 1e-9 * abs(usual), paired=False)


def _paired_band(now: Measured, change: float, earlier: Sequence[Measured], share: float) -> Band:
    error, usual = now.error, now.value - change
    if not (error or change):  # the same pictures: what another encoder's would vary by is known from earlier nights
        error = max((night.error for night in earlier), default=0.0) or 2**0.5 * now.noise
    width = float(t.ppf(share, min(now.rows, SWAPS + 1) - 1)) * error
    return _band(usual, error, max(width, SAME * abs(usual)), paired=True)


def _band(usual: float, error: float, width: float, paired: bool) -> Band:
    return Band(usual, float(width), float(width + norm.ppf(POWER) * error), paired)


def trailing(history: Sequence[Entry], entry: Entry) -> list[Entry]:
    """Return the nights of the same series before ``entry``: the last accepted one (or the first), and the last ones.

    There are ``WINDOW`` of them at most.
    """
    nights = sorted((e for e in history if e.series == entry.series and e.date < entry.date), key=lambda e: e.date)
    start = max((i for i, night in enumerate(nights) if night.accepted), default=0)
    return [*nights[start : start + 1], *nights[start + 1 :][1 - WINDOW :]]


def by_series(history: Sequence[Entry]) -> Mapping[tuple[str, str], list[Entry]]:
    """Return the entries by encoder and dataset, oldest first."""
    series: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(history, key=lambda entry: (entry.series, entry.date)):
        series.setdefault(entry.series, []).append(entry)
    return series
