"""A run over a dataset: what it will do is checked as a whole before anything is written."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fsspec.spec import AbstractFileSystem

from gan_core.errors import DataError, ParamsError
from gan_core.params import Params, check_stored_params, load_params
from gan_core.storage.atomic import write_bytes
from gan_core.storage.shards import list_shards, open_shard
from gan_core.storage.urls import base_name, exists, join_url, open_fs, read_bytes

RUN_FILE = "run.json"
PENDING = "pending.json"
"""What waits to be logged to MLflow."""


@dataclass(frozen=True)
class Run:
    """A checked run: these shards of ``source``, with ``rows`` rows each, go through these stages into ``output``.

    ``identities`` is what decides the results, by stage: parameters and the hashes of checkpoints.
    """

    params: Params
    source: str
    output: str
    rows: dict[str, int]
    identities: dict[str, Any]

    @property
    def shards(self) -> tuple[str, ...]:
        """The file names of the shards, in order."""
        return tuple(self.rows)

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(self.identities)


def plan_run(
    source: str,
    output: str,
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
    stages: Callable[[Params], tuple[str, ...]] | None = None,
) -> Run:
    """Check parameters, dataset, networks and output folder; nothing is written.

    ``stages`` names the stages of a flow other than ``edit-dataset``.

    Raises ``UserError`` for the first thing that is wrong, and unless ``update`` is given also when ``output`` holds a
    run with other parameters, networks or source.
    """
    params = load_params(params_file, overrides)
    rows = {base_name(shard): _count_rows(shard) for shard in list_shards(source)}
    check_folder(source, output)
    from gan_core.recipes.edit import build_stage, stage_names

    identities = {name: build_stage(name, params, source).identity() for name in (stages or stage_names)(params)}
    run = Run(params, source, output, rows, json.loads(json.dumps(identities)))
    check_changes(run, update)
    return run


def check_changes(run: Run, update: bool = False) -> None:
    """Raise ``ParamsError`` if the output holds a run with other parameters or networks, unless ``update`` is given."""
    changes = [] if update else list(_changes(run))
    if changes:
        raise ParamsError(
            f"{run.output} holds another run ({_few(changes)}): choose another output folder, or redo it with --update"
        )


def begin_run(run: Run) -> None:
    """Write ``run.json``, first removing shards and stages of an earlier run that this one no longer has."""
    fs, root = open_fs(run.output)
    earlier = _read_run(run.output) or describe_run(run)
    for stage in earlier["identities"]:
        folder = f"{root}/{stage}"
        if stage not in run.stages and fs.exists(folder):
            _remove_folder(fs, folder)
        for shard in earlier["shards"]:
            if shard not in run.shards:
                for path in fs.glob(f"{folder}/{shard}*"):
                    fs.rm_file(path)
    write_bytes(join_url(run.output, RUN_FILE), (json.dumps(describe_run(run), indent=1) + "\n").encode())


def _remove_folder(fs: AbstractFileSystem, folder: str) -> None:
    try:
        fs.rm(folder, recursive=True)
    except OSError:  # S3 servers of other makers refuse to delete many objects at once
        for path in fs.find(folder):
            fs.rm_file(path)


def load_run(output: str) -> Run:
    """Return the run that ``output`` was made by; raises ``DataError`` if there is none."""
    run = _read_run(output)
    if run is None:
        raise DataError(f"no run in {output}: make one with `edit-dataset run SOURCE {output}`")
    return Run(check_stored_params(run["params"], output), run["source"], output, run["shards"], run["identities"])


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dictionaries into one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


def _count_rows(shard: str) -> int:
    with open_shard(shard) as file:
        rows = int(file.metadata.num_rows)
    if not rows:
        raise DataError(f"{shard} has no rows: remove it or import the dataset again")
    return rows


def check_folder(source: str, output: str) -> None:
    """Raise ``DataError`` if the output overlaps the source, is a file, or is full of something else."""
    (fs, root), (_, taken) = open_fs(output), open_fs(source)
    if f"{root}/".startswith(f"{taken}/") or f"{taken}/".startswith(f"{root}/"):
        raise DataError(
            f"the output {output} and the source {source} overlap: choose a folder of its own for the output"
        )
    if fs.isfile(root):
        raise DataError(f"{output} is a file: choose a folder for the output")
    if fs.exists(root) and fs.ls(root) and not exists(join_url(output, RUN_FILE)):
        raise DataError(f"{output} is not empty and holds no run: choose another folder for the output")


def describe_run(run: Run) -> dict[str, Any]:
    """Return what ``run.json`` holds of a run: what it is made from and with."""
    return {
        "source": run.source,
        "shards": run.rows,
        "params": run.params.model_dump(mode="json"),
        "identities": run.identities,
    }


def _read_run(output: str) -> dict[str, Any] | None:
    try:
        run: dict[str, Any] = json.loads(read_bytes(join_url(output, RUN_FILE)))
    except FileNotFoundError:
        return None
    except ValueError:
        raise DataError(
            f"{join_url(output, RUN_FILE)} is damaged: delete it to start anew, or choose another folder"
        ) from None
    return run


def _changes(run: Run) -> Iterator[str]:
    before, after = _read_run(run.output), describe_run(run)
    if before is None:
        return
    if before["source"] != after["source"]:
        yield f"source: {before['source']} → {after['source']}"
    for shard in before["shards"]:
        if shard not in after["shards"]:
            yield f"{shard} is no longer in the source"
    old, new = flatten(before["identities"]), flatten(after["identities"])
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name}: {_short(old.get(name))} → {_short(new.get(name))}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else text[:12] + "…"


def _few(changes: list[str]) -> str:
    return "; ".join(changes[:5]) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
