"""Work of a stage that goes on beside its computing: rows are read and loaded ahead, stored and written behind."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Generic, Self, TypeVar

from gan_core.device import CPU
from gan_core.execution import RunParams

T = TypeVar("T")


def count_threads(run: RunParams, kind: str) -> int:
    """Return ``run.io_threads``; by default a worker's share of the cores that this process may use, at least one.

    Where networks compute on the CPU (``kind``) and workers keep all cores busy, it is none: threads would only take
    turns with the computing.
    """
    if run.io_threads is not None:
        return run.io_threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if kind == CPU and run.workers >= cores else max(1, cores // run.workers)


class Overlap(Generic[T]):
    """Threads for the work on rows, and one each that reads and writes batches of ``batch`` rows, while the block runs.

    At most so many batches are read ahead, and written behind, that all threads have a row: one where a batch has as
    many rows as there are threads. With 0 ``threads`` everything is done at once, in the thread that asks for it.
    """

    def __init__(self, threads: int, batch: int) -> None:
        self._rows, self._reader, self._writer = (_executor(n) for n in (threads, min(threads, 1), min(threads, 1)))
        self._depth = -(-threads // max(batch, 1))
        self._behind: deque[Future[Any]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for executor in (self._reader, self._rows, self._writer):
            executor.shutdown(cancel_futures=True)

    def submit(self, work: Callable[..., Any], *given: Any) -> Future[Any]:
        """Have ``work`` done in one of the threads for rows."""
        return self._rows.submit(work, *given)

    def ahead(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield what ``batches`` yields, which is advanced in a thread of its own, a bounded number of steps ahead."""
        waiting: deque[Future[T | None]] = deque()
        while True:
            while len(waiting) <= self._depth:
                waiting.append(self._reader.submit(next, batches, None))
            batch = waiting.popleft().result()
            if batch is None:
                return
            yield batch

    def behind(self, work: Callable[..., object], *given: Any) -> None:
        """Have ``work`` done in a thread that does one such call after the other; wait where too many are not done.

        Raises what an earlier call raised.
        """
        self._behind.append(self._writer.submit(work, *given))
        self._wait(self._depth)

    def finish(self) -> None:
        """Wait for all calls of ``behind``; raises what one of them raised."""
        self._wait(0)

    def _wait(self, left: int) -> None:
        while len(self._behind) > left:
            self._behind.popleft().result()


class _AtOnce(Executor):
    """Does all work in the thread that hands it in, before it goes on."""

    def submit(self, work: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*given, **named))
        except BaseException as error:  # whoever asks for the result gets it
            done.set_exception(error)
        return done


def _executor(threads: int) -> Executor:
    return ThreadPoolExecutor(threads) if threads else _AtOnce()
