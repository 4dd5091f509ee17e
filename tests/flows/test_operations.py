"""The operator's commands: what became of a run, failed rows tried again, and what is wrong with a set-up."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from flows import doctor, operations, run_dataset, servers
from flows.doctor import Check, examine
from flows.inspection import describe
from flows.status import (
    AGAIN,
    DAMAGED,
    DONE,
    WAITING,
    WRITING,
    describe_runs,
    find_failed,
    find_runs,
    invalidate,
    read_state,
)
from gan_core.errors import DataError, ParamsError, UserError
from gan_core.params import load_params
from gan_core.plain import run_plain
from gan_core.recipes.base import Plan, plan_run
from gan_core.report import write_report
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.storage.receipts import require_receipt, write_receipt
from gan_core.storage.shards import BASE_NAMES, ShardWriter, open_shard, read_rows

ROOT = Path(__file__).parents[2]
QUICK = {"tune.enabled": False, "edits": []}


@pytest.fixture
def run(project: Path, tiny_dataset: str) -> Run:
    """A run with aligned shards, the first of them encoded."""
    run = plan_run(tiny_dataset, "runs/a", overrides=QUICK).begin()
    align = build_stage("align", run.params, tiny_dataset)
    for shard in run.shards:
        run_stage(align, shard, run.output)
    run_stage(build_stage("encode", run.params, tiny_dataset), run.shards[0], run.output)
    return run


def test_runs_behind_links_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/a", "disk/b", "more/c"):
        Path(folder).mkdir(parents=True)
        Path(folder, "run.json").touch()
    Path("runs/b").symlink_to(tmp_path / "disk/b")
    Path("runs/more").symlink_to(tmp_path / "more")
    Path("more/again").symlink_to(tmp_path / "runs")
    assert find_runs("runs") == ["runs/a", "runs/b", "runs/more/c"]


def test_status_tells_shards_by_state_and_rows_by_reason(run: Run) -> None:
    Path("runs/a/align/shard-00002.parquet").write_bytes(b"spoiled")
    Path("runs/a/encode/.shard-00001.parquet.lock").touch()
    state = read_state("runs/a")
    assert state.shards["align"] == Counter({DONE: 2, DAMAGED: 1})
    assert state.shards["encode"] == Counter({DONE: 1, WRITING: 1, WAITING: 1})
    assert state.rows == Counter({("ok", "align"): 3, ("ok", "encode"): 2, ("not_an_image", "align"): 1})
    Path("runs/a/pending.json").touch()
    lines = list(describe_runs("runs"))
    assert lines[0] == f"runs/a: edit of {run.source}, 3 of 12 shards, not finished: run it again to go on"
    assert "  align    1 damaged, 2 finished" in lines
    assert "  rows     5 ok, 1 not_an_image (align), 2 not begun" in lines
    assert "  MLflow   not logged yet: `edit-dataset sync runs/a`" in lines
    assert find_runs("runs/a") == ["runs/a"]
    Path("runs/0").mkdir()
    Path("runs/0/run.json").write_text("{")
    damaged, *others = describe_runs("runs")
    assert damaged.startswith("runs/0: runs/0/run.json is damaged") and others == lines
    with pytest.raises(DataError, match=r"run.json is damaged"):
        list(describe_runs("runs/0"))


def test_status_tells_what_a_run_lacks_that_was_killed_at_its_end(project: Path, tiny_dataset: str) -> None:
    run_plain(plan_run(tiny_dataset, "runs/b", overrides=QUICK))
    waits = "  MLflow   not logged yet: `edit-dataset sync runs/b`"
    lines = list(describe_runs("runs/b"))
    assert lines[0].endswith("shards, finished") and waits in lines
    Path("runs/b/tracking.json").touch()
    Path("runs/b/finished.json").unlink()
    lines = list(describe_runs("runs/b"))
    assert lines[0].endswith("shards, all made, but for summary and report: run it again") and waits not in lines


def test_a_report_of_an_unfinished_run_says_how_to_finish_it(run: Run) -> None:
    with pytest.raises(DataError, match=r"shard-00000\.parquet, it is not there: `edit-dataset run .* finishes"):
        write_report("runs/a")


def test_flags_of_rows_that_went_on_are_counted(run: Run) -> None:
    shard = "runs/a/encode/shard-00000.parquet"
    receipt = require_receipt(shard, "")
    rows = [row for part in read_rows(shard) for row in part]
    with open_shard(shard) as file:
        fields = [field for field in file.schema_arrow if field.name not in BASE_NAMES]
    rows[0]["reason"] = "diverged: too far"
    with ShardWriter(shard, fields) as writer:
        writer.write(rows)
    write_receipt(shard, receipt.model_copy(update={"flags": {"diverged": 1}, "output_sha256": writer.sha256}))
    assert "  rows     7 ok (1 diverged), 1 not_an_image (align)" in list(describe_runs("runs"))
    assert any(line.startswith("  encode   1 shard, 3 rows, 2 ok, 1 not_an_image, 1 of") for line in describe("runs/a"))


def test_signs_in_names_are_no_wildcards(run: Run) -> None:
    Path("runs/a/encode/.shard-00001.parquet.lock").touch()
    Path("runs").rename("runs [1]")
    assert find_runs("runs [1]") == ["runs [1]/a"]
    assert read_state("runs [1]/a").shards["encode"] == Counter({DONE: 1, WRITING: 1, WAITING: 1})


def test_no_run_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run in .*: make one with `edit-dataset run SOURCE"):
        find_runs(str(tmp_path))


def test_failed_rows_are_made_again_with_their_shards_and_no_others(run: Run) -> None:
    before = {str(p): p.stat().st_mtime_ns for p in Path("runs/a").rglob("*.parquet")}
    before_all = read_state("runs/a").shards["align"]
    failed = find_failed(run, "not_an_image")
    assert failed == [(stage, "shard-00000.parquet") for stage in ("align", "encode", "edit", "measure")]
    assert read_state("runs/a").shards["align"] == before_all
    invalidate(run, failed)
    state = read_state("runs/a")
    assert state.shards["align"] == Counter({DONE: 2, AGAIN: 1})
    align = build_stage("align", run.params, run.source)
    made = [run_stage(align, shard, run.output) for shard in run.shards]
    assert [receipt.reused for receipt in made] == [False, True, True]
    assert {path for path, when in before.items() if Path(path).stat().st_mtime_ns != when} == {
        "runs/a/align/shard-00000.parquet"
    }


def receipts() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path("runs/a").rglob("*.receipt.json")}


def test_nothing_is_withdrawn_before_the_run_is_handed_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = receipts()

    def gone(_: object) -> None:
        raise UserError("no server")

    monkeypatch.setattr(servers, "connect", gone)
    with pytest.raises(UserError, match="no server"):
        operations.retry_failed("runs/a", "not_an_image")
    assert receipts() == before
    monkeypatch.setattr(servers, "connect", lambda _: None)
    begun: list[set[str]] = []

    def start(plan: Plan, *_: object, **__: object) -> None:
        assert receipts() == before
        plan.begin()
        begun.append(before.keys() - receipts().keys())

    monkeypatch.setattr(run_dataset, "start", start)
    operations.retry_failed("runs/a", "not_an_image")
    first = "shard-00000.parquet.receipt.json"
    assert begun == [{f"runs/a/{stage}/{first}" for stage in ("align", "encode")}]


def test_a_run_with_other_networks_is_not_tried_again(run: Run) -> None:
    path, before = Path("runs/a/run.json"), receipts()
    stored = json.loads(path.read_text())
    stored["identities"]["encode"]["encoder_sha256"] = "another"
    path.write_text(json.dumps(stored))
    with pytest.raises(ParamsError, match=r"runs/a holds another run \(encode.encoder_sha256: another"):
        operations.retry_failed("runs/a", "not_an_image", only_invalidate=True)
    assert receipts() == before


def test_what_prefect_cannot_show_is_left_in_the_record() -> None:
    small = {"tune.steps": 3, "edits": [{"direction": "smile"}]}
    assert run_dataset._shown(small, "out") == small and run_dataset._shown(None, "out") is None
    shown = run_dataset._shown(small | {"compose.plan": ["x" * 100] * 9000}, "out")
    assert shown == small | {"compose.plan": "see out/run.json"}
    many = run_dataset._shown({f"models.{i}": "é" * 900 for i in range(5000)}, "out")
    assert len(json.dumps(many)) < 512 * 1024 and len(many or {}) <= run_dataset.MOST_SHOWN


def test_rows_are_looked_at_before_prefect_reads_its_settings() -> None:
    told = "import flows.operations, flows.status, sys; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_the_command_line_starts_without_parameters_networks_and_servers() -> None:
    told = "import flows.cli, sys; print(sorted({'pydantic', 'pandas', 'torch', 'prefect'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_reason_that_no_row_has_is_refused_with_the_ones_there_are(run: Run) -> None:
    with pytest.raises(DataError, match="no row of runs/a is 'no_image'; did you mean 'not_an_image'"):
        find_failed(run, "no_image")
    with pytest.raises(DataError, match="rows that are ok have not failed"):
        find_failed(run, "ok")


def test_doctor_finds_nothing_wrong_with_a_good_set_up(project: Path) -> None:
    models = load_params().models
    present = {
        name: path if Path(path).exists() else models.generator
        for name, path in models.model_dump(exclude={"domain"}).items()
    }
    (project / "params.yaml").write_text(json.dumps({"models": present, "run": {"device": "cpu"}}))
    assert [check for check in examine() if not check.fine] == []
    assert {check.name: check.found for check in examine()}["run.device"].endswith("run.device is cpu")


def test_doctor_says_how_to_mend_what_is_wrong(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = project / "spoiled.safetensors"
    spoiled.write_bytes(b"not a checkpoint")
    models = load_params().models.model_dump() | {"encoder": str(spoiled), "identity": "gone.safetensors"}
    (project / "params.yaml").write_text(json.dumps({"models": models, "run": {"device": "cuda:99"}}))
    monkeypatch.setattr(doctor, "SMALLEST_DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "requires", lambda package: ["prefect<3", "mlflow>=3", "gone>=1; extra == 'dask'"])
    monkeypatch.setattr(servers, "find", lambda name: servers.Running(1, [], 9) if name == "mlflow" else None)
    wrong = {check.name: check for check in examine() if not check.fine}
    assert wrong.keys() >= {"prefect", "disk", "mlflow", "run.device", "models.encoder", "models.identity"}
    assert wrong["prefect"].mend == "pip install 'prefect<3'"
    assert wrong["models.identity"].mend.startswith("check the path")
    assert "does not answer" in wrong["mlflow"].found and "server stop mlflow" in wrong["mlflow"].mend
    told: list[str] = []
    assert doctor.report(lambda line: told.append(str(line))) is False
    assert any(line.startswith("FAIL models.identity") for line in told)
    assert isinstance(wrong["disk"], Check)
