"""Build encoders from published files of pSp, its baselines, e4e and Style Transformer.

A published file is a dictionary ``{"state_dict": {"encoder.*", "decoder.*"}, "opts": {...}, "latent_avg"?: ...}``,
with or without the prefixes of ``DataParallel``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor

from gan_core.checkpoints.stored import StateDict
from gan_core.encoders.backbone import IR_SE_50
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_state
from gan_core.published.rosinality import build_generator


class Shaped(Protocol):
    """Anything with a shape: a tensor, or a ``StoredTensor``, which is not loaded yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Shapes = Mapping[str, Shaped]
"""Tensors by state-dict key of which only the shapes are needed."""
Options = Mapping[str, object]
"""The training options in a published file."""
WIDE = [192, 256]
"""Height and width of the input of encoders for cars."""


class EncoderArguments(TypedDict, total=False):
    """The constructors' arguments as they are inferred from published weights."""

    width: int
    input_channels: int
    units: list[int]
    n_latent: int
    style_dim: int
    input_size: int | list[int]
    n_queries: int
    n_mlp: int
    head_width: int


@dataclass(frozen=True)
class PublishedEncoder:
    """An encoder with the generator from the same file, both frozen and in eval mode.

    The mapping network in the decoder of a Style Transformer was trained together with the queries and belongs to the
    encoder. ``generator.mapping`` must then not be used to sample random faces.
    """

    encoder: Encoder
    generator: StyleGAN2 | None


def load_published_encoder(content: Mapping[str, object], where: str | Path = "the file") -> PublishedEncoder:
    """Build encoder and generator from the loaded content of a file, with strict checks of all names.

    Variant, size and number of latents are inferred from the keys, the shapes and ``opts``. A missing ``latent_avg`` is
    computed from the decoder. Raises ``CheckpointError`` naming the keys that don't fit and the likely cause.
    """
    parts = split_wrapper(content, where)
    options = _options(content)
    generator = build_generator({"g_ema": parts["decoder"]}, where) if parts.get("decoder") else None
    n_latent = generator.n_latent if generator else None
    variant, arguments = infer_encoder(parts["encoder"], options, n_latent, where, parts.get("decoder", {}))
    encoder = ENCODERS.get(variant)(**arguments)
    average = _average(content.get("latent_avg"), options, generator, encoder, where)
    if generator is not None:
        generator.latent_avg.copy_(average.mean(0))
    load_state(encoder, _encoder_state(variant, parts, encoder) | {"latent_avg": average}, where)
    return PublishedEncoder(encoder.eval().requires_grad_(False), generator)


def split_wrapper(content: Mapping[str, object], where: str | Path = "the file") -> dict[str, dict[str, Any]]:
    """Return the entries of ``state_dict`` by network (``encoder``, ``decoder``), without any prefix.

    Raises ``CheckpointError`` if there is no ``state_dict``, or no encoder in it.
    """
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{where} has no state_dict: it is not a file of pSp, e4e or Style Transformer")
    parts: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        network, _, name = str(key).removeprefix("module.").partition(".")
        parts.setdefault(network, {})[name.removeprefix("module.")] = value
    if "encoder" not in parts:
        raise CheckpointError(f"{where} has no encoder.* keys (it has {', '.join(sorted(parts))[:80]}): not an encoder")
    return parts


def infer_encoder(
    encoder: Shapes,
    options: Options,
    n_latent: int | None = None,
    where: str | Path = "the file",
    decoder: Shapes | None = None,
) -> tuple[str, EncoderArguments]:
    """Return the variant and the constructor's arguments; ``n_latent`` is that of the generator, if it is known.

    Raises ``CheckpointError`` for keys of no known encoder, and for an encoder of another generator's size.
    """
    variant = _variant(encoder, options, where)
    count = n_latent or _latents_for(options.get("output_size") or options.get("stylegan_size"))
    try:
        first = encoder["input_layer.0.weight"].shape
        arguments: EncoderArguments = {"width": first[0], "input_channels": first[1], "units": _units(encoder)}
        arguments |= _sizes(variant, encoder, decoder or {}, count)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where} is not a whole {variant} encoder: {error} not found") from None
    if arguments["n_latent"] != (count or arguments["n_latent"]):
        _check_count(arguments["n_latent"], count or 0, variant, options, where)
    if str(options.get("dataset_type", "")).startswith("cars"):
        arguments["input_size"] = WIDE
    return variant, arguments | {"n_latent": count or arguments["n_latent"]}


def _options(content: Mapping[str, object]) -> Options:
    options = content.get("opts")
    return options if isinstance(options, dict) else {}


def _latents_for(size: object) -> int | None:
    """Return the number of latents of a generator of ``size`` pixels, or None if it is not a number."""
    return 2 * (int(size).bit_length() - 1) - 2 if isinstance(size, int | float) and size else None


def _variant(encoder: Shapes, options: Options, where: str | Path) -> str:
    if "transformerlayer_coarse.linear1.weight" in encoder:
        return "style-transformer"
    if "styles.0.linear.weight" in encoder:
        return "e4e" if options.get("encoder_type") in ("Encoder4Editing", "ProgressiveBackboneEncoder") else "psp"
    if "output_layer_2.3.weight" in encoder:
        return "psp-w-plus"
    if "linear.weight" in encoder and "input_layer.0.weight" in encoder:
        return "psp-w"
    some = ", ".join(list(encoder)[:3])
    raise CheckpointError(
        f"{where} holds no known encoder (its keys begin with {some}): name a file of pSp, e4e or Style Transformer"
    )


def _units(encoder: Shapes) -> list[int]:
    widths: list[int] = []
    while (key := f"body.{len(widths)}.res_layer.3.weight") in encoder:
        widths.append(encoder[key].shape[0])
    groups = [widths.count(width) for width in dict.fromkeys(widths)]
    if len(groups) == 4:
        return groups
    if len(widths) == sum(IR_SE_50):
        return list(IR_SE_50)
    raise KeyError("body.*")


def _sizes(variant: str, encoder: Shapes, decoder: Shapes, count: int | None) -> EncoderArguments:
    if variant in ("psp", "e4e"):
        return _head_sizes(encoder)
    if variant == "style-transformer":
        queries, style_dim = encoder["z"].shape[1:]
        depth = max([int(key.split(".")[1]) for key in decoder if key.startswith("style.")], default=8)
        return {
            "n_latent": count or queries,
            "style_dim": style_dim,
            "input_size": 256,
            "n_queries": queries,
            "n_mlp": depth,
        }
    outputs, inner = encoder["linear.weight"].shape
    if variant == "psp-w":
        return {"n_latent": count or 18, "style_dim": outputs, "input_size": 256}
    return {"n_latent": outputs // inner, "style_dim": inner, "input_size": 256}


def _head_sizes(encoder: Shapes) -> EncoderArguments:
    style_dim, inner = encoder["styles.0.linear.weight"].shape
    styles = {int(key.split(".")[1]) for key in encoder if key.startswith("styles.")}
    halvings = sum(key.startswith("styles.0.convs.") and key.endswith(".weight") for key in encoder)
    sizes: EncoderArguments = {"n_latent": max(styles) + 1, "style_dim": style_dim, "input_size": 16 << halvings}
    if inner != style_dim:
        sizes["head_width"] = inner
    return sizes


def _check_count(written: int, count: int, variant: str, options: Options, where: str | Path) -> None:
    """Reject another number of latents, except where an e4e declares it: old files for cars have 18 styles, not 16."""
    if variant == "e4e" and written > count and _latents_for(options.get("stylegan_size")) == count:
        return
    ours, theirs = _pixels(written), _pixels(count)
    raise CheckpointError(
        f"{where} writes {written} latents (styles.0 to styles.{written - 1}: a generator of {ours} px), but its "
        f"decoder takes {count} ({theirs} px): encoder and generator come from different trainings"
    )


def _pixels(n_latent: int) -> int:
    return 1 << (n_latent + 2) // 2


def _average(
    stored: object, options: Options, generator: StyleGAN2 | None, encoder: Encoder, where: str | Path
) -> Tensor:
    if isinstance(stored, Tensor):
        rows = stored.reshape(-1, stored.shape[-1])[: encoder.n_latent].float()
        return rows.expand(encoder.n_latent, -1).clone()
    if options.get("start_from_latent_avg", True) is False:
        return torch.zeros(encoder.n_latent, encoder.w_dim)
    if generator is None:
        raise CheckpointError(f"{where} has no latent_avg and no decoder to compute it from: name the whole file")
    return generator.latent_avg.expand(encoder.n_latent, -1).clone()


def _encoder_state(variant: str, parts: Mapping[str, StateDict], encoder: Encoder) -> StateDict:
    state = dict(parts["encoder"])
    if variant == "style-transformer":
        state |= {key: value for key, value in parts.get("decoder", {}).items() if key.startswith("style.")}
    surplus = [key for key in state if key.startswith("styles.") and int(key.split(".")[1]) >= encoder.n_latent]
    counters = {key: value for key, value in encoder.state_dict().items() if key.endswith("num_batches_tracked")}
    return counters | {key: value for key, value in state.items() if key not in surplus}
