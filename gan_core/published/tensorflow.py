"""StyleGAN2 pickles of the original TensorFlow release: ``(G, D, Gs)``, each a list of named arrays.

The networks' classes are never imported. Arrays are transposed to PyTorch's order. The kernels of up-sampling
convolutions are flipped, because TensorFlow convolves there and PyTorch correlates.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gan_core.checkpoints.stored import Record, StateDict, StoredTensor
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2, StyleGAN2Arguments
from gan_core.loading import load_state, model_tensors
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part
from gan_core.published.options import tensorflow_options
from gan_core.published.rosinality import with_widths

NETWORK = "dnnlib.tflib.network.Network"
OLDEST_VERSION = 4
PROGRESS = "synthesis/lod"
"""How far progressive growing has come; a StyleGAN2 doesn't grow."""


@LAYOUTS.register("tensorflow")
class TensorflowLayout(Layout):
    """Networks ``G``, ``D``, ``Gs`` of ``dnnlib.tflib``; the moving average ``Gs`` is used."""

    name: ClassVar[str] = "tensorflow"
    licence: ClassVar[str] = "NVIDIA Source Code License (non-commercial), if it is one of NVIDIA's networks"

    def recognises(self, value: object) -> bool:
        return _average(value) is not None

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        network = _average(value)
        arguments = tensorflow_arguments(network, variables(network), where)
        count = 2 * arguments["size"].bit_length() - 4
        return {"family": "stylegan2", "variant": "TensorFlow pickle", **arguments, "n_latent": count}

    def check(self, value: object, where: str | Path) -> None:
        network = _average(value)
        arrays = variables(network)
        with torch.device("meta"):
            _filled(tensorflow_arguments(network, arrays, where), arrays, where, StoredTensor.outline)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        return [generator_part(load_tensorflow(_average(value), where), "Gs")]


def load_tensorflow(network: Record | None, where: str | Path = "the pickle") -> StyleGAN2:
    """Build the generator of a pickled network, frozen and in eval mode.

    Raises ``CheckpointError`` for an old format, another architecture, options that ``StyleGAN2`` doesn't have, and
    missing tensors.
    """
    arrays = variables(network)
    arguments = tensorflow_arguments(network, arrays, where)
    return _filled(arguments, arrays, where, StoredTensor.load).eval().requires_grad_(False)


def variables(network: Record | None) -> dict[str, StoredTensor | float]:
    """Return the arrays ``[...]`` and single numbers of a network and its parts (``mapping``, ``synthesis``) by path.

    Raises ``CheckpointError`` for the format of an old StyleGAN.
    """
    if network is None or int(network.state.get("version") or 0) < OLDEST_VERSION:
        raise CheckpointError(f"a network of format {OLDEST_VERSION} or newer is expected: this is an old StyleGAN")
    found = dict(_named(network))
    for part, inner in (network.state.get("components") or {}).items():
        found |= {f"{part}/{name}": array for name, array in _named(inner)}
    return found


def tensorflow_arguments(
    network: Record | None, arrays: Mapping[str, StoredTensor | float], where: str | Path
) -> StyleGAN2Arguments:
    """Infer the arguments of ``StyleGAN2`` from the options of a network and the names and shapes of its arrays.

    Raises ``CheckpointError`` for another architecture and for options that ``StyleGAN2`` doesn't have.
    """
    options = tensorflow_options(network, where) if network is not None else {}
    shapes = {name: array.shape for name, array in arrays.items() if isinstance(array, StoredTensor)}
    try:
        sizes = [int(found[1]) for name in shapes if (found := re.match(r"synthesis/(\d+)x\d+/ToRGB/weight", name))]
        channels = {4: shapes["synthesis/4x4/Const/const"][1]}
        channels |= {n: shapes[f"synthesis/{n}x{n}/Conv1/weight"][3] for n in sorted(sizes) if n > 4}
        depth = sum(re.fullmatch(r"mapping/Dense\d+/weight", name) is not None for name in shapes)
        style_dim = shapes["dlatent_avg"][0]
        size = max(sizes)
        classes = shapes["mapping/LabelEmbed/weight"][0] if "mapping/LabelEmbed/weight" in shapes else 0
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where} is not a StyleGAN2 generator with skip connections: {error}") from None
    arguments: StyleGAN2Arguments = {"size": size, "style_dim": style_dim, "n_mlp": depth, "channels": channels}
    if (clamp := options.get("conv_clamp")) is not None:
        arguments["conv_clamp"] = clamp
    if classes:
        arguments["classes"] = classes
    return with_widths(arguments, where)


def rosinality_state(arrays: StateDict, where: str | Path = "the pickle") -> StateDict:
    """Rename and transpose TensorFlow's arrays to our layout; those outside of mapping and synthesis are left out.

    Raises ``CheckpointError`` for an array that no StyleGAN2 has, because the network then draws other pictures.
    """
    state: StateDict = {"latent_avg": arrays["dlatent_avg"]}
    for name, array in arrays.items():
        if found := re.fullmatch(r"mapping/Dense(\d+)/(weight|bias)", name):
            state[f"style.{int(found[1]) + 1}.{found[2]}"] = array.T if found[2] == "weight" else array
        elif found := re.fullmatch(r"mapping/LabelEmbed/(weight|bias)", name):
            state[f"embed.{found[1]}"] = array.T if found[1] == "weight" else array
        elif name == "synthesis/4x4/Const/const":
            state["input.input"] = array
        elif found := re.fullmatch(r"synthesis/noise(\d+)", name):
            state[f"noises.noise_{found[1]}"] = array
        elif found := re.fullmatch(r"synthesis/(\d+)x\d+/(Conv|Conv0_up|Conv1|ToRGB)/(\w+)", name):
            ours = _layer(int(math.log2(int(found[1]))) - 3, found[2])
            key, value = _parameter(found[2], found[3], array)
            state[f"{ours}.{key}"] = value
        elif name.startswith(("mapping/", "synthesis/")) and name != PROGRESS:
            raise CheckpointError(f"{where} has the array {name[:80]}, which no StyleGAN2 here has: it draws otherwise")
    return {key: value.contiguous() for key, value in state.items()}


def _filled(
    arguments: StyleGAN2Arguments,
    arrays: Mapping[str, StoredTensor | float],
    where: str | Path,
    read: Callable[[StoredTensor], Tensor],
) -> StyleGAN2:
    generator = StyleGAN2(**arguments)
    stored = {n: read(a).float() if isinstance(a, StoredTensor) else torch.tensor(a) for n, a in arrays.items()}
    kernels = {key: value for key, value in model_tensors(generator).items() if key.endswith("kernel")}
    load_state(generator, kernels | rosinality_state(stored, where), where)
    return generator


def _layer(block: int, kind: str) -> str:
    if block < 0:
        return "to_rgb1" if kind == "ToRGB" else "conv1"
    return {"Conv0_up": f"convs.{2 * block}", "Conv1": f"convs.{2 * block + 1}", "ToRGB": f"to_rgbs.{block}"}[kind]


def _parameter(kind: str, name: str, array: Tensor) -> tuple[str, Tensor]:
    if name == "weight":
        kernel = array.permute(3, 2, 0, 1)
        return "conv.weight", (kernel.flip(2, 3) if kind == "Conv0_up" else kernel)[None]
    if name == "mod_weight":
        return "conv.modulation.weight", array.T
    if name == "mod_bias":
        return "conv.modulation.bias", array + 1
    if name == "noise_strength":
        return "noise.weight", array.reshape(1)
    return ("bias", array.reshape(1, 3, 1, 1)) if kind == "ToRGB" else ("activate.bias", array)


def _named(network: object) -> list[tuple[str, StoredTensor | float]]:
    pairs = network.state.get("variables") or [] if isinstance(network, Record) else []
    return [(str(name), array) for name, array in pairs if isinstance(array, StoredTensor | float)]


def _average(value: object) -> Record | None:
    networks = value if isinstance(value, list | tuple) else [value]
    last = networks[-1] if networks else None
    return last if isinstance(last, Record) and last.name == NETWORK else None
