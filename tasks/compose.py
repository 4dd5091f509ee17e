"""Draw the compositions of one shard of the plan."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="compose", task_run_name="compose {shard}", **ONE_SHARD)
def compose(run: Run, shard: str) -> Done:
    """Draw the compositions of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("compose", run, shard)
