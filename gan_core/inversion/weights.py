"""One set of weights per image: B variants of a generator, stacked and updated by one optimiser."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gan_core.device import computing, fetch_all, place
from gan_core.generators.base import Generator, Noise


class RowWeights:
    """``rows`` copies of the generator's weights at ``resolution`` pixels and above, each ``[rows, ...]``, with Adam.

    The weights below are shared and frozen. ``generator`` itself is never changed. ``starts`` are differences from its
    weights, one dictionary for each row, that a row begins with.
    """

    def __init__(
        self,
        generator: Generator,
        resolution: int,
        rows: int,
        betas: tuple[float, float] = (0.9, 0.999),
        starts: Sequence[Mapping[str, Tensor]] = (),
    ) -> None:
        self.generator = generator
        self.resolution = resolution
        base = {name: weight.detach() for name, weight in generator.upper_parameters(resolution).items()}
        self.base = base
        self.values = {name: weight.expand(rows, *weight.shape).clone() for name, weight in base.items()}
        for row, start in enumerate(starts):
            for name in start.keys() & base.keys():
                self.values[name][row] += start[name].to(self.values[name].device)
        for value in self.values.values():
            value.requires_grad_(True)
        recorded = computing().graphs is not None
        self.optimiser = torch.optim.Adam(self.values.values(), betas=betas, fused=True, capturable=recorded)
        self._part = _Upper(generator, resolution)

    def draw(self, below: tuple[Tensor, ...], w_plus: Tensor, noise: Noise = "const") -> Tensor:
        """Draw images ``[rows, 3, size, size]``: row i of ``w_plus [rows, n_latent, w_dim]`` with the weights of row i.

        ``below`` is the result of ``Generator.lower``. ``noise`` must be ``"const"`` or ``"none"``.
        """

        def one(values: dict[str, Tensor], below: tuple[Tensor, ...], code: Tensor) -> Tensor:
            named = {f"generator.{name}": value for name, value in values.items()}
            return functional_call(self._part, named, (tuple(part[None] for part in below), code[None], noise))[0]

        return vmap(one)(self.values, below, w_plus)

    def step(self, rates: Tensor) -> None:
        """Take a step of Adam with learning rates ``[rows]``, which are on the CPU, and clear the gradients."""
        highest = float(rates.max())
        self.move(highest, None if (rates == highest).all() else place(rates / highest))

    def move(self, rate: float | Tensor, shares: Tensor | None) -> None:
        """Take a step of Adam (Kingma and Ba 2015) and clear the gradients.

        Adam has one ``rate``, a number or ``[]``. Rows with a lower one are interpolated between before and after the
        step: they go ``shares [rows]`` of the way (None: all of it).
        """
        self.optimiser.param_groups[0]["lr"] = rate
        before = None if shares is None else [value.detach().clone() for value in self.values.values()]
        self.optimiser.step()
        with torch.no_grad():
            for value, old in zip(self.values.values(), before or [], strict=False):
                assert shares is not None
                share = shares.to(value).view(-1, *[1] * (value.ndim - 1))
                value.copy_(torch.lerp(old, value, share))
        self.optimiser.zero_grad()

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only ``rows``: weights, gradients and the optimiser's moments of the others are dropped."""
        for name, old in self.values.items():
            value = old.detach()[rows].requires_grad_(True)
            value.grad = None if old.grad is None else old.grad[rows]
            state = self.optimiser.state.pop(old, {})
            self.optimiser.state[value] = {key: v if key == "step" else v[rows] for key, v in state.items()}
            self.values[name] = value
        self.optimiser.param_groups[0]["params"] = list(self.values.values())

    def deltas(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        """Return what changed in some rows, on the CPU: parameter name -> its weights minus the generator's, ``[...]``.

        The host waits for the device once.
        """
        moved = [{name: value.detach()[row] - self.base[name] for name, value in self.values.items()} for row in rows]
        together = fetch_all({f"{i} {name}": part for i, parts in enumerate(moved) for name, part in parts.items()})
        here = [{name: together[f"{i} {name}"] for name in parts} for i, parts in enumerate(moved)]
        return [{name: part for name, part in parts.items() if part.any()} for parts in here]


def draw_changed(generator: Generator, changes: Mapping[str, Tensor], w_plus: Tensor) -> Tensor:
    """Draw images ``[B, 3, size, size]``: row i of ``w_plus [B, n_latent, w_dim]`` with row i of weight differences.

    ``changes`` are ``[B, ...]`` by parameter name.
    """
    weights = {f"generator.{name}": generator.get_parameter(name).detach() + d for name, d in changes.items()}
    part = _Upper(generator, 4)

    def one(values: dict[str, Tensor], code: Tensor) -> Tensor:
        return functional_call(part, values, ((), code[None], "const"))[0]

    return vmap(one)(weights, w_plus)


class _Upper(nn.Module):
    """The upper part of a generator as a module, as ``functional_call`` requires."""

    def __init__(self, generator: Generator, resolution: int) -> None:
        super().__init__()
        self.generator = generator
        self.resolution = resolution

    def forward(self, below: tuple[Tensor, ...], w_plus: Tensor, noise: Noise) -> Tensor:
        return self.generator.upper(below, w_plus, self.resolution, noise)
