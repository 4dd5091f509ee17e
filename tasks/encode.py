"""Invert the aligned faces of one shard."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="encode", task_run_name="encode {shard}", **ONE_SHARD)
def encode(run: Run, shard: str) -> Done:
    """Invert the aligned faces of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("encode", run, shard)
