"""Mild damage to training images, so that a network also copes with generated and recompressed ones."""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad


def augment(images: Tensor, rng: torch.Generator, share: float, strength: float) -> tuple[Tensor, Tensor]:
    """Shift, blur or sharpen, block-quantise and add noise to images ``[B, 3, H, W]`` in [-1, 1], row by row.

    Each damage is done to a ``share`` of the rows. Returns the images and how much was done to each, ``[B, 3]``: blur
    in [-strength / 2, strength] (negative sharpens), quantisation and noise in [0, strength].
    """
    count = len(images)
    amounts = strength * torch.rand(count, 3, generator=rng) * (torch.rand(count, 3, generator=rng) < share)
    amounts[:, 0] *= torch.where(torch.rand(count, generator=rng) < 0.3, -0.5, 1.0)
    blur, blocks, noise = (amount[:, None, None, None] for amount in amounts.unbind(1))
    images = shift(images, 1.5, rng)
    images = images + blur * (smooth(images) - images)
    rows = amounts[:, 1] > 0
    if rows.any():
        images[rows] = quantise_blocks(images[rows], 0.15 * blocks[rows])
    images = images + 0.06 * noise * torch.randn(images.shape, generator=rng)
    return images.clamp(-1, 1), amounts


def shift(images: Tensor, pixels: float, rng: torch.Generator) -> Tensor:
    """Move each image by up to ``pixels`` in x and y and scale it by up to 3 %, edges repeated."""
    draws = torch.rand(len(images), 3, generator=rng) * 2 - 1
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 + 0.03 * draws[:, 2]
    theta[:, :, 2] = draws[:, :2] * (2 * pixels / images.shape[-1])
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def smooth(images: Tensor) -> Tensor:
    """Blur with the 5 x 5 binomial kernel, edges reflected."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = torch.outer(row, row).expand(images.shape[1], 1, 5, 5)
    return conv2d(pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=images.shape[1])


@lru_cache
def cosine_basis(size: int = 8) -> Tensor:
    """Orthonormal DCT-II basis ``[size, size]``, one frequency a row."""
    k, n = torch.arange(size)[:, None], torch.arange(size)[None]
    basis = torch.cos(math.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def quantise_blocks(images: Tensor, step: Tensor) -> Tensor:
    """Round the DCT of every 8 x 8 block as JPEG does, coarser at high frequencies; ``step`` broadcasts over images."""
    basis = cosine_basis()
    blocks = images.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    k = torch.arange(8)
    steps = step[..., None, None] * (1 + 0.5 * (k[:, None] + k[None]))
    blocks = basis.T @ (torch.round(basis @ blocks @ basis.T / steps) * steps) @ basis
    return blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)
