"""A stage of a finished run as a dataset of its own, versioned by DVC."""

import json
from collections.abc import Callable
from pathlib import Path

from flows.passing import Passing
from gan_core.errors import DataError, near_matches
from gan_core.recipes.base import recipe_of
from gan_core.runs.run import Run, load_run
from gan_core.secrets import hide
from gan_core.storage.atomic import write_bytes
from gan_core.storage.receipts import receipt_path
from gan_core.storage.urls import open_fs
from tasks.versions import add_output, git_sha

ORIGIN = "origin.json"


def publish(
    output: str,
    destination: str,
    stage: str = "",
    push: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """Copy the finished shards of a stage to a folder that DVC tracks, and return DVC's hash of it.

    Without ``stage`` it is the one that the run's recipe publishes. Of a run with gates only the rows that pass all of
    them are copied, and ``tell`` is called with a line on how many did not. ``origin.json`` there says which run,
    parameters and commit it was made by. What an earlier version left there is removed. Raises ``DataError`` for a run
    that isn't finished or of which no row passes, and ``UserError``.
    """
    run = load_run(output)
    stage = stage or recipe_of(run).published
    if stage not in run.stages:
        raise DataError(f"{output} has no stage {stage!r}{near_matches(stage, run.stages)}")
    needed = {stage, run.stages[-1]} if run.params.gates else {stage}
    for shard in run.shards:
        for name in needed:
            run.require_receipt(name, shard, f"`edit-dataset run {run.source} {output}` finishes it")
    passing = Passing.of(run) if run.params.gates else None
    _clear(Path(destination))
    for shard in run.shards:
        if passing is None:
            _copy(run.shard(stage, shard), f"{destination}/{shard}")
        else:
            passing.copy(stage, shard, f"{destination}/{shard}")
    origin = {**_origin(run, stage), **(passing.summary if passing else {})}
    write_bytes(f"{destination}/{ORIGIN}", (json.dumps(origin, indent=1) + "\n").encode())
    if passing:
        tell(passing.said)
    return add_output(destination, push)


def _clear(folder: Path) -> None:
    """Empty a folder that was published before; raises ``DataError`` for one with something else in it."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ORIGIN).is_file():
        raise DataError(f"{folder} is not empty and was not published: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()


def _copy(shard: str, target: str) -> None:
    """Copy a shard and then its receipt."""
    fs, path = open_fs(shard)
    fs.get_file(path, target)
    fs.get_file(receipt_path(path), receipt_path(target))


def _origin(run: Run, stage: str) -> dict[str, object]:
    return {
        "run": hide(run.output),
        "recipe": run.recipe,
        "stage": stage,
        "source": hide(run.source),
        "commit": git_sha(),
        "params": run.params.model_dump(mode="json"),
        "identities": run.identities,
    }
