"""Fetching by name: resumed, checked, and with instructions where a program can't."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gan_core.errors import CheckpointError
from gan_core.published.sources import SOURCES, Source, fetch

DATA = bytes(range(256)) * 400
DIGEST = hashlib.sha256(DATA).hexdigest()


class Place(BaseHTTPRequestHandler):
    """Serves ``DATA`` under /file (with ranges), half of it under /half, and a page under /page."""

    asked: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        if self.path == "/missing":
            self.send_error(404)
            return
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.path != "/whole" else 0
        if begin >= len(DATA):
            self.send_error(416)
            return
        body = b"<!doctype html><html>quota" if self.path == "/page" else DATA[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/half" else body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Place.asked = []
    server = HTTPServer(("127.0.0.1", 0), Place)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    for name in ("file", "half", "page", "whole", "missing"):
        monkeypatch.setitem(SOURCES, name, Source(f"{name}.pt", "", "MIT", "page", f"{url}/{name}", DIGEST[:8]))
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_is_fetched_once_and_verified(place: str, tmp_path: Path) -> None:
    first, again = fetch("file", tmp_path / "new"), fetch("file", tmp_path / "new")
    assert first == again and first.verified and first.sha256 == DIGEST
    assert first.path.read_bytes() == DATA and Place.asked == [None]


@pytest.mark.parametrize("name", ["file", "whole"])
def test_an_interrupted_download_goes_on(name: str, place: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.pt.part").write_bytes(DATA[:1000])
    assert fetch(name, tmp_path).path.read_bytes() == DATA
    assert Place.asked == ["bytes=1000-"]
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.pt"]


def test_a_download_that_had_all_but_its_name_is_finished(place: str, tmp_path: Path) -> None:
    (tmp_path / "file.pt.part").write_bytes(DATA)
    assert fetch("file", tmp_path).sha256 == DIGEST


def test_half_a_file_is_kept_for_the_next_attempt(place: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ended early|can't be reached"):
        fetch("half", tmp_path)
    assert not (tmp_path / "half.pt").exists() and (tmp_path / "half.pt.part").stat().st_size > 1000


def test_a_page_in_place_of_the_file_is_not_kept(place: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"web page.*save the file as .*page\.pt"):
        fetch("page", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_file_than_the_published_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "file", Source("file.pt", "", "MIT", "", f"{place}/file", "00000000"))
    with pytest.raises(CheckpointError, match=r"sha256 .*what was published has 00000000.*remove it"):
        fetch("file", tmp_path)


def test_an_md5_is_checked_where_only_that_is_published(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    md5 = hashlib.md5(DATA).hexdigest()
    for name, known in (("good", md5[:8]), ("other", "00000000")):
        monkeypatch.setitem(SOURCES, name, Source(f"{name}.pt", "", "MIT", "", f"{place}/file", md5=known))
    assert fetch("good", tmp_path).verified
    with pytest.raises(CheckpointError, match=rf"other\.pt has md5 {md5}"):
        fetch("other", tmp_path)


@pytest.mark.parametrize("name", ["arcface", "unreachable", "missing"])
def test_what_a_program_cannot_get_says_which_file_to_put_where(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Source("gone.pt", "", "MIT", "https://example.org", "http://127.0.0.1:9/gone.pt")
    monkeypatch.setitem(SOURCES, "unreachable", gone)
    with pytest.raises(CheckpointError) as raised:
        fetch(name, tmp_path)
    wanted = tmp_path / SOURCES[name].file
    assert f"save the file as {wanted}, and run `edit-dataset checkpoints import {wanted}`" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_put_there_by_hand_is_taken_and_checked_where_something_is_known(tmp_path: Path) -> None:
    for name in ("curricularface", "arcface"):
        (tmp_path / SOURCES[name].file).write_bytes(b"weights")
    fetched = fetch("curricularface", tmp_path)
    assert not fetched.verified and fetched.sha256 == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(CheckpointError, match=r"model_ir_se50\.pth has sha256 .*a035c768"):
        fetch("arcface", tmp_path)


def test_an_unknown_name_has_near_matches() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'arcface'"):
        fetch("arcfac")


def test_every_source_states_its_terms_and_where_it_is() -> None:
    for name, source in SOURCES.items():
        assert source.licence and source.what and source.page.startswith("https://"), name
        assert not source.sha256 or source.sha256 in source.file or len(source.sha256) == 64
    assert len({source.file for source in SOURCES.values()}) == len(SOURCES)
