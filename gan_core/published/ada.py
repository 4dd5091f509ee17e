"""StyleGAN2-ADA pickles of NVIDIA, and PTI's tuned generators, which are one such module saved by PyTorch.

Only stored values are read, never the source code in these files. The names differ from the rosinality layout, and no
kernel is flipped. The fixed kernels differ from ours only by the up-sampling gain, which ours include.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gan_core.checkpoints.stored import Record, StateDict, StoredTensor, plain_names
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2, StyleGAN2Arguments
from gan_core.loading import load_state
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part
from gan_core.published.options import ada_options, modules
from gan_core.published.rosinality import with_widths

Move = tuple[str, str, Callable[[Tensor], Tensor]]
NETWORKS = ("G_ema", "G", "D")
"""The networks of a file in the order in which they are shown."""
_DIMENSIONS = {"z_dim": 512, "w_dim": 512, "c_dim": 0}
_BOTH = ("weight", "bias")
CONSTANT = "G_ema.synthesis.b4.const"
TRACKED = "mapping.w_avg"
STYLEGAN3 = re.compile(r"synthesis\.(input|L\d+_\d+_\d+)")
"""The parts of StyleGAN3's synthesis: Fourier features and layers by number, size and width."""


@LAYOUTS.register("ada")
class AdaLayout(Layout):
    """A dictionary of the networks ``G``, ``D`` and ``G_ema``, or a single generator."""

    name: ClassVar[str] = "ada"
    licence: ClassVar[str] = "NVIDIA Source Code License (non-commercial), if NVIDIA's or tuned from one of NVIDIA's"

    def recognises(self, value: object) -> bool:
        return _generator(value) is not None or any(map(_is_state, (value, *_values(value))))

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        generator = _whole(value, where)
        arguments = ada_arguments(generator, where)
        named = value.items() if isinstance(value, dict) else ()
        found = {str(name): None for name, network in named if isinstance(network, Record)}
        held = ", ".join(name[:40] for name in {**{name: None for name in NETWORKS if name in found}, **found})
        return {
            "family": "stylegan2",
            "variant": f"NVIDIA ADA pickle with {held}" if held else "one tuned generator, saved whole (as PTI does)",
            **arguments,
            "n_latent": 2 * arguments["size"].bit_length() - 4,
        }

    def check(self, value: object, where: str | Path) -> None:
        generator = _whole(value, where)
        with torch.device("meta"):
            built = StyleGAN2(**ada_arguments(generator, where))
        load_state(built, _converted(generator, built, where, StoredTensor.outline), where)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        generator = _whole(value, where)
        return [generator_part(load_ada(generator, where), "G_ema" if isinstance(value, dict) else "")]


def load_ada(generator: Record, where: str | Path = "the pickle") -> StyleGAN2:
    """Build a generator from a pickled module, frozen and in eval mode; a mean latent that is missing is computed.

    Raises ``CheckpointError`` for a module that is not a StyleGAN2 or lacks tensors.
    """
    built = StyleGAN2(**ada_arguments(generator, where))
    load_state(built, _converted(generator, built, where, StoredTensor.load), where)
    if TRACKED not in module_state(generator):
        built.latent_avg.copy_(built.mean_latent().detach())
    return built.eval().requires_grad_(False)


def ada_arguments(generator: Record, where: str | Path) -> StyleGAN2Arguments:
    """Infer the arguments of ``StyleGAN2`` from a pickled generator.

    Raises ``CheckpointError`` for another architecture and for options that ``StyleGAN2`` doesn't have.
    """
    shapes = {key: tensor.shape for key, tensor in module_state(generator).items()}
    if any(STYLEGAN3.fullmatch(path) for path, _ in modules(generator)):
        raise CheckpointError(
            f"{where} holds a StyleGAN3 generator (or one made of it, such as StyleGAN-XL), which can't be imported: "
            "its layers are other ones; name a StyleGAN2 file, which the StyleGAN3 code writes with --cfg=stylegan2"
        )
    options = ada_options(generator, where)
    try:
        size = int(options["img_resolution"])
        levels = range(3, _power(size) + 1)
        channels = {4: shapes["synthesis.b4.const"][0]}
        channels |= {1 << n: shapes[f"synthesis.b{1 << n}.conv1.weight"][0] for n in levels}
        depth = sum(key.startswith("mapping.fc") and key.endswith("weight") for key in shapes)
        z_dim, w_dim, classes = (int(options.get(name, usual)) for name, usual in _DIMENSIONS.items())
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise CheckpointError(f"{where} is not a StyleGAN2-ADA generator: {error} not found in it") from None
    if z_dim != w_dim:
        raise CheckpointError(
            f"{where} has z of {z_dim} and w of {w_dim}: only generators with z as wide as w can be imported"
        )
    arguments: StyleGAN2Arguments = {"size": size, "style_dim": w_dim, "n_mlp": depth, "channels": channels}
    arguments["conv_clamp"] = options["conv_clamp"]
    if classes:
        arguments["classes"] = classes
    return with_widths(arguments, where)


def module_state(record: Record) -> dict[str, StoredTensor]:
    """Return the state dict of a pickled module: parameters and buffers ``[...]`` of all its parts by dotted name."""
    state: dict[str, StoredTensor] = {}
    for path, module in modules(record):
        for group in ("_parameters", "_buffers"):
            values = module.state.get(group) or {}
            found = {name: value for name, value in values.items() if isinstance(value, StoredTensor)}
            state |= {f"{path}.{name}".lstrip("."): value for name, value in found.items()}
    return state


def names(generator: StyleGAN2) -> list[Move]:
    """Return for each tensor of a generator's checkpoint our name, ADA's name and the function that converts it."""
    moves: list[Move] = [
        (f"style.{i + 1}.{p}", f"mapping.fc{i}.{p}", _same) for i in range(len(generator.style) - 1) for p in _BOTH
    ]
    moves += [(f"embed.{p}", f"mapping.embed.{p}", _same) for p in _BOTH if generator.embed is not None]
    moves += [("latent_avg", TRACKED, _same), ("input.input", "synthesis.b4.const", _leading)]
    moves += _convolution("conv1", "synthesis.b4.conv1", 0) + _to_rgb("to_rgb1", "synthesis.b4")
    for j in range(len(generator.to_rgbs)):
        block = f"synthesis.b{8 << j}"
        moves += _convolution(f"convs.{2 * j}", f"{block}.conv0", 2 * j + 1)
        moves += _convolution(f"convs.{2 * j + 1}", f"{block}.conv1", 2 * j + 2)
        moves += _to_rgb(f"to_rgbs.{j}", block)
        moves += [(f"convs.{2 * j}.conv.blur.kernel", f"{block}.conv0.resample_filter", _gained)]
        moves += [(f"to_rgbs.{j}.upsample.kernel", f"{block}.resample_filter", _gained)]
    return moves


def _power(size: int) -> int:
    if size < 8 or size & (size - 1):
        raise ValueError(f"a power of two as img_resolution (it is {str(size)[:20]})")
    return size.bit_length() - 1


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


def _converted(
    generator: Record, built: StyleGAN2, where: str | Path, read: Callable[[StoredTensor], Tensor]
) -> StateDict:
    """Return the tensors of a pickled generator under our names and in our forms, each after ``read``."""
    stored = module_state(generator)
    moves = names(built)
    unknown = stored.keys() - {theirs for _, theirs, _ in moves}
    if strange := sorted(key for key in unknown if not key.endswith("resample_filter")):
        raise CheckpointError(
            f"{where} has {strange[0][:80]}, which no StyleGAN2-ADA generator has: it draws otherwise"
        )
    state: StateDict = {}
    for ours, theirs, change in moves:
        if theirs in stored:
            state[ours] = change(read(stored[theirs]).float())
        elif ours == "latent_avg":
            state[ours] = built.latent_avg
        else:
            raise CheckpointError(f"{where} lacks {theirs}, which every StyleGAN2-ADA generator has: download it again")
    return state


def _whole(value: object, where: str | Path) -> Record:
    """Return the pickled generator; raises ``CheckpointError`` for a state dict, which doesn't hold the options."""
    if (generator := _generator(value)) is None:
        raise CheckpointError(
            f"{where} is the state dict of a StyleGAN2-ADA generator, without the options that it is drawn with (such "
            "as conv_clamp): name the pickle that it was taken from"
        )
    return generator


def _values(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else []


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and any(key in plain_names(value) for key in ("synthesis.b4.const", CONSTANT))


def _generator(value: object) -> Record | None:
    """Return the generator among the networks of a file, by whatever name: the moving average, else the last one."""
    if isinstance(value, list | tuple):
        named = [("", network) for network in value]
    else:
        named = list(value.items()) if isinstance(value, dict) else [("", value)]
    found = [(str(name), network) for name, network in named if isinstance(network, Record) and _draws(network)]
    averages = [network for name, network in found if "ema" in name.lower()]
    chosen = averages or [network for _, network in found]
    return chosen[-1] if chosen else None


def _draws(network: Record) -> bool:
    return {"mapping", "synthesis"} <= set(network.state.get("_modules") or {})
