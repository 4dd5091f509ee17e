"""A step of tuning on a device that runs ahead of the host: recorded once, replayed, and seldom looked at."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_core.capture import Repeated
from gan_core.device import send
from gan_core.inversion.locality import Locality, Perceptual
from gan_core.inversion.objective import objective
from gan_core.inversion.weights import RowWeights
from gan_core.params import TuneParams


class StepAhead:
    """Draws all rows, and moves the weights of those that go on; nothing is read, and every shape is fixed.

    After a call ``images [places, 3, H, W]`` and ``terms [places, 3]`` (of ``objective``) are those before its move. A
    row whose perceptual distance is at most ``params.stop_perceptual``, or whose loss is NaN, stays as it is from that
    step on, as on the CPU, where the host sees it at once. ``alike`` says that no row ever differs from the others in
    its rate. Only the first ``rows`` places have gradients: a single row is there twice.
    """

    def __init__(
        self,
        weights: RowWeights,
        below: tuple[Tensor, ...],
        codes: Tensor,
        wanted: Tensor,
        loss: Perceptual,
        params: TuneParams,
        locality: Locality | None,
        *,
        rows: int,
        alike: bool,
    ) -> None:
        self.weights, self.below, self.codes, self.wanted = weights, below, codes, wanted
        self.loss, self.params, self.locality, self.rows = loss, params, locality, rows
        places = len(codes)
        self.rate: float | Tensor = codes.new_zeros(())
        self.shares = None if alike else codes.new_ones(places)
        self.going = codes.new_ones(places)
        self.z = codes.new_zeros(places, weights.generator.z_dim)
        self.images, self.terms = codes.new_zeros(0), codes.new_zeros(0)
        self.repeated = Repeated(self._body)

    def __call__(self, rates: Sequence[float]) -> None:
        """Take a step with learning rates, one a place."""
        asked = torch.tensor(rates)
        highest = float(asked.max())
        if self.repeated.graphs is None:
            self.rate = highest
        else:
            assert isinstance(self.rate, Tensor)
            send([highest], self.rate.view(1))
        if self.shares is not None:
            send(asked / (highest or 1.0), self.shares)
        if self.locality:
            send(self.locality.sample(), self.z)
        self.images, self.terms = self.repeated()

    @torch.enable_grad()
    def _body(self) -> tuple[Tensor, Tensor]:
        images = self.weights.draw(self.below, self.codes)
        totals, terms = objective(images, self.wanted, self.loss, self.params)
        totals[: self.rows].sum().backward()
        if self.locality:
            (self.params.locality_weight * self.locality.at(self.z, self.weights).sum()).backward()
        if self.params.stop_perceptual:
            self.going.mul_(terms[:, 2] > self.params.stop_perceptual)
        self.weights.move(self.rate, None if self.shares is None else self.shares * self.going)
        return images.detach(), terms
