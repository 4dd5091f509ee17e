"""Find finished shards, many at a time; no task is created for them."""

from prefect import task

from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done, finished_shards, hide_success, or_cancelled


@task(name="skip", task_run_name="skip what is finished of {shards}", **ONE_SHARD)
def skip(run: Run, shards: str) -> list[Done]:
    """Return what is finished of the shards of ``run``; ``shards`` names them for people."""
    hide_success()
    return or_cancelled(lambda: finished_shards(run))
