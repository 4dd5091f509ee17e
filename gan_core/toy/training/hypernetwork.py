"""A hypernetwork on the toy portraits, by the loop of the encoders: what it draws is compared, latents are given."""

from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.device import place
from gan_core.encoders.base import Encoder
from gan_core.generators.base import Generator
from gan_core.inversion.hypernetwork import HyperStyle
from gan_core.loading import load_encoder, load_generator
from gan_core.params import Params
from gan_core.toy.params import TrainHypernetworkParams
from gan_core.toy.training.encoder import store_trained, train_encoder
from gan_core.toy.training.portraits import load_portraits
from gan_core.toy.training.reconstruction import LossNetworks, evaluate
from gan_core.training.log import Report

STAGE = "train-hypernetwork"


class Refined(Encoder):
    """A frozen encoder and the hypernetwork that is trained, together in the place of an encoder."""

    name = "hyperstyle"

    def __init__(self, encoder: Encoder, generator: Generator, **network: object) -> None:
        super().__init__()
        self.hypernetwork = HyperStyle.for_generator(generator, **network)
        self.input_shape, self.arguments = self.hypernetwork.input_shape, {}
        self.n_latent, self.w_dim, self.space = encoder.n_latent, encoder.w_dim, encoder.space  # type: ignore[misc]
        self.register_buffer("latent_avg", encoder.latent_avg.clone(), persistent=False)
        self.encode_first = torch.no_grad()(lambda images: encoder.encode(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.encode_first(images) - self.latent_avg

    def inversions(self, images: Tensor, generator: Generator, fast: bool = False) -> list[tuple[Tensor, Tensor]]:
        latents = self.encode_first(images)
        steps = self.hypernetwork.passes(generator, self.resampled(images), latents, fast)
        return [(latents, self.frame(drawn)) for _, drawn in steps]


def make_hypernetwork(
    chosen: TrainHypernetworkParams, params: Params, folder: Path, report: Report
) -> dict[str, float]:
    """Train a hypernetwork, or go on in ``folder``; store it, and return its scores on the held-out portraits."""
    networks, generator = LossNetworks.load(params.models), load_generator(params.models.generator)
    encoder = load_encoder(params.encoder_path(chosen.encoder), generator, chosen.encoder)
    torch.manual_seed(chosen.seed)
    built = Refined(encoder.model, networks.generator, **chosen.network)
    portraits, held_out = load_portraits("train"), load_portraits("held_out")
    state = folder / "state.pt"
    work = f"{built.name} over {encoder.sha256}"
    trained = train_encoder(work, chosen, networks, portraits, held_out, state, report, built=place(built))
    scores = evaluate(trained, networks, held_out)
    store_hypernetwork(
        trained.get_submodule("hypernetwork"), params.models.hypernetwork, generator.path, chosen, scores
    )
    return scores


def store_hypernetwork(
    network: nn.Module, path: str | Path, generator: str, params: TrainHypernetworkParams, scores: dict[str, float]
) -> str:
    """Write a hypernetwork, bound to its generator, with its scores; return the file's sha256."""
    assert isinstance(network, HyperStyle)
    card = {"kind": "hypernetwork", "name": network.name, "arguments": network.arguments}
    return store_trained(network, path, generator, params, scores, STAGE, card)
