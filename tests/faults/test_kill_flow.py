"""Kill the flow with SIGKILL, twice, and run it again: the same bytes, and no finished shard is done anew."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_core.storage.receipts import Receipt

COMMAND = [sys.executable, "-m", "flows.cli", "run"]
ROOT = Path(__file__).parents[2]
PATIENCE_S = 280.0


class Runs:
    """Starts the flow over one dataset as a process of its own, always with the same parameters."""

    def __init__(self, source: str, server: str, home: Path) -> None:
        self.source = source
        self.environment = os.environ | {
            "PREFECT_API_URL": server,
            "PREFECT_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, output: str) -> subprocess.Popen[str]:
        command = [*COMMAND, self.source, output, "--set", "tune.steps=15", "--set", "run.workers=2"]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=self.environment, start_new_session=True, **streams)  # type: ignore[call-overload,no-any-return]

    def finish(self, output: str) -> str:
        process = self.start(output)
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        return said

    def kill_after(self, output: str, receipts: int) -> None:
        """Kill the flow and all its processes as soon as so many shards are finished."""
        process = self.start(output)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while len(written(output)) < receipts:
                assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
                time.sleep(0.01)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def written(output: str) -> dict[str, int]:
    """Return each receipt and when it was written."""
    return {str(path.relative_to(output)): path.stat().st_mtime_ns for path in Path(output).glob("*/*.receipt.json")}


def hashes(output: str) -> dict[str, str]:
    """Return the hash that each receipt of a run has of its shard."""
    return {
        name: Receipt.model_validate_json((Path(output) / name).read_text()).output_sha256 for name in written(output)
    }


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_killed_flow_goes_on_where_it_was(
    project: Path, tiny_dataset: str, prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = Runs(tiny_dataset, prefect_server, tmp_path_factory.mktemp("home"))
    runs.finish("whole")

    runs.kill_after("killed", receipts=2)
    early = written("killed")
    runs.kill_after("killed", receipts=7)
    late = written("killed")
    said = runs.finish("killed")

    after = written("killed")
    assert len(early) < len(late) < len(after) == 15
    assert early.items() <= late.items() <= after.items()
    assert f"{len(late)} of 15 shards skipped, {15 - len(late)} made" in said
    assert hashes("killed") == hashes("whole")
    for name in ("summary.json", "run.json"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()
    assert not list(Path("killed").rglob("*.tmp"))
