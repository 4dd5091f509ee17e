"""The cost of an encoder: its number of parameters, speed and memory."""

import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from gan_core.batching import one_thread
from gan_core.loading import load_encoder

ROWS, TIMES = 16, 7
STATUS = Path("/proc/self/status")


def encoder_cost(path: str) -> dict[str, float]:
    """Measure an encoder in its own process, so that only the encoder's memory is counted."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_here, path).result()


def measure_here(path: str) -> dict[str, float]:
    """Load an encoder and time it on noise.

    ``parameters``; ``images_per_s`` (of one core's own time, so that other work on the machine doesn't count; float32,
    batches of 16, median of 7 after a warm-up); ``peak_mb`` (most memory of the process beyond what it had before the
    encoder was loaded).
    """
    before = _peak_mb()
    encoder = load_encoder(path, None).model
    images = torch.rand(ROWS, 3, *encoder.input_shape) * 2 - 1
    seconds = []
    with one_thread(), torch.inference_mode():
        for _ in range(TIMES + 1):
            begin = time.thread_time()
            encoder.encode(images)
            seconds.append(time.thread_time() - begin)
    return {
        "parameters": float(sum(p.numel() for p in encoder.parameters())),
        "images_per_s": ROWS / statistics.median(seconds[1:]),
        "peak_mb": _peak_mb() - before,
    }


def _peak_mb() -> float:
    """Most memory so far; by ``getrusage`` it would include that of the process that started this one on Linux."""
    if STATUS.is_file():
        return float(STATUS.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
