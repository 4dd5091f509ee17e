"""Whether a generator can draw a picture at all: the distance of its reconstruction, against those of known pictures.

The limit is that of a conformal outlier test (Laxhammar & Falkman 2010): of ``rows`` known pictures the ``k``-th
largest distance, which a further picture of the same kind exceeds with the probability ``k / (rows + 1)``, whatever the
distances are distributed like.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gan_core.errors import DataError
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import read_bytes

FLAG = "out_of_domain"
FALSE_POSITIVES = 0.001
"""The share of pictures that are flagged although they are of the known kind."""
FEWEST = 99
"""With fewer known pictures at least one in a hundred others would be flagged."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Limit(BaseModel):
    """The largest usual value of a score of the encoder's pictures, such as ``lpips/toy``.

    ``network`` is the sha256 of what measures it, empty for pixels; ``median`` that of the known pictures, of which
    there were ``rows``; ``false_positives`` the share of others of their kind that exceed ``limit``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: str
    network: str = ""
    limit: Finite
    median: Finite
    rows: int
    false_positives: Finite


class Domain(BaseModel):
    """What an encoder and its generator reach, as fitted on a run over the pictures of ``source``; best limit first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder_sha256: str
    generator_sha256: str
    source: str
    limits: tuple[Limit, ...]


_DOMAINS = TypeAdapter(tuple[Domain, ...])


def fit_limit(score: str, network: str, values: np.ndarray) -> Limit:
    """Fit the limit of a score to the values ``[N]`` of known pictures; raises ``DataError`` for too few."""
    if len(values) < FEWEST:
        raise DataError(f"a limit needs at least {FEWEST} finished rows, there are {len(values)}: use a larger dataset")
    beyond = max(1, int(FALSE_POSITIVES * (len(values) + 1)))
    limit = float(np.sort(values)[-beyond])
    share, median = beyond / (len(values) + 1), float(np.median(values))
    return Limit(
        score=score, network=network, limit=limit, median=median, rows=len(values), false_positives=round(share, 6)
    )


def read_domains(path: str) -> tuple[Domain, ...]:
    """Return what a file says of encoders, nothing without one; raises ``DataError`` for a damaged file."""
    try:
        return _DOMAINS.validate_json(read_bytes(path))
    except FileNotFoundError:
        return ()
    except (ValidationError, OSError):
        raise DataError(f"{path} holds no limits of encoders: make it again with `edit-dataset calibrate`") from None


def write_domains(path: str, domains: Iterable[Domain]) -> None:
    """Write what is known of encoders, in place of what is said of the same ones."""
    known = {(d.encoder_sha256, d.generator_sha256): d for d in (*read_domains(path), *domains)}
    stored = [known[key].model_dump(mode="json") for key in sorted(known)]
    write_bytes(path, (json.dumps(stored, indent=1) + "\n").encode())


def find_limits(path: str, encode: Mapping[str, Any]) -> Sequence[Limit]:
    """Return the limits of an encoder and its generator; empty for unknown ones.

    ``encode`` has their hashes, as the identity of an encode stage does.
    """
    pair = encode.get("encoder_sha256"), encode.get("generator_sha256")
    known = (d for d in read_domains(path) if (d.encoder_sha256, d.generator_sha256) == pair)
    return next((domain.limits for domain in known), ())


def explain(limit: Limit, value: float) -> str:
    """Say in a sentence why a row is flagged."""
    return f"{limit.score} of its reconstruction is {value:.3g}; known pictures reach {limit.limit:.3g}"
