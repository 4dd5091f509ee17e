"""Tables and other files beside the pictures of a folder, and the keys that rows get."""

import errno
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.importers.base import Importer, Item, SourceFile, printable
from gan_core.importers.dataset import _Rows
from gan_core.importers.metadata import DAMAGED, EXPORT, EXPORTED, METADATA, REPEATED, TWICE, UNMATCHED, FolderMetadata
from gan_core.importers.tally import Tally
from tests.gan_core.importers.conftest import rows_of

POINTS = [[1.0, 2.0]] * 5


@pytest.fixture
def source(tmp_path: Path, pngs: list[bytes]) -> Path:
    (tmp_path / "in").mkdir()
    for name, data in zip("abc", pngs, strict=False):
        (tmp_path / "in" / f"{name}.png").write_bytes(data)
    return tmp_path / "in"


def describe(source: Path, columns: Mapping[str, Any]) -> None:
    table = pa.table({"file_name": ["a.png", "b.png", "c.png"], **columns})
    pq.write_table(table, source / METADATA)


@pytest.mark.parametrize("name", ["faces_metadata.parquet", "Metadata.parquet"])
def test_a_table_whose_name_only_ends_alike_is_not_taken_for_the_pictures(
    source: Path, tmp_path: Path, pngs: list[bytes], name: str
) -> None:
    pq.write_table(pa.table({"image": pngs[:2]}), source / name)
    with pytest.raises(DataError, match="3 of kind folder and 1 of kind parquet: choose one with --kind"):
        import_dataset(source, tmp_path / "out")
    report = import_dataset(source, tmp_path / "out", kind="folder")
    assert f"1 tables ({name})" in str(report) and report.ignored == 1


def test_the_key_of_a_table_of_others_is_none_of_a_row(source: Path, tmp_path: Path) -> None:
    describe(source, {"key": ["cat", "cat", "dog"], "landmarks": [POINTS] * 3})
    assert import_dataset(source, tmp_path / "out").rows == {"ok": 3}
    rows = rows_of(tmp_path / "out")
    assert [row["key"] for row in rows] == ["a.png", "b.png", "c.png"]
    assert '"key": "cat"' in rows[0]["json"] and rows[0]["landmarks"] == POINTS


def test_long_keys_of_an_export_are_the_same_again(source: Path, tmp_path: Path) -> None:
    keys = [f"{name * 500}/smile@+1 with a long name" for name in "abc"]
    describe(source, {name: ["x"] * 3 for name in EXPORTED} | {"key": keys})
    import_dataset(source, tmp_path / "out")
    assert [row["key"] for row in rows_of(tmp_path / "out")] == keys
    import_dataset(tmp_path / "out", tmp_path / "again")
    assert [row["key"] for row in rows_of(tmp_path / "again")] == keys


def test_a_line_of_a_picture_with_a_json_of_its_own_is_said(source: Path, tmp_path: Path) -> None:
    describe(source, {"landmarks": [POINTS] * 3})
    (source / "a.json").write_text('{"x": 1}')
    report = import_dataset(source, tmp_path / "out")
    assert [row["landmarks"] for row in rows_of(tmp_path / "out")] == [None, POINTS, POINTS]
    assert f"noted: 1 {TWICE} (a.png)" in str(report)


class Alike(Importer):
    """Items of one key, a hundred times."""

    def items(self) -> Iterator[Item]:
        yield from (Item("cat", b"x") for _ in range(100))


class Counting(set[str]):
    """A set that counts how often it is looked into."""

    looked = 0

    def __contains__(self, key: object) -> bool:
        self.looked += 1
        return super().__contains__(key)


def test_equal_keys_are_numbered_without_counting_again(source: Path, tmp_path: Path) -> None:
    rows = _Rows(Alike([]))
    rows._keys = keys = Counting()
    assert [row["key"] for row in rows] == ["cat", *(f"cat#{number}" for number in range(2, 101))]
    assert keys.looked < 300


def test_only_controls_and_ends_of_lines_are_escaped() -> None:
    names = ("Screenshot at 1.23\u202fPM.png", "family \U0001f468\u200d\U0001f469.png", "a\u00a0b.png")
    assert [printable(name) for name in names] == [*names]
    assert printable("a\nb\u2028c\udcff\x85") == r"a\nb\u2028c\xff\x85"


def test_a_damaged_table_beside_pictures_is_told_once(tmp_path: Path) -> None:
    names = ["a", "a/b", "a/c"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / METADATA).write_bytes(b"no table")
    left_out, fs = Tally(), LocalFileSystem()
    files = [SourceFile(fs, str(tmp_path / name / METADATA), f"{name}/{METADATA}", 8) for name in names]
    metadata = FolderMetadata(files, left_out)
    for picture in ("a/1.png", "a/b/2.png", "a/c/3.png", "a/4.png"):
        assert metadata.of(picture) == {}
    assert [(group.label, group.count) for group in left_out.groups()] == [(DAMAGED, 3)]


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_only_a_table_that_may_not_be_read_is_left_out_and_a_failing_disk_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fail(file: SourceFile) -> object:
        if file.name == METADATA:
            raise OSError(error, "it failed")
        return file.fs.open(file.path, "rb")

    describe(source, {"label": [1, 2, 3]})
    monkeypatch.setattr(SourceFile, "open", fail)
    if error == errno.EACCES:
        assert f"1 {DAMAGED} ({METADATA})" in str(import_dataset(source, tmp_path / "out"))
        return
    with pytest.raises(DataError, match=rf"can't read .*in/{METADATA} \(it failed\): make it readable"):
        import_dataset(source, tmp_path / "out")


def test_a_folder_of_an_unfinished_export_is_imported_only_with_its_keys(source: Path, tmp_path: Path) -> None:
    about = tmp_path / EXPORT
    about.write_text(json.dumps({"key": "0", "format": "imagefolder", "finished": False}))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/link").symlink_to(source)
    (source / "deeper").mkdir()
    (source / "deeper/x.png").write_bytes((source / "a.png").read_bytes())
    for part in (source, source / "deeper", tmp_path / "elsewhere/link"):
        with pytest.raises(DataError, match=rf"{about} says that this export has not finished: run the same export"):
            import_dataset(part, tmp_path / "out")
    (source / "deeper/x.png").unlink()
    describe(source, {"label": [1, 2, 3]})
    assert import_dataset(source, tmp_path / "out").rows == {"ok": 3}


def test_what_may_not_be_read_of_exports_ends_no_import(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: SourceFile) -> object:
        if file.name.endswith(EXPORT):
            raise PermissionError(errno.EACCES, "Permission denied")
        return file.fs.open(file.path, "rb")

    (source / "old").mkdir()
    for folder in (source / "old", tmp_path):
        (folder / EXPORT).write_text("{}")
    monkeypatch.setattr(SourceFile, "open", refuse)
    assert import_dataset(source, tmp_path / "out").rows == {"ok": 3}


def test_lines_of_a_table_that_no_picture_has_are_told(tmp_path: Path, pngs: list[bytes]) -> None:
    names = ["./a.png", "b.png", "b.png", "gone.png", "sub/c.png"]
    table = pa.table({"file_name": pa.array(names), "label": pa.array(range(5))})
    for name in ("in", "in/sub", "in/none"):
        (tmp_path / name).mkdir()
    pq.write_table(table, tmp_path / "in" / METADATA)
    pq.write_table(table.slice(0, 1), tmp_path / "in" / "none" / METADATA)
    pq.write_table(
        pa.table({"file_name": pa.array([b"c.png"]), "label": pa.array([7])}), tmp_path / "in/sub" / METADATA
    )
    for place, name in enumerate(["a.png", "b.png", "sub/c.png"]):
        (tmp_path / "in" / name).write_bytes(pngs[place])
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    labels = {row["key"]: json.loads(row["json"])["label"] for row in rows_of(tmp_path / "out")}
    assert labels == {"a.png": 0, "b.png": 2, "sub/c.png": 7}
    assert {group.label: (group.count, set(group.names)) for group in report.left_out} == {
        UNMATCHED: (3, {"gone.png", "sub/c.png", "none/a.png"}),
        REPEATED: (1, {"b.png"}),
    }


def test_a_date_that_python_cant_hold_in_a_table_beside_pictures_is_told(tmp_path: Path, pngs: list[bytes]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(pngs[0])
    when = pa.array([2**61], pa.int64()).cast(pa.timestamp("us"))
    pq.write_table(pa.table({"file_name": pa.array(["a.png"]), "when": when}), tmp_path / "in" / METADATA)
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert report.rows == {"ok": 1} and [group.label for group in report.left_out] == [DAMAGED]
