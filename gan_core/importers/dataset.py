"""Write the items of an importer as a dataset: shards with receipts, and a ``dataset.json`` that describes them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gan_core.errors import DataError
from gan_core.importers.base import IMPORTERS, Importer, SourceFile, printable
from gan_core.importers.listing import find_files, name_of
from gan_core.importers.metadata import find_cut_off
from gan_core.importers.names import ARCHIVES, kind_of
from gan_core.importers.shipped import PACKAGES
from gan_core.importers.tally import Group, Tally
from gan_core.rows import Row, composed
from gan_core.secrets import hide
from gan_core.storage.atomic import exclusive, remove, sweep_temporary, write_bytes
from gan_core.storage.images import image_value
from gan_core.storage.names import SHARD_END
from gan_core.storage.readme import README, remove_readme, write_readme
from gan_core.storage.receipts import (
    Receipt,
    code_version,
    content_key,
    hash_shards,
    read_receipt,
    receipt_path,
    statistics_path,
    write_receipt,
)
from gan_core.storage.shards import IMAGE, UNFINISHED_IMPORT, ShardWriter, shard_name
from gan_core.storage.urls import base_name, exists, is_inside, is_local, join_url, names_in, read_bytes, store_place
from gan_core.wording import counted

ABOUT = "dataset.json"
MAX_SHARD_BYTES = 500 << 20
"""A shard ends at this many bytes of images, even if it has fewer than ``rows_per_shard`` rows."""
VERSION = 1
STAGE = "import"
"""What the rows and receipts of an import name as their stage."""
SHARD = re.compile(r"shard-\d{5,}\.parquet")
SHOWN_GROUPS = 8
"""Reasons that are printed of each sort, so that what an import says fits on a screen; the others are stored."""
SAME_BUT_FORM = "keys that look like an earlier one, but are in another Unicode form (NFC, NFD): they stay apart"


class ImportMarker(BaseModel):
    """The content of ``importing.json``, which exists while an import runs, and of a dataset what says its source.

    ``source_sha256`` tells sources apart whose addresses differ only in what ``source`` hides; older ones have none.
    """

    source: str
    source_sha256: str = ""


class ImportReport(BaseModel):
    """The result of an import, also stored as ``dataset.json``. ``sha256`` is over the shards' hashes, in order.

    ``source`` is an absolute path, or an address without its secrets, and ``source_sha256`` the hash of the whole one.
    ``ignored`` counts the files that gave no row, and ``left_out`` names their kinds. ``rejected`` has the rows that
    are not ``ok`` by status and reason, and ``noted`` what was imported with a loss. ``changed`` (not stored: the same
    source gives the same bytes) is how many shards differ from those of the earlier import that this one replaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    source_sha256: str = ""
    kind: str
    rows_per_shard: int
    shards: int
    rows: dict[str, int]
    ignored: int
    sha256: str
    rejected: tuple[Group, ...] = ()
    left_out: tuple[Group, ...] = ()
    noted: tuple[Group, ...] = ()
    changed: int | None = Field(default=None, exclude=True)

    @property
    def counts(self) -> str:
        """The rows by status, in words."""
        return ", ".join(f"{count} {status}" for status, count in self.rows.items())

    def __str__(self) -> str:
        total = sum(self.rows.values())
        left_out = f"; {counted(self.ignored, 'file')} left out" if self.ignored else ""
        lines = [
            f"imported {counted(total, 'row')} into {counted(self.shards, 'shard')} ({self.counts}) "
            f"from {self.source}{left_out}"
        ]
        if self.changed is not None:
            told = f"{self.changed} of {counted(self.shards, 'shard')} differ, which runs over them make again"
            lines.append(f"  replaced the earlier import: {told if self.changed else 'no shard differs'}")
        for what, groups in (("rejected", self.rejected), ("left out", self.left_out), ("noted", self.noted)):
            lines += [f"  {what}: {group}" for group in groups[:SHOWN_GROUPS]]
            if rest := groups[SHOWN_GROUPS:]:
                lines.append(f"  {what}: {sum(group.count for group in rest)} for {len(rest)} more reasons in {ABOUT}")
        return "\n".join(lines)


def import_dataset(
    source: str | Path,
    destination: str | Path,
    rows_per_shard: int = 1000,
    kind: str | None = None,
    progress: Callable[[int], None] | None = None,
    follow_links: bool = False,
) -> ImportReport:
    """Import a folder, tar archives or Parquet files as a dataset; ``kind`` is detected if it is not given.

    Rows hold the image files' bytes, unchanged and undecoded, and their ``sha256``; keys are unique. The same source
    gives the same bytes. A shard ends at ``rows_per_shard`` rows or 500 MiB. Links that leave the source are read only
    with ``follow_links``. An earlier import of the same source at ``destination`` is replaced. Raises ``DataError`` if
    there is nothing to import, or if a file is damaged or a folder can't be read; in that case no new dataset is left
    behind. An earlier one stays if no shard was replaced yet; else the error says that it is lost.
    """
    if rows_per_shard < 1:
        raise DataError(f"rows_per_shard is {rows_per_shard}: at least 1 is needed")
    _check_apart(source, destination)
    left_out = Tally()
    found = find_files(source, left_out, follow_links)
    if cut_off := find_cut_off(source, found):
        raise DataError(f"{cut_off.shown} says that this export has not finished: run the same export again")
    kind, files = choose_kind(found, source, kind)
    importer = IMPORTERS.get(kind)(files)
    importer.left_out.include(left_out)
    chosen = {file.name for file in files}
    for file in found:
        if file.name not in chosen:
            importer.left_out.add(kind_of(file.name), printable(file.name))
    receipts: list[Receipt] = []
    marker = ImportMarker(source=name_of(source), source_sha256=_hash_source(str(source)))
    with exclusive(join_url(destination, ABOUT)), _unfinished(destination, marker, receipts) as earlier:
        rows = _Rows(importer)
        for receipt in _write_shards(rows, kind, destination, rows_per_shard, progress or _silent):
            receipts.append(receipt)
        if not receipts:
            raise DataError(f"nothing to import from {marker.source}: its {kind} files have no rows")
        _remove_shards(destination, first=len(receipts))
        report = ImportReport(
            **marker.model_dump(),
            kind=kind,
            rows_per_shard=rows_per_shard,
            shards=len(receipts),
            rows=dict(sorted(sum((Counter(receipt.rows) for receipt in receipts), Counter()).items())),
            ignored=importer.left_out.total(),
            sha256=hash_shards(receipts),
            rejected=tuple(rows.rejected.groups()),
            left_out=tuple(importer.left_out.groups()),
            noted=tuple(importer.noted.groups()),
            changed=None if earlier is None else _count_changed(earlier, receipts),
        )
        first = join_url(destination, shard_name(0))
        told = f"Imported by `edit-dataset import`: {report.counts}."
        write_readme(destination, first, base_name(marker.source), [told], report.sha256)
        write_bytes(join_url(destination, ABOUT), (report.model_dump_json(indent=1) + "\n").encode())
    return report


def imported_from(dataset: str | Path) -> str:
    """Return the folder or file that a dataset was imported from, or an empty string if ``dataset`` doesn't say so."""
    about = join_url(dataset, ABOUT)
    marker = _read_marker(about) if str(dataset) and exists(about) else None
    return marker.source if marker else ""


def choose_kind(files: Sequence[SourceFile], source: str | Path, kind: str | None) -> tuple[str, list[SourceFile]]:
    """Return the importer's name and its files, sidecars included.

    Raises ``DataError`` if no importer fits, or more than one.
    """
    names = [kind] if kind else IMPORTERS.names()
    matches = {name: [file for file in files if file.has_suffix(IMPORTERS.get(name).suffixes)] for name in names}
    besides = {name: IMPORTERS.get(name).beside for name, found in matches.items() if found}
    matches = {name: found for name, found in matches.items() if found and not _only_beside(found, name, besides)}
    if not matches:
        seen = ", ".join(file.name for file in files[:3]) or "nothing"
        hint = ": unpack archives first" if any(kind_of(file.name) == ARCHIVES for file in files) else ""
        told = f"no {' or '.join(names)} files; it has {seen}{hint}"
        raise DataError(f"nothing to import from {name_of(source)}: {told}")
    if len(matches) > 1:
        counts = " and ".join(f"{len(found)} of kind {name}" for name, found in matches.items())
        raise DataError(f"{name_of(source)} has {counts}: choose one with --kind")
    (name,) = matches
    importer = IMPORTERS.get(name)
    return name, [file for file in files if file.has_suffix((*importer.suffixes, *importer.beside))]


def _only_beside(found: Sequence[SourceFile], name: str, besides: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether all files that one importer could read belong beside those of another one that has files too."""
    others = [beside for other, beside in besides.items() if other != name]
    return any(all(file.has_suffix(beside) for file in found) for beside in others)


def _write_shards(
    rows: _Rows, kind: str, destination: str | Path, rows_per_shard: int, progress: Callable[[int], None]
) -> Iterator[Receipt]:
    identity = {"kind": kind, "rows_per_shard": rows_per_shard}
    for index, first in enumerate(rows):
        url = join_url(destination, shard_name(index))
        with ShardWriter(url, rows.fields) as writer:
            for row in _up_to(chain([first], rows), rows_per_shard):
                writer.write([row])
                progress(1)
        code = code_version(VERSION)
        receipt = Receipt(
            stage=STAGE,
            key=content_key(STAGE, code, identity, {"shard": writer.sha256}),
            input_keys={},
            output_sha256=writer.sha256,
            rows=dict(sorted(writer.statuses.items())),
            seconds=0.0,  # an import is reproducible to the byte, receipts included
            code_version=code,
            identity=identity,
        )
        yield receipt  # before it is written: the shard has replaced another one already
        write_receipt(url, receipt)


def _up_to(rows: Iterator[Row], count: int) -> Iterator[Row]:
    weight = 0
    for taken, row in enumerate(rows, start=1):
        yield row
        weight += len((row["image"] or {}).get("bytes") or b"")
        if taken == count or weight >= MAX_SHARD_BYTES:
            return


class _Rows(Iterator[Row]):
    """The rows of an importer's items, with keys that are all different; ``rejected`` counts those that are not ok."""

    def __init__(self, importer: Importer) -> None:
        self.fields = (pa.field("image", IMAGE), pa.field("sha256", pa.string()), *importer.fields)
        self.rejected = Tally()
        self._items = importer.items()
        self._noted = importer.noted
        self._keys: set[str] = set()
        self._numbers: dict[str, count[int]] = {}
        self._renamed: dict[str, str] = {}
        self._forms: set[str] = set()

    def __next__(self) -> Row:
        item = next(self._items)
        key, status, reason = item.key, item.status, item.reason
        if key in self._keys:
            numbers = self._numbers.setdefault(item.key, count(2))  # it gives no number twice
            key = next(name for n in numbers if (name := f"{item.key}#{n}") not in self._keys)
            if status == "ok":
                status, reason = "duplicate_key", f"an earlier row has the key {item.key}"
                if first := self._renamed.get(item.key):
                    reason += f", which it was given because it repeats {first}: remove it, or rename this one"
            self._renamed[key] = item.key
        self._keys.add(key)
        self._compare_form(key)
        if status != "ok":
            self.rejected.add(f"{status}: {reason}", key)
        row: Row = {"key": key, "status": status, "reason": reason, "stage": STAGE, "image": None, "sha256": None}
        if item.data is not None:
            row["image"] = image_value(item.data, item.path or key)
            row["sha256"] = hashlib.sha256(item.data).hexdigest()
        return row | item.extra

    def _compare_form(self, key: str) -> None:
        if key.isascii():
            return
        if (form := composed(key)) in self._forms:
            self._noted.add(SAME_BUT_FORM, key)
        self._forms.add(form)


@contextmanager
def _unfinished(
    destination: str | Path, begun: ImportMarker, written: Sequence[Receipt]
) -> Iterator[Mapping[str, str] | None]:
    """Mark the dataset as unfinished while the block runs, which notes the shards that are ``written``.

    The block is given what ``_check_destination`` returns.

    If the block raises, a new dataset is removed, and an earlier one is whole again unless a shard was written.
    """
    marker = join_url(destination, UNFINISHED_IMPORT)
    was_whole = not exists(marker)
    earlier = _check_destination(destination, begun)
    for name in (ABOUT, UNFINISHED_IMPORT, README, "shard-"):
        sweep_temporary(join_url(destination, name))
    try:
        write_bytes(marker, begun.model_dump_json().encode())
        yield earlier
    except BaseException as error:
        if earlier is None:
            remove(join_url(destination, ABOUT))
            remove_readme(destination)
            _remove_shards(destination, first=0)
            remove(marker)
        elif was_whole and not written:
            remove(marker)
        elif isinstance(error, DataError):
            raise DataError(
                f"{error}; this import has replaced {counted(len(written), 'shard')} of the earlier one in "
                f"{destination}: it can be used again when an import has succeeded"
            ) from None
        raise
    remove(marker)


def _check_destination(destination: str | Path, begun: ImportMarker) -> Mapping[str, str] | None:
    """Return the hashes of a finished import's shards by name, ``None`` if there is none.

    Raises ``DataError`` for anything but an import of the same source. It may have been killed, and the shard that it
    wrote then has no receipt.
    """
    visible = [name for name in names_in(destination) if not name.startswith(".")]
    if not visible:
        return None
    for name in (ABOUT, UNFINISHED_IMPORT):
        other = _read_marker(join_url(destination, name)) if name in visible else None
        if other and (other.source_sha256 or _hash_source(other.source)) == begun.source_sha256:
            shards = _check_shards(destination, visible, was_killed=UNFINISHED_IMPORT in visible)
            return shards if ABOUT in visible else None
        if other:
            whose = other.source if is_local(other.source) else hide(other.source)  # older ones: as it was typed
            advice = "choose another folder, or empty it if those have moved"
            raise DataError(f"{destination} holds a dataset of {whose}: {advice}")
    raise DataError(f"{destination} is not empty ({visible[0]} is there): choose another folder or empty it")


def _check_shards(destination: str | Path, names: Sequence[str], was_killed: bool) -> Mapping[str, str]:
    """Return the hashes of the shards by name, as their receipts have them.

    Raises ``DataError`` for a shard that no import wrote: it would be replaced, removed or read with the others.
    """
    hashes = {}
    for name in filter(lambda name: name.endswith(SHARD_END), names):
        receipt = read_receipt(join_url(destination, name))
        if receipt.stage != STAGE if receipt else not (was_killed and SHARD.fullmatch(name)):
            raise DataError(f"{destination} has {printable(name)}, which no import wrote: move it away")
        if receipt:
            hashes[name] = receipt.output_sha256
    return hashes


def _count_changed(earlier: Mapping[str, str], written: Sequence[Receipt]) -> int:
    return sum(earlier.get(shard_name(index)) != receipt.output_sha256 for index, receipt in enumerate(written))


def _read_marker(url: str) -> ImportMarker | None:
    try:
        return ImportMarker.model_validate_json(read_bytes(url))
    except (ValidationError, IsADirectoryError):
        return None


def _hash_source(source: str) -> str:
    """Hash what a source is called, secrets included; a relative path is one below the current folder."""
    whole = name_of(source) if source == PACKAGES or is_local(source) else repr(store_place(source))
    return hashlib.sha256(whole.encode()).hexdigest()


def _check_apart(source: str | Path, destination: str | Path) -> None:
    if is_inside(destination, source):
        raise DataError(f"{destination} is inside {name_of(source)}: choose a folder outside of it")


def _remove_shards(destination: str | Path, first: int) -> None:
    for name in names_in(destination):
        number = re.fullmatch(r"shard-(\d{5,})\.parquet", name)
        if number and int(number[1]) >= first:
            url = join_url(destination, name)
            for part in (receipt_path(url), statistics_path(url), url):
                remove(part)


def _silent(_rows: int) -> None:
    pass
