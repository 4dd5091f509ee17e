"""The state of the runs in a folder: shards by state, rows by reason, what is not logged yet; retrying failed rows."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gan_core.errors import DataError, near_matches
from gan_core.runs.clearing import withdraw
from gan_core.runs.run import FINISHED_FILE, OUTDATED, PENDING, RUN_FILE, TRACKED, Run, load_run
from gan_core.runs.summary import describe_gates, find_summary
from gan_core.secrets import hide
from gan_core.storage.receipts import ABSENT, NO_RECEIPT
from gan_core.storage.shards import read_rows
from gan_core.storage.urls import base_name, exists, is_local, join_url, names_in, open_fs
from gan_core.wording import counted

DONE, WAITING, WRITING, AGAIN, DAMAGED = "finished", "waiting", "begun", "to be made again", "damaged"


@dataclass
class State:
    """A run's shards by stage and state, its rows by status and the stage that set it, and flags of ``ok`` rows."""

    run: Run
    shards: dict[str, Counter[str]] = field(default_factory=dict)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)

    @property
    def finished(self) -> bool:
        """Whether every shard has gone through every stage."""
        return all(counts[DONE] == len(self.run.shards) for counts in self.shards.values())


def find_runs(folder: str) -> list[str]:
    """Return the runs in ``folder``, at whatever depth, or itself; raises ``DataError`` if there are none."""
    fs, root = open_fs(folder)
    if is_local(folder):
        found = sorted(_below(root))
    else:
        found = sorted(path.rsplit("/", 1)[0] for path in fs.find(root) if base_name(path) == RUN_FILE)
    if not found:
        raise DataError(f"no run in {folder}: make one with `edit-dataset run SOURCE {join_url(folder, 'mine')}`")
    return [join_url(folder, path[len(root) :].lstrip("/")) if path != root else folder for path in found]


def _below(root: str) -> Iterator[str]:
    """Yield the folders with a run in a local folder; links are followed, each folder is looked at once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        if RUN_FILE in names:
            yield place


def read_state(output: str) -> State:
    """Look at every shard of a run; raises ``DataError`` if there is none."""
    run = load_run(output)
    state = State(run)
    for stage in run.stages:
        state.shards[stage] = Counter(_shard_state(run, stage, shard) for shard in run.shards)
    for shard in run.shards:
        if last := _last_finished(run, shard):
            state.rows.update(_statuses(run, last, shard))
            state.flags.update(run.require_receipt(last, shard).flags)
    return state


def describe_runs(folder: str) -> Iterator[str]:
    """Yield lines about all runs in ``folder``."""
    for output in find_runs(folder):
        try:
            state = read_state(output)
        except DataError as error:
            if output == folder:
                raise
            yield f"{output}: {error}"
            continue
        run, made = state.run, sum(counts[DONE] for counts in state.shards.values())
        whole = "finished" if state.finished else "not finished: run it again to go on"
        if state.finished and not exists(run.path(FINISHED_FILE)):
            whole = "all made, but for summary and report: run it again"
        of_all = f"{made} of {counted(len(run.shards) * len(run.stages), 'shard')}"
        yield f"{output}: {run.recipe} of {hide(run.source)}, {of_all}, {whole}"
        for stage, counts in state.shards.items():
            yield f"  {stage:8} {', '.join(f'{n} {name}' for name, n in sorted(counts.items()))}"
        yield f"  rows     {', '.join(_row_counts(state))}"
        yield from (f"  {line}" for line in describe_gates(find_summary(output)) if state.finished)
        if exists(run.path(PENDING)) or (state.finished and not exists(run.path(TRACKED))):
            yield f"  MLflow   not logged yet: `edit-dataset sync {output}`"


def find_failed(run: Run, reason: str) -> list[tuple[str, str]]:
    """Return the shards to make again, as (stage, shard), to retry the rows with this status.

    They are the shards that have such rows, from the stage that rejected them on. Raises ``DataError`` if no row has
    the status, and for ``ok``.
    """
    if reason == "ok":
        raise DataError("rows that are ok have not failed: name another status; `edit-dataset status` counts them")
    failed: list[tuple[str, str]] = []
    known: set[str] = set()
    for shard in run.shards:
        last = _last_finished(run, shard)
        found = _statuses(run, last, shard) if last else Counter()
        known |= {status for status, _ in found if status != "ok"}
        if stages := [stage for status, stage in found if status == reason]:
            first = min(run.stages.index(stage) if stage in run.stages else 0 for stage in stages)
            failed += [(stage, shard) for stage in run.stages[first:]]
    if not failed:
        raise DataError(f"no row of {run.output} is {reason!r}{near_matches(reason, known)}")
    return failed


def invalidate(run: Run, shards: Iterable[tuple[str, str]]) -> None:
    """Remove the receipts of shards, given as (stage, shard): the next run makes these again, and no others."""
    for stage, shard in shards:
        withdraw(run.output, stage, shard)


def _last_finished(run: Run, shard: str) -> str | None:
    return next((stage for stage in reversed(run.stages) if _shard_state(run, stage, shard) == DONE), None)


def _shard_state(run: Run, stage: str, shard: str) -> str:
    receipt, why = run.receipt(stage, shard)
    if receipt is not None:
        return DONE
    if why != ABSENT:
        return AGAIN if why in (NO_RECEIPT, OUTDATED) else DAMAGED
    return WRITING if any(name.startswith(f".{shard}") for name in names_in(run.path(stage))) else WAITING


def _statuses(run: Run, stage: str, shard: str) -> Counter[tuple[str, str]]:
    rows = (row for part in read_rows(run.shard(stage, shard), ["status", "stage"]) for row in part)
    return Counter((row["status"], row["stage"]) for row in rows)


def _row_counts(state: State) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for (status, stage), n in state.rows.items():
        counts["ok" if status == "ok" else f"{status} ({stage})"] += n
    flags = " and ".join(f"{n} {flag}" for flag, n in sorted(state.flags.items()))
    for name in sorted(counts, key=lambda name: (name != "ok", -counts[name], name)):
        yield f"{counts[name]} {name}" + (f" ({flags})" if name == "ok" and flags else "")
    if missing := sum(state.run.rows.values()) - counts.total():
        yield f"{missing} not begun"
