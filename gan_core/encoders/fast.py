"""The ``fast`` mode of encoders: batch normalisation folded in, channels last, bfloat16 where the device has it."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gan_core.encoders.base import Encoder
from gan_core.precision import compute_dtype

EXACT = ("z", "style.")
"""Parameters that stay float32: Style Transformer computes its queries from them, once for all images."""
TOLERANCE = 0.03
"""Allowed difference of codes from ``exact``: RMS error divided by the RMS of the codes' offsets from the average."""


def prepare_fast(encoder: Encoder) -> Encoder:
    """Convert an encoder in place for inference: about twice as fast, with codes within ``TOLERANCE``.

    Codes and the average latent stay float32; on a device without bfloat16 everything does. The conversion can't be
    undone, and the encoder can't be trained.
    """
    encoder.eval().requires_grad_(False)
    for module in list(encoder.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
    kept = {name: tensor.detach().clone() for name, tensor in encoder.named_parameters() if name.startswith(EXACT)}
    average = encoder.latent_avg.clone()
    encoder.input_dtype = compute_dtype("fast")
    encoder.to(dtype=encoder.input_dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, tensor in kept.items():
        parent, _, own = name.rpartition(".")
        setattr(encoder.get_submodule(parent), own, nn.Parameter(tensor, requires_grad=False))
    encoder.latent_avg = average
    return encoder


def _fold(layers: nn.Sequential) -> None:
    """Fold each batch normalisation into the convolution before it."""
    for i in range(len(layers) - 1):
        conv, norm = layers[i], layers[i + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i], layers[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
