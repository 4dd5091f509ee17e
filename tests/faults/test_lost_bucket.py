"""The S3 server killed in the middle of work: a short while is waited for, a long one told, and nothing is lost."""

import time
from pathlib import Path

import pytest

from gan_core.storage.receipts import require_receipt
from gan_core.storage.urls import open_fs
from tests.faults.test_kill_flow import Runs, hashes
from tests.swift import Swift

PATIENCE_S = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def runs(project: Path, tiny_dataset: str, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs over the small dataset, of which ``alone`` is finished in a folder."""
    runs = Runs(tiny_dataset, prefect_server, tmp_path_factory.mktemp("home"))
    runs.finish("alone")
    return runs


def found(output: str) -> dict[str, str]:
    """Return the hash of every shard of a run in a bucket, each read again and found whole."""
    return {name: require_receipt(f"{output}/{name}", "run again").output_sha256 for name in shards(output)}


def shards(output: str) -> list[str]:
    """Return the shards of a run in a bucket that have receipts."""
    fs, root = open_fs(output)
    fs.invalidate_cache()
    end = ".receipt.json"
    return [path[len(root) + 1 :].removesuffix(end) for path in fs.find(root) if path.endswith(end)]


def wait_for_shards(output: str, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(shards(output)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def alone() -> dict[str, str]:
    return {name.removesuffix(".receipt.json"): sha256 for name, sha256 in hashes("alone").items()}


@pytest.mark.usefixtures("project")
def test_a_bucket_that_is_back_soon_is_waited_for(bucket: str, swift_server: Swift, runs: Runs) -> None:
    output = f"{bucket}/out"
    process = runs.start(output)
    wait_for_shards(output, 3)
    swift_server.kill()
    time.sleep(5)
    swift_server.start()
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert found(output) == alone()


@pytest.mark.usefixtures("project")
def test_a_bucket_that_is_gone_is_told_in_one_line_and_the_run_goes_on_later(
    bucket: str, swift_server: Swift, runs: Runs
) -> None:
    output = f"{bucket}/out"
    process = runs.start(output)
    wait_for_shards(output, 3)
    swift_server.kill()
    said, _ = process.communicate(timeout=PATIENCE_S)
    swift_server.start()
    early = found(output)
    assert process.returncode == 1 and 3 <= len(early) < 15
    assert said.splitlines()[-1].startswith("error: the store failed (Could not connect to the endpoint URL"), said
    runs.finish(output)
    assert found(output) == alone()
