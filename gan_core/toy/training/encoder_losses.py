"""The losses of inversion: a table of terms, weighed by ``losses`` in ``toy.yaml``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.encoders.base import Encoder
from gan_core.encoders.e4e import delta_norms
from gan_core.generators.base import Generator
from gan_core.precision import autocast
from gan_core.toy.params import TrainEncoderParams
from gan_core.toy.training.reconstruction import Batch, LossNetworks
from gan_core.translation.tasks import Term

Losses = tuple[Tensor, dict[str, float]]


@dataclass(frozen=True)
class Inverted:
    """A batch and what became of it: ``codes [B, n_latent, w_dim]`` and the pictures ``drawn`` from them.

    ``stage`` is the last latent with an offset of its own (e4e), ``discriminator`` scores latents ``[N, w_dim]``.
    """

    batch: Batch
    codes: Tensor
    drawn: Tensor
    encoder: Encoder
    networks: LossNetworks
    stage: int
    discriminator: nn.Module | None = None
    fast: bool = False


def l2(x: Inverted) -> Tensor:
    """Mean square of the difference of the pictures."""
    return (x.drawn - x.batch.images).square().mean()


def perceptual(x: Inverted) -> Tensor:
    """LPIPS with the trunk of ``models.perceptual``."""
    with autocast(x.fast):
        return x.networks.perceptual(x.drawn, x.batch.images).mean()


def face(images: Tensor) -> Tensor:
    """Cut FFHQ-aligned images ``[B, C, S, S]`` to the face: rows 35-222 and columns 32-219 of 256 (pSp)."""
    top, bottom, left, right = (round(edge * images.shape[-1] / 256) for edge in (35, 223, 32, 220))
    return images[..., top:bottom, left:right]


def l2_crop(x: Inverted) -> Tensor:
    """Mean square of the difference in the face."""
    return (face(x.drawn) - face(x.batch.images)).square().mean()


def perceptual_crop(x: Inverted) -> Tensor:
    """LPIPS of the face alone."""
    with autocast(x.fast):
        return x.networks.perceptual(face(x.drawn), face(x.batch.images)).mean()


def identity(x: Inverted) -> Tensor:
    """One minus the cosine of the embeddings of ``models.identity``."""
    with autocast(x.fast):
        with torch.no_grad():
            source = x.networks.identity(x.batch.images)
        return 1 - (x.networks.identity(x.drawn) * source).sum(1).mean()


def w_norm(x: Inverted) -> Tensor:
    """Mean distance of the codes from the average latent (pSp, eq. 5)."""
    return (x.codes - x.encoder.latent_avg).flatten(1).norm(dim=1).mean()


def latent(x: Inverted) -> Tensor:
    """Error of the latents that are known, in variances of the generator's."""
    known = known_latents(x.batch, x.networks.generator)
    return (x.codes[: len(known)] - known).square().mean() / x.networks.latent_variance


def delta(x: Inverted) -> Tensor:
    """Sum of the mean lengths of the offsets from the first latent (e4e, eq. 7)."""
    return delta_norms(x.codes, x.stage).sum()


def adversarial(x: Inverted) -> Tensor:
    """How well the latents pass for the generator's own: softplus of the negated logits (e4e, eq. 8)."""
    assert x.discriminator is not None
    return F.softplus(-x.discriminator(active_latents(x.codes, x.stage))).mean()


def alignment(x: Inverted) -> Tensor:
    """Mean absolute error of residuals that were distorted and aligned again (HFGI, eq. 4)."""
    error: Tensor = x.encoder.misaligned  # type: ignore[assignment]
    return error


TERMS: dict[Term, Callable[[Inverted], Tensor]] = {
    "l2": l2,
    "perceptual": perceptual,
    "l2_crop": l2_crop,
    "perceptual_crop": perceptual_crop,
    "identity": identity,
    "w_norm": w_norm,
    "latent": latent,
    "delta": delta,
    "adversarial": adversarial,
    "alignment": alignment,
}


def known_latents(batch: Batch, generator: Generator) -> Tensor:
    """The latents that a batch has, as ``w_plus [N, n_latent, w_dim]``."""
    return batch.w if batch.w.dim() == 3 else generator.broadcast(batch.w)


def active_latents(codes: Tensor, stage: int) -> Tensor:
    """The latents that may differ from one another, ``[B * (stage + 1), w_dim]``."""
    return codes[:, : stage + 1].flatten(0, 1)


def invert(
    encoder: Encoder, params: TrainEncoderParams, networks: LossNetworks, batch: Batch, discriminator: nn.Module | None
) -> list[Inverted]:
    """Encode a batch and draw it again, once for each pass of the encoder."""
    fast = params.precision == "fast"
    stage = getattr(encoder, "stage", encoder.n_latent - 1)
    images = batch.seen.contiguous(memory_format=torch.channels_last)
    return [
        Inverted(batch, codes, drawn, encoder, networks, stage, discriminator, fast)
        for codes, drawn in encoder.inversions(images, networks.generator, fast)
    ]


def encode(encoder: Encoder, images: Tensor, fast: bool) -> list[Tensor]:
    """Encode images, in bfloat16 if ``fast``; the latents of each pass."""
    with autocast(fast):
        return list(encoder.passes(images.contiguous(memory_format=torch.channels_last)))


def weigh(inverted: Inverted, weights: Mapping[Term, float]) -> Losses:
    """Return the weighted sum of the terms with a weight above 0, and each term by name."""
    terms = {name: TERMS[name](inverted) for name, weight in weights.items() if weight}
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, {str(name): term.item() for name, term in terms.items()}


def latent_loss(encoder: Encoder, params: TrainEncoderParams, networks: LossNetworks, batch: Batch) -> Losses:
    """The error of the known latents, in variances: learnt without running the generator backwards."""
    known = known_latents(batch, networks.generator)
    passes = encode(encoder, batch.seen[: len(batch.w)], params.precision == "fast")
    errors = [(codes - known).square().mean() / networks.latent_variance for codes in passes]
    return torch.stack(errors).sum(), {"latent": errors[-1].item()}


def discriminator_loss(discriminator: nn.Module, real: Tensor, fake: Tensor, r1_weight: float) -> Tensor:
    """The logistic loss on latents ``[N, w_dim]``, with ``r1_weight`` times the squared gradient at the real ones."""
    real = real.detach().requires_grad_(r1_weight > 0)
    logits = discriminator(real)
    loss = F.softplus(-logits).mean() + F.softplus(discriminator(fake.detach())).mean()
    if not r1_weight:
        return loss
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return loss + r1_weight * slope.square().sum(1).mean()
