"""Draw the compositions of one shard of the plan."""

from prefect import task

from gan_core.run.job import Job
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="compose", task_run_name="compose {shard}", **ONE_SHARD)
def compose(job: Job, shard: str) -> Done:
    """Draw the compositions of one shard; a finished shard is skipped by its receipt."""
    return run_one_shard("compose", job, shard)
