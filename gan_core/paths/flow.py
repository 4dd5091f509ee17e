"""Curvilinear paths by a continuous flow (Aoshima and Matsubara 2023; the network of Grathwohl et al. 2019)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gan_core.paths import solver
from gan_core.paths.base import PATHS, Straightening

END = 0.1
"""Time to which the flow is integrated, as in the published code."""


Affine = tuple[Tensor, Tensor]
"""A layer ``x W + b`` with ``W [inputs, outputs]`` and ``b [outputs]``, or several of them."""
LayersAt = Callable[[float], Sequence[Affine]]
"""Returns the layers of a field at a time."""


class ConcatSquash(nn.Module):
    """Computes ``(W x + b) sigmoid(g t + c) + h t`` for a time ``t`` and ``x [B, inputs]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self._layer = nn.Linear(inputs, outputs)
        self._hyper_bias = nn.Linear(1, outputs, bias=False)
        self._hyper_gate = nn.Linear(1, outputs)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self._layer(x) * torch.sigmoid(self._hyper_gate(t)) + self._hyper_bias(t)

    def at(self, times: Tensor) -> Affine:
        """Return the layer at ``times [T, 1]``: weights ``[T, inputs, outputs]`` and biases ``[T, outputs]``."""
        gate = torch.sigmoid(self._hyper_gate(times))
        return gate[:, None] * self._layer.weight.t(), gate * self._layer.bias + self._hyper_bias(times)


class Field(nn.Module):
    """The field ``dx/dt = h(t, x)``: ConcatSquash layers with tanh in between, from ``widths[0]`` to ``widths[-1]``."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(widths[:-1], widths[1:], strict=True)  # noqa: RUF007
        self.layers = nn.ModuleList(ConcatSquash(before, after) for before, after in pairs)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(t, torch.tanh(x) if i else x)
        return x

    def at(self, times: Tensor) -> list[list[Affine]]:
        """Return, for each of ``times [T]``, what its layers are then: weights ``[inputs, outputs]`` and biases.

        A flow asks for its field dozens of times a move; like this that is a product and a sum a layer.
        """
        layers = [layer.at(times[:, None]) for layer in self.layers]  # type: ignore[operator]  # untyped entries
        unbound = [list(zip(weights.unbind(), biases.unbind(), strict=True)) for weights, biases in layers]
        return [list(parts) for parts in zip(*unbound, strict=True)]


def field_of(layers: Sequence[Affine], x: Tensor) -> Tensor:
    """Return the field at ``x [B, dim]`` by its layers at one time."""
    for i, (weight, bias) in enumerate(layers):
        x = torch.addmm(bias, torch.tanh(x) if i else x, weight)
    return x


def field_and_tangent(layers: Sequence[Affine], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the field at ``x [B, dim]``, and its derivative along ``tangent [B, dim]``, by forward mode."""
    for i, (weight, bias) in enumerate(layers):
        if i:
            x = torch.tanh(x)
            tangent = tangent * (1 - x * x)
        x, tangent = torch.addmm(bias, x, weight), tangent @ weight
    return x, tangent


class Wrapped(nn.Module):
    """Holds modules under their names in the published state dict."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


@PATHS.register("curvilinear")
class Curvilinear(Straightening):
    """``f`` integrates a learned field from time 0 to 0.1; state-dict names of DeCurvEd.

    It takes ``steps`` of Runge-Kutta in each direction, or adaptive steps with a ``tolerance`` (1e-5 in the published
    code).
    """

    name = "curvilinear"

    def __init__(
        self,
        dim: int,
        count: int | None = None,
        hidden: Sequence[int] | None = None,
        steps: int = 8,
        tolerance: float | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.count = dim, count or dim
        widths = list(hidden) if hidden is not None else [dim] * 5
        self.steps, self.tolerance = steps, tolerance
        self.arguments = {
            "dim": dim,
            "count": self.count,
            "hidden": widths,
            "steps": steps,
            "tolerance": tolerance,
        }
        function = Wrapped(diffeq=Field([dim, *widths, dim]))
        function.register_buffer("_num_evals", torch.tensor(0.0))
        self.chain = nn.ModuleList([Wrapped(odefunc=function)])

    @property
    def field(self) -> Field:
        """The field ``h``."""
        field = self.get_submodule("chain.0.odefunc.diffeq")
        assert isinstance(field, Field)
        return field

    def forward(self, codes: Tensor) -> Tensor:
        return self._solve_rows(codes, 0.0, END)

    def inverse(self, coordinates: Tensor) -> Tensor:
        return self._solve_rows(coordinates, END, 0.0)

    def inverse_and_log_volume(self, coordinates: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """Map coordinates ``[B, dim]`` to ``z [B, dim]``, and return the log-determinant of ``f`` there, ``[B]``.

        It is the integral of the field's trace, estimated with one ``probe [B, dim]`` (Grathwohl et al. 2019, section
        3.1).
        """
        return self._inverse_and_log_volume(coordinates, probe, self._layers(coordinates))

    def move_and_penalty(self, codes: Tensor, paths: Tensor, amounts: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same as ``move``, up to rounding, and return the square of the log-determinant there, ``[B]``."""
        layers, shift = self._layers(codes), nn.functional.pad(self.one_hot(paths, amounts), (0, self.dim - self.count))
        straight = self._solve(lambda t, x: field_of(layers(t), x), codes, 0.0, END)
        moved, log_volume = self._inverse_and_log_volume(straight + shift, probe, layers)
        return moved, log_volume.square()

    def _inverse_and_log_volume(self, coordinates: Tensor, probe: Tensor, layers: LayersAt) -> tuple[Tensor, Tensor]:
        def slope(t: float, state: Tensor) -> Tensor:
            y, product = field_and_tangent(layers(t), state[:, :-1], probe)
            return torch.cat([y, -(product * probe).sum(1, keepdim=True)], 1)

        start = torch.cat([coordinates, torch.zeros_like(coordinates[:, :1])], 1)
        end = self._solve(slope, start, END, 0.0)
        return end[:, :-1], end[:, -1]

    def _layers(self, like: Tensor) -> LayersAt:
        """The layers by time: at all times of equal steps and their middles together, at others when they are asked."""
        if self.tolerance is not None:
            return lambda t: self.field.at(_time(t, like))[0]
        halves = 2 * self.steps
        times = torch.arange(halves + 1, dtype=like.dtype, device=like.device) * (END / halves)
        layers = self.field.at(times)
        return lambda t: layers[round(t / END * halves)]

    def _slope(self, t: float, x: Tensor) -> Tensor:
        return self.field(_time(t, x), x)

    def _solve_rows(self, x: Tensor, start: float, end: float) -> Tensor:
        """Solve for rows, each by itself where steps adapt: their width follows the error of all that is solved."""
        parts = [x] if self.tolerance is None else x.split(1)
        return torch.cat([self._solve(self._slope, part, start, end) for part in parts])

    def _solve(self, slope: solver.Field, x: Tensor, start: float, end: float) -> Tensor:
        if self.tolerance is None:
            return solver.runge_kutta(slope, x, start, end, self.steps)
        return solver.dormand_prince(slope, x, start, end, self.tolerance)


def _time(t: float, like: Tensor) -> Tensor:
    return torch.full((1,), t, dtype=like.dtype, device=like.device)
