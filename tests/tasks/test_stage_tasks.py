"""The stage tasks: what they return, what they skip, and what is tried again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import UnidentifiedImageError
from prefect.logging import disable_run_logger

from gan_core.errors import CheckpointError, DataError
from gan_core.params import load_params
from gan_core.recipes.base import Recipe
from gan_core.runs.run import Run
from gan_core.storage.images import ImageError
from gan_core.storage.shards import ShardWriter
from tasks import shards

SHARD = "shard-00000.parquet"


def run(dataset: str) -> Run:
    return Run(load_params(), dataset, "out", {SHARD: 3, "shard-00001.parquet": 3}, {"align": {}})


def test_a_shard_is_made_once_and_then_skipped(project: Path, tiny_dataset: str) -> None:
    with disable_run_logger():
        first = shards.one_stage.fn("align", run(tiny_dataset), SHARD)
        second = shards.one_stage.fn("align", run(tiny_dataset), SHARD)
    assert first["rows"] == {"ok": 2, "not_an_image": 1}
    assert not first["skipped"] and second["skipped"]
    assert first | {"skipped": True} == second


def test_what_is_finished_is_found_up_to_the_first_stage_with_work(project: Path, tiny_dataset: str) -> None:
    both = Run(load_params(), tiny_dataset, "out", {SHARD: 3, "shard-00001.parquet": 3}, {"align": {}, "encode": {}})
    assert shards.finished_shards(both) == []
    with disable_run_logger():
        made = [shards.one_stage.fn("align", both, shard) for shard in both.shards]
        made.append(shards.one_stage.fn("encode", both, SHARD))
    found = shards.finished_shards(both)
    assert [(done["stage"], done["shard"]) for done in found] == [
        ("align", SHARD),
        ("encode", SHARD),
        ("align", "shard-00001.parquet"),
    ]
    assert sorted(d["output_sha256"] for d in found) == sorted(d["output_sha256"] for d in made)
    assert all(done["skipped"] for done in found)
    Path(f"out/align/{SHARD}").write_bytes(b"spoiled")
    assert [done["shard"] for done in shards.finished_shards(both)] == ["shard-00001.parquet"]


def test_a_slot_is_that_of_the_device_where_the_stage_computes(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    @contextmanager
    def slot(limit: str) -> Iterator[None]:
        asked.append(limit)
        yield

    monkeypatch.setattr(shards, "concurrency_slot", slot)
    monkeypatch.setattr("tasks.slots.socket.gethostname", lambda: "host7")
    limited = load_params(overrides={"run.concurrency_limit": "gpu-{card}", "run.device": "cpu"})
    with disable_run_logger():
        shards.one_stage.fn("align", Run(limited, tiny_dataset, "out", {SHARD: 3}, {"align": {}}), SHARD)
    assert asked == ["gpu-host7-cpu"]


def test_rows_that_are_turned_away_are_named(project: Path, tiny_dataset: str) -> None:
    with disable_run_logger():
        shards.one_stage.fn("align", run(tiny_dataset), SHARD)
        shards.one_stage.fn("encode", run(tiny_dataset), SHARD)
    (line,) = shards.rejected_rows("align", f"out/align/{SHARD}")
    assert line.startswith("bad/web-page.jpg: not_an_image: ")
    assert list(shards.rejected_rows("encode", f"out/encode/{SHARD}")) == []


def test_only_the_first_rows_that_are_turned_away_are_named(tmp_path: Path) -> None:
    shard = str(tmp_path / SHARD)
    with ShardWriter(shard, ()) as writer:
        writer.write([{"key": f"{i}.jpg", "status": "no_face", "reason": "none", "stage": "align"} for i in range(7)])
    *lines, last = shards.rejected_rows("align", shard)
    assert lines == [f"{i}.jpg: no_face: none" for i in range(5)]
    assert last == f"2 more rows rejected: their reasons are in {shard}, and in the report"


def test_models_are_loaded_once_for_the_same_parameters(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = Recipe.build_stage
    monkeypatch.setattr(Recipe, "build_stage", lambda *given: built.append(given) or build(*given))
    monkeypatch.setattr(shards, "_thread", SimpleNamespace())
    with disable_run_logger():
        shards.one_stage.fn("align", run(tiny_dataset), SHARD)
        shards.one_stage.fn("align", run(tiny_dataset), "shard-00001.parquet")
        assert len(built) == 1
        other = load_params(overrides={"align.size": 32})
        shards.one_stage.fn("align", Run(other, tiny_dataset, "out", {SHARD: 3}, {"align": {}}), SHARD)
    assert len(built) == 2


def test_one_torch_thread_so_that_workers_do_not_change_results(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(shards, "_thread", SimpleNamespace())
    torch.set_num_threads(2)
    try:
        with disable_run_logger():
            shards.one_stage.fn("align", run(tiny_dataset), SHARD)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "error", [OSError("I/O error"), ConnectionResetError("reset"), TimeoutError("too slow"), BlockingIOError("busy")]
)
def test_infrastructure_is_tried_again(error: Exception) -> None:
    assert shards.is_infrastructure(None, None, SimpleNamespace(data=error))


def test_a_bucket_that_does_not_answer_is_infrastructure() -> None:
    errors = pytest.importorskip("botocore.exceptions", reason="an extra: pip install -e '.[s3]'")
    error = errors.EndpointConnectionError(endpoint_url="http://127.0.0.1:9")
    assert not isinstance(error, OSError) and shards.is_infrastructure(None, None, SimpleNamespace(data=error))


@pytest.mark.parametrize(
    "error",
    [
        DataError("empty shard"),
        CheckpointError("missing"),
        ValueError("bad value"),
        ImageError("truncated", "half a file"),
        UnidentifiedImageError("no image"),
        FileNotFoundError("gone"),
        RuntimeError("a bug"),
        None,
    ],
)
def test_data_and_bugs_are_not_tried_again(error: Exception | None) -> None:
    assert not shards.is_infrastructure(None, None, SimpleNamespace(data=error))


@pytest.mark.parametrize("stage", ["align", "encode", "tune", "edit", "measure"])
def test_every_stage_task_keeps_the_rules(stage: str) -> None:
    task = shards.stage_task(stage)
    assert (task.retries, task.persist_result, task.name) == (2, False, stage)
    assert task.retry_condition_fn is shards.is_infrastructure


def test_progress_is_said_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(shards.time, "monotonic", lambda: now[0])
    said: list[str] = []
    progress = shards._progress(said.append, 12)
    for _ in range(6):
        now[0] += 8
        progress(2)
    assert said == ["4 of 12 rows, 0.25 rows/s", "8 of 12 rows, 0.25 rows/s"]


def test_the_console_shows_failures_but_not_that_each_task_was_completed() -> None:
    shards.hide_success()
    lines = ("3 ok, 1 rejected", "Finished in state Completed()", "Finished in state Failed('no room')")
    record = logging.getLogger("prefect.task_runs").makeRecord
    shown = [
        line for line in lines if logging.getLogger("prefect.task_runs").filter(record("", 20, "", 0, line, (), None))
    ]
    assert shown == ["3 ok, 1 rejected", "Finished in state Failed('no room')"]
