"""Find encoder and generator in files of pSp, e4e and Style Transformer, however the names are nested and prefixed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gan_core.checkpoints.stored import loaded, plain_names
from gan_core.errors import CheckpointError

MARKS = ("encoder.input_layer.0.weight", "encoder.conv1.weight")
"""Names of which every encoder read here has one: over IR-SE, or ReStyle's over ResNet."""
AVERAGE = "latent_avg"
OPTIONS = ("opts", "args", "hparams", "hyper_parameters", "config", "cfg")
"""Where the options of the training are, the published place first; one may lie in another."""
DEEPEST = 4
"""How many dictionaries inside each other are looked through."""


def unwrap(content: object, where: str | Path = "the file") -> dict[str, Any]:
    """Return a file's content as published code saves it: ``state_dict`` with ``encoder.*``, ``opts``, ``latent_avg``.

    The names may lie in another dictionary, in one for each network or in none, and have a prefix such as ``net.``; a
    moving average is preferred to the network that is trained, which is left out. The average may be an entry among
    them. Content without such an encoder is returned as it is. Raises ``CheckpointError`` for several encoders, and for
    options that can't be read.
    """
    whole = {str(key): value for key, value in content.items()} if isinstance(content, Mapping) else {}
    names = plain_names(dict(_flat(whole, set())))
    prefixes = _prefixes(names)
    if not prefixes:
        return whole
    prefix, *others = sorted(prefixes, key=_rank)
    if others and _rank(others[0]) == _rank(prefix):
        both = ", ".join((each.rstrip(".") or "the file")[:60] for each in (prefix, others[0]))
        raise CheckpointError(f"{where} holds several encoders ({both}): save the one that you mean alone")
    state = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
    inside = state.pop(AVERAGE, None)
    average = inside if whole.get(AVERAGE) is None else whole[AVERAGE]
    if not prefix:
        state = {name: value for name, value in state.items() if name.startswith(("encoder.", "decoder."))}
    outside = {key: value for key, value in whole.items() if not any(_holds(key, each) for each in prefixes)}
    options = _told(whole, where)
    found = {"opts": options} if options is not None else {}
    return outside | {"state_dict": state} | found | ({AVERAGE: average} if average is not None else {})


def options_of(content: Mapping[str, object]) -> Mapping[str, object]:
    """Return the options of a content that ``unwrap`` has made; none if the file has none."""
    options = content.get(OPTIONS[0])
    return options if isinstance(options, dict) else {}


def has_encoder(content: object) -> bool:
    """Tell whether there is an encoder in a file's content, by its names alone."""
    return isinstance(content, Mapping) and bool(_prefixes(plain_names(dict(_flat(content, set())))))


def _told(whole: Mapping[str, object], where: str | Path) -> dict[str, Any] | None:
    """Return the options of the training; raises ``CheckpointError`` for options that aren't a dictionary."""
    name, options = next(((key, loaded(whole[key])) for key in OPTIONS if whole.get(key) is not None), ("", None))
    while isinstance(options, dict) and (inner := next((key for key in OPTIONS if _is_told(options, key)), None)):
        options = options[inner]
    if options is None or isinstance(options, dict):
        return options
    raise CheckpointError(
        f"{where} has options ({name}) that can't be read: a {type(options).__name__} instead of a dictionary; save "
        "them as one, or leave them out and say what they say"
    )


def _is_told(options: Mapping[str, object], key: str) -> bool:
    return isinstance(options.get(key), dict)


def _flat(content: Mapping[Any, object], seen: set[int], depth: int = 0) -> Iterator[tuple[str, object]]:
    """Yield what dictionaries inside each other hold, each looked through once, with dotted names."""
    for key, value in content.items():
        if not isinstance(value, Mapping):
            yield str(key), value
        elif depth < DEEPEST and id(value) not in seen:
            seen.add(id(value))
            yield from ((f"{key}.{name}", inner) for name, inner in _flat(value, seen, depth + 1))


def _prefixes(names: Mapping[str, object]) -> list[str]:
    prefixes = [name.removesuffix(mark) for mark in MARKS for name in names if name.endswith(mark)]
    return [prefix for prefix in prefixes if prefix[-1:] in ("", ".")]


def _rank(prefix: str) -> int:
    return 0 if "ema" in prefix else 1


def _holds(key: str, prefix: str) -> bool:
    """Tell whether an entry of the file is one of the networks' tensors, or what they lie in."""
    (plain,) = plain_names({key: None})
    networks = plain.partition(".")[0] in ("encoder", "decoder") if not prefix else plain.startswith(prefix)
    return networks or not plain or prefix.startswith(f"{plain}.")
