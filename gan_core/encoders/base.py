"""The common interface of all encoder architectures."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from inspect import signature
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.errors import ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.geometry import Frame
from gan_core.precision import autocast
from gan_core.registry import Arguments, Registry


class Encoder(nn.Module, ABC):
    """A network from aligned images to latents of one generator.

    ``input_shape`` is the height and width of its input, ``input_size`` the larger of them, and ``input_dtype`` the
    type that it computes in (``gan_core.encoders.fast``). ``arguments`` are those of its constructor. One that
    ``draws`` looks at what the generator makes of its latents, and needs it (``attach``).
    """

    name: ClassVar[str]
    space: ClassVar[str]
    draws: ClassVar[bool] = False
    arguments: Arguments
    input_shape: tuple[int, int]
    n_latent: int
    w_dim: int
    latent_avg: Tensor
    input_dtype: torch.dtype = torch.float32

    @classmethod
    def for_generator(cls, generator: Generator, **network: object) -> Self:
        """Build an encoder for ``generator`` that starts from its mean latent; ``network`` are further arguments.

        Raises ``ParamsError`` for an argument that the architecture doesn't have.
        """
        known = list(signature(cls).parameters)
        if unknown := [name for name in network if name not in known]:
            raise ParamsError(f"encoder {cls.name!r} has no {unknown[0]!r}{near_matches(unknown[0], known)}")
        encoder = cls(n_latent=generator.n_latent, style_dim=generator.w_dim, **network)
        encoder.latent_avg.copy_(generator.latent_avg)
        encoder.attach(generator)
        return encoder

    @property
    def input_size(self) -> int:
        """The longer side of the input in pixels."""
        return max(self.input_shape)

    def attach(self, generator: Generator) -> None:
        """Keep the generator that the encoder was made for, if it draws; it is no part of the encoder."""
        return

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Encode images ``[B, C, *input_shape]`` in [-1, 1] as latent offsets ``[B, n_latent, w_dim]``."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images ``[B, C, H, W]`` in [-1, 1] as ``w_plus [B, n_latent, w_dim]``: the last of ``passes``.

        Images of another size are first resampled to ``input_shape``, bilinearly with antialiasing, in floating point.
        The published loaders do the same with Pillow, which rounds to 8 bits
        (``gan_core.storage.images.resize_rounded``).
        """
        *_, latents = self.passes(images)
        return latents

    def passes(self, images: Tensor) -> Iterator[Tensor]:
        """Yield ``w_plus [B, n_latent, w_dim]`` after each pass over ``images [B, C, H, W]``.

        Here there is one, whose latents are the offsets plus the mean latent. Gradients reach a pass from its own
        latents only.
        """
        yield self.offsets(self.resampled(images)) + self.latent_avg

    def inversions(self, images: Tensor, generator: Generator, fast: bool = False) -> list[tuple[Tensor, Tensor]]:
        """Return the latents of each pass, and what ``generator`` draws of them: the encoder's frame ``[B, 3, H, W]``.

        With ``fast`` the passes run in bfloat16.
        """
        with autocast(fast):
            passes = list(self.passes(images))
        return [(latents, self.frame(generator.synthesis(latents))) for latents in passes]

    def resampled(self, images: Tensor) -> Tensor:
        """Resample images ``[B, C, H, W]`` to ``[B, C, *input_shape]``, if they have another size.

        Raises ``TypeError`` for integers.
        """
        if not images.is_floating_point():
            raise TypeError(f"images are {images.dtype}: encoders take floating-point values in [-1, 1]")
        if images.shape[2:] == self.input_shape:
            return images
        return F.interpolate(images, self.input_shape, mode="bilinear", align_corners=False, antialias=True)

    def offsets(self, images: Tensor) -> Tensor:
        """Call the network, in ``input_dtype``; the result ``[B, n_latent, w_dim]`` is float32."""
        if self.input_dtype != images.dtype:
            images = images.to(self.input_dtype, memory_format=torch.channels_last)
        return self(images).float()

    @property
    def framing(self) -> Frame:
        """Which part of the generator's square is the picture that the encoder sees: the part of its own proportion."""
        return Frame(*self.input_shape)

    def frame(self, images: Tensor) -> Tensor:
        """Cut what the encoder sees out of squares ``[B, C, S, S]``; other images are returned as they are."""
        return self.framing.crop(images)


ENCODERS: Registry[type[Encoder]] = Registry("encoder", "gan_core.encoders", Encoder)
