"""The layout of ALAE's files: an encoder and the generator that was trained with it, each also as a moving average."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gan_core.checkpoints.stored import (
    StateDict,
    StoredTensor,
    check_weights,
    last_number,
    load_tensors,
    outlines,
    state_of,
)
from gan_core.encoders.alae import AlaeEncoder
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan1 import FUSED, SLOW, StyleGAN1
from gan_core.loading import load_state, model_tensors
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part

NETWORKS = {"encoder": "discriminator", "decoder": "generator", "mapping": "mapping_fl"}
"""What we need, by its name in a file; a moving average has ``_s`` behind its name and is preferred."""
AVERAGE = "dlatent_avg"
MARK = "encode_block.0.conv_1.weight"
States = Mapping[str, StateDict]


@LAYOUTS.register("alae")
class AlaeLayout(Layout):
    """``{"models": {"discriminator_s", "generator_s", "mapping_fl_s", "dlatent_avg", ...}}``; the rest is not read."""

    name: ClassVar[str] = "alae"
    licence: ClassVar[str] = "Apache-2.0 (headers of ALAE's code); weights trained on FFHQ or CelebA-HQ: non-commercial"

    def recognises(self, value: object) -> bool:
        models = value.get("models") if isinstance(value, dict) else None
        return isinstance(models, dict) and MARK in (state_of(models.get("discriminator")) or {})

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        with torch.device("meta"):
            encoder, generator = build_alae({k: outlines(v) for k, v in _stored(value, where).items()}, where)
        sizes = {"size": generator.size, "n_latent": generator.n_latent, "widths": generator.arguments["widths"]}
        return {"family": "alae", "variant": "encoder with its generator", **sizes, "style_dim": encoder.w_dim}

    def check(self, value: object, where: str | Path) -> None:
        self.facts(value, where)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        encoder, generator = build_alae({k: load_tensors(v) for k, v in _stored(value, where).items()}, where)
        card: dict[str, object] = {"kind": "encoder", "name": encoder.name, "arguments": encoder.arguments}
        part = Part("encoder", model_tensors(encoder), card | {"space": encoder.space}, bound=True)
        return [generator_part(generator, "generator"), part]


def build_alae(states: States, where: str | Path = "the file") -> tuple[AlaeEncoder, StyleGAN1]:
    """Build encoder and generator of ``states`` (``encoder``, ``decoder``, ``mapping``, ``average``), frozen.

    The encoder adds no average. Raises ``CheckpointError`` for networks that are not whole.
    """
    for state in states.values():
        check_weights(state)
    try:
        count = 1 + last_number(states["encoder"], r"encode_block\.(\d+)\.")
        sides = [states["encoder"][f"encode_block.{i}.bias_2"].shape[1] for i in range(count)]
        widths = [states["encoder"]["encode_block.0.bias_1"].shape[1], *sides]
        style_dim = len(states["encoder"]["encode_block.0.style_1.weight"])
        drawn = [states["decoder"][f"decode_block.{i}.bias_1"].shape[1] for i in range(count)]
        depth = 1 + last_number(states["mapping"], r"\w+\.(\d+)\.")
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where} is not a whole ALAE: {error} not found") from None
    encoder = AlaeEncoder(2 * count, style_dim, 4 << (count - 1), widths)
    load_state(encoder, _encoder_state(states["encoder"]) | {"latent_avg": encoder.latent_avg}, where)
    generator = StyleGAN1(drawn, style_dim, depth, smooth=True)
    maps = {key: value for key, value in generator.state_dict().items() if key.endswith("noise_map")}
    average = next(iter(states["average"].values()))
    if not average.numel() or average.numel() % style_dim:
        raise CheckpointError(f"{where} has an average of {list(average.shape)}, its latents have {style_dim} numbers")
    average = average.reshape(-1, style_dim).mean(0)
    load_state(generator, maps | _generator_state(states, count) | {"latent_avg": average}, where)
    return encoder.eval().requires_grad_(False), generator.eval().requires_grad_(False)


def _stored(value: object, where: str | Path) -> dict[str, dict[str, StoredTensor]]:
    """Return the tensors of each network, which are not loaded."""
    models = value["models"] if isinstance(value, dict) else {}
    found = {name: state_of(models.get(f"{theirs}_s", models.get(theirs))) for name, theirs in NETWORKS.items()}
    found["average"] = state_of(models.get(AVERAGE))
    if missing := [name for name, state in found.items() if not state]:
        raise CheckpointError(f"{where} is an ALAE without {', '.join(missing)}: name the whole file")
    return {name: state for name, state in found.items() if state}


def _encoder_state(state: StateDict) -> StateDict:
    found = {f"from_rgb.{part}": state[f"from_rgb.0.from_rgb.{part}"] for part in ("weight", "bias")}
    for key, value in state.items():
        if block := re.fullmatch(r"encode_block\.(\d+)\.(.*)", key):
            rest = re.sub(r"^bias_([12])$", r"conv_\1.bias", block[2])
            if rest != "blur.weight":
                found[f"blocks.{block[1]}.{rest}"] = value.flatten() if "conv" in rest and "bias" in rest else value
    return found


def _generator_state(states: States, count: int) -> StateDict:
    """Rename, and divide by the factors that our equalised layers multiply with: stored weights are effective ones."""
    found: StateDict = {"const": states["decoder"]["const"]}
    for key, value in states["mapping"].items():
        layer, part = int(key.split(".")[1]) + 1, key.rpartition(".")[2]
        gain = math.sqrt(2) * SLOW  # of the activation and of the rate
        found[f"style.{layer}.{part}"] = value * _fan(value) / gain if part == "weight" else value / gain
    for key, value in states["decoder"].items():
        block = re.fullmatch(r"decode_block\.(\d+)\.(conv|bias|noise_weight|style)_([12])(?:\.(weight|bias))?", key)
        if block is None:
            continue
        layer = 2 * int(block[1]) + int(block[3]) - 1
        if block[2] == "conv":
            fused = block[3] == "1" and 4 << int(block[1]) >= FUSED  # a transposed convolution: [in, out, 3, 3]
            weight = value.transpose(0, 1) if fused else value
            found[f"convs.{layer - 1}.weight"] = weight * math.sqrt(weight[0].numel() / 2)
        elif block[2] == "style":
            scaled = value * _fan(value) if block[4] == "weight" else value
            found[f"epilogues.{layer}.style.{block[4]}"] = scaled
        else:
            found[f"epilogues.{layer}.{block[2]}"] = value.flatten()
    last = f"to_rgb.{count - 1}.to_rgb"
    weight = states["decoder"][f"{last}.weight"]
    return found | {"output_weight": weight * _fan(weight), "output_bias": states["decoder"][f"{last}.bias"]}


def _fan(weight: Tensor) -> float:
    return math.sqrt(weight[0].numel())
