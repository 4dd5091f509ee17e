import errno
import hashlib
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from gan_core.errors import DataError, ParamsError
from gan_core.importers import base, folder, import_dataset
from gan_core.storage.receipts import valid_receipt
from gan_core.storage.shards import list_shards
from tests.gan_core.importers.conftest import rows_of


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
    (source / "link.png").symlink_to("b.png")
    (source / "dangling.png").symlink_to(tmp_path / "absent.png")
    (source / "ring.png").symlink_to("ring.png")
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe.png")
    report = import_dataset(source, tmp_path / "out")
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    assert report.rows == {"ok": 6, "unreadable": 3}
    assert rows["link.png"]["image"]["bytes"] == rows["b.png"]["image"]["bytes"]
    assert rows["dangling.png"]["reason"] == "a link to nothing" and rows["dangling.png"]["image"] is None
    assert rows["pipe.png"]["reason"] == "not a regular file"
    assert rows["ring.png"]["reason"].startswith("the link can't be followed: Too many levels")
    assert "left out: 1 links to folders that are read in their own place (loop)" in str(report)


def test_links_that_leave_the_source_are_followed_only_if_asked_for(source: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    (away / "deeper").mkdir(parents=True)
    (away / "secret.png").write_bytes(b"secret")
    (away / "deeper" / "back").symlink_to(away)
    (away / "b.json").write_text('{"secret": 1}')
    (source / "file.png").symlink_to(away / "secret.png")
    (source / "a" / "up.png").symlink_to("../../away/secret.png")
    (source / "b.json").symlink_to(away / "b.json")
    (source / "album").symlink_to(away)
    (source / "relay.png").symlink_to("file.png")
    report = import_dataset(source, tmp_path / "out")
    assert report.rows == {"ok": 5, "unreadable": 3}
    assert not any(b"secret" in path.read_bytes() for path in (tmp_path / "out").iterdir())
    said = str(report)
    assert (
        "3 unreadable: a link that leaves the source: --follow-links reads it (a/up.png, file.png, relay.png)" in said
    )
    assert "1 links to folders outside of the source (--follow-links reads them) (album)" in said and "(b.json)" in said
    asked = import_dataset(source, tmp_path / "asked", follow_links=True)
    rows = {row["key"]: row for row in rows_of(tmp_path / "asked")}
    assert asked.rows == {"ok": 9} and rows["b.png"]["json"] == '{"secret": 1}'
    followed = ("file.png", "a/up.png", "relay.png", "album/secret.png")
    assert all(rows[key]["image"]["bytes"] == b"secret" for key in followed)
    assert "links to folders that are read in their own place (album/deeper/back)" in str(asked)


def test_archives_and_parquet_files_behind_links_are_refused(tmp_path: Path, make_tar: Callable[..., Path]) -> None:
    make_tar(tmp_path / "away" / "t.tar", {"1.png": b"1"})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.tar").symlink_to(tmp_path / "away" / "t.tar")
    with pytest.raises(DataError, match=r"t\.tar: a link that leaves the source: --follow-links reads it"):
        import_dataset(tmp_path / "in", tmp_path / "out")
    assert import_dataset(tmp_path / "in", tmp_path / "out", follow_links=True).rows == {"ok": 1}
    assert import_dataset(tmp_path / "in" / "t.tar", tmp_path / "single").rows == {"ok": 1}


@pytest.mark.parametrize("call", ["scandir", "stat"])
def test_a_folder_that_cant_be_read_ends_the_import(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A folder without the right to list it, or with the right to list but not to enter it."""
    real = getattr(os, call)

    def refuse(path: str | os.PathLike[str], *args: object, **options: object) -> object:
        below = os.fspath(path).removeprefix(f"{source}/")
        if below.rstrip("/") == "a" if call == "scandir" else below.startswith("a/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(
        DataError, match=r"can't read the folder .*in/a/? \(Permission denied\): make it readable"
    ) as caught:
        import_dataset(source, tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_file_that_may_not_be_read_is_a_row(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: base.SourceFile) -> object:
        if file.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return file.fs.open(file.path, "rb")

    monkeypatch.setattr(base.SourceFile, "open", refuse)
    assert import_dataset(source, tmp_path / "out").rows == {"ok": 4, "unreadable": 1}


@pytest.mark.parametrize("name", ["b.png", "b.json"])
def test_a_file_whose_disk_fails_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(file: base.SourceFile) -> object:
        if file.name == name:
            raise OSError(errno.EIO, "Input/output error")
        return file.fs.open(file.path, "rb")

    (source / "b.json").write_text("{}")
    monkeypatch.setattr(base.SourceFile, "open", fail)
    with pytest.raises(DataError, match=rf"can't read .*in/{name} \(Input/output error\): make it readable"):
        import_dataset(source, tmp_path / "out")


def test_a_huge_file_is_not_read(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_FILE_BYTES", 1000)
    with open(source / "huge.png", "wb") as file:
        file.truncate(1001)
    assert import_dataset(source, tmp_path / "out").rows == {"ok": 5, "too_large": 1}


def test_what_is_left_out_is_named_by_kind(source: Path, tmp_path: Path) -> None:
    names = ("notes.txt", ".hidden.png", ".git/x.png", "a/._1.JPG", "__MACOSX/a/._1.JPG", "Thumbs.db", ".DS_Store")
    for name in (*names, "more.zip", "metadata.csv", "a/metadata.jsonl", "raw.cr2", "raw2.cr2", "raw3.cr2", "raw4.cr2"):
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        (source / name).touch()
    report = import_dataset(source, tmp_path / "out")
    assert report.rows == {"ok": 5} and report.ignored == 14
    head, *said = str(report).splitlines()
    assert head.endswith("; 14 files left out")
    assert said == [
        "  left out: 4 other files (raw.cr2, raw2.cr2, raw3.cr2, ...)",
        "  left out: 3 hidden files and folders (.DS_Store, .git/, .hidden.png)",
        "  left out: 2 resource forks of macOS (__MACOSX/, a/._1.JPG)",
        "  left out: 2 tables (a/metadata.jsonl, metadata.csv)",
        "  left out: 1 archives, which are not unpacked here (more.zip)",
        "  left out: 1 files of the operating system (Thumbs.db)",
        "  left out: 1 sidecars without a picture (notes.txt)",
    ]
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["left_out"][0]["count"] == 4


def test_reasons_are_counted_and_many_different_ones_do_not_fill_the_screen(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MAX_FILE_BYTES", 1000)
    for size in range(100):
        (source / f"{size}.png").write_bytes(bytes(1001 + size))
    report = import_dataset(source, tmp_path / "out")
    assert report.rows["too_large"] >= 100
    assert len(str(report).splitlines()) == 10
    assert "more reasons in dataset.json" in str(report) and len(report.rejected) == 51
    assert sum(group.count for group in report.rejected) == report.rows["too_large"]


def test_sidecars_in_a_folder_are_those_of_a_tar(
    source: Path, tmp_path: Path, make_tar: Callable[..., Path], pngs: list[bytes]
) -> None:
    files = {
        "visit.1.0.png": pngs[0],
        "visit.1.1.PNG": pngs[1],
        "visit.1.0.json": b'{"landmarks": [[1, 2]], "id": 10}',
        "visit.1.1.JSON": b'{"landmarks": [[3, 4]], "id": 11}',
        "visit.1.1.txt": b"a caption",
    }
    for name, data in files.items():
        (tmp_path / "plain" / "album").mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / "album" / name).write_bytes(data)
    make_tar(tmp_path / "packed" / "album.tar", files)
    for kind in ("plain", "packed"):
        report = import_dataset(tmp_path / kind, tmp_path / f"{kind}-out")
        assert report.rows == {"ok": 2} and report.ignored == 0
    columns = ("key", "json", "txt", "cls", "landmarks", "image")
    plain, packed = ([[r[c] for c in columns] for r in rows_of(tmp_path / f"{k}-out")] for k in ("plain", "packed"))
    assert plain == packed
    assert [(row[0], row[4]) for row in plain] == [("album/visit.1.0.png", [[1, 2]]), ("album/visit.1.1.PNG", [[3, 4]])]


def test_a_folder_without_sidecars_has_no_columns_for_them(source: Path, tmp_path: Path) -> None:
    (source / "notes.txt").touch()
    import_dataset(source, tmp_path / "out")
    assert list(rows_of(tmp_path / "out")[0]) == ["key", "status", "reason", "stage", "image", "sha256"]


def test_sidecars_that_cant_be_used_are_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_SIDECAR_BYTES", 100)
    (source / "b.json").write_bytes(b'{"landmarks": [[1, 1e999]]}')
    (source / "b.txt").write_bytes("caf\xe9".encode("latin-1"))
    (source / "b.cls").write_bytes(bytes(101))
    (source / "a" / "1.json").symlink_to("nothing")
    report = import_dataset(source, tmp_path / "out")
    row = next(row for row in rows_of(tmp_path / "out") if row["key"] == "b.png")
    assert report.rows == {"ok": 5}
    assert (row["landmarks"], row["txt"], row["cls"]) == (None, "caf\ufffd", None)
    said = str(report)
    assert "left out: 1 sidecars of more than 1 MiB (b.cls)" in said and "a link to nothing (a/1.json)" in said
    assert "noted: 1 sidecars whose landmarks can't be read (b.json)" in said
    assert "noted: 1 sidecars that are not UTF-8, whose other bytes were replaced (b.txt)" in said


def test_names_that_look_alike_stay_apart_and_are_said(tmp_path: Path, pngs: list[bytes]) -> None:
    nfc, nfd = (unicodedata.normalize(form, "J\xfcrgen.png") for form in ("NFC", "NFD"))
    (tmp_path / "in").mkdir()
    for name, data in zip((nfc, nfd), pngs, strict=False):
        (tmp_path / "in" / name).write_bytes(data)
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    rows = {row["key"]: row["image"]["bytes"] for row in rows_of(tmp_path / "out")}
    assert report.rows == {"ok": 2} and rows == {nfc: pngs[0], nfd: pngs[1]}
    assert f"in another Unicode form (NFC, NFD): they stay apart ({nfc})" in str(report)


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
    assert len(list((tmp_path / "out").iterdir())) == 6


@pytest.mark.parametrize(
    ("added", "changed"), [("", 0), ("zz.png", 1), ("0.png", 3)], ids=["nothing", "a last name", "a first name"]
)
def test_importing_again_says_how_many_shards_differ(source: Path, tmp_path: Path, added: str, changed: int) -> None:
    first = import_dataset(source, tmp_path / "out", 2)
    assert first.changed is None and "replaced" not in str(first)
    if added:
        (source / added).write_bytes(b"1")
    again = import_dataset(source, tmp_path / "out", 2)
    told = f"{changed} of 3 shards differ, which runs over them make again" if changed else "no shard differs"
    assert again.changed == changed and f"  replaced the earlier import: {told}" in str(again)
    assert "changed" not in json.loads((tmp_path / "out/dataset.json").read_text())


def test_a_source_may_be_spelled_otherwise(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    first = import_dataset(source.name, tmp_path / "out")
    for spelled in (f"{source.name}/", str(source), f"./{source.name}"):
        assert import_dataset(spelled, tmp_path / "out").sha256 == first.sha256


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
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "faces.zip").touch()
    (source / "x.parquet").touch()
    cases = {
        tmp_path / "absent": "nothing at .*absent",
        tmp_path / "empty": "no folder or parquet or tar files; it has nothing",
        tmp_path / "text": "it has notes.txt",
        tmp_path / "zipped": "it has faces.zip: unpack archives first",
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
    with pytest.raises(DataError, match=r"out holds a dataset of .*in: choose another folder"):
        import_dataset(tmp_path / "other", tmp_path / "out")
    (tmp_path / "link").symlink_to(source)
    for inside in (source, source / "out", tmp_path / "link" / "out"):
        with pytest.raises(DataError, match="is inside"):
            import_dataset(source, inside)
    assert len(rows_of(tmp_path / "out")) == 5


@pytest.mark.parametrize("name", ["shard-notes.parquet", "shard-00009.parquet", "shard-00000.parquet", "mine.parquet"])
def test_shards_of_others_are_neither_removed_nor_replaced(source: Path, tmp_path: Path, name: str) -> None:
    import_dataset(source, tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"mine")
    receipt = tmp_path / "out" / f"{name}.receipt.json"
    receipt.unlink(missing_ok=True)
    with pytest.raises(DataError, match=f"out has {name}, which no import wrote: move it away"):
        import_dataset(source, tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == b"mine"
