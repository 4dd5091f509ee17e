"""The common interface of all path models."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.registry import Arguments, Registry


class PathModel(nn.Module, ABC):
    """``count`` numbered paths through each point of a space of ``dim`` dimensions.

    If it ``commutes``, moves along several paths can be made in any order. ``arguments`` are those of its constructor.
    """

    name: ClassVar[str]
    commutes: ClassVar[bool]
    arguments: Arguments
    dim: int
    count: int

    @abstractmethod
    def move(self, codes: Tensor, paths: Tensor, amounts: Tensor) -> Tensor:
        """Move each of ``codes [B, dim]`` along its own path ``[B]`` (an integer) by its own amount ``[B]``.

        Raises ``ParamsError`` for codes of another width and for unknown paths.
        """

    def move_all(self, codes: Tensor, amounts: Tensor) -> Tensor:
        """Move ``codes [B, dim]`` along every path by ``amounts [B, count]``, in the order of the paths."""
        for path in amounts.abs().sum(0).nonzero().flatten().tolist():
            paths = torch.full((len(codes),), path, device=codes.device)
            codes = self.move(codes, paths, amounts[:, path])
        return codes

    def move_and_penalty(self, codes: Tensor, paths: Tensor, amounts: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same as ``move``, and also return a penalty ``[B]`` for training.

        ``probe [B, dim]`` is standard normal.
        """
        return self.move(codes, paths, amounts), codes.new_zeros(len(codes))

    def check(self, codes: Tensor, paths: Tensor) -> None:
        """Raise ``ParamsError`` unless ``codes`` are ``[B, dim]`` and ``paths [B]`` exist."""
        if codes.dim() != 2 or codes.shape[1] != self.dim:
            raise ParamsError(
                f"codes are {list(codes.shape)}, these paths need [B, {self.dim}]: made for another space"
            )
        wrong = paths[(paths < 0) | (paths >= self.count)]
        if len(wrong):
            raise ParamsError(f"no path {int(wrong[0])}: this model has {self.count}, counted from 0")

    def one_hot(self, paths: Tensor, amounts: Tensor) -> Tensor:
        """Return ``[B, count]`` with ``amounts [B]`` in the columns ``paths [B]`` and 0 elsewhere."""
        places = torch.arange(self.count, device=paths.device) == paths[:, None]
        return torch.where(places, amounts[:, None], 0.0)


class Straightening(PathModel):
    """Paths that an invertible map straightens: a move is ``f^-1(f(z) + sum_k t_k e_k)``.

    Moves commute exactly, and opposite moves cancel (Aoshima and Matsubara 2023, section 3).
    """

    commutes = True

    @abstractmethod
    def forward(self, codes: Tensor) -> Tensor:
        """Map ``z [B, dim]`` to coordinates ``f(z) [B, dim]``, in which path k is axis k."""

    @abstractmethod
    def inverse(self, coordinates: Tensor) -> Tensor:
        """Map coordinates ``[B, dim]`` to ``z [B, dim]``."""

    @abstractmethod
    def inverse_and_log_volume(self, coordinates: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """Map coordinates ``[B, dim]`` to ``z [B, dim]``, and return ``log |det df/dz|`` there, ``[B]``.

        The determinant may be estimated with the ``probe [B, dim]``.
        """

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
