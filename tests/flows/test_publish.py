"""A run's stage becomes a dataset that DVC keeps versions of, and that outlives ``dvc gc``."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo
from dvc_objects.db import ObjectDB

from flows.cli import main
from flows.inspection import describe
from flows.passing import passing_rows
from flows.publish import publish
from flows.status import describe_runs
from gan_core.browse.marks import Mark, set_mark
from gan_core.errors import DataError, ParamsError, UserError
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.storage.receipts import valid_receipt
from gan_core.storage.shards import list_shards
from tasks.versions import dvc_hashes
from tests.flows.conftest import cut_off_after

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
def test_what_cannot_be_pushed_is_not_published(run: Run) -> None:
    subprocess.run([*DVC, "remote", "remove", "store"], check=True)
    with pytest.raises(UserError, match="--push: DVC has no remote here: `dvc remote add -d NAME URL`"):
        publish("runs/a", "data/faces", "align", push=True)
    assert not Path("data/faces").exists()


@pytest.mark.usefixtures("versioned")
def test_a_published_stage_is_a_dataset_with_its_origin_and_survives_gc(run: Run) -> None:
    version = publish("runs/a", "data/faces", "align", push=True)
    assert dvc_hashes({"faces": "data/faces"}) == {"faces": version} and version in Path("data/faces.dvc").read_text()
    assert len(list_shards("data/faces")) == 3
    aligned = {"align.landmarks": "aligned", "tune.enabled": False, "edits": []}
    assert plan_run("data/faces", "runs/b", overrides=aligned).run.rows == run.rows
    origin = json.loads(Path("data/faces/origin.json").read_text())
    assert (origin["run"], origin["stage"], origin["identities"]) == ("runs/a", "align", run.identities)

    subprocess.run([*DVC, "gc", "-q", "-w", "-c", "-f"], check=True)
    shard = Path("data/faces/shard-00000.parquet")
    content = shard.read_bytes()
    shard.unlink()
    subprocess.run([*DVC, "pull", "-q", "-f", "data/faces"], check=True)
    assert shard.read_bytes() == content


@pytest.mark.usefixtures("versioned")
def test_a_version_that_is_not_whole_in_the_cache_is_no_version(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add = ObjectDB.add

    def full(self: ObjectDB, path: Any, fs: Any, oid: Any, on_error: Any = None, **more: Any) -> int:
        if on_error is None:
            return add(self, path, fs, oid, **more)
        for each in oid:
            on_error(each, OSError(errno.ENOSPC, "No space left on device"))
        return 0

    monkeypatch.setattr(ObjectDB, "add", full)
    with pytest.raises(UserError, match=r"data/faces is not whole in DVC's cache \(.*cache.*\): see if"):
        publish("runs/a", "data/faces", "align", push=True)


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC is left out: what happens in the folder is what counts."""
    monkeypatch.setattr("flows.publish.check_output", lambda folder, push: None)
    monkeypatch.setattr("flows.publish.add_output", lambda folder, push: str(sorted(files(folder))))


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.usefixtures("untracked")
def test_another_version_replaces_the_files_of_the_one_before_and_no_others(run: Run) -> None:
    publish("runs/a", "data/faces", "align")
    first, origin = files("data/faces"), Path("data/faces/origin.json")
    said = json.loads(origin.read_text())
    assert said["files"] == sorted(first.keys() - {"origin.json", "README.md"})
    Path("data/faces/README.md").write_text("mine")
    longer = said | {"files": [*said["files"], "shard-00009.parquet", "shard-00009.parquet.receipt.json"]}
    of_version_0_1 = {name: value for name, value in said.items() if name != "files"}
    for before in (longer, of_version_0_1):
        for name in ("shard-00002.parquet", "shard-00002.parquet.receipt.json"):
            content = first[name].replace(b'"shard-00002', b'"shard-00009') if name.endswith("json") else first[name]
            Path("data/faces", name.replace("00002", "00009")).write_bytes(content)
        origin.write_text(json.dumps(before))
        publish("runs/a", "data/faces", "align")
        assert files("data/faces") == first | {"README.md": b"mine"}


@pytest.mark.usefixtures("untracked")
def test_a_folder_with_something_called_origin_keeps_what_is_in_it(run: Run) -> None:
    Path("data/mine/holidays").mkdir(parents=True)
    for name in ("letter.txt", "shard-00000.parquet", "z.parquet", "holidays/a.png"):
        Path("data/mine", name).write_text("mine")
    contents = ("", "[", "[" * 9999, "3", "null", '"a"', "[]", "{}", '{"files": null}', '{"run": "x", "files": []}')
    for shards, content in product((True, False), contents):
        Path("data/mine/origin.json").write_text(content)
        if not shards:
            for shard in Path("data/mine").glob("*.parquet"):
                shard.unlink()
        before = {path: path.read_bytes() for path in Path("data/mine").rglob("*") if path.is_file()}
        with pytest.raises(DataError, match=r"origin\.json is damaged"):
            publish("runs/a", "data/mine", "align")
        assert {path: path.read_bytes() for path in Path("data/mine").rglob("*") if path.is_file()} == before
    ours = '{"run": "x", "stage": "align", "files": []}'
    Path("data/mine/origin.json").write_text(ours)
    Path("data/mine/shard-00000.parquet").write_text("mine")
    with pytest.raises(DataError, match=r"has shard-00000\.parquet, which no publish wrote"):
        publish("runs/a", "data/mine", "align")
    assert Path("data/mine/shard-00000.parquet").read_text() == "mine"


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
    whole = files("data/faces")
    for step in range(len(whole) + 1):
        shutil.rmtree("data/faces")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", cut_off_after(step))
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


SCORED: dict[str, Any] = {"tune.enabled": False, "measure.metrics": ["mse", "attributes"]}


@pytest.fixture
def gated(project: Path, tiny_dataset: str) -> Run:
    """A finished run of 8 rows, 7 of them ok, of which 3 fail the gate."""
    plan = plan_run(tiny_dataset, "runs/a", overrides=SCORED | {"gates": ["mse <= q0.5"]})
    run_plain(plan)
    return plan.run


def columns(urls: list[str], *names: str) -> list[tuple[Any, ...]]:
    """The cells of these columns, row by row."""
    tables = [pq.read_table(url, columns=list(names)) for url in urls]
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


@pytest.mark.usefixtures("versioned")
def test_rows_that_fail_a_gate_are_in_the_ledger_and_not_in_the_dataset(
    gated: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["publish", "runs/a", "data/edited"])
    told = capsys.readouterr().out.splitlines()
    assert end.value.code == 0
    assert told[0] == "4 of 8 rows: 3 fail a gate (mse <= q0.5: 3), 1 rejected before (not_an_image: 1)"

    measured = columns(gated.stage_shards("measure"), "key", "status", "mse/encoded")
    limit = sorted(value for _, status, value in measured if status == "ok")[3]
    passing = [key for key, status, value in measured if status == "ok" and value <= limit]
    ledger = columns(["runs/a/gates.parquet"], "key", "status", "passed", "failed")
    assert [key for key, *_ in ledger] == [key for key, *_ in measured] and len(ledger) == 8
    assert [key for key, _, passed, _ in ledger if passed] == passing
    failed = {key for key, _, _, gates in ledger if gates == ["mse <= q0.5"]}
    assert failed == {key for key, status, value in measured if status == "ok" and value > limit} and len(failed) == 3

    published = list_shards("data/edited")
    assert [key for key, _ in columns(published, "key", "status")] == passing
    made = {row[0]: row[1:] for row in columns(gated.stage_shards("edit"), "key", "status", "smile@+1", "yaw@+1")}
    assert all(made[row[0]] == row[1:] for row in columns(published, "key", "status", "smile@+1", "yaw@+1"))
    receipts = [valid_receipt(shard)[0] for shard in published]
    assert sum(receipt.rows["ok"] for receipt in receipts if receipt) == 4
    assert all(receipt and receipt.identity["gates"] == {"mse <= q0.5": limit} for receipt in receipts)
    origin = json.loads(Path("data/edited/origin.json").read_text())
    summary = json.loads(Path("runs/a/summary.json").read_text())
    assert origin["gates"] == summary["gates"] and origin["params"]["gates"] == ["mse <= q0.5"]
    assert (summary["gates"]["passed"], summary["gates"]["failed"]) == (len(passing), len(failed))
    told = "\n".join(describe("runs/a")) + "\n".join(describe_runs("runs"))
    assert told.count("gates    4 of 7 finished rows pass all 1") == 2
    assert "measure  3 shards, 8 rows, 7 ok, 1 not_an_image" in told

    set_mark("runs/a", passing[0], Mark(mark="rejected"))
    said: list[str] = []
    publish("runs/a", "data/edited", tell=said.append)
    gate, before = "3 fail a gate (mse <= q0.5: 3)", "1 rejected before (not_an_image: 1)"
    assert said == [f"3 of 8 rows: {gate}, 1 rejected by hand, {before}"]
    assert [key for key, _ in columns(list_shards("data/edited"), "key", "status")] == passing[1:]
    origin = json.loads(Path("data/edited/origin.json").read_text())
    assert (origin["published"], origin["rejected_by_hand"]) == (3, 1)
    again = [valid_receipt(shard)[0] for shard in list_shards("data/edited")]
    assert {receipt.key for receipt in again if receipt}.isdisjoint({receipt.key for receipt in receipts if receipt})
    without = passing_rows(replace(gated, params=gated.params.model_copy(update={"gates": []})))
    assert without is not None and without.said == f"6 of 8 rows: 1 rejected by hand, {before}"


@pytest.mark.usefixtures("versioned")
def test_a_published_stage_of_statistics_has_a_receipt_that_is_valid_without_them(gated: Run) -> None:
    run_plain(plan_run(gated.source, "runs/a", overrides=SCORED | {"gates": []}))
    publish("runs/a", "data/measured", stage="measure")
    assert not list(Path("data/measured").glob("*.npz"))
    for shard in list_shards("data/measured"):
        receipt, why = valid_receipt(shard)
        assert receipt is not None and receipt.rows, why


def test_another_gate_remakes_no_stage_and_an_unknown_one_is_refused_before_anything(gated: Run) -> None:
    before = {path: path.read_bytes() for path in Path("runs/a").rglob("*.receipt.json")}
    plan = plan_run(gated.source, "runs/a", overrides=SCORED | {"gates": ["mse <= 0", "side_effect ≥ 0"]})
    metrics = run_plain(plan)
    assert (metrics["gates/failed/mse <= 0"], metrics["gates/failed/side_effect >= 0"]) == (7, 0)
    assert {path: path.read_bytes() for path in before} == before and len(before) == 12
    with pytest.raises(DataError, match=r"no row of runs/a can be published \(7 fail a gate .*: choose other gates"):
        publish("runs/a", "data/edited")
    assert not Path("data/edited").exists()
    run_plain(plan_run(gated.source, "runs/a", overrides=SCORED))
    assert not Path("runs/a/gates.parquet").exists()
    assert {path: path.read_bytes() for path in before} == before
    for gate, why in (
        ("side_efect <= 1", "; did you mean 'side_effect'"),
        ("mse/tuned <= 1", "; did you mean 'mse"),
        ("nearness <= 1", "; known: mse"),
        ("lpips/toy/encoded <= 1", ": add lpips to measure.metrics"),
        ("lpips <= 1", ": add lpips to measure.metrics"),
        ("same-person >= 1", ": add identity-distance to measure.metrics"),
        ("fid <= 1", ": it is a number of the whole dataset, and rows have none"),
        ("swd/mean/encoded <= 1", ": it is a number of the whole dataset"),
    ):
        with pytest.raises(ParamsError, match=rf"gates\.0: no score '.*'{why}"):
            plan_run(gated.source, "runs/b", overrides=SCORED | {"gates": [gate]})
    assert not Path("runs/b").exists()


def test_what_cannot_be_published_is_said_in_one_line(run: Run) -> None:
    with pytest.raises(DataError, match="has no stage 'edits'; did you mean 'edit'"):
        publish("runs/a", "data/faces", "edits")
    with pytest.raises(DataError, match=r"can't use runs/a/encode/shard-00000\.parquet.*`edit-dataset run"):
        publish("runs/a", "data/faces", "encode")
    with pytest.raises(UserError, match="no DVC project"):
        publish("runs/a", "data/faces", "align")
    assert not Path("data/faces").exists()


@pytest.mark.usefixtures("versioned")
def test_nothing_is_published_where_something_else_is_or_dvc_does_not_look(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Path("data/mine").mkdir(parents=True)
    for name in ("letter.txt", ".run.lock", ".letter.txt.4711-abc.tmp"):
        Path("data/mine", name).write_text("dear")
    before = files("data/mine")
    with pytest.raises(DataError, match="data/mine is not empty and was not published"):
        publish("runs/a", "data/mine", "align")
    assert files("data/mine") == before
    elsewhere = tmp_path_factory.mktemp("store") / "elsewhere"
    with pytest.raises(UserError, match=r"elsewhere is outside of the DVC project .*: choose a folder in the project"):
        publish("runs/a", str(elsewhere), "align")
    assert not elsewhere.exists()
    publish("runs/a", "data/faces", "align")
    before = Path("data/faces.dvc").read_bytes()
    with pytest.raises(UserError, match="data/faces/more lies in data/faces, which DVC tracks as a whole"):
        publish("runs/a", "data/faces/more", "align")
    for inside, said in (("runs/a/pub", "the run runs/a"), (f"{run.source}/pub", f"the dataset {run.source}")):
        with pytest.raises(DataError, match=f"{inside} lies in {said}: choose a folder outside"):
            publish("runs/a", inside, "align")
    publish("runs/a", Path("data/again").absolute().as_uri(), "align")
    assert Path("data/again.dvc").is_file() and not Path("file:").exists()
    assert Path("data/faces.dvc").read_bytes() == before and not Path("data/faces/more").exists()
