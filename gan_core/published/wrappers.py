"""The layout of pSp, e4e and Style Transformer files: an encoder, the generator it was trained for, and options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from gan_core.checkpoints.stored import loaded, plain_names
from gan_core.loading import model_tensors
from gan_core.published.encoders import (
    ALIKE,
    Undecided,
    check_published_encoder,
    infer_encoder,
    load_published_encoder,
    split_wrapper,
)
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part
from gan_core.published.rosinality import infer_arguments

WANTED = ("state_dict", "opts", "latent_avg")
TRAINED_MAPPING = "style-transformer"


@LAYOUTS.register("encoder-wrapper")
class WrapperLayout(Layout):
    """``{"state_dict": {"encoder.*", "decoder.*"}, "opts", "latent_avg"?}``, also with prefixes of ``DataParallel``."""

    name: ClassVar[str] = "encoder-wrapper"
    variants: ClassVar[Sequence[str]] = tuple(ALIKE.values())
    licence: ClassVar[str] = (
        "not stated in the file; the published ones: code MIT (Style Transformer: none stated), weights non-commercial"
    )

    def recognises(self, value: object) -> bool:
        state = value.get("state_dict") if isinstance(value, dict) else None
        keys = list(plain_names(state)) if isinstance(state, dict) else []
        encoder = [key for key in keys if key.startswith("encoder.")]
        known = any(key.endswith("input_layer.0.weight") for key in encoder)
        return known or bool(encoder and any(key.startswith("decoder.") for key in keys))

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        content = value if isinstance(value, dict) else {}
        parts = split_wrapper(content, where)
        decoder = infer_arguments(parts["decoder"], where) if parts.get("decoder") else None
        count = 2 * decoder["size"].bit_length() - 4 if decoder else None
        unread = [name[:40] for name in parts if name not in ("encoder", "decoder")][:8]
        told, rest = self.variant, (_options(content), count, where, parts.get("decoder", {}))
        try:
            variant, arguments = infer_encoder(parts["encoder"], *rest, told)
        except Undecided as open_question:
            variant = " or ".join(open_question.variants)
            _, arguments = infer_encoder(parts["encoder"], *rest, open_question.variants[0])
        return {
            "family": variant,
            "variant": f"encoder {variant}" + (" with its generator" if decoder else ""),
            **arguments,
            **({"generator_size": decoder["size"]} if decoder else {}),
            "latent_avg": "latent_avg" in content,
            **({"other_networks": ", ".join(unread)} if unread else {}),
            "other_keys": ", ".join(str(key) for key in content if key not in WANTED) or "none",
        }

    def check(self, value: object, where: str | Path) -> None:
        content = value if isinstance(value, dict) else {}
        average = loaded(content.get("latent_avg"))
        check_published_encoder(content | {"opts": _options(content)}, average, where, self.variant)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        content = {key: loaded(value[key]) for key in WANTED if key in value} if isinstance(value, dict) else {}
        found = load_published_encoder(content, where, self.variant)
        encoder = found.encoder
        card: dict[str, object] = {
            "kind": "encoder",
            "name": encoder.name,
            "arguments": encoder.arguments,
            "space": encoder.space,
        }
        if self.variant and "encoder_type" not in _options(content):
            card["notes"] = f"taken for {encoder.name}, as told: the file itself doesn't say"
        part = Part("encoder", model_tensors(encoder), card, bound=found.generator is not None)
        if found.generator is None:
            return [part]
        generator = generator_part(found.generator, "generator")
        if encoder.name == TRAINED_MAPPING:
            generator.card["notes"] = "its mapping was trained with the encoder: not fit for drawing random images"
        return [generator, part]


def _options(content: Mapping[str, object]) -> dict[str, object]:
    options = loaded(content.get("opts"))
    return options if isinstance(options, dict) else {}
