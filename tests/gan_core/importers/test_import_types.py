"""Parquet files whose columns have other types in other files, or hold what a dataset can't: one clear line each."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_core.errors import DataError
from gan_core.importers import import_dataset, parquet
from gan_core.importers.parquet import CLASSES, INNER_CLASSES, UNMARKED
from gan_core.rows import Row
from gan_core.storage.shards import BASE_NAMES, list_shards, read_rows

POINT = pa.list_(pa.float32(), 2)


def imported(folder: Path, *files: Mapping[str, Any] | pa.Table) -> list[Row]:
    """The rows of a dataset made of Parquet files of these columns."""
    (folder / "in").mkdir()
    for place, columns in enumerate(files):
        table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
        pq.write_table(table, folder / "in" / f"{place}.parquet")
    import_dataset(folder / "in", folder / "out")
    return [row for shard in list_shards(folder / "out") for rows in read_rows(shard) for row in rows]


def test_a_column_of_nulls_in_one_file_and_of_fixed_lists_in_another(tmp_path: Path, pngs: list[bytes]) -> None:
    image, points = pngs[:2], pa.array([[1, 2], [3, 4]], POINT)
    rows = imported(tmp_path, {"image": image, "x": pa.nulls(2)}, {"image": image, "x": points})
    assert [row["x"] is None for row in rows] == [True, True, False, False]
    assert np.array_equal(rows[3]["x"], [3, 4])


@pytest.mark.parametrize(
    ("column", "other", "told"),
    [
        ([2**53 + 1], [1.5], r"0\.parquet: column x doesn't fit double, its type in all files \(Integer value"),
        ([{"a": 2**53 + 1}], [{"a": 1.5}], r"0\.parquet: column x doesn't fit struct<a: double>"),
        (pa.array([[1, None]], POINT), pa.array([[1, 2]], POINT), r"0\.parquet: column x has lists with nulls in them"),
    ],
)
def test_values_that_dont_fit_are_told_with_file_and_column(
    tmp_path: Path, pngs: list[bytes], column: Any, other: Any, told: str
) -> None:
    with pytest.raises(DataError, match=told) as caught:
        imported(tmp_path, {"image": pngs[:1], "x": column}, {"image": pngs[:1], "x": other})
    assert "\n" not in str(caught.value)


def test_pictures_as_text_in_one_of_the_files_are_refused(tmp_path: Path, pngs: list[bytes]) -> None:
    with pytest.raises(DataError, match=r"1\.parquet: column image holds string, not the bytes of image files"):
        imported(tmp_path, {"image": pngs[:1]}, {"image": ["a.png"]})


def test_a_file_whose_pictures_are_all_null_has_rows_without_pictures(tmp_path: Path, pngs: list[bytes]) -> None:
    nothing = pa.array([{"bytes": None, "path": "a.png"}])
    picture = pa.array([{"bytes": pngs[0], "path": "a.png"}])
    rows = imported(tmp_path, {"image": picture}, {"image": nothing}, {"image": pa.nulls(1)}, {"x": [1]})
    assert [row["status"] for row in rows] == ["ok", *["no_image"] * 3]


def test_extension_types_within_others_are_stored_plainly(tmp_path: Path, pngs: list[bytes]) -> None:
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=1).bytes], pa.binary(16)))
    lists = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), ids)
    structs = pa.StructArray.from_arrays([ids], ["id"])
    (row,) = imported(tmp_path, {"image": pngs[:1], "lists": lists, "structs": structs})
    assert row["lists"] == [uuid.UUID(int=1).bytes] and row["structs"] == {"id": uuid.UUID(int=1).bytes}


def test_a_status_that_is_no_text_is_a_column_of_others(tmp_path: Path, pngs: list[bytes]) -> None:
    (row,) = imported(tmp_path, {name: [3] for name in BASE_NAMES} | {"image": pngs[:1]})
    assert (row["key"], row["status"], row["source_status"], row["source_stage"]) == ("3", "ok", 3, 3)


def test_an_empty_status_of_our_own_columns_is_ok(tmp_path: Path, pngs: list[bytes]) -> None:
    (row,) = imported(tmp_path, {"key": ["a"], "status": [""], "reason": [""], "stage": ["x"], "image": pngs[:1]})
    assert (row["key"], row["status"], row["stage"]) == ("a", "ok", "import")


def described(columns: Mapping[str, Any], **features: Any) -> pa.Table:
    """A table of which HF says these features; other columns have none."""
    said = {"info": {"features": features | {"parts": []}}}
    return pa.table(dict(columns)).replace_schema_metadata({"huggingface": json.dumps(said)})


def noted(folder: Path) -> dict[str, list[str]]:
    return {each["label"]: each["names"] for each in json.loads((folder / "out/dataset.json").read_text())["noted"]}


def test_what_hf_says_of_columns_and_is_lost_is_said(tmp_path: Path, pngs: list[bytes]) -> None:
    wide = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    picture = {"bytes": pngs[0], "path": "a.png"}
    columns = {"image": pa.array([picture]), "mask": pa.array([picture], wide), "label": [1], "words": ["a"]}
    image, words = {"_type": "Image"}, {"_type": "Value"}
    first = described(columns, image=image, mask=image, label=classes("no", "yes"), words=words)
    imported(tmp_path, first, described(columns, image=image, label=classes("yes", "no")))
    told = noted(tmp_path)
    assert told[CLASSES] == ["label"] and told[UNMARKED] == ["mask"] and len(told) == 3
    schema = pq.read_schema(list_shards(tmp_path / "out")[0])
    assert schema.field("label").metadata is None and b"ClassLabel" not in schema.metadata[b"huggingface"]


def classes(*names: str) -> dict[str, Any]:
    return {"_type": "ClassLabel", "names": list(names)}


def test_names_of_classes_stay_with_their_column_and_again_when_the_dataset_is_imported(
    tmp_path: Path, pngs: list[bytes]
) -> None:
    picture = pa.array([{"bytes": pngs[0], "path": "a.png"}])
    label, plain = classes("no", "yes"), {"image": picture, "words": ["a"]}
    small = pa.array([1], pa.int32())  # HF reads names of int64 only
    file = described({"image": picture, "status": small}, image={"_type": "Image"}, status=label)
    imported(tmp_path, file, plain, file)
    import_dataset(tmp_path / "out", tmp_path / "again")
    for folder, column in (("out", "source_status"), ("again", "source_status")):
        (shard,) = list_shards(tmp_path / folder)
        features = json.loads(pq.read_schema(shard).metadata[b"huggingface"])["info"]["features"]
        assert features == {"image": {"_type": "Image"}, column: label}
        assert pq.read_schema(shard).field(column).type == pa.int64()
    assert not noted(tmp_path)


def test_classes_that_hf_would_not_read_are_said_to_be_lost(tmp_path: Path, pngs: list[bytes]) -> None:
    label = classes("no", "yes")
    columns = {"image": pngs[:1], "share": [0.5], "tags": [[1]], "objects": [{"category": [1]}]}
    tags, objects = {"feature": label, "_type": "List"}, {"category": [label]}
    imported(tmp_path, described(columns, share=label, tags=tags, objects=objects))
    assert noted(tmp_path) == {CLASSES: ["share"], INNER_CLASSES: ["tags", "objects"]}


def test_what_hf_says_is_read_once_however_many_columns_there_are(
    tmp_path: Path, pngs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, loads = list[str](), json.loads
    monkeypatch.setattr(parquet.json, "loads", lambda text: read.append(text) or loads(text))
    imported(tmp_path, described({"image": pngs[:1]} | {f"x{i}": [i] for i in range(50)}, image={"_type": "Image"}))
    assert len([text for text in read if b"features" in text]) == 2
