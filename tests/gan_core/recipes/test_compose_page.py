"""The page about a composition run reads no more than it shows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_core.params import Params
from gan_core.recipes.compose_page import read_compositions
from gan_core.runs.run import Run
from gan_core.storage.shards import ShardWriter


def test_only_the_row_groups_of_rows_that_are_shown_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = {"shard-00000.parquet": 300, "shard-00001.parquet": 300}
    for shard, rows in shards.items():
        with ShardWriter(tmp_path / "compose" / shard, [pa.field("name", pa.string())]) as writer:
            names = ["late" if i in (150, 151) else "early" for i in range(rows)]
            writer.write([{"key": f"{shard}/{i}", "status": "ok", "name": name} for i, name in enumerate(names)])
    read_all, read_group = pq.ParquetFile.read, pq.ParquetFile.read_row_group
    read: list[int | list[str]] = []
    monkeypatch.setattr(pq.ParquetFile, "read", lambda f, columns: read.append(columns) or read_all(f, columns))
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda f, i: read.append(i) or read_group(f, i))
    run = Run(Params(), "ds", str(tmp_path), shards, {"compose": {}}, "compose")
    found = {name: [row["key"] for row in rows] for name, rows in read_compositions(run, 2).items()}
    first, _ = shards
    assert found == {"early": [f"{first}/0", f"{first}/1"], "late": [f"{first}/150", f"{first}/151"]}
    assert read == [["name"], 0, 1, ["name"]]
