"""A generator whose attributes are known linear functions of chosen latents, so that directions have a right answer."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from gan_core.generators.base import Generator, Noise
from gan_core.judges.scorers import Scorers

NAMES = ("pose", "colour", "age")


class LinearWorld(Generator):
    """Pixels are attributes and identity: ``attribute = 1/2 + <axis, mean of its layers>``, cut to [0, 1].

    The mapping mixes its inputs so that attributes are correlated: in the samples the coloured are old.
    """

    family: ClassVar[str] = "linear-world"
    spaces: ClassVar[tuple[str, ...]] = ("z", "w", "w_plus")
    layers: ClassVar[tuple[slice, ...]] = (slice(0, 2), slice(3, 6), slice(0, 6))

    def __init__(self) -> None:
        super().__init__()
        self.size, self.z_dim, self.w_dim, self.n_latent = 8, 12, 12, 6
        random = torch.Generator().manual_seed(5)
        self.axes = torch.linalg.qr(torch.randn(12, 12, generator=random))[0] * 0.2
        self.mixing = torch.eye(12) + 0.5 * torch.outer(self.axes[2], self.axes[1]) / 0.04
        self.register_buffer("latent_avg", torch.zeros(12))

    def mapping(self, z: Tensor) -> Tensor:
        return z @ self.mixing

    def synthesis(self, w_plus: Tensor, noise: Noise = "const") -> Tensor:
        image = torch.zeros(len(w_plus), 3, 8, 8)
        for i, layers in enumerate(self.layers):
            image[:, 0, 0, i] = (0.5 + w_plus[:, layers].mean(1) @ self.axes[i]).clamp(0, 1)
        image[:, 1, 0, :6] = w_plus.mean(1) @ self.axes[3:9].T + 0.2
        return image


@pytest.fixture(scope="session")
def world() -> LinearWorld:
    return LinearWorld()


def world_scorers() -> Scorers:
    """Return what reads attributes and identities from pictures of a ``LinearWorld``."""

    def identity(images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(images[:, 1, 0, :6], dim=1)

    return Scorers(NAMES, lambda images: images[:, 0, 0, :3], identity)


@pytest.fixture(scope="session")
def scorers() -> Scorers:
    return world_scorers()
