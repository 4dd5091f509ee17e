"""An encoder of one linear layer that is fitted in seconds: a baseline for trained networks."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.encoders.base import Encoder
from gan_core.generators.base import Generator


class ThumbnailEncoder(Encoder):
    """One linear layer from a thumbnail of the image, ``input_size`` pixels wide, to all latents."""

    name = "linear-thumbnail"
    space = "w_plus"

    def __init__(self, n_latent: int = 18, style_dim: int = 512, input_size: int = 16) -> None:
        super().__init__()
        self.arguments = {"n_latent": n_latent, "style_dim": style_dim, "input_size": input_size}
        self.input_shape = (input_size, input_size)
        self.n_latent, self.w_dim = n_latent, style_dim
        self.linear = nn.Linear(3 * input_size**2, n_latent * style_dim)
        self.register_buffer("latent_avg", torch.zeros(n_latent, style_dim), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1)).unflatten(1, (self.n_latent, self.w_dim))

    @classmethod
    @torch.no_grad()
    def fit(cls, generator: Generator, samples: int = 512, input_size: int = 16, ridge: float = 1.0) -> Self:
        """Fit one to images ``[samples, 3, S, S]`` of ``generator``, by ridge regression."""
        encoder = cls.for_generator(generator, input_size=input_size)
        z = torch.randn(samples, generator.z_dim, generator=torch.Generator().manual_seed(0))
        latents = generator.broadcast(generator.mapping(z))
        images = torch.cat([generator.synthesis(part) for part in latents.split(32)]).clamp(-1, 1)
        seen = F.interpolate(images, encoder.input_shape, mode="bilinear", antialias=True).flatten(1).double()
        mean = seen.mean(0)
        offsets = (latents - encoder.latent_avg).flatten(1).double()
        gram = (seen - mean).T @ (seen - mean) + ridge * torch.eye(seen.shape[1], dtype=torch.float64)
        weight = torch.linalg.solve(gram, (seen - mean).T @ offsets)
        encoder.linear.weight.copy_(weight.T)
        encoder.linear.bias.copy_(offsets.mean(0) - mean @ weight)
        return encoder
