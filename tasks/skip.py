"""Find what is finished, many shards at a time: for these no task is made."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, finished_shards


@task(name="skip", task_run_name="skip what is finished of {shards}", **ONE_SHARD)
def skip(run: Run, shards: str) -> list[Done]:
    """Return what is finished of the shards of ``run``; ``shards`` names them for people."""
    return finished_shards(run)
