"""Building blocks of StyleGAN2 (Karras et al. 2020), with the parameter names of the rosinality layout."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.precision import EXACT_UP_FORM, up_form

SQRT2 = math.sqrt(2)
EPS = 1e-8
GROUP = 16
"""Channels of a group: oneDNN's own block of channels under AVX-512."""


def blur_kernel(gain: float = 1.0) -> Tensor:
    """Return the binomial kernel ``[4, 4]`` of StyleGAN2: the outer product of [1, 3, 3, 1], with sum ``gain``."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) * (gain / 64)


def upfirdn2d(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Insert zeros, pad (or crop, if negative), convolve with ``kernel [kh, kw]`` and keep every ``down``-th value.

    ``x [B, C, H, W]`` -> ``[B, C, (H up + p0 + p1 - kh) // down + 1, ...]`` (Karras et al. 2019, appendix).
    """
    batch, channels, height, width = x.shape
    if up > 1:
        grid = x.new_zeros(batch, channels, height, up, width, up)
        grid[:, :, :, 0, :, 0] = x
        x = grid.view(batch, channels, height * up, width * up)
    x = F.pad(x, (pad[0], pad[1], pad[0], pad[1]))
    weight = kernel.flip(0, 1).to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv2d(x, weight, stride=down, groups=channels)


def blur(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Low-pass filter every channel of ``x [B, C, H, W]`` with the symmetric ``kernel [4, 4]``."""
    weight = kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, weight, padding=padding, groups=x.shape[1])


def up_depthwise(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Up-sample ``x [B, C, H, W]`` by a transposed convolution, then filter every channel alone: ``[B, D, 2H, 2W]``.

    ``weight`` is ``[D, C, 3, 3]`` and ``kernel [4, 4]``.
    """
    up = F.conv_transpose2d(x, weight.to(x.dtype).transpose(0, 1), stride=2)
    return blur(up, kernel, padding=1)


def up_grouped(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Do the same, with the filter as a convolution of groups of channels, zero between different ones.

    Where a depthwise convolution in bfloat16 leaves oneDNN, at the price of two changes of layout and a slow loop, this
    one stays: it has ``GROUP`` times the products, which are a tenth of the network's.
    """
    up = F.conv_transpose2d(x, weight.to(x.dtype).transpose(0, 1), stride=2)
    channels = up.shape[1]
    group = math.gcd(channels, GROUP)
    filters = torch.eye(group, device=x.device)[:, :, None, None] * kernel
    return F.conv2d(up, filters.to(x.dtype).repeat(channels // group, 1, 1, 1), padding=1, groups=channels // group)


def up_folded(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Do the same by one transposed convolution, whose weights ``[O, I, 6, 6]`` have the filter in them.

    It has 1.6 times the products of a block of two layers, and nothing is written in between.
    """
    outputs, inputs = weight.shape[:2]
    taps = F.conv2d(weight.reshape(outputs * inputs, 1, *weight.shape[2:]), kernel[None, None], padding=3)
    filters = taps.view(outputs, inputs, *taps.shape[2:]).to(x.dtype)
    return F.conv_transpose2d(x, filters.transpose(0, 1), stride=2, padding=2)


UP_FORMS = {"depthwise": up_depthwise, "grouped": up_grouped, "folded": up_folded}
"""Ways to up-sample ``x [B, I, H, W]`` by a factor of 2 with ``weight [O, I, 3, 3]`` and ``kernel [4, 4]``.

They are equal within the rounding of bfloat16.
"""


class PixelNorm(nn.Module):
    """Scale every vector to unit root mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPS)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate; ``activate`` adds a leaky ReLU times sqrt 2."""

    def __init__(
        self, inputs: int, outputs: int, bias: float = 0.0, lr_mul: float = 1.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_mul))
        self.gain = lr_mul / math.sqrt(inputs)
        self.lr_mul = lr_mul
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.gain, self.bias * self.lr_mul)
        return F.leaky_relu(y, 0.2) * SQRT2 if self.activate else y


class Blur(nn.Module):
    """Holds the low-pass kernel under its name in published state dicts."""

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel(gain))


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style (Karras et al. 2020, eq. 1-3).

    It scales the input, applies one convolution to the whole batch, and the caller scales the output by
    ``demodulation``. Up-sampling is a transposed convolution of stride 2, followed by a blur; in bfloat16 its form is
    the one that suits the device.
    """

    def __init__(self, inputs: int, outputs: int, size: int, style_dim: int, up: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, size, size))
        self.modulation = EqualLinear(style_dim, inputs, bias=1.0)
        self.gain = 1 / math.sqrt(inputs * size * size)
        self.blur = Blur(gain=4.0) if up else None

    def demodulation(self, style: Tensor) -> Tensor:
        """Return the output scale ``[B, O]`` for ``style [B, I]``: the inverse norm of the modulated filters."""
        energy = (self.weight[0] * self.gain).square().sum((2, 3))
        return torch.rsqrt(F.linear(style.square(), energy) + EPS)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = x * style.to(x.dtype)[:, :, None, None]
        weight = self.weight[0] * self.gain
        if self.blur is None:
            return F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
        form = up_form(x.device.type) if x.dtype == torch.bfloat16 else EXACT_UP_FORM
        return UP_FORMS[form](x, weight, self.blur.kernel)


class NoiseInjection(nn.Module):
    """The learned strength of a layer's noise map."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class Bias(nn.Module):
    """The bias before an activation, under its name in published state dicts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU times sqrt 2."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style_dim, up)
        self.noise = NoiseInjection()
        self.activate = Bias(outputs)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None, clamp: float | None) -> Tensor:
        """Return ``[B, O, H', W']`` for ``x [B, I, H, W]``, ``style [B, I]`` and ``noise [B or 1, 1, H', W']`` or None.

        With ``clamp`` values are limited to ``[-clamp, clamp]``.
        """
        y = self.conv(x, style)
        scale = (self.conv.demodulation(style) * SQRT2).to(y.dtype)[:, :, None, None]
        offset = (self.activate.bias * SQRT2)[None, :, None, None]
        if noise is not None:
            offset = offset + self.noise.weight * SQRT2 * noise
        y = F.leaky_relu(torch.addcmul(offset.to(y.dtype), y, scale), 0.2, inplace=True)
        return y if clamp is None else y.clamp(-clamp, clamp)


class ToRGB(nn.Module):
    """1x1 modulated convolution to RGB, added to the up-sampled image of the layers before."""

    def __init__(self, inputs: int, style_dim: int, up: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, style_dim)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Blur(gain=4.0) if up else None

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None, clamp: float | None) -> Tensor:
        y = self.conv(x, style).float() + self.bias
        y = y if clamp is None else y.clamp(-clamp, clamp)
        if skip is None or self.upsample is None:
            return y
        return y + upfirdn2d(skip, self.upsample.kernel, up=2, pad=(2, 1))
