"""StyleGAN2 ``.pt`` files of the rosinality layout, the format that most published weights and encoders use."""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_core.checkpoints.files import Card, placeholder, save_checkpoint
from gan_core.checkpoints.store import load_state, model_tensors
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2

State = dict[str, Tensor]


def convert_rosinality(source: str | Path, target: str | Path, licence: str, network: str = "g_ema") -> str:
    """Turn a ``.pt`` file into our safetensors with a card and return its sha256; raises ``CheckpointError``."""
    generator = load_rosinality(source, network)
    card = Card(
        kind="generator",
        name=generator.family,
        arguments=generator.arguments,
        space="w",
        made_by="convert_rosinality",
        licence=licence,
        source=f"{Path(source).name}:{network}",
    )
    return save_checkpoint(target, model_tensors(generator), card, half=False)


def load_rosinality(path: str | Path, network: str = "g_ema") -> StyleGAN2:
    """Build the generator stored under ``network`` (``g_ema`` or ``g``), frozen and in eval mode.

    Size, widths and depth follow from the shapes; optimisers and options are ignored. Noise maps that old files lack
    are drawn from a fixed seed, and a missing ``latent_avg`` is computed. Raises ``CheckpointError``.
    """
    content = read_pickled_weights(path)
    if not isinstance(content.get(network), dict):
        present = ", ".join(key for key, value in content.items() if isinstance(value, dict)) or "nothing"
        raise CheckpointError(f"{path} has no network {network!r}: it has {present}")
    state: State = content[network]
    generator = StyleGAN2(**infer_arguments(state, path))
    average = content.get("latent_avg")
    load_state(generator, _noise_maps(generator) | state | {"latent_avg": _average(average, generator)}, path)
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
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{where} is not a rosinality StyleGAN2 generator: {error} not found") from None
    return {"size": 4 << blocks, "style_dim": style_dim, "n_mlp": depth, "channels": channels}


def read_pickled_weights(path: str | Path) -> dict[str, Any]:
    """Read a ``torch.save`` file that holds only tensors and plain values; nothing in it is ever executed.

    ``argparse.Namespace`` is let through as a bag of values. Raises ``CheckpointError`` for anything else.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"no checkpoint at {path}: download it, or name the right path")
    if meaning := placeholder(Path(path)):
        raise CheckpointError(f"{path} is {meaning}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} is refused: {_why_refused(error)}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of networks")
    return content


def _noise_maps(generator: StyleGAN2) -> State:
    stream = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in generator.state_dict().items() if key.startswith("noises.")}
    return {key: torch.randn(shape, generator=stream) for key, shape in shapes.items()}


def _average(stored: Tensor | None, generator: StyleGAN2) -> Tensor:
    return torch.zeros_like(generator.latent_avg) if stored is None else stored.reshape(-1)


def _why_refused(error: Exception) -> str:
    if found := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it asks to run {found[1]}, so it is more than weights; don't open it elsewhere"
    return "it is not a whole file of weights; download it again"
