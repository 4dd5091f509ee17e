"""Killed anywhere, run again: the same output, and at most one shard done twice."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.storage.receipts import valid_receipt
from gan_core.storage.shards import list_shards, open_shard

KillAt = Callable[[Callable[[], object], int], bool]


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_run_killed_at_any_step_ends_as_if_nothing_had_happened(
    workplace: Any, undisturbed: dict[str, bytes], kill_at: KillAt, stride: int
) -> None:
    kills = 0
    for at in itertools.count(0, stride):
        workplace.clear()
        if not kill_at(workplace.run, at):
            break
        kills += 1
        for shard in workplace.output.rglob("*.parquet"):
            with open_shard(shard) as whole:
                assert whole.metadata.num_rows == 8
        workplace.run()
        assert workplace.files() == undisturbed
        assert workplace.starts() <= 4
    assert kills * stride > 60


def test_killed_again_and_again_it_still_gets_there(
    workplace: Any, undisturbed: dict[str, bytes], kill_at: KillAt
) -> None:
    for at in range(5, 1000, 9):
        if not kill_at(workplace.run, at):
            break
    assert at > 5 and workplace.files() == undisturbed
    assert all(receipt.reused for receipt in workplace.run())


@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_redone_shard_killed_at_any_step_is_never_half_old(workplace: Any, kill_at: KillAt, stride: int) -> None:
    """Old output of other params is in the way: data, statistics and receipt are replaced one after the other."""

    def other() -> None:
        stage = workplace.stage()
        stage.identity = lambda: {"size": 128}
        stage.one = lambda row: {"image": row["image"], "latent": [[1.0] * 3] * 2}
        workplace.run_with(stage)

    other()
    expected = workplace.files()
    for at in itertools.count(0, stride):
        workplace.clear()
        workplace.run()
        if not kill_at(other, at):
            break
        for shard in workplace.output.rglob("*.parquet"):
            receipt, _ = valid_receipt(shard)
            size_128 = shard.read_bytes() == expected[f"align/{shard.name}"]
            assert receipt is None or (receipt.identity["size"] == 128) == size_128
        other()
        assert workplace.files() == expected
    assert at > 60


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_an_import_killed_at_any_step_is_refused_until_it_is_done_again(
    tmp_path: Path, kill_at: KillAt, stride: int
) -> None:
    (tmp_path / "in").mkdir()
    for i in range(4):
        (tmp_path / "in" / f"{i}.png").write_bytes(bytes([i]) * 100)
    expected = import_dataset(tmp_path / "in", tmp_path / "whole", 2)
    for at in itertools.count(0, stride):
        output = tmp_path / str(at)
        if not kill_at(lambda output=output: import_dataset(tmp_path / "in", output, 2), at):
            break
        try:
            assert [Path(s).read_bytes() for s in list_shards(output)] == [
                Path(s).read_bytes() for s in list_shards(tmp_path / "whole")
            ]
        except DataError as error:
            assert "was not finished" in str(error) or "no shards in" in str(error)
        assert import_dataset(tmp_path / "in", output, 2) == expected
        names = {path.name for path in output.iterdir()}
        assert names == {path.name for path in (tmp_path / "whole").iterdir()}
    assert at > 30


SCRIPT = """
import sys, pathlib, time
sys.path[:0] = sys.argv[1:3]
import conftest
place = conftest.Workplace.__new__(conftest.Workplace)
folder = pathlib.Path(sys.argv[3])
place.output, place.source, place.log = folder / "out", folder / "source", folder / "log"
one = conftest.Mirroring.one
def wait_to_be_killed(self, row):
    if place.starts() == 2 and row["key"].endswith("/4"):
        time.sleep(3600)
    return one(self, row)
conftest.Mirroring.one = wait_to_be_killed
place.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_real_process_killed_from_outside(
    workplace: Any, undisturbed: dict[str, bytes], tmp_path: Path, sent: signal.Signals
) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", SCRIPT, str(here), str(here.parents[1]), str(tmp_path)]
    victim = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while workplace.starts() < 2:
        assert victim.poll() is None
        time.sleep(0.02)
    victim.send_signal(sent)
    assert victim.wait() == -sent
    assert workplace.starts() == 2 and workplace.files() != undisturbed
    workplace.run()
    assert workplace.files() == undisturbed and workplace.starts() == 4
