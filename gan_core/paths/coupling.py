"""Curvilinear paths by a flow with a closed-form inverse: affine couplings (Dinh et al. 2017, section 3)."""

import torch
from torch import Tensor, nn

from gan_core.paths.base import PATHS, Straightening

LARGEST = 0.5
"""Bound on the log scale of one coupling: scales are between exp(-0.5) and exp(0.5)."""


class Coupling(nn.Module):
    """Scales and shifts half of the dimensions, chosen by ``order``, by a network of the other half."""

    order: Tensor

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(dim))
        self.kept = dim // 2
        last = nn.Linear(width, 2 * (dim - self.kept))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(self.kept, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        kept, scale, shift = self._parts(x)
        return self._joined(kept, x[:, self.order[self.kept :]] * scale.exp() + shift)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Invert ``forward`` for ``y [B, dim]``: return ``x [B, dim]`` and the log-determinant at x, ``[B]``."""
        kept, scale, shift = self._parts(y)
        return self._joined(kept, (y[:, self.order[self.kept :]] - shift) * (-scale).exp()), scale.sum(1)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = x[:, self.order[: self.kept]]
        scale, shift = self.network(kept).chunk(2, 1)
        return kept, LARGEST * torch.tanh(scale), shift

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([kept, moved], 1)[:, self.order.argsort()]


@PATHS.register("curvilinear-coupling")
class CurvilinearCoupling(Straightening):
    """``f`` is a chain of ``layers`` couplings, initially the identity, with exact inverse and log-determinant."""

    name = "curvilinear-coupling"

    def __init__(self, dim: int, count: int | None = None, layers: int = 6, width: int | None = None) -> None:
        super().__init__()
        self.dim, self.count = dim, count or dim
        self.arguments = {"dim": dim, "count": self.count, "layers": layers, "width": width or dim}
        self.couplings = nn.ModuleList(Coupling(dim, width or dim) for _ in range(layers))

    def forward(self, codes: Tensor) -> Tensor:
        for layer in self.couplings:
            codes = layer(codes)
        return codes

    def inverse(self, coordinates: Tensor) -> Tensor:
        return self.inverse_and_log_volume(coordinates, coordinates)[0]

    def inverse_and_log_volume(self, coordinates: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(coordinates[:, 0])
        for layer in reversed(list(self.couplings)):
            coordinates, log_volume = layer.inverse(coordinates)  # type: ignore[operator]
            total = total + log_volume
        return coordinates, total
