"""A run's stage becomes a dataset that DVC keeps versions of, and that outlives ``dvc gc``."""

import json
import subprocess
import sys
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


@pytest.mark.usefixtures("versioned")
def test_another_version_replaces_the_files_of_the_one_before(run: Run) -> None:
    first = publish("runs/a", "data/faces", "align")
    Path("data/faces/shard-00009.parquet").write_bytes(b"of the version before")
    assert publish("runs/a", "data/faces", "align") == first


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
