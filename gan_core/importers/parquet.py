"""Import Parquet files with an image column, such as those that HF ``datasets`` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from gan_core.errors import DataError
from gan_core.importers.base import IMPORTERS, MAX_FILE_BYTES, Importer, Item, SourceFile, printable
from gan_core.rows import Row
from gan_core.storage.images import ImageCell
from gan_core.storage.shards import BASE_NAMES, array_shape, explain_damage, to_rows
from gan_core.storage.urls import base_name

BATCH_ROWS = 16
"""Rows that are decoded at once; it bounds the memory for files of large images."""
PLAIN_NAMES = ("image", "img", "jpg", "jpeg", "png", "image_bytes", "bytes")
RESERVED = {*BASE_NAMES, "image", "sha256"}


@IMPORTERS.register("parquet")
class ParquetImporter(Importer):
    """Each row becomes a row; its key is the column ``key`` if there is one, else ``<file without suffix>:<row>``.

    The image column is ``image``, else the first that HF marks as an image, else the first struct with ``bytes``, else
    a binary column with a usual name. All other columns are kept, as ``source_<name>`` where the name is reserved. A
    row without bytes is ``no_image``: paths are not followed. The constructor raises ``DataError`` for damaged files,
    for schemas that can't be merged, and if no image column is found.
    """

    suffixes = (".parquet",)

    def __init__(self, files: Sequence[SourceFile]) -> None:
        super().__init__(files)
        self.schema = _merge_schemas(files)
        self.image = _find_image_column(self.schema, files)
        names = [name for name in self.schema.names if name not in (self.image, "key")]
        self.columns = {name: f"source_{name}" if name in RESERVED else name for name in names}
        self.fields = tuple(pa.field(new, portable_type(self.schema.field(n).type)) for n, new in self.columns.items())

    def items(self) -> Iterator[Item]:
        """Yield the rows of each file in order; raises ``DataError`` for a damaged file."""
        for file in self.files:
            stem = printable(file.name.rpartition(".")[0])
            for index, row in enumerate(_rows(file)):
                yield self._item(row, f"{stem}:{index}")

    def _item(self, row: Row, place: str) -> Item:
        key = printable(str(row["key"])) if row.get("key") is not None else place
        extra = {new: row.get(name) for name, new in self.columns.items()}
        data, path = _image_of(row.get(self.image))
        if data is None:
            reason = "the row has a path but no bytes: embed the images first" if path else "the image is null"
            return Item(key, None, status="no_image", reason=reason, extra=extra)
        if len(data) > MAX_FILE_BYTES:
            reason = f"{len(data)} bytes are more than {MAX_FILE_BYTES}"
            return Item(key, None, status="too_large", reason=reason, extra=extra)
        return Item(key, data, base_name(printable(path)) if path else "", extra=extra)


def portable_type(kind: pa.DataType) -> pa.DataType:
    """Return the type to store a column as: no extension or dictionary types, and fixed-size lists of floats only."""
    if isinstance(kind, pa.BaseExtensionType):
        return portable_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return portable_type(kind.value_type)
    if pa.types.is_fixed_size_list(kind) and not array_shape(kind):
        return pa.list_(portable_type(kind.value_type))
    return kind


@contextmanager
def _opened(file: SourceFile) -> Iterator[IO[bytes]]:
    if file.fault:
        raise DataError(f"can't read {file.path}: {file.fault}")
    with file.open() as opened, explain_damage(file.path):
        yield opened


def _merge_schemas(files: Sequence[SourceFile]) -> pa.Schema:
    schemas = []
    for file in files:
        with _opened(file) as opened:
            schemas.append(pq.read_schema(opened))
    try:
        return pa.unify_schemas(schemas).with_metadata(schemas[0].metadata)
    except pa.ArrowException as error:
        line = str(error).splitlines()[0]
        raise DataError(f"the columns of the files don't fit together ({line}): import them separately") from None


def _find_image_column(schema: pa.Schema, files: Sequence[SourceFile]) -> str:
    structs = [field.name for field in schema if _is_image_struct(field.type)]
    plain = [name for name in PLAIN_NAMES if name in schema.names and _is_binary(schema.field(name).type)]
    marked = [name for name in _hf_images(schema) if name in structs or name in plain]
    found = [*(name for name in ("image",) if name in [*structs, *plain]), *marked, *structs, *plain]
    if not found:
        where = files[0].path
        raise DataError(f"no image column in {where}: it has {', '.join(schema.names) or 'none'}; call one 'image'")
    return found[0]


def _hf_images(schema: pa.Schema) -> list[str]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [name for name, feature in features.items() if feature.get("_type") == "Image"]
    except (KeyError, ValueError, TypeError, AttributeError):
        return []


def _is_image_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _rows(file: SourceFile) -> Iterator[Row]:
    with _opened(file) as opened:
        parquet = pq.ParquetFile(opened, pre_buffer=False, buffer_size=1 << 20)
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS):
            yield from to_rows(pa.RecordBatch.from_arrays([_storage(c) for c in batch.columns], batch.schema.names))


def _storage(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _image_of(cell: ImageCell | bytes | None) -> tuple[bytes | None, str]:
    if isinstance(cell, dict):
        return cell.get("bytes"), str(cell.get("path") or "")
    return cell, ""
