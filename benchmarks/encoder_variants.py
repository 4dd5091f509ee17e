"""The trained encoders side by side on held-out toy portraits: ``python -m benchmarks.encoder_variants``.

Every encoder whose checkpoint is there, without tuning: MSE, LPIPS, identity, FID and SWD of the
reconstructions with their standard errors (``..._error``, bootstrap over the portraits), FID and SWD of the edits of
``params.yaml`` that move along a direction, parameters and images a second; ``fast_difference``, what codes in ``fast``
differ by, as a share of the codes' offsets. The rule is that of ``edit-dataset compare-encoders``.
"""

import argparse
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import print_result
from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import Direction, find_direction, load_directions
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.fast import prepare_fast
from gan_core.judges.networks import load_network
from gan_core.loading import load_encoder, load_generator
from gan_core.metrics.noise import Statistic, bootstrap_error, frechet_of, mean_of, sliced_of
from gan_core.params import EditParams, Params, load_params
from gan_core.report.comparison import RULE, Comparison
from gan_core.report.encoder_cost import encoder_cost
from gan_core.storage.images import to_uint8
from gan_core.toy.training.portraits import load_portraits
from gan_core.toy.training.reconstruction import LossNetworks

BATCH = 32


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
    return np.concatenate([network.features(part).numpy() for part in images.split(BATCH)])  # type: ignore[operator]


@torch.inference_mode()
def statistics_of(
    networks: LossNetworks, network: torch.nn.Module, images: Tensor, drawn: Tensor
) -> dict[str, Statistic]:
    """Each number of the reconstructions as a function of how often each portrait is drawn."""
    pairs = list(zip(images.split(BATCH), drawn.split(BATCH), strict=True))
    lpips = torch.cat([networks.perceptual(b, a) for a, b in pairs])
    cosine = torch.cat([(networks.identity(a) * networks.identity(b)).sum(1) for a, b in pairs])
    return {
        "mse": mean_of((images - drawn).square().mean((1, 2, 3)).double().numpy()),
        "lpips": mean_of(lpips.double().numpy()),
        "identity": mean_of(cosine.double().numpy()),
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
        if not path.is_file():
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
    print(f"champion: {comparison.champion}. {RULE}", flush=True)
    print_result(**found)


if __name__ == "__main__":
    main()
