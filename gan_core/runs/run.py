"""A run over a dataset: its recipe, parameters and stages, the paths of its shards, and its ``run.json``."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from gan_core.errors import DataError, ParamsError
from gan_core.params import Params, check_stored_params
from gan_core.runs.clearing import clear
from gan_core.secrets import hide
from gan_core.storage.atomic import is_leftover, write_bytes
from gan_core.storage.names import check_name, check_shard_name
from gan_core.storage.receipts import Receipt, read_json, read_receipt, valid_receipt
from gan_core.storage.urls import base_name, exists, is_inside, is_local, join_url, open_fs, store_place
from gan_core.wording import changed, counted

RUN_FILE = "run.json"
PENDING = "pending.json"
"""The file with what is still to be logged to MLflow."""
TRACKED = "tracking.json"
"""The file with what was logged last, and as which run."""
FINISHED_FILE = "finished.json"
"""The file that is written last of a run's own results, and only compared."""
SOURCE = "source"
"""The name under which stages read the imported dataset."""
OWN_COMMANDS = ("compose", "translate")
"""The recipes that have a command of their own."""
OUTDATED = "it was made with other parameters or networks"
"""The reason for making a shard again after an update that was cut off."""
ANEW = "choose another output folder, or move this one away"
Name = Annotated[str, AfterValidator(check_name)]
ShardName = Annotated[str, AfterValidator(check_shard_name)]


class StoredRun(BaseModel):
    """What ``run.json`` holds: names of shards and stages in it become paths, so that each is checked here."""

    model_config = ConfigDict(strict=True, frozen=True)

    source: str
    shards: dict[ShardName, Annotated[int, Field(ge=0)]]
    params: dict[str, Any]
    identities: dict[Name, dict[str, Any]]
    recipe: str = ""

    @model_validator(mode="after")
    def _find_recipe(self) -> Self:
        """Runs of version 0.1 do not name their recipe, but their stages tell."""
        told = next((name for name in ("compose", "translate") if name in self.identities), "edit")
        return self if self.recipe else self.model_copy(update={"recipe": told})


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
        """Return the valid receipt of a shard after a stage, or None and the reason why there is none.

        A shard of which the run's parameters or networks would make another one has none: its update was cut off.
        """
        receipt, why = valid_receipt(self.shard(stage, shard))
        return (None, OUTDATED) if receipt and not self._is_current(receipt, stage, shard) else (receipt, why)

    def require_receipt(self, stage: str, shard: str) -> Receipt:
        """Return the receipt of a finished shard; raises ``DataError`` if it isn't finished."""
        receipt, why = self.receipt(stage, shard)
        if receipt is None:
            raise DataError(f"can't use {self.shard(stage, shard)}, {why}: {self.finishing}")
        return receipt

    def _is_current(self, receipt: Receipt, stage: str, shard: str) -> bool:
        """Tell whether a shard was made as the run's identities say, from what the stages before have made so."""
        if stage not in self.identities:  # the source
            return True
        if receipt.identity != self.identities[stage]:
            return False
        earlier = self.stages[: self.stages.index(stage)]
        before = {name: read_receipt(self.shard(name, shard)) for name in receipt.input_keys if name in earlier}
        return all(
            found is None or (found.output_sha256 == receipt.input_keys[name] and self._is_current(found, name, shard))
            for name, found in before.items()
        )

    @property
    def finishing(self) -> str:
        """Say how the run is finished."""
        call = f"edit-dataset {self.command} {hide(self.source)} {hide(self.output)}"
        return f"`{call}` finishes it, with the options that it began with"

    @property
    def command(self) -> str:
        """The subcommand of `edit-dataset` that makes such runs."""
        return self.recipe if self.recipe in OWN_COMMANDS else "run"


def check_changes(run: Run, update: bool = False) -> None:
    """Raise ``ParamsError`` if the output holds a run with other parameters or networks, unless ``update`` is given.

    A run of another recipe is never redone in place.
    """
    before = _read_run(run.output)
    if before is None:
        return
    if before.recipe != run.recipe:
        raise ParamsError(
            f"{run.output} holds a run of the recipe {before.recipe[:80]!r}, not {run.recipe!r}: "
            "choose another output folder"
        )
    changes = [] if update else list(_changes(before, run))
    if changes:
        raise ParamsError(
            f"{run.output} holds another run ({_few(changes)}): choose another output folder, or redo it with "
            f"`edit-dataset {run.command} --update`"
        )


def begin_run(run: Run) -> None:
    """Write ``run.json``, first removing shards and stages of an earlier run that this one no longer has."""
    if (earlier := _read_run(run.output)) is not None:
        clear(run.output, earlier.identities, earlier.shards, run.identities, run.rows)
    write_bytes(run.path(RUN_FILE), (json.dumps(describe_run(run), indent=1) + "\n").encode())


def is_run(folder: str) -> bool:
    """Tell whether a folder holds a run."""
    return exists(join_url(folder, RUN_FILE))


def load_run(output: str) -> Run:
    """Return the run stored in ``output``; raises ``DataError`` if there is none."""
    run = _read_run(output)
    if run is None:
        raise DataError(f"no run in {output}: name the folder that `edit-dataset run SOURCE FOLDER` made")
    params = check_stored_params(run.params, output)
    return Run(params, run.source, output, run.shards, run.identities, run.recipe)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dictionaries into one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


def check_folder(source: str, output: str) -> None:
    """Raise ``DataError`` if the output overlaps the source, is a file, or holds other files."""
    fs, root = open_fs(output)
    if is_inside(output, source) or is_inside(source, output):
        raise DataError(
            f"the output {output} and the source {source} overlap: choose a folder of its own for the output"
        )
    if fs.isfile(root):
        raise DataError(f"{output} is a file: choose a folder for the output")
    if fs.isfile(f"{PurePosixPath(root).parent}/{RUN_FILE}"):
        raise DataError(f"{output} lies in another run: choose a folder outside of it")
    if fs.exists(root) and not is_run(output) and not all(is_leftover(base_name(p)) for p in fs.ls(root, detail=False)):
        raise DataError(f"{output} is not empty and holds no run: choose another folder for the output")


def folder_for(run: Run, destination: str) -> str:
    """Return the path of a folder that is to be made of a run; raises ``DataError`` if it isn't local or in the run.

    It may be given as ``file://`` or with ``~``. Others are returned as they are.
    """
    if not is_local(destination) or "::" in destination:
        raise DataError(f"{destination} is no local folder: choose one, and copy it to a bucket afterwards")
    for name, place in (("run", run.output), ("dataset", run.source)):
        if is_inside(destination, place):
            raise DataError(f"{destination} lies in the {name} {place}: choose a folder outside of it")
    return open_fs(destination)[1] if "://" in destination or destination.startswith("~") else destination


def describe_run(run: Run) -> dict[str, Any]:
    """Return what ``run.json`` says about a run: its recipe, source, parameters, stages and shards."""
    return {
        "recipe": run.recipe,
        "source": run.source,
        "shards": run.rows,
        "params": run.params.model_dump(mode="json"),
        "identities": run.identities,
    }


def _read_run(output: str) -> StoredRun | None:
    url = join_url(output, RUN_FILE)
    try:
        return StoredRun.model_validate(read_json(url))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in what["loc"])
        raise DataError(f"{url} is damaged ({place[:80]}: {what['msg'][:200]}): {ANEW}") from None
    except ValueError as error:
        raise DataError(f"{url} is damaged ({error}): {ANEW}") from None


def _changes(before: StoredRun, after: Run) -> Iterator[str]:
    if store_place(before.source) != store_place(after.source):
        yield f"source: {hide(before.source)} → {hide(after.source)}"
    for shard, rows in before.shards.items():
        if shard not in after.rows:
            yield f"{shard} is no longer in the source"
        elif after.rows[shard] < rows:
            yield f"{shard} had {counted(rows, 'row')}, and has {after.rows[shard]}"
    old, new = flatten(before.identities), flatten(after.identities)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name}: {changed(old.get(name), new.get(name))}"


def _few(changes: list[str]) -> str:
    return "; ".join(changes[:5]) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
