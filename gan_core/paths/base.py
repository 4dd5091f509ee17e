"""What every model of paths can do, whatever its shape."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.registry import Registry


class PathModel(nn.Module, ABC):
    """``count`` numbered paths through every point of a space of ``dim`` numbers.

    ``commutes`` says that moves along several paths may be made in any order. ``arguments`` are the constructor's own,
    kept so that a checkpoint card can rebuild the module.
    """

    name: ClassVar[str]
    commutes: ClassVar[bool]
    arguments: dict[str, Any]
    dim: int
    count: int

    @abstractmethod
    def move(self, codes: Tensor, paths: Tensor, amounts: Tensor) -> Tensor:
        """Move each of ``codes [B, dim]`` along its own path ``[B]`` (integers) by its own amount ``[B]``."""

    def move_all(self, codes: Tensor, amounts: Tensor) -> Tensor:
        """Move ``codes [B, dim]`` along every path by ``amounts [B, count]``: in the order of the paths."""
        for path in amounts.abs().sum(0).nonzero().flatten().tolist():
            paths = torch.full((len(codes),), path, device=codes.device)
            codes = self.move(codes, paths, amounts[:, path])
        return codes

    def move_and_penalty(self, codes: Tensor, paths: Tensor, amounts: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """``move``, with what training adds to the loss of each row ``[B]``; ``probe [B, dim]`` is standard normal."""
        return self.move(codes, paths, amounts), codes.new_zeros(len(codes))

    def check(self, codes: Tensor, paths: Tensor) -> None:
        """Raise ``ParamsError`` for codes of another width or a path that isn't there."""
        if codes.dim() != 2 or codes.shape[1] != self.dim:
            raise ParamsError(
                f"codes are {list(codes.shape)}, these paths need [B, {self.dim}]: made for another space"
            )
        wrong = paths[(paths < 0) | (paths >= self.count)]
        if len(wrong):
            raise ParamsError(f"no path {int(wrong[0])}: this model has {self.count}, counted from 0")

    def one_hot(self, paths: Tensor, amounts: Tensor) -> Tensor:
        """``amounts [B]`` at the places of ``paths [B]``, ``[B, count]``."""
        places = torch.arange(self.count, device=paths.device) == paths[:, None]
        return torch.where(places, amounts[:, None], 0.0)


class Straightening(PathModel):
    """Paths that are the images of straight lines under an invertible map: ``f^-1(f(z) + sum_k t_k e_k)``.

    Moves commute exactly, and opposite moves cancel (Aoshima and Matsubara 2023, section 3).
    """

    commutes = True

    @abstractmethod
    def forward(self, codes: Tensor) -> Tensor:
        """``z [B, dim]`` -> coordinates ``f(z) [B, dim]``, in which path k is axis k."""

    @abstractmethod
    def inverse(self, coordinates: Tensor) -> Tensor:
        """Coordinates -> ``z``."""

    @abstractmethod
    def inverse_and_log_volume(self, coordinates: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """``z``, and ``log |det df/dz|`` there ``[B]``, perhaps estimated with the ``probe [B, dim]``."""

    def move(self, codes: Tensor, paths: Tensor, amounts: Tensor) -> Tensor:
        self.check(codes, paths)
        return self.move_all(codes, self.one_hot(paths, amounts))

    def move_all(self, codes: Tensor, amounts: Tensor) -> Tensor:
        shift = nn.functional.pad(amounts, (0, self.dim - self.count))
        return self.inverse(self(codes) + shift)

    def move_and_penalty(self, codes: Tensor, paths: Tensor, amounts: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        shift = nn.functional.pad(self.one_hot(paths, amounts), (0, self.dim - self.count))
        moved, log_volume = self.inverse_and_log_volume(self(codes) + shift, probe)
        return moved, log_volume.square()


PATHS: Registry[type[PathModel]] = Registry("path model", "gan_core.paths", PathModel)
