"""Warped paths (Tzelepis et al. 2021): steps along the normalised gradients of learned radial basis functions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.paths.base import PATHS, PathModel


@PATHS.register("warped")
class Warped(PathModel):
    """``f_k(z) = sum_i alpha_i exp(-gamma_k |z - s_i|^2)`` with ``2 dipoles`` supports per path (section 3.1).

    A move follows the unit gradient in equal steps of at most ``step``. The state-dict names are those of
    WarpedGANSpace. Moves along different paths don't commute; several are made in the order of the paths.
    """

    name = "warped"
    commutes = False

    def __init__(self, dim: int, count: int | None = None, dipoles: int = 32, step: float = 0.2) -> None:
        super().__init__()
        self.dim, self.count = dim, count or dim
        self.arguments = {"dim": dim, "count": self.count, "dipoles": dipoles, "step": step}
        self.dipoles, self.step = dipoles, step
        radii = 1 + 3 * torch.arange(self.count) / self.count
        one = F.normalize(torch.randn(self.count, dipoles, dim), dim=2) * radii[:, None, None]
        self.SUPPORT_SETS = nn.Parameter(torch.stack([one, -one], 2).flatten(1))
        self.ALPHAS = nn.Parameter(torch.tensor([1.0, -1.0]).repeat(self.count, dipoles), requires_grad=False)
        self.LOGGAMMA = nn.Parameter(torch.full((self.count, 1), -math.log(dim)))

    def direction(self, codes: Tensor, paths: Tensor) -> Tensor:
        """Return the unit gradient ``[B, dim]`` of ``f_k`` at ``codes [B, dim]`` for ``paths [B]``."""
        return _unit_gradient(codes, *self._functions(paths))

    def _functions(self, paths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gather the supports ``[B, 2 dipoles, dim]``, factors ``[B, 2 dipoles]`` and ``gamma [B, 1]`` of each move."""
        supports = self.SUPPORT_SETS.view(self.count, 2 * self.dipoles, self.dim)[paths]
        return supports, self.ALPHAS[paths], self.LOGGAMMA[paths].exp()

    def move(self, codes: Tensor, paths: Tensor, amounts: Tensor) -> Tensor:
        self.check(codes, paths)
        counts = (amounts.abs() / self.step - 1e-4).ceil().clamp_min(1)  # 1e-4: rounding must not add a step
        step = (amounts / counts)[:, None]
        functions = self._functions(paths)
        for i in range(int(counts.max()) if len(counts) else 0):
            step = torch.where(counts[:, None] > i, step, 0.0)
            codes = codes + step * _unit_gradient(codes, *functions)
        return codes


def _unit_gradient(codes: Tensor, supports: Tensor, alphas: Tensor, gamma: Tensor) -> Tensor:
    """The largest exponent is subtracted first, which doesn't change the direction.

    Without that, as in the published code, the gradient underflows far from all supports.
    """
    away = codes[:, None] - supports
    exponent = -gamma * away.square().sum(2)
    weight = alphas * torch.exp(exponent - exponent.amax(1, keepdim=True).detach())
    return F.normalize(-(weight[:, :, None] * away).sum(1), dim=1, eps=1e-30)
