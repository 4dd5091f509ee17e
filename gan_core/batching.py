"""Same bits for a row whoever travels with it and however many cores there are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

CHUNK = 8
LARGE = 256
"""Pictures of more pixels a side than this go through in smaller chunks."""


def chunk_size(side: int) -> int:
    """Pictures of ``side`` pixels that go through a network at once: 8, and fewer where they are large (1024: one)."""
    return max(1, CHUNK * LARGE**2 // max(side, LARGE) ** 2)


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor, size: int | None = None) -> Tensor:
    """Apply ``function`` to ``rows [B, ...]`` in chunks of ``size``, the last one padded with copies of its last row.

    Convolutions and matrix products take other kernels, and round otherwise, for other batch sizes; with one shape for
    all, results are the same to the bit for any ``B`` and any order. Needs a function that treats rows alike. Without
    ``size`` it is ``chunk_size`` for pictures ``[B, ..., 3, H, W]``, and 8 for anything else.
    """
    (results,) = in_chunks_each(lambda chunk: (function(chunk),), rows, size)
    return results


def in_chunks_each(
    function: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor, size: int | None = None
) -> tuple[Tensor, ...]:
    """Do as ``in_chunks`` for a function that gives several tensors, all of them rows first."""
    size = size or (chunk_size(rows.shape[-1]) if rows.ndim > 3 else CHUNK)
    results = []
    for chunk in rows.split(size):
        filled = torch.cat([chunk, chunk[-1:].expand(size - len(chunk), *chunk.shape[1:])])
        results.append(tuple(part[: len(chunk)] for part in function(filled)))
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside (sums split over threads round otherwise), and as many as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
