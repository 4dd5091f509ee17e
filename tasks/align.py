"""Find and crop the faces of one shard."""

from prefect import task

from gan_core.run.job import Job
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="align", task_run_name="align {shard}", **ONE_SHARD)
def align(job: Job, shard: str) -> Done:
    """Find and crop the faces of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("align", job, shard)
