"""Put the edited faces of one shard back into their photographs."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, run_one_shard


@task(name="paste", task_run_name="paste {shard}", **ONE_SHARD)
def paste(run: Run, shard: str) -> Done:
    """Put the edited faces of one shard back into their photographs; a finished shard is skipped by its receipt."""
    return run_one_shard("paste", run, shard)
