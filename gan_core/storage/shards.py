"""Shards: Parquet files of rows whose image columns HF ``datasets`` reads as images.

The same rows give the same bytes, however they were batched (for one version of pyarrow, which writes its version into
every file). Reading and writing hold one row group in memory.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import ArrayLike

from gan_core.errors import DataError
from gan_core.rows import Row
from gan_core.storage.atomic import atomic_write
from gan_core.storage.urls import base_name, explain_denied, join_url, names_in, open_fs

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The type of columns of pictures: an encoded image, and a name for its file."""
BASE_FIELDS = tuple(pa.field(name, pa.string()) for name in ("key", "status", "reason", "stage"))
BASE_NAMES = tuple(field.name for field in BASE_FIELDS)
UNFINISHED_IMPORT = "importing.json"
CLASS_NAMES = b"class_names"
"""What a field's metadata call the names of the classes that the column has the numbers of, a list as JSON."""
CLASS_LABEL = "ClassLabel"
"""HF's feature of such a column."""
ANY_LENGTH = -1
GROUP_ROWS = 100
GROUP_BYTES = 32 << 20
"""A row group ends at this many rows or bytes of images, which bounds the memory of readers and writers."""


def latent_type(n_latent: int, w_dim: int) -> pa.DataType:
    """Return the column type of ``[n_latent, w_dim]`` float32: nested fixed-size lists, which HF ``datasets`` reads.

    Parquet readers fail on null values of this type, so a missing array is stored as all NaN and read as ``None``.
    """
    return pa.list_(pa.list_(pa.float32(), w_dim), n_latent)


CROP_FIELDS = (pa.field("landmarks", latent_type(5, 2)), pa.field("quad", latent_type(4, 2)))
"""The columns of cropped pictures that are in pixels of the pictures that these were cropped from."""


def is_cropped(schema: pa.Schema) -> bool:
    """Whether ``align`` has cropped the pictures of these columns, so that the landmarks are not in their pixels."""
    return all(field.name in schema.names and schema.field(field.name).type == field.type for field in CROP_FIELDS)


def shard_name(index: int) -> str:
    """Return the file name of shard number ``index``."""
    return f"shard-{index:05d}.parquet"


def shard_schema(fields: Sequence[pa.Field]) -> pa.Schema:
    """Return the schema of a shard: the base columns, then ``fields``, with what HF says of images and classes.

    Raises ``ValueError`` for a column that appears twice, and for fixed-size lists of anything but floats.
    """
    schema = pa.schema([*BASE_FIELDS, *fields])
    features = {field.name: feature for field in schema if (feature := _feature(field))}
    if twice := [name for name in dict.fromkeys(schema.names) if schema.names.count(name) > 1]:
        raise ValueError(f"column {twice[0]!r} is there twice: each needs a name, and none of {', '.join(BASE_NAMES)}")
    for field in schema:
        if pa.types.is_fixed_size_list(field.type) and not array_shape(field.type):
            raise ValueError(f"column {field.name}: use a plain list, fixed-size lists are for floats")
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})} if features else {})


def with_class_names(field: pa.Field, names: Sequence[str]) -> pa.Field:
    """Return a column of the numbers of classes that states their names, as HF's ``ClassLabel``."""
    return field.with_metadata({CLASS_NAMES: json.dumps(names)})


def _feature(field: pa.Field) -> dict[str, Any]:
    if field.type == IMAGE:
        return {"_type": "Image"}
    names = (field.metadata or {}).get(CLASS_NAMES)
    return {"_type": CLASS_LABEL, "names": json.loads(names)} if names else {}


def list_shards(url: str | Path) -> list[str]:
    """Return the URLs of the shards in a dataset's folder, sorted by name.

    Raises ``DataError`` if the folder doesn't exist, may not be read, has no shards, or holds an unfinished import, and
    if a folder in it has shards too, which nobody would read.
    """
    fs, path = open_fs(url)
    fs.invalidate_cache()
    if not fs.isdir(path):
        if str(url).endswith(".parquet") and fs.exists(path):
            raise DataError(f"{url} is one shard: name the folder that it is in")
        raise DataError(f"no dataset at {url}: make one with `edit-dataset import SRC {url}`")
    with explain_denied(url):
        entries = fs.ls(path, detail=True)
    names = sorted(base_name(entry["name"]) for entry in entries if entry["type"] != "directory")
    if UNFINISHED_IMPORT in names:
        raise DataError(f"the import into {url} was not finished: run the same import again")
    shards = [join_url(url, name) for name in names if _is_shard(name)]
    if odd := [name for name in names if _is_shard(name.lower()) and not _is_shard(name)]:
        raise DataError(f"{url} has {odd[0]}, which would not be read: let it end in .parquet, or move it elsewhere")
    folders = sorted(base_name(entry["name"]) for entry in entries if entry["type"] == "directory")
    inner = [join_url(url, name) for name in folders if not name.startswith(".")]
    inner = [folder for folder in inner if _has_shards(folder)]
    if inner and shards:
        raise DataError(
            f"{url} has shards, and so has {inner[0]} in it, whose rows would not be read: move that folder elsewhere, "
            f"or make one dataset of both with `edit-dataset import {url} DST`"
        )
    if inner:
        raise DataError(f"no shards in {url}, but in {', '.join(inner)}: name one of these")
    if not shards:
        raise DataError(f"no shards in {url}: make a dataset with `edit-dataset import SRC DST`")
    return shards


def _is_shard(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith(".")


def _has_shards(folder: str) -> bool:
    """Whether a folder has shards. One that may not be read, as ``lost+found`` of a disk, is taken to have none."""
    with suppress(PermissionError):
        return any(map(_is_shard, names_in(folder)))
    return False


class ShardWriter:
    """Writes rows to one shard. The file appears when the ``with`` block ends, and does not appear if it raises.

    ``statuses`` counts the written rows by status, and ``flags`` the flags of ``ok`` rows (see ``Stage``).

    Columns that a row lacks become null. Image cells are ``image_value(...)``. Cells of fixed-size lists are arrays,
    tensors or lists of the declared shape.
    """

    def __init__(self, url: str | Path, fields: Sequence[pa.Field]) -> None:
        self.url = str(url)
        self.schema = shard_schema(fields)
        self.sha256 = ""
        self.statuses: Counter[str] = Counter()
        self.flags: Counter[str] = Counter()
        self._waiting: list[Row] = []
        self._weight = 0

    @property
    def rows(self) -> int:
        """The number of rows taken so far."""
        return self.statuses.total()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = stack.enter_context(atomic_write(self.url))
            self._parquet = pq.ParquetWriter(
                self._file,
                self.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=["status", "reason", "stage"],
                write_statistics=["key", "status"],
            )
            self._stack = stack.pop_all()
        return self

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows, and write each row group when it is full; raises ``ValueError`` for a cell of the wrong type."""
        for row in rows:
            self.statuses[row["status"]] += 1
            if row["status"] == "ok" and row.get("reason"):
                self.flags[row["reason"].partition(":")[0]] += 1
            self._waiting.append(row)
            self._weight += sum(len(cell["bytes"] or b"") for cell in row.values() if _is_image(cell))
            if len(self._waiting) >= GROUP_ROWS or self._weight >= GROUP_BYTES:
                self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._stack as stack:
            if error is not None:
                return stack.__exit__(kind, error, trace)
            self._flush()
            self._parquet.close()
        self.sha256 = self._file.sha256
        return None

    def _flush(self) -> None:
        if self._waiting:
            self._parquet.write_table(to_table(self._waiting, self.schema), row_group_size=len(self._waiting))
        self._waiting = []
        self._weight = 0


@contextmanager
def explain_damage(url: str | Path) -> Iterator[None]:
    """Raise errors from reading a Parquet file that is damaged or may not be read as ``DataError``; others pass."""
    try:
        with explain_denied(url):
            yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        line = str(error).splitlines()[0]
        raise DataError(f"{url} is not a whole Parquet file ({line}): make or fetch it again") from None


@contextmanager
def open_shard(url: str | Path) -> Iterator[pq.ParquetFile]:
    """Open a shard for the ``with`` block.

    Raises ``DataError`` if it is missing or damaged, may not be read, or has two columns of one name.
    """
    fs, path = open_fs(url)
    try:
        with explain_denied(url):
            file = fs.open(path, "rb")
    except FileNotFoundError:
        raise DataError(
            f"no shard at {url}: check the path, or make it with `edit-dataset import` or `edit-dataset run`"
        ) from None
    with file, explain_damage(url):
        opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        names = Counter(opened.schema_arrow.names)
        if twice := next((name for name, count in names.items() if count > 1), None):
            raise DataError(f"{url} has {names[twice]} columns {twice!r}: rename or remove them, and write it again")
        yield opened


def count_rows(url: str | Path, flagged: bool = True) -> tuple[dict[str, int], dict[str, int]]:
    """Count a shard's rows by status, and if they may be ``flagged`` those that are ``ok`` by flag.

    Where all rows of a group have one status the file's footer tells it. An unchanged local file is not read again.
    Raises ``DataError`` for what is no shard, and ``FileNotFoundError``.
    """
    fs, path = open_fs(url)
    if not isinstance(fs, LocalFileSystem):
        with fs.open(path, "rb") as file:
            rows, flags = _count(url, file, flagged)
    else:
        seen = os.stat(path)
        rows, flags = _count_unchanged(path, flagged, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    return dict(rows), dict(flags)


@lru_cache(maxsize=1 << 16)
def _count_unchanged(path: str, flagged: bool, *_stamp: int) -> tuple[Counter[str], Counter[str]]:
    with pa.OSFile(path) as file:
        return _count(path, file, flagged)


def _count(url: str | Path, opened: Any, flagged: bool) -> tuple[Counter[str], Counter[str]]:
    rows: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    with explain_damage(url):
        file = pq.ParquetFile(opened, pre_buffer=False)
        if missing := {"status", "reason"} - set(file.schema_arrow.names):
            raise DataError(
                f"{url} has no column {', '.join(sorted(missing))}: make a dataset with `edit-dataset import SRC DST`"
            )
        for group in range(file.num_row_groups):
            status = None if flagged else _only_status(file.metadata.row_group(group))
            if status is not None:
                rows[status] += file.metadata.row_group(group).num_rows
                continue
            table = file.read_row_group(group, columns=["status", "reason"], use_threads=False)
            statuses, reasons = table["status"].to_pylist(), table["reason"].to_pylist()
            rows.update(statuses)
            flags.update(r.partition(":")[0] for s, r in zip(statuses, reasons, strict=True) if s == "ok" and r)
    return rows, flags


def _only_status(group: pq.RowGroupMetaData) -> str | None:
    """The status that all rows of a group have, if its statistics say that."""
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema == "status":
            known = column.statistics
            one = known is not None and known.has_min_max and not known.null_count and known.min == known.max
            return str(known.min) if one else None
    return None


def read_rows(url: str | Path, columns: Sequence[str] | None = None, batch_size: int = 100) -> Iterator[list[Row]]:
    """Yield the rows of a shard in order, in lists of ``batch_size`` (the last may be shorter).

    Fixed-size lists of floats are returned as numpy arrays (a latent is ``[n_latent, w_dim]`` float32), images as
    dictionaries of ``bytes`` and ``path``, and missing values as ``None``. Raises ``DataError`` for a missing column
    and for a damaged file.
    """
    waiting: list[Row] = []
    for batch in _read_batches(url, columns, batch_size):
        waiting += to_rows(batch)
        while len(waiting) >= batch_size:
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]
    if waiting:
        yield waiting


def _read_batches(url: str | Path, columns: Sequence[str] | None, size: int) -> Iterator[pa.RecordBatch]:
    with open_shard(url) as file:
        names = file.schema_arrow.names
        missing = sorted(set(columns or ()) - set(names))
        if missing:
            raise DataError(f"{url} has no column {', '.join(missing)}; it has {', '.join(names)}")
        yield from file.iter_batches(batch_size=size, columns=None if columns is None else list(columns))


def to_rows(batch: pa.RecordBatch) -> list[Row]:
    """Convert a batch to one dictionary per row."""
    columns = {name: _cells(batch.column(name)) for name in batch.schema.names}
    return [{name: cells[i] for name, cells in columns.items()} for i in range(batch.num_rows)]


def to_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Convert rows to a table; raises ``ValueError`` naming the column whose values don't fit its type."""
    return pa.Table.from_arrays([_column(rows, field) for field in schema], schema=schema)


def array_shape(kind: pa.DataType) -> tuple[int, ...]:
    """Return the shape of nested fixed-size lists of floats, or ``()`` for any other type."""
    sizes, leaf = unnest(kind)
    return sizes if pa.types.is_floating(leaf) and ANY_LENGTH not in sizes else ()


def unnest(kind: pa.DataType) -> tuple[tuple[int, ...], pa.DataType]:
    """Return the sizes of the lists that a type nests, ``ANY_LENGTH`` where it is free, and the type in them."""
    sizes: list[int] = []
    while True:
        if pa.types.is_fixed_size_list(kind):
            sizes.append(kind.list_size)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            sizes.append(ANY_LENGTH)
        else:
            return tuple(sizes), kind
        kind = kind.value_type


def holds_images(kind: pa.DataType) -> bool:
    """Whether cells of this type are images: structs with the ``bytes`` of a file, as in ``IMAGE``."""
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_binary(kind.field("bytes").type)


def is_binary(kind: pa.DataType) -> bool:
    """Whether a type holds bytes, in whatever form Arrow stores them."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_image(cell: object) -> bool:
    return isinstance(cell, dict) and "bytes" in cell


def _cells(column: pa.Array) -> list[Any]:
    shape = array_shape(column.type)
    if not shape:
        return column.to_pylist()
    flat = column
    for _ in shape:
        flat = flat.flatten()  # leaves out nulls
    stack = iter(flat.to_numpy(zero_copy_only=False).reshape(-1, *shape))
    cells = (next(stack) if there else None for there in column.is_valid().to_pylist())
    return [None if cell is None or np.isnan(cell).all() else cell.copy() for cell in cells]


def _column(rows: Sequence[Row], field: pa.Field) -> pa.Array:
    cells = [row.get(field.name) for row in rows]
    try:
        return _stack(cells, field.type) if array_shape(field.type) else pa.array(_plain(cells), type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError) as error:
        raise ValueError(f"column {field.name} does not hold {field.type}: {error}") from error


def _plain(cells: Sequence[object]) -> list[object]:
    return [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]


def _stack(cells: Sequence[ArrayLike | None], kind: pa.DataType) -> pa.Array:
    shape, leaf = unnest(kind)
    values = np.full((len(cells), *shape), np.nan, dtype=leaf.to_pandas_dtype())
    for slot, cell in zip(values, cells, strict=True):
        if cell is not None:
            if np.shape(cell) != shape:
                raise ValueError(f"shape {np.shape(cell)} instead of {shape}")
            slot[...] = np.asarray(cell)
    array = pa.array(values.reshape(-1))
    for size in reversed(shape):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array.cast(kind)
