"""The two precision modes: ``exact`` (float32) and ``fast`` (bfloat16 convolutions, channels last)."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gan_core.params import Precision

DTYPES: dict[Precision, torch.dtype] = {"exact": torch.float32, "fast": torch.bfloat16}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MOST = 2**31 - 1


def set_precision(module: nn.Module, precision: Precision) -> None:
    """Set the type that every network inside ``module`` with a ``compute_dtype`` convolves in.

    Parameters stay float32; mapping, demodulation, images and metrics are float32 in both modes.
    """
    for part in module.modules():
        if hasattr(part, "compute_dtype"):
            setattr(part, "compute_dtype", DTYPES[precision])  # noqa: B010  (nn.Module types attributes as modules)


@contextmanager
def in_precision(module: nn.Module, precision: Precision) -> Iterator[None]:
    """Set the precision of ``module`` for the duration of a block, ``exact`` after it."""
    set_precision(module, precision)
    try:
        yield
    finally:
        set_precision(module, "exact")


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the life of the process (glibc only; elsewhere nothing happens).

    By default it returns every large activation to the system and gets the next one page by page: at 256 px on a CPU
    that takes a third of the time.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, MOST)
