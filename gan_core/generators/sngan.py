"""SNGAN generators (Miyato et al. 2018, table 5): residual blocks with nearest up-sampling, no noise, no mapping."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gan_core.generators.base import GENERATORS
from gan_core.generators.unmapped import UnmappedGenerator

SN_RESNET32 = (256, 256, 256, 256)
SUMS = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Which of three taps after an up-sampling are added up in each of four before it."""


class UpBlock(nn.Module):
    """Two rounds of batch norm, ReLU and convolution, with up-sampling in the first; the bypass adapts the width."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.bypass = nn.Sequential(nn.Upsample(scale_factor=2))
        if before != after:
            self.bypass.append(nn.Conv2d(before, after, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) + self.bypass(x)


class Maps(nn.Module):
    """Reshapes the dense layer's output ``[B, 16 C]`` to maps ``[B, C, 4, 4]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, 4, 4)


@GENERATORS.register("sngan")
class SNGAN(UnmappedGenerator):
    """SNGAN of ``4 * 2 ** (len(channels) - 1)`` px with tanh output and the state-dict names of GANLatentDiscovery.

    The published MNIST network has the default ``channels`` and one image channel. The published Anime network has
    ``channels`` 1024, 512, 256, 128, 64 and three image channels.
    """

    family = "sngan"

    def __init__(self, channels: Sequence[int] = SN_RESNET32, image_channels: int = 3, z_dim: int = 128) -> None:
        super().__init__(4 * 2 ** (len(channels) - 1), z_dim)
        self.arguments = {"channels": list(channels), "image_channels": image_channels, "z_dim": z_dim}
        self.model = nn.Sequential(
            nn.Linear(z_dim, 16 * channels[0]),
            Maps(),
            *(UpBlock(before, after) for before, after in pairwise(channels)),
            nn.BatchNorm2d(channels[-1]),
            nn.ReLU(),
            nn.Conv2d(channels[-1], image_channels, 3, padding=1),
        )

    def draw(self, z: Tensor) -> Tensor:
        return torch.tanh(self.model(z))

    def fold(self) -> None:
        """Draw on with fewer products: each up-sampling is one transposed convolution, normalised by its weights."""
        for block in self.model:
            if isinstance(block, UpBlock):
                block.model, block.bypass = fold_up(block.model), fold_up(block.bypass)


def fold_up(layers: nn.Sequential) -> nn.Sequential:
    """Return frozen ``layers`` with each up-sampling, the 3x3 convolution and the batch norm after it in one layer.

    A pixel sees the same pixel below by two of three taps in each direction, which are added up before: 4x4 taps, of
    which each pixel meets 2x2.
    """
    folded: list[nn.Module] = []
    for layer in layers:
        last = folded[-1] if folded else None
        if isinstance(last, nn.Upsample) and isinstance(layer, nn.Conv2d):
            folded[-1] = _transposed(layer)
        elif isinstance(last, nn.ConvTranspose2d) and isinstance(layer, nn.BatchNorm2d):
            folded[-1] = fuse_conv_bn_eval(last, layer, transpose=True)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


def _transposed(conv: nn.Conv2d) -> nn.ConvTranspose2d:
    """The transposed convolution that does what up-sampling by 2 and ``conv`` (3x3, padding 1) do."""
    sums = torch.tensor(SUMS, device=conv.weight.device)
    weight = torch.einsum("ai,bj,oxij->xoab", sums, sums, conv.weight)
    made = nn.ConvTranspose2d(conv.in_channels, conv.out_channels, 4, stride=2, padding=1, device="meta")
    made.load_state_dict({"weight": weight, "bias": conv.bias}, assign=True)
    return made.eval().requires_grad_(False)
