"""StyleGAN2 ``.pt`` files of the rosinality layout, the format that most published weights and encoders use."""

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.stored import loaded
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_state
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part

State = dict[str, Tensor]


@LAYOUTS.register("rosinality")
class RosinalityLayout(Layout):
    """A dictionary with the generator's state dict under ``g_ema`` (or ``g``): converted weights or a training's."""

    name: ClassVar[str] = "rosinality"
    licence: ClassVar[str] = "NVIDIA Source Code License (non-commercial), if converted from NVIDIA's weights"

    def recognises(self, value: Any) -> bool:
        return _network(value) is not None

    def facts(self, value: Any, where: str | Path) -> dict[str, Any]:
        network = _network(value) or "g_ema"
        arguments, state = infer_arguments(value[network], where), value[network]
        return {
            "family": "stylegan2",
            "variant": "training checkpoint" if "g_optim" in value else "converted weights",
            **arguments,
            "n_latent": 2 * int(math.log2(arguments["size"])) - 2,
            "latent_avg": "latent_avg" in value,
            "noise_maps": any(key.startswith("noises.") for key in state),
        }

    def convert(self, value: Any, where: str | Path) -> list[Part]:
        network = _network(value) or "g_ema"
        wanted = {key: value[key] for key in (network, "latent_avg") if key in value}
        return [generator_part(build_generator(loaded(wanted), where, network), network)]


def load_rosinality(path: str | Path, network: str = "g_ema") -> StyleGAN2:
    """Build the generator stored under ``network`` (``g_ema`` or ``g``), frozen and in eval mode.

    Size, widths and depth follow from the shapes; optimisers and options are ignored. Noise maps that old files lack
    are drawn from a fixed seed, and a missing ``latent_avg`` is computed. Raises ``CheckpointError``.
    """
    return build_generator(read_pickled_weights(path), path, network)


def build_generator(content: dict[str, Any], where: str | Path, network: str = "g_ema") -> StyleGAN2:
    """Build the generator from the loaded content of a file, as ``load_rosinality`` does."""
    if not isinstance(content.get(network), dict):
        present = ", ".join(key for key, value in content.items() if isinstance(value, dict)) or "nothing"
        raise CheckpointError(f"{where} has no network {network!r}: it has {present}")
    state: State = content[network]
    generator = StyleGAN2(**infer_arguments(state, where))
    average = content.get("latent_avg")
    load_state(generator, _noise_maps(generator) | state | {"latent_avg": _average(average, generator)}, where)
    if average is None:
        generator.latent_avg.copy_(generator.mean_latent())
    return generator.eval().requires_grad_(False)


def infer_arguments(state: State, where: str | Path = "the state dict") -> dict[str, Any]:
    """Read the constructor's arguments off the names and shapes of a generator's state dict."""
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


def read_pickled_weights(path: str | Path) -> dict[str, Any]:
    """Read a file that holds a dictionary of tensors and plain values; nothing in it is ever executed.

    Objects such as ``argparse.Namespace`` become dictionaries. Raises ``CheckpointError`` for anything else.
    """
    content = open_checkpoint(path).load()
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of networks")
    return content


def _noise_maps(generator: StyleGAN2) -> State:
    stream = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in generator.state_dict().items() if key.startswith("noises.")}
    return {key: torch.randn(shape, generator=stream) for key, shape in shapes.items()}


def _average(stored: Tensor | None, generator: StyleGAN2) -> Tensor:
    return torch.zeros_like(generator.latent_avg) if stored is None else stored.reshape(-1)


def _network(value: Any) -> str | None:
    """Which entry of a file is a generator of this layout."""
    for name in ("g_ema", "g"):
        state = value.get(name) if isinstance(value, dict) else None
        if isinstance(state, dict) and "conv1.conv.weight" in state:
            return name
    return None
