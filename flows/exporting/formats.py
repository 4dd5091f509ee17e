"""The formats of an export: each writes the rows of one shard as one part, which is whole or absent."""

import io
import json
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flows.exporting.pictures import Item, Selection
from gan_core.importers.metadata import EXPORTED_BY, METADATA, OURS
from gan_core.recipes.base import recipe_of
from gan_core.storage.atomic import atomic_write, explain_os_errors
from gan_core.storage.shards import GROUP_BYTES, GROUP_ROWS, IMAGE, shard_schema, to_table

ABOUT = {"key": pa.string(), "row": pa.string(), "picture": pa.string(), "attribute": pa.string()}
ABOUT_TYPES: dict[str, pa.DataType] = {**ABOUT, "strength": pa.float64()}


class Format(ABC):
    """Writes a part. ``ending`` follows the part's number, and ``data_files`` is the pattern of what holds the rows.

    ``takes`` are the options that change what is written, and ``columns`` what readers find.
    """

    ending: ClassVar[str]
    data_files: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset({"--stage", "--picture"})
    columns: ClassVar[Mapping[str, str]] = {name: str(kind) for name, kind in ABOUT_TYPES.items()}

    def part(self, index: int) -> str:
        """Return the name of a part: it is written last, and what it names is there."""
        return f"shard-{index:05d}{self.ending}"

    @abstractmethod
    def write(self, chosen: Selection, shard: str, target: Path) -> None:
        """Write the rows of a shard to ``target``, holding some rows in memory."""


class ImageFolder(Format):
    """Picture files, and beside them ``metadata.parquet``, as HF ``datasets`` reads them (``imagefolder``)."""

    ending = f"/{METADATA}"
    data_files = "shard-*/*"
    columns: ClassVar[Mapping[str, str]] = {"image": "image", **Format.columns}

    def write(self, chosen: Selection, shard: str, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        names = [name for item in chosen.items(shard) if (name := _write_file(item, target.parent))]
        os.sync()  # one for all pictures: each by itself would take most of the time
        schema = pa.schema({"file_name": pa.string(), **ABOUT_TYPES})
        lines = [{"file_name": name, **about} for name, about in names]
        with atomic_write(target) as file:
            pq.write_table(pa.Table.from_pylist(lines, schema), file)


class WebDataset(Format):
    """Tar archives in which ``NAME.png`` and ``NAME.json`` are a sample."""

    ending = ".tar"
    data_files = "shard-*.tar"
    columns: ClassVar[Mapping[str, str]] = {"png": "image (or jpg, webp)", "json": ", ".join(ABOUT_TYPES)}

    def write(self, chosen: Selection, shard: str, target: Path) -> None:
        with atomic_write(target) as file, tarfile.open(fileobj=file, mode="w|") as archive:  # type: ignore[call-overload]
            for item in chosen.items(shard):
                about = json.dumps(item.about | {EXPORTED_BY: OURS}, ensure_ascii=False).encode()
                for suffix, data in ((item.suffix, item.data), (".json", about)):
                    info = tarfile.TarInfo(f"{_stem(item)}{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


class ParquetRows(Format):
    """The stage's shards as they are, without the rows that are left out."""

    ending = ".parquet"
    data_files = "shard-*.parquet"
    takes = frozenset({"--stage"})

    def write(self, chosen: Selection, shard: str, target: Path) -> None:
        chosen.passing.write(chosen.stage, shard, str(target))


class Pairs(Format):
    """Parquet files of ``before``, ``after``, ``attribute`` and ``strength``, a line for each picture."""

    ending = ".parquet"
    data_files = "shard-*.parquet"
    takes = frozenset({"--stage", "--picture", "--before"})
    columns: ClassVar[Mapping[str, str]] = {**Format.columns, "before": "image", "after": "image"}

    def write(self, chosen: Selection, shard: str, target: Path) -> None:
        fields = [pa.field(name, kind) for name, kind in ABOUT_TYPES.items()]
        images = [pa.field("before", IMAGE), pa.field("after", IMAGE)]
        schema = pa.schema([*fields, *images]).with_metadata(shard_schema(images).metadata)
        with atomic_write(target) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for lines in _groups(chosen, shard):
                writer.write_table(to_table(lines, schema))


class Scores(Format):
    """Tables of text: the key and every score of each row."""

    ending = ".csv"
    data_files = "shard-*.csv"
    takes: ClassVar[frozenset[str]] = frozenset()
    columns: ClassVar[Mapping[str, str]] = {"key": "string", "the scores": "double"}

    def write(self, chosen: Selection, shard: str, target: Path) -> None:
        recipe, passed = recipe_of(chosen.run), chosen.passing.of(shard)
        names = recipe.score_names(chosen.run)
        rows = pd.concat(list(recipe.scored(chosen.run, shard))).sort_index()
        with atomic_write(target) as file:
            file.write(rows[passed].reindex(columns=["key", *names]).to_csv(index=False).encode())


FORMATS: dict[str, type[Format]] = {
    "imagefolder": ImageFolder,
    "webdataset": WebDataset,
    "parquet": ParquetRows,
    "csv": Scores,
    "pairs": Pairs,
}


def _stem(item: Item) -> str:
    return f"{item.position:06d}-{item.picture.label}"


def _write_file(item: Item, folder: Path) -> tuple[str, dict[str, str | float]]:
    name = f"{_stem(item)}{item.suffix}"
    with explain_os_errors(folder / name):
        (folder / name).write_bytes(item.data)
    return name, item.about


def _groups(chosen: Selection, shard: str) -> Iterator[list[dict[str, object]]]:
    """The lines of pairs, as many as a row group may have."""
    lines: list[dict[str, object]] = []
    weight = 0
    for item, before in chosen.pairs(shard):
        images = {
            "before": {"bytes": before, "path": None},
            "after": {"bytes": item.data, "path": f"{_stem(item)}{item.suffix}"},
        }
        lines.append({**item.about, **images})
        weight += len(before) + len(item.data)
        if len(lines) >= GROUP_ROWS or weight >= GROUP_BYTES:
            yield lines
            lines, weight = [], 0
    if lines:
        yield lines
