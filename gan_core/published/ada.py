"""StyleGAN2-ADA pickles of NVIDIA, and PTI's tuned generators, which are one such module saved by PyTorch.

Only stored values are read, never the source code in these files. The names differ from the rosinality layout, and no
kernel is flipped. The fixed kernels differ from ours only by the up-sampling gain, which ours include.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from gan_core.checkpoints.stored import Record, StateDict, StoredTensor, load_tensors
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2, StyleGAN2Arguments
from gan_core.loading import load_state
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part

NETWORKS = ("G_ema", "G", "D")
Move = tuple[str, str, Callable[[Tensor], Tensor]]
_DIMENSIONS = {"z_dim": 512, "w_dim": 512, "c_dim": 0}
_BOTH = ("weight", "bias")


@LAYOUTS.register("ada")
class AdaLayout(Layout):
    """A dictionary of the networks ``G``, ``D`` and ``G_ema``, or a single generator."""

    name: ClassVar[str] = "ada"
    licence: ClassVar[str] = "NVIDIA Source Code License (non-commercial), if NVIDIA's or tuned from one of NVIDIA's"

    def recognises(self, value: object) -> bool:
        return _generator(value) is not None

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        generator = _generator(value)
        assert generator is not None
        arguments = ada_arguments(generator, where)
        held = ", ".join(n for n in NETWORKS if isinstance(value, dict) and isinstance(value.get(n), Record))
        return {
            "family": "stylegan2",
            "variant": f"NVIDIA ADA pickle with {held}" if held else "one tuned generator, saved whole (as PTI does)",
            **arguments,
            "n_latent": 2 * int(math.log2(arguments["size"])) - 2,
        }

    def convert(self, value: object, where: str | Path) -> list[Part]:
        generator = _generator(value)
        assert generator is not None
        return [generator_part(load_ada(generator, where), "G_ema" if isinstance(value, dict) else "")]


def load_ada(generator: Record, where: str | Path = "the pickle") -> StyleGAN2:
    """Build a generator from a pickled module, frozen and in eval mode.

    Raises ``CheckpointError`` for a module that is not a StyleGAN2 or lacks tensors.
    """
    built = StyleGAN2(**ada_arguments(generator, where))
    stored = load_tensors(module_state(generator))
    if "mapping.w_avg" not in stored:
        stored["mapping.w_avg"] = built.latent_avg
    load_state(built, {move[0]: _moved(stored, move, where) for move in names(built)}, where)
    return built.eval().requires_grad_(False)


def ada_arguments(generator: Record, where: str | Path) -> StyleGAN2Arguments:
    """Infer the arguments of ``StyleGAN2`` from a pickled generator.

    Raises ``CheckpointError`` for another architecture and for options that ``StyleGAN2`` doesn't have.
    """
    try:
        options = generator.state["_init_kwargs"]
        shapes = {key: tensor.shape for key, tensor in module_state(generator).items()}
        size, synthesis = int(options["img_resolution"]), dict(options.get("synthesis_kwargs") or {})
        levels = range(3, int(math.log2(size)) + 1)
        channels = {4: shapes["synthesis.b4.const"][0]}
        channels |= {1 << n: shapes[f"synthesis.b{1 << n}.conv1.weight"][0] for n in levels}
        depth = sum(key.startswith("mapping.fc") and key.endswith("weight") for key in shapes)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where} is not a StyleGAN2-ADA generator: {error} not found in it") from None
    z_dim, w_dim, classes = (int(options.get(name, usual)) for name, usual in _DIMENSIONS.items())
    architecture = synthesis.get("architecture", "skip")
    if z_dim != w_dim or architecture != "skip" or options.get("img_channels", 3) != 3:
        raise CheckpointError(
            f"{where} has z of {z_dim}, w of {w_dim}, architecture {architecture!r} and {options.get('img_channels')} "
            "colour channels: only generators with z as wide as w, skip connections and 3 colours can be imported"
        )
    arguments: StyleGAN2Arguments = {"size": size, "style_dim": w_dim, "n_mlp": depth, "channels": channels}
    clamp = synthesis.get("conv_clamp")
    arguments["conv_clamp"] = None if clamp is None else float(clamp)
    if classes:
        arguments["classes"] = classes
    return arguments


def module_state(record: Record) -> dict[str, StoredTensor]:
    """Return the state dict of a pickled module: parameters and buffers ``[...]`` of all its parts by dotted name."""
    state: dict[str, StoredTensor] = {}
    waiting = [("", record)]
    while waiting:
        prefix, module = waiting.pop()
        for group in ("_parameters", "_buffers"):
            values = module.state.get(group) or {}
            state |= {f"{prefix}{name}": value for name, value in values.items() if isinstance(value, StoredTensor)}
        parts = module.state.get("_modules") or {}
        waiting += [(f"{prefix}{name}.", part) for name, part in parts.items() if isinstance(part, Record)]
    return state


def names(generator: StyleGAN2) -> list[Move]:
    """Return for each tensor of a generator's checkpoint our name, ADA's name and the function that converts it."""
    moves: list[Move] = [
        (f"style.{i + 1}.{p}", f"mapping.fc{i}.{p}", _same) for i in range(len(generator.style) - 1) for p in _BOTH
    ]
    moves += [(f"embed.{p}", f"mapping.embed.{p}", _same) for p in _BOTH if generator.embed is not None]
    moves += [("latent_avg", "mapping.w_avg", _same), ("input.input", "synthesis.b4.const", _leading)]
    moves += _convolution("conv1", "synthesis.b4.conv1", 0) + _to_rgb("to_rgb1", "synthesis.b4")
    for j in range(len(generator.to_rgbs)):
        block = f"synthesis.b{8 << j}"
        moves += _convolution(f"convs.{2 * j}", f"{block}.conv0", 2 * j + 1)
        moves += _convolution(f"convs.{2 * j + 1}", f"{block}.conv1", 2 * j + 2)
        moves += _to_rgb(f"to_rgbs.{j}", block)
        moves += [(f"convs.{2 * j}.conv.blur.kernel", f"{block}.conv0.resample_filter", _gained)]
        moves += [(f"to_rgbs.{j}.upsample.kernel", f"{block}.resample_filter", _gained)]
    return moves


def _convolution(ours: str, theirs: str, noise: int) -> list[Move]:
    return [
        (f"{ours}.conv.weight", f"{theirs}.weight", _leading),
        (f"{ours}.conv.modulation.weight", f"{theirs}.affine.weight", _same),
        (f"{ours}.conv.modulation.bias", f"{theirs}.affine.bias", _same),
        (f"{ours}.noise.weight", f"{theirs}.noise_strength", lambda t: t.reshape(1)),
        (f"{ours}.activate.bias", f"{theirs}.bias", _same),
        (f"noises.noise_{noise}", f"{theirs}.noise_const", lambda t: t[None, None]),
    ]


def _to_rgb(ours: str, block: str) -> list[Move]:
    return [
        (f"{ours}.conv.weight", f"{block}.torgb.weight", _leading),
        (f"{ours}.conv.modulation.weight", f"{block}.torgb.affine.weight", _same),
        (f"{ours}.conv.modulation.bias", f"{block}.torgb.affine.bias", _same),
        (f"{ours}.bias", f"{block}.torgb.bias", lambda t: t.reshape(1, -1, 1, 1)),
    ]


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _leading(tensor: Tensor) -> Tensor:
    return tensor[None]


def _gained(tensor: Tensor) -> Tensor:
    return tensor * 4  # the gain of 2x up-sampling, which ADA applies when it filters


def _moved(stored: StateDict, move: Move, where: str | Path) -> Tensor:
    _, theirs, change = move
    if theirs not in stored:
        raise CheckpointError(f"{where} lacks {theirs}, which every StyleGAN2-ADA generator has: download it again")
    return change(stored[theirs].float())


def _generator(value: object) -> Record | None:
    found = value.get("G_ema", value.get("G")) if isinstance(value, dict) else value
    if isinstance(found, Record) and {"mapping", "synthesis"} <= set(found.state.get("_modules") or {}):
        return found
    return None
