"""The production path with files in the published layouts: small, and (slow) at the published size."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.full_size import import_models, run_flow, settings, write_photographs
from flows import cli
from gan_core.errors import DataError
from gan_core.storage.images import decode_image
from gan_core.storage.shards import list_shards, read_rows

MAX_MEGABYTES = 12_000


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", [64, pytest.param(1024, marks=pytest.mark.slow)])
def test_published_files_take_photographs_through_the_whole_flow(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = settings(import_models(tmp_path, size), size, steps=1)
    write_photographs(tmp_path, 2, size)
    (tmp_path / "params.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    measured = run_flow(tmp_path, overrides)
    print(measured)
    (shard,) = list_shards(str(tmp_path / "run" / "paste"))
    rows = next(iter(read_rows(shard)))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    pasted = [decode_image(row["smile@+1/pasted"]["bytes"], 1 << 22) for row in rows]
    assert {picture.size for picture in pasted} == {(size * 4 // 3, size + 40)}
    assert measured["peak_mb"] < MAX_MEGABYTES


def test_batch_sizes_that_trials_have_shown_are_settings_of_the_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = []

    def plan_run(source: str, output: str, params: str, overrides: dict[str, Any], update: bool, recipe: str) -> None:
        planned.append(overrides)
        raise DataError("that is enough")

    monkeypatch.setattr("gan_core.probe.probe_settings", lambda params, *_: {"tune.batch_size": params.run.batch_size})
    monkeypatch.setattr("gan_core.recipes.base.plan_run", plan_run)
    with pytest.raises(SystemExit):
        cli.main(["run", "source", "output", "--probe", "--set", "run.batch_size=3"])
    assert planned == [{"run.batch_size": 3, "tune.batch_size": 3}]
