"""Options in NVIDIA's pickles: which of them change pictures, and what becomes of each.

StyleGAN2-ADA gives its networks nested options (``synthesis_kwargs``), the StyleGAN3 code flat ones, and TensorFlow
names of its own. An option with another value than our network has, and one that is not known here, is refused by name.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_core.checkpoints.stored import Record
from gan_core.errors import CheckpointError

FILTER = [1, 3, 3, 1]
FIRST = [4, 4]
"""The first resolution; a fork for pictures that aren't square has others."""
STYLEGAN3_CLAMP = 256.0
"""What the StyleGAN3 code clamps to where its options don't say; the other programs then don't clamp."""
SHOWN = 60
"""Letters of an option's name or value that a message repeats."""


@dataclass(frozen=True)
class Known:
    """The options that a program writes.

    ``fixed`` must have one of the values with which our network draws the same. ``others`` are read elsewhere, follow
    from the tensors, or don't change what is drawn in float32 from given latents.
    """

    fixed: Mapping[str, tuple[object, ...]]
    others: Collection[str] = ()


POSITIONS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")
"""The options of a PyTorch generator in the order of its constructor."""
GENERATOR = Known(
    {"img_channels": (3,), "init_res": (FIRST,)},
    ("z_dim", "c_dim", "w_dim", "img_resolution", "mapping_kwargs", "synthesis_kwargs"),
)
MAPPING = Known(
    {"activation": ("lrelu",), "lr_multiplier": (0.01,)},
    ("num_layers", "num_ws", "embed_features", "layer_features", "w_avg_beta", "freeze_layers", "freeze_embed"),
)
SYNTHESIS = Known(
    {"architecture": ("skip",), "activation": ("lrelu",), "use_noise": (True,), "kernel_size": (3,)},
    (
        *("conv_clamp", "resample_filter", "channel_base", "channel_max", "num_fp16_res"),
        *("use_fp16", "fp16_channels_last", "channels_last", "fused_modconv_default"),
    ),
)
TENSORFLOW = Known(
    {
        "num_channels": (3,),
        "architecture": ("skip",),
        "use_noise": (True,),
        "nonlinearity": ("lrelu",),
        "resample_kernel": (FILTER,),
        "mapping_nonlinearity": ("lrelu",),
        "mapping_lrmul": (0.01,),
        "normalize_latents": (True,),
        "mapping_func": ("G_mapping",),
        "synthesis_func": ("G_synthesis", "G_synthesis_stylegan2"),
        "init_res": (FIRST,),
    },
    (
        *("conv_clamp", "resolution", "latent_size", "label_size", "dlatent_size", "dlatent_broadcast", "dtype"),
        *("fmap_base", "fmap_decay", "fmap_min", "fmap_max", "fmap_const", "mapping_layers", "mapping_fmaps"),
        *("label_fmaps", "num_fp16_res", "fused_modconv", "structure", "dlatent_avg_beta", "w_avg_beta"),
        *("truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val", "style_mixing_prob"),
        *("randomize_noise", "return_dlatents", "is_training", "is_validation"),
        *("is_template_graph", "force_clean_graph"),
    ),
)
ATTRIBUTES: Mapping[str, Known] = {
    r"mapping\.fc\d+": Known({"activation": ("lrelu",), "bias_gain": (0.01,)}),
    r"mapping\.embed|.*\.affine": Known({"activation": ("linear",), "bias_gain": (1.0,)}),
    r"synthesis\.b\d+": Known({"architecture": ("skip",)}),
    r"synthesis\.b\d+\.conv[01]": Known({"activation": ("lrelu",), "use_noise": (True,)}),
}
"""What the parts of a pickled module say of themselves, by path: it holds even where the options are silent."""


def check_options(given: Mapping[str, object], known: Known, where: str | Path) -> None:
    """Raise ``CheckpointError`` for the first option that is not known, or whose value our network doesn't have."""
    for name, value in given.items():
        if name not in known.fixed and name not in known.others:
            raise CheckpointError(
                f"{where} has the option {_shown(name)}, which is not known here and may change its pictures: only "
                "networks that were trained without it can be imported"
            )
        if name in known.fixed and not any(_plain(value) == _plain(ours) for ours in known.fixed[name]):
            raise CheckpointError(
                f"{where} has {name} = {_shown(value)}, which can't be imported: our StyleGAN2 has "
                f"{' or '.join(repr(ours) for ours in known.fixed[name])}"
            )


def ada_options(generator: Record, where: str | Path) -> dict[str, Any]:
    """Return the options of a pickled PyTorch generator by name, checked, those of its synthesis among them.

    ``conv_clamp`` is what the layers say of themselves, and where they don't, what the options say. Raises
    ``CheckpointError`` for an option that is not known, or whose value our network doesn't have.
    """
    positional = generator.state.get("_init_args")
    given = dict(zip(POSITIONS, positional, strict=False)) if isinstance(positional, tuple | list) else {}
    given |= _dictionary(generator.state.get("_init_kwargs"))
    nested = _dictionary(given.get("synthesis_kwargs"))
    flat = {name: value for name, value in given.items() if name not in (*GENERATOR.fixed, *GENERATOR.others)}
    options = flat | nested
    check_options({name: value for name, value in given.items() if name not in flat}, GENERATOR, where)
    check_options(_dictionary(given.get("mapping_kwargs")), MAPPING, where)
    check_options(options, SYNTHESIS, where)
    _check_filter(options.get("resample_filter", FILTER), where)
    clamps = _checked_layers(generator, where)
    unsaid = STYLEGAN3_CLAMP if flat and not clamps else None
    clamp = next((clamp for clamp in clamps if clamp is not None), options.get("conv_clamp", unsaid))
    return given | options | {"conv_clamp": _number(clamp, where)}


def tensorflow_options(network: Record, where: str | Path) -> dict[str, Any]:
    """Return the options of a TensorFlow network by name, checked, those of its parts among them.

    Raises ``CheckpointError`` for an option that is not known, or whose value our network doesn't have.
    """
    options: dict[str, object] = {}
    for part in (network, *(network.state.get("components") or {}).values()):
        given = _dictionary(part.state.get("static_kwargs")) if isinstance(part, Record) else {}
        check_options(given, TENSORFLOW, where)
        options |= given
    return options | {"conv_clamp": _number(options.get("conv_clamp"), where)}


def modules(record: Record) -> Iterator[tuple[str, Record]]:
    """Yield a pickled module and all its parts, each once, with their dotted paths, its own being empty."""
    waiting, seen = [("", record)], set[int]()
    while waiting:
        path, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        parts = module.state.get("_modules") or {}
        waiting += [(f"{path}.{n}".lstrip("."), part) for n, part in parts.items() if isinstance(part, Record)]


def _checked_layers(generator: Record, where: str | Path) -> list[object]:
    """Check what the parts say of themselves, and return the ``conv_clamp`` of each layer that has one."""
    clamps: list[object] = []
    for path, part in modules(generator):
        known = next((known for pattern, known in ATTRIBUTES.items() if re.fullmatch(pattern, path)), Known({}))
        check_options({n: part.state[n] for n in known.fixed if n in part.state}, known, f"{where}: {path}")
        if path.startswith("synthesis.") and "conv_clamp" in part.state:
            clamps.append(part.state["conv_clamp"])
    if any(clamp != clamps[0] for clamp in clamps):
        raise CheckpointError(
            f"{where} has a conv_clamp that differs between layers: only networks with one "
            "value for all can be imported"
        )
    return clamps


def _check_filter(taps: object, where: str | Path) -> None:
    plain = _plain(taps)
    if not isinstance(plain, list) or len(plain) != len(FILTER) or plain != plain[::-1]:
        raise CheckpointError(
            f"{where} has resample_filter = {_shown(taps)}, which can't be imported: four symmetric numbers are "
            f"expected, such as {FILTER}"
        )


def _number(value: object, where: str | Path) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise CheckpointError(f"{where} has conv_clamp = {_shown(value)}: a positive number or None is expected")
    return float(value)


def _dictionary(value: object) -> dict[str, object]:
    return {str(name): inner for name, inner in value.items()} if isinstance(value, dict) else {}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, list | tuple) else value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
