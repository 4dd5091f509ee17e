"""Apply the edit plan of one shard."""

from prefect import task

from gan_core.run.job import Job
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="edit", task_run_name="edit {shard}", **ONE_SHARD)
def edit(job: Job, shard: str) -> Done:
    """Apply the edit plan of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("edit", job, shard)
