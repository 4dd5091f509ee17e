"""The layout of HyperStyle's files: a hypernetwork, the generator whose weights it changes, and options.

The encoder of W that HyperStyle begins with is a file of its own, in the layout of pSp (``psp-w``).
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_core.checkpoints.stored import loaded, outlines, plain_names
from gan_core.encoders.restyle import PAIR
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.hypernetwork import HyperStyle, weight_names
from gan_core.loading import load_state, model_tensors
from gan_core.published.encoders import Options, Shapes, published_steps, trunk_units, wide_or_square
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part
from gan_core.published.rosinality import build_generator, check_generator, infer_arguments, latent_average
from gan_core.published.shown import describe_framing, shown_options
from gan_core.published.unwrapping import HYPERNETWORK, has_network, options_of, subject_by, unwrap, with_subject

ALIAS = ".hypernet."
"""Part of the names that each block has for the weights that all share."""


@LAYOUTS.register("hyperstyle")
class HyperStyleLayout(Layout):
    """``{"state_dict": {"hypernet.*", "decoder.*"}, "opts", "latent_avg"?}``, also nested or prefixed otherwise."""

    name: ClassVar[str] = "hyperstyle"
    licence: ClassVar[str] = "code MIT; the published weights: trained on FFHQ and NVIDIA's network, non-commercial"

    def recognises(self, value: object) -> bool:
        state = value.get("state_dict") if isinstance(value, dict) else None
        damaged = isinstance(state, dict) and any(key.startswith("hypernet.") for key in plain_names(state))
        return damaged or has_network(value, HYPERNETWORK)

    def shows(self, value: object) -> str | None:
        return self.subject or subject_by(options_of(unwrap(value, marks=HYPERNETWORK)))

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        hypernet, decoder, options = self._parts(value, where)
        arguments = infer_hypernetwork(hypernet, decoder, options, where)
        size = infer_arguments(decoder, where)["size"]
        shown = {key: arguments[key] for key in ("layers", "shared", "separable", "input_size", "width", "steps")}
        return {
            "family": "hyperstyle",
            "variant": "hypernetwork with its generator",
            **shown,
            "generator_size": size,
            "subject": self.shows(value) or "faces, or not said",
            "sees": describe_framing(arguments["input_size"], size),
            "opts": shown_options(options),
        }

    def check(self, value: object, where: str | Path) -> None:
        hypernet, decoder, options = self._parts(value, where)
        check_generator(decoder, where)
        with torch.device("meta"):
            network = HyperStyle(**infer_hypernetwork(hypernet, decoder, options, where))
        load_state(network, _own(network, outlines(hypernet)), where)
        found = infer_arguments(decoder, where)
        _average(value, found["style_dim"], 2 * found["size"].bit_length() - 4, where)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        hypernet, decoder, options = self._parts(value, where)
        network = HyperStyle(**infer_hypernetwork(hypernet, decoder, options, where))
        load_state(network, _own(network, {key: loaded(tensor) for key, tensor in hypernet.items()}), where)
        content = {"g_ema": {key: loaded(tensor) for key, tensor in decoder.items()}}
        generator = build_generator(content, where)
        if (average := _average(value, generator.w_dim, generator.n_latent, where)) is not None:
            generator.latent_avg.copy_(average)
        card: dict[str, object] = {"kind": "hypernetwork", "name": network.name, "arguments": network.arguments}
        part = Part("hypernetwork", model_tensors(network), card, bound=True)
        return [generator_part(generator, "generator"), part]

    def _parts(self, value: object, where: str | Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, object]]:
        """Return the tensors of the hypernetwork, those of the generator, and the options."""
        content = unwrap(value, where, HYPERNETWORK)
        parts: dict[str, dict[str, Any]] = {"hypernet": {}, "decoder": {}}
        for key, tensor in plain_names(content["state_dict"]).items():
            network, _, name = key.partition(".")
            if network in parts and ALIAS not in name:
                parts[network][name] = tensor
        if not parts["decoder"]:
            raise CheckpointError(f"{where} has a hypernetwork without its generator (decoder.*): name the whole file")
        return parts["hypernet"], parts["decoder"], with_subject(options_of(content), self.subject)


def infer_hypernetwork(hypernet: Shapes, decoder: Shapes, options: Options, where: str | Path) -> dict[str, Any]:
    """Return the constructor's arguments of ``HyperStyle`` from names, shapes and options of a file.

    Raises ``CheckpointError`` for what is no whole hypernetwork over pictures and what is drawn of them.
    """
    with torch.device("meta"):
        generator = StyleGAN2(**infer_arguments(decoder, where))
    filters = [list(generator.get_parameter(name).shape[1:4]) for name in weight_names(generator)]
    try:
        width, channels = hypernet["conv1.weight"].shape[:2]
        units = trunk_units(hypernet, resnet=True)
        layers = sorted({int(key.split(".")[1]) for key in hypernet if key.startswith("refinement_blocks.")})
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where} is not a whole hypernetwork: {error} not found") from None
    if not layers or layers[-1] >= len(filters):
        raise CheckpointError(
            f"{where} changes the layers {layers[:1]} to {layers[-1:]}, but its generator has {len(filters)}: "
            "they come from different trainings"
        )
    if channels != PAIR:
        raise CheckpointError(f"{where} sees {channels} channels: only hypernetworks that see {PAIR} can be imported")
    rest = hypernet.get("shared_weight_hypernet.b1")
    return {
        "filters": filters,
        "layers": layers,
        "shared": 0 if rest is None else rest.shape[0] // 9,
        "separable": any("make_kernel_in" in key for key in hypernet),
        "input_size": wide_or_square(options),
        "units": units,
        "width": width,
        "steps": published_steps(options, where),
    }


def _average(value: object, width: int, count: int, where: str | Path) -> Tensor | None:
    """Return the mean of the average latents of a file, ``[w_dim]``, or None if it has none."""
    stored = loaded(unwrap(value, where, HYPERNETWORK).get("latent_avg"))
    return None if stored is None else latent_average(stored, width, count, where).mean(0)


def _own(network: HyperStyle, state: dict[str, Any]) -> dict[str, Tensor]:
    """Return a state dict with the counters that old files lack."""
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    return counters | state
