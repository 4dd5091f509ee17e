"""StyleGAN (Karras et al. 2019, "A Style-Based Generator Architecture"), as in-domain inversion and ALAE use it."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.generators.base import GENERATORS, Generator, Noise
from gan_core.generators.layers import EPS, EqualLinear, PixelNorm

SLOW = 0.01
"""Learning rate of the mapping network as a share of the others', which its stored weights are divided by."""
FUSED = 128
"""Side in pixels from which up-sampling and convolution are one transposed convolution."""
SMOOTH = 0.8
"""Share of ALAE's function that stands for noise."""
TRUNCATED, PSI = 8, 0.7
"""Truncation acts on this many latents, by this much, where random images are drawn."""


class Epilogue(nn.Module):
    """Noise, bias, leaky ReLU, instance normalisation, and the scale and shift of a style."""

    noise_map: Tensor

    def __init__(self, channels: int, style_dim: int, side: int) -> None:
        super().__init__()
        self.register_buffer("noise_map", torch.randn(1, 1, side, side))
        self.noise_weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style = EqualLinear(style_dim, 2 * channels)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | float | None) -> Tensor:
        if isinstance(noise, float):  # the deviation of ALAE's function
            x = x + SMOOTH * noise * torch.exp(-x.square() / (2 * noise**2)) / math.sqrt(2 * math.pi)
        elif noise is not None:
            x = x + noise * self.noise_weight[:, None, None]
        x = F.leaky_relu(x + self.bias[:, None, None], 0.2)
        x = x - x.mean((2, 3), keepdim=True)
        x = x / torch.sqrt(x.square().mean((2, 3), keepdim=True) + EPS)
        scale, shift = self.style(w)[:, :, None, None].chunk(2, 1)
        return x * (scale + 1) + shift


class Convolution(nn.Module):
    """An equalised 3x3 convolution; with ``up`` to twice the size and blurred."""

    def __init__(self, inputs: int, outputs: int, side: int, up: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.gain = math.sqrt(2 / (9 * inputs))
        self.up, self.fused = up, side >= FUSED

    def forward(self, x: Tensor) -> Tensor:
        if not self.up:
            return F.conv2d(x, self.weight, padding=1) * self.gain
        if self.fused:
            wide = F.pad(self.weight * self.gain, (1, 1, 1, 1))
            filters = wide[..., 1:, 1:] + wide[..., :-1, 1:] + wide[..., 1:, :-1] + wide[..., :-1, :-1]
            x = F.conv_transpose2d(x, filters.transpose(0, 1), stride=2, padding=1)
        else:
            x = F.conv2d(F.interpolate(x, scale_factor=2), self.weight, padding=1) * self.gain
        return blurred(x)


def blurred(x: Tensor) -> Tensor:
    """Low-pass filter maps ``[B, C, H, W]`` with [1, 2, 1] in both directions."""
    taps = torch.tensor([1.0, 2.0, 1.0], device=x.device, dtype=x.dtype)
    kernel = (torch.outer(taps, taps) / 16).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


@GENERATORS.register("stylegan1")
class StyleGAN1(Generator):
    """The network of 4 px and above, with one of ``widths`` per resolution; ``tanh`` limits its images to [-1, 1].

    With ``per_layer`` the mapping network gives a latent for each layer, ``[B, n_latent * w_dim]``, as that of
    in-domain inversion does, and with ``smooth`` a fixed function of the maps stands for ``const`` noise, as in ALAE.
    The names of its weights are our own (``gan_core.published.idinvert`` and ``alae`` convert).
    """

    family = "stylegan1"
    spaces = ("z", "w", "w_plus")

    def __init__(
        self,
        widths: Sequence[int] = (512, 512, 512, 512, 256, 128, 64),
        style_dim: int = 512,
        n_mlp: int = 8,
        per_layer: bool = False,
        tanh: bool = False,
        smooth: bool = False,
    ) -> None:
        super().__init__()
        self.arguments = {
            "widths": list(widths),
            "style_dim": style_dim,
            "n_mlp": n_mlp,
            "per_layer": per_layer,
            "tanh": tanh,
            "smooth": smooth,
        }
        self.size, self.n_latent = 4 << (len(widths) - 1), 2 * len(widths)
        self.z_dim = self.w_dim = style_dim
        self.per_layer, self.tanh, self.smooth = per_layer, tanh, smooth
        outputs = [style_dim] * (n_mlp - 1) + [style_dim * (self.n_latent if per_layer else 1)]
        self.style = nn.Sequential(
            PixelNorm(), *(EqualLinear(style_dim, n, lr_mul=SLOW, activate=True) for n in outputs)
        )
        self.const = nn.Parameter(torch.ones(1, widths[0], 4, 4))
        self.convs, self.epilogues = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            before, side = widths[max(level - 1, 0)], 4 << level
            if level:
                self.convs.append(Convolution(before, width, side, up=True))
            self.convs.append(Convolution(width, width, side, up=False))
            self.epilogues += [Epilogue(width, style_dim, side), Epilogue(width, style_dim, side)]
        self.output_weight = nn.Parameter(torch.randn(3, widths[-1], 1, 1))
        self.output_bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("latent_avg", torch.zeros(style_dim), persistent=False)

    def mapping(self, z: Tensor) -> Tensor:
        """Map ``z [B, z_dim]`` to ``w [B, w_dim]``; with ``per_layer`` to ``[B, n_latent * w_dim]``."""
        return self.style(z)

    def broadcast(self, w: Tensor) -> Tensor:
        if self.per_layer and w.shape[-1] != self.w_dim:
            return w.unflatten(-1, (self.n_latent, self.w_dim))
        return super().broadcast(w)

    def truncated(self, w: Tensor) -> Tensor:
        """Return ``w_plus [B, n_latent, w_dim]`` of ``mapping``'s latents, the first ones truncated as published."""
        psi = torch.ones(self.n_latent, 1, device=w.device)
        psi[:TRUNCATED] = PSI
        return self.latent_avg + psi * (self.broadcast(w) - self.latent_avg)

    def synthesis(self, w_plus: Tensor, noise: Noise = "const") -> Tensor:
        """Draw images ``[B, 3, size, size]`` from ``w_plus [B, n_latent, w_dim]``.

        Raises ``ValueError`` for latents of another shape.
        """
        if w_plus.shape[1:] != (self.n_latent, self.w_dim):
            expected = f"[B, {self.n_latent}, {self.w_dim}]"
            raise ValueError(f"w_plus is {list(w_plus.shape)}, this generator of {self.size} px needs {expected}")
        maps = self._noise_maps(len(w_plus), noise)
        x = self.const.expand(len(w_plus), -1, -1, -1)
        for i, epilogue in enumerate(self.epilogues):
            x = self.convs[i - 1](x) if i else x
            x = epilogue(x, w_plus[:, i], maps[i])
        image = F.conv2d(x, self.output_weight) / math.sqrt(x.shape[1]) + self.output_bias[:, None, None]
        return image.tanh() if self.tanh else image

    def noise_sizes(self) -> list[int]:
        return [4 << (i // 2) for i in range(self.n_latent)]

    def _noise_maps(self, batch: int, noise: Noise) -> list[Tensor | float | None]:
        if self.smooth and noise == "const":
            return [math.sqrt(1 + i // 2) for i in range(self.n_latent)]
        constant = [epilogue.get_buffer("noise_map") for epilogue in self.epilogues]
        if noise == "const":
            return list(constant)
        if noise == "none":
            return [None] * len(constant)
        if noise == "random":
            return [torch.randn(batch, *m.shape[1:]).to(m.device) for m in constant]
        return list(noise)
