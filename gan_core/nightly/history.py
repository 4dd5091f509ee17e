"""The history of nightly measurements, kept in one small file, and which metrics have moved by more than chance."""

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median

from pydantic import BaseModel, ConfigDict
from scipy.stats import norm, t

from gan_core.errors import DataError
from gan_core.meaning import Meaning
from gan_core.metrics.names import find_score
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import exists, join_url, read_bytes

HISTORY_FILE = "history.json"
WINDOW = 14
CHANCE = 0.001
"""The probability of any false alarm in a night in which nothing has changed."""
SPEED = "images_per_s"
NIGHTS_FOR_SPEED = 7
"""The number of nights from which the variation of speed, which depends on the machine, is estimated."""
SPEED_MEANING = Meaning(
    "Images per second", better="higher", sentence="Speed of the encoder on the first rows, measured again each night."
)


def explain_number(name: str) -> Meaning:
    """Return what a number of a night means."""
    return SPEED_MEANING if name == SPEED else find_score(name).meaning


class Measured(BaseModel):
    """A number and its bootstrap standard error."""

    model_config = ConfigDict(frozen=True)

    value: float
    noise: float


class Finding(BaseModel):
    """A number that is ``change`` away from its usual value, which is more than ``band``."""

    model_config = ConfigDict(frozen=True)

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
            f"{self.encoder} on {self.dataset}: {self.metric} is {self.value:.4g}, usual is {self.usual:.4g} "
            f"± {self.band:.2g}: {side}"
        )


class Entry(BaseModel):
    """One encoder on one dataset in one night.

    ``version`` and ``path`` say which encoder, ``sha256`` which bytes; ``accepted``: its values are the new usual ones.
    """

    date: str
    encoder: str
    dataset: str
    version: str = ""
    path: str = ""
    sha256: str = ""
    measured: dict[str, Measured]
    findings: list[Finding] = []
    accepted: bool = False
    tracked: bool = False

    @property
    def series(self) -> tuple[str, str]:
        """What is followed from night to night."""
        return self.encoder, self.dataset


def read_history(output: str) -> list[Entry]:
    """Return all entries, oldest first; raises ``DataError`` for a damaged file."""
    path = join_url(output, HISTORY_FILE)
    if not exists(path):
        return []
    try:
        return [Entry.model_validate(entry) for entry in json.loads(read_bytes(path))]
    except ValueError:
        raise DataError(f"{path} is damaged: move it away, the next night starts a new one") from None


def write_history(output: str, entries: Sequence[Entry]) -> None:
    """Write all entries, oldest first."""
    ordered = sorted(entries, key=lambda entry: (entry.date, *entry.series))
    text = json.dumps([entry.model_dump() for entry in ordered], indent=1, allow_nan=False)
    write_bytes(join_url(output, HISTORY_FILE), (text + "\n").encode())


def add_night(history: Sequence[Entry], tonight: Sequence[Entry]) -> tuple[list[Entry], list[Finding]]:
    """Compare tonight's entries with earlier nights; return the new history and the findings.

    A night that is repeated replaces its earlier entries.
    """
    done = {(entry.date, *entry.series) for entry in tonight}
    kept = [entry for entry in history if (entry.date, *entry.series) not in done]
    tests = sum(len(entry.measured) for entry in tonight)
    judged = [entry.model_copy(update={"findings": list(judge(entry, kept, tests))}) for entry in tonight]
    return [*kept, *judged], [finding for entry in judged for finding in entry.findings]


def judge(entry: Entry, history: Sequence[Entry], tests: int) -> Iterator[Finding]:
    """Yield the numbers of ``entry`` outside of their band.

    The usual value is the median of the last ``WINDOW`` nights before it, from the last accepted one on. The band
    is ``q sqrt(noise^2 + usual_noise^2 + spread^2)``: tonight's bootstrap error, the median one of the window, and the
    window's own spread from night to night (1.48 times its median deviation, for speed 1.25 times its mean one);
    ``q`` is the quantile for ``CHANCE`` shared by the night's ``tests`` numbers, of the normal distribution, for speed
    of Student's.
    """
    window = trailing(history, entry)
    for name, now in entry.measured.items():
        earlier = [night.measured[name] for night in window if name in night.measured]
        if len(earlier) < nights_needed(name):
            continue
        usual, band = usual_and_band(name, now, earlier, tests)
        if abs(now.value - usual) > band:
            yield Finding(
                encoder=entry.encoder, dataset=entry.dataset, metric=name, value=now.value, usual=usual, band=band
            )


def nights_needed(name: str) -> int:
    """Return how many nights must have come before for a number to be judged."""
    return NIGHTS_FOR_SPEED if name == SPEED else 1


def trailing(history: Sequence[Entry], entry: Entry) -> list[Entry]:
    """Return the nights of the same series before ``entry``: the last ``WINDOW``, from the last accepted one on."""
    nights = sorted((e for e in history if e.series == entry.series and e.date < entry.date), key=lambda e: e.date)
    start = max((i for i, night in enumerate(nights) if night.accepted), default=0)
    return nights[start:][-WINDOW:]


def usual_and_band(name: str, now: Measured, earlier: Sequence[Measured], tests: int) -> tuple[float, float]:
    """Return the usual value and how far a night's number is from it by chance."""
    usual = median(night.value for night in earlier)
    away = [abs(night.value - usual) for night in earlier]
    spread = 1.2533 * fmean(away) if name == SPEED else 1.4826 * median(away)
    share = 1 - CHANCE / (2 * max(tests, 1))
    quantile = t.ppf(share, len(earlier) - 1) if name == SPEED else norm.ppf(share)
    noise = median(night.noise for night in earlier)
    return usual, float(quantile * (now.noise**2 + noise**2 + spread**2) ** 0.5 + 1e-9 * abs(usual))


def by_series(history: Sequence[Entry]) -> Mapping[tuple[str, str], list[Entry]]:
    """Return the entries by encoder and dataset, oldest first."""
    series: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(history, key=lambda entry: (entry.series, entry.date)):
        series.setdefault(entry.series, []).append(entry)
    return series
