from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.importers.dataset import _remove_shards
from gan_core.importers.metadata import EXPORTED
from gan_core.importers.parquet import portable_type
from gan_core.storage.shards import CROP_FIELDS, IMAGE, ShardWriter, list_shards, open_shard, shard_name
from tests.gan_core.importers.conftest import rows_of


def write(path: Path, columns: Mapping[str, Any], row_group_size: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, row_group_size=row_group_size)
    return path


def images(pngs: list[bytes]) -> pa.Array:
    return pa.array([{"bytes": png, "path": f"folder/{i}.png"} for i, png in enumerate(pngs)], IMAGE)


def test_what_hf_datasets_writes_is_imported(
    tmp_path: Path, pngs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "mask": datasets.Image(),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "landmarks": datasets.Array2D((5, 2), "float32"),
        }
    )
    images = [{"bytes": png, "path": None} for png in pngs[:3]]
    rows = [{"picture": image, "mask": image, "label": 1, "landmarks": np.ones((5, 2))} for image in images]
    (tmp_path / "in").mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "in" / "train-0.parquet")
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    found = rows_of(tmp_path / "out")
    assert report.rows == {"ok": 3} and report.kind == "parquet"
    assert [row["image"]["bytes"] for row in found] == [row["mask"]["bytes"] for row in found] == pngs[:3]
    assert [row["key"] for row in found] == [f"train-0:{i}" for i in range(3)]
    assert found[0]["label"] == 1 and np.array_equal(np.array(found[0]["landmarks"]), np.ones((5, 2)))
    read = datasets.Dataset.from_parquet(list_shards(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert read.features["label"].names == ["no", "yes"]


def test_extra_columns_are_carried_along_with_their_types(tmp_path: Path, pngs: list[bytes]) -> None:
    points = np.arange(20, dtype=np.float32)
    pairs = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(points, 2), 5)
    boxes = pa.FixedSizeListArray.from_arrays(pa.array(range(8)), 4)
    columns = {
        "image": images(pngs[:2]),
        "landmarks": pairs,
        "box": boxes,
        "tag": pa.array(["a", None]).dictionary_encode(),
        "nested": pa.array([{"x": [1, 2]}, None]),
        "status": pa.array(["married", "single"]),
        "sha256": pa.array(["x", "y"]),
    }
    write(tmp_path / "in" / "a.parquet", columns)
    import_dataset(tmp_path / "in", tmp_path / "out")
    first, second = rows_of(tmp_path / "out")
    assert first["landmarks"].tolist() == points[:10].reshape(5, 2).tolist() and first["landmarks"].dtype == np.float32
    assert (
        first["box"] == [0, 1, 2, 3]
        and first["nested"] == {"x": [1, 2]}
        and (first["tag"], second["tag"]) == ("a", None)
    )
    assert (first["status"], first["source_status"]) == ("ok", "married")
    assert first["source_sha256"] == "x" and len(first["sha256"]) == 64


@pytest.mark.parametrize("image", ["struct", "binary", "large_binary"])
def test_image_columns_of_any_form(tmp_path: Path, pngs: list[bytes], image: str) -> None:
    columns = {
        "struct": {"photo": images(pngs)},
        "binary": {"jpg": pa.array(pngs, pa.binary())},
        "large_binary": {"image": pa.array(pngs, pa.large_binary())},
    }[image]
    write(tmp_path / "in" / "a.parquet", columns, row_group_size=5)
    assert import_dataset(tmp_path / "in", tmp_path / "out").rows == {"ok": 12}
    assert [row["image"]["bytes"] for row in rows_of(tmp_path / "out")] == pngs


def test_keys_come_from_the_key_column(tmp_path: Path, pngs: list[bytes]) -> None:
    keys = ["x", None, "x", "new\nline", "../up", "", "x#2"]
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:7]), "key": pa.array(keys)})
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["key"] for row in rows] == ["x", "a:1", "x#2", "new\\nline", "../up", "a:5", "x#2#2"]
    assert report.rows == {"duplicate_key": 2, "ok": 5}
    assert rows[-1]["reason"] == (
        "an earlier row has the key x#2, which it was given because it repeats x: remove it, or rename this one"
    )


def test_keys_of_bytes_are_text(tmp_path: Path, pngs: list[bytes]) -> None:
    keys = pa.array(["ä/1.png".encode(), b"\xff.png"], pa.binary())
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:2]), "key": keys})
    import_dataset(tmp_path / "in", tmp_path / "out")
    assert [row["key"] for row in rows_of(tmp_path / "out")] == ["ä/1.png", "\\xff.png"]


def test_long_keys_of_exported_pairs_are_the_same_again(tmp_path: Path, pngs: list[bytes]) -> None:
    key = f"{'r' * 505}/smile@+1"
    columns = {name: ["x"] for name in sorted(EXPORTED)} | {"key": [key], "before": images(pngs[:1])}
    write(tmp_path / "in" / "a.parquet", columns)
    import_dataset(tmp_path / "in", tmp_path / "out")
    assert [row["key"] for row in rows_of(tmp_path / "out")] == [key]


def test_rows_without_bytes_are_kept_and_paths_not_followed(tmp_path: Path, pngs: list[bytes]) -> None:
    (tmp_path / "secret.png").write_bytes(pngs[0])
    cells = [{"bytes": None, "path": str(tmp_path / "secret.png")}, None, {"bytes": b"", "path": None}]
    write(tmp_path / "in" / "a.parquet", {"image": pa.array(cells, IMAGE)})
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert report.rows == {"no_image": 2, "ok": 1}
    assert (
        "embed the images first" in rows[0]["reason"] and rows[0]["image"] is None and rows[2]["image"]["bytes"] == b""
    )


def test_files_of_slightly_different_columns_are_merged(tmp_path: Path, pngs: list[bytes]) -> None:
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:1]), "age": pa.array([30])})
    write(tmp_path / "in" / "b.parquet", {"image": images(pngs[1:2]), "city": pa.array(["Riga"])})
    import_dataset(tmp_path / "in", tmp_path / "out")
    assert [(row["age"], row["city"]) for row in rows_of(tmp_path / "out")] == [(30, None), (None, "Riga")]


def test_an_output_of_a_stage_can_be_imported_again(tmp_path: Path, pngs: list[bytes]) -> None:
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs)})
    import_dataset(tmp_path / "in", tmp_path / "out", 5)
    assert import_dataset(tmp_path / "out", tmp_path / "again", 7).rows == {"ok": 12}
    first, again = rows_of(tmp_path / "out"), rows_of(tmp_path / "again")
    assert [(r["key"], r["sha256"], r["image"]) for r in first] == [(r["key"], r["sha256"], r["image"]) for r in again]


def _damaged(path: Path, pngs: list[bytes]) -> bytes:
    data = bytearray(write(path, {"image": images(pngs)}).read_bytes())
    data[200:400] = bytes(200)
    return bytes(data)


BROKEN = {
    "footer cut": (lambda p, pngs: write(p, {"image": images(pngs)}).read_bytes()[:-9], "not a whole Parquet file"),
    "not parquet": (lambda _p, _pngs: b"<html>", "not a whole Parquet file"),
    "empty file": (lambda _p, _pngs: b"", "not a whole Parquet file"),
    "page damaged": (_damaged, "not a whole Parquet file"),
    "no image column": (
        lambda p, _: write(p, {"image": pa.array(["a.png"]), "x": pa.array([1])}).read_bytes(),
        "no image column",
    ),
    "no rows": (lambda p, _: write(p, {"image": images([])}).read_bytes(), "have no rows"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_files_are_refused_in_one_line_and_nothing_left(tmp_path: Path, pngs: list[bytes], name: str) -> None:
    make, message = BROKEN[name]
    path = tmp_path / "in" / "b.parquet"
    data = make(path, pngs)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        import_dataset(tmp_path / "in", tmp_path / "out", 1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_earlier_import_stays_unless_shards_of_it_are_replaced(tmp_path: Path, pngs: list[bytes]) -> None:
    good = write(tmp_path / "in" / "b.parquet", {"image": images(pngs)})
    import_dataset(tmp_path / "in", tmp_path / "out", 5)
    before = rows_of(tmp_path / "out")
    good.write_bytes(_damaged(tmp_path / "other.parquet", pngs))
    with pytest.raises(DataError, match=r"fetch it again$"):
        import_dataset(tmp_path / "in", tmp_path / "out", 5)
    assert rows_of(tmp_path / "out") == before
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:1])})
    with pytest.raises(DataError, match=r"; this import has replaced 1 shard of the earlier one in .*: it can be used"):
        import_dataset(tmp_path / "in", tmp_path / "out", 1)
    with pytest.raises(DataError, match="was not finished"):
        list_shards(tmp_path / "out")


def test_columns_that_contradict_are_refused(tmp_path: Path, pngs: list[bytes]) -> None:
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:1]), "age": pa.array([30])})
    write(tmp_path / "in" / "b.parquet", {"image": images(pngs[:1]), "age": pa.array(["old"])})
    with pytest.raises(DataError, match="don't fit together"):
        import_dataset(tmp_path / "in", tmp_path / "out")


def test_extension_types_are_stored_plainly(tmp_path: Path, pngs: list[bytes]) -> None:
    kind = pa.fixed_shape_tensor(pa.float32(), (2, 2))
    column = pa.ExtensionArray.from_storage(kind, pa.array([[1.0, 2.0, 3.0, 4.0]], pa.list_(pa.float32(), 4)))
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:1]), "matrix": column})
    import_dataset(tmp_path / "in", tmp_path / "out")
    with open_shard(list_shards(tmp_path / "out")[0]) as file:
        assert file.schema_arrow.field("matrix").type == pa.list_(pa.float32(), 4) == portable_type(kind)
    assert rows_of(tmp_path / "out")[0]["matrix"].tolist() == [1, 2, 3, 4]


MIXED = {
    "integers": (pa.array([1, 2], pa.int32()), pa.array([2**40, None], pa.int64()), [1, 2, 2**40, None]),
    "signs": (pa.array([200, 1], pa.uint8()), pa.array([-1, 1], pa.int8()), [200, 1, -1, 1]),
    "a column of nulls": (pa.nulls(2), pa.array([1, 2]), [None, None, 1, 2]),
    "integers that pandas made floats": (pa.array([1, 2]), pa.array([1.5, None]), [1.0, 2.0, 1.5, None]),
    "floats": (pa.array([0.5, 1], pa.float32()), pa.array([0.1, 1]), [0.5, 1.0, 0.1, 1.0]),
    "strings": (pa.array(["a", "b"]), pa.array(["c", None], pa.large_string()), ["a", "b", "c", None]),
    "categories": (pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", None]), ["a", "b", "c", None]),
    "lists": (pa.array([[1], []], pa.list_(pa.int32())), pa.array([[2**40], None]), [[1], [], [2**40], None]),
    "lists of a fixed size": (
        pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32(), 2)),
        pa.array([[1.0]] * 2, pa.list_(pa.float32(), 1)),
        [[1.0, 2.0]] * 2 + [[1.0]] * 2,
    ),
    "views": (pa.array(["a", "b"], pa.string_view()), pa.array(["c", "d"]), ["a", "b", "c", "d"]),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("turned", [False, True])
def test_files_of_other_widths_are_merged_without_loss(
    tmp_path: Path, pngs: list[bytes], name: str, turned: bool
) -> None:
    first, second, expected = MIXED[name]
    if turned:
        first, second, expected = second, first, expected[2:] + expected[:2]
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:2]), "x": first})
    write(tmp_path / "in" / "b.parquet", {"image": images(pngs[2:4]), "x": second})
    import_dataset(tmp_path / "in", tmp_path / "out")
    found = [row["x"] for row in rows_of(tmp_path / "out")]
    assert found == expected and [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([2**63], pa.uint64()), pa.array([-1], pa.int64())),
        (pa.array([2**60 + 1], pa.int64()), pa.array([0.5])),
    ],
)
def test_a_value_that_the_wider_type_cant_hold_is_refused(
    tmp_path: Path, pngs: list[bytes], first: pa.Array, second: pa.Array
) -> None:
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:1]), "x": first})
    write(tmp_path / "in" / "b.parquet", {"image": images(pngs[:1]), "x": second})
    with pytest.raises(DataError, match=r"a\.parquet: column x doesn't fit (int64|double)") as caught:
        import_dataset(tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_importing_an_import_again_and_again_changes_no_row(tmp_path: Path, pngs: list[bytes]) -> None:
    columns = {
        "image": images([*pngs[:3], b"x"]),
        "key": pa.array(["a", "a", "b", "c"]),
        "status": pa.array(list("wxyz")),
    }
    columns["image"] = pa.array([*columns["image"].to_pylist()[:3], None], IMAGE)
    write(tmp_path / "0" / "a.parquet", columns)
    for step in range(3):
        import_dataset(tmp_path / f"{step}", tmp_path / f"{step + 1}")
    first, *later = (rows_of(tmp_path / f"{step}") for step in (1, 2, 3))
    assert [row["status"] for row in first] == ["ok", "duplicate_key", "ok", "no_image"]
    for rows in later:
        for old, new in zip(first, rows, strict=True):
            assert old.items() <= new.items()
    assert [row["source_source_status"] for row in later[0]] == [row["status"] for row in first]


def test_columns_of_the_datasets_own_names_stay_apart(tmp_path: Path, pngs: list[bytes]) -> None:
    columns = {"image": images(pngs[:1]), **{name: pa.array([name]) for name in ("status", "source_status", "sha256")}}
    write(tmp_path / "in" / "a.parquet", columns)
    import_dataset(tmp_path / "in", tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert (row["source_status"], row["source_source_status"]) == ("source_status", "status")
    assert row["source_sha256"] == "sha256" and row["status"] == "ok"


def test_files_that_cant_be_imported_say_which_column(tmp_path: Path, pngs: list[bytes]) -> None:
    twice = pa.Table.from_arrays([images(pngs[:1]), pa.array([1]), pa.array([2])], names=["image", "x", "x"])
    nulls = pa.table({"image": images(pngs[:2]), "x": pa.array([[1.0], None], pa.list_(pa.float32(), 1))})
    words = pa.table({"image": pa.array(["/data/a.png"])})
    empty = pa.table({"image": images(pngs[:2]), "x": pa.array([[], []], pa.list_(pa.float32(), 0))})
    said = {
        "more than one column 'x'": twice,
        "fixed-size lists holds nulls": nulls,
        "has the size 0": empty,
        r"it has image \(string\)": words,
    }
    for place, (message, table) in enumerate(said.items()):
        (tmp_path / f"{place}").mkdir()
        pq.write_table(table, tmp_path / f"{place}" / "a.parquet")
        with pytest.raises(DataError, match=message) as caught:
            import_dataset(tmp_path / f"{place}", tmp_path / "out")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.date32(), -800_000),
        (pa.timestamp("us"), 2**61),
        (pa.duration("s"), 2**62),
        (pa.timestamp("us", "Mars/Base"), 1),
    ],
)
def test_a_value_that_python_cant_hold_is_refused_with_its_column(
    tmp_path: Path, pngs: list[bytes], kind: pa.DataType, value: int
) -> None:
    integers = pa.int32() if kind == pa.date32() else pa.int64()
    column = pa.array([0, value], integers).cast(kind)
    write(tmp_path / "in" / "a.parquet", {"image": images(pngs[:2]), "when": column})
    with pytest.raises(
        DataError, match=r"a\.parquet: column when \(.*\) holds a value that can't be read \(.*\): leave"
    ):
        import_dataset(tmp_path / "in", tmp_path / "out")


def test_images_as_binary_views(tmp_path: Path, pngs: list[bytes]) -> None:
    write(tmp_path / "in" / "a.parquet", {"image": pa.array(pngs[:2], pa.binary_view())})
    import_dataset(tmp_path / "in", tmp_path / "out")
    assert [row["image"]["bytes"] for row in rows_of(tmp_path / "out")] == pngs[:2]


def test_of_several_image_columns_the_one_that_is_used_is_said(tmp_path: Path, pngs: list[bytes]) -> None:
    write(tmp_path / "in" / "a.parquet", {"before": images(pngs[:2]), "after": images(pngs[2:4])})
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert "1 columns with images beside 'before', which is the one that rows are made of (after)" in str(report)
    rows = rows_of(tmp_path / "out")
    assert [row["image"]["bytes"] for row in rows] == pngs[:2]
    assert [row["after"]["bytes"] for row in rows] == pngs[2:4]


def test_shards_beyond_the_last_are_told_by_their_number_not_their_name(tmp_path: Path) -> None:
    numbers = (99, 10_001, 99_999, 100_001, 100_002, 250_000)
    for number in numbers:
        (tmp_path / shard_name(number)).write_bytes(b"")
    (tmp_path / "shard-999999-mine.parquet").write_bytes(b"")
    _remove_shards(tmp_path, first=100_002)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*map(shard_name, numbers[:4]), "shard-999999-mine.parquet"}


def test_landmarks_of_other_pixels_than_the_pictures_are_not_taken_for_theirs(
    tmp_path: Path, pngs: list[bytes]
) -> None:
    row = {"key": "a", "status": "ok", "reason": "", "stage": "align", "image": {"bytes": pngs[0], "path": "a.png"}}
    points = {"landmarks": np.ones((5, 2)), "quad": np.ones((4, 2))}
    with ShardWriter(tmp_path / "align" / "shard-00000.parquet", [pa.field("image", IMAGE), *CROP_FIELDS]) as writer:
        writer.write([row | points])
    for source, target in (("align", "once"), ("once", "twice")):
        report = import_dataset(tmp_path / source, tmp_path / target)
        (found,) = rows_of(tmp_path / target)
        assert not {"landmarks", "quad"} & found.keys() and found["source_landmarks"].shape == (5, 2)
        assert report.kind == "parquet" and found["source_quad"].shape == (4, 2)
        told = "2 columns in pixels of the pictures that these were cropped from, which are called source_... now"
        assert (told in str(report)) == (target == "once")
