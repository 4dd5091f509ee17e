"""The two precision modes: ``exact`` (float32) and ``fast`` (bfloat16 convolutions where the device has them)."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Literal

import torch
from torch import nn

from gan_core.device import CPU, computing, has_bfloat16
from gan_core.sections import Precision

UpForm = Literal["depthwise", "grouped", "folded"]
EXACT_UP_FORM: UpForm = "depthwise"
"""The form of up-sampling in ``exact``, on every device."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Option numbers of ``mallopt`` in glibc's ``malloc.h``."""
MOST = 2**31 - 1
"""The largest C ``int``: freed memory is never returned to the system."""


def compute_dtype(precision: Precision) -> torch.dtype:
    """Return the type of the convolutions: bfloat16 for ``fast`` if the device supports it, else float32."""
    return torch.bfloat16 if precision == "fast" and has_bfloat16() else torch.float32


@cache
def up_form(kind: str) -> UpForm:
    """Return how ``fast`` up-samples on this kind of device, a key of ``generators.layers.UP_FORMS``.

    What the processor can do decides, and no clock, so that a machine always gives the same results. On a CPU with AMX
    oneDNN has no fast kernel for a depthwise convolution in bfloat16. Cards have none for channels-last either; that
    the folded form is best there has not been measured (``python -m benchmarks.gpu`` prints all).
    """
    if kind == CPU:
        return "grouped" if torch.cpu._is_amx_tile_supported() else "depthwise"
    return "folded" if kind == "cuda" else "depthwise"


def autocast(fast: bool) -> AbstractContextManager[None]:
    """Run matrix products and convolutions in bfloat16 if ``fast`` is set and the device supports it."""
    return torch.autocast(computing().kind, torch.bfloat16) if fast and has_bfloat16() else nullcontext()


def without_autocast() -> AbstractContextManager[None]:
    """Compute as outside of ``autocast`` inside of it."""
    kind = computing().kind
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def set_precision(module: nn.Module, precision: Precision) -> None:
    """Set ``compute_dtype``, the type of the convolutions, in every part of ``module`` that has one.

    Parameters, mapping, demodulation, images and metrics are float32 in both modes.
    """
    for part in module.modules():
        if hasattr(part, "compute_dtype"):
            setattr(part, "compute_dtype", compute_dtype(precision))  # noqa: B010  (nn.Module types attributes as modules)


@contextmanager
def in_precision(module: nn.Module, precision: Precision) -> Iterator[None]:
    """Set the precision of ``module`` for the duration of a block, ``exact`` after it."""
    set_precision(module, precision)
    try:
        yield
    finally:
        set_precision(module, "exact")


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
    """Prepare this thread and process for stages: use one torch thread and keep freed memory.

    With one thread results don't depend on the number of workers. Keeping freed memory makes encoding and editing at
    64 px a sixth faster.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
