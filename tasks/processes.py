"""The processes of a pool: they stop when their parent is asked to, and never outlive it."""

import ctypes
import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

from gan_core.runs.stopping import share


def make_flag() -> ctypes.c_bool:
    """Return a flag in memory that the processes of a pool share with this one, which looks at it from now on."""
    flag: ctypes.c_bool = multiprocessing.get_context("spawn").RawValue(ctypes.c_bool, False)
    share(flag)
    return flag


def prepare_process(flag: ctypes.c_bool) -> None:
    """Tie a new process of a pool to its parent: Ctrl-C is the parent's matter, its end is this one's as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share(flag)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
