"""The allow-list of names that a pickle may mention, and what stands for each: no file's name is ever imported."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from gan_core.checkpoints.stored import Record, Refused, Storage, StoredTensor, place_tensor, row_major

STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
DTYPES = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "b1": torch.bool,
}
MAX_PATH = 4096  # PATH_MAX of Linux
_PLAIN_KEYS = str | int | float | bytes | None
INERT = {f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "int64", "int32", "uint8", "bool")}


@dataclass(frozen=True)
class Global:
    """A name that a pickle mentions, from the allow-list."""

    name: str


@dataclass
class NumpyType:
    """A numpy dtype: ``code`` such as ``"f4"``; ``order`` is ``"<"``, ``">"`` or ``"|"`` (one byte)."""

    code: str
    order: str = "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype itself; only booleans, integers and floats exist here."""
        return np.dtype(self.order + self.code)


def call(name: Global, arguments: tuple[Any, ...]) -> Any:
    """Do what stands for calling ``name``; raises ``Refused`` for names that are not functions."""
    function = CALLS.get(name.name)
    if function is None:
        raise Refused(f"it calls {name.name}, which is not a function here", unsafe=True)
    return function(*arguments)


def build(target: Any, state: Any) -> None:
    """Give ``target`` the attributes in ``state``, as unpickling would; raises ``Refused``."""
    if isinstance(target, Record):
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict) and all(isinstance(key, str) for key in part):
                target.state.update(part)
            elif part is not None:
                raise Refused(f"the attributes of {target.name} are a {type(part).__name__}")
    elif isinstance(target, NumpyType):
        target.order = {"<": "<", ">": ">", "|": "|", "=": "<"}[state[1]]
    elif isinstance(target, StoredTensor):
        _fill_array(target, state)
    elif not isinstance(target, dict):  # an OrderedDict's own attributes, such as _metadata, are not needed
        raise Refused(f"it sets attributes of a {type(target).__name__}", unsafe=True)


def allowed(name: str) -> Global:
    """Look a name up in the allow-list; raises ``Refused`` for any other."""
    if name not in CALLS and name not in STORAGES and name not in INERT:
        raise Refused(f"it asks to run {name}, so it is more than weights; don't open it elsewhere", unsafe=True)
    return Global(name)


def checked_key(key: Any) -> Any:
    """Return a key of a dictionary or set if hashing it is quick; raises ``Refused``."""
    if isinstance(key, _PLAIN_KEYS) and not (isinstance(key, int) and abs(key) >= 1 << 64):
        return key
    raise Refused(f"it has a dictionary or set with {type(key).__name__} keys")


def _record(name: str) -> Callable[..., Record]:
    return lambda *_: Record(name)


def _mapping(pairs: Any = ()) -> dict[Any, Any]:
    return {checked_key(key): value for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)}


def _set(items: Any = ()) -> set[Any]:
    return {checked_key(item) for item in items}


def _device(*parts: Any) -> str:
    return ":".join(str(checked_key(part)) for part in parts)


def _path(kind: type[PurePath]) -> Callable[..., str]:
    def text(*parts: Any) -> str:
        if sum(map(len, parts)) > MAX_PATH:
            raise Refused(f"it has a path of more than {MAX_PATH} characters", unsafe=True)
        return str(kind(*parts))

    return text


def _empty_bytes() -> bytes:
    return b""


def _persistent_object(meta: Any) -> Record:
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise Refused("it has a persistent object of an unknown form")
    return Record(
        str(checked_key(meta.get("class_name"))), meta["state"]
    )  # module_src, its program text, is dropped unread


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    return place_tensor(storage, offset, shape, stride)


def _parameter(data: Any, *_: Any) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise Refused("a parameter of it is not a tensor")
    return data


def _tensor_with_attributes(function: Any, _type: Any, arguments: Any, _state: Any) -> StoredTensor:
    if function != Global("torch._utils._rebuild_tensor_v2"):
        raise Refused("a tensor of it is of an unknown kind")
    return _tensor(*arguments)


def _numpy_type(code: Any, *_: Any) -> NumpyType:
    if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[biuf][1248]", code) or code[-2:] not in DTYPES:
        raise Refused("it has numpy values that are neither booleans, integers nor floats", unsafe=True)
    return NumpyType(code[-2:], code[0].replace("=", "<") if len(code) == 3 else "<")


def _scalar(kind: Any, data: Any) -> Any:
    data = _bytes(data)
    if not isinstance(kind, NumpyType) or len(data) != kind.dtype.itemsize:
        raise Refused("a number of it is damaged")
    return np.frombuffer(data, kind.dtype)[0].item()


def _empty_array(*_: Any) -> StoredTensor:
    return StoredTensor(Storage(torch.uint8, 0, memoryview(b"")), 0, (0,), (1,))


def _fill_array(target: StoredTensor, state: Any) -> None:
    _, shape, kind, fortran, data = state
    target.storage, target.shape = _array_storage(kind, data), tuple(shape)
    strides = row_major(target.shape[::-1])[::-1] if fortran else row_major(target.shape)
    checked = place_tensor(target.storage, 0, target.shape, strides)
    if math.prod(checked.shape) != target.storage.count:
        raise Refused("an array of it has another number of values than its shape")
    target.stride = checked.stride


def _array_storage(kind: Any, data: Any) -> Storage:
    if not isinstance(kind, NumpyType) or kind.order == ">":
        raise Refused("an array of it is not of numbers in this machine's byte order")
    view = memoryview(_bytes(data))
    return Storage(DTYPES[kind.code], len(view) // kind.dtype.itemsize, view)


def _array_from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> StoredTensor:
    array = _empty_array()
    _fill_array(array, (1, shape, kind, order == "F", data))
    return array


def _bytes(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise Refused("an array of it is not stored as bytes")
    return data


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("it encodes text in an unknown way")
    return text.encode("latin-1")


def _old_object(cls: Any, *_: Any) -> Any:
    return call(cls, ())


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,  # the milestones of MultiStepLR
    "dnnlib.util.EasyDict": _mapping,
    "dnnlib.EasyDict": _mapping,
    "argparse.Namespace": _record("argparse.Namespace"),
    "dnnlib.tflib.network.Network": _record("dnnlib.tflib.network.Network"),
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Tensor": _record("torch.Tensor"),
    "torch.Size": lambda sizes=(): tuple(sizes),
    "torch.device": _device,
    "numpy.dtype": _numpy_type,
    "numpy.ndarray": _empty_array,
    "_codecs.encode": _encode,
}
for _module in ("pathlib", "pathlib._local"):  # Python 3.13 alone writes the second
    CALLS[f"{_module}.PosixPath"] = CALLS[f"{_module}.PurePosixPath"] = _path(PurePosixPath)
    CALLS[f"{_module}.WindowsPath"] = CALLS[f"{_module}.PureWindowsPath"] = _path(PureWindowsPath)
for _module in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    CALLS[f"{_module}.multiarray.scalar"] = _scalar
    CALLS[f"{_module}.multiarray._reconstruct"] = _empty_array
    CALLS[f"{_module}.numeric._frombuffer"] = _array_from_buffer
for _module in ("builtins", "__builtin__"):
    CALLS[f"{_module}.set"] = CALLS[f"{_module}.frozenset"] = _set
    CALLS[f"{_module}.object"] = _record("object")
    CALLS[f"{_module}.bytes"] = _empty_bytes  # protocol 2 writes b"" as a call without arguments
for _module in ("copyreg", "copy_reg"):
    CALLS[f"{_module}._reconstructor"] = _old_object
