"""What became of the runs in a folder: shards by state, rows by reason, what waits; and trying failed rows again."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from gan_core.errors import DataError, near_matches
from gan_core.recipes.edit import STAGES
from gan_core.runs.run import PENDING, RUN_FILE, Run, load_run
from gan_core.storage.atomic import remove
from gan_core.storage.receipts import ABSENT, receipt_path, require_receipt, valid_receipt
from gan_core.storage.shards import read_rows
from gan_core.storage.urls import base_name, exists, join_url, open_fs

DONE, WAITING, WRITING, DAMAGED = "finished", "waiting", "begun", "damaged"


@dataclass
class State:
    """A run's shards by stage and state, its rows by status with the stage that said so, and flags of ``ok`` rows."""

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
    found = sorted(path.rsplit("/", 1)[0] for path in fs.glob(f"{root}/**/{RUN_FILE}"))
    if not found:
        raise DataError(f"no run in {folder}: make one with `edit-dataset run SOURCE {join_url(folder, 'mine')}`")
    return [join_url(folder, path[len(root) :].lstrip("/")) if path != root else folder for path in found]


def read_state(output: str) -> State:
    """Look at every shard of a run; raises ``DataError`` if there is none."""
    state = State(load_run(output))
    for stage in state.run.stages:
        state.shards[stage] = Counter(_shard_state(output, stage, shard) for shard in state.run.shards)
    for shard in state.run.shards:
        last = next((s for s in reversed(state.run.stages) if _shard_state(output, s, shard) == DONE), None)
        if last is not None:
            state.rows.update(_statuses(output, last, shard))
            state.flags.update(require_receipt(join_url(output, last, shard), "run it again").flags)
    return state


def describe_runs(folder: str) -> Iterator[str]:
    """Yield lines about all runs in ``folder``."""
    for output in find_runs(folder):
        state = read_state(output)
        run, made = state.run, sum(counts[DONE] for counts in state.shards.values())
        whole = "finished" if state.finished else "not finished: run it again to go on"
        yield f"{output}: {run.source}, {made} of {len(run.shards) * len(run.stages)} shards, {whole}"
        for stage in (name for name in (*STAGES, *run.stages) if name in state.shards):
            if stage in state.shards and state.shards[stage].total():
                yield f"  {stage:8} {', '.join(f'{n} {name}' for name, n in sorted(state.shards.pop(stage).items()))}"
        yield f"  rows     {', '.join(_row_counts(state))}"
        if exists(join_url(output, PENDING)):
            yield f"  MLflow   not logged yet: `edit-dataset sync {output}`"


def withdraw(output: str, reason: str) -> list[str]:
    """Take back the receipts of the shards that have rows with this status, from the stage that said so on.

    The next run makes these shards again, and no others. Returns them as ``stage/shard``; raises ``DataError`` if no
    row has the status.
    """
    run, taken = load_run(output), []
    known: set[str] = set()
    for shard in run.shards:
        last = next((s for s in reversed(run.stages) if _shard_state(output, s, shard) == DONE), None)
        found = _statuses(output, last, shard) if last else Counter()
        known |= {status for status, _ in found if status != "ok"}
        stages = [stage for status, stage in found if status == reason]
        if stages:
            first = min(run.stages.index(stage) for stage in stages if stage in run.stages)
            for stage in run.stages[first:]:
                remove(receipt_path(join_url(output, stage, shard)))
                taken.append(f"{stage}/{shard}")
    if not taken:
        raise DataError(f"no row of {output} is {reason!r}{near_matches(reason, known)}")
    return taken


def _shard_state(output: str, stage: str, shard: str) -> str:
    url = join_url(output, stage, shard)
    receipt, why = valid_receipt(url)
    if receipt is not None:
        return DONE
    if why != ABSENT:
        return DAMAGED
    fs, path = open_fs(url)
    return WRITING if fs.glob(f"{path.rpartition('/')[0]}/.{base_name(shard)}*") else WAITING


def _statuses(output: str, stage: str, shard: str) -> Counter[tuple[str, str]]:
    rows = (row for part in read_rows(join_url(output, stage, shard), ["status", "stage"]) for row in part)
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
