"""Everything that a card computes, in under 8 minutes: ``python -m benchmarks.gpu``.

It prints the card and what it reaches at best (a copy, a product in bfloat16), then for StyleGAN2, pSp, tuning (beside
the published loop), FID's features and the whole flow: images a second, the share of the floor, the most memory; and
runs the golden tests on the card. The floor is the time of all products at that best, and for generators of all
activations written and read once. Every number is printed when it is there, and ``RESULT`` has all at the end, also if
time runs out: each part has its own, and what it didn't reach is left out.

It needs PyTorch and the few packages that ``docs/machines.md`` names, and no network, no server and no checkpoint:
weights are random. Without a card it ends with exit code 2. ``--pretend`` runs every line at toy sizes on the tests'
pretended device.
"""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu_parts import TOY, Limits, Numbers, Sizes, parts
from benchmarks.harness import print_result
from gan_core import plain
from gan_core.device import compute_on, describe_device
from gan_core.errors import ParamsError
from gan_core.stopping import forget_stop, request_stop

WHOLE_S = 460.0
"""Under 8 minutes, with what Python takes to start."""


class TimeIsUp(Exception):
    """A part has used its time."""


@contextmanager
def at_most(allowed: float) -> Iterator[None]:
    """Raise ``TimeIsUp`` in the block after so many seconds; threads of a run stop between two batches."""

    def ring(number: int, frame: FrameType | None) -> None:
        request_stop()
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(allowed, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        forget_stop()


def collect(title: str, allowed: float, numbers: Callable[[], Numbers], results: dict[str, float]) -> None:
    """Print the numbers of a part as they come, and keep them; what goes wrong in it ends this part only."""
    begin = time.perf_counter()
    print(f"{title} (at most {allowed:.0f} s)", flush=True)
    try:
        with at_most(allowed):
            for name, value in numbers():
                results[name] = value
                print(f"  {name:44} {value:12.5g}   after {time.perf_counter() - begin:.1f} s", flush=True)
    except TimeIsUp:
        results[f"{title} cut short"] = 1.0
        print(f"  cut short after {allowed:.0f} s", flush=True)
    except Exception:
        results[f"{title} failed"] = 1.0
        traceback.print_exc(limit=6, file=sys.stdout)


def measure(sizes: Sizes, whole: float) -> dict[str, float]:
    """Measure all parts within so many seconds; the first is what the card reaches at best, which others need."""
    results: dict[str, float] = {}
    found: list[Limits] = []

    def limits() -> Numbers:
        found.append(Limits.measured(sizes))
        yield "copy_tb_per_s", found[0].copy / 1e12
        yield "bf16_tflop_per_s", found[0].product / 1e12

    begin = time.perf_counter()
    collect("limits", 60.0 * sizes.patience, limits, results)
    for title, allowed, part in parts(sizes) if found else []:
        left = whole - (time.perf_counter() - begin)
        collect(title, min(allowed * sizes.patience, left), lambda part=part: part(sizes, found[0]), results)  # type: ignore[misc]
    return results


def pretend(stack: ExitStack) -> str:
    """Make the pretended device usable in this thread and in those of runs, and for tests; return its name."""
    from tests.device.fakegpu import NAME, fakegpu

    def set_up(*given: Any, real: Callable[..., None] = plain._set_up) -> None:
        fakegpu().__enter__()
        real(*given)

    stack.enter_context(fakegpu())
    stack.enter_context(mock.patch.object(plain, "_set_up", set_up))
    stack.enter_context(mock.patch.dict("os.environ", PRETENDED_DEVICE="1"))
    return NAME


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=WHOLE_S, help="for all parts together")
    parser.add_argument("--pretend", action="store_true", help="run all of it at toy sizes on a pretended device")
    options = parser.parse_args()
    with ExitStack() as stack:
        if options.pretend:
            options.device = pretend(stack)
        try:
            print(describe_device(options.device), f"torch {torch.__version__}", sep=", ", flush=True)
            stack.enter_context(compute_on(options.device))
        except ParamsError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        print_result(**measure(TOY if options.pretend else Sizes(), options.seconds))


if __name__ == "__main__":
    main()
