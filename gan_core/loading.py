"""From a checkpoint file to a module that is ready to use, and back."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, Loaded, load_checkpoint
from gan_core.device import place
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.errors import CheckpointError
from gan_core.generators.base import GENERATORS, Generator
from gan_core.registry import Registry


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what a checkpoint of ``model`` stores: its state dict and, if it has one, ``latent_avg``."""
    tensors = dict(model.state_dict())
    if isinstance(average := getattr(model, "latent_avg", None), Tensor):
        tensors["latent_avg"] = average
    return tensors


def load_generator(path: str | Path) -> Loaded[Generator]:
    """Build the generator that a checkpoint's card describes, frozen and in eval mode; raises ``CheckpointError``."""
    return load_model(path, "generator", GENERATORS, None)


def load_encoder(path: str | Path, generator: Loaded[Generator] | None, name: str | None = None) -> Loaded[Encoder]:
    """Build the encoder of a checkpoint, frozen and in eval mode.

    Raises ``CheckpointError`` if the file holds another architecture than ``name``, or was made for another generator
    than ``generator``; with ``None`` any is taken.
    """
    encoder: Loaded[Encoder] = load_model(path, "encoder", ENCODERS, name)
    if generator is None:
        return encoder
    ours = encoder.model.n_latent, encoder.model.w_dim
    theirs = generator.model.n_latent, generator.model.w_dim
    if ours != theirs:
        raise CheckpointError(
            f"{path} writes {ours[0]} latents of {ours[1]} but {generator.path} takes {theirs[0]} of {theirs[1]}: "
            f"it was made for another generator (keys latent_avg and styles.*); choose the encoder trained for this one"
        )
    encoder.check_made_for(generator, "train it again (`dvc repro`) or choose the encoder made for this one")
    return encoder


def load_state(model: nn.Module, tensors: dict[str, Tensor], where: str | Path) -> None:
    """Copy ``tensors`` into ``model`` strictly by name; raises ``CheckpointError`` naming what doesn't match."""
    expected = model_tensors(model)
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    shared = sorted(expected.keys() & tensors.keys())
    reshaped = [f"{key} is {other}" for key in shared if (other := _other_form(tensors[key], expected[key]))]
    if missing or unexpected or reshaped:
        raise CheckpointError(f"{where} doesn't fit {type(model).__name__}: {_mismatch(missing, unexpected, reshaped)}")
    with torch.no_grad():
        for key, tensor in expected.items():
            tensor.copy_(tensors[key])


def _other_form(tensor: Any, expected: Tensor) -> str:
    if not isinstance(tensor, Tensor):
        return f"a {type(tensor).__name__} instead of a tensor"
    if tensor.shape != expected.shape:
        return f"{list(tensor.shape)} instead of {list(expected.shape)}"
    if tensor.is_floating_point() != expected.is_floating_point():
        return f"{tensor.dtype} instead of {expected.dtype}".replace("torch.", "")
    return ""


def load_model(path: str | Path, kind: str, registry: Registry[Any], name: str | None) -> Loaded[Any]:
    """Build the model that a checkpoint's card describes, by its class in ``registry``, frozen and in eval mode.

    It is on the device of this context (``gan_core.device``).
    Raises ``CheckpointError`` if the file holds another ``kind``, or another model than ``name`` (``None``: any).
    """
    if name is not None:
        registry.get(name)
    stored = load_checkpoint(path)
    card, tensors = stored.card, stored.model
    if card.kind != kind:
        raise CheckpointError(_other_kind(path, card, kind, tensors))
    if name is not None and card.name != name:
        raise CheckpointError(f"{path} holds the {kind} {card.name!r}, not {name!r}: choose that one or another file")
    architecture = registry.get(card.name)
    try:
        model = architecture(**card.arguments)
    except TypeError as error:
        raise CheckpointError(f"the card of {path} has arguments that {card.name!r} doesn't take: {error}") from None
    load_state(model, tensors, path)
    return stored.with_model(place(model.eval().requires_grad_(False)))


def _other_kind(path: str | Path, card: Card, kind: str, tensors: dict[str, Tensor]) -> str:
    keys = ", ".join(sorted(tensors)[:3])
    found = f" (keys such as {keys})" if keys else ""
    article = "an" if card.kind == "encoder" else "a"
    return f"{path} holds {article} {card.kind} {card.name!r}{found}, not a checkpoint of a {kind}: name another file"


def _mismatch(missing: list[str], unexpected: list[str], reshaped: list[str]) -> str:
    parts = [
        f"{len(items)} {word} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
        for word, items in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if items
    ]
    return ", ".join(parts) + ": " + _likely_cause(missing, unexpected, reshaped)


def _likely_cause(missing: list[str], unexpected: list[str], reshaped: list[str]) -> str:
    if unexpected and all(key.startswith(("module.", "encoder.", "decoder.", "g_ema.")) for key in unexpected):
        return "the names carry a wrapper's prefix, strip it first"
    if reshaped and not missing and not unexpected:
        return "the same architecture with other widths, so the card's arguments are wrong"
    if missing and unexpected:
        return "probably another architecture, size or number of latents"
    return "probably another size or number of latents" if missing or unexpected else "widths differ"
