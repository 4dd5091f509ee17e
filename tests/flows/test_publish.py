"""A run's stage becomes a dataset that DVC keeps versions of, and that outlives ``dvc gc``."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo

from flows.cli import main
from flows.publish import publish
from gan_core.errors import DataError, UserError
from gan_core.recipes.base import plan_run
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.storage.shards import list_shards
from tasks.versions import dvc_hashes

DVC = [sys.executable, "-m", "dvc"]
AT_WORK = (
    "from dvc.repo import Repo; lock = Repo().lock; lock.lock(); print('held', flush=True); input(); lock.unlock()"
)


@pytest.fixture
def run(project: Path, tiny_dataset: str) -> Run:
    """A run that has only aligned."""
    run = plan_run(tiny_dataset, "runs/a", overrides={"tune.enabled": False, "edits": []}).begin()
    align = build_stage("align", run.params, tiny_dataset)
    for shard in run.shards:
        run_stage(align, shard, run.output)
    return run


@pytest.fixture
def versioned(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is a git and DVC project with a remote."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    subprocess.run(["git", "init", "-q"], check=True)
    Repo.init().close()
    subprocess.run([*DVC, "remote", "add", "-q", "-d", "store", ".store"], check=True)


@pytest.mark.usefixtures("versioned")
def test_a_published_stage_is_a_dataset_with_its_origin_and_survives_gc(run: Run) -> None:
    version = publish("runs/a", "data/faces", "align", push=True)
    assert dvc_hashes({"faces": "data/faces"}) == {"faces": version} and version in Path("data/faces.dvc").read_text()
    assert len(list_shards("data/faces")) == 3
    assert plan_run("data/faces", "runs/b", overrides={"tune.enabled": False, "edits": []}).run.rows == run.rows
    origin = json.loads(Path("data/faces/origin.json").read_text())
    assert (origin["run"], origin["stage"], origin["identities"]) == ("runs/a", "align", run.identities)

    subprocess.run([*DVC, "gc", "-q", "-w", "-c", "-f"], check=True)
    shard = Path("data/faces/shard-00000.parquet")
    content = shard.read_bytes()
    shard.unlink()
    subprocess.run([*DVC, "pull", "-q", "-f", "data/faces"], check=True)
    assert shard.read_bytes() == content


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC is left out: what happens in the folder is what counts."""
    monkeypatch.setattr("flows.publish.add_output", lambda folder, push: str(sorted(files(folder))))


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.usefixtures("untracked")
def test_another_version_replaces_the_files_of_the_one_before_and_no_others(run: Run) -> None:
    publish("runs/a", "data/faces", "align")
    first, origin = files("data/faces"), Path("data/faces/origin.json")
    said = json.loads(origin.read_text())
    assert said["files"] == [name for name in sorted(first) if name != "origin.json"]
    Path("data/faces/README.md").write_text("mine")
    longer = said | {"files": [*said["files"], "shard-00009.parquet", "shard-00009.parquet.receipt.json"]}
    of_version_0_1 = {name: value for name, value in said.items() if name != "files"}
    for before in (longer, of_version_0_1):
        for name in ("shard-00002.parquet", "shard-00002.parquet.receipt.json"):
            Path("data/faces", name.replace("00002", "00009")).write_bytes(first[name])
        origin.write_text(json.dumps(before))
        publish("runs/a", "data/faces", "align")
        assert files("data/faces") == first | {"README.md": b"mine"}


@pytest.mark.usefixtures("untracked")
def test_a_folder_with_something_called_origin_keeps_what_is_in_it(run: Run) -> None:
    Path("data/mine/holidays").mkdir(parents=True)
    for name in ("letter.txt", "shard-00000.parquet", "z.parquet", "holidays/a.png"):
        Path("data/mine", name).write_text("mine")
    for content in ("", "[", "[" * 9999, "3", "null", '"a"', "{}", '{"files": null}', '{"run": "x", "files": []}'):
        Path("data/mine/origin.json").write_text(content)
        before = {path: path.read_bytes() for path in Path("data/mine").rglob("*") if path.is_file()}
        with pytest.raises(
            DataError, match=r"origin\.json is damaged|has shard-00000\.parquet, which no publish wrote"
        ):
            publish("runs/a", "data/mine", "align")
        assert {path: path.read_bytes() for path in Path("data/mine").rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("untracked")
def test_names_of_a_damaged_origin_lead_nowhere(run: Run) -> None:
    publish("runs/a", "data/faces", "align")
    for place in ("letter.txt", "letter.parquet", "data/faces/letter.txt"):
        Path(place).write_text("dear")
    origin = Path("data/faces/origin.json")
    said = json.loads(origin.read_text())
    for name in ("../../letter.txt", "../../letter.parquet", "letter.txt", "/etc/x.parquet", ".a.parquet", 3, ["a"]):
        origin.write_text(json.dumps(said | {"files": [name]}))
        before = files("data/faces")
        with pytest.raises(DataError, match=r"origin\.json is damaged"):
            publish("runs/a", "data/faces", "align")
        assert files("data/faces") == before and Path("letter.txt").is_file() and Path("letter.parquet").is_file()


@pytest.mark.usefixtures("untracked")
def test_a_publish_that_is_cut_off_anywhere_is_made_whole_by_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("runs/a", "data/faces", "align")
    whole, replace = files("data/faces"), os.replace
    for step in range(len(whole) + 1):
        shutil.rmtree("data/faces")
        written = iter(range(step))

        def cut_off(source: str, target: str, left: Iterator[int] = written) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            replace(source, target)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", cut_off)
            publish("runs/a", "data/faces", "align")
        publish("runs/a", "data/faces", "align")
        assert files("data/faces") == whole


@pytest.mark.usefixtures("versioned")
def test_another_dvc_command_at_work_is_told_in_one_line_and_publishing_again_is_whole(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    command, pipes = [sys.executable, "-c", AT_WORK], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SystemExit) as end:
            main(["publish", "runs/a", "data/faces", "--stage", "align"])
        other.communicate("end\n")
    told = "error: data/faces: another DVC command is at work in this folder; wait for it to end\n"
    assert end.value.code == 2 and capsys.readouterr().err == told
    assert not Path("data/faces.dvc").exists() and dvc_hashes({"faces": "data/faces"}) == {}
    version = publish("runs/a", "data/faces", "align")
    assert dvc_hashes({"faces": "data/faces"}) == {"faces": version}


def test_what_cannot_be_published_is_said_in_one_line(run: Run) -> None:
    with pytest.raises(DataError, match="has no stage 'edits'; did you mean 'edit'"):
        publish("runs/a", "data/faces", "edits")
    with pytest.raises(DataError, match=r"can't use runs/a/encode/shard-00000\.parquet.*`edit-dataset run"):
        publish("runs/a", "data/faces", "encode")
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/letter.txt").write_text("dear")
    with pytest.raises(DataError, match="data/mine is not empty and was not published"):
        publish("runs/a", "data/mine", "align")
    with pytest.raises(UserError, match="no DVC project"):
        publish("runs/a", "data/faces", "align")
