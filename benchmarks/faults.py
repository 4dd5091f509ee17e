"""Break what can break, at random, for some minutes, and count which promises held.

``python -m benchmarks.faults --seed 0 --minutes 20``, from the project's folder. A failure is printed with the seed
that repeats it: ``--only PROMISE --trial SEED``.
"""

import argparse
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from benchmarks.fault_bench import Bench
from benchmarks.fault_trials import PATIENCE_S, TRIALS
from benchmarks.harness import print_result, services

NEEDS_SERVER = "children"


def plan(seed: int, only: list[str]) -> Iterator[tuple[str, int]]:
    """Yield promises and the seeds of their trials for ever: each round has those of all, in random order."""
    order = random.Random(seed)
    while True:
        round_ = [name for name, (_, times) in TRIALS.items() if not only or name in only for _ in range(times)]
        order.shuffle(round_)
        yield from ((name, order.randrange(1 << 32)) for name in round_)


def attempt(bench: Bench, name: str, seed: int) -> str:
    """Make a trial and return what went wrong, nothing if the promise held."""
    signal.alarm(2 * PATIENCE_S if name == NEEDS_SERVER else PATIENCE_S)
    try:
        TRIALS[name][0](bench, random.Random(seed))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())[:300]
        return f"{type(error).__name__}: {said} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.alarm(0)
    return ""


def run_trials(bench: Bench, seed: int, minutes: float, only: list[str]) -> tuple[Counter[str], Counter[str]]:
    """Make trials until the time is over; return how many there were and how many failed, by promise."""
    trials, failures = Counter(dict.fromkeys(only or TRIALS, 0)), Counter(dict.fromkeys(only or TRIALS, 0))
    end = time.monotonic() + 60 * minutes
    for name, trial in plan(seed, only):
        if time.monotonic() > end:
            break
        trials[name] += 1
        if fault := attempt(bench, name, trial):
            failures[name] += 1
            print(f"FAILED {name} --trial {trial}: {fault}", flush=True)
    return trials, failures


def _time_out(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError("it hangs")


def main(arguments: list[str] | None = None) -> None:
    """Print trials and failures by promise, and the line ``RESULT``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", action="append", choices=list(TRIALS), default=[], help="may be repeated")
    parser.add_argument("--trial", type=int, help="make this one trial of the promise named by --only")
    options = parser.parse_args(arguments)
    if options.trial is not None and len(options.only) != 1:
        parser.error("--trial is one of the promise that --only names: give --only once")
    signal.signal(signal.SIGALRM, _time_out)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_services:
        if not options.only or NEEDS_SERVER in options.only:
            open_services.enter_context(services(folder))
        bench = Bench(Path(folder))
        if options.trial is not None:
            print(attempt(bench, options.only[0], options.trial) or "held")
            return
        trials, failures = run_trials(bench, options.seed, options.minutes, options.only)
    for name, count in trials.items():
        print(f"{name:16} {count:6} trials {failures[name]:6} failures")
    counts = {"trials": trials.total(), "failures": failures.total()}
    print_result(**counts, trials_by_promise=dict(trials), failures_by_promise=dict(failures))


if __name__ == "__main__":
    main()
