"""Stop the work of this process between two batches, or two steps of tuning: what the first Ctrl-C asks for.

A run that is stopped keeps its finished shards; those in work are given up and leave nothing behind.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

STOPPED_EXIT_CODE = 130
"""What shells say of a program that was ended by Ctrl-C."""
FIRST = "stopping after the batches or steps in work; Ctrl-C again stops at once"
STOPPED = "stopped: finished shards are kept, run again to go on"


class Stopped(BaseException):
    """The work was asked to stop. Like ``KeyboardInterrupt`` it is no failure, so no ``except Exception`` takes it."""


_flag = ctypes.c_bool(False)
_stopped: set[str] = set()
_name: ContextVar[str] = ContextVar("name", default="")


def share(flag: ctypes.c_bool) -> None:
    """Look from now on at ``flag``, which lies in memory that several processes share."""
    global _flag
    flag.value = flag.value or _flag.value
    _flag = flag


def name_work(name: str) -> None:
    """Give what this context does from now on a name, by which it is stopped alone in a process that serves several."""
    _name.set(name)


def request_stop(name: str = "") -> None:
    """Ask all stages at work, in this process and those that share its flag, to stop after their batches or steps.

    With a name, only the work of that name in this process is asked.
    """
    if name:
        _stopped.add(name)
    else:
        _flag.value = True


def stop_requested(name: str = "") -> bool:
    """Tell whether the work of this context, or that of a name, was asked to stop."""
    return bool(_flag.value) or (name or _name.get()) in _stopped


def forget_stop(name: str = "") -> None:
    """Let the next work of this process go on, or with a name that of this name."""
    if name:
        _stopped.discard(name)
    else:
        _flag.value = False


def check_stop() -> None:
    """Raise ``Stopped`` if the work was asked to stop."""
    if stop_requested():
        raise Stopped(STOPPED)


@contextmanager
def stoppable(at_once: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let the first Ctrl-C in the block ask the work to stop, and say so on stderr; the second ends the process.

    ``at_once`` is called before that. Where signals can't be handled, outside of the main thread, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            at_once()
            os._exit(STOPPED_EXIT_CODE)
        asked = True
        request_stop()
        os.write(sys.stderr.fileno(), f"{FIRST}\n".encode())  # a print could meet one that it has interrupted

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        forget_stop()
