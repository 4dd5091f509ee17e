"""What an import calls its source, what it says of one that can't be read, and whose dataset it replaces."""

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.importers.base import SourceFile
from gan_core.importers.dataset import ABOUT, imported_from
from gan_core.storage.shards import UNFINISHED_IMPORT, list_shards, read_rows


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        pass


def keys_of(dataset: Path) -> list[str]:
    return [row["key"] for shard in list_shards(dataset) for batch in read_rows(shard) for row in batch]


@pytest.fixture
def folders(tmp_path: Path, pngs: list[bytes]) -> Path:
    """Two folders that have each a folder ``pics``, of one and of two pictures."""
    for count, name in enumerate("xy", start=1):
        (tmp_path / name / "pics").mkdir(parents=True)
        for number in range(count):
            (tmp_path / name / "pics" / f"{number}.png").write_bytes(pngs[number])
    return tmp_path


@pytest.fixture
def web(folders: Path, make_tar: Callable[..., Path]) -> Iterator[str]:
    """The address of a web server with ``x.tar``, with a password in it."""
    pytest.importorskip("aiohttp")
    pictures = {path.name: path.read_bytes() for path in (folders / "y/pics").iterdir()}
    make_tar(folders / "x.tar", pictures)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folders))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://bob:hunter22@127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_relative_source_of_another_folder_is_another_source(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders / "x")
    first = import_dataset("pics", folders / "ds")
    assert imported_from(folders / "ds") == str(folders / "x/pics")
    monkeypatch.chdir(folders / "y")
    with pytest.raises(DataError, match=r"holds a dataset of .*/x/pics: choose another folder"):
        import_dataset("pics", folders / "ds")
    monkeypatch.chdir(folders)
    assert import_dataset("x/pics", folders / "ds").sha256 == first.sha256


def test_datasets_from_before_absolute_paths_are_imported_again(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders / "x")
    first = import_dataset("pics", folders / "ds")
    about = json.loads((folders / "ds" / ABOUT).read_text())
    del about["source_sha256"]
    (folders / "ds" / ABOUT).write_text(json.dumps(about | {"source": "pics"}))
    with pytest.raises(DataError, match="holds a dataset of pics: choose"):
        import_dataset("../y/pics", folders / "ds")
    assert import_dataset("../x/pics", folders / "ds").sha256 == first.sha256


def test_passwords_and_tokens_of_addresses_are_neither_said_nor_stored(web: str, tmp_path: Path) -> None:
    said, stored, marker = list[str](), list[bytes](), tmp_path / "ds" / UNFINISHED_IMPORT
    progress = lambda _rows: stored.append(marker.read_bytes())  # noqa: E731
    report = import_dataset(f"{web}/x.tar?token=s3cret", tmp_path / "ds", progress=progress)
    stored += [path.read_bytes() for path in tmp_path.glob("ds/*")]
    assert len(stored) == 6
    for address in ("/absent.tar", "/x/pics/0.png?token=s3cret", "/y/pics/1.txt?token=s3cret"):
        (tmp_path / "y/pics/1.txt").write_text("a page")
        with pytest.raises(DataError) as caught:
            import_dataset(f"{web}{address}", tmp_path / "other", kind="tar")
        said.append(str(caught.value))
    with pytest.raises(DataError, match=r"holds a dataset of http://\*\*\*@.*/x\.tar\?token=\*\*\*") as caught:
        import_dataset(f"{web}/x.tar?token=other", tmp_path / "ds")
    said += [str(report), str(caught.value)]
    assert not any("hunter22" in text or "s3cret" in text for text in said)
    assert not any(b"hunter22" in data or b"s3cret" in data for data in stored)
    assert import_dataset(f"{web}/x.tar?token=s3cret", tmp_path / "ds").sha256 == report.sha256


def test_a_link_to_a_hidden_folder_of_the_source_is_followed(tmp_path: Path, pngs: list[bytes]) -> None:
    (tmp_path / "in/.store/more").mkdir(parents=True)
    (tmp_path / "in/.store/a.png").write_bytes(pngs[0])
    (tmp_path / "in/b.png").write_bytes(pngs[1])
    for link, target in (("pics", ".store"), (".store/more/ring", ".."), (".store/more/top", "../.."), ("self", ".")):
        (tmp_path / "in" / link).symlink_to(target)
    report = import_dataset(tmp_path / "in", tmp_path / "out")
    assert keys_of(tmp_path / "out") == ["b.png", "pics/a.png"]
    assert "1 hidden files and folders (.store/)" in str(report)
    assert "3 links to folders that are read in their own place (self, pics/more/top, pics/more/ring)" in str(report)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_that_a_web_server_only_streams_is_read(
    web: str,
    folders: Path,
    make_tar: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    pngs: list[bytes],
    mode: str,
) -> None:
    said = Quiet.send_header
    monkeypatch.setattr(Quiet, "send_header", lambda self, *pair: pair[0] == "Content-Length" or said(self, *pair))
    archive = make_tar(folders / "streamed.tar", {f"{i}.png": data for i, data in enumerate(pngs)}, mode)
    report = import_dataset(f"{web}/{archive.name}", folders / "ds")
    assert report.rows == import_dataset(archive, folders / "local").rows == {"ok": len(pngs)}
    pq.write_table(pa.table({"image": pngs}), folders / "streamed.parquet")
    with pytest.raises(DataError, match=r"/streamed.parquet comes from a server that sends it only in order: download"):
        import_dataset(f"{web}/streamed.parquet", folders / "ds2")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_that_comes_in_small_pieces_is_read(
    folders: Path, make_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, pngs: list[bytes], mode: str
) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 5) if size and size > 0 else size)

    archive = make_tar(folders / "slow.tar", {f"{i}.png": data for i, data in enumerate(pngs[:2])}, mode)
    monkeypatch.setattr(SourceFile, "open", lambda file: Slow(Path(file.path).read_bytes()))
    assert import_dataset(archive, folders / "ds").rows == {"ok": 2}


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("inner", ["extra", "zeros"])  # before and after the link to the outer folder
def test_links_to_a_folder_and_to_one_in_it_give_each_picture_once(
    tmp_path: Path, pngs: list[bytes], inner: str, follow_links: bool
) -> None:
    store = tmp_path / ("elsewhere" if follow_links else "in/.store")
    (store / "more").mkdir(parents=True)
    (tmp_path / "in").mkdir(exist_ok=True)
    for place, name in enumerate(("a.png", "more/b.png")):
        (store / name).write_bytes(pngs[place])
    (tmp_path / "in/pics").symlink_to(store)
    (tmp_path / "in" / inner).symlink_to(store / "more")
    report = import_dataset(tmp_path / "in", tmp_path / "out", follow_links=follow_links)
    assert keys_of(tmp_path / "out") == ["pics/a.png", "pics/more/b.png"]
    assert f"1 links to folders that are read in their own place ({inner})" in str(report)


def test_a_link_to_a_folder_around_the_source_gives_each_picture_once(tmp_path: Path, pngs: list[bytes]) -> None:
    (tmp_path / "all/in").mkdir(parents=True)
    (tmp_path / "all/in/a.png").write_bytes(pngs[0])
    (tmp_path / "all/b.png").write_bytes(pngs[1])
    (tmp_path / "all/in/up").symlink_to(tmp_path / "all")
    report = import_dataset(tmp_path / "all/in", tmp_path / "out", follow_links=True)
    assert keys_of(tmp_path / "out") == ["a.png", "up/b.png"]
    assert "1 links to folders that are read in their own place (up/in)" in str(report)


def test_a_page_of_a_web_server_is_no_folder(web: str, tmp_path: Path) -> None:
    for address in (f"{web}/x/pics/", f"{web}/x/pics"):
        with pytest.raises(DataError, match=r"/x/pics/? is a page: folders of web servers can't be listed") as caught:
            import_dataset(address, tmp_path / "ds")
        assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("times", [1, 2])  # before and while a shard is written
@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_source_that_may_not_be_read_is_told_as_such(
    folders: Path,
    pngs: list[bytes],
    make_tar: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    times: int,
) -> None:
    for name in ("a", "b"):
        make_tar(folders / "tar" / f"{name}.tar", {"1.png": pngs[0]})
        (folders / "parquet").mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": pngs[:1]}), folders / "parquet" / f"{name}.parquet")
    openings: list[str] = []

    def denied(file: SourceFile) -> Any:
        openings.append(file.name)
        if file.name.startswith("b.") and openings.count(file.name) == times:
            raise PermissionError(13, "Permission denied")
        return file.fs.open(file.path, "rb")

    monkeypatch.setattr(SourceFile, "open", denied)
    with pytest.raises(DataError, match=rf"^can't read .*/{kind}/b\.{kind} \(Permission denied\): make it readable"):
        import_dataset(folders / kind, folders / "ds")
    assert not (folders / "ds").exists() or not list((folders / "ds").iterdir())
