"""The two precision modes: ``exact`` (float32) and ``fast`` (bfloat16 convolutions, channels last)."""

import torch
from torch import nn

from gan_core.params import Precision

DTYPES: dict[Precision, torch.dtype] = {"exact": torch.float32, "fast": torch.bfloat16}


def set_precision(module: nn.Module, precision: Precision) -> None:
    """Set the type that every network inside ``module`` with a ``compute_dtype`` convolves in.

    Parameters stay float32; mapping, demodulation, images and metrics are float32 in both modes.
    """
    for part in module.modules():
        if hasattr(part, "compute_dtype"):
            part.compute_dtype = DTYPES[precision]
