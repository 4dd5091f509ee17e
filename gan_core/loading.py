"""From a checkpoint file to a module that is ready to use, and back."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gan_core.checkpoints.files import Card, Loaded, load_checkpoint, read_card
from gan_core.device import place
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.errors import CheckpointError, UserError
from gan_core.generators.base import GENERATORS, Generator
from gan_core.registry import Registry

MAX_ARGUMENT = 1 << 20
"""No layer, size or width of a network is larger."""
CALLS, CALLS_A_TENSOR = 2000, 100
"""Calls of PyTorch that building a module may take: the project's own take 13 for each stored tensor at most."""
OUTLINE_CALLS = 50_000
"""Calls that the outline of a module may take: it allocates nothing, and the largest encoder takes 2,998."""
NUMBERS = 1 << 24
"""Numbers that a module may make beside four times the stored ones, such as averages and first values of weights."""
FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.eye)
PROFILED = ("total_ops", "total_params")
"""The last parts of the names of counters that the profiler thop leaves in a model."""
M = TypeVar("M")


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
    than ``generator``; with ``None`` any is taken, and one that draws needs ``attach`` before it encodes.
    """
    encoder: Loaded[Encoder] = load_model(path, "encoder", ENCODERS, name)
    if generator is None:
        return encoder
    check_latents(encoder.model, generator, path)
    encoder.check_made_for(
        generator,
        "train it again (`dvc repro`), choose the encoder made for this one, or pair them with `edit-dataset "
        f"checkpoints import {path} TARGET --generator {generator.path} --any-generator`",
    )
    encoder.model.attach(generator.model)
    return encoder


def check_latents(encoder: Encoder, generator: Loaded[Generator], path: str | Path) -> None:
    """Raise ``CheckpointError`` unless the encoder of ``path`` writes latents as the generator takes them."""
    ours = encoder.n_latent, encoder.w_dim
    theirs = generator.model.n_latent, generator.model.w_dim
    if ours != theirs:
        raise CheckpointError(
            f"{path} writes {ours[0]} latents of {ours[1]} but {generator.path} takes {theirs[0]} of {theirs[1]}: "
            f"it was made for another generator (keys latent_avg and styles.*); choose the encoder trained for this one"
        )


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
    model = build_described(registry.get(card.name), stored)
    load_state(model, tensors, path)
    return stored.with_model(place(model.eval().requires_grad_(False)))


def outline(path: str | Path, kind: str, registry: Registry[Any]) -> Any | None:
    """Build the model that a checkpoint's card describes without its weights, for its sizes and shapes.

    None if there is no such file, or no card of this ``kind`` in it.
    """
    try:
        card = read_card(path)
    except CheckpointError:
        return None
    if card.kind != kind or card.name not in registry or _largest(card.arguments) > MAX_ARGUMENT:
        return None
    try:
        with torch.device("meta"), _Bounded(OUTLINE_CALLS, math.inf):
            return registry.get(card.name)(**card.arguments)
    except (TypeError, ValueError, ArithmeticError, LookupError, _TooLargeError):  # loading it says what is wrong
        return None
    except RuntimeError:  # a constructor that computes with its weights
        return load_model(path, kind, registry, None).model


def build_described(architecture: Callable[..., M], stored: Loaded[dict[str, Tensor]]) -> M:
    """Build the module that a checkpoint's card describes, as long as it needs no more than what is stored can fill.

    Raises ``CheckpointError`` for arguments that it doesn't take, and for a module that is far larger than the file.
    """
    arguments, where = stored.card.arguments, f"the card of {stored.path}"
    if _largest(arguments) > MAX_ARGUMENT:
        raise CheckpointError(f"{where} has an argument above {MAX_ARGUMENT}: save it again")
    try:
        numbers = NUMBERS + 4 * sum(tensor.numel() for tensor in stored.model.values())
        with _Bounded(CALLS + CALLS_A_TENSOR * len(stored.model), numbers):
            return architecture(**arguments)
    except _TooLargeError:
        stated = f"{len(stored.model)} tensors"
        raise CheckpointError(f"{where} describes far more than its {stated}: save it again") from None
    except UserError:
        raise
    except Exception as error:
        raise CheckpointError(f"{where} has arguments that {stored.card.name!r} doesn't take: {error}") from None


class _TooLargeError(Exception):
    """A module takes more calls of PyTorch, or larger tensors, than what is stored of it can need."""


class _Bounded(TorchFunctionMode):
    """Counts the calls of PyTorch in a block, and the numbers that tensors are made of, before they are made."""

    def __init__(self, calls: int, numbers: float) -> None:
        super().__init__()
        self.calls, self.numbers = calls, numbers

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls -= 1
        if function in FACTORIES:
            self.numbers -= math.prod(_integers([size for size in args if not isinstance(size, float)]))
        if min(self.calls, self.numbers) < 0:
            raise _TooLargeError
        return function(*args, **(kwargs or {}))


def _largest(arguments: Mapping[str, Any]) -> int:
    return max(_integers(arguments), default=0)


def _integers(value: object) -> Iterator[int]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _integers(inner)
    elif isinstance(value, int):
        yield abs(value)


def _other_kind(path: str | Path, card: Card, kind: str, tensors: dict[str, Tensor]) -> str:
    keys = ", ".join(sorted(tensors)[:3])
    found = f" (keys such as {keys})" if keys else ""
    article = "an" if card.kind == "encoder" else "a"
    return f"{path} holds {article} {card.kind} {card.name!r}{found}, not a checkpoint of a {kind}: name another file"


def _mismatch(missing: list[str], unexpected: list[str], reshaped: list[str]) -> str:
    parts = [
        f"{len(items)} {word} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
        for word, items in (("missing", missing), ("unexpected", unexpected), ("of another shape or type", reshaped))
        if items
    ]
    return ", ".join(parts) + ": " + _likely_cause(missing, unexpected, reshaped)


def _likely_cause(missing: list[str], unexpected: list[str], reshaped: list[str]) -> str:
    if unexpected and all(key.startswith(("module.", "encoder.", "decoder.", "g_ema.")) for key in unexpected):
        return "the names carry a wrapper's prefix, strip it first"
    if unexpected and not missing and not reshaped and all(key.endswith(PROFILED) for key in unexpected):
        return "a profiler has left them there, remove these keys and save it again"
    if reshaped and not missing and not unexpected:
        shapes = any("[" in form for form in reshaped)
        return "the same architecture with other widths" if shapes else "save the weights as floating-point numbers"
    if missing and unexpected:
        return "probably another architecture, size or number of latents"
    return "probably another size or number of latents" if missing or unexpected else "widths differ"
