import json
from pathlib import Path

import pytest

from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.storage.inspect import inspect_shard
from gan_core.storage.shards import list_shards
from gan_core.storage.urls import hash_file


@pytest.fixture
def dataset(tmp_path: Path, pngs: list[bytes]) -> Path:
    (tmp_path / "in").mkdir()
    for i, png in enumerate(pngs[:5]):
        (tmp_path / "in" / f"{i}.png").write_bytes(png)
    (tmp_path / "in" / "0.gif").symlink_to("nowhere")
    import_dataset(tmp_path / "in", tmp_path / "out", 4)
    return tmp_path / "out"


def test_a_shard_tells_counts_columns_and_hashes(dataset: Path) -> None:
    first = inspect_shard(list_shards(dataset)[0])
    assert json.loads(json.dumps(first)) == first
    assert (first["rows"], first["status"]) == (4, {"ok": 3, "unreadable": 1})
    assert first["keys"] == ["0.gif", "0.png", "1.png"] and first["stages"] == {"import": 4}
    assert first["columns"]["image"] == "struct<bytes: binary, path: string>"
    assert first["sha256"] == hash_file(first["path"]) == first["receipt"]["output_sha256"] and first["trouble"] == ""


def test_a_shard_without_its_receipt_says_so(dataset: Path) -> None:
    shard = Path(list_shards(dataset)[0])
    shard.with_name(f"{shard.name}.receipt.json").unlink()
    found = inspect_shard(shard)
    assert found["receipt"] is None and found["trouble"].endswith("receipt.json: it has no receipt")
    with pytest.raises(DataError, match="no shard at"):
        inspect_shard(dataset / "absent.parquet")
