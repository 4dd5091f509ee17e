"""Layers whose weight is divided by its largest singular value, with the names of the two published layouts."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

EPS = 1e-6
Layer = TypeVar("Layer", bound=nn.Module)


def spectral_scale(weight: Tensor, u0: Tensor) -> Tensor:
    """Estimate the largest singular value, a scalar, of ``weight [O, ...]`` by one power iteration from ``u0 [1, O]``.

    Miyato et al. 2018, algorithm 1.
    """
    matrix = weight.flatten(1)
    v = F.normalize(u0 @ matrix, eps=EPS)
    u = F.normalize(v @ matrix.t(), eps=EPS)
    return (v @ matrix.t() @ u.t()).squeeze()


class _Powered(nn.Module):
    """Holds ``u0``, the start of each power iteration, and ``sv0``, the estimate that training logged."""

    u0: Tensor
    weight: Tensor

    def _add_buffers(self, outputs: int) -> None:
        self.register_buffer("u0", torch.randn(1, outputs))
        self.register_buffer("sv0", torch.ones(1))

    def normalised(self) -> Tensor:
        """Return the weight ``[O, ...]`` divided by its estimated largest singular value."""
        return self.weight / spectral_scale(self.weight, self.u0)


class PoweredLinear(_Powered, nn.Linear):
    """Linear layer with the spectral norm of ajbrock's BigGAN, for inference."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        nn.Linear.__init__(self, inputs, outputs, bias)
        self._add_buffers(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalised(), self.bias)


class PoweredConv(_Powered, nn.Conv2d):
    """Convolution of stride 1 that keeps the size, with the spectral norm of ajbrock's BigGAN, for inference."""

    def __init__(self, inputs: int, outputs: int, size: int, bias: bool = True) -> None:
        nn.Conv2d.__init__(self, inputs, outputs, size, padding=size // 2, bias=bias)
        self._add_buffers(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normalised(), self.bias, padding=self.padding)


def stored_norm(layer: Layer) -> Layer:
    """Divide a layer's weight by ``u' W v`` with stored vectors (``weight_orig``, ``weight_u``, ``weight_v``)."""
    layer = spectral_norm(layer, eps=1e-4)
    for hook in layer._forward_pre_hooks.values():
        hook.compute_weight(layer, do_power_iteration=True)  # type: ignore[attr-defined]
    return layer


def attend(x: Tensor, theta: Tensor, phi: Tensor, g: Tensor, o: nn.Module) -> Tensor:
    """Self-attention over positions (Zhang et al. 2019, eq. 1-2) for ``x [B, C, H, W]``; keys and values pooled by 2.

    ``theta`` and ``phi`` are ``[B, C', H, W]``, ``g`` is ``[B, C'', H, W]``, and ``o`` maps ``C''`` to ``C`` channels.
    """
    phi, g = F.max_pool2d(phi, 2), F.max_pool2d(g, 2)
    weights = torch.softmax(theta.flatten(2).transpose(1, 2) @ phi.flatten(2), dim=-1)
    return o((g.flatten(2) @ weights.transpose(1, 2)).view(len(x), -1, *x.shape[2:]))
