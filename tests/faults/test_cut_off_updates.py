"""A run whose update was cut off isn't finished: nothing takes what the earlier parameters made for its own."""

from pathlib import Path

import pytest

from flows.exporting.folder import export
from flows.publish import publish
from flows.status import describe_runs
from gan_core.checkpoints.files import file_sha256
from gan_core.errors import DataError
from gan_core.params import load_params
from gan_core.recipes.base import plan_run
from gan_core.recipes.composition_sources import Encoded
from gan_core.report import write_report
from gan_core.runs.run import OUTDATED, Run, load_run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage

SMALL = {"tune.enabled": False, "edits": []}


def make(run: Run, *stages: str) -> None:
    for name in stages:
        stage = build_stage(name, run.params, run.source)
        for shard in run.shards:
            run_stage(stage, shard, run.output)


@pytest.fixture
def cut_off(project: Path, tiny_dataset: str) -> Run:
    """A run that was finished up to ``edit``, and whose update ended when it had written its run.json."""
    make(plan_run(tiny_dataset, "runs/a", overrides=SMALL).begin(), "align", "encode", "edit")
    return plan_run(tiny_dataset, "runs/a", overrides=SMALL | {"align.size": 32}, update=True).begin()


def test_what_the_update_did_not_reach_is_not_finished(cut_off: Run) -> None:
    stored = load_run("runs/a")
    for stage in ("align", "encode", "edit"):  # the identity of the last two is what it was
        assert stored.receipt(stage, stored.shards[0]) == (None, OUTDATED)
    said = list(describe_runs("runs/a"))
    assert said[0].endswith("0 of 12 shards, not finished: run it again to go on")
    assert "  edit     3 to be made again" in said
    make(cut_off, "align")
    assert [stored.receipt(stage, stored.shards[0])[1] for stage in ("align", "encode", "edit")] == [
        "",
        OUTDATED,
        OUTDATED,
    ]
    make(cut_off, "encode", "edit")
    assert all(stored.receipt(stage, shard)[0] for stage in ("align", "encode", "edit") for shard in stored.shards)


def test_nothing_is_made_of_it(cut_off: Run) -> None:
    message = r"shard-00000\.parquet, it was made with other parameters or networks: `edit-dataset run .*` finishes it"
    generator = file_sha256(load_params().models.generator)
    for use in (
        lambda: publish("runs/a", "data/a"),
        lambda: export("runs/a", "exported", "csv"),
        lambda: Encoded("runs/a", generator),
    ):
        with pytest.raises(DataError, match=message):
            use()
    with pytest.raises(DataError, match=r"measure/shard-00000\.parquet, it is not there"):
        write_report("runs/a")
    assert not Path("data/a").exists() and not Path("exported").exists()
