"""pix2pixHD (Wang et al. 2018, "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs").

The rival that pSp names for its translations: from pixels to pixels, with a discriminator that is trained beside it.
"""

import itertools

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

Maps = list[Tensor]
"""What the layers of one discriminator give; the last are its scores of patches."""


class GlobalGenerator(nn.Module):
    """Translates inputs ``[B, channels, S, S]`` to images ``[B, 3, S, S]`` in [-1, 1] (section 3.2, appendix).

    A 7x7 convolution to ``width`` channels, ``downs`` halvings, ``blocks`` residual blocks, as many doublings, and a
    7x7 convolution. S must be a multiple of ``2 ** downs``. Published: 64, 4 and 9.
    """

    def __init__(self, channels: int, width: int = 64, downs: int = 4, blocks: int = 9) -> None:
        super().__init__()
        widths = [width << i for i in range(downs + 1)]
        layers = [_edge(channels, width), _norm(width), nn.ReLU()]
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1), _norm(wide), nn.ReLU()]
        layers += [ResidualBlock(widths[-1]) for _ in range(blocks)]
        for wide, narrow in zip(widths[::-1], widths[-2::-1], strict=False):
            layers += [nn.ConvTranspose2d(wide, narrow, 3, 2, 1, output_padding=1), _norm(narrow), nn.ReLU()]
        self.model = nn.Sequential(*layers, _edge(width, 3), nn.Tanh())
        self.apply(_begin)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, 1, 1, padding_mode="reflect") for _ in range(2))
        self.model = nn.Sequential(first, _norm(width), nn.ReLU(), second, _norm(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.model(x)


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches of ``[B, channels, S, S]``: ``layers`` halvings, then two layers of stride 1."""

    def __init__(self, channels: int, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [min(width << i, 8 * width) for i in range(layers + 1)]
        self.layers = nn.ModuleList([nn.Sequential(nn.Conv2d(channels, width, 4, 2, 2), nn.LeakyReLU(0.2))])
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths), 2):
            stride = 2 if i <= layers else 1
            self.layers.append(nn.Sequential(nn.Conv2d(narrow, wide, 4, stride, 2), _norm(wide), nn.LeakyReLU(0.2)))
        self.layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 2))

    def forward(self, x: Tensor) -> Maps:
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]


class MultiscaleDiscriminator(nn.Module):
    """The same discriminator of patches at ``scales`` sizes, each half of the one before (section 3.2)."""

    def __init__(self, channels: int, width: int = 64, layers: int = 3, scales: int = 2) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(channels, width, layers) for _ in range(scales))
        self.apply(_begin)

    def forward(self, x: Tensor) -> list[Maps]:
        found = []
        for i, scale in enumerate(self.scales):
            x = avg_pool2d(x, 3, 2, 1, count_include_pad=False) if i else x
            found.append(scale(x))
        return found


def _edge(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 7, 1, 3, padding_mode="reflect")


def _norm(width: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(width)


def _begin(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
