"""Run networks in fixed-size chunks, so that a row's result is bit-identical for any batch, order and core count."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

CHUNK = 8
"""Rows in a chunk. Each distinct size can change the last bits of stored results, so it is part of the numbers."""
LARGE = 256
"""Images with a longer side than this, in pixels, use smaller chunks: a chunk holds at most 8 x 256 x 256 pixels."""


def chunk_size(side: int) -> int:
    """Return how many images of ``side`` pixels a chunk holds: 8 up to 256 pixels, fewer for larger ones (1024: 1)."""
    return max(1, CHUNK * LARGE**2 // max(side, LARGE) ** 2)


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor, size: int | None = None) -> Tensor:
    """Apply ``function`` to ``rows [B, ...]`` in chunks of ``size`` and return its results ``[B, ...]``.

    The last chunk is padded with copies of its last row. Convolutions and matrix products choose kernels by batch size,
    and these kernels round differently. With one chunk size the results are bit-identical for any ``B`` and any order.
    ``function`` must treat rows independently. ``size`` defaults to ``chunk_size`` for images ``[B, ..., 3, H, W]``,
    and to 8 for anything else.
    """
    (results,) = in_chunks_each(lambda chunk: (function(chunk),), rows, size)
    return results


def in_chunks_each(
    function: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor, size: int | None = None
) -> tuple[Tensor, ...]:
    """Do the same as ``in_chunks`` for a function that returns several tensors, each ``[B, ...]``."""
    size = size or (chunk_size(max(rows.shape[-2:])) if rows.ndim > 3 else CHUNK)
    results = []
    for chunk in rows.split(size):
        filled = torch.cat([chunk, chunk[-1:].expand(size - len(chunk), *chunk.shape[1:])])
        results.append(tuple(part[: len(chunk)] for part in function(filled)))
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread inside the block, because sums that are split over threads round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
