"""Recognise published state dicts of SNGAN, ProgGAN and BigGAN, and build their generators."""

from collections.abc import Callable

from torch import Tensor

from gan_core.checkpoints.stored import StateDict, last_number
from gan_core.errors import CheckpointError
from gan_core.generators.base import Generator
from gan_core.generators.biggan import CHUNK, BigGAN
from gan_core.generators.biggan_deep import BigGANDeep
from gan_core.generators.proggan import ProgGAN
from gan_core.generators.sngan import SNGAN
from gan_core.loading import load_state

UNUSED = ("num_batches_tracked", "sv0")
"""Endings of tensors that only training uses."""
LABEL = 239
"""The class that the published BigGAN scripts draw."""


def build_published(state: StateDict, where: str = "the weights") -> Generator:
    """Build the generator whose published names ``state`` has, frozen and in eval mode.

    Unknown tensors are ignored, as by the published loaders, and tensors that only training uses may be missing.
    BigGAN draws the class ``LABEL``, or the last if there are fewer. Raises ``CheckpointError`` for unknown, missing or
    damaged weights.
    """
    builder = next((build for key, build in FAMILIES.items() if key in state), None)
    if builder is None:
        raise CheckpointError(f"{where}: no published SNGAN, ProgGAN or BigGAN generator has these names")
    try:
        generator, state = builder(state)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where}: a part of the generator is missing ({error})") from None
    known = generator.state_dict()
    kept = {key: value for key, value in known.items() if key.endswith(UNUSED)}
    kept |= {key: value for key, value in state.items() if key in known}
    load_state(generator, kept | {"latent_avg": generator.latent_avg}, where)
    return generator.eval().requires_grad_(False)


def _sngan(state: StateDict) -> tuple[Generator, StateDict]:
    for key, value in state.items():
        stem, found, rest = key.partition(".conv")
        if found and not _same(value, state[f"{stem}.model.{3 * int(rest[0])}.{rest[2:]}"]):
            raise CheckpointError(f"{key} differs from its second name in the file: the weights are damaged")
    dense = state["model.0.weight"]
    blocks = sorted(int(key.split(".")[1]) for key in state if key.endswith(".model.6.bias"))
    widths = [len(state[f"model.{i}.model.6.bias"]) for i in blocks]
    image_channels = len(state[f"model.{blocks[-1] + 3}.bias"])
    return SNGAN([dense.shape[0] // 16, *widths], image_channels, dense.shape[1]), state


def _same(tensor: Tensor, second: Tensor) -> bool:
    alike = (tensor.shape, tensor.dtype) == (second.shape, second.dtype)
    return alike and (tensor.is_meta or tensor.equal(second))


def _ptrblck(state: StateDict) -> tuple[Generator, StateDict]:
    layers = 1 + last_number(state, r"features\.(\d+)\.")
    widths = [len(state[f"features.{i}.wscale.b"]) for i in range(0, layers, 2)]
    return ProgGAN(widths, state["features.0.conv.weight"].shape[1]), state


def _interfacegan(state: StateDict) -> tuple[Generator, StateDict]:
    return _equalised(state, "conv.weight", "wscale.bias")


def _genforce(state: StateDict) -> tuple[Generator, StateDict]:
    return _equalised(state, "weight", "bias")


def _equalised(state: StateDict, weight: str, bias: str) -> tuple[Generator, StateDict]:
    """Convert layouts without stored factors: layers ``layer<i>``, and the last of the RGB layers ``output<j>``."""
    if "lod" in state and state["lod"].any():
        raise CheckpointError(
            f"the level of detail is {state['lod'].item():g}: the training hasn't reached the last level"
        )
    layers = 1 + last_number(state, r"layer(\d+)\.")
    widths = [len(state[f"layer{i}.{bias}"]) for i in range(0, layers, 2)]
    generator = ProgGAN(widths, state[f"layer0.{weight}"].shape[1])
    names = {f"features.{i}": f"layer{i}" for i in range(layers)} | {"output": f"output{layers // 2 - 1}"}
    moved = {f"{ours}.conv.weight": state[f"{theirs}.{weight}"] for ours, theirs in names.items()}
    moved |= {f"{ours}.wscale.b": state[f"{theirs}.{bias}"] for ours, theirs in names.items()}
    return generator, dict(generator.state_dict()) | moved


def _biggan(state: StateDict) -> tuple[Generator, StateDict]:
    width, classes = len(state["output_layer.0.gain"]), len(state["shared.weight"])
    if state["linear.weight"].shape[1] != CHUNK or "blocks.4.0.conv1.u0" not in state or "blocks.5.0.conv1.u0" in state:
        raise CheckpointError("this BigGAN is not the published network of 128 px, the only size that is read")
    return BigGAN(width, classes, label=min(LABEL, classes - 1)), state


def _biggan_deep(state: StateDict) -> tuple[Generator, StateDict]:
    width, classes = len(state["generator.conv_to_rgb.bias"]), state["embeddings.weight"].shape[1]
    blocks = sorted(int(key.split(".")[2]) for key in state if key.endswith(".conv_3.bias"))
    ends = [len(state[f"generator.layers.{i}.conv_3.bias"]) // width for i in blocks]
    start = state["generator.layers.0.conv_0.weight_orig"].shape[1] // width
    return BigGANDeep(width, [start, *ends], classes, label=min(LABEL, classes - 1)), state


FAMILIES: dict[str, Callable[[StateDict], tuple[Generator, StateDict]]] = {
    "model.2.model.0.running_mean": _sngan,
    "features.0.wscale.scale": _ptrblck,
    "layer0.wscale.bias": _interfacegan,
    "layer0.bias": _genforce,
    "blocks.0.0.conv1.u0": _biggan,
    "generator.gen_z.weight_orig": _biggan_deep,
}
