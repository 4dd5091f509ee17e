"""The ``fast`` mode of encoders: normalisation folded into the convolutions, channels last, bfloat16 if possible."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gan_core.encoders.base import Encoder
from gan_core.precision import compute_dtype

EXACT = ("z", "style.")
"""What Style Transformer's queries come from stays float32: they are the same for all images."""
TOLERANCE = 0.03
"""What a code may differ by from ``exact``: root mean square, as a share of that of the codes' offsets."""


def prepare_fast(encoder: Encoder) -> Encoder:
    """Turn an encoder, in place, into one that is only for use: about twice as fast, within ``TOLERANCE``.

    Codes and the average latent stay float32; on a CPU without bfloat16 everything does. There is no way back and no
    training.
    """
    encoder.eval().requires_grad_(False)
    for module in list(encoder.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
    kept = {name: tensor.clone() for name, tensor in encoder.named_parameters() if name.startswith(EXACT)}
    average = encoder.latent_avg.clone()
    encoder.input_dtype = compute_dtype("fast")
    encoder.to(dtype=encoder.input_dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, tensor in kept.items():
        encoder.get_parameter(name).data = tensor
    encoder.latent_avg = average
    return encoder


def _fold(layers: nn.Sequential) -> None:
    """Put each normalisation that follows a convolution into it."""
    for i in range(len(layers) - 1):
        conv, norm = layers[i], layers[i + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i], layers[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
