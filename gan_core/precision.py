"""The two precision modes: ``exact`` (float32) and ``fast`` (bfloat16 convolutions where the CPU has them)."""

import ctypes
import sys
from contextlib import AbstractContextManager

import torch
from torch import nn

from gan_core.params import Precision

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MOST = 2**31 - 1


def has_bfloat16() -> bool:
    """Tell whether this CPU convolves in bfloat16; one that doesn't emulates it, about 75 times slower than float32."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def compute_dtype(precision: Precision) -> torch.dtype:
    """Return the type to convolve in: bfloat16 for ``fast`` if the CPU has it, else float32."""
    return torch.bfloat16 if precision == "fast" and has_bfloat16() else torch.float32


def autocast(fast: bool) -> AbstractContextManager[None]:
    """Run matrix products and convolutions in bfloat16 if ``fast`` is wanted and the CPU has it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=fast and has_bfloat16())


def set_precision(module: nn.Module, precision: Precision) -> None:
    """Set the type that every network inside ``module`` with a ``compute_dtype`` convolves in.

    Parameters stay float32; mapping, demodulation, images and metrics are float32 in both modes.
    """
    for part in module.modules():
        if hasattr(part, "compute_dtype"):
            setattr(part, "compute_dtype", compute_dtype(precision))  # noqa: B010  (nn.Module types attributes as modules)


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
