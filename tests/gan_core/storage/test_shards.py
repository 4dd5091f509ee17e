import json
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gan_core.errors import DataError
from gan_core.rows import Row
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.shards import (
    BASE_NAMES,
    GROUP_ROWS,
    IMAGE,
    UNFINISHED_IMPORT,
    ShardWriter,
    count_rows,
    latent_type,
    list_shards,
    open_shard,
    read_rows,
    shard_name,
    shard_schema,
)

FIELDS = (
    pa.field("image", IMAGE),
    pa.field("smile@+1", IMAGE),
    pa.field("latent", latent_type(3, 4)),
    pa.field("loss", pa.float32()),
    pa.field("steps", pa.int32()),
    pa.field("delta", pa.binary()),
)


def make_rows(count: int, failed: frozenset[int] = frozenset({1})) -> list[Row]:
    random = np.random.default_rng(0)
    rows: list[Row] = []
    for i in range(count):
        png = encode_png(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        row: Row = {"key": f"a/{i}.png", "status": "ok", "reason": "", "stage": "tune"}
        if i in failed:
            rows.append(row | {"status": "no_face", "reason": "none found"})
            continue
        row |= {"image": image_value(png, f"{i}.png"), "smile@+1": image_value(png, f"{i}.png")}
        row |= {
            "latent": random.normal(size=(3, 4)).astype(np.float32),
            "loss": np.float32(i),
            "steps": i,
            "delta": b"\0",
        }
        rows.append(row)
    return rows


def write(url: str | Path, rows: list[Row], at_once: int = 7) -> str:
    with ShardWriter(url, FIELDS) as writer:
        for begin in range(0, len(rows), at_once):
            writer.write(rows[begin : begin + at_once])
    assert writer.rows == len(rows)
    return writer.sha256


@pytest.mark.parametrize("batch_size", [1, 3, 100, 1000])
def test_rows_come_back_in_order_and_equal(tmp_path: Path, batch_size: int) -> None:
    rows = make_rows(GROUP_ROWS + 5)
    write(tmp_path / "s.parquet", rows)
    batches = list(read_rows(tmp_path / "s.parquet", batch_size=batch_size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    back = [row for batch in batches for row in batch]
    assert [row["key"] for row in back] == [row["key"] for row in rows]
    assert back[1]["latent"] is None and back[1]["image"] is None and back[1]["status"] == "no_face"
    assert back[2]["latent"].dtype == np.float32 and np.array_equal(back[2]["latent"], rows[2]["latent"])
    assert {k: v for k, v in back[2].items() if k != "latent"} == {k: v for k, v in rows[2].items() if k != "latent"}


def test_the_same_rows_give_the_same_bytes_in_any_batches(tmp_path: Path) -> None:
    rows = make_rows(2 * GROUP_ROWS + 1)
    hashes = {write(tmp_path / f"{n}.parquet", rows, n) for n in (1, 64, 1000)}
    assert len(hashes) == 1
    with open_shard(tmp_path / "64.parquet") as file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert groups == [GROUP_ROWS, GROUP_ROWS, 1]


def test_big_images_make_small_row_groups(tmp_path: Path) -> None:
    big = image_value(bytes(12 << 20), "big.png")
    rows = [row | {"image": big} for row in make_rows(6, frozenset())]
    write(tmp_path / "s.parquet", rows)
    with open_shard(tmp_path / "s.parquet") as file:
        assert file.metadata.num_row_groups == 2


def test_tensors_lists_and_float64_fit_a_latent(tmp_path: Path) -> None:
    values = [torch.ones(3, 4), [[1.0] * 4] * 3, np.ones((3, 4))]
    rows = [{"key": str(i), "status": "ok", "latent": value} for i, value in enumerate(values)]
    write(tmp_path / "s.parquet", rows)
    for row in next(read_rows(tmp_path / "s.parquet", ["latent"])):
        assert row["latent"].dtype == np.float32 and (row["latent"] == 1).all()


@pytest.mark.parametrize(
    ("column", "value"),
    [("latent", np.ones((4, 4))), ("latent", "x"), ("loss", "much"), ("image", b"raw"), ("steps", 1 << 40)],
)
def test_a_value_that_does_not_fit_names_its_column(tmp_path: Path, column: str, value: object) -> None:
    with (
        pytest.raises(ValueError, match=f"column {column} does not hold"),
        ShardWriter(tmp_path / "s", FIELDS) as writer,
    ):
        writer.write([{"key": "a", "status": "ok", column: value}])
    assert list(tmp_path.iterdir()) == []


def test_schema_says_which_columns_are_images() -> None:
    schema = shard_schema(FIELDS)
    assert tuple(schema.names[:4]) == BASE_NAMES
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "smile@+1": {"_type": "Image"}}
    assert shard_schema(FIELDS[2:]).metadata == {}


def test_schema_refuses_what_parquet_readers_choke_on() -> None:
    with pytest.raises(ValueError, match="twice"):
        shard_schema([*FIELDS, FIELDS[0]])
    with pytest.raises(ValueError, match="column box: use a plain list"):
        shard_schema([pa.field("box", pa.list_(pa.int32(), 4))])


def test_hf_datasets_opens_every_image_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    for index in range(2):
        write(tmp_path / "data" / shard_name(index), make_rows(3))
    opened = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "data" / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(opened) == 6
    assert all(isinstance(opened.features[name], datasets.Image) for name in ("image", "smile@+1"))
    assert opened[0]["smile@+1"].size == (8, 8) and opened[1]["image"] is None
    assert np.array(opened[0]["latent"]).shape == (3, 4) and np.isnan(opened[1]["latent"]).all()


def test_list_shards_sorts_and_leaves_side_files_out(tmp_path: Path) -> None:
    for name in (
        "shard-00010.parquet",
        "shard-00002.parquet",
        ".shard-00003.parquet",
        "shard-00002.parquet.receipt.json",
    ):
        (tmp_path / name).touch()
    (tmp_path / "folder.parquet").mkdir()
    assert list_shards(tmp_path) == [f"{tmp_path}/shard-00002.parquet", f"{tmp_path}/shard-00010.parquet"]


def test_list_shards_refuses_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no shards in"):
        list_shards(tmp_path)
    with pytest.raises(DataError, match=r"no dataset at .*/absent"):
        list_shards(tmp_path / "absent")
    (tmp_path / "shard-00000.parquet").touch()
    (tmp_path / UNFINISHED_IMPORT).touch()
    with pytest.raises(DataError, match="was not finished"):
        list_shards(tmp_path)


def test_shards_in_folders_of_a_dataset_are_told(tmp_path: Path) -> None:
    for folder in ("notes", "more", "b", ".cache"):
        (tmp_path / folder).mkdir()
    for folder in ("more", "b", ".cache"):
        (tmp_path / folder / "shard-00000.parquet").touch()
    with pytest.raises(DataError, match=r"no shards in [^,]*, but in [^ ]*/b, [^ ]*/more: name one of these"):
        list_shards(tmp_path)
    (tmp_path / "shard-00000.parquet").touch()
    with pytest.raises(DataError, match=r"so has [^ ]*/b in it, whose rows would not be read: move .* import .* DST"):
        list_shards(tmp_path)


def test_a_shard_whose_ending_is_written_otherwise_is_told(tmp_path: Path) -> None:
    for name in ("shard-00000.parquet", "shard-00001.PARQUET"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"has shard-00001.PARQUET, which would not be read: let it end in .parquet"):
        list_shards(tmp_path)


def test_shards_live_on_other_file_systems(tmp_path: Path) -> None:
    fsspec.filesystem("memory").store.clear()
    rows = make_rows(5)
    assert write("memory://data/shard-00000.parquet", rows) == write(tmp_path / "s.parquet", rows)
    (shard,) = list_shards("memory://data")
    assert shard == "memory://data/shard-00000.parquet"
    assert [row["key"] for row in next(read_rows(shard, ["key"]))] == [row["key"] for row in rows]


def test_a_missing_column_is_told_with_those_there(tmp_path: Path) -> None:
    write(tmp_path / "s.parquet", make_rows(2))
    with pytest.raises(DataError, match="has no column quad; it has key"):
        next(read_rows(tmp_path / "s.parquet", ["key", "quad"]))


def test_a_shard_that_is_not_whole_is_told(tmp_path: Path) -> None:
    write(tmp_path / "s.parquet", make_rows(20))
    whole = (tmp_path / "s.parquet").read_bytes()
    for name, data in (("cut", whole[: len(whole) // 2]), ("none", b""), ("text", b"hello there")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="not a whole Parquet file"), open_shard(tmp_path / name):
            pass
    with pytest.raises(DataError, match="no shard at"), open_shard(tmp_path / "absent"):
        pass


def test_reading_holds_one_row_group(tmp_path: Path) -> None:
    big = image_value(np.random.default_rng(0).bytes(4 << 20), "big.png")
    rows = [row | {"image": big} for row in make_rows(40, frozenset())]
    write(tmp_path / "s.parquet", rows)
    assert pq.read_metadata(tmp_path / "s.parquet").num_row_groups == 5
    before, peak = pa.total_allocated_bytes(), 0
    for _ in read_rows(tmp_path / "s.parquet", batch_size=2):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 80 << 20


@pytest.mark.parametrize("place", ["local", "memory://counted/0.parquet"])
@pytest.mark.parametrize("flagged", [True, False])
def test_rows_are_counted_by_status_and_flag(tmp_path: Path, place: str, flagged: bool) -> None:
    url = str(tmp_path / "0.parquet") if place == "local" else place
    with ShardWriter(url, ()) as writer:
        for i in range(250):  # three row groups, of which the second has one status only
            status = "no_face" if i < 3 or i >= 240 else "ok"
            writer.write(
                [{"key": str(i), "status": status, "reason": "far: off" if i in (50, 249) else "", "stage": "a"}]
            )
    rows, flags = count_rows(url, flagged)
    assert rows == {"no_face": 13, "ok": 237} == dict(writer.statuses)
    assert flags == {"far": 1} or not flagged


def test_counting_tells_what_is_no_shard(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        count_rows(tmp_path / "gone.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        count_rows(tmp_path / "text.parquet")
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="has no column reason, status"):
        count_rows(tmp_path / "other.parquet")
    with ShardWriter(tmp_path / "changed.parquet", ()) as writer:
        writer.write([{"key": "a", "status": "ok"}])
    assert count_rows(tmp_path / "changed.parquet")[0] == {"ok": 1}
    with ShardWriter(tmp_path / "changed.parquet", ()) as writer:
        writer.write([{"key": "a", "status": "bad"}])
    assert count_rows(tmp_path / "changed.parquet")[0] == {"bad": 1}
