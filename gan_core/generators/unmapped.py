"""The base class of generators without a mapping network, whose only latent is ``z``."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from gan_core.errors import ParamsError
from gan_core.generators.base import Generator, Noise


class UnmappedGenerator(Generator):
    """A family without ``w``: ``w_plus [B, 1, z_dim]`` holds ``z`` times ``truncation``.

    The channel of a network that draws grey images is repeated, so that images are ``[B, 3, size, size]``. Raises
    ``ParamsError`` for a truncation that is not above 0.
    """

    spaces: ClassVar[tuple[str, ...]] = ("z",)

    def __init__(self, size: int, z_dim: int, truncation: float = 1.0) -> None:
        super().__init__()
        if not truncation > 0:
            raise ParamsError(f"truncation {truncation}: a generator needs one above 0, or it draws a single picture")
        self.size = size
        self.z_dim = self.w_dim = z_dim
        self.n_latent = 1
        self.truncation = truncation
        self.register_buffer("latent_avg", torch.zeros(z_dim), persistent=False)

    def mapping(self, z: Tensor) -> Tensor:
        return self.truncation * z

    def synthesis(self, w_plus: Tensor, noise: Noise = "const") -> Tensor:
        """Draw images ``[B, 3, size, size]`` from ``w_plus [B, n_latent, w_dim]``.

        Raises ``ValueError`` for latents of another shape.
        """
        if w_plus.shape[1:] != (1, self.z_dim):
            raise ValueError(f"latents are {list(w_plus.shape)}, this generator needs [B, 1, {self.z_dim}]")
        image = self.draw(w_plus[:, 0])
        return image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image

    @abstractmethod
    def draw(self, z: Tensor) -> Tensor:
        """Draw images ``[B, channels, size, size]`` from ``z [B, z_dim]`` as the published network does."""


class LabelledGenerator(UnmappedGenerator):
    """A family with classes, which draws the class ``label`` unless it is told others.

    Raises ``ParamsError`` for a label that is no class, and for a truncation that is not above 0.
    """

    def __init__(self, size: int, z_dim: int, classes: int, label: int, truncation: float) -> None:
        super().__init__(size, z_dim, truncation)
        if not 0 <= label < classes:
            raise ParamsError(f"label {label} is out of range: this generator has the classes 0 to {classes - 1}")
        self.label = label

    def draw(self, z: Tensor) -> Tensor:
        return self.draw_labelled(z, torch.full((len(z),), self.label, device=z.device))

    @abstractmethod
    def draw_labelled(self, z: Tensor, labels: Tensor) -> Tensor:
        """Draw images ``[B, 3, size, size]`` in [-1, 1] from ``z [B, z_dim]`` and class indices ``[B]``."""
