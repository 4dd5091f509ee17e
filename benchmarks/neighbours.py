"""What pivotal tuning does to the neighbours of a pivot: ``python -m benchmarks.neighbours``.

Held-out portraits, other ones for each seed, are tuned as ``params.yaml`` says, without and with the locality term
(``LOCALITY``), each by itself and all as a group (``tune.shared``: one generator).
Neighbours are random codes moved to a distance of ``NEAR`` from the pivot (equation 3; 11 is what the term itself
trains on), and random codes as they are (``far``). Measured by variant:

* ``lpips``, ``mse``, ``identity``: the tuned picture of the pivot against the portrait; ``move`` and ``identity_kept``:
  its edits, see ``benchmarks.tuning``;
* ``changed``: LPIPS between a neighbour drawn by the tuned and by the untuned generator, by distance;
* ``quality``: the Frechet distance of the drawn neighbours to other held-out portraits, in features of the attribute
  network, by distance; less is better.

No neighbour is one that the locality term was trained on.

``--store`` writes a row for each seed and variant to ``data/metrics``, where ``benchmarks.claims`` reads them.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import print_result
from benchmarks.tuning import Portraits, drawn_by, editability, hash_networks, held_out_portraits, quality
from gan_core.inversion.delta import apply_delta, pack_delta
from gan_core.inversion.locality import Locality
from gan_core.inversion.refinement import Inverted, PivotalTuning
from gan_core.judges.networks import load_network
from gan_core.loading import load_generator
from gan_core.metrics.base import State
from gan_core.metrics.frechet import frechet_distance, gather
from gan_core.params import TuneParams, load_params
from gan_core.precision import prepare_worker
from gan_core.training.fit import step_seed
from gan_core.training.log import SCORES
from gan_core.training.study import Row, write_rows

TARGET = SCORES / "neighbours.json"
NEAR = (2.75, 5.5, 11.0)
BATCH = 32
LOCALITY = {"locality_weight": 0.1, "locality_alpha": 11.0}
"""The published weight; the published alpha is 30 for 18 x 512 numbers; 11 moves each number of 10 x 128 as far."""
SEEDS = 12
"""Of three, the intervals of most margins are too wide for an answer."""
OTHERS = 256
"""Held-out portraits that the quality of neighbours is measured against."""


def neighbours(portraits: Portraits, alpha: float | None, count: int, seed: int) -> Tensor:
    """Return ``count`` codes for each pivot, ``[count, rows, n_latent, w_dim]``: as far as ``alpha``, or random."""
    generator, rows = portraits.generator, len(portraits.pivots)
    stream = torch.Generator().manual_seed(step_seed(1, seed))  # tuning draws by the numbers of its rows
    z = torch.randn(count, rows, generator.z_dim, generator=stream)
    if alpha is None:
        return torch.stack([generator.broadcast(generator.mapping(part)) for part in z])
    locality = Locality(generator, portraits.pivots, portraits.loss, alpha, [])
    return torch.stack([locality.codes(part) for part in z])


@torch.no_grad()
def drawn(portraits: Portraits, codes: Tensor, deltas: Sequence[bytes]) -> Tensor:
    """Draw codes ``[count, rows, ...]``, each with its row's weights: ``[rows * count, 3, H, W]``."""
    images = []
    for row, delta in zip(codes.unbind(1), deltas, strict=True):
        with apply_delta(portraits.generator, delta) as generator:
            images.append(generator.synthesis(row).clamp(-1, 1))
    return torch.cat(images)


@torch.no_grad()
def gathered(network: nn.Module, images: Tensor) -> State:
    """Gather the attribute network's features of images, which the Frechet distance compares."""
    parts = [network.features(part).numpy() for part in images.split(BATCH)]  # type: ignore[operator]
    return gather(np.concatenate(parts))


def measure(portraits: Portraits, real: State, tune: TuneParams | None, count: int, seed: int) -> Row:
    """Tune all portraits (or none) and return the scores of pivots, edits and neighbours."""
    started, rows = time.process_time(), len(portraits.images)
    deltas = [b""] * rows
    if tune is not None:
        models = portraits.params.models
        tuning = PivotalTuning(load_generator(models.generator), portraits.loss, tune, models)
        tuned = tuning.refine(Inverted(portraits.pivots, portraits.images, range(rows)), None, None)
        deltas = [pack_delta(result.delta) for result in tuned]
    scores: Row = {"seconds": (time.process_time() - started) / rows}
    scores |= quality(portraits, drawn_by(portraits, deltas)) | editability(portraits, deltas)
    judge = load_network(portraits.params.models.attributes, "attributes").model
    for alpha in (*NEAR, None):
        codes = neighbours(portraits, alpha, count, seed)
        before, after = drawn(portraits, codes, [b""] * rows), drawn(portraits, codes, deltas)
        name = "far" if alpha is None else f"{alpha:g}"
        with torch.no_grad():
            scores[f"changed {name}"] = portraits.loss(before, after).mean().item()
        scores[f"quality {name}"] = frechet_distance(real, gathered(judge, after))
    return {key: float(f"{value:.5g}") for key, value in scores.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8, help="portraits of each seed")
    parser.add_argument("--neighbours", type=int, default=12, help="codes for each portrait and distance")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--store", action="store_true")
    options = parser.parse_args()
    prepare_worker()
    params = load_params()
    variants = {"untuned": None} | {
        prefix + name: params.tune.model_copy(update=changes | {"shared": shared})
        for prefix, shared in (("", False), ("group ", True))
        for name, changes in (("tuned", {}), ("locality", LOCALITY))
    }
    rows: list[Row] = []
    judge = load_network(params.models.attributes, "attributes").model
    real = gathered(judge, held_out_portraits(params, OTHERS, options.seeds * options.images).images)
    for seed in range(options.seeds):
        portraits = held_out_portraits(params, options.images, seed * options.images)
        for name, tune in variants.items():
            found = measure(portraits, real, tune, options.neighbours, seed)
            rows.append({"method": name, "seed": seed} | found)
            print(rows[-1], flush=True)
    if options.store:
        key = f"{options.images} portraits, {options.neighbours} neighbours, {params.tune.model_dump_json()}"
        write_rows(TARGET, f"{key} {hash_networks(params.models)}", rows)
    keys = [key for key in rows[0] if key not in ("method", "seed")]
    print_result(
        **{
            name: {key: sum(row[key] for row in rows if row["method"] == name) / options.seeds for key in keys}
            for name in variants
        }
    )


if __name__ == "__main__":
    main()
