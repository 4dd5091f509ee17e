"""LPIPS: the perceptual distance of Zhang et al. 2018, over AlexNet, VGG, SqueezeNet or the toy trunk.

With the published trunks it equals the ``lpips`` package 0.1.4 (linear weights 0.1), and needs no torchvision.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Loaded, read_card
from gan_core.device import place
from gan_core.judges.networks import load_network
from gan_core.judges.trunks import IMPORTED, linear_weights, load_trunk

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10


class PerceptualLoss(nn.Module):
    """Distance ``[B]`` between images ``[B, 3, H, W]`` in [-1, 1]: 0 for equal ones, differentiable in both.

    ``weights`` ``[C]`` weigh the channels of each map. ``name`` is ``lpips_<trunk>``. With ``published_scaling`` images
    are normalised as ImageNet networks want them. The maps of the last second argument are kept while it is the same
    tensor, which halves the work of fitting to one target.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, name: str, trunk: nn.Module, weights: Sequence[Tensor], published_scaling: bool) -> None:
        super().__init__()
        self.name = name
        self.trunk = trunk.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.layers = len(weights)
        for i, weight in enumerate(weights):
            self.register_buffer(f"weight{i}", weight.reshape(1, -1, 1, 1))
        shift, scale = (SHIFT, SCALE) if published_scaling else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("shift", torch.tensor(shift).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).reshape(1, 3, 1, 1))
        self._kept: tuple[Tensor, int, list[Tensor]] | None = None

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps of the images, ``[B, C, h, w]`` each, as the trunk gives them."""
        images = ((images - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        return [features.float() for features in self.trunk(images)]

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps of the images, each of unit length over its channels."""
        return [_unit(features) for features in self.features(images)]

    def per_layer(self, x: Tensor, y: Tensor) -> Tensor:
        """Spatial mean of the weighted squared difference of each map, ``[layers, B]``."""
        return torch.stack([each.mean((1, 2)) for each in self.spatial(x, y)])

    def spatial(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Weighted squared difference of each map, ``[B, h, w]``."""
        pairs = enumerate(zip(self.maps(x), self._target_maps(y), strict=True))
        return [((a - b).square() * self.get_buffer(f"weight{i}")).sum(1) for i, (a, b) in pairs]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over layers, ``[B]``."""
        return self.per_layer(x, y).sum(0)

    distance = forward

    def _target_maps(self, y: Tensor) -> list[Tensor]:
        if y.requires_grad or y.is_inference():
            return self.maps(y)
        if self._kept is None or self._kept[0] is not y or self._kept[1] != y._version:
            with torch.no_grad():
                self._kept = (y, y._version, self.maps(y))
        return self._kept[2]


def load_perceptual(path: str | Path) -> Loaded[PerceptualLoss]:
    """Build the distance whose trunk is at ``path``: the toy trunk (safetensors), or published weights (PyTorch).

    Published trunks take the linear weights that the installed ``lpips`` package carries; the toy trunk weighs all
    channels of a map, and all maps, alike. Raises ``CheckpointError``.
    """
    if str(path).endswith(".safetensors") and not read_card(path).name.startswith(IMPORTED):
        toy = load_network(path, "perceptual")
        channels: tuple[int, ...] = toy.model.channels  # type: ignore[assignment]
        weights = [torch.full((c,), 1 / len(channels)) for c in channels]
        return toy.with_model(place(PerceptualLoss("lpips_toy", toy.model, weights, False)))
    published = load_trunk(path)
    name = published.card.name.removeprefix(IMPORTED)
    return published.with_model(place(PerceptualLoss(f"lpips_{name}", published.model, linear_weights(name), True)))


def pair_distances(distance: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the distances ``[B]`` of images ``[B, 3, H, W]`` in [-1, 1], in chunks of a fixed size."""
    return in_chunks(lambda pair: distance(*pair.unbind(1)), torch.stack([x, y], 1))


def _unit(features: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # its gradient at 0 is 0, unlike sqrt's
    return features / (length + EPSILON)
