"""What a checkpoint file holds before anything is loaded: tensors are places in the file, objects inert records."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_DEPTH = 64
MAX_DIMENSIONS = 16


class Refused(Exception):
    """Why a file is not read; one clause that completes "FILE is refused: ...". ``unsafe`` if it may be an attack."""

    def __init__(self, reason: str, unsafe: bool = False) -> None:
        super().__init__(reason)
        self.unsafe = unsafe


@dataclass(eq=False)
class Storage:
    """``count`` numbers in a row; ``view`` are their bytes in the file, set once its layout is known."""

    dtype: torch.dtype
    count: int
    view: memoryview | None = None

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.count * self.dtype.itemsize

    @cached_property
    def values(self) -> Tensor:
        """The numbers, copied out of the file once."""
        if self.view is None or len(self.view) != self.nbytes:
            raise Refused("its tensors are not where its index says")
        values = torch.empty(self.count, dtype=self.dtype)
        values.view(torch.uint8).numpy()[:] = np.frombuffer(self.view, np.uint8)
        return values


@dataclass(eq=False)
class StoredTensor:
    """A tensor that is still in the file: elements ``offset + i · stride`` of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Length in bytes of the tensor, were it written out."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def load(self) -> Tensor:
        """Copy the tensor out of the file (tensors that share a storage share memory)."""
        return self.storage.values.as_strided(self.shape, self.stride, self.offset)


@dataclass(eq=False)
class Record:
    """Stands for an object of a class that is never imported: the class's name and the object's attributes."""

    name: str
    state: dict[str, Any] = field(default_factory=dict)


def place_tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> StoredTensor:
    """Describe a tensor after checking that it lies within its storage; raises ``Refused``."""
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise Refused("it describes a tensor by something else than numbers")
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise Refused(f"it describes a tensor of {len(shape)} dimensions with {len(stride)} strides")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise Refused(f"it describes a tensor that ends at {last + 1} of {storage.count} numbers", unsafe=True)
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def walk(content: Any) -> Iterator[Any]:
    """Yield every value inside nested containers and records once; raises ``Refused`` for endless nesting."""
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(content, 0)]
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


def stored_tensors(content: Any) -> list[StoredTensor]:
    """All tensors inside."""
    found = {id(value): value for value in walk(content) if isinstance(value, StoredTensor)}
    return list(found.values())


def loaded(content: Any) -> Any:
    """Copy ``content`` with its tensors loaded, records as dictionaries of their attributes."""
    return _Loader()(content)


class _Loader:
    """Copies each container once, so that what is shared stays shared; a container inside itself is refused."""

    def __init__(self) -> None:
        self.done: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        make = _MAKERS.get(type(value))
        if make is None:
            return value
        if id(value) not in self.done:
            self.done[id(value)] = _UNFINISHED
            self.done[id(value)] = make(self, value)
        if self.done[id(value)] is _UNFINISHED:
            raise Refused("it contains itself", unsafe=True)
        return self.done[id(value)]


_UNFINISHED = object()
_MAKERS: dict[type, Callable[[Any, Any], Any]] = {
    dict: lambda load, value: {key: load(inner) for key, inner in value.items()},
    list: lambda load, value: [load(inner) for inner in value],
    tuple: lambda load, value: tuple(load(inner) for inner in value),
    Record: lambda load, value: {key: load(inner) for key, inner in value.state.items()},
    StoredTensor: lambda load, value: value.load(),
}


def _children(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Record):
        return list(value.state.values())
    return [] if isinstance(value, StoredTensor) else None


def state_of(value: Any) -> dict[str, StoredTensor] | None:
    """A bare state dict: all its values are tensors (or a wrapper's one entry ``state_dict`` holds it), else None."""
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    whole = isinstance(value, dict) and value and all(isinstance(tensor, StoredTensor) for tensor in value.values())
    return {str(key).removeprefix("module."): tensor for key, tensor in value.items()} if whole else None
