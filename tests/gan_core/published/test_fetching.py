"""Fetching by name: resumed, checked, and with instructions where a program can't."""

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gan_core.errors import CheckpointError
from gan_core.published.fetching import fetch
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from gan_core.published.sources import DRIVE, SOURCES, Source, find_source
from tests.gan_core.published.test_wrappers import GOLDEN

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
    assert first.path == again.path and first.sha256 == again.sha256 == DIGEST
    assert first.verified and (first.known, again.known) == (False, True)
    assert first.path.read_bytes() == DATA and Place.asked == [None]


@pytest.mark.parametrize("name", ["file", "whole"])
def test_an_interrupted_download_goes_on(name: str, place: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.pt.part").write_bytes(DATA[:1000])
    assert fetch(name, tmp_path).path.read_bytes() == DATA
    assert Place.asked == ["bytes=1000-"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.pt", f"{name}.pt.sha256"]


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


@pytest.mark.parametrize("name", ["hopenet", "unreachable", "missing"])
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


def package(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    """Put a package of that name in place of the real one, or of none."""
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


class DownloadError(Exception):
    """What gdown raises."""


def gdown(monkeypatch: pytest.MonkeyPatch, download: Callable[..., str]) -> None:
    package(monkeypatch, "gdown", download=download, exceptions=SimpleNamespace(DownloadError=DownloadError))


def test_a_file_of_google_drive_is_asked_for_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def download(**arguments: Any) -> str:
        asked.append(arguments)
        Path(arguments["output"]).write_bytes(DATA)
        return str(arguments["output"])

    gdown(monkeypatch, download)
    fetched = fetch("e4e-cars", tmp_path)
    assert fetched.path == tmp_path / "e4e_cars_encode.pt" and fetched.path.read_bytes() == DATA
    assert (asked[0]["id"], asked[0]["resume"]) == ("17faPqBce2m1AQeLCLHUVXaDfxMRU2QcV", True)
    assert fetch("e4e-cars", tmp_path).known and len(asked) == 1


def test_a_page_that_google_drive_sends_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(output: str, **_: Any) -> str:
        Path(output).write_bytes(b"<!doctype html><html>quota")
        return output

    gdown(monkeypatch, download)
    with pytest.raises(CheckpointError, match=r"web page, .*; open https://drive\.google\.com/.*save the file as"):
        fetch("e4e-cars", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("raised", [DownloadError("Too many\n\nusers"), OSError("no network"), ValueError("too large")])
def test_where_google_drive_refuses_the_file_and_the_folder_are_named(
    raised: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(**_: Any) -> str:
        raise raised

    gdown(monkeypatch, download)
    with pytest.raises(CheckpointError) as refused:
        fetch("psp-ffhq", tmp_path)
    said = " ".join(str(raised).split())
    address = SOURCES["psp-ffhq"].page
    path = tmp_path / "psp_ffhq_encode.pt"
    assert str(refused.value) == (
        f"{address} can't be reached ({said}): open {address}, save the file as {path}, and run "
        f"`edit-dataset checkpoints import {path}`"
    )


def test_a_file_of_the_hub_is_fetched_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, path: str, local_dir: Path) -> str:
        target = local_dir / path
        target.parent.mkdir(parents=True)
        target.write_bytes(f"{repository} {path}".encode())
        return str(target)

    package(monkeypatch, "huggingface_hub", hf_hub_download=download)
    fetched = fetch("hf://me/faces/models/g.pt", tmp_path)
    assert fetched.path == tmp_path / "me/faces/models/g.pt" and fetched.path.read_bytes() == b"me/faces models/g.pt"
    assert sorted(path.name for path in fetched.path.parent.iterdir()) == ["g.pt", "g.pt.sha256"]
    assert fetch("hf://you/faces/models/g.pt", tmp_path).path.read_bytes() == b"you/faces models/g.pt"

    def offline(*_: Any, **__: Any) -> str:
        raise ConnectionError("offline")

    package(monkeypatch, "huggingface_hub", hf_hub_download=offline)
    with pytest.raises(CheckpointError, match=r"open https://huggingface\.co/me/faces, save the file as .*h\.pt, and"):
        fetch("hf://me/faces/h.pt", tmp_path)


@pytest.mark.parametrize(("name", "needed"), [("arcface", "gdown"), ("hf://me/faces/g.pt", "huggingface_hub")])
def test_without_the_extra_a_sentence_says_which_and_what_to_do(
    name: str, needed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, needed, None)
    with pytest.raises(CheckpointError) as refused:
        fetch(name, tmp_path)
    source = find_source(name)
    needs = f"which needs {needed} (pip install 'edit-dataset[fetch]'): or open {source.page}, save the file as "
    assert needs + str(tmp_path / source.file) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["hf://", "hf://me", "hf://me/faces", "hf://me/faces/", "hf://me/faces/a/.."])
def test_an_address_without_a_file_is_refused(address: str) -> None:
    with pytest.raises(CheckpointError, match="names no file: write hf://OWNER/NAME/FILE"):
        find_source(address)


def test_another_file_than_on_first_use_is_told(tmp_path: Path) -> None:
    path = tmp_path / SOURCES["curricularface"].file
    path.write_bytes(b"weights")
    assert not fetch("curricularface", tmp_path).known and fetch("curricularface", tmp_path).known
    path.write_bytes(b"others")
    first, now = (hashlib.sha256(data).hexdigest() for data in (b"weights", b"others"))
    told = rf"has sha256 {now}, but it had {first} when it was first used .*\.pth\.sha256"
    with pytest.raises(CheckpointError, match=told):
        fetch("curricularface", tmp_path)
    (tmp_path / f"{path.name}.sha256").unlink()
    assert not fetch("curricularface", tmp_path).known


def test_an_import_takes_only_the_file_of_first_use(tmp_path: Path) -> None:
    path = tmp_path / "g.pkl"
    path.write_bytes((GOLDEN / "ada-tiny.pkl").read_bytes())
    lock = tmp_path / "g.pkl.sha256"
    lock.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  g.pkl\n")
    import_checkpoint(path, tmp_path / "g.safetensors")
    for pinned in (DIGEST, ""):
        lock.write_text(pinned)
        with pytest.raises(CheckpointError, match="when it was first used") as refused:
            import_checkpoint(path, tmp_path / "other.safetensors")
        assert inspect_checkpoint(path)["import"] == f"refused: {refused.value}"
    assert not (tmp_path / "other.safetensors").exists()


def test_an_unknown_name_has_near_matches() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'arcface'"):
        fetch("arcfac")


def test_every_source_states_its_terms_and_where_it_is() -> None:
    for name, source in SOURCES.items():
        assert source.licence and source.what and source.page.startswith("https://"), name
        assert not source.sha256 or source.sha256 in source.file or len(source.sha256) == 64
        assert source.way != "drive" or len(source.page.removeprefix(DRIVE)) == 33, name
    assert len({source.file for source in SOURCES.values()}) == len(SOURCES)
