"""Train SinGAN on one picture: scale after scale, a Wasserstein game with a reconstruction (SinGAN, section 2.2)."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.device import place
from gan_core.precision import autocast, compute_dtype
from gan_core.singan.model import SinGAN
from gan_core.singan.networks import ScaleDiscriminator
from gan_core.singan.penalty import slope_penalty
from gan_core.singan.scales import plan_scales, resize
from gan_core.training.fit import Course, fit
from gan_core.training.log import Report
from gan_core.training.params import SinganParams
from gan_core.training.state import Resumable, fingerprint

BETAS = (0.5, 0.999)
MOST_CHANNELS, SCALES_A_WIDTH = 128, 4
"""Networks are twice as wide after every four scales, up to this."""
DROP = 0.1
"""What rates are multiplied with towards the end of a scale."""
REPORTS = 4
"""Reports of each scale."""
SAMPLES = 7
"""Samples that a report shows, after the reconstruction."""


@dataclass
class SinganState(Resumable):
    """The networks of all scales of several pictures; ``reals`` are their sizes, ``[1, pictures, 3, h, w]`` each.

    ``seen`` counts iterations. A picture's networks learn as they would alone.
    """

    kept = ("model", "discriminators", "optimiser", "discriminator_optimiser", "seen", "seconds")
    model: SinGAN
    discriminators: nn.ModuleList
    optimiser: torch.optim.Adam
    discriminator_optimiser: torch.optim.Adam
    reals: list[Tensor]
    key: str
    seen: int = 0
    seconds: float = 0.0

    @classmethod
    def create(cls, pictures: Tensor, params: SinganParams) -> "SinganState":
        """Begin with pictures ``[N, 3, H, W]`` in [-1, 1]; raises ``ParamsError`` where they are too small."""
        count, _, height, width = pictures.shape
        scales = plan_scales((height, width), params.factor, params.min_size, params.max_size)
        last = len(scales.sizes) - 1
        widths = [min(params.channels * 2 ** (i // SCALES_A_WIDTH), MOST_CHANNELS) for i in range(last + 1)]
        torch.manual_seed(params.seed)
        model, rivals = SinGAN(scales, widths, count), nn.ModuleList(ScaleDiscriminator(w, count) for w in widths)
        if compute_dtype(params.precision) is torch.bfloat16:
            for network in (model.generators, rivals):
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        largest = resize(pictures[None], scales.sizes[-1][0] / height, scales.sizes[-1])
        reals = [place(resize(largest, scales.factor ** (last - i), size)) for i, size in enumerate(scales.sizes)]
        key = f"{params.model_dump_json()} {fingerprint({'pictures': pictures})}"
        first, second = (
            torch.optim.Adam(part.parameters(), lr=params.lr, betas=BETAS, fused=True)
            for part in (place(model), place(rivals))
        )
        return cls(model, rivals, first, second, reals, key)

    def save(self, path: Path) -> None:
        """Write what later steps need: the moments of scales that are done are not."""
        for optimiser, networks in (
            (self.optimiser, self.model.generators),
            (self.discriminator_optimiser, self.discriminators),
        ):
            for parameter in [p for network in networks if not network.training for p in network.parameters()]:
                optimiser.state.pop(parameter, None)
        super().save(path)


def train_singan(state: SinganState, params: SinganParams, state_path: Path, report: Report) -> None:
    """Train (or go on training) all scales; the file at ``state_path`` is what it goes on from."""
    each = params.iterations
    course = Course(each * len(state.reals), 1, params.seed, -(-each // REPORTS))
    scale: Scale | None = None

    def step(stream: torch.Generator) -> dict[str, float]:
        nonlocal scale
        number, iteration = divmod(state.seen, each)
        if scale is None or scale.number != number:
            scale = Scale(state, params, number, stream if iteration == 0 else None)
        return scale.step(iteration, stream)

    fit(state, course, step, report, lambda: ({}, shown(state, params)), state_path)
    state.model.eval().requires_grad_(False)


class Scale:
    """The training of one scale, with what stays the same during it; with a stream it begins there."""

    def __init__(self, state: SinganState, params: SinganParams, number: int, stream: torch.Generator | None) -> None:
        self.state, self.params, self.number, self.model = state, params, number, state.model
        self.discriminator = cast(ScaleDiscriminator, state.discriminators[number])
        self.sizes = state.model.scales.sizes[: number + 1]
        self.fast = params.precision == "fast"
        self.real = state.reals[number]
        if stream is not None:
            self._take_over()
        for networks in (state.model.generators, state.discriminators):
            for i, network in enumerate(networks):
                network.train(i == number).requires_grad_(i == number)
        self.rebuilt = self.former()
        if stream is not None:
            self._begin(stream)

    def _take_over(self) -> None:
        """Start from the former scale's weights where they fit."""
        for networks in (self.model.generators, self.state.discriminators):
            before, after = (networks[i].state_dict() for i in (max(self.number - 1, 0), self.number))
            if all(before[name].shape == after[name].shape for name in after):
                networks[self.number].load_state_dict(before)

    def _begin(self, stream: torch.Generator) -> None:
        """Set how strong the noise is, and at the coarsest scale what the reconstruction is made of."""
        if self.number == 0:
            self.model.amplitudes[0] = 1.0
            self.model.noise.copy_(self.draw(stream)[:, :, :1])
        else:
            errors = (self.rebuilt - self.real).square().mean((0, 2, 3, 4)).sqrt()
            self.model.amplitudes[self.number] = self.params.amplitude * errors

    @torch.no_grad()
    def former(self, stream: torch.Generator | None = None, count: int = 1) -> Tensor:
        """Return the former scale's images at this one's size, ``[count, pictures, 3, h, w]``.

        They are random ones, or without a stream reconstructed: one then.
        """
        if self.number == 0:
            return torch.zeros_like(self.real).expand(count, -1, -1, -1, -1)
        with autocast(self.fast):
            if stream is None:
                before = self.model.reconstruct(self.number)
            else:
                before = self.model(self.model.draw_noises(stream, self.sizes[:-1], count))
        return self.model.enlarged(before, self.sizes[-1])

    def draw(self, stream: torch.Generator) -> Tensor:
        """Draw noise of this scale, ``[1, pictures, 3, h, w]``."""
        return self.model.draw_noises(stream, self.sizes[-1:], 1, self.number)[0]

    def step(self, iteration: int, stream: torch.Generator) -> dict[str, float]:
        """Take the discriminator's steps, then the generator's; return the last losses, means over the pictures."""
        params, model = self.params, self.model
        rate = params.lr * (DROP if iteration >= params.drop_at * params.iterations else 1.0)
        for optimiser in (self.state.optimiser, self.state.discriminator_optimiser):
            optimiser.param_groups[0]["lr"] = rate
        if self.number == 0 and params.redraw:
            model.noise.copy_(self.draw(stream)[:, :, :1])
        noise, shares = self.draw(stream), place(torch.rand(params.steps, model.pictures, 1, 1, 1, generator=stream))
        losses: dict[str, Tensor] = {}
        formers = self.former(stream, params.steps).split(1)
        for i, (former, share) in enumerate(zip(formers, shares, strict=True)):
            with torch.set_grad_enabled(i == params.steps - 1), autocast(self.fast):
                fake = model.at(self.number, noise, former)
            losses |= self.discriminate(fake.detach(), share)
        self.discriminator.requires_grad_(False)
        for i in range(params.steps):
            losses |= self.generate(fake if i == 0 else None, noise, formers[-1])
        self.discriminator.requires_grad_(True)
        return dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))

    def judge(self, images: Tensor) -> Tensor:
        """Return the discriminator's values ``[B, pictures, h, w]`` of patches of ``images [B, pictures, 3, H, W]``."""
        with autocast(self.fast):
            return self.discriminator(images.flatten(1, 2)).float()

    def discriminate(self, fake: Tensor, share: Tensor) -> dict[str, Tensor]:
        """Take one step of the discriminator on ``fake [1, pictures, 3, h, w]``; return its losses ``[]`` by name.

        The penalty is on its gradient at a mixture, of which ``share [pictures, 1, 1, 1]`` is the picture itself.
        """
        score = self.judge(fake).mean() - self.judge(self.real).mean()
        optimiser = self.state.discriminator_optimiser
        optimiser.zero_grad(set_to_none=True)
        (self.model.pictures * score).backward()
        mixed = (share * self.real + (1 - share) * fake).flatten(1, 2)
        penalty, gradients = slope_penalty(self.discriminator, mixed, compute_dtype(self.params.precision))
        weight = self.model.pictures * self.params.penalty_weight
        for name, parameter in self.discriminator.named_parameters():
            if name in gradients and parameter.grad is not None:
                parameter.grad.add_(gradients[name], alpha=weight)
        optimiser.step()
        return {"distance": -score.detach(), "penalty": penalty}

    def generate(self, fake: Tensor | None, noise: Tensor, former: Tensor) -> dict[str, Tensor]:
        """Take one step of the generator: its image is judged, and its reconstruction compared with the picture.

        ``fake``, ``noise`` and ``former`` are ``[1, pictures, 3, h, w]``.
        """
        fixed = self.model.noise.expand(-1, -1, 3, -1, -1) if self.number == 0 else torch.zeros_like(noise)
        with autocast(self.fast):
            fake = self.model.at(self.number, noise, former) if fake is None else fake
            rebuilt = self.model.at(self.number, fixed, self.rebuilt)
        error = F.mse_loss(rebuilt, self.real)
        loss = self.params.reconstruction_weight * error - self.judge(fake).mean()
        self.state.optimiser.zero_grad(set_to_none=True)
        (self.model.pictures * loss).backward()
        self.state.optimiser.step()
        return {"reconstruction": error.detach()}


@torch.no_grad()
def shown(state: SinganState, params: SinganParams) -> Tensor:
    """Return the first picture, its reconstruction and samples at the scale that is trained, ``[N, 3, h, w]``."""
    number = min((state.seen - 1) // params.iterations, len(state.reals) - 1)
    network, sizes = state.model.generators[number], state.model.scales.sizes[: number + 1]
    training, stream = network.training, torch.Generator().manual_seed(params.seed)
    network.eval()
    noises = state.model.draw_noises(stream, sizes, SAMPLES)
    images = [state.reals[number], state.model.reconstruct(number + 1), state.model(noises)]
    network.train(training)
    return torch.cat([image[:, 0].clamp(-1, 1) for image in images])
