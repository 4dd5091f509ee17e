"""A pretended accelerator: it computes for real on the CPU, and raises where a tensor of the CPU meets one of its own.

Within ``fakegpu()`` the device ``fakegpu`` works in factories and ``.to``. It needs no GPU and no compiler. It has no
float64, like MPS, and counts the calls of operators and the times that the host waits for a value. It records work like
a CUDA graph: the operators with the tensors that they had then. It uses a private interface of torch and registers for
the whole process: import it before the first backward pass, and in tests only.
"""

from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from gan_core.device import KINDS, Kind

NAME = "fakegpu"
_setup_privateuseone_for_python_backend(NAME)
torch.__future__.set_overwrite_module_params_on_conversion(True)  # a wrapper's ``.data`` can't be exchanged
_module: Any = getattr(torch, NAME)
_module.get_rng_state = lambda device: None  # ``fork_rng`` asks for it; the device draws no numbers of its own
_module.set_rng_state = lambda device, state: None

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {
    *(aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default),
    aten._unsafe_index.Tensor,
}
DRAWN_THERE = {aten.native_dropout.default}
"""Operators that may draw on the device: dropout does while Style Transformer is trained, seeded step by step."""
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
"""Operators whose results the host waits for."""


class MixedDevicesError(RuntimeError):
    """A tensor of the CPU met one of the device."""


class DrawnThereError(RuntimeError):
    """Random numbers were drawn on the device: other ones than those of the CPU's streams."""


class NoFloat64Error(TypeError):
    """A float64 tensor was asked for on the device."""


class RecordingError(AssertionError):
    """What is being recorded needs a value of the device, or brings one of the CPU there."""


class Counts:
    """How many operators were called on the device, and how often the host waited for one of its values.

    ``sends`` counts copies to the device for which the host waits as well, ``replays`` those of recorded work.
    """

    calls = reads = sends = replays = 0

    @classmethod
    def reset(cls) -> None:
        cls.calls = cls.reads = cls.sends = cls.replays = 0


class Recording:
    """Operators in order, each with its arguments and results, and what they overwrote.

    Recording computes, to know shapes, so what is overwritten is put back at its end: a real graph does nothing then.
    """

    current: "Recording | None" = None
    alive: ClassVar["WeakSet[Recording]"] = WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)
        self.steps: list[tuple[Any, Any, dict[str, Any], Any]] = []
        self.before: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.made: set[int] = set()

    def note_writes(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Keep what an operator is about to overwrite, unless it was made meanwhile."""
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = args[place] if place < len(args) else kwargs.get(argument.name)
                tensors = [t for t in tree_leaves(given) if isinstance(t, torch.Tensor)]
                self.before += [(t, t.clone()) for t in tensors if t.untyped_storage()._cdata not in self.made]

    def note(self, func: Any, args: Any, kwargs: dict[str, Any], results: Any) -> None:
        """Add an operator that was called."""
        self.steps.append((func, args, kwargs, results))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        own = {t.untyped_storage()._cdata for t in tree_leaves(results) if isinstance(t, torch.Tensor)}
        self.made |= own - given

    def put_back(self) -> None:
        for tensor, values in reversed(self.before):
            tensor.copy_(values)

    @torch.no_grad()
    def replay(self) -> None:
        """Call the operators again with the same tensors, and put their results where they were."""
        Counts.replays += 1
        for func, args, kwargs, results in self.steps:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(results), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.untyped_storage()._cdata != new.untyped_storage()._cdata:
                    old.copy_(new)


class PretendedGraphs:
    """Records as ``CudaGraphs`` does, and refuses what CUDA refuses meanwhile."""

    def warm(self, body: Callable[[], object]) -> None:
        body()

    def record(self, body: Callable[[], object]) -> Callable[[], None]:
        recording = Recording.current = Recording()
        try:
            body()
        finally:
            Recording.current = None
        recording.put_back()
        return recording.replay


KINDS[NAME] = Kind(lambda: 2, lambda: True, graphs=PretendedGraphs())


class OnDevice(torch.Tensor):
    """A tensor of the device; ``kept`` has its numbers, on the CPU."""

    kept: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> "OnDevice":
        if real.dtype == torch.float64:
            raise NoFloat64Error("the device has no float64")
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            layout=real.layout,
            device=f"{NAME}:0",
            requires_grad=False,
        )
        made.kept = real
        return made

    def __init__(self, real: torch.Tensor) -> None:
        pass

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(_without_lists(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_without_lists(key), value)

    def tolist(self) -> Any:
        _note_read("tolist")
        return self.kept.tolist()

    def __deepcopy__(self, memo: Any) -> Any:
        copied = OnDevice(self.kept.clone())
        return torch.nn.Parameter(copied, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copied

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def _without_lists(key: Any) -> Any:
    """Make indices of the CPU of lists of numbers: in C++ they would be copied by kernels that are not there."""
    if isinstance(key, tuple):
        return tuple(map(_without_lists, key))
    return _tensor(key) if isinstance(key, list) else key


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an operator after checking where its tensors are; what it makes is where the operator would make it."""
    wanted = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    if func is aten._has_compatible_shallow_copy_type.default:
        return False
    inside = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)]
    ours = any(isinstance(tensor, OnDevice) for tensor in inside)
    _check_places(func, args, inside)
    to_device = wanted == NAME if wanted else ours
    if to_device and torch.Tag.nondeterministic_seeded in func.tags and func not in DRAWN_THERE:
        raise DrawnThereError(f"{func}: random numbers are drawn on the CPU and then placed")
    if ours or to_device:
        _count(func, args, kwargs, to_device, inside)
    if wanted:
        kwargs = kwargs | {"device": torch.device("cpu")}
    plain_args, plain_kwargs = tree_map_only(OnDevice, lambda t: t.kept, (args, kwargs))
    recording = Recording.current if ours or to_device else None
    if recording:
        recording.note_writes(func, plain_args, plain_kwargs)
    if func is aten.copy_.default and ours:
        plain_args[0].copy_(plain_args[1])
        out = plain_args[0]
    else:
        out = func(*plain_args, **plain_kwargs)
    if recording:
        recording.note(func, plain_args, plain_kwargs, out)
    if func is aten.copy_.default and ours:
        return args[0]
    if not to_device:
        return out
    out = tree_map_only(torch.Tensor, OnDevice, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if ours else out


def _check_places(func: Any, args: Any, inside: list[torch.Tensor]) -> None:
    checked = inside
    if func in INDEXED:  # indices may be on the CPU, as on CUDA; what they index and what is put there may not
        checked = [args[0], *([args[2]] if len(args) > 2 else [])]
        if any(isinstance(t, OnDevice) for t in inside) and not isinstance(args[0], OnDevice):
            raise MixedDevicesError(f"{func}: a tensor of the CPU is indexed by one of the device")
    foreign = [t for t in checked if not isinstance(t, OnDevice) and t.dim() > 0]
    if foreign and func not in COPIES and any(isinstance(t, OnDevice) for t in checked):
        where = [(tuple(t.shape), "device" if isinstance(t, OnDevice) else "cpu") for t in checked]
        raise MixedDevicesError(f"{func}: {where}")


def _count(func: Any, args: Any, kwargs: dict[str, Any], to_device: bool, inside: list[torch.Tensor]) -> None:
    Counts.calls += 1
    masks = [t for t in tree_leaves(args[1:2]) if isinstance(t, OnDevice) and t.dtype == torch.bool]
    to_host = func is aten._to_copy.default and not to_device
    to_host = to_host or (func is aten.copy_.default and not isinstance(args[0], OnDevice))
    if func in WAITS or to_host or (func is aten.index.Tensor and masks):
        _note_read(func)
    elif to_device and any(t.dim() > 0 and not isinstance(t, OnDevice) for t in inside):
        if Recording.current:
            raise RecordingError(f"{func}: numbers of the CPU are brought to the device while work is recorded")
        Counts.sends += not (func is aten.copy_.default and (kwargs.get("non_blocking") or args[2:] == (True,)))


def _note_read(what: object) -> None:
    if Recording.current:
        raise RecordingError(f"{what}: the host asks for a value while work is recorded")
    Counts.reads += 1


_tensor = torch.tensor


def _tensor_there(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
    """Do what ``torch.tensor`` does, which fills the memory of the device in C++ where no operator can be seen."""
    made = _tensor(data, **options)
    return made if device is None else made.to(device)


class fakegpu(TorchDispatchMode):
    """Lets factories and copies make tensors on the device, in this thread."""

    def __enter__(self) -> "fakegpu":
        torch.tensor = _tensor_there  # type: ignore[assignment]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.tensor = _tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})
