"""Tracking: what MLflow gets, that nothing is logged twice, and that it never kills work."""

import getpass
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as LoggedRun
from PIL import Image
from prefect.logging import disable_run_logger

from gan_core.errors import DataError
from gan_core.metrics.base import Summary
from gan_core.params import load_params
from gan_core.runs.run import Run, begin_run
from gan_core.runs.summary import write_summary
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.receipts import Receipt, write_receipt
from gan_core.storage.shards import IMAGE, ShardWriter
from gan_core.storage.urls import hash_file
from tasks.record import digest_results, make_record, read_record, write_record
from tasks.shards import Done
from tasks.tracking import runs as tracking
from tasks.tracking import upload
from tasks.tracking.client import TrackingError
from tasks.tracking.names import own_name

METRICS = {"fid/toy-attr/tuned": 12.5, "identity/toy/smile@+1": 0.9, "swd/smile@-0.5": 3.0, "bad/score": float("nan")}
METRICS |= {"mse/old (1)@+1": 0.25}
LOGGED = {"fid/toy-attr/tuned": 12.5, "identity/toy/smile:1": 0.9, "swd/smile:-0.5": 3.0, "mse/old :x28:1:x29::1": 0.25}
SHARD = "shard-00000.parquet"
SCORES = {"identity/toy/tuned": pa.field("identity/toy/tuned", pa.float32())}


@pytest.fixture
def run(project: Path, tiny_dataset: str) -> Run:
    """A finished run of two stages over one shard."""
    params = load_params()
    run = Run(params, tiny_dataset, "out", {SHARD: 3}, {"align": {}, "measure": {}})
    begin_run(run)
    keys = ["portraits/7000000.png", "bad/web-page.jpg", "portraits/7000002.png"]
    base = [{"key": key, "status": "ok", "reason": "", "stage": "x"} for key in keys]
    base[1] |= {"status": "not_an_image", "reason": "a web page"}
    picture = image_value(encode_png(np.full((64, 64, 3), 200, np.uint8)), "x.png")
    with ShardWriter(f"out/align/{SHARD}", [pa.field("image", IMAGE)]) as writer:
        writer.write([row | ({"image": picture} if row["status"] == "ok" else {}) for row in base])
    with ShardWriter(f"out/measure/{SHARD}", list(SCORES.values())) as writer:
        scores = (0.9, None, 0.4)
        writer.write([row | {"identity/toy/tuned": s} for row, s in zip(base, scores, strict=True)])
    return run


def done(sha: str = "aa") -> list[Done]:
    rows = {"ok": 2, "not_an_image": 1}
    return [Done(stage="measure", shard=SHARD, rows=rows, output_sha256=sha, seconds=1.0, skipped=False)]


def track(run: Run, results: list[Done] | None = None, gates: Mapping[str, float] = {}) -> str | None:
    with disable_run_logger():
        return tracking.track(run, results or done(), METRICS | gates, 1_700_000_000.0)


def runs(run: Run) -> list[LoggedRun]:
    client = MlflowClient(run.params.track.uri)
    experiment = client.get_experiment_by_name(run.params.track.experiment)
    return list(client.search_runs([experiment.experiment_id]))


def test_a_run_carries_params_metrics_tags_and_its_dataset(run: Run) -> None:
    run_id = track(run)
    (logged,) = runs(run)
    assert logged.info.run_id == run_id and logged.info.status == "FINISHED"
    assert logged.info.start_time == 1_700_000_000_000
    assert logged.data.metrics == LOGGED
    assert logged.data.params["align.landmarks"] == "columns" and "smile" in logged.data.params["edits"]
    (used,) = logged.inputs.dataset_inputs
    assert used.dataset.digest == logged.data.tags["dataset.digest"]
    assert len(used.dataset.digest) == 32
    assert logged.info.run_name == "psp · dataset0 · out · 2023-11-14 22:13"
    row, said, *grids = logged.data.tags["mlflow.note.content"].split("\n\n")
    assert said == "Output: `out`, report: `out/report.html`."
    names = ["faces-row.png", "faces-sample.png", "faces-worst.png"]
    assert [row, *grids] == [f"![{name}](get-artifact?path={name}&run_uuid={run_id})" for name in names]
    assert logged.data.tags["mlflow.source.name"] == "edit-dataset"
    assert logged.data.tags["mlflow.user"] == getpass.getuser()


def test_pictures_and_rows_have_steady_names(run: Run) -> None:
    client = MlflowClient(run.params.track.uri)
    Path("out/report.html").write_text("the page")
    run_id = track(run)
    assert Path(client.download_artifacts(run_id, "report.html")).read_text() == "the page"
    rows = json.loads(Path(client.download_artifacts(run_id, "rows.json")).read_text())
    assert rows["columns"] == ["shard", "key", "status", "reason", "stage", "identity/toy/tuned"]
    assert [line[2] for line in rows["data"]] == ["ok", "not_an_image", "ok"]
    shown = {f.path for f in client.list_artifacts(run_id) if f.path.endswith(".png")}
    assert shown == {"faces-row.png", "faces-sample.png", "faces-worst.png"}
    with Image.open(client.download_artifacts(run_id, "faces-worst.png")) as grid:
        assert grid.size == (2 * 96, 14 + 2 * 96)
    with Image.open(client.download_artifacts(run_id, "faces-row.png")) as row:
        assert row.size == (2 * 64, 14 + 64)


def test_a_record_of_the_last_release_is_logged_under_the_names_of_today(run: Run) -> None:
    with disable_run_logger():
        old = make_record(run, done(), {"lpips_toy/tuned": 0.5, "smile/smile:1": 0.25}, 1.0)
        write_record("out", old.model_copy(update={"made": ""}))
        tracking.sync("out")
    (logged,) = runs(run)
    assert logged.data.metrics == {"lpips/toy/tuned": 0.5, "smile/smile:1": 0.25}


def test_the_same_results_are_logged_once_and_new_ones_again(run: Run) -> None:
    first = track(run)
    assert track(run) == first
    assert len(runs(run)) == 1
    assert track(run, done("bb")) != first
    assert len(runs(run)) == 2


def test_other_gates_are_another_run_and_the_former_ones_are_the_former(run: Run) -> None:
    first, other, again = (
        track(replace(run, params=run.params.model_copy(update={"gates": [gate]})), gates={f"gates/failed/{gate}": 0.0})
        for gate in ("mse <= 1", "mse <= 2", "mse <= 1")
    )
    assert first == again != other
    assert {logged.data.params["gates"] for logged in runs(run)} == {'["mse <= 1"]', '["mse <= 2"]'}


def test_a_run_whose_logging_is_cut_off_waits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tracking, "find_logged", cut_off)
    with pytest.raises(KeyboardInterrupt):
        track(run)
    assert read_record("out") is not None
    assert tracking.sync("out").new


def test_a_run_whose_folder_is_read_only_is_logged_once_or_not_at_all(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise DataError("the file system is read-only")

    assert track(run)
    tracking.sync("out")
    for module in (tracking, upload):
        monkeypatch.setattr(module, "write_record", read_only)
    assert not tracking.sync("out").new
    with pytest.raises(TrackingError, match="read-only"):
        tracking.sync("out", force=True)
    assert len(runs(run)) == 1


def test_a_run_that_was_deleted_in_mlflow_is_logged_again(run: Run) -> None:
    client, first = MlflowClient(run.params.track.uri), track(run)
    client.delete_run(first)
    second = track(run)
    assert second != first and [logged.info.run_id for logged in runs(run)] == [second]
    client.delete_run(second)
    synced = tracking.sync("out")
    assert synced.new and synced.run_id not in (first, second)


def test_another_store_is_asked_what_it_has_and_force_logs_again(run: Run, tmp_path: Path) -> None:
    track(run)
    other = f"sqlite:///{tmp_path}/other.db"
    synced = tracking.sync("out", other)
    assert synced == (synced.run_id, other, True)
    assert tracking.sync("out", other) == (synced.run_id, other, False)
    assert tracking.sync("out", other, force=True).new
    assert tracking.sync("out").run_id == runs(run)[0].info.run_id and len(runs(run)) == 1


def test_a_run_is_found_in_mlflow_without_our_files_and_one_made_anew_is_another(run: Run) -> None:
    first = track(run)
    Path("out/tracking.json").unlink()
    assert track(run) == first
    Path("out/tracking.json").write_text("spoiled")
    assert track(run) == first
    assert track(run, [Done(**done()[0] | {"seconds": 2.0})]) != first


def test_a_run_of_the_last_release_is_found(run: Run) -> None:
    client = MlflowClient(run.params.track.uri)
    made = client.create_run(client.create_experiment(run.params.track.experiment)).info.run_id
    client.set_terminated(made)
    digest = digest_results(done(), METRICS)
    Path("out/tracking.json").write_text(json.dumps({"run_id": made, "uri": "x", "digest": digest}))
    assert track(run) == made and len(runs(run)) == 1


def test_a_deleted_experiment_is_said_with_what_to_do_and_the_run_waits(run: Run) -> None:
    track(run)
    client = MlflowClient(run.params.track.uri)
    number = client.get_experiment_by_name(run.params.track.experiment).experiment_id
    client.delete_experiment(number)
    assert track(run, done("bb")) is None
    with pytest.raises(TrackingError, match=f"was deleted in MLflow .*restore --experiment-id {number}.*sync out") as e:
        tracking.sync("out")
    assert "\n" not in str(e.value)
    client.restore_experiment(number)
    assert tracking.sync("out").new and read_record("out") is None


def test_what_is_too_long_for_mlflow_is_whole_in_artifacts(run: Run) -> None:
    client, long = MlflowClient(run.params.track.uri), "é" * 260
    ids = []
    for last in (-1, -2):
        plan = [{"direction": "smile", "strengths": [*(i / 8 for i in range(2000)), last]}]
        params = run.params.model_copy(update={"edits": load_params(overrides={"edits": plan}).edits})
        metrics = {f"mse/{long}": 0.5, f"mse/{long}2": 0.25}
        write_record("out", make_record(replace(run, params=params), done(), metrics, 1.0))
        ids.append(tracking.sync("out", force=True).run_id)
    one, other = (client.get_run(run_id).data for run_id in ids)
    assert one.params["edits"] != other.params["edits"] and len(one.params["edits"]) == 6000
    whole = json.loads(Path(client.download_artifacts(ids[1], "params.json")).read_text())
    assert json.loads(whole["edits"])[0]["strengths"][-1] == -2
    names = json.loads(Path(client.download_artifacts(ids[0], "names.json")).read_text())
    assert {names[name]: value for name, value in one.metrics.items()} == metrics


def test_what_a_run_is_called_in_its_extensions_reaches_mlflow(run: Run) -> None:
    record = make_record(run, done(), {}, 1.0)
    write_record("out", record.model_copy(update={"params": {"extensions.mine.old (1)": "x", "a//b": "y"}}))
    logged = MlflowClient(run.params.track.uri).get_run(tracking.sync("out", force=True).run_id)
    assert {own_name(name) for name in logged.data.params} == {"extensions.mine.old (1)", "a//b"}


def test_somebody_elses_run_is_not_deleted_for_a_number_in_a_file(run: Run) -> None:
    client = MlflowClient(run.params.track.uri)
    theirs = client.create_run(client.create_experiment(f"{run.params.track.experiment}-theirs")).info.run_id
    write_record("out", make_record(run, done(), {}, 1.0).model_copy(update={"run_id": theirs}))
    tracking.sync("out")
    assert client.get_run(theirs).info.lifecycle_stage == "active"


def test_a_run_is_logged_from_its_folder_where_nothing_else_is_left(run: Run) -> None:
    with pytest.raises(DataError, match=r"`edit-dataset run .* out` finishes it"):
        tracking.sync("out")
    counts = {"not_an_image": 1, "ok": 2}
    same = {"key": "k", "input_keys": {}, "rows": counts, "seconds": 2.0, "code_version": "1", "identity": {}}
    for stage in run.stages:
        sha256 = hash_file(f"out/{stage}/{SHARD}")
        write_receipt(f"out/{stage}/{SHARD}", Receipt(stage=stage, output_sha256=sha256, **same))
    write_summary("out", Summary({"mse/old (1)@+1": 0.25}), Counter(ok=3))
    synced = tracking.sync("out")
    (logged,) = runs(run)
    assert (logged.info.run_id, logged.data.metrics) == (synced.run_id, {"mse/old :x28:1:x29::1": 0.25})
    assert logged.info.end_time - logged.info.start_time == 4000 and "git.sha" not in logged.data.tags
    assert not tracking.sync("out").new
    again = Receipt(stage="align", output_sha256=hash_file(f"out/align/{SHARD}"), **same | {"seconds": 3.0})
    write_receipt(f"out/align/{SHARD}", again)  # made anew without tracking, as `dvc repro` does
    write_summary("out", Summary({"mse/old (1)@+1": 0.5}), Counter(ok=3))
    renewed = tracking.sync("out")
    assert renewed.new and not tracking.sync("out").new
    client = MlflowClient(run.params.track.uri)
    assert client.get_run(renewed.run_id).data.metrics == {"mse/old :x28:1:x29::1": 0.5}
    assert client.get_run(synced.run_id).info.lifecycle_stage == "active"


def test_a_password_in_the_address_is_in_no_file_and_no_log(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    whole = "http://me:s3cret@127.0.0.1:9?token=t0ken"
    run = replace(run, params=load_params(overrides={"track.uri": whole}))
    begin_run(run)
    assert track(run) is None
    with disable_run_logger(), pytest.raises(ValueError), tracking.failures_tracked(run, 1.0):
        raise ValueError("spoiled")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", whole)
    with pytest.raises(TrackingError) as refused:
        tracking.sync("out")
    written = "".join(path.read_text() for path in Path("out").glob("*.json")) + caplog.text + str(refused.value)
    assert "***@127.0.0.1" in written and "s3cret" not in written and "t0ken" not in written


def test_a_clock_that_was_set_back_gives_no_run_that_ends_before_it_starts(run: Run) -> None:
    late = time.time() + 3600
    with disable_run_logger():
        record = make_record(run, done(), {}, late)
    assert record.ended >= record.started == late


@pytest.mark.parametrize(("error", "status"), [(ValueError("spoiled"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_run_that_fails_is_marked_so_and_its_error_goes_on(run: Run, error: BaseException, status: str) -> None:
    with disable_run_logger(), pytest.raises(type(error)), tracking.failures_tracked(run, 1_700_000_000.0):
        raise error
    (logged,) = runs(run)
    assert logged.info.status == status and logged.data.tags["error"].startswith(type(error).__name__)
    assert logged.data.params["align.landmarks"] == "columns" and logged.data.metrics == {}


@pytest.mark.parametrize("asked", ["param", "variable"])
def test_system_metrics_are_logged_with_their_times_where_they_are_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    if asked == "variable":
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    else:
        settings = {"system_metrics": True}
        run = replace(run, params=run.params.model_copy(update={"track": run.params.track.model_copy(update=settings)}))
    began = 1000 * time.time()
    with disable_run_logger(), tracking.failures_tracked(run, 1.0) as samples:
        while len(samples) < 3:
            time.sleep(0.02)
    with disable_run_logger():
        run_id = tracking.track(run, done(), METRICS, 1.0, samples)
    client = MlflowClient(run.params.track.uri)
    for name in ("cpu_utilization_percentage", "system_memory_usage_megabytes", "disk_available_megabytes"):
        history = client.get_metric_history(run_id, f"system/{name}")
        assert [point.step for point in history] == list(range(len(samples)))
        assert all(began <= point.timestamp <= 1000 * time.time() for point in history)
    assert client.get_run(run_id).data.metrics["system/system_memory_usage_megabytes"] > 10


def test_system_metrics_of_a_failed_run_are_kept_and_unasked_for_there_are_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")

    def fail(started: float, wanted: int) -> dict[str, float]:
        with disable_run_logger(), pytest.raises(ValueError), tracking.failures_tracked(run, started) as samples:
            while len(samples) < wanted:
                time.sleep(0.02)
            raise ValueError("spoiled")
        return dict(runs(run)[0].data.metrics)

    assert fail(1.0, wanted=0) == {}
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "1")
    assert "system/cpu_utilization_percentage" in fail(2.0, wanted=1)


def test_a_store_that_is_down_hides_no_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "client_of", lambda _: (_ for _ in ()).throw(ConnectionError("no route")))
    with disable_run_logger(), pytest.raises(ValueError, match="spoiled"), tracking.failures_tracked(run, 1.0):
        raise ValueError("spoiled")


def test_a_store_that_is_down_leaves_the_record_for_later(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(upload, "_log_numbers", lambda *_: (_ for _ in ()).throw(ConnectionError("no route")))
        assert track(run) is None
    record = read_record("out")
    assert record is not None and record.run_id is not None
    synced = tracking.sync("out")
    (logged,) = runs(run)
    assert logged.info.run_id == synced.run_id != record.run_id and synced.new
    assert read_record("out") is None and tracking.sync("out") == synced._replace(new=False)


def test_a_run_that_was_logged_by_half_is_replaced_by_the_next_attempt(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(upload, "_log_rows", lambda *_: (_ for _ in ()).throw(OSError("disk")))
        assert track(run) is None
    (half,) = runs(run)
    MlflowClient(run.params.track.uri).set_tag(half.info.run_id, "mlflow.runName", "the same of another minute")
    run_id = track(run)
    assert [logged.info.run_id for logged in runs(run)] == [run_id]


def test_an_address_where_nobody_answers_is_an_error_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nowhere = run.params.model_copy(update={"track": run.params.track.model_copy(update={"uri": "http://127.0.0.1:9"})})
    lost = replace(run, params=nowhere)
    begin_run(lost)
    assert track(lost) is None
    with pytest.raises(TrackingError, match=r"can't log to http://127\.0\.0\.1:9 .*edit-dataset sync out") as e:
        tracking.sync("out")
    assert "\n" not in str(e.value)
