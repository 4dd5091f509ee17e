"""A run in a bucket, and DVC's remote there, through the real clients on OpenStack Swift's S3 interface."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.edit_dataset import edit_dataset
from flows.status import describe_runs
from gan_core.storage.receipts import require_receipt
from gan_core.storage.shards import list_shards
from gan_core.storage.urls import base_name, exists, open_fs, read_bytes

QUICK = {"measure.metrics": ["mse"]}
STAGES = ("align", "encode", "tune", "edit", "measure")
DVC = [sys.executable, "-m", "dvc"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def hashes(output: str) -> dict[str, str]:
    """Return the hash of every shard of a run, each read again and found whole."""
    shards = [f"{stage}/shard-0000{i}.parquet" for stage in STAGES for i in range(3)]
    return {shard: require_receipt(f"{output}/{shard}", "run again").output_sha256 for shard in shards}


@pytest.mark.usefixtures("on_server", "project")
def test_a_run_in_a_bucket_has_the_same_bytes_as_here_and_goes_on(
    bucket: str, tiny_dataset: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, output = f"{bucket}/in", f"{bucket}/runs/out"
    fs, root = open_fs(source)
    for shard in list_shards(tiny_dataset):
        fs.put_file(shard, f"{root}/{base_name(shard)}")
    metrics = edit_dataset(tiny_dataset, "here", overrides=QUICK)
    assert edit_dataset(source, output, overrides=QUICK) == metrics
    assert hashes(output) == hashes("here")
    assert b"</html>" in read_bytes(f"{output}/report.html") and b"run_id" in read_bytes(f"{output}/tracking.json")

    assert edit_dataset(source, output, overrides=QUICK) == metrics
    assert "15 of 15 shards skipped, 0 made, 0 not finished" in caplog.text
    fs.pipe_file(f"{output}/encode/shard-00001.parquet", b"spoiled")
    told = list(describe_runs(bucket))
    assert told[0] == f"{output}: {source}, 14 of 15 shards, not finished: run it again to go on"
    assert "  encode   1 damaged, 2 finished" in told
    assert edit_dataset(source, output, overrides=QUICK) == metrics
    assert "14 of 15 shards skipped, 1 made, 0 not finished" in caplog.text and hashes(output) == hashes("here")

    fs.rm_file(f"{root}/shard-00002.parquet")
    edit_dataset(source, output, overrides=QUICK | {"tune.enabled": False}, update=True)
    assert not exists(f"{output}/tune") and not exists(f"{output}/align/shard-00002.parquet")


def test_dvc_keeps_its_data_in_the_bucket(bucket: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(
        "dvc_s3", reason="the clients of buckets are an extra: pip install -e '.[s3]' -c constraints.txt"
    )
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")

    def dvc(*arguments: str) -> None:
        subprocess.run([*DVC, *arguments, "-q"], check=True)

    dvc("init", "--no-scm")
    dvc("remote", "add", "-d", "store", f"{bucket}/dvc")
    faces = project / "faces"
    faces.mkdir()
    content = {f"shard-0000{i}.parquet": bytes([i]) * 1_000_000 for i in range(3)}
    for name, data in content.items():
        (faces / name).write_bytes(data)
    dvc("add", "faces")
    dvc("push")
    shutil.rmtree(faces)
    shutil.rmtree(".dvc/cache")
    dvc("pull")
    assert {path.name: path.read_bytes() for path in faces.iterdir()} == content
