"""The two precision modes: ``exact`` (float32) and ``fast`` (bfloat16 convolutions, channels last)."""

import ctypes
import sys

import torch
from torch import nn

from gan_core.sections import Precision

DTYPES: dict[Precision, torch.dtype] = {"exact": torch.float32, "fast": torch.bfloat16}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Option numbers of ``mallopt`` in glibc's ``malloc.h``."""
MOST = 2**31 - 1
"""The largest C ``int``: freed memory is never returned to the system."""


def set_precision(module: nn.Module, precision: Precision) -> None:
    """Set ``compute_dtype``, the type of the convolutions, in every part of ``module`` that has one.

    Parameters, mapping, demodulation, images and metrics are float32 in both modes.
    """
    for part in module.modules():
        if hasattr(part, "compute_dtype"):
            setattr(part, "compute_dtype", DTYPES[precision])  # noqa: B010  (nn.Module types attributes as modules)


def keep_freed_memory() -> None:
    """Make the C library keep freed memory until the process ends (glibc only; elsewhere this does nothing).

    By default glibc returns every large activation to the system and faults the next one in page by page. At 256 px on
    a CPU this takes a third of the time.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, MOST)


def prepare_worker() -> None:
    """Set up this thread and process to run stages: one torch thread, and freed memory is kept.

    One thread keeps results independent of the number of workers; kept memory makes encoding and editing at 64 px a
    sixth faster.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
