"""Find and crop the faces of one shard."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="align", task_run_name="align {shard}", **ONE_SHARD)
def align(run: Run, shard: str) -> Done:
    """Find and crop the faces of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("align", run, shard)
