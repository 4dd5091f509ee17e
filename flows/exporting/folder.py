"""Export the rows of a finished run into a folder of its own, part by part, with a ledger of what was left out."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any

from flows.exporting.formats import FORMATS, Format, Pairs, ParquetRows, Scores
from flows.exporting.pictures import Selection, choose_before, choose_pictures
from flows.passing import judge_rows
from gan_core.errors import DataError, near_matches
from gan_core.importers.metadata import EXPORT as ABOUT
from gan_core.recipes.base import recipe_of
from gan_core.report.dataset_card import describe_stage
from gan_core.runs.run import Run, folder_for, load_run
from gan_core.secrets import hide
from gan_core.storage.atomic import atomic_write, explain_os_errors, is_leftover, sweep_folder, write_bytes
from gan_core.storage.holding import hold_folder
from gan_core.storage.readme import README, column_types, remove_readme, write_card
from gan_core.storage.receipts import read_json
from gan_core.storage.shards import BASE_NAMES, read_rows
from gan_core.storage.urls import base_name
from gan_core.wording import counted
from tasks.versions import git_sha

LEDGER = "left_out.csv"
VERSION = 1
"""Raised when the same rows give other files."""
_PART = re.compile(r"shard-\d{5,}(\.tar|\.parquet|\.csv)?")
_PICTURE = re.compile(r"\d{6,}-[\w@+-]+\.\w+|metadata\.parquet")


def export(
    output: str,
    destination: str,
    form: str,
    stage: str = "",
    pictures: Sequence[str] = (),
    before: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the rows of a finished run that are ``ok``, pass its gates and were not rejected by hand.

    ``form`` is a name of ``FORMATS``. Without ``stage`` it is the one that the run's recipe publishes, and without
    ``pictures`` all of its pictures; pairs begin with the picture ``before``, or with the aligned one. ``left_out.csv``
    says of every other row why it isn't there. An export that was cut off goes on where it was; one of other rows is
    replaced. A part of another size than it was written with is made again. ``tell`` is called with a line on what was
    left out.
    Raises ``DataError`` for a run that isn't finished, for one of which no row passes, and for a folder with files of
    others.
    """
    chosen, writer = _select(load_run(output), form, stage, pictures, before), FORMATS[form]()
    destination = folder_for(chosen.run, destination)
    about = _describe(chosen, form)
    folder = Path(destination)
    with explain_os_errors(destination):
        _check_ours(folder)  # before the lock, which is written into the folder
    with hold_folder(destination):
        sizes = _claim(folder, about["key"])
        _write_about(folder, about | {"parts": sizes, "finished": False})
        parts = {writer.part(i): shard for i, shard in enumerate(chosen.run.shards) if chosen.passing.has(shard)}
        for part, shard in parts.items():
            if not _is_whole(folder, part, sizes):
                writer.write(chosen, shard, folder / part)
        missing = _write_ledger(folder, chosen)
        lacking = f"; missing: {counted(missing, 'picture')}" if missing else ""
        told = f"{chosen.passing.said}{lacking}"
        named = f" (`{LEDGER}` names them)" if chosen.passing.left_out or missing else ""
        text = [*describe_stage(chosen.run, chosen.stage), f"{told}{named}."]
        columns = _columns(folder, writer)
        write_card(folder, base_name(destination), text, columns, writer.data_files, about["key"])
        sizes = {part: _size(folder, part) for part in parts}
        _write_about(folder, about | {"parts": sizes, "finished": True})
    tell(told)


def _select(run: Run, form: str, stage: str, pictures: Sequence[str], before: str) -> Selection:
    """Check everything that is asked for; raises ``DataError``."""
    if form not in FORMATS:
        raise DataError(f"there is no format {form!r}{near_matches(form, FORMATS)}")
    given = {"--stage": stage, "--picture": pictures, "--before": before}
    if unused := [option for option, value in given.items() if value and option not in FORMATS[form].takes]:
        raise DataError(f"the format {form} has no use for {', '.join(unused)}: leave it out")
    stage = stage or recipe_of(run).published
    if stage not in run.stages:
        raise DataError(f"{run.output} has no stage {stage!r}{near_matches(stage, run.stages)}")
    for shard in run.shards:
        run.require_receipt(stage, shard)
    if FORMATS[form] is Scores:
        return Selection(judge_rows(run), stage, ())
    chosen = choose_pictures(run, stage, pictures)
    if FORMATS[form] is not Pairs:
        return Selection(judge_rows(run), stage, chosen)
    edits = tuple(picture for picture in chosen if picture.attribute)
    if not edits:
        raise DataError(f"the stage {stage} of {run.output} has no edits: pairs are made of these")
    return Selection(judge_rows(run), stage, edits, choose_before(run, stage, before or "aligned"))


def _describe(chosen: Selection, form: str) -> dict[str, Any]:
    """What ``export.json`` says; ``key`` is the same for the same files."""
    run = chosen.run
    stages = {chosen.stage, run.stages[-1], *([chosen.before.stage] if chosen.before else [])}
    said = {
        "format": form,
        "stage": chosen.stage,
        "pictures": [picture.column for picture in chosen.pictures],
        "before": chosen.before.column if chosen.before else "",
    }
    receipts = [run.require_receipt(stage, shard) for stage in sorted(stages) for shard in run.shards]
    made = [VERSION, said, [receipt.output_sha256 for receipt in receipts], chosen.passing.passed.tobytes().hex()]
    return {
        "key": sha256(json.dumps(made).encode()).hexdigest(),
        **said,
        "run": hide(run.output),
        "recipe": run.recipe,
        "source": hide(run.source),
        "commit": git_sha(),
        "rows": int(chosen.passing.passed.sum()),
        **chosen.passing.summary,
    }


def _claim(folder: Path, key: str) -> dict[str, int]:
    """Empty the folder of an export of other rows, or return the sizes in bytes of the parts of one of the same rows.

    Raises ``DataError`` if anything there is no export's.
    """
    about, found = _check_ours(folder)
    sweep_folder(folder, "" if found else ABOUT)
    for path in map(folder.joinpath, found):
        if path.is_dir():
            sweep_folder(path)
    if about.get("key") == key:
        return dict(about["parts"])
    if not found:
        return {}
    remove_readme(folder)
    for name in sorted(found - {ABOUT, README}):  # what says whose folder it is stays to the end
        _remove(folder / name)
    return {}


def _check_ours(folder: Path) -> tuple[dict[str, Any], set[str]]:
    """Return what the export in a folder says and the names there, nothing for a new one; changes nothing.

    Raises ``DataError`` if anything there is no export's. Before an export wrote ``export.json``, only temporary files
    of that are its own.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    found = {name for name in names if not is_leftover(name, "" if ABOUT in names else ABOUT)}
    if not found:
        return {}, found
    if ABOUT not in found:
        raise DataError(f"{folder} is not empty and holds no export: choose another folder")
    if foreign := next(_foreign(folder, found), None):
        raise DataError(f"{folder} has {foreign}, which no export wrote: move it away or choose another folder")
    try:
        about = read_json(folder / ABOUT)
        return about | {"key": about["key"], "parts": dict(about.get("parts", {}))}, found  # older ones say no parts
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{folder / ABOUT} is damaged ({error}): choose another folder") from None


def _foreign(folder: Path, found: set[str]) -> Iterator[str]:
    for name in sorted(found - {ABOUT, LEDGER, README}):
        path = folder / name
        if not _PART.fullmatch(name) or path.is_symlink():
            yield name
        elif path.is_dir():
            inner = (file for file in path.iterdir() if not is_leftover(file.name))
            yield from (f"{name}/{it.name}" for it in inner if not _PICTURE.fullmatch(it.name) or not it.is_file())


def _is_whole(folder: Path, part: str, sizes: dict[str, int]) -> bool:
    return (folder / part).is_file() and (part not in sizes or _size(folder, part) == sizes[part])


def _size(folder: Path, part: str) -> int:
    """Return the bytes of a part: of a file, or of all files in a folder of pictures."""
    path = folder / part
    files = [path] if path.parent == folder else path.parent.iterdir()
    return sum(file.stat().st_size for file in files)


def _remove(path: Path) -> None:
    rmtree(path) if path.is_dir() else path.unlink()


def _write_about(folder: Path, about: dict[str, Any]) -> None:
    write_bytes(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())


def _write_ledger(folder: Path, chosen: Selection) -> int:
    """Write a line for each row and picture that isn't exported; return how many pictures of exported rows lack."""
    count = 0
    with atomic_write(folder / LEDGER) as file:
        file.write(_line("key", "status", "picture", "why"))
        for shard in chosen.run.shards:
            for line in _left_out(chosen, shard):
                file.write(_line(*line))
                count += bool(line[2])
    return count


def _left_out(chosen: Selection, shard: str) -> Iterator[tuple[str, str, str, str]]:
    passed = chosen.passing.of(shard)
    keys: list[str] = []
    for rows in read_rows(chosen.run.shard(chosen.run.stages[-1], shard), list(BASE_NAMES)):
        for row in rows:
            position = len(keys)
            keys.append(row["key"])
            if row["status"] != "ok":
                yield row["key"], row["status"], "", row["reason"] or ""
            elif not passed[position]:
                yield row["key"], "ok", "", chosen.passing.why_not(shard, position)
    for position, column in chosen.missing(shard):
        yield keys[position], "ok", column, "the row has no such picture"


def _line(*cells: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _columns(folder: Path, writer: Format) -> dict[str, str]:
    """The columns of what was written, for the card."""
    if not isinstance(writer, ParquetRows):
        return dict(writer.columns)
    return column_types(str(min(folder.glob(writer.data_files))))
