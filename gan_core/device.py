"""Where networks compute: the device that ``run.device`` names, and the sizes that suit its kind.

Loaders bring networks to the device of their context, ``place`` brings inputs there and ``fetch`` brings results back.
Random numbers are drawn on the CPU and then placed, so that every device sees the same ones.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from gan_core.errors import ParamsError, near_matches

Placed = TypeVar("Placed", bound=Tensor | nn.Module)
CPU = "cpu"
CHUNK = 8
"""Rows in a chunk on the CPU. Each distinct size can change the last bits of results, so it is part of the numbers."""
LARGE = 256
"""Images with a longer side than this, in pixels, use smaller chunks: a chunk holds at most 8 x 256 x 256 pixels."""
WORKER = "EDIT_DATASET_WORKER"
"""The environment variable with a worker process's number."""
LOOK_EVERY = 8
"""Steps of an optimisation on a device between two looks at its losses, for which the device has to be waited for."""
Body = Callable[[], object]
"""Work on tensors whose places and shapes never change."""


def _as_it_is() -> None:
    """Prepare nothing: this kind of device is ready for use."""


class Graphs(Protocol):
    """How a kind of device records its part of some work, so that the host need not call each operator again."""

    def warm(self, body: Body) -> None:
        """Do the work as it is done before it is recorded."""

    def record(self, body: Body) -> Callable[[], None]:
        """Record the work, without doing it; what is returned does it."""


class CudaGraphs:
    """CUDA graphs, after PyTorch's recipe: the work is warmed up on a side stream, then recorded on another.

    Other threads go on using the card meanwhile: only what this thread does must be fit to be recorded.
    """

    def warm(self, body: Body) -> None:
        """Do the work on a side stream, after what the current one has been given."""
        with torch.cuda.device(computing().device):
            here, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(here)
            with torch.cuda.stream(side):
                body()
            here.wait_stream(side)

    def record(self, body: Body) -> Callable[[], None]:
        """Record the work as a graph; raises ``RuntimeError`` for what CUDA can't record."""
        graph, card = torch.cuda.CUDAGraph(), computing().device
        options: dict[str, Any] = {"stream": torch.cuda.Stream(card), "capture_error_mode": "thread_local"}
        with torch.cuda.device(card), torch.cuda.graph(graph, **options):
            body()
        replay: Callable[[], None] = graph.replay
        return replay


@dataclass(frozen=True)
class Kind:
    """A kind of device: how many this process sees, and whether they compute in bfloat16 as fast as in float32.

    A chunk of images holds at most ``rows`` of ``side`` x ``side`` pixels. ``prepare`` is called before first use.
    ``graphs`` records work, on kinds that can.
    """

    count: Callable[[], int]
    has_bfloat16: Callable[[], bool]
    rows: int = CHUNK
    side: int = LARGE
    prepare: Callable[[], None] = _as_it_is
    graphs: Graphs | None = None


@dataclass(frozen=True)
class Compute:
    """What computes, in one value: ``device`` as torch names it (``cpu``, ``cuda:0``), and the sizes that suit it.

    A chunk of images holds at most ``rows`` of ``side`` x ``side`` pixels. An optimisation has the host wait for its
    losses every ``look_every`` steps. ``graphs`` records work that is repeated; without it operators are called.
    """

    device: str = CPU
    rows: int = CHUNK
    side: int = LARGE
    look_every: int = 1
    graphs: Graphs | None = None

    @property
    def kind(self) -> str:
        """The kind of device, a name of ``KINDS``."""
        return self.device.partition(":")[0]


def _mkldnn_bfloat16() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cuda_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def keep_exact() -> None:
    """Make CUDA compute float32 in float32, by algorithms that are fixed and, where there are any, deterministic.

    This holds for the process. Where torch has no deterministic algorithm it warns, once an operator.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    # otherwise every ``empty`` is filled by a kernel of its own, with values that nothing reads
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


KINDS: dict[str, Kind] = {
    # 32 images of 512 px (8 of 1024): a generator's largest activations in float32 then take about 4 GB
    "cuda": Kind(torch.cuda.device_count, _cuda_bfloat16, rows=32, side=512, prepare=keep_exact, graphs=CudaGraphs()),
    "mps": Kind(torch.backends.mps.is_available, lambda: False),
    CPU: Kind(lambda: 1, _mkldnn_bfloat16),
}
"""Kinds of devices by name; ``auto`` takes the first of which there is one."""
HOST = Compute()
_computing: ContextVar[Compute] = ContextVar("computing", default=HOST)


def computing() -> Compute:
    """Return what computes in this context: the CPU, unless ``compute_on`` was told otherwise."""
    return _computing.get()


@contextmanager
def compute_on(device: str | Compute) -> Iterator[Compute]:
    """Compute on a device within the block: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or what was found before.

    It holds for this thread. Raises ``ParamsError`` for a device that is not there.
    """
    found = device if isinstance(device, Compute) else find_device(device)
    token = _computing.set(found)
    try:
        yield found
    finally:
        _computing.reset(token)


def on_host() -> AbstractContextManager[Compute]:
    """Compute on the CPU within the block: what is read or drawn there, a piece at a time, before it is placed."""
    return compute_on(HOST)


def find_device(wanted: str) -> Compute:
    """Return what ``run.device`` names, ready for use; raises ``ParamsError`` if it is not there.

    ``cuda`` without a number is the first card, and for worker processes each the next one (``number_worker``).
    """
    name, _, number = wanted.partition(":")
    if name == "auto":
        name = next(kind for kind in KINDS if KINDS[kind].count())
    if name not in KINDS or (number and not number.isdecimal()):
        raise ParamsError(f"run.device: unknown device {wanted!r}{near_matches(wanted, [*KINDS, 'auto'])}")
    kind = KINDS[name]
    there = int(kind.count())
    if not there or (number and int(number) >= there):
        raise ParamsError(f"run.device: there is no {wanted}, {_seen(name, there)}: choose another, or auto")
    kind.prepare()
    if name == CPU:
        return HOST
    card = number or int(os.environ.get(WORKER) or 0) % there
    return Compute(f"{name}:{card}", kind.rows, kind.side, LOOK_EVERY, kind.graphs)


def describe_device(wanted: str) -> str:
    """Return in a line what will compute where ``run.device`` is ``wanted``, and why; raises ``ParamsError``."""
    found = find_device(wanted)
    others = [f"no {kind}" for kind in KINDS if kind != CPU and not KINDS[kind].count()]
    why = f"run.device is {wanted}" + (f", there is {' and '.join(others)}" if wanted == "auto" and others else "")
    card = f" ({torch.cuda.get_device_name(found.device)})" if found.kind == "cuda" else ""
    return f"{found.device}{card}: {why}"


def has_bfloat16() -> bool:
    """Return whether the device supports bfloat16; a CPU that doesn't emulates it, 75 times slower than float32."""
    return KINDS[computing().kind].has_bfloat16()


def number_worker(number: int) -> None:
    """Give this process, and those that it starts, its number among the workers of a run, from 0: ``cuda`` follows."""
    os.environ[WORKER] = str(number)


def workers_a_card(wanted: str, processes: int) -> int:
    """Return how many of so many worker processes share a card where ``run.device`` is ``wanted``."""
    name = find_device(wanted).kind
    shared = name == CPU or ":" in wanted
    return processes if shared else -(-processes // int(KINDS[name].count()))


def place(item: Placed) -> Placed:
    """Bring a tensor ``[...]`` or a network to the device of this context; on the CPU this returns the same object."""
    moved: Any = item.to(computing().device)
    return cast(Placed, moved)


def place_array(array: np.ndarray) -> Tensor:
    """Return an array ``[...]`` as a tensor on the device of this context."""
    return place(torch.from_numpy(array))


def send(array: Sequence[float] | Tensor, into: Tensor) -> None:
    """Overwrite a tensor ``[...]`` with numbers of the host, which doesn't wait for the device."""
    values = array if isinstance(array, Tensor) else torch.tensor(array)
    into.copy_(values.to(into.dtype), non_blocking=True)


def widest(tensor: Tensor) -> Tensor:
    """Return a tensor ``[...]`` in float64 on the CPU, else unchanged: MPS has none, and most GPUs are slow at it."""
    return tensor.double() if tensor.device.type == CPU else tensor


def fetch(tensor: Tensor) -> np.ndarray:
    """Bring a tensor ``[...]`` back as an array."""
    return tensor.detach().cpu().numpy()


def fetch_all(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors ``[...]`` of one type to the CPU in one go; the host waits for the device once."""
    if all(tensor.device.type == CPU for tensor in tensors.values()):
        return dict(tensors)
    parts = torch.cat([tensor.flatten() for tensor in tensors.values()]).cpu()
    parts = parts.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)}


def synchronise() -> None:
    """Wait until the device of this context has done all that it was given, as clocks need; the CPU always has."""
    if computing().kind == "cuda":
        torch.cuda.synchronize(computing().device)
    elif computing().kind == "mps":
        torch.mps.synchronize()


def _seen(kind: str, there: int) -> str:
    masked = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = f" with CUDA_VISIBLE_DEVICES={masked}" if kind == "cuda" and masked is not None else ""
    return f"this process sees {there}{hidden}"
