"""The allow-list of names that a pickle may contain, and the function that replaces each. No name is ever imported.

The functions receive untrusted values. They raise ``Refused``, or an ordinary exception (``TypeError``, ``ValueError``)
that ``PickleReader`` reports as damage.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath, PureWindowsPath

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
    "u2": torch.uint16,
    "u4": torch.uint32,
    "u8": torch.uint64,
    "b1": torch.bool,
}
OTHER_TENSORS = {f"torch.{name}Storage" for name in ("ComplexFloat", "ComplexDouble", "QInt8", "QUInt8", "QInt32")}
VALUES = {
    "collections.defaultdict",
    "collections.deque",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "decimal.Decimal",
    "fractions.Fraction",
    "types.SimpleNamespace",
    "uuid.UUID",
}
"""Types of options that run nothing, but are not read."""
MAX_PATH = 4096  # PATH_MAX of Linux
PlainKey = str | int | float | bytes | None
INERT = {str(dtype) for dtype in STORAGES.values()}


@dataclass(frozen=True)
class Global:
    """A name of the allow-list that a pickle contains."""

    name: str


@dataclass
class NumpyType:
    """A numpy dtype: ``code`` such as ``"f4"``, and ``order``, which is ``"<"``, ``">"`` or ``"|"`` (one byte)."""

    code: str
    order: str = "<"

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The dtype as numpy has it: a boolean, an integer or a float."""
        return np.dtype(self.order + self.code)


def call(name: Global, arguments: tuple[object, ...]) -> object:
    """Call the replacement of ``name``; raises ``Refused`` for names that are not functions."""
    function = CALLS.get(name.name)
    if function is None:
        raise Refused(f"it calls {name.name}, which is not a function here", unsafe=True)
    return function(*arguments)


def build(target: object, state: object) -> None:
    """Set the attributes ``state`` of ``target``, as unpickling would; raises ``Refused`` for what can't have them."""
    if isinstance(target, Record):
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict) and all(isinstance(key, str) for key in part):
                target.state.update(part)
            elif part is not None:
                raise Refused(f"the attributes of {target.name} are a {type(part).__name__}")
    elif isinstance(target, NumpyType) and isinstance(state, tuple):
        target.order = {"<": "<", ">": ">", "|": "|", "=": "<"}[state[1]]
    elif isinstance(target, StoredTensor) and isinstance(state, tuple):
        _fill_array(target, *state[1:])
    elif not isinstance(target, dict):  # an OrderedDict's own attributes, such as _metadata, are not needed
        raise Refused(f"it sets attributes of a {type(target).__name__}", unsafe=True)


def allowed(name: str) -> Global:
    """Look a name up in the allow-list; raises ``Refused`` for any other."""
    if name not in CALLS and name not in STORAGES and name not in INERT:
        if name.startswith("torch._utils._rebuild"):
            raise Refused(f"it has a kind of tensor that isn't read ({name}): save it as plain tensors")
        if name in OTHER_TENSORS:
            raise Refused(f"it has a kind of tensor that isn't read ({name}): save it as float32")
        if name in VALUES:
            raise Refused(
                f"it holds a {name}, which isn't read: save it again with numbers, texts, lists and dictionaries"
            )
        raise Refused(f"it asks to run {name}, so it is more than weights; don't open it elsewhere", unsafe=True)
    return Global(name)


def checked_key(key: object) -> PlainKey:
    """Return a key of a dictionary or set if it can be hashed quickly; raises ``Refused`` if not."""
    if isinstance(key, PlainKey) and not (isinstance(key, int) and abs(key) >= 1 << 64):
        return key
    raise Refused(f"it has a dictionary or set with {type(key).__name__} keys")


def _record(name: str) -> Callable[..., Record]:
    return lambda *_: Record(name)


def _mapping(pairs: dict[object, object] | Iterable[tuple[object, object]] = ()) -> dict[PlainKey, object]:
    return {checked_key(key): value for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)}


def _set(items: Iterable[object] = ()) -> set[PlainKey]:
    return {checked_key(item) for item in items}


def _device(*parts: object) -> str:
    return ":".join(str(checked_key(part)) for part in parts)


def _path(kind: type[PurePath]) -> Callable[..., str]:
    def text(*parts: str) -> str:
        if sum(map(len, parts)) > MAX_PATH:
            raise Refused(f"it has a path of more than {MAX_PATH} characters", unsafe=True)
        return str(kind(*parts))

    return text


def _empty_bytes() -> bytes:
    return b""


def _persistent_object(meta: object) -> Record:
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise Refused("it has a persistent object of an unknown form")
    return Record(str(checked_key(meta.get("class_name"))), meta["state"])  # module_src, its source code, is never read


def _tensor(
    storage: object, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *more: object
) -> StoredTensor:
    if any(more[2:]):  # beside requires_grad and hooks: marks such as "neg", of values that are stored otherwise
        raise Refused("a tensor in it is stored as a view that is negated or conjugated: save a copy of it")
    return place_tensor(storage, offset, shape, stride)


def _parameter(data: object, *_: object) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise Refused("a parameter in it is not a tensor")
    return data


def _tensor_with_attributes(function: object, _type: object, arguments: object, _state: object) -> StoredTensor:
    if function != Global("torch._utils._rebuild_tensor_v2") or not isinstance(arguments, tuple):
        raise Refused("a tensor in it is of an unknown kind")
    return _tensor(*arguments)


def _numpy_type(code: object, *_: object) -> NumpyType:
    if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[biuf][1248]", code) or code[-2:] not in DTYPES:
        raise Refused("it has numpy values that are neither booleans, integers nor floats", unsafe=True)
    return NumpyType(code[-2:], code[0].replace("=", "<") if len(code) == 3 else "<")


def _scalar(kind: object, data: object) -> object:
    stored = _bytes(data)
    if not isinstance(kind, NumpyType) or len(stored) != kind.dtype.itemsize:
        raise Refused("a number in it is damaged")
    return np.frombuffer(stored, kind.dtype)[0].item()


def _empty_array(*_: object) -> StoredTensor:
    return StoredTensor(Storage(torch.uint8, 0, memoryview(b"")), 0, (0,), (1,))


def _fill_array(target: StoredTensor, shape: Sequence[int], kind: object, fortran: object, data: object) -> None:
    target.storage, target.shape = _array_storage(kind, data), tuple(shape)
    strides = row_major(target.shape[::-1])[::-1] if fortran else row_major(target.shape)
    checked = place_tensor(target.storage, 0, target.shape, strides)
    if math.prod(checked.shape) != target.storage.count:
        raise Refused("an array in it has another number of values than its shape")
    target.stride = checked.stride


def _array_storage(kind: object, data: object) -> Storage:
    if not isinstance(kind, NumpyType) or kind.order == ">":
        raise Refused("an array in it is not of numbers in this machine's byte order")
    view = memoryview(_bytes(data))
    return Storage(DTYPES[kind.code], len(view) // kind.dtype.itemsize, view)


def _array_from_buffer(data: object, kind: object, shape: Sequence[int], order: object) -> StoredTensor:
    array = _empty_array()
    _fill_array(array, shape, kind, order == "F", data)
    return array


def _bytes(data: object) -> bytes | bytearray | memoryview:
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise Refused("an array in it is not stored as bytes")
    return data


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("it encodes text in an unknown way")
    return text.encode("latin-1")


def _old_object(cls: Global, *_: object) -> object:
    return call(cls, ())


CALLS: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,  # the milestones of MultiStepLR
    "dnnlib.util.EasyDict": _mapping,
    "dnnlib.EasyDict": _mapping,
    "argparse.Namespace": _record("argparse.Namespace"),
    **{f"tracker.{name}": _record(f"tracker.{name}") for name in ("RunningMean", "RunningMeanTorch")},  # ALAE's losses
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
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), _scalar),
    **dict.fromkeys(("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), _empty_array),
    **dict.fromkeys(("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"), _array_from_buffer),
    **dict.fromkeys(("builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset"), _set),
    **dict.fromkeys(("builtins.object", "__builtin__.object"), _record("object")),
    # protocol 2 writes b"" as a call without arguments
    **dict.fromkeys(("builtins.bytes", "__builtin__.bytes"), _empty_bytes),
    # Python 3.13 alone writes pathlib._local
    **{f"pathlib{local}.{pure}PosixPath": _path(PurePosixPath) for local in ("", "._local") for pure in ("", "Pure")},
    **{
        f"pathlib{local}.{pure}WindowsPath": _path(PureWindowsPath)
        for local in ("", "._local")
        for pure in ("", "Pure")
    },
    **dict.fromkeys(("copyreg._reconstructor", "copy_reg._reconstructor"), _old_object),
}
