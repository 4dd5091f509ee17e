"""The content of a checkpoint file before loading: tensors are positions in the file, and objects inert records."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

StateDict = dict[str, Tensor]
"""Tensors by their name in a module."""
WRAPPERS = ("module", "_orig_mod")
"""What ``DataParallel`` and ``torch.compile`` name the network inside them."""
T = TypeVar("T")
MAX_DEPTH = 64
MAX_DIMENSIONS = 16
"""Bounds on the nesting of values and on the dimensions of a tensor."""


class Refused(Exception):
    """Why a file is rejected: a clause that completes "FILE is refused: ...". ``unsafe`` if it may be an attack."""

    def __init__(self, reason: str, unsafe: bool = False) -> None:
        super().__init__(reason)
        self.unsafe = unsafe


def last_number(keys: Iterable[str], pattern: str) -> int:
    """Return the highest number that the ``pattern`` finds at the beginning of ``keys``.

    Raises ``KeyError`` if there is none, and if more than one below it is missing: a network gets as many layers as the
    number says, however few a file holds.
    """
    numbers = {int(found[1]) for key in keys if (found := re.match(pattern, key))}
    if not numbers or max(numbers) > len(numbers):
        raise KeyError(pattern.replace(r"(\d+)", "*").replace("\\", "").rstrip("."))
    return max(numbers)


@dataclass(eq=False)
class Storage:
    """``count`` consecutive numbers. ``view`` is their bytes in the file, set when its layout is known."""

    dtype: torch.dtype
    count: int
    view: memoryview | None = None

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.count * self.dtype.itemsize

    @cached_property
    def values(self) -> Tensor:
        """The numbers ``[count]``, copied from the file once; raises ``Refused`` if the file doesn't have them."""
        if self.view is None or len(self.view) != self.nbytes:
            raise Refused("its index gives a wrong position for a tensor")
        values = torch.empty(self.count, dtype=self.dtype, device="cpu")
        if not self.count:
            return values
        values.view(torch.uint8).numpy()[:] = np.frombuffer(self.view, np.uint8)
        return values


@dataclass(eq=False)
class StoredTensor:
    """A tensor that is not loaded yet: the elements ``offset + i · stride`` of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Length in bytes of the tensor if it were contiguous."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def load(self) -> Tensor:
        """Copy the tensor ``[*shape]`` from the file; tensors of one storage share memory. Raises ``Refused``."""
        return self.storage.values.as_strided(self.shape, self.stride, self.offset)

    def outline(self) -> Tensor:
        """Return a tensor ``[*shape]`` of this type without values (on PyTorch's device ``meta``); nothing is read."""
        return torch.empty(self.shape, dtype=self.storage.dtype, device="meta")


@dataclass(eq=False)
class Record:
    """An object of a class that is never imported: the name of the class and the attributes of the object."""

    name: str
    state: dict[str, Any] = field(default_factory=dict)


def place_tensor(storage: object, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> StoredTensor:
    """Return the tensor ``[*shape]`` at ``offset`` of a storage; raises ``Refused`` if it doesn't lie within it.

    The arguments come from a file, so their types are checked.
    """
    for numbers in ((offset,), shape, stride):
        check_numbers(numbers)
    if not isinstance(storage, Storage):
        raise Refused("it describes a tensor by something else than numbers")
    if len(shape) != len(stride):
        raise Refused(f"it describes a tensor of {len(shape)} dimensions with {len(stride)} strides")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise Refused(f"it describes a tensor that ends at {last + 1} of {storage.count} numbers", unsafe=True)
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


def check_numbers(numbers: Sequence[int]) -> None:
    """Raise ``Refused`` unless these can be the sizes or the strides of a tensor: few integers of at most 63 bits."""
    if len(numbers) > MAX_DIMENSIONS:
        raise Refused(f"it describes a tensor of {len(numbers)} dimensions", unsafe=True)
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
        raise Refused("it describes a tensor by something else than numbers")


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor; raises ``Refused`` for what is no shape."""
    check_numbers(shape)
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def walk(content: object) -> Iterator[object]:
    """Yield every value inside nested containers and records once; raises ``Refused`` for too deep nesting."""
    seen: set[int] = set()
    waiting: list[tuple[object, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise Refused(f"its values are nested more than {MAX_DEPTH} deep", unsafe=True)
        inner = _children(value)
        if inner is not None:
            if id(value) in seen:
                continue
            seen.add(id(value))
            waiting += [(child, depth + 1) for child in inner]
        yield value


def stored_tensors(content: object) -> list[StoredTensor]:
    """Return all tensors ``[...]`` inside ``content``, each once; raises ``Refused`` for too deep nesting."""
    found = {id(value): value for value in walk(content) if isinstance(value, StoredTensor)}
    return list(found.values())


def loaded(content: object) -> object:
    """Copy ``content`` with its tensors loaded and its records as dictionaries of their attributes.

    Raises ``Refused`` for a container inside itself and for tensors that the file doesn't have.
    """
    return _Loader()(content)


def load_tensors(state: Mapping[str, StoredTensor]) -> StateDict:
    """Load the tensors ``[...]`` of a state dict; raises ``Refused`` for tensors that the file doesn't have."""
    return {name: tensor.load() for name, tensor in state.items()}


class _Loader:
    """Copies each container once, so that shared containers stay shared."""

    def __init__(self) -> None:
        self.done: dict[int, object] = {}

    def __call__(self, value: object) -> object:
        if not isinstance(value, dict | list | tuple | Record | StoredTensor):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = _UNFINISHED
            self.done[id(value)] = self._copy(value)
        if self.done[id(value)] is _UNFINISHED:
            raise Refused("it contains itself", unsafe=True)
        return self.done[id(value)]

    def _copy(self, value: dict[str, object] | list[object] | tuple[object, ...] | Record | StoredTensor) -> object:
        if isinstance(value, StoredTensor):
            return value.load()
        if isinstance(value, dict | Record):
            items = value.items() if isinstance(value, dict) else value.state.items()
            return {key: self(inner) for key, inner in items}
        copies = [self(inner) for inner in value]
        return copies if isinstance(value, list) else tuple(copies)


_UNFINISHED = object()


def _children(value: object) -> list[object] | None:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Record):
        return list(value.state.values())
    return [] if isinstance(value, StoredTensor) else None


def state_of(value: object) -> dict[str, StoredTensor] | None:
    """Return a bare state dict of tensors ``[...]``, also from under ``state_dict``, or None for anything else."""
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict) or not value:
        return None
    if not all(isinstance(tensor, StoredTensor) for tensor in value.values()):
        return None
    return plain_names(value)


def plain_names(state: Mapping[Any, T]) -> dict[str, T]:
    """Return a state dict without what ``DataParallel`` and ``torch.compile`` put before names, at whatever level.

    If two names would become one they are kept as they are.
    """
    named = {str(key): value for key, value in state.items()}
    plain = {".".join(part for part in key.split(".") if part not in WRAPPERS): value for key, value in named.items()}
    return plain if len(plain) == len(named) else named


def outlines(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with tensors ``[...]`` that have no values, so that names and shapes can be checked.

    Only single numbers ``[]`` are loaded: they say how far a training has come. Raises ``Refused`` as ``loaded`` does.
    """
    return {name: _outline(value) if isinstance(value, StoredTensor) else value for name, value in state.items()}


def _outline(tensor: StoredTensor) -> Tensor:
    return tensor.outline() if tensor.shape else tensor.load()


def check_weights(state: StateDict) -> None:
    """Raise ``Refused`` for a tensor ``[...]`` of something else than real numbers; single ones may count steps."""
    for name, tensor in state.items():
        if tensor.shape and not tensor.is_floating_point():
            raise Refused(f"{name} is of the type {str(tensor.dtype).removeprefix('torch.')}, not of weights")
