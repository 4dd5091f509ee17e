"""Tune the generator to each face of one shard."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="tune", task_run_name="tune {shard}", **ONE_SHARD)
def tune(run: Run, shard: str) -> Done:
    """Tune the generator to each face of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("tune", run, shard)
