"""Networks that refine what a frozen encoder found, trained by the loop of the encoders."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.device import place
from gan_core.encoders.base import Encoder
from gan_core.loading import load_encoder, load_generator
from gan_core.params import Params
from gan_core.toy.params import TrainHypernetworkParams
from gan_core.toy.training.encoder import store_trained, train_encoder
from gan_core.toy.training.portraits import load_portraits
from gan_core.toy.training.reconstruction import INVERSION, LossNetworks, TrainingTask, evaluate
from gan_core.training.log import Report


class OverEncoder(Encoder):
    """A frozen encoder and the network that is trained, the submodule ``part``, together in the place of an encoder."""

    def __init__(self, encoder: Encoder, part: str, network: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.add_module(part, network)
        self.input_shape, self.arguments = encoder.input_shape, {}
        self.n_latent, self.w_dim, self.space = encoder.n_latent, encoder.w_dim, encoder.space  # type: ignore[misc]
        self.register_buffer("latent_avg", encoder.latent_avg.clone(), persistent=False)
        self.encode_first = torch.no_grad()(lambda images: encoder.encode(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.encode_first(images) - self.latent_avg


def make_over(
    build: Callable[..., OverEncoder],
    chosen: TrainHypernetworkParams,
    params: Params,
    folder: Path,
    report: Report,
    path: str,
    task: TrainingTask = INVERSION,
) -> dict[str, float]:
    """Train what ``build`` makes over ``chosen.encoder``, or go on in ``folder``; store it, and return its scores."""
    networks, generator = LossNetworks.load(params.models), load_generator(params.models.generator)
    encoder = load_encoder(params.encoder_path(chosen.encoder), generator, chosen.encoder)
    torch.manual_seed(chosen.seed)
    built = place(build(encoder.model, networks.generator, **chosen.network))
    portraits, held_out = load_portraits("train"), load_portraits("held_out")
    work, state = f"{built.name} over {encoder.sha256}", folder / "state.pt"
    trained = train_encoder(work, chosen, networks, portraits, held_out, state, report, task=task, built=built)
    scores = evaluate(trained, networks, held_out)
    store_over(built.part, trained.get_submodule(built.part), path, generator.path, chosen, scores)
    return scores


def store_over(
    kind: str,
    network: nn.Module,
    path: str | Path,
    generator: str,
    params: TrainHypernetworkParams,
    scores: dict[str, float],
) -> str:
    """Write a network of a ``kind``, bound to its generator, with its scores; return the file's sha256."""
    card = {"kind": kind, "name": network.name, "arguments": network.arguments}
    return store_trained(network, path, generator, params, scores, f"train-{kind}", card)
