"""Trials of ``benchmarks.faults``: each breaks something and checks a promise; what it raises is a failure."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.fault_bench import CHOSEN, Bench, bounded, hashes, is_short
from benchmarks.hostile_files import mutate
from benchmarks.reading_trials import checkpoints, datasets, directions, landmarks, names, parameters, pictures, records
from flows.inspection import describe

PATIENCE_S = 600
WORKERS = 2
LOADING_S = 60.0
"""A child that only just begins loads torch and Prefect before it sees that its parent is gone, 24 s at a load of 8;
one that is at work sees it at once."""


def run_folders(bench: Bench, places: random.Random) -> None:
    """A finished run with a file damaged, removed or replaced by a folder: mended or refused, nothing else touched."""
    with bench.room() as room:
        output = room / "run"
        shutil.copytree(bench.whole, output)
        (room / "other.parquet").write_bytes(b"not ours")
        path = places.choice(sorted(p for p in output.rglob("*") if p.is_file()))
        data = path.read_bytes()
        path.unlink()
        kind = places.choice(("mutate", "mutate", "mutate", "folder", "gone", "empty"))
        if kind == "folder":
            path.mkdir()
        elif kind != "gone":
            path.write_bytes(mutate(data, places) if kind == "mutate" else b"")
        where = f"{path.relative_to(output)} ({kind})"
        try:
            bounded(lambda: list(describe(str(output))))
            if bounded(lambda: bench.finish(output)):
                assert hashes(output) == bench.hashes, "other hashes than those of the undisturbed run"
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {str(error)[:200]}") from error
        assert (room / "other.parquet").read_bytes() == b"not ours", f"{where}: a file outside was changed"


def kills(bench: Bench, places: random.Random) -> None:
    """A run that is killed at any moment, also before its first file, is continued to the same hashes."""
    with bench.room() as room:
        process = bench.start(room / "run")
        time.sleep(places.uniform(0, 1.5 * bench.seconds + 5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        bench.finish(room / "run")
        assert hashes(room / "run") == bench.hashes, "other hashes than those of the undisturbed run"
        assert not (left := [str(p) for p in (room / "run").rglob("*.tmp")]), f"left behind: {left}"


def pairs(bench: Bench, places: random.Random) -> None:
    """Of two identical commands at once one ends well, and the other does or says in a line who is at work."""
    with bench.room() as room:
        first = bench.start(room / "run")
        time.sleep(places.choice((0, 0, 1.0, bench.seconds)))
        second = bench.start(room / "run")
        told = [process.communicate(timeout=PATIENCE_S)[1].strip() for process in (first, second)]
        codes = [first.returncode, second.returncode]
        assert 0 in codes, f"both died: {told[0][-200:]!r}, {told[1][-200:]!r}"
        refusals = [text for code, text in zip(codes, told, strict=True) if code]
        assert all(text.startswith("error: ") and is_short(text) for text in refusals), refusals
        assert hashes(room / "run") == bench.hashes, "other hashes than those of the undisturbed run"


def children(bench: Bench, places: random.Random) -> None:
    """The processes of a run with ``run.runner=processes`` end with it when it alone is killed."""
    with bench.room() as room:
        chosen = [f"--set={name}={json.dumps(value)}" for name, value in (CHOSEN | {"run.workers": WORKERS}).items()]
        command = [sys.executable, "-m", "flows.cli", "run", bench.source, str(room / "run")]
        command += [*chosen, "--set=run.runner=processes", f"--set=track.uri=sqlite:///{room}/mlflow.db"]
        log = (room / "log").open("w")
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while process.poll() is None and not _receipts(room) and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(places.uniform(0, 1))
            process.kill()
            process.wait()
            made = _receipts(room)
            deadline = time.monotonic() + LOADING_S
            while (alive := in_session(process.pid)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not alive, f"{len(alive)} processes go on without their parent"
            more = len(_receipts(room) - made)
            assert more <= WORKERS, f"{more} shards were made after the parent's end"
        finally:
            for pid in in_session(process.pid):
                os.kill(pid, signal.SIGKILL)


def _receipts(room: Path) -> set[Path]:
    return set(room.glob("run/*/*.receipt.json"))


def in_session(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, owner = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(owner) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


TRIALS: dict[str, tuple[Callable[[Bench, random.Random], None], int]] = {
    "parameter files": (parameters, 8),
    "checkpoints": (checkpoints, 8),
    "directions": (directions, 8),
    "pictures": (pictures, 20),
    "datasets": (datasets, 4),
    "landmarks": (landmarks, 8),
    "records": (records, 8),
    "names": (names, 8),
    "run folders": (run_folders, 2),
    "kills": (kills, 1),
    "pairs": (pairs, 1),
    "children": (children, 1),
}
"""By promise: a trial, and how many of it there are in a round."""
