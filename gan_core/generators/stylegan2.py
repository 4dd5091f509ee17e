"""StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN")."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.generators.base import GENERATORS, Generator, Noise
from gan_core.generators.layers import EqualLinear, PixelNorm, StyledConv, ToRGB
from gan_core.generators.walk import Branch, Draw, Features, Step, walk


def channel_table(size: int, channel_multiplier: int) -> dict[int, int]:
    """Return the published channels by resolution: 512 up to 32 px, then ``16384 multiplier / resolution``."""
    resolutions = [2**i for i in range(2, int(math.log2(size)) + 1)]
    return {r: 512 if r <= 32 else 16384 * channel_multiplier // r for r in resolutions}


class ConstantInput(nn.Module):
    """The learned 4x4 input of synthesis."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class StyleGAN2Arguments(TypedDict):
    """The constructor's arguments as they are inferred from published weights."""

    size: int
    style_dim: int
    n_mlp: int
    channels: dict[int, int]
    conv_clamp: NotRequired[float | None]
    classes: NotRequired[int]


@GENERATORS.register("stylegan2")
class StyleGAN2(Generator):
    """The published network with the rosinality state-dict names, for any power-of-two size >= 8.

    ``channels`` (resolution -> width) replaces the published table, and ``conv_clamp`` is ADA's option. With
    ``classes`` it is the conditional network of ADA, whose mapping takes a label beside ``z``. ``compute_dtype`` is the
    type of the convolutions (``gan_core.precision``); mapping, demodulation and the image are always float32.
    """

    family = "stylegan2"
    spaces = ("z", "w", "w_plus", "s")

    def __init__(
        self,
        size: int = 64,
        style_dim: int = 512,
        n_mlp: int = 8,
        channel_multiplier: int = 2,
        channels: dict[int, int] | None = None,
        conv_clamp: float | None = None,
        classes: int = 0,
    ) -> None:
        super().__init__()
        table = {int(r): c for r, c in channels.items()} if channels else channel_table(size, channel_multiplier)
        self.arguments = {
            "size": size,
            "style_dim": style_dim,
            "n_mlp": n_mlp,
            "channels": table,
            "conv_clamp": conv_clamp,
            **({"classes": classes} if classes else {}),
        }
        self.size = size
        self.z_dim = self.w_dim = style_dim
        self.conv_clamp = conv_clamp
        self.compute_dtype = torch.float32
        levels = range(3, int(math.log2(size)) + 1)
        self.n_latent = 2 * len(levels) + 2
        self.classes = classes
        self.embed = EqualLinear(classes, style_dim) if classes else None
        widths = [style_dim * (2 if classes else 1), *[style_dim] * n_mlp]
        self.style = nn.Sequential(
            PixelNorm(), *(EqualLinear(n, style_dim, lr_mul=0.01, activate=True) for n in widths[:n_mlp])
        )
        self.input = ConstantInput(table[4])
        self.conv1 = StyledConv(table[4], table[4], style_dim)
        self.to_rgb1 = ToRGB(table[4], style_dim, up=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for level in levels:
            before, after = table[2 ** (level - 1)], table[2**level]
            self.convs.append(StyledConv(before, after, style_dim, up=True))
            self.convs.append(StyledConv(after, after, style_dim))
            self.to_rgbs.append(ToRGB(after, style_dim))
        self.noises = nn.Module()
        for i in range(self.n_latent - 1):
            resolution = 2 ** ((i + 5) // 2)
            self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, resolution, resolution))
        self.register_buffer("latent_avg", torch.zeros(style_dim), persistent=False)

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map ``z [B, z_dim]`` to ``w [B, w_dim]``; a conditional one takes ``labels [B, classes]`` (or class 0)."""
        if self.embed is not None:
            if labels is None:
                labels = torch.eye(self.classes, device=z.device)[:1].expand(len(z), -1)
            z = torch.cat([self.style[0](z), self.style[0](self.embed(labels))], 1)
        return self.style(z)

    def forward(self, z: Tensor, psi: float = 1.0, noise: Noise = "const") -> Tensor:
        """Draw images ``[B, 3, size, size]`` from ``z [B, z_dim]``, truncated by ``psi``."""
        return self.synthesis(self.broadcast(self.truncate(self.mapping(z), psi)), noise)

    def mix(self, first: Tensor, second: Tensor, crossover: int) -> Tensor:
        """Mix styles: ``first [B, w_dim]`` in the layers before ``crossover``, ``second`` after, as ``w_plus``."""
        layer = torch.arange(self.n_latent, device=first.device)[None, :, None]
        return torch.where(layer < crossover, first.unsqueeze(1), second.unsqueeze(1))

    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """Return the styles ``[B, channels]`` of ``w_plus [B, n_latent, w_dim]``, in the order of ``layers()``."""
        return [layer.conv.modulation(w_plus[:, index]) for layer, index in self.layers()]

    def layers(self) -> list[tuple[StyledConv | ToRGB, int]]:
        """Return all modulated layers in the order of evaluation, each with the index of the latent that it reads."""
        blocks = zip(self.convs[::2], self.convs[1::2], self.to_rgbs, strict=True)
        order = [(self.conv1, 0), (self.to_rgb1, 1)]
        for j, (up, conv, to_rgb) in enumerate(blocks):
            order += [(up, 2 * j + 1), (conv, 2 * j + 2), (to_rgb, 2 * j + 3)]
        return order  # type: ignore[return-value]  # a ModuleList has untyped entries

    def synthesis(self, w_plus: Tensor, noise: Noise = "const") -> Tensor:
        if w_plus.shape[1:] != (self.n_latent, self.w_dim):
            expected = f"[B, {self.n_latent}, {self.w_dim}]"
            raise ValueError(f"w_plus is {list(w_plus.shape)}, this generator of {self.size} px needs {expected}")
        return self.synthesis_from_styles(self.styles(w_plus), noise)

    def synthesis_from_styles(self, styles: Sequence[Tensor], noise: Noise = "const") -> Tensor:
        """Draw images ``[B, 3, size, size]`` from styles ``[B, channels]``, one per entry of ``layers()``."""
        return _finished(walk(self.branch(styles, noise)))

    def branch(self, styles: Sequence[Tensor], noise: Noise = "const") -> Branch:
        """Return this generator with styles ``[B, channels]`` as a branch for ``walk``, alone or with another."""
        batch = styles[0].shape[0]
        noises = iter(self._noises(batch, noise))
        steps = [
            Step(layer, style, next(noises) if isinstance(layer, StyledConv) else None, self.conv_clamp)
            for (layer, _), style in zip(self.layers(), styles, strict=True)
        ]
        start = self.input.input.to(self.compute_dtype).expand(batch, -1, -1, -1)
        start = start.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels last; memory_format fails in vmap
        return Branch(steps, Features(start))

    def noise_sizes(self) -> list[int]:
        return [2 ** ((i + 5) // 2) for i in range(self.n_latent - 1)]

    def inner_sizes(self) -> list[int]:
        return [2**level for level in range(2, int(math.log2(self.size)))]

    def lower(self, w_plus: Tensor, resolution: int, noise: Noise = "const") -> tuple[Tensor, ...]:
        first = self._first_layer(resolution)
        if not first:
            return ()
        below = walk(self.branch(self.styles(w_plus), noise), until=first)
        assert below.image is not None
        return below.x, below.image

    def upper(self, below: tuple[Tensor, ...], w_plus: Tensor, resolution: int, noise: Noise = "const") -> Tensor:
        if not below:
            return self.synthesis(w_plus, noise)
        x, image = below
        start = Features(x, image, self._first_layer(resolution))
        return _finished(walk(self.branch(self.styles(w_plus), noise), at=start))

    def upper_parameters(self, resolution: int) -> dict[str, nn.Parameter]:
        first = self._first_layer(resolution)
        kept = {id(p) for layer, _ in self.layers()[first:] for p in layer.parameters()}
        return {name: p for name, p in self.named_parameters() if not first or id(p) in kept}

    def _first_layer(self, resolution: int) -> int:
        if resolution not in [2**i for i in range(int(math.log2(self.size)) + 1)]:
            raise ParamsError(f"resolution {resolution}: this generator has the powers of two up to {self.size}")
        return 0 if resolution <= 4 else 3 * int(math.log2(resolution)) - 7

    def _noises(self, batch: int, noise: Noise) -> Sequence[Tensor | Draw | None]:
        constant: list[Tensor] = [getattr(self.noises, f"noise_{i}") for i in range(self.n_latent - 1)]
        if noise == "const":
            return constant
        if noise == "none":
            return [None] * len(constant)
        if noise == "random":
            return [partial(_new_noise, batch, m.device) for m in constant]
        return list(noise)


def _new_noise(batch: int, device: torch.device, height: int, width: int) -> Tensor:
    return torch.randn(batch, 1, height, width).to(device)


def _finished(at: Features) -> Tensor:
    assert at.image is not None
    return at.image.contiguous()
