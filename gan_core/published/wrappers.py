"""The layout of pSp, e4e, ReStyle, Style Transformer and HFGI files: an encoder, its generator, and options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch

from gan_core.checkpoints.stored import loaded, outlines, plain_names
from gan_core.loading import load_state, model_tensors
from gan_core.published.encoders import (
    ALIKE,
    RESTYLE,
    Undecided,
    check_published_encoder,
    infer_encoder,
    load_published_encoder,
    split_wrapper,
)
from gan_core.published.hfgi import NETWORKS, features_of, features_part
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part
from gan_core.published.rosinality import infer_arguments
from gan_core.published.shown import describe_framing, shown_options
from gan_core.published.unwrapping import has_network, options_of, subject_by, unwrap, with_subject

WANTED = ("state_dict", "opts", "latent_avg")
TRAINED_MAPPING = "style-transformer"


@LAYOUTS.register("encoder-wrapper")
class WrapperLayout(Layout):
    """``{"state_dict": {"encoder.*", "decoder.*"}, "opts", "latent_avg"?}``, also nested or prefixed otherwise."""

    name: ClassVar[str] = "encoder-wrapper"
    variants: ClassVar[Sequence[str]] = tuple(dict.fromkeys([*ALIKE.values(), *RESTYLE.values()]))
    licence: ClassVar[str] = (
        "not stated in the file; the published ones: code MIT (Style Transformer: none stated), weights non-commercial"
    )

    def shows(self, value: object) -> str | None:
        return self.subject or subject_by(options_of(unwrap(value)))

    def recognises(self, value: object) -> bool:
        state = value.get("state_dict") if isinstance(value, dict) else None
        networks = {key.partition(".")[0] for key in plain_names(state)} if isinstance(state, dict) else set()
        return has_network(value) or {"encoder", "decoder"} <= networks

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        content = unwrap(value, where)
        parts = split_wrapper(content, where)
        decoder = infer_arguments(parts["decoder"], where) if parts.get("decoder") else None
        count = 2 * decoder["size"].bit_length() - 4 if decoder else None
        unread = [name[:40] for name in parts if name not in ("encoder", "decoder", *NETWORKS)][:8]
        told, rest = self.variant, (options_of(content), count, where, parts.get("decoder", {}))
        try:
            variant, arguments = infer_encoder(parts["encoder"], *rest, told)
        except Undecided as open_question:
            variant = " or ".join(open_question.variants)
            _, arguments = infer_encoder(parts["encoder"], *rest, open_question.variants[0])
        return {
            "family": variant,
            "variant": f"encoder {variant}" + (" with its generator" if decoder else "") + _features_said(parts),
            **arguments,
            **({"generator_size": decoder["size"]} if decoder else {}),
            "subject": self.shows(value) or "faces, or not said",
            "sees": describe_framing(arguments["input_size"], decoder["size"] if decoder else None),
            "opts": shown_options(options_of(content)),
            "latent_avg": "latent_avg" in content,
            **({"other_networks": ", ".join(unread)} if unread else {}),
            "other_keys": ", ".join(str(key) for key in content if key not in WANTED) or "none",
        }

    def check(self, value: object, where: str | Path) -> None:
        content = unwrap(value, where)
        average = loaded(content.get("latent_avg"))
        check_published_encoder(
            content | {"opts": with_subject(options_of(content), self.subject)}, average, where, self.variant
        )
        outlined = {name: outlines(state) for name, state in split_wrapper(content, where).items() if name != "encoder"}
        with torch.device("meta"):
            if found := features_of(outlined, where):
                load_state(*found, where)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        whole = unwrap(value, where)
        content = {key: loaded(whole[key]) for key in WANTED if key in whole}
        content["opts"] = with_subject(options_of(whole), self.subject)
        found = load_published_encoder(content, where, self.variant)
        encoder = found.encoder
        card: dict[str, object] = {
            "kind": "encoder",
            "name": encoder.name,
            "arguments": encoder.arguments,
            "space": encoder.space,
        }
        if self.variant and "encoder_type" not in options_of(content):
            card["notes"] = f"taken for {encoder.name}, as told: the file itself doesn't say"
        part = Part("encoder", model_tensors(encoder), card, bound=found.generator is not None)
        if found.generator is None:
            return [part]
        generator = generator_part(found.generator, "generator")
        if encoder.name == TRAINED_MAPPING:
            generator.card["notes"] = "its mapping was trained with the encoder: not fit for drawing random images"
        return [generator, part, *features_part(split_wrapper(content, where), where)]


def _features_said(parts: Mapping[str, object]) -> str:
    return " and features (HFGI)" if set(NETWORKS) <= parts.keys() else ""
