"""Repeat work on a device without calling its operators again: they are recorded once and then replayed.

A tuning step is a thousand operators, and a card computes small pictures faster than the host can call them.
"""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from gan_core.device import Body, computing

_log = logging.getLogger(__name__)
WARM_UPS = 2
"""Calls before the one that is recorded: in the first, libraries make their workspaces and optimisers their state."""
SHAPES = 4
"""Recordings of one function that are kept, each with its memory; other shapes are computed without."""

Result = TypeVar("Result")


class Repeated(Generic[Result]):
    """Work that is called, and from the third time on replayed, where the device of this context can record it.

    What it reads and writes must stay at its place and keep its shape: ``body`` takes its inputs from tensors that the
    caller overwrites (``device.send``, ``Tensor.copy_``), and its results, which are returned, are overwritten by the
    next call. While it is recorded nothing is computed, so it must not ask for a value, and must not bring anything to
    the device.
    """

    def __init__(self, body: Callable[[], Result]) -> None:
        self.body, self.graphs, self.calls = body, computing().graphs, 0
        self.result: Result | None = None
        self._replay: Body | None = None

    def __call__(self) -> Result:
        if self._replay is not None:
            self._replay()
        elif self.graphs is None:
            return self.body()
        elif self.calls < WARM_UPS:
            self.graphs.warm(self._keep)
        else:
            self._replay = self._recorded(self.graphs.record)
            self._replay()
        self.calls += 1
        assert self.result is not None
        return self.result

    def forget(self) -> None:
        """Free the recording with its memory; the work is recorded anew if it is called again."""
        self.calls, self.result, self._replay = 0, None, None

    def _keep(self) -> None:
        self.result = self.body()

    def _recorded(self, record: Callable[[Body], Body]) -> Body:
        try:
            return record(self._keep)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _log.warning("this work can't be recorded, so its operators are called one by one: %s", error)
            return self._keep


class Recorded:
    """A function of one tensor ``[...]`` that is recorded for each shape and then replayed, where the device can.

    Without such a device, or where gradients are wanted, the function is called. Weights that it reads may be
    overwritten, and not exchanged.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self._by_shape: dict[tuple[int, ...], tuple[Tensor, Repeated[Tensor]]] = {}

    def __call__(self, given: Tensor) -> Tensor:
        """Return ``function(given)``, in a tensor of its own."""
        if computing().graphs is None or torch.is_grad_enabled():
            return self.function(given)
        shape = tuple(given.shape)
        if shape not in self._by_shape:
            if len(self._by_shape) == SHAPES:
                return self.function(given)
            place, function = given.clone(), self.function
            self._by_shape[shape] = place, Repeated(lambda: function(place))
        place, work = self._by_shape[shape]
        place.copy_(given)
        return work().clone()
