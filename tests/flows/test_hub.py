"""A published folder goes to the Hugging Face hub: a stand-in on this machine takes it as the hub's API does."""

import base64
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flows.cli import main
from flows.hub import connect, upload
from gan_core.errors import DataError, UserError
from gan_core.importers import import_dataset
from gan_core.storage.shards import list_shards, read_rows

pytest.importorskip("huggingface_hub")
TOKEN = "hf_not-to-be-written-anywhere"


class Hub(BaseHTTPRequestHandler):
    """Keeps one dataset's files in memory; ``commits`` counts the commits."""

    files: ClassVar[dict[str, bytes]] = {}
    created: ClassVar[list[Any]] = []
    commits: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if self.is_known() and "/tree/" in self.path:
            sizes = {name: len(content) for name, content in self.files.items()}
            self.answer([{"type": "file", "path": name, "size": size, "oid": "0"} for name, size in sizes.items()])
        elif self.is_known():
            self.do_HEAD()
            self.wfile.write(self.files[self.path.rpartition("/")[2]])

    def do_HEAD(self) -> None:
        content = self.files[self.path.rpartition("/")[2]]
        self.send_response(200)
        for name, said in (("ETag", f'"{sha256(content).hexdigest()}"'), ("X-Repo-Commit", "1" * 40)):
            self.send_header(name, said)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.is_known():
            return
        if self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self.answer({"url": f"http://{self.headers['Host']}/datasets/me/faces"})
        elif "/preupload/" in self.path:
            asked = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]})
        elif "/commit/" in self.path:
            self.commit([json.loads(line) for line in body.splitlines()])
            made = f"http://{self.headers['Host']}/datasets/me/faces/commit/{'1' * 40}"
            self.answer({"commitOid": "1" * 40, "commitUrl": made, "success": True})
        else:  # the hub looks at the head of the dataset card
            self.answer({"warnings": [], "errors": []})

    def is_known(self) -> bool:
        known = bool(self.headers["Authorization"] == f"Bearer {TOKEN}")
        if not known:
            self.answer({"error": "who are you?"}, 401)
        return known

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del self.files[line["value"]["path"]]
            else:
                self.commits.append(line["value"]["summary"])

    def answer(self, said: Any, status: int = 200) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Hub]]:
    """The stand-in, at ``HF_ENDPOINT``, with a token in the environment."""
    for kept in (Hub.files, Hub.created, Hub.commits):
        kept.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    monkeypatch.setattr(server, "handle_error", lambda *_: None)  # a client that leaves early is no line on stderr
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # another test may have imported it so
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path_factory.mktemp("home") / "token"))
    yield Hub
    server.shutdown()
    server.server_close()


def write_folder(files: dict[str, str]) -> str:
    """Write a folder as a publish leaves it."""
    folder = Path("data/faces")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    origin = {"run": "runs/a", "stage": "edit", "files": sorted(files)}
    (folder / "origin.json").write_text(json.dumps(origin))
    return str(folder)


def test_a_published_stage_goes_to_the_hub_and_its_folder_is_imported_back(
    hub: type[Hub],
    gated_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("flows.publish.check_output", lambda folder, push: None)
    monkeypatch.setattr("flows.publish.add_output", lambda folder, push: "version")
    monkeypatch.setattr("tasks.versions.keep_output", lambda path, pushed: [])
    shutil.copytree(gated_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["publish", "runs/a", "data/edited", "--hub", "me/faces"])
    assert end.value.code == 0 and "hub: http://127.0.0.1" in capsys.readouterr().out
    assert hub.files == {path.name: path.read_bytes() for path in Path("data/edited").iterdir()}
    assert hub.commits == ["edit of runs/a by edit-dataset"] and hub.created[0]["visibility"] == "private"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert written == []

    Path("hub/.cache").mkdir(parents=True)
    for name, content in hub.files.items():  # as `hf download --local-dir hub` leaves it
        Path("hub", name).write_bytes(content)
    Path("hub/.cache/state.json").write_text("{}")
    import_dataset("hub", "data/back")
    rows = {row["key"]: row for url in list_shards("data/back") for part in read_rows(url) for row in part}
    made = {row["key"]: row for url in list_shards("data/edited") for part in read_rows(url) for row in part}
    assert rows.keys() == made.keys() and len(rows) == 4
    assert all(rows[key]["image"]["bytes"] == made[key]["smile@-0.5"]["bytes"] for key in made)


def test_another_version_replaces_what_an_upload_wrote_and_nothing_else(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    upload(connect("me/faces"), write_folder({"shard-00000.parquet": "a", "shard-00001.parquet": "b"}), "me/faces")
    others = {"notes.md": b"a", "test/labels.parquet": b"b", "labels.parquet": b"c", "README.md": b"# Mine"}
    hub.files |= others
    Path("data/faces/README.md").write_text("# Ours")
    address = upload(connect("me/faces"), write_folder({"shard-00000.parquet": "c"}), "me/faces")
    assert {*hub.files} == {"shard-00000.parquet", "origin.json", *others} and address.endswith("/datasets/me/faces")
    assert others.items() <= hub.files.items()
    with pytest.raises(DataError, match=r"has data that no publish wrote \(labels\.parquet\)"):
        upload(connect("me/faces"), write_folder({"labels.parquet": "c"}), "me/faces")
    write_folder({"shard-00000.parquet": "c"})
    assert hub.files["shard-00000.parquet"] == b"c" and len(hub.commits) == 2
    before = hub.files | {}
    del hub.files["origin.json"]
    with pytest.raises(DataError, match=r"has data that no publish wrote \(labels\.parquet\)"):
        upload(connect("me/faces"), "data/faces", "me/faces")
    assert hub.files == {name: content for name, content in before.items() if name != "origin.json"}
    for name in ("train.csv", "images/1.jpg", "data.tar", "notes.md"):
        hub.files.clear()
        hub.files[name] = b"mine"
        with pytest.raises(DataError, match=rf"has data that no publish wrote \({name}\)"):
            upload(connect("me/faces"), "data/faces", "me/faces")
        assert hub.files == {name: b"mine"}
    hub.files.clear()
    hub.files.update({".gitattributes": b"a", "README.md": b"# Mine", "LICENSE.txt": b"c"})
    upload(connect("me/faces"), "data/faces", "me/faces")
    assert len(hub.files) == 5


def test_what_is_wrong_is_said_in_one_line_before_anything_is_published(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b", "me/faces/x", "--", "me/fa..ces"):
        with pytest.raises(DataError, match="write OWNER/NAME"):
            connect(name)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(UserError, match=r"^the hub at http://127\S+ did not take the dataset \(.*401.*publish again$"):
        upload(connect("me/faces"), write_folder({"shard-00000.parquet": "a"}), "me/faces")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="did not take the dataset"):
        upload(connect("me/faces"), "data/faces", "me/faces")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SystemExit) as end:
        main(["publish", "runs/nothing", "data/edited", "--hub", "me/faces"])
    told = "error: there is no token for the hub: run `hf auth login`, or set HF_TOKEN\n"
    assert end.value.code == 2 and capsys.readouterr().err == told
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"^--hub needs the package huggingface_hub: pip install -e '\.\[hub\]'"):
        connect("me/faces")
