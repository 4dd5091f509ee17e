"""The layouts of in-domain inversion: bare state dicts of a StyleGAN1 and of its encoder, in the names of genforce."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from gan_core.checkpoints.stored import StateDict, check_weights, last_number, load_tensors, outlines, state_of
from gan_core.encoders.idinvert import LAST, InDomainEncoder
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan1 import StyleGAN1
from gan_core.loading import load_state, model_tensors
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part

GENERATOR, ENCODER = "synthesis.layer0.const", "block0.bn.bn.running_mean"
"""Names by which the two are known."""
UNUSED = re.compile(r"blur\.kernel$|^truncation\.truncation$|^synthesis\.lod$")
RENAMED: tuple[tuple[str, str], ...] = (
    (r"^truncation\.w_avg$", "latent_avg"),
    (r"^synthesis\.layer0\.const$", "const"),
    (r"epilogue\.apply_noise\.noise$", "epilogue.noise_map"),
    (r"epilogue\.apply_noise\.weight$", "epilogue.noise_weight"),
    (r"style_mod\.dense\.fc\.weight$", "style.weight"),
    (r"style_mod\.dense\.wscale\.bias$", "style.bias"),
    (r"^block0\.", ""),
    (r"bn(\d?)\.bn\.", r"bn\1."),
    (r"wscale([12])\.bias$", r"conv\1.bias"),
)
LICENCE = "MIT (the file LICENSE.txt of idinvert_pytorch); trained on FFHQ or LSUN: non-commercial"


class _Bare(Layout):
    """A state dict with names of genforce; ``mark`` is one of them."""

    licence: ClassVar[str] = LICENCE
    mark: ClassVar[str]

    def recognises(self, value: object) -> bool:
        return self.mark in (state_of(value) or {})

    def check(self, value: object, where: str | Path) -> None:
        with torch.device("meta"):
            self.build(outlines(state_of(value) or {}), where)

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        with torch.device("meta"):
            model = self.build(outlines(state_of(value) or {}), where)
        return {"family": getattr(model, "family", "idinvert"), **model.arguments}  # type: ignore[dict-item]

    def build(self, state: StateDict, where: str | Path) -> nn.Module:
        """Build the network with the weights of a state dict; raises ``CheckpointError`` for one that is not whole."""
        raise NotImplementedError


@LAYOUTS.register("idinvert-generator")
class GeneratorLayout(_Bare):
    """A StyleGAN1 of genforce; one whose mapping gives a latent for each layer is in-domain inversion's."""

    name: ClassVar[str] = "idinvert-generator"
    mark = GENERATOR

    def build(self, state: StateDict, where: str | Path) -> StyleGAN1:
        check_weights(state)
        return build_generator(state, where)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        return [generator_part(self.build(load_tensors(state_of(value) or {}), where), "generator")]


@LAYOUTS.register("idinvert-encoder")
class EncoderLayout(_Bare):
    """The encoder of in-domain inversion, which doesn't say what generator it belongs to."""

    name: ClassVar[str] = "idinvert-encoder"
    mark = ENCODER

    def build(self, state: StateDict, where: str | Path) -> InDomainEncoder:
        return build_encoder(state, where)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        encoder = self.build(load_tensors(state_of(value) or {}), where)
        card: dict[str, object] = {"kind": "encoder", "name": encoder.name, "arguments": encoder.arguments}
        return [Part("encoder", model_tensors(encoder), card | {"space": encoder.space})]


def build_generator(state: Mapping[str, Tensor], where: str | Path = "the file") -> StyleGAN1:
    """Build a StyleGAN1 from the published names, frozen and in eval mode.

    Raises ``CheckpointError`` for a state dict that is not whole, or of a training that has not reached the last level.
    """
    lod = state.get("synthesis.lod")
    if lod is not None and bool(lod.any()):
        raise CheckpointError(f"{where} has not been trained to its last level (lod {lod.item():g}): name a later file")
    try:
        depth = 1 + last_number(state, r"mapping\.dense(\d+)\.")
        count = 1 + last_number(state, r"synthesis\.layer(\d+)\.epilogue")
        widths = [len(state[f"synthesis.layer{i}.epilogue.bias"]) for i in range(0, count, 2)]
        style_dim = state["mapping.dense0.fc.weight"].shape[1]
        per_layer = len(state[f"mapping.dense{depth - 1}.fc.weight"]) != style_dim
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where} is not a whole StyleGAN1: {error} not found") from None
    generator = StyleGAN1(widths, style_dim, depth, per_layer, tanh=per_layer)
    load_state(generator, _generator_state(state, count // 2 - 1), where)
    return generator.eval().requires_grad_(False)


def build_encoder(state: Mapping[str, Tensor], where: str | Path = "the file") -> InDomainEncoder:
    """Build the encoder from the published names, frozen and in eval mode; no average is added to what it gives.

    Raises ``CheckpointError`` for a state dict that is not whole.
    """
    try:
        last = last_number(state, r"block(\d+)\.")
        widths = [len(state["block0.conv.weight"])]
        widths += [len(state[f"block{i}.conv2.weight"]) for i in range(1, last)]
        outputs, inputs = state[f"block{last}.fc.weight"].shape
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where} is not a whole encoder of in-domain inversion: {error} not found") from None
    if inputs != widths[-1] * LAST**2:
        raise CheckpointError(
            f"{where} has {inputs} numbers before its last layer, {widths[-1] * LAST**2} are expected"
        )
    size = LAST << (last - 1)
    n_latent = 2 * size.bit_length() - 4  # of a generator as large as the input, as all published ones are
    encoder = InDomainEncoder(n_latent, outputs // n_latent, size, widths)
    load_state(encoder, _encoder_state(state, last) | {"latent_avg": encoder.latent_avg}, where)
    return encoder.eval().requires_grad_(False)


def _generator_state(state: Mapping[str, Tensor], level: int) -> StateDict:
    found: StateDict = {}
    for key, value in state.items():
        if UNUSED.search(key) or (key.startswith("synthesis.output") and f".output{level}." not in key):
            continue
        name = _renamed(key)
        if dense := re.fullmatch(r"mapping\.dense(\d+)\.(fc\.weight|wscale\.bias)", key):
            slow = dense[2] == "wscale.bias"  # ours is scaled by sqrt(2) after the activation, theirs before the bias
            name, value = (
                f"style.{int(dense[1]) + 1}.{'bias' if slow else 'weight'}",
                value / math.sqrt(2) if slow else value,
            )
        elif layer := re.fullmatch(r"synthesis\.layer(\d+)\.epilogue\.(.*)", name):
            name = f"epilogues.{layer[1]}.{layer[2]}"
        elif conv := re.fullmatch(r"synthesis\.layer(\d+)\.(conv\.weight|weight)", key):
            name = f"convs.{int(conv[1]) - 1}.weight"
            value = value.permute(3, 2, 0, 1) if conv[2] == "weight" else value
        elif key.startswith("synthesis.output"):
            name = "output_bias" if key.endswith("bias") else "output_weight"
        found[name] = value
    return found


def _encoder_state(state: Mapping[str, Tensor], last: int) -> StateDict:
    found: StateDict = {}
    for key, value in state.items():
        name = _renamed(key).replace(f"block{last}.fc.weight", "fc_weight").replace(f"block{last}.bn.", "last_bn.")
        if block := re.fullmatch(r"block(\d+)\.(.*)", name):
            name = f"blocks.{int(block[1]) - 1}.{block[2]}"
        found[name] = value
    return found


def _renamed(key: str) -> str:
    for pattern, ours in RENAMED:
        key = re.sub(pattern, ours, key)
    return key
