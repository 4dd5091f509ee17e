"""What a run was made by, in a sentence or two: its settings, its networks, and what these were trained on."""

from collections.abc import Iterator

from gan_core.checkpoints.files import Card, file_sha256, read_card
from gan_core.errors import CheckpointError
from gan_core.recipes.base import recipe_of
from gan_core.runs.run import Run
from gan_core.secrets import hide

DRAWING = ("generator", "encoder", "landmarks")
"""The networks that decide for which pictures a run is any good."""
TOYS = "toy portraits"
"""What the sources of the networks that come with the project name."""


def used_networks(run: Run) -> dict[str, tuple[Card, str]]:
    """Return the card and the sha256 of each of ``models`` that an identity of the run names by its hash."""
    used = {value for identity in run.identities.values() for value in identity.values() if isinstance(value, str)}
    found = {}
    for name, path in run.params.models.model_dump().items():
        try:
            card, sha256 = read_card(path), file_sha256(path)
        except CheckpointError:
            continue
        if sha256 in used:
            found[name] = (card, sha256)
    return found


def describe_origin(run: Run) -> list[str]:
    """Say what the networks that find and draw were trained on, a sentence for each origin."""
    origins: dict[str, list[str]] = {}
    for name, (card, _) in used_networks(run).items():
        if name in DRAWING:
            origins.setdefault(card.source, []).append(name)
    said = [f"{', '.join(names)}: {source}" for source, names in origins.items()]
    toys = any(TOYS in source for source in origins)
    return [*said, "they make toy people of photographs, whatever the scores say"] if toys else said


def sentences(said: list[str]) -> str:
    """Join what ``describe_origin`` says to a paragraph."""
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in said)


def describe_settings(run: Run) -> str:
    """Say in a line where a run is and what distinguishes it from others over the same dataset."""
    return ", ".join([hide(run.output), *_settings(run)])


def _settings(run: Run) -> Iterator[str]:
    yield recipe_of(run).label(run)
    if "align" in run.stages:
        yield f"landmarks: {run.params.align.landmarks}"
    if "tune" in run.stages:
        tune, chosen = run.params.tune, run.params.invert.given
        yield "tuning by a budget or target" if chosen else f"{tune.steps} steps of tuning"
