"""encoder4editing (Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation", sections 4 and 5)."""

import torch
from torch import Tensor, nn

from gan_core.encoders.base import ENCODERS
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.encoders.pyramid import level_of


@ENCODERS.register("e4e")
class Encoder4Editing(GradualStyleEncoder):
    """The modules and names of pSp, read as one style for all latents and an offset for each latent but the first.

    ``stage`` is the last offset that is added: 0 gives one style for all, None (the default) all offsets. It belongs to
    training and is in no checkpoint.
    """

    name = "e4e"
    stage: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        levels = self.pyramid(images)
        first = self.styles[0](levels[0])
        last = self.n_latent - 1 if self.stage is None else self.stage
        codes = [first, *(first + self.styles[i](levels[level_of(i)]) for i in range(1, last + 1))]
        return torch.stack(codes + [first] * (self.n_latent - len(codes)), dim=1)


class LatentDiscriminator(nn.Module):
    """Tells the generator's own latents ``[B, w_dim]`` from an encoder's: logits ``[B, 1]`` (Tov et al., 4.2)."""

    def __init__(self, w_dim: int = 512, hidden_layers: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(hidden_layers):
            layers += [nn.Linear(w_dim, w_dim), nn.LeakyReLU(0.2)]
        self.mlp = nn.Sequential(*layers, nn.Linear(w_dim, 1))

    def forward(self, w: Tensor) -> Tensor:
        return self.mlp(w)


class LatentPool(nn.Module):
    """Latents ``[size, w_dim]`` of earlier batches, so that a discriminator doesn't only meet the newest ones.

    As e4e is trained, with 50 of them (after Shrivastava et al. 2017, section 2.3).
    """

    kept: Tensor
    filled: Tensor

    def __init__(self, size: int = 50, w_dim: int = 512) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(size, w_dim))
        self.register_buffer("filled", torch.tensor(0))

    @torch.no_grad()
    def exchange(self, w: Tensor, stream: torch.Generator) -> Tensor:
        """Take latents ``[B, w_dim]`` in; once full, give back an older one in the place of every second, at random."""
        given = w.clone()
        for row, latent in enumerate(w):
            if self.filled < len(self.kept):
                self.kept[self.filled] = latent
                self.filled += 1
            elif torch.rand((), generator=stream) < 0.5:
                place = torch.randint(len(self.kept), (), generator=stream)
                given[row] = self.kept[place]
                self.kept[place] = latent
        return given


def stage_at(step: int, n_latent: int, start: int, every: int) -> int:
    """Return the progressive stage at a training step: 0, 1 from ``start`` on, and one more every ``every`` steps.

    The last is ``n_latent - 1``.
    """
    return 0 if step < start else min(1 + (step - start) // every, n_latent - 1)


def delta_norms(codes: Tensor, stage: int) -> Tensor:
    """Batch means of the lengths of the offsets 1 to ``stage`` from the first latent, ``[stage]`` (eq. 7)."""
    return (codes[:, 1 : stage + 1] - codes[:, :1]).norm(dim=2).mean(0)
