"""Translate one shard by the task of the run."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="translate", task_run_name="translate {shard}", **ONE_SHARD)
def translate(run: Run, shard: str) -> Done:
    """Translate one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("translate", run, shard)
