"""Run networks in fixed-size chunks, so that a row's result is bit-identical for any batch, order and core count."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gan_core.device import computing


def chunk_size(side: int) -> int:
    """Return how many images of ``side`` pixels a chunk holds; on the CPU 8 up to 256 pixels, fewer above (1024: 1)."""
    most = computing()
    return max(1, most.rows * most.side**2 // max(side, most.side) ** 2)


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor, size: int | None = None) -> Tensor:
    """Apply ``function`` to ``rows [B, ...]`` in chunks of ``size`` and return its results ``[B, ...]``.

    The last chunk is padded with copies of its last row. Convolutions and matrix products choose kernels by batch size,
    and these kernels round differently. With one chunk size the results are bit-identical for any ``B`` and any order.
    ``function`` must treat rows independently. ``size`` defaults to ``chunk_size`` for images ``[B, ..., 3, H, W]``,
    and to the rows of a chunk (on the CPU 8) for anything else.
    """
    (results,) = in_chunks_each(lambda chunk: (function(chunk),), rows, size)
    return results


def in_chunks_each(
    function: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor, size: int | None = None
) -> tuple[Tensor, ...]:
    """Do the same as ``in_chunks`` for a function that returns several tensors, each ``[B, ...]``."""
    if not len(rows):
        return function(rows)
    size = size or (chunk_size(max(rows.shape[-2:])) if rows.ndim > 3 else computing().rows)
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
