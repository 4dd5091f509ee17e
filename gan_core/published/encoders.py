"""Build encoders from published files of pSp, its baselines, e4e, ReStyle and Style Transformer.

A published file is a dictionary ``{"state_dict": {"encoder.*", "decoder.*"}, "opts": {...}, "latent_avg"?: ...}``,
which ``gan_core.published.unwrapping`` makes of the forms in which people have it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor

from gan_core.checkpoints.stored import StateDict, last_number, outlines, plain_names
from gan_core.encoders.backbone import IR_SE_50
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.restyle import PAIR
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_state
from gan_core.published.rosinality import MAX_SIZE, build_generator, check_generator, infer_arguments, latent_average
from gan_core.published.unwrapping import options_of, unwrap


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
ALIKE: Mapping[str, str] = {"GradualStyleEncoder": "psp", "Encoder4Editing": "e4e"}
"""Variants by their name in ``opts.encoder_type``, whose weights have the same names and shapes."""
RESTYLE: Mapping[str, str] = {
    "BackboneEncoder": "restyle-psp",
    "ResNetBackboneEncoder": "restyle-psp",
    "GradualStyleEncoder": "restyle-psp",
    "ResNetGradualStyleEncoder": "restyle-psp",
    "ProgressiveBackboneEncoder": "restyle-e4e",
    "ResNetProgressiveBackboneEncoder": "restyle-e4e",
}
"""The same for encoders of ReStyle; those without a pyramid have the same names in both."""
STEPS = 5
"""How often ReStyle's published encoders look."""
MOST_STEPS = 100
"""What a file may ask for; more than 5 steps bring nothing (ReStyle's author)."""


class Undecided(CheckpointError):
    """A file that may be one of several ``variants``."""

    def __init__(self, where: str | Path, variants: Sequence[str]) -> None:
        self.variants = list(variants)
        super().__init__(
            f"{where} doesn't say whether it is {' or '.join(self.variants)}, whose weights have the same names "
            f"(opts.encoder_type is missing): say which with {' or '.join(f'--variant {v}' for v in self.variants)}"
        )


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
    backbone: str
    pyramid: bool
    steps: int


@dataclass(frozen=True)
class PublishedEncoder:
    """An encoder with the generator from the same file, both frozen and in eval mode.

    The mapping network in the decoder of a Style Transformer was trained together with the queries and belongs to the
    encoder. ``generator.mapping`` must then not be used to sample random faces.
    """

    encoder: Encoder
    generator: StyleGAN2 | None


def load_published_encoder(
    content: Mapping[str, object], where: str | Path = "the file", told: str | None = None
) -> PublishedEncoder:
    """Build encoder and generator from the loaded content of a file, with strict checks of all names.

    Variant, size and number of latents are inferred from the keys, the shapes and ``opts``; ``told`` is the variant
    where they don't decide. A missing ``latent_avg`` is computed from the decoder; the encoder doesn't add it if
    ``opts.start_from_latent_avg`` is false. Raises ``CheckpointError`` naming the keys that don't fit and the likely
    cause.
    """
    content = unwrap(content, where)
    parts, options = split_wrapper(content, where), options_of(content)
    generator = build_generator({"g_ema": parts["decoder"]}, where) if parts.get("decoder") else None
    n_latent = generator.n_latent if generator else None
    variant, arguments = infer_encoder(parts["encoder"], options, n_latent, where, parts.get("decoder", {}), told)
    encoder = ENCODERS.get(variant)(**arguments)
    average = _average(content.get("latent_avg"), generator, encoder, where)
    if generator is not None and average is not None:
        generator.latent_avg.copy_(average.mean(0))
    added = _added(average, options, encoder, where)
    load_state(encoder, _encoder_state(variant, parts, encoder) | {"latent_avg": added}, where)
    if generator is not None:
        encoder.attach(generator)
    return PublishedEncoder(encoder.eval().requires_grad_(False), generator)


def check_published_encoder(
    content: Mapping[str, object], average: object, where: str | Path, told: str | None = None
) -> None:
    """Raise ``CheckpointError`` where ``load_published_encoder`` would, for a file of which only the average is loaded.

    Tensors of ``content`` are ``StoredTensor``s, and ``average`` is its ``latent_avg``.
    """
    content = unwrap(content, where)
    parts = split_wrapper(content, where)
    if decoder := parts.get("decoder"):
        check_generator(decoder, where)
    count = 2 * infer_arguments(decoder, where)["size"].bit_length() - 4 if decoder else None
    options = options_of(content)
    variant, arguments = infer_encoder(parts["encoder"], options, count, where, decoder or {}, told)
    with torch.device("meta"):
        encoder = ENCODERS.get(variant)(**arguments)
    if average is not None or not decoder:
        _added(_average(average, None, encoder, where), options, encoder, where)
    outlined = {network: outlines(state) for network, state in parts.items()}
    load_state(encoder, _encoder_state(variant, outlined, encoder) | {"latent_avg": encoder.latent_avg}, where)


def split_wrapper(content: Mapping[str, object], where: str | Path = "the file") -> dict[str, dict[str, Any]]:
    """Return the entries of ``state_dict`` by network (``encoder``, ``decoder``), without any prefix.

    Raises ``CheckpointError`` if there is no ``state_dict``, or no encoder in it.
    """
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{where} has no state_dict: it is not a file of pSp, e4e or Style Transformer")
    parts: dict[str, dict[str, Any]] = {}
    for key, value in plain_names(state).items():
        network, _, name = key.partition(".")
        parts.setdefault(network, {})[name] = value
    if "encoder" not in parts:
        raise CheckpointError(f"{where} has no encoder.* keys (it has {', '.join(sorted(parts))[:80]}): not an encoder")
    return parts


def infer_encoder(
    encoder: Shapes,
    options: Options,
    n_latent: int | None = None,
    where: str | Path = "the file",
    decoder: Shapes | None = None,
    told: str | None = None,
) -> tuple[str, EncoderArguments]:
    """Return the variant and the constructor's arguments; ``n_latent`` is that of the generator, if it is known.

    Raises ``CheckpointError`` for keys of no known encoder, for an encoder of another generator's size, and for another
    variant than ``told``; ``Undecided`` where nothing tells the variant.
    """
    variant = _by_names(encoder, options, where)
    count = n_latent or _latents_for(options.get("output_size") or options.get("stylegan_size"))
    try:
        arguments = _backbone(encoder) | _sizes(variant, encoder, decoder or {}, count)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where} is not a whole {variant} encoder: {error} not found") from None
    variant = _decided(variant, options, told, where, encoder)
    if variant.startswith("restyle"):
        arguments = _restyle(arguments, encoder, options, where)
    if arguments["n_latent"] != (count or arguments["n_latent"]):
        _check_count(arguments["n_latent"], count or 0, variant, options, where)
    if (size := wide_or_square(options)) == WIDE:
        arguments["input_size"] = size
    return variant, arguments | {"n_latent": count or arguments["n_latent"]}


def _latents_for(size: object) -> int | None:
    """Return the number of latents of a generator of ``size`` pixels, or None if no generator has such a size."""
    if isinstance(size, int | float) and 4 <= size <= MAX_SIZE:
        return 2 * (int(size).bit_length() - 1) - 2
    return None


def _by_names(encoder: Shapes, options: Options, where: str | Path) -> str:
    """Return the variant that the names tell; ``psp`` may be any of ``ALIKE``, ``restyle-psp`` any of ``RESTYLE``."""
    if _is_restyle(encoder, options):
        return "restyle-psp"
    if "transformerlayer_coarse.linear1.weight" in encoder:
        return "style-transformer"
    if "styles.0.linear.weight" in encoder:
        return "psp"
    if "output_layer_2.3.weight" in encoder:
        return "psp-w-plus"
    if "linear.weight" in encoder and "input_layer.0.weight" in encoder:
        return "psp-w"
    some = ", ".join(list(encoder)[:3])
    raise CheckpointError(
        f"{where} holds no known encoder (its keys begin with {some}): name a file of pSp, e4e, ReStyle or Style "
        "Transformer"
    )


def _is_restyle(encoder: Shapes, options: Options) -> bool:
    if (
        str(options.get("encoder_type")) in RESTYLE.keys() - ALIKE.keys()
        or "n_iters_per_batch" in options
        or "body.0.conv1.weight" in encoder
    ):
        return True
    first = encoder.get("input_layer.0.weight")
    pair = first is not None and tuple(first.shape[1:2]) == (6,)  # a picture and its reconstruction
    return pair and "styles.0.linear.weight" in encoder and options.get("label_nc") != 6


def _decided(variant: str, options: Options, told: str | None, where: str | Path, encoder: Shapes) -> str:
    """Return the variant that the file or, where it says nothing, the user names."""
    known = {"psp": ALIKE, "restyle-psp": RESTYLE}.get(variant)
    if known is not None:
        said = str(options.get("encoder_type") or "")
        if said and said not in known:
            raise CheckpointError(
                f"{where} has encoder_type {said[:60]!r}, which is not known here: only encoders of "
                f"{', '.join(known)} can be imported; if it is one of them, correct `encoder_type` in its `opts`"
            )
        if not said and known is RESTYLE and "latlayer1.weight" in encoder:
            said = "GradualStyleEncoder"
        variants = list(dict.fromkeys(known.values()))
        if not said and told not in variants:
            raise Undecided(where, variants)
        variant = known.get(said, told or variant)
    if told not in (None, variant):
        raise CheckpointError(f"{where} says itself that it is {variant}, not {told}: leave the variant out")
    return variant


def _restyle(arguments: EncoderArguments, encoder: Shapes, options: Options, where: str | Path) -> EncoderArguments:
    """Return the arguments of an encoder of ReStyle, which sees six channels."""
    if (channels := arguments.pop("input_channels")) != PAIR:
        raise CheckpointError(
            f"{where} is an encoder of ReStyle that sees {channels} channels: only those of {PAIR}, a picture and what "
            "is drawn of it, can be imported"
        )
    backbone = "resnet" if "conv1.weight" in encoder else "ir-se"
    more: EncoderArguments = {"backbone": backbone, "pyramid": "latlayer1.weight" in encoder}
    return arguments | more | {"steps": published_steps(options, where)}


def published_steps(options: Options, where: str | Path) -> int:
    """Return how often a network of ReStyle or HyperStyle looks; raises ``CheckpointError`` for what is no number."""
    steps = options.get("n_iters_per_batch", STEPS)
    if not isinstance(steps, int) or not 0 < steps < MOST_STEPS:
        raise CheckpointError(f"{where} has n_iters_per_batch {str(steps)[:40]!r}: a small number of steps is expected")
    return steps


def wide_or_square(options: Options) -> int | list[int]:
    """Return the input size of the published networks: 256, or height and width for cars."""
    return WIDE if str(options.get("dataset_type", "")).startswith("cars") else 256


def _backbone(encoder: Shapes) -> EncoderArguments:
    resnet = "conv1.weight" in encoder
    first = encoder["conv1.weight" if resnet else "input_layer.0.weight"].shape
    return {"width": first[0], "input_channels": first[1], "units": trunk_units(encoder, resnet)}


def trunk_units(encoder: Shapes, resnet: bool) -> list[int]:
    """Return the units of each group of a backbone; raises ``KeyError`` where they make no four groups."""
    widths: list[int] = []
    while (key := f"body.{len(widths)}.{'conv1' if resnet else 'res_layer.3'}.weight") in encoder:
        widths.append(encoder[key].shape[0])
    groups = [widths.count(width) for width in dict.fromkeys(widths)]
    if len(groups) == 4:
        return groups
    if len(widths) == sum(IR_SE_50) and not resnet:
        return list(IR_SE_50)
    raise KeyError("body.*")


def _sizes(variant: str, encoder: Shapes, decoder: Shapes, count: int | None) -> EncoderArguments:
    if variant in ("psp", "e4e", "restyle-psp"):
        return _head_sizes(encoder)
    if variant == "style-transformer":
        queries, style_dim = encoder["z"].shape[1:]
        mapped = any(key.startswith("style.") for key in decoder)
        depth = last_number(decoder, r"style\.(\d+)\.") if mapped else 8
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
    halvings = sum(key.startswith("styles.0.convs.") and key.endswith(".weight") for key in encoder)
    sizes: EncoderArguments = {"n_latent": 1 + last_number(encoder, r"styles\.(\d+)\."), "style_dim": style_dim}
    sizes["input_size"] = 16 << halvings
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


def _average(stored: object, generator: StyleGAN2 | None, encoder: Encoder, where: str | Path) -> Tensor | None:
    """Return the mean latent ``[n_latent, w_dim]`` of a file, that of its generator if none is stored."""
    if stored is not None:
        return latent_average(stored, encoder.w_dim, encoder.n_latent, where)
    return None if generator is None else generator.latent_avg.expand(encoder.n_latent, -1).clone()


def _added(average: Tensor | None, options: Options, encoder: Encoder, where: str | Path) -> Tensor:
    """Return what the encoder adds to its output, as the options say: the average or zeros."""
    if not options.get("start_from_latent_avg", True) and not encoder.draws:  # ReStyle always begins with it
        return torch.zeros(encoder.n_latent, encoder.w_dim)
    if average is None:
        raise CheckpointError(f"{where} has no latent_avg and no decoder to compute it from: name the whole file")
    return average


def _encoder_state(variant: str, parts: Mapping[str, StateDict], encoder: Encoder) -> StateDict:
    state = dict(parts["encoder"])
    if variant == "style-transformer":
        state |= {key: value for key, value in parts.get("decoder", {}).items() if key.startswith("style.")}
    surplus = [key for key in state if key.startswith("styles.") and int(key.split(".")[1]) >= encoder.n_latent]
    counters = {key: value for key, value in encoder.state_dict().items() if key.endswith("num_batches_tracked")}
    return counters | {key: value for key, value in state.items() if key not in surplus}
