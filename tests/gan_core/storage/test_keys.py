"""Keys of a hand-made dataset: what would break a run's pages is refused while it is planned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.recipes.base import plan_run
from gan_core.recipes.composition_sources import Encoded
from gan_core.storage.keys import check_dataset
from gan_core.storage.receipts import receipt_path
from gan_core.storage.shards import ShardWriter, latent_type

Texts = Sequence[str | None]


def write(folder: Path, *shards: Any, **columns: Any) -> str:
    """Write shards with these keys, all rows ``ok`` if nothing else is said."""
    folder.mkdir(exist_ok=True)
    for number, keys in enumerate(shards):
        texts = {
            name: pa.array([text] * len(keys), pa.string()) for name, text in (("status", "ok"), ("stage", "import"))
        }
        rows = texts | {"reason": pa.nulls(len(keys))}
        pq.write_table(pa.table({"key": keys} | rows | columns), folder / f"{number}.parquet")
    return str(folder)


def test_rows_are_counted_by_shard(tmp_path: Path) -> None:
    coded = pa.array(["c", "d", "e"]).dictionary_encode()
    assert check_dataset(write(tmp_path, ["a", "b"], coded)).rows == {"0.parquet": 2, "1.parquet": 3}


@pytest.mark.parametrize(
    ("shards", "columns", "said"),
    [
        ([["a", "b"], ["c", "a"]], {}, "1 keys are of more than one row, such as 'a' in "),
        ([["a", "a"]], {}, "1 keys are of more than one row"),
        ([["a", None, None]], {}, "0.parquet has 2 rows without a key"),
        ([["a", ""]], {}, "0.parquet has 1 row without a key"),
        ([[1, 2]], {}, "0.parquet has key of the type int64, not text"),
        ([pa.nulls(2)], {}, "0.parquet has key of the type null, not text"),
        ([["a", "b"]], {"status": ["ok", None]}, "0.parquet has 1 row without a status"),
        ([["a", "b"]], {"reason": [1, 2]}, "0.parquet has reason of the type int64"),
        ([["a"], pa.array([], pa.string())], {}, "1.parquet has no rows"),
        ([pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False)], {}, "0.parquet is not a whole Parquet file"),
    ],
    ids=["in two shards", "in one", "null", "empty", "numbers", "no type", "status", "reason", "no rows", "not text"],
)
def test_what_is_no_key_is_told_in_a_line(tmp_path: Path, shards: Any, columns: Any, said: str) -> None:
    with pytest.raises(DataError) as refused:
        check_dataset(write(tmp_path, *shards, **columns))
    assert said in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_shard_that_lost_rows_is_told_and_one_without_a_receipt_is_taken(tmp_path: Path, pngs: list[bytes]) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / f"in/{name}.png").write_bytes(pngs[0])
    import_dataset(tmp_path / "in", tmp_path / "out")
    shard = tmp_path / "out/shard-00000.parquet"
    pq.write_table(pq.read_table(shard).slice(1), shard)
    with pytest.raises(DataError, match=r"shard-00000.parquet has 2 rows, and its receipt says 3: import the dataset"):
        check_dataset(str(tmp_path / "out"))
    Path(receipt_path(shard)).unlink()
    assert check_dataset(str(tmp_path / "out")).rows == {"shard-00000.parquet": 2}


def test_two_columns_of_one_name_are_told_in_a_line(tmp_path: Path) -> None:
    text = pa.array(["a"])
    pq.write_table(pa.table([text] * 5, ["key", "status", "reason", "stage", "key"]), tmp_path / "0.parquet")
    with pytest.raises(DataError, match=r"0\.parquet has 2 columns 'key': rename or remove them"):
        check_dataset(str(tmp_path))


def test_a_column_that_every_shard_has_is_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"], "image": [b""]}), tmp_path / "0.parquet")
    with pytest.raises(
        DataError, match="has no column reason, stage, status: make a dataset with `edit-dataset import"
    ):
        check_dataset(str(tmp_path))


def test_planning_refuses_them(project: Path) -> None:
    with pytest.raises(DataError, match="more than one row"):
        plan_run(write(project / "source", ["a", "a"]), "out")
    assert not Path("out").exists()


@pytest.mark.parametrize("keys", [["a", "a"], ["a", None]])
def test_sources_of_compositions_have_keys_of_their_own(tmp_path: Path, keys: list[str | None]) -> None:
    latents = (pa.field("latent", latent_type(2, 3)),)
    with ShardWriter(tmp_path / "0.parquet", latents) as writer:
        writer.write([{"key": k, "status": "ok", "reason": "", "stage": "x", "latent": np.ones((2, 3))} for k in keys])
    with pytest.raises(DataError, match="has rows without a key, or two of one key"):
        Encoded(str(tmp_path), "any")


def test_pictures_have_to_be_where_they_are_read(tmp_path: Path) -> None:
    picture = {"bytes": b"", "path": ""}
    dataset = check_dataset(write(tmp_path, ["a"], image=[picture], photo=[b"bytes alone"], nothing=pa.nulls(1)))
    dataset.check_pictures({"align": "image", "translate.truth": "nothing"})
    with pytest.raises(DataError, match=r"align: .*0\.parquet has no column 'imag'; did you mean 'image'"):
        dataset.check_pictures({"align": "imag"})
    with pytest.raises(DataError, match=r"x: the column 'photo' of .*0\.parquet holds binary, not pictures"):
        dataset.check_pictures({"x": "photo"})


def test_a_run_over_a_dataset_without_pictures_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_models: dict[str, str]
) -> None:
    source = write(tmp_path / "in", ["a"], photo=[{"bytes": b"", "path": ""}])
    overrides: dict[str, Any] = {"models": tiny_models, "align.landmarks": "centre", "tune.enabled": False, "edits": []}
    with pytest.raises(DataError, match=r"align: .*0\.parquet has no column 'image'"):
        plan_run(source, str(tmp_path / "out"), overrides=overrides)
    assert not (tmp_path / "out").exists()
