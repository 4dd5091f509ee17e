"""Find the networks in files of pSp, e4e, Style Transformer and HyperStyle, however names are nested and prefixed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_core.checkpoints.stored import loaded, plain_names
from gan_core.errors import CheckpointError

MARKS = ("encoder.input_layer.0.weight", "encoder.conv1.weight")
"""Names of which every encoder read here has one: over IR-SE, or ReStyle's over ResNet."""
HYPERNETWORK = ("hypernet.conv1.weight",)
"""The same for HyperStyle's hypernetwork."""
AVERAGE = "latent_avg"
OPTIONS = ("opts", "args", "hparams", "hyper_parameters", "config", "cfg")
"""Where the options of the training are, the published place first; one may lie in another."""
DEEPEST = 4
"""How many dictionaries inside each other are looked through."""
SUBJECTS = {"cars": "cars", "horse": "horses", "church": "churches", "cats": "cats", "afhq": "animals"}
"""What pictures show by the first word of ``opts.dataset_type``, as all of these projects write it."""


def unwrap(content: object, where: str | Path = "the file", marks: Sequence[str] = MARKS) -> dict[str, Any]:
    """Return a file's content as published code saves it: ``state_dict`` with ``encoder.*``, ``opts``, ``latent_avg``.

    ``marks`` are names of which the network that is looked for has one. All names may lie in another dictionary, in one
    for each network or in none, and have a prefix such as ``net.``; a moving average is preferred to the network that
    is trained, which is left out. The average of latents may be an entry among them. Content without such a network is
    returned as it is. Raises ``CheckpointError`` for several of them, and for options that can't be read.
    """
    whole = {str(key): value for key, value in content.items()} if isinstance(content, Mapping) else {}
    names = plain_names(dict(_flat(whole, set())))
    prefixes = _prefixes(names, marks)
    if not prefixes:
        return whole
    networks = {mark.partition(".")[0] for mark in marks} | {"decoder"}
    prefix, *others = sorted(prefixes, key=_rank)
    if others and _rank(others[0]) == _rank(prefix):
        both = ", ".join((each.rstrip(".") or "the file")[:60] for each in (prefix, others[0]))
        several = "encoders" if marks == MARKS else "hypernetworks"
        raise CheckpointError(f"{where} holds several {several} ({both}): save the one that you mean alone")
    state = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
    inside = state.pop(AVERAGE, None)
    average = inside if whole.get(AVERAGE) is None else whole[AVERAGE]
    if not prefix:
        state = {name: value for name, value in state.items() if name.partition(".")[0] in networks}
    outside = {key: value for key, value in whole.items() if not any(_holds(key, each, networks) for each in prefixes)}
    options = _told(whole, where)
    found = {"opts": options} if options is not None else {}
    return outside | {"state_dict": state} | found | ({AVERAGE: average} if average is not None else {})


def options_of(content: Mapping[str, object]) -> Mapping[str, object]:
    """Return the options of a content that ``unwrap`` has made; none if the file has none."""
    options = content.get(OPTIONS[0])
    return options if isinstance(options, dict) else {}


def has_network(content: object, marks: Sequence[str] = MARKS) -> bool:
    """Tell whether there is such a network in a file's content, by its names alone."""
    return isinstance(content, Mapping) and bool(_prefixes(plain_names(dict(_flat(content, set()))), marks))


def with_subject(options: Mapping[str, object], subject: str | None) -> dict[str, object]:
    """Return options with the data set of cars where they have none and the pictures are told to show cars."""
    cars = {"dataset_type": "cars_encode"} if subject == SUBJECTS["cars"] else {}
    return {**cars, **options}


def subject_by(options: Mapping[str, object]) -> str | None:
    """Return what the pictures of a training show by its options; None for faces, or if they don't say it."""
    return SUBJECTS.get(str(options.get("dataset_type", "")).partition("_")[0])


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


def _prefixes(names: Mapping[str, object], marks: Sequence[str]) -> list[str]:
    prefixes = [name.removesuffix(mark) for mark in marks for name in names if name.endswith(mark)]
    return [prefix for prefix in prefixes if prefix[-1:] in ("", ".")]


def _rank(prefix: str) -> int:
    return 0 if "ema" in prefix else 1


def _holds(key: str, prefix: str, networks: set[str]) -> bool:
    """Tell whether an entry of the file is one of the networks' tensors, or what they lie in."""
    (plain,) = plain_names({key: None})
    held = plain.partition(".")[0] in networks if not prefix else plain.startswith(prefix)
    return held or not plain or prefix.startswith(f"{plain}.")
