"""Weight differences as bytes for a column: int8 with one scale per output channel, or float32."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gan_core.errors import DataError
from gan_core.generators.base import Generator

LEVELS = 127
"""The largest int8."""
RESIDUAL = "residual"
"""Beside weight differences: what a row's picture lacks, which features draw (``gan_core.inversion.features``)."""


def pack_delta(delta: Mapping[str, Tensor]) -> bytes:
    """Quantise weight differences ``[...]`` (parameter name -> tuned minus base) and return safetensors bytes.

    Each output channel is stored as ``round(delta / scale)`` in int8, with its scale (largest absolute difference /
    127) in float32. The error of a weight is at most half a scale. No differences give empty bytes.
    """
    packed: dict[str, Tensor] = {}
    for name, difference in delta.items():
        rows = difference.detach().float().cpu().reshape(_rows(difference), -1)
        scale = rows.abs().amax(1) / LEVELS
        steps = rows / torch.where(scale > 0, scale, 1)[:, None]
        packed[f"{name}:steps"] = steps.round().to(torch.int8).reshape(difference.shape)
        packed[f"{name}:scale"] = scale
    return save(packed) if packed else b""


def pack_full(delta: Mapping[str, Tensor]) -> bytes:
    """Return weight differences ``[...]`` as float32 safetensors, without loss; no differences give empty bytes."""
    whole = {name: difference.detach().float().cpu().contiguous() for name, difference in delta.items()}
    return save(whole) if whole else b""


def as_stored(delta: Mapping[str, Tensor], full: bool) -> dict[str, Tensor]:
    """Return differences ``[...]`` as they come back from ``pack_full``, or from ``pack_delta``."""
    return unpack_delta(pack_full(delta) if full else pack_delta(delta))


def unpack_delta(data: bytes) -> dict[str, Tensor]:
    """Decode bytes of ``pack_delta`` or ``pack_full`` to float32 differences ``[...]`` by parameter name.

    Raises ``DataError`` if the bytes are damaged.
    """
    if not data:
        return {}
    try:
        packed = load(data)
        whole = {key: value for key, value in packed.items() if ":" not in key}
        names = [key.removesuffix(":steps") for key in packed if key.endswith(":steps")]
        return whole | {name: _restored(packed[f"{name}:steps"], packed[f"{name}:scale"]) for name in names}
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise DataError(f"a weight delta can't be read ({error}): run the tune stage again") from None


@contextmanager
def apply_delta(generator: Generator, data: bytes) -> Iterator[Generator]:
    """Add packed differences to the generator for the ``with`` block, and restore its exact weights afterwards.

    Raises ``DataError`` if the differences are damaged or belong to another generator.
    """
    with changed(generator, unpack_delta(data)):
        yield generator


@contextmanager
def changed(generator: Generator, delta: Mapping[str, Tensor]) -> Iterator[None]:
    """Add weight differences ``[...]`` by parameter name for the ``with`` block, as ``apply_delta`` does.

    Raises ``DataError`` if they belong to another generator.
    """
    parameters = dict(generator.named_parameters())
    foreign = [name for name, d in delta.items() if name not in parameters or parameters[name].shape != d.shape]
    if foreign:
        raise DataError(f"a weight delta is of another generator ({', '.join(foreign[:3])}): run the tune stage again")
    saved = {name: parameters[name].detach().clone() for name in delta}
    try:
        with torch.no_grad():
            for name, difference in delta.items():
                parameters[name].add_(difference.to(parameters[name].device))
        yield
    finally:
        with torch.no_grad():
            for name, weight in saved.items():
                parameters[name].copy_(weight)


def _rows(weight: Tensor) -> int:
    """Return the number of output channels: axis 1 after a leading 1 (the layout of modulated weights), else axis 0."""
    if weight.ndim < 2:
        return 1
    return weight.shape[1] if weight.shape[0] == 1 else weight.shape[0]


def _restored(steps: Tensor, scale: Tensor) -> Tensor:
    return (steps.float().reshape(len(scale), -1) * scale[:, None]).reshape(steps.shape)
