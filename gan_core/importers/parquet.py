"""Import Parquet files with an image column, such as those that HF ``datasets`` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from textwrap import shorten
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from gan_core.errors import DataError
from gan_core.importers.base import (
    IMPORTERS,
    MAX_EXPORTED_CHARACTERS,
    MAX_FILE_BYTES,
    MAX_KEY_CHARACTERS,
    Importer,
    Item,
    SourceFile,
    as_text,
    printable,
)
from gan_core.importers.metadata import EXPORTED
from gan_core.rows import Row
from gan_core.storage.images import ImageCell
from gan_core.storage.keys import is_text
from gan_core.storage.shards import (
    BASE_NAMES,
    CLASS_LABEL,
    CROP_FIELDS,
    IMAGE,
    array_shape,
    explain_damage,
    holds_images,
    is_binary,
    is_cropped,
    to_rows,
    with_class_names,
)
from gan_core.storage.urls import base_name

BATCH_ROWS = 16
"""Rows that are decoded at once; it bounds the memory for files of large images."""
PLAIN_NAMES = ("image", "img", "jpg", "jpeg", "png", "image_bytes", "bytes")
FIXED_SIZE_NULL = "Expected all lists to be of size"
"""How pyarrow's reader words it."""
RESERVED = {*BASE_NAMES, "image", "sha256"}
CLASSES = "columns whose names of classes are not kept: not all files name the same, or they aren't whole numbers"
INNER_CLASSES = "columns with classes in lists or structs, whose names are not kept"
UNMARKED = "columns with images that are kept, but not marked as images any more"
CROPPED = "columns in pixels of the pictures that these were cropped from, which are called source_... now"


@IMPORTERS.register("parquet")
class ParquetImporter(Importer):
    """Each row becomes a row; its key is the column ``key`` if that says one, else ``<file without suffix>:<row>``.

    The image column is ``image``, else the first that HF marks as an image, else the first struct with ``bytes``, else
    a binary column with a usual name. All other columns are kept, as ``source_<name>`` where the name is reserved, or
    where a stage has cropped the pictures and the column is in pixels of what they were cropped from; of number types
    that differ between files, the widest is taken. A row without bytes is ``no_image``: paths are not followed. Rows
    that were rejected in an imported dataset, or in a stage's output, stay rejected. The constructor raises
    ``DataError`` for damaged files, for schemas that can't be merged, and if no image column is found.
    """

    suffixes = (".parquet",)

    def __init__(self, files: Sequence[SourceFile]) -> None:
        super().__init__(files)
        schemas = [_read_schema(file) for file in files]
        self.schema = _merge(schemas)
        self.features = _hf_features(self.schema)
        self.classes = _class_names(schemas)
        self.image, *others = _image_columns(self.schema, self.features, files)
        for name in others:
            self.noted.add(f"columns with images beside {self.image!r}, which is the one that rows are made of", name)
        first = [self.schema.field(place) for place in range(min(len(BASE_NAMES), len(self.schema)))]
        are_text = all(is_text(field.type) or pa.types.is_null(field.type) for field in first)
        self.is_ours = tuple(field.name for field in first) == BASE_NAMES and are_text
        is_exported = self.is_ours or set(self.schema.names) >= EXPORTED
        self.longest_key = MAX_EXPORTED_CHARACTERS if is_exported else MAX_KEY_CHARACTERS
        elsewhere = {field.name for field in CROP_FIELDS} if is_cropped(self.schema) else set[str]()
        for name in sorted(elsewhere):
            self.noted.add(CROPPED, name)
        kept = [name for name in self.schema.names if name not in (self.image, "key")]
        self.columns = _new_names(kept, RESERVED | elsewhere)
        self.fields = tuple(self._field(name, new) for name, new in self.columns.items())

    def _field(self, name: str, new: str) -> pa.Field:
        """Return a kept column as it will be called, with the names of its classes; what is lost of HF's is counted."""
        field, feature = pa.field(new, self.schema.field(name).type), self.features.get(name)
        if _hf_type(feature) == "Image" and field.type != IMAGE:
            self.noted.add(UNMARKED, name)
        if _hf_type(feature) != CLASS_LABEL and f'"{CLASS_LABEL}"' in json.dumps(feature):
            self.noted.add(INNER_CLASSES, name)
        first, *others = self.classes[name]
        if first and not others and pa.types.is_integer(field.type):
            return with_class_names(field.with_type(pa.int64()), first)  # the only type that HF takes for it
        if first or others:
            self.noted.add(CLASSES, name)
        return field

    def items(self) -> Iterator[Item]:
        """Yield the rows of each file in order; raises ``DataError`` for a damaged file."""
        for file in self.files:
            stem = printable(file.name.rpartition(".")[0])
            for index, row in enumerate(_rows(file, self.schema, self.image)):
                yield self._item(row, f"{stem}:{index}")

    def _item(self, row: Row, place: str) -> Item:
        named = row.get("key")
        own = "" if named is None else printable(as_text(named), self.longest_key)
        key = own or place
        extra = {new: row.get(name) for name, new in self.columns.items()}
        data, path = _image_of(row.get(self.image))
        if self.is_ours and row["status"] not in ("ok", "", None):
            path = base_name(printable(path)) if path else ""
            return Item(key, data, path, status=row["status"], reason=row["reason"] or "", extra=extra)
        if data is None:
            reason = "the row has a path but no bytes: embed the images first" if path else "the image is null"
            return Item(key, None, status="no_image", reason=reason, extra=extra)
        if len(data) > MAX_FILE_BYTES:
            reason = f"{len(data)} bytes are more than {MAX_FILE_BYTES}"
            return Item(key, None, status="too_large", reason=reason, extra=extra)
        return Item(key, data, base_name(printable(path)) if path else "", extra=extra)


def portable_type(kind: pa.DataType) -> pa.DataType:
    """Return the type to store a column as: no extension, dictionary or view types; fixed-size lists of floats only."""
    if isinstance(kind, pa.BaseExtensionType):
        return portable_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return portable_type(kind.value_type)
    if pa.types.is_list(kind) or (pa.types.is_fixed_size_list(kind) and not array_shape(kind)):
        return pa.list_(portable_type(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(portable_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(portable_type(field.type)) for field in kind])
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return views.get(kind, kind)


def _new_names(names: Sequence[str], reserved: Set[str]) -> dict[str, str]:
    """Return the name of each column in the dataset; one that is reserved gets a prefix, as often as it takes."""
    taken = {*reserved, *names}
    found = {}
    for name in names:
        found[name] = name
        while found[name] in reserved or (found[name] != name and found[name] in taken):
            found[name] = f"source_{found[name]}"
        taken.add(found[name])
    return found


@contextmanager
def _opened(file: SourceFile) -> Iterator[IO[bytes]]:
    with file.reading() as opened, explain_damage(file.shown):
        try:
            opened.seek(0, os.SEEK_END)
            opened.seek(0)
        except ValueError:
            raise DataError(
                f"{file.shown} comes from a server that sends it only in order: download it first"
            ) from None
        yield opened


def _read_schema(file: SourceFile) -> pa.Schema:
    """Return the columns of a file with the types that they are stored with."""
    with _opened(file) as opened:
        schema = pq.read_schema(opened)
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(f"{file.shown} has more than one column {twice!r}: rename or drop one")
    return pa.schema([field.with_type(portable_type(field.type)) for field in schema], schema.metadata)


def _merge(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the columns of all files, with what HF says of the first one's."""
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").with_metadata(schemas[0].metadata)
    except pa.ArrowException as error:
        line = str(error).splitlines()[0]
        raise DataError(f"the columns of the files don't fit together ({line}): import them separately") from None


def _class_names(schemas: Sequence[pa.Schema]) -> dict[str, list[tuple[str, ...]]]:
    """Return by column the different lists of class names that the files that have it state; an empty one for none."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for schema in schemas:
        features = _hf_features(schema)
        for name in schema.names:
            said = features.get(name)
            names = said.get("names") if isinstance(said, dict) and _hf_type(said) == CLASS_LABEL else None
            names = tuple(map(str, names)) if isinstance(names, list) else ()
            found.setdefault(name, {})[names] = None
    return {name: list(each) for name, each in found.items()}


def _image_columns(schema: pa.Schema, features: Mapping[str, object], files: Sequence[SourceFile]) -> list[str]:
    structs = [field.name for field in schema if holds_images(field.type)]
    plain = [name for name in PLAIN_NAMES if name in schema.names and is_binary(schema.field(name).type)]
    images = [name for name in schema.names if _hf_type(features.get(name)) == "Image"]
    marked = [name for name in images if name in structs or name in plain]
    found = [*(name for name in ("image",) if name in [*structs, *plain]), *marked, *structs, *plain]
    if not found:
        seen = shorten(", ".join(f"{field.name} ({field.type})" for field in schema) or "none", 300, placeholder=" ...")
        raise DataError(
            f"no image column in {files[0].shown}: it has {seen}; name one 'image' that holds files as bytes"
        )
    return list(dict.fromkeys(found))


def _hf_features(schema: pa.Schema) -> dict[str, object]:
    """Return what HF says of columns, of lists and structs what it says of their parts."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _hf_type(feature: object) -> object:
    """Return what HF says that a column is, such as ``Image``; nothing for lists and structs."""
    return feature.get("_type") if isinstance(feature, dict) else None


def _rows(file: SourceFile, schema: pa.Schema, image: str) -> Iterator[Row]:
    with _opened(file) as opened:
        parquet = pq.ParquetFile(opened, pre_buffer=False, buffer_size=1 << 20)
        for batch in _batches(parquet, file):
            names = batch.schema.names
            _check_image(batch.schema.field(image).type if image in names else pa.null(), image, file)
            fitted = [c if n == image else _fit(c, schema.field(n), file) for n, c in zip(names, batch, strict=True)]
            yield from _as_rows(pa.RecordBatch.from_arrays(fitted, names), file)


def _as_rows(batch: pa.RecordBatch, file: SourceFile) -> list[Row]:
    """Do as ``to_rows``; raises ``DataError`` that names the column with a value that Python can't hold."""
    try:
        return to_rows(batch)
    except (OverflowError, ValueError, KeyError) as error:  # dates before the year 1, time zones that don't exist
        if batch.num_columns > 1:
            for name in batch.schema.names:
                _as_rows(batch.select([name]), file)
        (field, *_) = batch.schema
        said = " ".join(str(error).split())[:80]
        raise DataError(
            f"{file.shown}: column {field.name} ({field.type}) holds a value that can't be read ({said}): "
            "leave it out, or store it as text or numbers"
        ) from None


def _batches(parquet: pq.ParquetFile, file: SourceFile) -> Iterator[pa.RecordBatch]:
    try:
        yield from parquet.iter_batches(batch_size=BATCH_ROWS)
    except pa.ArrowInvalid as error:
        if FIXED_SIZE_NULL not in str(error):
            raise
        reason = "a column of fixed-size lists holds nulls or has the size 0, which pyarrow can't read"
        raise DataError(f"{file.shown}: {reason}: write it as plain lists or without nulls") from None


def _check_image(kind: pa.DataType, name: str, file: SourceFile) -> None:
    """Raise ``DataError`` for an image column of a type that holds no bytes, as it may be in another file."""
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else pa.null()
    kind = portable_type(kind)
    if not (is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_null(kind)):
        raise DataError(f"{file.shown}: column {name} holds {kind}, not the bytes of image files as in other files")


def _fit(column: pa.Array, field: pa.Field, file: SourceFile) -> pa.Array:
    """Return a column with the type that all files share; no value may change by it."""
    stored = column.storage if isinstance(column, pa.ExtensionArray) else column
    try:
        fitted = stored if stored.type == field.type else stored.cast(field.type)
    except pa.ArrowException as error:
        line = str(error).splitlines()[0]
        raise DataError(
            f"{file.shown}: column {field.name} doesn't fit {field.type}, its type in all files ({line}): "
            "import the files separately"
        ) from None
    inner = fitted
    for _ in array_shape(field.type):
        inner = inner.flatten()
    if array_shape(field.type) and inner.null_count:
        raise DataError(f"{file.shown}: column {field.name} has lists with nulls in them: write NaN, or plain lists")
    return fitted


def _image_of(cell: ImageCell | bytes | None) -> tuple[bytes | None, str]:
    if isinstance(cell, dict):
        return cell.get("bytes"), str(cell.get("path") or "")
    return cell, ""
