"""Sidecars: text beside a picture, as in ``a.jpg``, ``a.json``, ``a.txt``. Each goes to its own picture, or to none.

What decides is the picture's own name, with its suffix (``a.jpg.json``) or without it (``a.json``), in whatever Unicode
form. Only then WebDataset's rule applies, which cuts names at their first dot, so that ``a.json`` belongs to
``a.left.jpg`` and ``a.points.json`` to ``a.jpg``: if there is only one such picture, and no number between the dots,
because ``visit.2.json`` must not reach ``visit.jpg``.
"""

from __future__ import annotations

import codecs
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from gan_core.importers.names import is_picture
from gan_core.importers.tally import Tally
from gan_core.rows import Row, composed

SUFFIXES = (".json", ".txt", ".cls")
FIELDS = (
    *(pa.field(suffix[1:], pa.string()) for suffix in SUFFIXES),
    pa.field("landmarks", pa.list_(pa.list_(pa.float64()))),
)
"""The columns of sidecars: their texts, and the list of points ``landmarks`` in the JSON."""
MAX_SIDECAR_BYTES = 1 << 20
"""Larger sidecars are left out; it bounds the memory of a row."""

LARGE = "sidecars of more than 1 MiB"
SHARED = "sidecars that fit more than one picture, or of which a picture has several"
ALONE = "sidecars without a picture"
NO_LANDMARKS = "sidecars whose landmarks can't be read"
NO_UTF8 = "sidecars that are not UTF-8, whose other bytes were replaced"

Contents = Mapping[str, tuple[str, bytes]]
"""The sidecars of a picture: by suffix the name, for messages, and the bytes."""


@dataclass(frozen=True)
class Matches:
    """Which sidecars belong to which picture, as places in a list of names.

    ``of`` has for each picture its sidecars by suffix. ``alone`` lists sidecars without a picture, in groups that share
    a name, and ``shared`` those that fit several pictures, or of which one picture has several.
    """

    of: dict[int, dict[str, int]] = field(default_factory=dict)
    alone: list[list[int]] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)


def sidecar_suffix(name: str) -> str:
    """Return the suffix that makes ``name`` a sidecar, in lower case, or an empty string."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def match_sidecars(names: Sequence[str]) -> Matches:
    """Match the sidecars among ``names`` (paths, in any order) with the pictures among them."""
    matches = Matches()
    pictures = _Pictures(names)
    alone: dict[str, list[int]] = defaultdict(list)
    claims: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for place, name in enumerate(names):
        if suffix := sidecar_suffix(name):
            rank, found = pictures.of(name[: -len(suffix)])
            if not found:
                alone[name[: -len(suffix)]].append(place)
            elif len(found) > 1:
                matches.shared.append(place)
            else:
                claims[found[0], suffix].append((rank, place))
    for (picture, suffix), claimed in claims.items():
        best = [place for rank, place in claimed if rank == min(claimed)[0]]
        if len(best) == 1:
            matches.of.setdefault(picture, {})[suffix] = best[0]
        matches.shared.extend(place for _, place in claimed if best != [place])
    matches.alone.extend(alone.values())
    return matches


class _Pictures:
    """The pictures among some names, found by the name of a sidecar without its suffix.

    ``tables`` go from the strictest rule to the widest, and ``samples`` are WebDataset's, which start alike.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.tables: list[dict[str, list[int]]] = [defaultdict(list) for _ in range(4)]
        self.samples: dict[str, list[int]] = defaultdict(list)
        for place, name in enumerate(names):
            if is_picture(name):
                for table, key in zip(self.tables, self._keys(name, _stem(name)), strict=True):
                    table[key].append(place)
                self.samples[_cut(composed(name))].append(place)

    def of(self, base: str) -> tuple[int, list[int]]:
        """Return the pictures that a sidecar fits, and the rank of the rule that found them; 0 is the strictest."""
        for rank, (table, key) in enumerate(zip(self.tables, self._keys(base, base), strict=True)):
            if key in table:
                return rank, table[key]
        near = self.samples.get(_cut(composed(base)), [])
        return len(self.tables), [
            place for place in near if _differ_by_words(composed(_stem(self.names[place])), composed(base))
        ]

    @staticmethod
    def _keys(name: str, stem: str) -> Iterator[str]:
        yield from (name, stem, composed(name), composed(stem))


def read_sidecars(contents: Contents, noted: Tally) -> Row:
    """Return the columns of a picture's sidecars; what can't be read of them is counted in ``noted``."""
    row: Row = {}
    for suffix, (name, data) in contents.items():
        text, is_whole = _decode(data)
        row[suffix[1:]] = text
        if not is_whole:
            noted.add(NO_UTF8, name)
    if ".json" in contents:
        try:
            row["landmarks"] = _read_landmarks(row["json"])
        except (ValueError, TypeError, OverflowError, RecursionError):
            noted.add(NO_LANDMARKS, contents[".json"][0])
    return row


def _read_landmarks(text: str) -> list[list[float]] | None:
    content = json.loads(text)
    points = content.get("landmarks") if isinstance(content, dict) else None
    if points is None:
        return None
    numbers = [[float(x), float(y)] for x, y in points]
    if not all(math.isfinite(number) for point in numbers for number in point):
        raise ValueError("not finite")
    return numbers


def _decode(data: bytes) -> tuple[str, bool]:
    """Return the text, and whether nothing of it was replaced."""
    encodings = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in encodings.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding), True
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), False


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _cut(name: str) -> str:
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}"


def _differ_by_words(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    words = longer.removeprefix(f"{shorter}.").split(".")
    return longer.startswith(f"{shorter}.") and not any(word[:1].isdigit() for word in words)
