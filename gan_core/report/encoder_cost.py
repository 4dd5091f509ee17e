"""The cost of an encoder: its number of parameters, speed and memory."""

import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from gan_core.batching import one_thread
from gan_core.device import CPU, compute_on, computing, place, synchronise
from gan_core.loading import load_encoder, load_generator

ROWS, TIMES = 16, 7
STATUS = Path("/proc/self/status")


def encoder_cost(path: str, device: str = "cpu", generator: str = "") -> dict[str, float]:
    """Measure an encoder on a device, in its own process, so that only the encoder's memory is counted.

    One that draws needs the path of its ``generator``, whose memory and time then count too.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_here, path, device, generator).result()


def measure_here(path: str, device: str = "cpu", generator: str = "") -> dict[str, float]:
    """Load an encoder and time it on noise.

    ``parameters``; ``images_per_s`` (on the CPU of one core's own time, so that other work on the machine doesn't
    count; float32, batches of 16, median of 7 after a warm-up); ``peak_mb`` (most memory of the process, or of CUDA,
    beyond what it had before the encoder was loaded).
    """
    with compute_on(device):
        return _measure(path, generator)


def _measure(path: str, generator: str) -> dict[str, float]:
    before = _peak_mb()
    encoder = load_encoder(path, None).model
    if encoder.draws:
        encoder.attach(load_generator(generator).model)
    speed = images_per_second(encoder.encode, (3, *encoder.input_shape))
    return {
        "parameters": float(sum(p.numel() for p in encoder.parameters())),
        "images_per_s": speed,
        "peak_mb": _peak_mb() - before,
    }


def images_per_second(work: Callable[[Tensor], object], shape: tuple[int, int, int]) -> float:
    """Time ``work`` on noise ``[ROWS, *shape]``, on the CPU by the thread's own time."""
    clock = time.thread_time if computing().kind == CPU else time.perf_counter
    images = place(torch.rand(ROWS, *shape) * 2 - 1)
    seconds = []
    with one_thread(), torch.inference_mode():
        for _ in range(TIMES + 1):
            begin = clock()
            work(images)
            synchronise()
            seconds.append(clock() - begin)
    return ROWS / statistics.median(seconds[1:])


def _peak_mb() -> float:
    """Most memory so far; by ``getrusage`` it would include that of the process that started this one on Linux."""
    if computing().kind == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if STATUS.is_file():
        return float(STATUS.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
