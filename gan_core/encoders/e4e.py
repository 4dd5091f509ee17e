"""encoder4editing (Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation", sections 4 and 5)."""

import torch
from torch import Tensor, nn

from gan_core.encoders.base import ENCODERS
from gan_core.encoders.psp import GradualStyleEncoder, StyleHeads


@ENCODERS.register("e4e")
class Encoder4Editing(GradualStyleEncoder):
    """The modules and names of pSp: the first gives one style for all latents, the others an offset for each latent.

    ``stage`` is the index of the last offset that is added. 0 means one style for all latents, and None (the default)
    all offsets. It is set by training and not stored in checkpoints.
    """

    name = "e4e"
    stage: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        return progressive(self, images, self.stage)


def progressive(encoder: StyleHeads, images: Tensor, stage: int | None) -> Tensor:
    """Return ``[B, n_latent, w_dim]``: the first style for all latents, plus the others as offsets up to ``stage``."""
    first, *others = encoder.styles_of(images, None if stage is None else stage + 1)
    codes = [first, *(first + offset for offset in others)]
    return torch.stack(codes + [first] * (encoder.n_latent - len(codes)), dim=1)


class LatentDiscriminator(nn.Module):
    """Discriminates the generator's latents ``[B, w_dim]`` from an encoder's: logits ``[B, 1]`` (Tov et al., 4.2)."""

    def __init__(self, w_dim: int = 512, hidden_layers: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(hidden_layers):
            layers += [nn.Linear(w_dim, w_dim), nn.LeakyReLU(0.2)]
        self.mlp = nn.Sequential(*layers, nn.Linear(w_dim, 1))

    def forward(self, w: Tensor) -> Tensor:
        return self.mlp(w)


class LatentPool(nn.Module):
    """Latents ``[size, w_dim]`` of earlier batches, so that the discriminator doesn't see only the newest ones.

    e4e is trained with a pool of 50 (after Shrivastava et al. 2017, section 2.3).
    """

    kept: Tensor
    filled: Tensor

    def __init__(self, size: int = 50, w_dim: int = 512) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(size, w_dim))
        self.register_buffer("filled", torch.tensor(0))

    @torch.no_grad()
    def exchange(self, w: Tensor, stream: torch.Generator) -> Tensor:
        """Store latents ``[B, w_dim]`` and return ``[B, w_dim]``.

        Once the pool is full, each latent is replaced by an older one with probability one half.
        """
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
    """Return the progressive stage at a training step.

    It is 0 before ``start``, then 1, and increases by one every ``every`` steps up to ``n_latent - 1``.
    """
    return 0 if step < start else min(1 + (step - start) // every, n_latent - 1)


def delta_norms(codes: Tensor, stage: int) -> Tensor:
    """Return the mean lengths ``[stage]`` of the offsets 1 to ``stage`` of ``codes [B, n_latent, w_dim]`` (eq. 7)."""
    return (codes[:, 1 : stage + 1] - codes[:, :1]).norm(dim=2).mean(0)
