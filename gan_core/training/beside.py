"""Trainings and measurements beside each other on the CPU, each in a process of its own."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar, cast

import torch

from gan_core.device import CPU, computing
from gan_core.errors import ParamsError

Result = TypeVar("Result")


def in_processes(jobs: Sequence[Callable[[], object]], workers: int) -> None:
    """Do all ``jobs`` as ``results_of`` does; their results are lost, so they leave files."""
    results_of([partial(_without_result, job) for job in jobs], workers)


def results_of(jobs: Sequence[Callable[[], Result]], workers: int) -> list[Result]:
    """Do all ``jobs``, ``workers`` at a time, each in a forked process with one torch thread; return their results.

    Results are pickled. The processes end with this one. Raises ``ParamsError`` where another device than the CPU
    computes, and ``RuntimeError`` where a job failed, which has said why.
    """
    if computing().kind != CPU:
        raise ParamsError(f"{workers} workers need run.device cpu, not {computing().device}: leave --workers out")
    fork = multiprocessing.get_context("fork")
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    results: dict[int, Result] = {}
    while len(results) < len(jobs):
        while len(running) < workers and (number := len(results) + len(running)) < len(jobs):
            receiver, sender = fork.Pipe(duplex=False)
            child = fork.Process(target=_work, args=(jobs[number], sender), daemon=True)
            child.start()
            sender.close()  # the child has the only other one: if it ends without a result, receiving fails
            running[receiver] = number, child
        for receiver in cast(list[Connection], wait(list(running))):
            number, process = running.pop(receiver)
            try:
                results[number] = receiver.recv()
            except EOFError:
                process.join()
                raise RuntimeError(f"job {number + 1} of {len(jobs)} failed: exit code {process.exitcode}") from None
            process.join()
    return [results[number] for number in range(len(jobs))]


def _without_result(job: Callable[[], object]) -> None:
    job()


def _work(job: Callable[[], object], sender: Connection) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    sender.send(job())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
