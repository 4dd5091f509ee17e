"""How good an encoder is: its reconstructions and its edits, on held-out portraits."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.device import place
from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import Direction, find_direction
from gan_core.editing.latent_editor import LatentEditor
from gan_core.encoders.base import Encoder
from gan_core.judges.perceptual import PerceptualLoss
from gan_core.judges.scorers import Scorers
from gan_core.metrics.noise import Statistic, frechet_of, mean_of, sliced_of
from gan_core.params import EditParams, Params
from gan_core.storage.images import to_uint8
from gan_core.toy.renderer import FACTOR_NAMES, FACTORS, render
from gan_core.toy.training.reconstruction import LossNetworks

BATCH = 32
EDITS = ("smile", "yaw", "hair_lightness")
SOURCES, REFERENCES = 16, 4
"""Portraits that are edited by reference, and references for each: the renderer draws all that should come out."""


@torch.inference_mode()
def reconstruct(encoder: Encoder, networks: LossNetworks, images: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and pictures of all images, some at a time."""
    latents = torch.cat([encoder.encode(part) for part in images.split(BATCH)])
    return latents, draw(networks, latents)


@torch.inference_mode()
def draw(networks: LossNetworks, latents: Tensor) -> Tensor:
    """Pictures ``[N, 3, H, W]`` in [-1, 1] of latents."""
    return torch.cat([networks.generator.synthesis(part).clamp(-1, 1) for part in latents.split(BATCH)])


@torch.inference_mode()
def features(network: torch.nn.Module, images: Tensor) -> np.ndarray:
    """Features of the attribute network, which FID compares."""
    return np.concatenate([network.features(part).cpu().numpy() for part in images.split(BATCH)])  # type: ignore[operator]


@torch.inference_mode()
def statistics_of(
    networks: LossNetworks, network: torch.nn.Module, images: Tensor, drawn: Tensor
) -> dict[str, Statistic]:
    """Each number of the reconstructions as a function of how often each portrait is drawn."""
    pairs = list(zip(images.split(BATCH), drawn.split(BATCH), strict=True))
    lpips = torch.cat([networks.perceptual(b, a) for a, b in pairs])
    cosine = torch.cat([(networks.identity(a) * networks.identity(b)).sum(1) for a, b in pairs])
    errors = (images - drawn).square().mean((1, 2, 3))
    return {
        "mse": mean_of(errors.cpu().double().numpy()),
        "lpips": mean_of(lpips.cpu().double().numpy()),
        "identity": mean_of(cosine.cpu().double().numpy()),
        "fid": frechet_of(features(network, images), features(network, drawn)),
        "swd": sliced_of(to_uint8(images), to_uint8(drawn)),
    }


def edit_scores(
    params: Params,
    networks: LossNetworks,
    network: torch.nn.Module,
    directions: Mapping[str, Direction],
    latents: Tensor,
    images: Tensor,
) -> dict[str, float]:
    """Mean FID and SWD of the pictures edited along directions against the portraits."""
    before, every = features(network, images), np.ones(len(images), np.int64)
    fid, swd = [], []
    for spec in params.edits:
        for strength in spec.strengths if isinstance(spec, EditParams) else ():
            direction = find_direction(directions, spec.direction)  # type: ignore[attr-defined]
            edited = draw(networks, apply_edit(latents, direction, strength))
            fid.append(frechet_of(before, features(network, edited))(every))
            swd.append(sliced_of(to_uint8(images), to_uint8(edited))(every))
    return {"fid of edits": float(np.mean(fid)), "swd of edits": float(np.mean(swd))}


def sides(factors: Tensor, name: str) -> Tensor:
    """Return +1 where the true ``name`` of portraits with ``factors [B, F]`` has room above, else -1, ``[B]``."""
    column = FACTOR_NAMES.index(name)
    middle = (FACTORS[column].low + FACTORS[column].high) / 2
    return torch.where(factors[:, column] < middle, 1.0, -1.0)


@torch.no_grad()
def editability(
    scorers: Scorers, images: Tensor, before: Tensor, edited: Mapping[str, Tensor], factors: Tensor
) -> dict[str, float]:
    """The smallest over the edits of the attribute's mean move (share of its range), and of identity after and kept.

    ``before`` are the reconstructions of ``images``, both ``[B, 3, H, W]``, and ``edited`` those moved by one unit of
    each attribute to its side by ``sides``. Identity after is the mean identity of edited picture and portrait; kept is
    that over the one before the edit.
    """
    wanted = _embedded(scorers, images)
    start, seen = (_embedded(scorers, before) * wanted).sum(1).mean(), _attributes(scorers, before)
    moves, identities = [], []
    for name, after in edited.items():
        change = (_attributes(scorers, after) - seen)[:, scorers.names.index(name)]
        moves.append((change * place(sides(factors, name))).mean().item())
        identities.append((_embedded(scorers, after) * wanted).sum(1).mean().item())
    return {"move": min(moves), "identity_after": min(identities), "identity_kept": min(identities) / start.item()}


def edited_latents(latents: Tensor, directions: Mapping[str, Direction], factors: Tensor) -> dict[str, Tensor]:
    """Latents ``[B, n_latent, w_dim]`` moved by one unit of each of ``EDITS``, to the side where there is room."""
    moved = {}
    for name in EDITS:
        direction, side = find_direction(directions, name), place(sides(factors, name))[:, None, None]
        moved[name] = torch.where(side > 0, apply_edit(latents, direction, 1.0), apply_edit(latents, direction, -1.0))
    return moved


def reference_rows(factors: Tensor, name: str) -> Tensor:
    """The portraits that ``SOURCES`` take ``name`` from, ``[SOURCES, REFERENCES]``: others that have more than half.

    ``factors [B, F]`` are those of the portraits. Raises ``IndexError`` if there are too few.
    """
    column = FACTOR_NAMES.index(name)
    middle = (FACTORS[column].low + FACTORS[column].high) / 2
    having = (factors[SOURCES:, column] > middle).nonzero()[:, 0] + SOURCES
    return having[(torch.arange(SOURCES)[:, None] + torch.arange(REFERENCES)) % len(having)]


@torch.no_grad()
def true_diversity(perceptual: PerceptualLoss, factors: Tensor, name: str) -> float:
    """The ``diversity`` of what the renderer draws where portraits have the ``name`` of their references."""
    column = FACTOR_NAMES.index(name)
    rows = reference_rows(factors, name)
    wanted = factors[:SOURCES, None].repeat(1, REFERENCES, 1)
    wanted[:, :, column] = factors[rows, column]
    drawn = place(torch.cat([render(part).image for part in wanted.flatten(0, 1).split(BATCH)]))
    return diversity(perceptual, drawn.unflatten(0, rows.shape))


@torch.no_grad()
def edited_diversity(
    networks: LossNetworks, editor: LatentEditor, latents: Tensor, factors: Tensor, name: str
) -> float:
    """The ``diversity`` of portraits' edits by reference; ``latents [B, n_latent, w_dim]`` are those of all."""
    rows = reference_rows(factors, name)
    sources = latents[:SOURCES].repeat_interleave(REFERENCES, 0)
    drawn = draw(networks, editor.transfer(sources, latents[rows.flatten()], name))
    return diversity(networks.perceptual, drawn.unflatten(0, rows.shape))


@torch.no_grad()
def diversity(perceptual: PerceptualLoss, images: Tensor) -> float:
    """Mean perceptual distance of any two of a row's pictures ``[N, K, 3, H, W]``."""
    pairs = [perceptual(images[:, i], images[:, j]) for i, j in combinations(range(images.shape[1]), 2)]
    return torch.stack(pairs).mean().item()


def _embedded(scorers: Scorers, images: Tensor) -> Tensor:
    return F.normalize(torch.cat([scorers.identity(part.clamp(-1, 1)) for part in images.split(BATCH)]))


def _attributes(scorers: Scorers, images: Tensor) -> Tensor:
    return torch.cat([scorers.attributes(part.clamp(-1, 1)) for part in images.split(BATCH)])
