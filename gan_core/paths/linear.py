"""Linear and related paths (Voynov and Babenko 2020, section 3.2), where a deformator gives the shift of a move."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.paths.base import PATHS, PathModel


class Deformator(PathModel):
    """Moves by ``A(t e_k)``, independently of the starting point; state-dict names of GANLatentDiscovery.

    ``out`` is the width of ``A``'s output, which is padded with zeros or truncated to ``dim``.
    """

    commutes = True

    def __init__(self, dim: int, count: int | None = None, out: int | None = None) -> None:
        super().__init__()
        self.dim, self.count = dim, count or dim
        self.out = out or dim
        self.arguments = {"dim": dim, "count": self.count, "out": self.out}

    @abstractmethod
    def deform(self, x: Tensor) -> Tensor:
        """Apply ``A`` to ``x [B, count]``: ``[B, out]``."""

    def shift(self, x: Tensor) -> Tensor:
        """Return ``A(x)`` for ``x [B, count]`` as a shift of the latent, ``[B, dim]``."""
        shift = self.deform(x)
        return F.pad(shift, (0, self.dim - shift.shape[1])) if shift.shape[1] < self.dim else shift[:, : self.dim]

    def move(self, codes: Tensor, paths: Tensor, amounts: Tensor) -> Tensor:
        """Add ``A(t e_k)`` to ``codes [B, dim]`` for paths k and amounts t, both ``[B]``.

        Where t is 0 nothing is added, even if ``A`` has a bias. Raises ``ParamsError`` as ``check`` does.
        """
        self.check(codes, paths)
        return codes + torch.where(amounts[:, None] != 0, self.shift(self.one_hot(paths, amounts)), 0.0)

    def _square(self) -> None:
        if not self.dim == self.count == self.out:
            raise ParamsError(f"{self.name} paths need as many paths as dimensions: {self.count} and {self.dim} differ")


@PATHS.register("linear")
class Linear(Deformator):
    """An arbitrary matrix and bias, initially the identity."""

    name = "linear"

    def __init__(self, dim: int, count: int | None = None, out: int | None = None) -> None:
        super().__init__(dim, count, out)
        self.linear = nn.Linear(self.count, self.out)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def deform(self, x: Tensor) -> Tensor:
        return self.linear(x)


@PATHS.register("projective")
class Projective(Linear):
    """Like linear, with the shift rescaled to the length of the move."""

    name = "projective"

    def deform(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y * (x.norm(dim=1, keepdim=True) / y.norm(dim=1, keepdim=True).clamp_min(1e-12))


@PATHS.register("orthogonal")
class Orthogonal(Deformator):
    """A rotation ``exp(M - M')``, initially close to the identity, with as many paths as dimensions."""

    name = "orthogonal"

    def __init__(self, dim: int, count: int | None = None, out: int | None = None) -> None:
        super().__init__(dim, count, out)
        self._square()
        self.log_mat_half = nn.Parameter(0.001 * torch.randn(dim, dim))

    def deform(self, x: Tensor) -> Tensor:
        return x @ torch.matrix_exp(self.log_mat_half - self.log_mat_half.t()).t()


@PATHS.register("identity")
class Identity(Deformator):
    """The axes of the space; nothing is learned."""

    name = "identity"

    def deform(self, x: Tensor) -> Tensor:
        return x


@PATHS.register("random")
class RandomRotation(Deformator):
    """A fixed random rotation, the baseline for learned paths."""

    name = "random"
    matrix: Tensor

    def __init__(self, dim: int, count: int | None = None, out: int | None = None) -> None:
        super().__init__(dim, count, out)
        self._square()
        self.register_buffer("matrix", torch.linalg.qr(torch.randn(dim, dim))[0])

    def deform(self, x: Tensor) -> Tensor:
        return x @ self.matrix.t()


@PATHS.register("fc")
class FullyConnected(Deformator):
    """Four layers with skip connections: paths are curves in the amount, of the same shape from every point."""

    name = "fc"

    def __init__(self, dim: int, count: int | None = None, out: int | None = None, width: int = 1024) -> None:
        super().__init__(dim, count, out)
        if self.out != self.count:
            raise ParamsError(f"fc paths add their input to their output: {self.count} and {self.out} differ")
        self.arguments["width"] = width
        self.fc1, self.fc4 = nn.Linear(self.count, width), nn.Linear(width, self.out)
        self.fc2, self.fc3 = nn.Linear(width, width), nn.Linear(width, width)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm1d(width) for _ in range(3))

    def deform(self, x: Tensor) -> Tensor:
        total = self.fc1(x)
        active = F.elu(self.bn1(total))
        for layer, norm in ((self.fc2, self.bn2), (self.fc3, self.bn3)):
            total = layer(active) + total
            active = F.elu(norm(total))
        return self.fc4(active) + x
