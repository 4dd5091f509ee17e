"""What is kept of the rows of a night, so that later nights are compared with it row by row."""

import io
import zipfile
import zlib
from dataclasses import dataclass, field

import numpy as np

from gan_core.metrics.noise import frechet_from, sliced_from, swap_error
from gan_core.metrics.statistics import SEPARATOR
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import read_bytes

FEWEST = 8
"""With fewer common rows nothing can be said of their change."""
HALF_MAX = float(np.finfo(np.float16).max)
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Change:
    """How much the mean over ``rows`` common rows, or the distance of their sets, has changed; its standard error."""

    change: float
    error: float
    rows: int


@dataclass(frozen=True)
class KeptRows:
    """The rows of a night, by the hash of their keys (uint64, ascending).

    ``scores``: float32 ``[N]`` by name for ``keys``. ``sets``: for each distance of two sets ``keys``, ``aligned`` and
    ``encoded``, float16: features ``[N, D]`` of an FID, projections ``[N, levels, directions, patches]`` of an SWD.
    """

    keys: np.ndarray
    scores: Arrays = field(default_factory=dict)
    sets: dict[str, Arrays] = field(default_factory=dict)


def keep_set(keys: np.ndarray, aligned: np.ndarray, encoded: np.ndarray) -> Arrays:
    """Return one entry of ``KeptRows.sets``: sorted by key, in half precision."""
    order = np.argsort(keys)
    small = (np.clip(part[order], -HALF_MAX, HALF_MAX).astype(np.float16) for part in (aligned, encoded))
    return dict(zip(("keys", "aligned", "encoded"), (keys[order], *small), strict=True))


def compare(before: KeptRows, now: KeptRows) -> dict[str, Change]:
    """Return how each number has changed over the rows that both nights have; those with too few are left out."""
    scores = {n: _compare_scores(before, now, n) for n in now.scores.keys() & before.scores.keys()}
    sets = {n: _compare_sets(n, before.sets[n], now.sets[n]) for n in now.sets.keys() & before.sets.keys()}
    return {name: change for name, change in (scores | sets).items() if change is not None}


def _compare_scores(before: KeptRows, now: KeptRows, name: str) -> Change | None:
    _, old, new = np.intersect1d(before.keys, now.keys, return_indices=True)
    if len(new) < FEWEST:
        return None
    change = now.scores[name][new].astype(np.float64) - before.scores[name][old]
    return Change(float(change.mean()), float(change.std(ddof=1) / len(change) ** 0.5), len(change))


def _compare_sets(name: str, before: Arrays, now: Arrays) -> Change | None:
    _, old, new = np.intersect1d(before["keys"], now["keys"], return_indices=True)
    if len(new) < FEWEST or not _alike(before["aligned"][old], now["aligned"][new]):
        return None
    aligned, were, are = (
        kept[picture][rows].astype(np.float32)
        for kept, picture, rows in ((now, "aligned", new), (before, "encoded", old), (now, "encoded", new))
    )
    distance = (sliced_from if name.startswith("swd/") else frechet_from)(aligned)
    return Change(distance(are) - distance(were), swap_error(distance, were, are), len(new))


def _alike(before: np.ndarray, now: np.ndarray) -> bool:
    """Tell whether one network has seen the same pictures: else its values differ by far more than rounding."""
    if before.shape != now.shape:
        return False
    old, new = before.astype(np.float32), now.astype(np.float32)
    return bool(np.abs(new - old).mean() <= 0.01 * new.std())


def write_kept(path: str, kept: KeptRows) -> None:
    """Write the rows of a night into one file."""
    arrays = {SEPARATOR.join(("score", name)): values for name, values in kept.scores.items()}
    for name, parts in kept.sets.items():
        arrays |= {SEPARATOR.join(("set", name, part)): values for part, values in parts.items()}
    file = io.BytesIO()
    np.savez_compressed(file, keys=kept.keys, **arrays)  # type: ignore[arg-type]  # numpy declares a flag of its own
    write_bytes(path, file.getvalue())


def read_kept(path: str) -> KeptRows | None:
    """Return what ``write_kept`` wrote, ``None`` where there is nothing, or something else.

    Raises ``OSError`` for a store that doesn't answer: that is no night without rows.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        kept = KeptRows(arrays.pop("keys"))
        for name, values in arrays.items():
            kind, metric, *part = name.split(SEPARATOR)
            (kept.sets.setdefault(metric, {}) if kind == "set" else kept.scores)[part[0] if part else metric] = values
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return kept
