"""Pair an encoder with a generator that it wasn't made for, as PTI does with e4e's encoder and NVIDIA's network."""

from pathlib import Path

import torch

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import Card, Loaded, load_checkpoint, save_checkpoint
from gan_core.checkpoints.stored import StateDict
from gan_core.checkpoints.subjects import SUBJECT
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.errors import CheckpointError
from gan_core.generators.base import Generator
from gan_core.loading import check_latents, load_generator, load_state
from gan_core.published.layouts import check_target, convert_contents

FAR = 0.1
"""Distance between two averages, as a share of the typical one of a latent, from which they are of other networks.

That of PTI's tuned generators is 0: tuning leaves the average as it is.
"""
SAMPLES = 256


def pair_encoder(
    source: str | Path,
    target: str | Path,
    generator_path: str | Path,
    any_generator: bool = False,
    licence: str | None = None,
    variant: str | None = None,
    subject: str | None = None,
) -> dict[str, str]:
    """Write the encoder of a published file, or one of this project, bound to another generator than its own.

    Returns the sha256 of the file by its path. Its card says what the encoder was made for and how far the two latent
    averages are apart. Raises ``CheckpointError`` if the latents differ in number or width, if there is no encoder in
    the file, if another file is where it would be written, and, unless ``any_generator``, if it was made for another
    generator.
    """
    generator = load_generator(generator_path)
    card, tensors, made_for = _encoder(source, licence, variant, subject)
    check_target(target, source, card.source)
    if made_for not in (None, generator.sha256) and not any_generator:
        raise CheckpointError(
            f"{source} was made for another generator ({_short(made_for)}) than {generator_path} "
            f"({generator.sha256[:12]}): use --any-generator to pair them all the same"
        )
    encoder = ENCODERS.get(card.name)(**card.arguments)
    load_state(encoder, tensors, source)
    check_latents(encoder, generator, source)
    distance = average_distance(encoder, generator.model)
    if made_for != generator.sha256:
        paired = {"made_for": made_for, "average_distance": distance}
        about = " ".join(filter(None, [card.notes, _sentence(made_for, generator, distance)]))
        changes = {"generator_sha256": generator.sha256, "notes": about, "extra": {**card.extra, "paired": paired}}
        card = card.model_copy(update=changes)
    return {str(target): save_checkpoint(target, tensors, card, half=False)}


@torch.no_grad()
def average_distance(encoder: Encoder, generator: Generator) -> float | None:
    """Return how far the average that an encoder adds is from the generator's, or None if it adds none.

    The unit is the typical distance of a latent from the average, over 256 random latents.
    """
    if not encoder.latent_avg.any():
        return None
    w = generator.mapping(torch.randn(SAMPLES, generator.z_dim, generator=torch.Generator().manual_seed(0)))
    typical = (w - w.mean(0)).norm(dim=1).mean()
    return float((encoder.latent_avg - generator.latent_avg).norm(dim=1).mean() / typical)


def _encoder(
    source: str | Path, licence: str | None, variant: str | None, subject: str | None
) -> tuple[Card, StateDict, str | None]:
    """Return card and tensors of the encoder in a file, and the hash of the generator that it was made for."""
    contents = open_checkpoint(source)
    if contents.card:
        stored = load_checkpoint(source)
        if stored.card.kind != "encoder":
            raise CheckpointError(
                f"{source} holds a {stored.card.kind}, and only encoders are paired: name another file"
            )
        told = {SUBJECT: subject} if subject else {}
        card = stored.card.model_copy(update={"extra": {**stored.card.extra, **told}})
        return card, stored.model, stored.card.generator_sha256
    origin, parts = convert_contents(contents, licence, variant, subject)
    encoder = next((part for part in parts if part.card["kind"] == "encoder"), None)
    if encoder is None:
        raise CheckpointError(f"{source} holds no encoder, and only encoders are paired with a generator")
    own = f"the one in {contents.path.name}" if encoder.bound else None
    return Card.model_validate(origin | encoder.card), encoder.tensors, own


def _sentence(made_for: str | None, generator: Loaded[Generator], distance: float | None) -> str:
    averages = "the encoder adds no average to compare"
    if distance is not None:
        averages = f"their latent averages are {100 * distance:.3g} % of the typical distance of a latent apart"
        averages += ", so they are of different networks: look at the reconstructions first" if distance > FAR else ""
    return (
        f"paired with {Path(generator.path).name} ({generator.sha256[:12]}), made for "
        f"{_short(made_for or 'a generator that is not known')}; latents agree in number and width, {averages}"
    )


def _short(made_for: str) -> str:
    return made_for if " " in made_for else made_for[:12]
