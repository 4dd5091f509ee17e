"""A run over a dataset: its recipe, parameters and stages, the paths of its shards, and its ``run.json``."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fsspec.spec import AbstractFileSystem

from gan_core.errors import DataError, ParamsError
from gan_core.params import Params, check_stored_params
from gan_core.storage.atomic import write_bytes
from gan_core.storage.receipts import Receipt, require_receipt, valid_receipt
from gan_core.storage.urls import exists, join_url, open_fs, read_bytes

RUN_FILE = "run.json"
PENDING = "pending.json"
"""The file with what is still to be logged to MLflow."""
SOURCE = "source"
"""The name under which stages read the imported dataset."""


@dataclass(frozen=True)
class Run:
    """A checked run: these shards of ``source``, with ``rows`` rows each, go through these stages into ``output``.

    ``identities`` holds by stage what determines the results: parameters and the hashes of checkpoints. ``recipe`` is
    the name of its recipe (``gan_core.recipes``).
    """

    params: Params
    source: str
    output: str
    rows: dict[str, int]
    identities: dict[str, Any]
    recipe: str = "edit"

    @property
    def shards(self) -> tuple[str, ...]:
        """The file names of the shards, in order."""
        return tuple(self.rows)

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(self.identities)

    def path(self, *names: str) -> str:
        """Return the URL of a file or folder of the run."""
        return join_url(self.output, *names)

    def shard(self, stage: str, shard: str) -> str:
        """Return the URL of a shard after a stage, or of the source's shard for ``"source"``."""
        return join_url(self.source, shard) if stage == SOURCE else self.path(stage, shard)

    def stage_shards(self, stage: str) -> list[str]:
        """Return the URLs of all shards after a stage, in order."""
        return [self.shard(stage, shard) for shard in self.shards]

    def receipt(self, stage: str, shard: str) -> tuple[Receipt | None, str]:
        """Return the valid receipt of a shard after a stage, or None and the reason why there is none."""
        return valid_receipt(self.shard(stage, shard))

    def require_receipt(self, stage: str, shard: str, fix: str) -> Receipt:
        """Return the receipt of a finished shard; raises ``DataError`` that ends with ``fix`` if it isn't finished."""
        return require_receipt(self.shard(stage, shard), fix)


def check_changes(run: Run, update: bool = False) -> None:
    """Raise ``ParamsError`` if the output holds a run with other parameters or networks, unless ``update`` is given.

    A run of another recipe is never redone in place.
    """
    before = _read_run(run.output)
    if before is None:
        return
    if (recipe := _recipe_of(before)) != run.recipe:
        raise ParamsError(
            f"{run.output} holds a run of the recipe {recipe!r}, not {run.recipe!r}: choose another output folder"
        )
    changes = [] if update else list(_changes(before, describe_run(run)))
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
    write_bytes(run.path(RUN_FILE), (json.dumps(describe_run(run), indent=1) + "\n").encode())


def _remove_folder(fs: AbstractFileSystem, folder: str) -> None:
    try:
        fs.rm(folder, recursive=True)
    except OSError:  # S3 servers of other makers refuse to delete many objects at once
        for path in fs.find(folder):
            fs.rm_file(path)


def is_run(folder: str) -> bool:
    """Tell whether a folder holds a run."""
    return exists(join_url(folder, RUN_FILE))


def load_run(output: str) -> Run:
    """Return the run stored in ``output``; raises ``DataError`` if there is none."""
    run = _read_run(output)
    if run is None:
        raise DataError(f"no run in {output}: make one with `edit-dataset run SOURCE {output}`")
    params = check_stored_params(run["params"], output)
    return Run(params, run["source"], output, run["shards"], run["identities"], _recipe_of(run))


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dictionaries into one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


def check_folder(source: str, output: str) -> None:
    """Raise ``DataError`` if the output overlaps the source, is a file, or holds other files."""
    (fs, root), (_, taken) = open_fs(output), open_fs(source)
    if f"{root}/".startswith(f"{taken}/") or f"{taken}/".startswith(f"{root}/"):
        raise DataError(
            f"the output {output} and the source {source} overlap: choose a folder of its own for the output"
        )
    if fs.isfile(root):
        raise DataError(f"{output} is a file: choose a folder for the output")
    if fs.exists(root) and fs.ls(root) and not is_run(output):
        raise DataError(f"{output} is not empty and holds no run: choose another folder for the output")


def describe_run(run: Run) -> dict[str, Any]:
    """Return what ``run.json`` says about a run: its recipe, source, parameters, stages and shards."""
    return {
        "recipe": run.recipe,
        "source": run.source,
        "shards": run.rows,
        "params": run.params.model_dump(mode="json"),
        "identities": run.identities,
    }


def _recipe_of(run: dict[str, Any]) -> str:
    """The recipe of a stored run; those of version 0.1 do not name it, but their stages tell."""
    told: str | None = run.get("recipe")
    return told or next((name for name in ("compose", "translate") if name in run["identities"]), "edit")


def _read_run(output: str) -> dict[str, Any] | None:
    try:
        run: dict[str, Any] = json.loads(read_bytes(join_url(output, RUN_FILE)))
    except FileNotFoundError:
        return None
    except ValueError:
        raise DataError(
            f"{join_url(output, RUN_FILE)} is damaged: delete it to start over, or choose another folder"
        ) from None
    return run


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
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
