"""Curvilinear paths by a continuous flow (Aoshima and Matsubara 2023; the network of Grathwohl et al. 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_core.paths import solver
from gan_core.paths.base import PATHS, Straightening

END = 0.1
"""Time to which the flow is integrated, as in the published code."""


class ConcatSquash(nn.Module):
    """Computes ``(W x + b) sigmoid(g t + c) + h t`` for a time ``t`` and ``x [B, inputs]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self._layer = nn.Linear(inputs, outputs)
        self._hyper_bias = nn.Linear(1, outputs, bias=False)
        self._hyper_gate = nn.Linear(1, outputs)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self._layer(x) * torch.sigmoid(self._hyper_gate(t)) + self._hyper_bias(t)

    def with_tangent(self, t: Tensor, x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the layer's output at ``x [B, inputs]``, and its derivative along ``tangent [B, inputs]``."""
        gate = torch.sigmoid(self._hyper_gate(t))
        return self._layer(x) * gate + self._hyper_bias(t), (tangent @ self._layer.weight.t()) * gate


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

    def with_tangent(self, t: Tensor, x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the field at ``x [B, dim]``, and its derivative along ``tangent [B, dim]``, by forward mode."""
        for i, layer in enumerate(self.layers):
            if i:
                x = torch.tanh(x)
                tangent = tangent * (1 - x * x)
            x, tangent = layer.with_tangent(t, x, tangent)  # type: ignore[operator]  # a ModuleList has untyped entries
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
        return self._solve(self._slope, codes, 0.0, END)

    def inverse(self, coordinates: Tensor) -> Tensor:
        return self._solve(self._slope, coordinates, END, 0.0)

    def inverse_and_log_volume(self, coordinates: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """Map coordinates ``[B, dim]`` to ``z [B, dim]``, and return the log-determinant of ``f`` there, ``[B]``.

        It is the integral of the field's trace, estimated with one ``probe [B, dim]`` (Grathwohl et al. 2019, section
        3.1).
        """

        def slope(t: float, state: Tensor) -> Tensor:
            y, product = self.field.with_tangent(_time(t, state), state[:, :-1], probe)
            return torch.cat([y, -(product * probe).sum(1, keepdim=True)], 1)

        start = torch.cat([coordinates, torch.zeros_like(coordinates[:, :1])], 1)
        end = self._solve(slope, start, END, 0.0)
        return end[:, :-1], end[:, -1]

    def _slope(self, t: float, x: Tensor) -> Tensor:
        return self.field(_time(t, x), x)

    def _solve(self, slope: solver.Field, x: Tensor, start: float, end: float) -> Tensor:
        if self.tolerance is None:
            return solver.runge_kutta(slope, x, start, end, self.steps)
        return solver.dormand_prince(slope, x, start, end, self.tolerance)


def _time(t: float, like: Tensor) -> Tensor:
    return torch.full((1,), t, dtype=like.dtype, device=like.device)
