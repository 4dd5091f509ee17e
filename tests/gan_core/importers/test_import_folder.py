import hashlib
import os
from pathlib import Path

import fsspec
import pytest

from gan_core.errors import DataError, ParamsError
from gan_core.importers import base, folder, import_dataset
from gan_core.rows import Row
from gan_core.storage.receipts import valid_receipt
from gan_core.storage.shards import list_shards, read_rows


def rows_of(dataset: str | Path) -> list[Row]:
    return [row for shard in list_shards(dataset) for batch in read_rows(shard) for row in batch]


@pytest.fixture
def source(tmp_path: Path, pngs: list[bytes]) -> Path:
    for name, data in zip(["b.png", "a/1.JPG", "a/10.jpg", "a/2.webp", "ä ö.png"], pngs, strict=False):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


def test_keys_are_bound_to_bytes(source: Path, tmp_path: Path) -> None:
    report = import_dataset(source, tmp_path / "out", rows_per_shard=2)
    rows = rows_of(tmp_path / "out")
    assert [row["key"] for row in rows] == ["a/1.JPG", "a/10.jpg", "a/2.webp", "b.png", "ä ö.png"]
    for row in rows:
        data = (source / row["key"]).read_bytes()
        assert row["image"] == {"bytes": data, "path": row["key"].split("/")[-1]}
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["status"], row["reason"], row["stage"]) == ("ok", "", "import")
    assert (report.shards, report.rows, report.ignored, report.kind) == (3, {"ok": 5}, 0, "folder")
    assert str(report) == f"imported 5 rows into 3 shards (5 ok) from {source}"
    for shard in list_shards(tmp_path / "out"):
        receipt, _ = valid_receipt(shard)
        assert receipt is not None and receipt.stage == "import"


def test_bytes_that_are_no_image_are_imported_all_the_same(source: Path, tmp_path: Path) -> None:
    (source / "page.jpg").write_bytes(b"<html>")
    (source / "zero.png").touch()
    assert import_dataset(source, tmp_path / "out").rows == {"ok": 7}
    found = {row["key"]: row["image"]["bytes"] for row in rows_of(tmp_path / "out")}
    assert found["page.jpg"] == b"<html>" and found["zero.png"] == b""


def test_hostile_names_become_printable_keys(source: Path, tmp_path: Path) -> None:
    for name in (b"new\nline.png", b"bad\xff.png", b"tab\t.png", b"..png", b"x" * 251 + b".png"):
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(b"1")
    deep = source / "/".join(["d" * 200] * 4)
    deep.mkdir(parents=True)
    (deep / "deep.png").write_bytes(b"1")
    report = import_dataset(source, tmp_path / "out")
    keys = {row["key"] for row in rows_of(tmp_path / "out")}
    assert {"new\\nline.png", "bad\\xff.png", "tab\\t.png", "x" * 251 + ".png"} <= keys
    assert all(key.isprintable() and len(key) <= base.MAX_KEY_CHARACTERS for key in keys)
    assert sum(key.startswith("d" * 200) for key in keys) == 1
    assert report.rows == {"ok": 10}  # "..png" is a hidden file


def test_links_devices_and_forbidden_files_are_rows_too(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(b"linked")
    (source / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (source / "dangling.png").symlink_to(tmp_path / "absent.png")
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe.png")
    report = import_dataset(source, tmp_path / "out")
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    assert report.rows == {"ok": 6, "unreadable": 2}
    assert rows["link.png"]["image"]["bytes"] == b"linked"
    assert rows["dangling.png"]["reason"] == "a link to nothing" and rows["dangling.png"]["image"] is None
    assert rows["pipe.png"]["reason"] == "not a regular file"


def test_a_file_that_may_not_be_read_is_a_row(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: base.SourceFile) -> object:
        if file.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return file.fs.open(file.path, "rb")

    monkeypatch.setattr(base.SourceFile, "open", refuse)
    assert import_dataset(source, tmp_path / "out").rows == {"ok": 4, "unreadable": 1}


def test_a_huge_file_is_not_read(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_FILE_BYTES", 1000)
    with open(source / "huge.png", "wb") as file:
        file.truncate(1001)
    assert import_dataset(source, tmp_path / "out").rows == {"ok": 5, "too_large": 1}


def test_hidden_and_other_files_are_left_out_and_counted(source: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", ".hidden.png", ".git/x.png", "a/._1.JPG"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).touch()
    report = import_dataset(source, tmp_path / "out")
    assert report.rows == {"ok": 5} and report.ignored == 1
    assert str(report).endswith("; 1 other files ignored")


def test_the_same_source_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first, second = (import_dataset(source, tmp_path / name, 2) for name in ("one", "two"))
    assert first == second
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    (source / "b.png").write_bytes(b"edited")
    assert import_dataset(source, tmp_path / "three", 2).sha256 != first.sha256


def test_importing_again_replaces_and_drops_what_is_gone(source: Path, tmp_path: Path) -> None:
    import_dataset(source, tmp_path / "out", 1)
    for name in ("b.png", "a/1.JPG"):
        (source / name).unlink()
    report = import_dataset(source, tmp_path / "out", 2)
    assert report.shards == len(list_shards(tmp_path / "out")) == 2
    assert [row["key"] for row in rows_of(tmp_path / "out")] == ["a/10.jpg", "a/2.webp", "ä ö.png"]
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_an_import_from_and_to_other_file_systems(source: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.put(str(source), "/photos/in", recursive=True)
    local = import_dataset(source, tmp_path / "out")
    far = import_dataset("memory://photos/in", "memory://photos/out")
    assert far.sha256 == local.sha256 and far.rows == local.rows
    assert len(list_shards("memory://photos/out")) == 1


def test_one_file_is_a_source_too(source: Path, tmp_path: Path) -> None:
    assert import_dataset(source / "b.png", tmp_path / "out").rows == {"ok": 1}
    assert rows_of(tmp_path / "out")[0]["key"] == "b.png"


def test_progress_counts_rows(source: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    import_dataset(source, tmp_path / "out", 2, progress=seen.append)
    assert sum(seen) == 5


def test_sources_that_give_nothing_are_refused_and_leave_nothing(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").touch()
    (source / "x.parquet").touch()
    cases = {
        tmp_path / "absent": "nothing at .*absent",
        tmp_path / "empty": "no folder or parquet or tar files; it has nothing",
        tmp_path / "text": "it has notes.txt",
        source: "5 of kind folder and 1 of kind parquet: choose one with --kind",
    }
    for path, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            import_dataset(path, tmp_path / "out")
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no tar files; it has"):
        import_dataset(source, tmp_path / "out", kind="tar")
    with pytest.raises(ParamsError, match="unknown kind of source 'foldr'; did you mean 'folder'"):
        import_dataset(source, tmp_path / "out", kind="foldr")
    with pytest.raises(DataError, match="rows_per_shard is 0"):
        import_dataset(source, tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()
    assert import_dataset(source, tmp_path / "out", kind="folder").rows == {"ok": 5}


def test_a_destination_that_holds_something_else_is_refused(source: Path, tmp_path: Path, pngs: list[bytes]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"not empty \(thesis\.tex is there\)"):
        import_dataset(source, tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    import_dataset(source, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").write_bytes(pngs[0])
    with pytest.raises(DataError, match="not empty"):
        import_dataset(tmp_path / "other", tmp_path / "out")
    for inside in (source, source / "out"):
        with pytest.raises(DataError, match="is inside"):
            import_dataset(source, inside)
    assert len(rows_of(tmp_path / "out")) == 5
