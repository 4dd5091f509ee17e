"""Score every picture of one shard."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="measure", task_run_name="measure {shard}", **ONE_SHARD)
def measure(run: Run, shard: str) -> Done:
    """Score every picture of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("measure", run, shard)
