"""The generators of all scales: reconstructions, samples of any size, and images put in at a scale."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.device import place
from gan_core.errors import ParamsError
from gan_core.precision import without_autocast
from gan_core.singan.networks import RECEPTIVE_FIELD, ScaleGenerator
from gan_core.singan.scales import Scales, Size, resize


class SinGAN(nn.Module):
    """A pyramid of generators, the coarsest first, for each of ``pictures``; ``widths`` are the channels of each scale.

    Images are ``[B, pictures, 3, H, W]``: each picture has a generator of its own, which knows nothing of the others.
    ``amplitudes [scales, pictures]`` are the standard deviations of the noise, ``noise [1, pictures, 1, h, w]`` is what
    the coarsest scale makes the pictures of. ``gan_core.training.singan`` trains one scale after the other.
    """

    amplitudes: Tensor
    noise: Tensor

    def __init__(self, scales: Scales, widths: Sequence[int], pictures: int = 1) -> None:
        super().__init__()
        self.scales, self.pictures = scales, pictures
        self.generators = nn.ModuleList(ScaleGenerator(width, pictures) for width in widths)
        self.register_buffer("amplitudes", torch.zeros(len(widths), pictures))
        self.register_buffer("noise", torch.zeros(1, pictures, 1, *scales.sizes[0]))

    def forward(self, noises: Sequence[Tensor], image: Tensor | None = None, first: int = 0) -> Tensor:
        """Take an image (or nothing) through a scale for each of ``noises``, from ``first`` on.

        ``image`` is of the scale before. The result is as large as the last noise.
        """
        for scale, noise in enumerate(noises, first):
            former = (
                torch.zeros_like(noise) if image is None else self.enlarged(image, (noise.shape[3], noise.shape[4]))
            )
            image = self.at(scale, noise, former)
        assert image is not None
        return image

    def at(self, scale: int, noise: Tensor, former: Tensor) -> Tensor:
        """Take the former scale's image, as large as this one, through one scale."""
        strength = self.amplitudes[scale].view(-1, 1, 1, 1)
        image = self.generators[scale]((strength * noise).flatten(1, 2), former.flatten(1, 2))
        return image.unflatten(1, (self.pictures, 3))

    def enlarged(self, image: Tensor, size: Size) -> Tensor:
        """Bring an image of one scale to the next; only colours that there are get there, as published."""
        with without_autocast():
            return resize(image.float().clamp(-1, 1), 1 / self.scales.factor, size)

    def sizes(self, size: Size | None = None) -> list[Size]:
        """Return the sizes of all scales whose last one is ``size`` (default: that of the pictures).

        Raises ``ParamsError`` for a size that is too small.
        """
        if size is None:
            return list(self.scales.sizes)
        shares = [new / old for new, old in zip(size, self.scales.sizes[-1], strict=True)]
        found = [(round(shares[0] * height), round(shares[1] * width)) for height, width in self.scales.sizes]
        if min(found[0]) < RECEPTIVE_FIELD:
            raise ParamsError(
                f"{size[1]}x{size[0]} is too small: its coarsest scale would be {found[0][1]}x{found[0][0]}, "
                f"less than the receptive field of {RECEPTIVE_FIELD} px: ask for a larger one"
            )
        return [*found[:-1], size]

    def draw_noises(
        self, stream: torch.Generator, sizes: Sequence[Size], count: int = 1, first: int = 0
    ) -> list[Tensor]:
        """Draw noise ``[count, pictures, 3, *size]`` for scales from ``first``; it is grey at the coarsest."""
        grey = [scale == 0 for scale in range(first, first + len(sizes))]
        shapes = [(count, self.pictures, 1 if one else 3, *size) for one, size in zip(grey, sizes, strict=True)]
        return [place(torch.randn(shape, generator=stream)).expand(-1, -1, 3, -1, -1) for shape in shapes]

    def reconstruct(self, count: int | None = None) -> Tensor:
        """Return the pictures at the last of the first ``count`` scales (default: all), from the one noise."""
        rest = [self.noise.new_zeros(1, self.pictures, 3, *size) for size in self.scales.sizes[1:count]]
        return self([self.noise.expand(-1, -1, 3, -1, -1), *rest])

    def sample(self, stream: torch.Generator, count: int = 1, size: Size | None = None, start: int = 0) -> Tensor:
        """Return ``count`` new images of each picture, ``[count, pictures, 3, *size]`` in [-1, 1].

        Scales before ``start`` reconstruct, stretched to the size. Raises ``ParamsError`` for a size that is too small,
        and for a start that is no scale.
        """
        image, sizes = None, self.sizes(size)
        if start:
            self._check_start(start)
            image = self.reconstruct(start).flatten(0, 1)
            image = F.interpolate(image, sizes[start - 1], mode="bilinear", align_corners=False)
            image = image[None].expand(count, -1, -1, -1, -1)
        return self(self.draw_noises(stream, sizes[start:], count, start), image, start).clamp(-1, 1)

    def put_in(self, images: Tensor, start: int, stream: torch.Generator) -> Tensor:
        """Make images ``[B, pictures, 3, H, W]`` of the pictures' size look like their patches, from ``start`` on.

        They are seen at the scale before ``start`` (1 or more): what is finer is made anew. The result is as large, in
        [-1, 1]. Raises ``ParamsError`` for a start that is no scale.
        """
        self._check_start(start)
        sizes = self.scales.sizes
        small = resize(images, self.scales.factor ** (len(sizes) - start), sizes[start - 1])
        return self(self.draw_noises(stream, sizes[start:], len(images), start), small, start).clamp(-1, 1)

    def _check_start(self, start: int) -> None:
        last = len(self.scales.sizes) - 1
        if not 1 <= start <= last:
            raise ParamsError(f"start {start}: the scales that have one before them are 1 to {last}")
