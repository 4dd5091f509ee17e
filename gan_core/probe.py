"""How many rows at once fit this machine: short trials of tuning, which needs most, each in a process of its own.

Memory that a process has freed stays with it, so only a fresh one shows what a batch takes.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gan_core.align.framing import framing_of
from gan_core.capture import WARM_UPS
from gan_core.device import compute_on, computing, fetch, workers_a_card
from gan_core.params import Params
from gan_core.rows import Row
from gan_core.runs.run import RUN_FILE, load_run
from gan_core.runs.steps import is_out_of_memory
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.urls import exists, join_url
from gan_core.wording import counted

SIZES = (2, 4, 8, 16)
SHARE = 0.8
"""Of the memory that is available, for all workers together."""
GAIN = 1.1
"""A larger batch has to be this much faster, row by row."""
NO_MEMORY = 75
"""The exit code of a trial that ran out of the memory of a card; without a card the system kills it."""
PICTURES_BYTES = 1 << 27
"""What one column of pictures of a batch may take, decoded."""


@dataclass(frozen=True)
class Trial:
    """One step of tuning for ``rows`` rows: the seconds it took, and the highest resident memory of its process."""

    rows: int
    seconds: float
    peak_mb: float

    def __str__(self) -> str:
        a_row = self.seconds / self.rows
        return f"tuning {counted(self.rows, 'row')} together: {a_row:.2f} s a row and step, {self.peak_mb:.0f} MB"


def probe_settings(params: Params, output: str, tell: Callable[[str], None]) -> dict[str, int]:
    """Settings ``run.batch_size`` and ``tune.batch_size``: those of the run in ``output``, else what trials show.

    The largest batch of tuning is taken that fits and is faster than the one before; ``tell`` gets a line a trial.
    """
    if exists(join_url(output, RUN_FILE)):
        params = load_run(output).params
        return {"run.batch_size": params.run.batch_size, "tune.batch_size": params.tune.batch_size}
    rows = min(params.run.batch_size, max(1, PICTURES_BYTES // (12 * framing_of(params).aligned ** 2)))
    settings = {"run.batch_size": rows}
    if params.tune.enabled:
        settings["tune.batch_size"] = choose_rows(lambda rows: try_tuning(params, rows), _limit_mb(params), tell)
    tell(", ".join(f"{name} {value}" for name, value in settings.items()))
    return settings


def choose_rows(attempt: Callable[[int], Trial | None], limit_mb: float, tell: Callable[[str], None]) -> int:
    """Try 2, 4, ... rows while they fit and pay; ``attempt`` gives None where the process was killed. At least 1."""
    good: list[Trial] = []
    for rows in SIZES:
        if good and _expected_mb(good) > limit_mb:
            break
        trial = attempt(rows)
        tell(str(trial) if trial else f"tuning {counted(rows, 'row')} together: killed for its memory")
        if trial is None or trial.peak_mb > limit_mb:
            break
        if good and GAIN * trial.seconds / rows > good[-1].seconds / good[-1].rows:
            break
        good.append(trial)
    return good[-1].rows if good else 1


def try_tuning(params: Params, rows: int) -> Trial | None:
    """Do one trial in a process of its own; None if that was killed. What it prints as an error passes through."""
    command = [sys.executable, "-m", "gan_core.probe", str(rows)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, input=params.model_dump_json(), stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode < 0 or done.returncode == NO_MEMORY:
        return None
    done.check_returncode()
    seconds, peak = done.stdout.split()[-2:]
    return Trial(rows, float(seconds), float(peak))


def peak_mb() -> float:
    """The most memory of this process so far in MB: on a card what CUDA has reserved, else what is resident (Linux)."""
    if computing().kind == "cuda":
        return torch.cuda.max_memory_reserved(computing().device) / 2**20
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, "this needs Linux"
    return int(found[1]) / 1024


def available_mb() -> float:
    """Memory that new processes may take in MB: the card's, else the machine's or that of a container (Linux)."""
    if computing().kind == "cuda":
        return torch.cuda.mem_get_info(computing().device)[0] / 2**20
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found, "this needs Linux"
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(int(found[1]) / 1024, float("inf") if text == "max" else int(text) / 2**20)


def main() -> None:
    """Be the process of a trial: parameters as JSON on stdin, the number of rows as the argument."""
    from gan_core.stages.tune import TuneStage

    rows = int(sys.argv[1])
    params = Params.model_validate_json(sys.stdin.read())
    with compute_on(params.run.device):
        steps = 1 if computing().graphs is None else WARM_UPS  # then the one after them is recorded, with its memory
        tune = params.tune.model_copy(update={"steps": steps, "pivot_steps": 1, "persist": "delta"})
        stage = TuneStage(tune, params.models, frame=framing_of(params).frame)
        height, width = stage.frame.shape(stage.generator.size)
        latent = fetch(stage.generator.latent_avg.expand(stage.generator.n_latent, -1))
        made = [_row(key, (height, width, 3), latent) for key in range(rows)]
        begin = time.perf_counter()
        try:
            stage.process(made)
        except RuntimeError as error:
            sys.exit(NO_MEMORY if is_out_of_memory(error) else str(error))
        sys.stdout.write(f"{(time.perf_counter() - begin) / steps} {peak_mb()}\n")


def _row(key: int, shape: tuple[int, int, int], latent: np.ndarray) -> Row:
    pixels = np.random.default_rng(key).integers(0, 256, shape, dtype=np.uint8)
    return {"key": str(key), "image": image_value(encode_png(pixels), ""), "latent": latent}


def _limit_mb(params: Params) -> float:
    workers = params.run.workers
    if params.run.runner != "threads":
        workers = workers_a_card(params.run.device, workers)
    with compute_on(params.run.device):
        return SHARE * available_mb() / workers


def _expected_mb(good: list[Trial]) -> float:
    """What twice the last rows will take, by the last two trials or, after one, at worst."""
    last = good[-1]
    growth = last.peak_mb - good[-2].peak_mb if len(good) > 1 else last.peak_mb / 2
    return last.peak_mb + 2 * growth


if __name__ == "__main__":
    main()
