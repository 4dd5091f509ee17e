"""A stage of a finished run as a dataset of its own, versioned by DVC."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.passing import passing_rows
from gan_core.errors import DataError, near_matches
from gan_core.recipes.base import recipe_of
from gan_core.report.dataset_card import describe_stage
from gan_core.runs.run import Run, folder_for, load_run
from gan_core.secrets import hide
from gan_core.storage.atomic import copy_file, explain_os_errors, is_leftover, remove, sweep_folder, write_bytes
from gan_core.storage.holding import hold_folder
from gan_core.storage.names import SHARD_END, check_shard_name
from gan_core.storage.readme import write_readme
from gan_core.storage.receipts import (
    hash_shards,
    read_json,
    read_receipt,
    receipt_path,
    valid_receipt,
    write_receipt,
)
from gan_core.storage.urls import base_name, hash_file
from gan_core.wording import counted
from tasks.versions import add_output, check_output, git_sha

ORIGIN = "origin.json"


def publish(
    output: str,
    destination: str,
    stage: str = "",
    push: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """Copy the finished shards of a stage to a folder that DVC tracks, and return DVC's hash of it.

    Without ``stage`` it is the one that the run's recipe publishes. Of a run with gates or marks only the rows are
    copied that pass all gates and that nobody has rejected; ``tell`` is called with a line on how many are not.
    ``origin.json`` there says which run, parameters and commit it was made by, and names the files. Those of an earlier
    version that are no longer made are removed; what no publish wrote stays. Raises ``DataError`` where the stage isn't
    finished or of which no row passes, for a folder with shards of others, and ``UserError``.
    """
    run = load_run(output)
    stage = stage or recipe_of(run).published
    if stage not in run.stages:
        raise DataError(f"{output} has no stage {stage!r}{near_matches(stage, run.stages)}")
    made = {shard: run.require_receipt(stage, shard) for shard in run.shards}
    passing = passing_rows(run)
    shards = [shard for shard in run.shards if passing is None or passing.has(shard)]
    files = [name for shard in shards for name in (shard, receipt_path(shard))]
    destination = folder_for(run, destination)
    check_output(destination, push)
    with explain_os_errors(destination):
        _claim(Path(destination), files)  # before the lock, which is written into the folder
    with hold_folder(destination):
        left = _claim(Path(destination), files)
        sweep_folder(destination, "" if Path(destination, ORIGIN).is_file() else ORIGIN)
        origin = {**_origin(run, stage), **(passing.told if passing else {})}
        _write_origin(destination, origin | {"files": sorted({*files, *left})})  # who is killed leaves no file unnamed
        for shard in shards:
            if passing:
                passing.copy(stage, shard, f"{destination}/{shard}")
            else:
                copy_file(run.shard(stage, shard), f"{destination}/{shard}")
                if hash_file(f"{destination}/{shard}") != made[shard].output_sha256:
                    raise DataError(f"{output} is being made anew meanwhile: publish it when that has ended")
                write_receipt(f"{destination}/{shard}", made[shard].model_copy(update={"statistics_sha256": None}))
        for name in left:
            remove(f"{destination}/{name}")
        told = passing.said if passing else counted(sum(run.rows.values()), "row")
        copied = [f"{destination}/{shard}" for shard in shards]
        content = hash_shards(receipt for shard in copied if (receipt := read_receipt(shard)))
        write_readme(destination, copied[0], base_name(destination), [*describe_stage(run, stage), told], content)
        _write_origin(destination, origin | {"files": files})
    if passing:
        tell(passing.said)
    return add_output(destination, push)


def _claim(folder: Path, files: list[str]) -> list[str]:
    """Return the files of an earlier publish that are not among ``files``, which may be written after this.

    Raises ``DataError`` if there is something of others that would be overwritten or read as a shard. Nothing is
    changed. Before a publish wrote ``origin.json``, only temporary files of that are its own.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    found = {name for name in names if not is_leftover(name, "" if ORIGIN in names else ORIGIN)}
    ours = published_files(folder) if found else set()
    in_the_way = sorted(name for name in found - ours if name in files or name.endswith(SHARD_END))
    if in_the_way:
        raise DataError(
            f"{folder} has {in_the_way[0]}, which no publish wrote ({len(in_the_way)} such files): "
            "move it away or choose another folder"
        )
    return sorted((ours & found) - {*files, ORIGIN})


def published_files(folder: Path) -> set[str]:
    """Return the names of the files that an earlier publish wrote into a folder; ``DataError`` if there was none."""
    try:
        origin = read_json(folder / ORIGIN)
        if not isinstance(origin, dict) or not {"run", "stage"} <= origin.keys():
            raise ValueError("no publish wrote it")
        named = origin.get("files")
        if named is None:  # version 0.1 named no files: its shards have receipts that match them
            named = list(_with_receipts(folder))
        return {ORIGIN, *(name for name in named if check_shard_name(name.removesuffix(receipt_path(""))))}
    except FileNotFoundError:
        raise DataError(f"{folder} is not empty and was not published: choose another folder") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / ORIGIN} is damaged ({error}): choose another folder") from None


def _with_receipts(folder: Path) -> Iterator[str]:
    for shard in folder.glob(f"*{SHARD_END}"):
        if valid_receipt(shard)[0]:
            yield from (shard.name, receipt_path(shard.name))


def _write_origin(folder: str, origin: dict[str, object]) -> None:
    write_bytes(f"{folder}/{ORIGIN}", (json.dumps(origin, indent=1) + "\n").encode())


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
