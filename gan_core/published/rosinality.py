"""StyleGAN2 ``.pt`` files of the rosinality layout, the format that most published weights and encoders use."""

import math
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gan_core.checkpoints.stored import StateDict, loaded
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2, StyleGAN2Arguments
from gan_core.loading import load_state
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part


@LAYOUTS.register("rosinality")
class RosinalityLayout(Layout):
    """A dictionary with the generator's state dict under ``g_ema`` (or ``g``): converted weights, or from training."""

    name: ClassVar[str] = "rosinality"
    licence: ClassVar[str] = "NVIDIA Source Code License (non-commercial), if converted from NVIDIA's weights"

    def recognises(self, value: object) -> bool:
        return _network(value) is not None

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        networks = value if isinstance(value, dict) else {}
        state = networks[_network(networks) or "g_ema"]
        arguments = infer_arguments(state, where)
        return {
            "family": "stylegan2",
            "variant": "training checkpoint" if "g_optim" in networks else "converted weights",
            **arguments,
            "n_latent": 2 * int(math.log2(arguments["size"])) - 2,
            "latent_avg": "latent_avg" in networks,
            "noise_maps": any(key.startswith("noises.") for key in state),
        }

    def convert(self, value: object, where: str | Path) -> list[Part]:
        networks = value if isinstance(value, dict) else {}
        network = _network(networks) or "g_ema"
        wanted = {key: networks[key] for key in (network, "latent_avg") if key in networks}
        return [generator_part(build_generator(loaded(wanted), where, network), network)]


def build_generator(content: object, where: str | Path, network: str = "g_ema") -> StyleGAN2:
    """Build the generator under ``network`` (``g_ema`` or ``g``) in the loaded content of a file.

    It is frozen and in eval mode. Size, widths and depth are inferred from the shapes; optimisers and options are
    ignored. Noise maps that old files lack are drawn from a fixed seed, and a missing ``latent_avg`` is computed.
    Raises ``CheckpointError`` if there is no such network, or if it is not a generator of this layout.
    """
    networks = content if isinstance(content, dict) else {}
    state = networks.get(network)
    if not isinstance(state, dict):
        present = ", ".join(key for key, value in networks.items() if isinstance(value, dict)) or "nothing"
        raise CheckpointError(f"{where} has no network {network!r}: it has {present}")
    generator = StyleGAN2(**infer_arguments(state, where))
    average = networks.get("latent_avg")
    load_state(generator, _noise_maps(generator) | state | {"latent_avg": _average(average, generator)}, where)
    if average is None:
        generator.latent_avg.copy_(generator.mean_latent())
    return generator.eval().requires_grad_(False)


def infer_arguments(state: StateDict, where: str | Path = "the state dict") -> StyleGAN2Arguments:
    """Infer the constructor's arguments from the names and shapes of a generator's state dict.

    Raises ``CheckpointError`` for a state dict of another layout.
    """
    try:
        depth = max(int(key.split(".")[1]) for key in state if key.startswith("style."))
        blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("to_rgbs."))
        channels = {4: state["conv1.conv.weight"].shape[1]}
        channels |= {8 << j: state[f"convs.{2 * j}.conv.weight"].shape[1] for j in range(blocks)}
        style_dim = state["style.1.weight"].shape[0]
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"{where} is not a rosinality StyleGAN2 generator: its keys or shapes differ ({error})"
        ) from None
    return {"size": 4 << blocks, "style_dim": style_dim, "n_mlp": depth, "channels": channels}


def _noise_maps(generator: StyleGAN2) -> StateDict:
    stream = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in generator.state_dict().items() if key.startswith("noises.")}
    return {key: torch.randn(shape, generator=stream) for key, shape in shapes.items()}


def _average(stored: Tensor | None, generator: StyleGAN2) -> Tensor:
    return torch.zeros_like(generator.latent_avg) if stored is None else stored.reshape(-1)


def _network(value: object) -> str | None:
    """Return the name of the entry that is a generator of this layout, or None."""
    for name in ("g_ema", "g"):
        state = value.get(name) if isinstance(value, dict) else None
        if isinstance(state, dict) and "conv1.conv.weight" in state:
            return name
    return None
