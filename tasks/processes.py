"""The processes of a pool: they stop when their parent is asked to, and never outlive it."""

import ctypes
import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized

from gan_core.device import number_worker
from gan_core.stopping import share


def make_flag() -> ctypes.c_bool:
    """Return a flag in memory that the processes of a pool share with this one, which looks at it from now on."""
    flag: ctypes.c_bool = multiprocessing.get_context("spawn").RawValue(ctypes.c_bool, False)
    share(flag)
    return flag


def make_counter() -> "Synchronized[int]":
    """Return a number in memory that the processes of a pool share: how many of them have begun."""
    return multiprocessing.get_context("spawn").Value(ctypes.c_int, 0)


def prepare_process(flag: ctypes.c_bool, begun: "Synchronized[int]") -> None:
    """Tie a new process of a pool to its parent: Ctrl-C is the parent's matter, its end is this one's as well.

    Each process of the pool takes the next number, and with it the next card.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share(flag)
    with begun.get_lock():
        number_worker(begun.value)
        begun.value += 1
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
