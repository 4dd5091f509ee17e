"""StyleGAN2 ``.pt`` files of the rosinality layout, the format that most published weights and encoders use."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_core.checkpoints.stored import StateDict, StoredTensor, last_number, loaded, outlines, plain_names
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2, StyleGAN2Arguments
from gan_core.loading import load_state
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part

MARKS = ("conv1.conv.weight", "conv1.conv.modulation.weight")
"""Names by which a generator of this layout is known."""
AVERAGE = "latent_avg"
MAX_SIZE = 1 << 12
"""Pixels of a generator that a file may speak of: the largest published one has 1024."""
COUNTER = "n_averaged"
"""How often PyTorch's ``AveragedModel`` has averaged, which it keeps beside the weights."""


@dataclass(frozen=True)
class Found:
    """A generator in a file: its state dict under our names, the stored average if there is one, and where it lies.

    ``beside`` are the other networks of the state dict that it is a part of.
    """

    state: dict[str, Any]
    average: Any
    place: str
    beside: tuple[str, ...]


@LAYOUTS.register("rosinality")
class RosinalityLayout(Layout):
    """A generator's state dict, alone or in a dictionary (``g_ema``, ``g``, ``params_ema``, ``state_dict``, ...).

    A moving average is preferred to the network that is trained. The names may have a prefix, such as ``module.`` or
    ``generator_ema.``.
    """

    name: ClassVar[str] = "rosinality"
    licence: ClassVar[str] = "NVIDIA Source Code License (non-commercial), if converted from NVIDIA's weights"

    def recognises(self, value: object) -> bool:
        return bool(_candidates(value))

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        found = _alone(value, where)
        arguments = infer_arguments(found.state, where)
        trained = isinstance(value, dict) and "g_optim" in value
        return {
            "family": "stylegan2",
            "variant": "training checkpoint" if trained else "converted weights",
            **arguments,
            "n_latent": 2 * arguments["size"].bit_length() - 4,
            "latent_avg": found.average is not None,
            "noise_maps": any(key.startswith("noises.") for key in found.state),
            **({"read_from": found.place} if found.place not in ("g_ema", "g") else {}),
        }

    def check(self, value: object, where: str | Path) -> None:
        found = _alone(value, where)
        check_generator(found.state, where)
        if found.average is not None:
            latent_average(loaded(found.average), infer_arguments(found.state, where)["style_dim"], 1, where)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        found = _alone(value, where)
        state: dict[str, Any] = {key: loaded(tensor) for key, tensor in found.state.items()}
        return [generator_part(_built(state, loaded(found.average), where), found.place)]


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
    average = networks.get(AVERAGE)
    inner = {key: value for key, value in state.items() if key != AVERAGE}
    return _built(inner, state.get(AVERAGE) if average is None else average, where)


def check_generator(state: Mapping[str, Any], where: str | Path) -> None:
    """Raise ``CheckpointError`` where ``build_generator`` would, for a state dict whose tensors are not loaded."""
    arguments = infer_arguments(state, where)
    if AVERAGE in state:
        latent_average(loaded(state[AVERAGE]), arguments["style_dim"], 1, where)
    with torch.device("meta"):
        built = StyleGAN2(**arguments)
    maps = {key: tensor for key, tensor in built.state_dict().items() if key.startswith("noises.")}
    load_state(built, {**maps, **outlines(state), AVERAGE: built.latent_avg}, where)


def infer_arguments(state: Mapping[str, Any], where: str | Path = "the state dict") -> StyleGAN2Arguments:
    """Infer the constructor's arguments from the names and shapes of a generator's state dict.

    Raises ``CheckpointError`` for a state dict of another layout.
    """
    try:
        depth, blocks = last_number(state, r"style\.(\d+)\."), 1 + last_number(state, r"to_rgbs\.(\d+)\.")
        channels = {4: state["conv1.conv.weight"].shape[1]}
        channels |= {8 << j: state[f"convs.{2 * j}.conv.weight"].shape[1] for j in range(blocks)}
        style_dim = state["style.1.weight"].shape[0]
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"{where} is not a rosinality StyleGAN2 generator: its keys or shapes differ ({error})"
        ) from None
    return with_widths({"size": 4 << blocks, "style_dim": style_dim, "n_mlp": depth, "channels": channels}, where)


def with_widths(arguments: StyleGAN2Arguments, where: str | Path) -> StyleGAN2Arguments:
    """Return the arguments; raises ``CheckpointError`` for layers without channels and for pictures of absurd sizes."""
    if arguments["size"] > MAX_SIZE:
        raise CheckpointError(f"{where} speaks of pictures of {arguments['size']} px, at most {MAX_SIZE} are read")
    if min(arguments["style_dim"], *arguments["channels"].values()) < 1:
        raise CheckpointError(f"{where} has a layer without channels: it is damaged, download it again")
    return arguments


def latent_average(stored: object, width: int, count: int, where: str | Path) -> Tensor:
    """Return a stored ``latent_avg`` as ``[count, width]``; equal rows may be fewer or more than ``count``.

    Raises ``CheckpointError`` for other shapes, for numbers that aren't finite, and for different rows that aren't one
    for each of ``count`` latents.
    """
    if not isinstance(stored, Tensor) or stored.dim() == 0 or stored.shape[-1] != width or not stored.numel():
        shape = list(stored.shape) if isinstance(stored, Tensor) else type(stored).__name__
        raise CheckpointError(f"{where} has a latent_avg of {shape}, but its latents have {width} numbers")
    rows = stored.reshape(-1, width).float()
    if not rows.isfinite().all():
        raise CheckpointError(f"{where} has a latent_avg with NaN or infinity: it is damaged, fetch it again")
    if bool((rows == rows[:1]).all()):
        return rows[:1].expand(count, width).clone()
    if count == 1 or len(rows) < count:
        wanted = "one average" if count == 1 else f"{count} latents"
        raise CheckpointError(f"{where} has {len(rows)} different rows in latent_avg, but its network has {wanted}")
    return rows[:count].clone()


def _built(state: StateDict, average: object, where: str | Path) -> StyleGAN2:
    check_generator(state, where)
    generator = StyleGAN2(**infer_arguments(state, where))
    known = average is not None
    mean = latent_average(average, generator.w_dim, 1, where)[0] if known else torch.zeros_like(generator.latent_avg)
    load_state(generator, _noise_maps(generator) | state | {AVERAGE: mean}, where)
    if not known:
        generator.latent_avg.copy_(generator.mean_latent())
    return generator.eval().requires_grad_(False)


def _noise_maps(generator: StyleGAN2) -> StateDict:
    stream = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in generator.state_dict().items() if key.startswith("noises.")}
    return {key: torch.randn(shape, generator=stream) for key, shape in shapes.items()}


def _candidates(value: object) -> list[Found]:
    """Return the generators in a file's content, a moving average first."""
    if not isinstance(value, dict):
        return []
    inside = [(str(name), inner, value) for name, inner in value.items() if isinstance(inner, dict)]
    deeper = [
        (f"{name}.{key}", state, outer)
        for name, outer, _ in inside
        for key, state in outer.items()
        if isinstance(state, dict)
    ]
    candidates = [
        Found(*_without(prefix, state, beside.get(AVERAGE)), f"{name} {prefix}".strip(" ."), _others(prefix, state))
        for name, state, beside in (("", value, value), *inside, *deeper)
        for prefix in _prefixes(state)
    ]
    return sorted(candidates, key=_rank)


def _rank(found: Found) -> int:
    return 0 if "ema" in found.place else 1 if found.place in ("g", "generator") else 2


def _alone(value: object, where: str | Path) -> Found:
    """Return the generator of a file.

    Raises ``CheckpointError`` where several are equally likely, and for a part of an inversion method not read here.
    """
    found, *rest = _candidates(value)
    if rest and _rank(rest[0]) == _rank(found):
        raise CheckpointError(
            f"{where} holds several generators ({found.place[:60]}, {rest[0].place[:60]}): save the one that you mean "
            "alone"
        )
    if found.place.endswith("decoder") and found.beside:
        raise CheckpointError(
            f"{where} holds {', '.join(found.beside)} beside a decoder: an inversion method that can't be imported "
            "(pSp, e4e, ReStyle, HyperStyle and Style Transformer can)"
        )
    return found


def _prefixes(state: Mapping[Any, object]) -> list[str]:
    """Return what stands before the names of each generator in a state dict, ``DataParallel``'s wrappers left out."""
    names = plain_names({key: None for key, value in state.items() if isinstance(value, StoredTensor)})
    prefixes = [name.removesuffix(MARKS[0]) for name in names if name.endswith(MARKS[0])]
    return [prefix for prefix in prefixes if prefix[-1:] in ("", ".") and prefix + MARKS[1] in names]


def _without(prefix: str, state: Mapping[Any, Any], average: object) -> tuple[dict[str, Any], Any]:
    """Return the entries under a prefix, and the average, which may be one of them."""
    inner = {key.removeprefix(prefix): value for key, value in plain_names(state).items() if key.startswith(prefix)}
    own = inner.pop(AVERAGE, None)
    inner.pop(COUNTER, None)
    return inner, average if average is not None else own


def _others(prefix: str, state: Mapping[Any, object]) -> tuple[str, ...]:
    names = (key for key in plain_names(state) if prefix and not key.startswith(prefix))
    return tuple(dict.fromkeys(name.partition(".")[0][:40] for name in names))
