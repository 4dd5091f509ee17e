"""Fit, calibrate and choose the linear directions of a generator."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from gan_core.device import fetch, place, place_array
from gan_core.editing.calibrate import calibrate, with_reached_unit
from gan_core.editing.directions import Direction, save_directions
from gan_core.editing.factorised import check_one_latent
from gan_core.editing.linear import FITS, Array
from gan_core.editing.refine import refine
from gan_core.errors import ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.judges.moves import merit
from gan_core.judges.scorers import Scored, Scorers, load_scorers, render_and_score
from gan_core.loading import load_generator
from gan_core.params import ModelPaths
from gan_core.training.params import DirectionsParams

SEARCH_FACES = 48
SCORE_FACES = 256
IDENTITY_COMPONENTS = 8
log = logging.getLogger(__name__)


def train_directions(params: DirectionsParams, models: ModelPaths) -> list[Direction]:
    """Fit one direction for each of ``params.attributes`` and write them to ``models.directions``.

    Labels come from the attribute network alone; ``models.identity`` says what must not change.
    """
    loaded = load_generator(models.generator)
    generator = loaded.model
    scorers = load_scorers(models)
    for name in params.attributes:
        if name not in scorers.names:
            raise ParamsError(f"directions.attributes: unknown attribute {name!r}{near_matches(name, scorers.names)}")
    faces = sample_faces(generator, params.samples, params.seed, scorers)
    drafts = [Direction(name, torch.empty(0), loaded.sha256) for name in params.attributes]
    held_out = min(SCORE_FACES, params.samples // 4)
    fits, faces = fit_all(faces.part(slice(held_out, None))), faces.part(slice(held_out))
    directions = [choose_direction(generator, faces, fits, scorers, draft, params) for draft in drafts]
    made_by = f"gan_core.training.directions, {params.samples} samples, seed {params.seed}"
    save_directions(models.directions, directions, made_by, {"attributes_sha256": scorers.attributes_sha256})
    return directions


@torch.no_grad()
def sample_faces(generator: Generator, n: int, seed: int, scorers: Scorers) -> Scored:
    """Draw ``n`` latents of the generator and score their pictures.

    Raises ``ParamsError`` for a generator that maps to a latent for each layer: a direction is fitted to one for all.
    """
    check_one_latent(generator)
    z = place(torch.randn(n, generator.z_dim, generator=torch.Generator().manual_seed(seed)))
    return render_and_score(generator, generator.broadcast(generator.mapping(z)), scorers)


def choose_direction(
    generator: Generator,
    faces: Scored,
    fits: dict[str, Tensor],
    scorers: Scorers,
    draft: Direction,
    params: DirectionsParams,
) -> Direction:
    """Return the direction for the attribute that ``draft`` is named after, one unit moving it by ``params.move``.

    The fit is chosen with all layers edited, then the layers, then the fit for these layers: what keeps the identity
    best and changes other attributes least. The choice is then refined, and what is better on ``faces`` returned. Every
    candidate is calibrated to the same move on some of ``faces`` (which should not be those of the fits).
    """
    few, move = faces.part(slice(SEARCH_FACES)), params.move
    w = faces.w_plus[:, 0]
    longest = (w - w.mean(0)).square().sum(1).mean().sqrt().item()
    tried: dict[tuple[str, tuple[int, int]], Direction] = {}

    def best_of(methods: Iterable[str], ranges: Iterable[tuple[int, int]]) -> Direction:
        for method, layers in product(methods, ranges):
            if (method, layers) not in tried:
                vector = fits[method][scorers.names.index(draft.name)]
                candidate = replace(draft, vector=vector, layers=layers, method=method)
                tried[method, layers] = calibrate(generator, few, candidate, scorers, move, longest)
        return max(tried.values(), key=lambda direction: merit(direction.scores, move))

    everywhere = (0, generator.n_latent)
    best = best_of(fits, [everywhere])
    best = best_of([best.method], layer_ranges(generator.n_latent))
    best = best_of(fits, [best.layers or everywhere])
    finalists = [best]
    if params.refine_steps:
        finalists.append(refine(generator, best, scorers, move, params.refine_steps, params.seed))
    finalists = [calibrate(generator, faces, direction, scorers, move, longest) for direction in finalists]
    best = max(finalists, key=lambda direction: merit(direction.scores, move))
    log.info("%s: %s, layers %s, %s", best.name, best.method, best.layers, _say(best))
    return with_reached_unit(best, move)


def fit_all(faces: Scored) -> dict[str, Tensor]:
    """Return the candidates ``[A, w_dim]`` of every fit, each given the other attributes, with and without identity.

    Identity enters as the leading principal components of the embeddings.
    """
    w = fetch(faces.w_plus[:, 0]).astype(np.float64)
    attributes = fetch(faces.attributes).astype(np.float64)
    with_identity = np.hstack([attributes, principal_components(fetch(faces.identity).astype(np.float64))])
    found = {}
    for method, fit in FITS.items():
        for conditions, labels in (("", attributes), (" given identity", with_identity)):
            found[method + conditions] = place_array(fit(w, labels)[: attributes.shape[1]].astype(np.float32))
    return found


def principal_components(values: Array, count: int = IDENTITY_COMPONENTS) -> Array:
    """Project ``values [N, D]`` on their ``count`` leading principal axes, each with unit variance."""
    u, s, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    return (u * np.sqrt(len(values)))[:, : min(count, int((s > 1e-6 * s[0]).sum()))]


def layer_ranges(n_latent: int) -> list[tuple[int, int]]:
    """Return the layer ranges that are tried: between any two of the start, 1/3, 1/2, 2/3 and the end, not all."""
    edges = sorted({0, n_latent // 3, n_latent // 2, -(-2 * n_latent // 3), n_latent})
    return [pair for pair in combinations(edges, 2) if pair != (0, n_latent)]


def _say(direction: Direction) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in direction.scores.items())
