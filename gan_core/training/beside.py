"""Trainings beside each other on the CPU, each in a process of its own."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import torch

from gan_core.device import CPU, computing
from gan_core.errors import ParamsError


def in_processes(jobs: Sequence[Callable[[], object]], workers: int) -> None:
    """Do all ``jobs``, ``workers`` at a time, each in a forked process with one torch thread; return when all are done.

    Their results are lost, so they leave files. The processes end with this one. Raises ``ParamsError`` where another
    device than the CPU computes, and ``RuntimeError`` where a job failed, which has said why.
    """
    if computing().kind != CPU:
        raise ParamsError(f"{workers} workers need run.device cpu, not {computing().device}: leave --workers out")
    waiting, running = list(jobs), list[BaseProcess]()
    fork = multiprocessing.get_context("fork")
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(fork.Process(target=_work, args=(waiting.pop(0),), daemon=True))
            running[-1].start()
        wait([process.sentinel for process in running])
        for process in [process for process in running if not process.is_alive()]:
            running.remove(process)
            if process.exitcode:
                raise RuntimeError(f"a training ended with exit code {process.exitcode}")


def _work(job: Callable[[], object]) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    job()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
