"""The flow as a whole: every row in every stage, nothing done twice, and failures that stay where they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort

from flows import ledger, servers
from flows.cli import main
from flows.edit_dataset import edit_dataset
from flows.ledger import link
from flows.servers import Running
from gan_core.errors import DataError, ParamsError
from gan_core.params import load_params
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.storage.receipts import Receipt
from gan_core.storage.shards import read_rows
from tasks import shards

STAGES = ("align", "encode", "tune", "edit", "measure")
QUICK = {"tune.enabled": False, "edits": [{"direction": "smile", "strengths": [1]}]}

pytestmark = pytest.mark.usefixtures("on_server")


def receipts(output: str = "out") -> dict[str, Receipt]:
    """Return all receipts of a run by ``stage/shard``."""
    found = sorted(Path(output).glob("*/*.receipt.json"))
    return {f"{p.parent.name}/{p.name[:11]}": Receipt.model_validate_json(p.read_text()) for p in found}


def hashes(output: str = "out") -> dict[str, str]:
    """Return the hash of every shard of a run."""
    return {name: receipt.output_sha256 for name, receipt in receipts(output).items()}


def times(output: str = "out") -> dict[str, int]:
    """Return when each shard of a run was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(Path(output).glob("*/*.parquet"))}


def test_every_row_goes_through_every_stage_and_nothing_is_done_twice(project: Path, tiny_dataset: str) -> None:
    metrics = edit_dataset(tiny_dataset, "out")

    made = receipts()
    assert len(made) == 3 * len(STAGES)
    for stage in STAGES:
        assert [made[f"{stage}/shard-0000{i}"].rows for i in range(3)] == [
            {"not_an_image": 1, "ok": 2},
            {"ok": 3},
            {"ok": 2},
        ]
    (last,) = [row for rows in read_rows("out/measure/shard-00000.parquet") for row in rows if row["status"] != "ok"]
    assert (last["key"], last["stage"]) == ("bad/web-page.jpg", "align") and last["reason"]
    assert metrics == json.loads(Path("out/summary.json").read_text())["metrics"] and len(metrics) > 10
    assert "bad/web-page.jpg" in Path("out/report.html").read_text()
    run = MlflowClient(load_params().track.uri).get_run(json.loads(Path("out/tracking.json").read_text())["run_id"])
    assert run.data.metrics["psnr/tuned"] == metrics["psnr/tuned"]
    assert run.data.tags["prefect.flow_run_id"]

    before = times()
    assert edit_dataset(tiny_dataset, "out") == metrics
    assert times() == before
    experiment = run.info.experiment_id
    assert len(MlflowClient(load_params().track.uri).search_runs([experiment])) == 1


def test_prefect_keeps_progress_rows_and_metrics(project: Path, tiny_dataset: str) -> None:
    with tags("faces"):
        ended = edit_dataset(tiny_dataset, "out", overrides=QUICK, return_state=True)
    run = ended.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        ours = [a for a in client.read_artifacts() if a.flow_run_id == run]
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
        assert client.read_flow_run(run).tags == ["faces"]
        assert {tag for task in client.read_task_runs(flow_run_filter=of_run) for tag in task.tags} == set()
    found = {artifact.key: artifact.data for artifact in ours}
    assert found["edit-dataset-progress"] == 100
    rows = json.loads(found["edit-dataset-rows"])
    assert rows[0] == {"stage": "align", "rows": 8, "ok": 7, "not_an_image": 1}
    assert [row["stage"] for row in rows] == ["align", "encode", "edit", "measure"]
    assert "identity/toy/encoded" in {row["metric"] for row in json.loads(found["edit-dataset-metrics"])}
    run_id = json.loads(Path("out/tracking.json").read_text())["run_id"]
    assert "- Report: `out/report.html`\n" in found["edit-dataset-links"] and run_id in found["edit-dataset-links"]


def test_a_mistake_that_a_stage_finds_is_told_without_a_traceback(
    project: Path,
    tiny_dataset: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> None:
        raise DataError("shard-00001 is spoiled: fetch it again")

    monkeypatch.setattr(shards, "run_stage", refuse)
    with pytest.raises(SystemExit) as ended:
        main(["run", tiny_dataset, "out", "--set", "tune.enabled=false", "--set", "edits=[]"])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.endswith("error: shard-00001 is spoiled: fetch it again\n")
    assert "Traceback" not in told + caplog.text and "Encountered exception" not in caplog.text
    assert "DataError: shard-00001 is spoiled: fetch it again" in caplog.text


def test_a_password_of_track_uri_is_not_in_prefect_and_in_no_file(
    project: Path,
    tiny_dataset: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    settings = ["track.uri=http://me:s3cret@127.0.0.1:9?key=t0ken", "tune.enabled=false", "edits=[]"]
    settings += ["measure.metrics=[mse]"]
    with pytest.raises(SystemExit) as ended:
        main(["run", tiny_dataset, "out", *(part for value in settings for part in ("--set", value))])
    assert ended.value.code == 0
    with get_client(sync_client=True) as client:
        (latest, *_) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    kept = [path for path in Path("out").iterdir() if path.suffix in (".json", ".html")]
    shown = "".join([str(latest.parameters), *capsys.readouterr(), caplog.text, *(path.read_text() for path in kept)])
    assert "s3cret" not in shown and "t0ken" not in shown
    assert latest.parameters["overrides"]["track.uri"] == "http://***@127.0.0.1:9?key=***"
    assert "can't log to http://***@127.0.0.1:9" in shown and Path("out/pending.json").exists()


def test_the_run_in_mlflow_is_a_link_where_there_is_a_page(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI", raising=False)

    def linked(uri: str, run_id: str | None = "abc") -> str:
        return link(Run(load_params(overrides={"track.uri": uri}), "data", "out", {}, {}), run_id).splitlines()[1]

    assert linked("http://tracking:5000") == "- MLflow: [abc](http://tracking:5000/#/runs/abc)"
    assert linked("http://tracking:5000", None) == "- MLflow: not logged yet: `edit-dataset sync out`"
    assert linked("sqlite:///mlflow.db") == "- MLflow: `abc` in `sqlite:///mlflow.db`"
    monkeypatch.setattr(ledger, "find", lambda name: Running(1, [name], 5003))
    assert linked("sqlite:///mlflow.db") == "- MLflow: [abc](http://127.0.0.1:5003/#/runs/abc)"
    assert linked("sqlite:///elsewhere.db") == "- MLflow: `abc` in `sqlite:///elsewhere.db`"


def test_results_do_not_depend_on_workers_batches_or_where_they_go(project: Path, tiny_dataset: str) -> None:
    edit_dataset(tiny_dataset, "one", overrides=QUICK | {"run.workers": 1, "run.batch_size": 1})
    edit_dataset(tiny_dataset, "many", overrides=QUICK | {"run.workers": 3, "run.batch_size": 8})
    assert hashes("one") == hashes("many")


def test_a_damaged_shard_is_made_again_and_no_other(project: Path, tiny_dataset: str) -> None:
    edit_dataset(tiny_dataset, "out", overrides=QUICK)
    before, made = times(), hashes()
    Path("out/encode/shard-00001.parquet").write_bytes(b"spoiled")
    edit_dataset(tiny_dataset, "out", overrides=QUICK)
    assert {path for path, when in times().items() if before[path] != when} == {"out/encode/shard-00001.parquet"}
    assert hashes() == made
    assert "has changed" in receipts()["encode/shard-00001"].why


def test_failed_rows_are_tried_again_with_the_runs_own_parameters(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_dataset(tiny_dataset, "out", overrides=QUICK)
    before = times()
    monkeypatch.setattr(servers, "connect", lambda _: None)
    with pytest.raises(SystemExit, match="0"):
        main(["retry-failed", "out", "--reason", "not_an_image"])
    again = {path for path, when in times().items() if before[path] != when}
    assert (
        again == {path for path in before if path.endswith("/shard-00000.parquet")} and before.keys() == times().keys()
    )


def test_other_params_are_refused_or_redo_what_they_change(project: Path, tiny_dataset: str) -> None:
    tuned = {"tune.steps": 1}
    edit_dataset(tiny_dataset, "out", overrides=tuned)
    before = times()
    with pytest.raises(ParamsError, match="another run"):
        edit_dataset(tiny_dataset, "out", overrides=QUICK)
    assert times() == before
    edit_dataset(tiny_dataset, "out", overrides=QUICK, update=True)
    kept = {path for path, when in times().items() if before[path] == when}
    assert kept == {path for path in before if path.startswith(("out/align", "out/encode"))}
    assert not Path("out/tune").exists()


def test_bad_data_stops_its_shard_alone_and_is_not_tried_again(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = _fail(monkeypatch, lambda: DataError("shard-00001 is spoiled"), times=99)
    with pytest.raises(DataError, match="spoiled"):
        edit_dataset(tiny_dataset, "out", overrides=QUICK)
    assert len(tried) == 1
    finished = sorted(receipts())
    assert finished == sorted(
        [f"{s}/shard-0000{i}" for s in ("align", "encode", "edit", "measure") for i in (0, 2)] + ["align/shard-00001"]
    )
    assert not Path("out/summary.json").exists()


def test_failing_infrastructure_is_tried_again(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = _fail(monkeypatch, lambda: ConnectionResetError("the store hung up"), times=1)
    edit_dataset(tiny_dataset, "out", overrides=QUICK)
    assert len(tried) == 2
    assert len(receipts()) == 12


def test_lost_rows_are_never_passed_over(project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(stage: Any, shard: str, *rest: Any) -> Receipt:
        receipt = run_stage(stage, shard, *rest)
        return receipt.model_copy(update={"rows": {"ok": 1}}) if stage.name == "edit" else receipt

    monkeypatch.setattr(shards, "run_stage", lose)
    with pytest.raises(RuntimeError, match=r"edit shard-00000\.parquet has 1 rows of 3"):
        edit_dataset(tiny_dataset, "out", overrides=QUICK)


def _fail(monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], times: int) -> list[str]:
    """Let encoding shard 1 fail so many times; returns the attempts."""
    tried: list[str] = []

    def run(stage: Any, shard: str, *rest: Any) -> Receipt:
        if stage.name == "encode" and shard == "shard-00001.parquet":
            tried.append(shard)
            if len(tried) <= times:
                raise error()
        return run_stage(stage, shard, *rest)

    monkeypatch.setattr(shards, "run_stage", run)
    return tried
