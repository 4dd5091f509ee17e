"""The layout of pSp, e4e and Style Transformer files: an encoder, the generator it was trained for, and options."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from gan_core.checkpoints.stored import loaded
from gan_core.loading import model_tensors
from gan_core.published.encoders import infer_encoder, load_published_encoder, split_wrapper
from gan_core.published.layouts import LAYOUTS, Layout, Part, generator_part
from gan_core.published.rosinality import infer_arguments
from gan_core.published.shown import describe_framing, shown_options

WANTED = ("state_dict", "opts", "latent_avg")
TRAINED_MAPPING = "style-transformer"


@LAYOUTS.register("encoder-wrapper")
class WrapperLayout(Layout):
    """``{"state_dict": {"encoder.*", "decoder.*"}, "opts", "latent_avg"?}``, also with prefixes of ``DataParallel``."""

    name: ClassVar[str] = "encoder-wrapper"
    licence: ClassVar[str] = (
        "not stated in the file; the published ones: code MIT (Style Transformer: none stated), weights non-commercial"
    )

    def recognises(self, value: object) -> bool:
        state = value.get("state_dict") if isinstance(value, dict) else None
        keys = [str(key).removeprefix("module.") for key in state] if isinstance(state, dict) else []
        return any(key.startswith("encoder.") and key.endswith("input_layer.0.weight") for key in keys)

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        content = value if isinstance(value, dict) else {}
        parts = split_wrapper(content, where)
        decoder = infer_arguments(parts["decoder"], where) if parts.get("decoder") else None
        count = 2 * decoder["size"].bit_length() - 4 if decoder else None
        variant, arguments = infer_encoder(parts["encoder"], _options(content), count, where, parts.get("decoder", {}))
        return {
            "family": variant,
            "variant": f"encoder {variant}" + (" with its generator" if decoder else ""),
            **arguments,
            **({"generator_size": decoder["size"]} if decoder else {}),
            "sees": describe_framing(arguments["input_size"], decoder["size"] if decoder else None),
            "opts": shown_options(_options(content)),
            "latent_avg": "latent_avg" in content,
            "other_keys": ", ".join(str(key) for key in content if key not in WANTED) or "none",
        }

    def convert(self, value: object, where: str | Path) -> list[Part]:
        content = value if isinstance(value, dict) else {}
        found = load_published_encoder({key: loaded(content[key]) for key in WANTED if key in content}, where)
        encoder = found.encoder
        card: dict[str, object] = {
            "kind": "encoder",
            "name": encoder.name,
            "arguments": encoder.arguments,
            "space": encoder.space,
        }
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
