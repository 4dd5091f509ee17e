"""Apply the edit plan of one shard."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="edit", task_run_name="edit {shard}", **ONE_SHARD)
def edit(run: Run, shard: str) -> Done:
    """Apply the edit plan of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("edit", run, shard)
