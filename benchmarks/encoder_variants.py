"""The trained encoders side by side on held-out toy portraits: ``python -m benchmarks.encoder_variants``.

Every encoder whose checkpoint is there, without tuning: MSE, LPIPS, identity, FID and SWD of the
reconstructions with their standard errors (``..._error``, bootstrap over the portraits), FID and SWD of the edits of
``params.yaml`` that move along a direction, parameters and images a second; ``fast_difference``, what codes in ``fast``
differ by, as a share of the codes' offsets. The rule is that of ``edit-dataset compare-encoders``.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import print_result
from gan_core.editing.directions import load_directions
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.fast import prepare_fast
from gan_core.judges.networks import load_network
from gan_core.loading import load_encoder, load_generator
from gan_core.metrics.noise import bootstrap_error
from gan_core.params import load_params
from gan_core.report.comparison import Comparison
from gan_core.report.encoder_cost import encoder_cost
from gan_core.storage.urls import exists
from gan_core.toy.training.encoder_scores import BATCH, edit_scores, reconstruct, statistics_of
from gan_core.toy.training.portraits import load_portraits
from gan_core.toy.training.reconstruction import LossNetworks


@torch.inference_mode()
def fast_difference(encoder: Encoder, images: Tensor) -> float:
    """Root mean square of what codes in ``fast`` differ by, as a share of that of the codes' offsets."""
    exact = encoder.encode(images)
    difference = prepare_fast(encoder).encode(images) - exact
    return float(difference.square().mean().sqrt() / (exact - encoder.latent_avg).square().mean().sqrt())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portraits", type=int, default=512)
    parser.add_argument("--resamples", type=int, default=50)
    options = parser.parse_args()
    params = load_params()
    networks, network = LossNetworks.load(params.models), load_network(params.models.attributes, "attributes").model
    generator = load_generator(params.models.generator)
    directions = load_directions(params.models.directions, generator).model
    held_out = load_portraits("held_out")
    images = held_out.images(np.arange(min(options.portraits, len(held_out))))
    every = np.ones(len(images), np.int64)
    found: dict[str, dict[str, float]] = {}
    for variant in ENCODERS.names():
        path = params.encoder_path(variant)
        if not exists(path):
            print(f"{variant}: not trained, {path} is missing", flush=True)
            continue
        encoder = load_encoder(path, generator, variant).model
        latents, drawn = reconstruct(encoder, networks, images)
        statistics = statistics_of(networks, network, images, drawn)
        values = {name: statistic(every) for name, statistic in statistics.items()}
        errors = {name: bootstrap_error(s, len(images), options.resamples) for name, s in statistics.items()}
        values |= edit_scores(params, networks, network, directions, latents, images)
        values["fast_difference"] = fast_difference(encoder, images[:BATCH])
        spread = {f"{name}_error": error for name, error in errors.items()}
        found[variant] = values | spread | encoder_cost(str(path), generator=generator.path)
        said = [
            f"{name} {value:.4g}" + (f" ±{errors[name]:.2g}" if name in errors else "")
            for name, value in values.items()
        ]
        print(f"{variant:18} {', '.join(said)}, {found[variant]['parameters'] / 1e6:.2f} M", flush=True)
    comparison = Comparison(found)
    for row in comparison.rows():
        print(f"{row['encoder']:18} mean rank {row['mean rank']:.2f}", flush=True)
    print(f"champion: {comparison.champion}. {comparison.rule}", flush=True)
    print_result(**found)


if __name__ == "__main__":
    main()
