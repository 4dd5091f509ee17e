"""Rows of a finished run that its generator can't draw, and what a run over known pictures says of its encoder."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from gan_core.checkpoints.files import read_card
from gan_core.errors import CheckpointError, DataError
from gan_core.judges.domain import FLAG, Domain, Limit, find_limits, fit_limit
from gan_core.metrics.base import ENCODED
from gan_core.pages.rows import read_fine_scores, read_scores
from gan_core.runs.run import Run
from gan_core.runs.summary import add_to_summary
from gan_core.secrets import hide

MOST_NAMED = 100
"""Rows that ``summary.json`` names, the farthest first."""
FITTED = ("lpips", "mse")
"""Scores that limits are fitted to, the most telling first."""


def flag_outliers(run: Run) -> None:
    """Add to ``summary.json`` which rows are out of the domain of encoder and generator, and count them as a flag.

    ``out_of_domain`` has the limit, the number of ``rows`` beyond it and the ``farthest`` of them; where nothing is
    known of the encoder, or none of the scores was measured, it says ``why`` nothing was judged.
    """
    limit, why = _choose(run)
    if limit is None:
        add_to_summary(run.output, {FLAG: {"why": why}})
        return
    beyond, count = _find_beyond(run, limit)
    told = limit.model_dump(exclude={"rows"}) | {"rows": count, "rows_known": limit.rows, "farthest": beyond}
    told["generator"] = _origin(run.params.models.generator)
    add_to_summary(run.output, {FLAG: told}, {FLAG: count} if count else {})


def fit_domain(run: Run) -> Domain:
    """Fit the limits of a run's encoder to its rows, which are taken to be what the generator can draw.

    Raises ``DataError`` for too few rows and for runs that don't measure the reconstructions.
    """
    frames = pd.concat([read_fine_scores(run, shard) for shard in run.shards], ignore_index=True)
    limits = [
        fit_limit(score, _network(run, score), frames[f"{score}/{ENCODED}"].to_numpy(np.float64))
        for metric in FITTED
        for score in sorted(str(name).removesuffix(f"/{ENCODED}") for name in frames if _is(metric, str(name)))
    ]
    if not limits:
        raise DataError(f"{run.output} measures neither LPIPS nor MSE of the encoder's pictures: add measure.metrics")
    encode = run.identities["encode"]
    pair = {name: encode[name] for name in ("encoder_sha256", "generator_sha256")}
    return Domain(**pair, source=hide(run.source), limits=tuple(limits))


def _choose(run: Run) -> tuple[Limit | None, str]:
    limits = find_limits(run.params.models.domain, run.identities.get("encode", {}))
    if not limits:
        return None, f"{run.params.models.domain} knows nothing of this encoder"
    columns = read_scores(run, run.shards[0]).columns
    for limit in limits:
        if f"{limit.score}/{ENCODED}" in columns and limit.network == _network(run, limit.score):
            return limit, ""
    return None, f"none of {', '.join(limit.score for limit in limits)} was measured"


def _origin(generator: str) -> str:
    """What a generator's card says of where it is from, if the file is at hand."""
    try:
        return read_card(generator).source
    except CheckpointError:
        return ""


def _network(run: Run, score: str) -> str:
    return str(run.identities["measure"].get("perceptual_sha256", "")) if score.startswith("lpips/") else ""


def _find_beyond(run: Run, limit: Limit) -> tuple[list[dict[str, Any]], int]:
    found = sorted(_beyond(run, limit), key=lambda row: -row["value"])
    return found[:MOST_NAMED], len(found)


def _beyond(run: Run, limit: Limit) -> Iterator[dict[str, Any]]:
    column = f"{limit.score}/{ENCODED}"
    for shard in run.shards:
        frame = read_fine_scores(run, shard)
        for position, row in frame[frame[column] > limit.limit].iterrows():
            yield {"key": row["key"], "shard": shard, "position": position, "value": float(row[column])}


def _is(metric: str, name: str) -> bool:
    return name.split("/")[0] == metric and name.endswith(f"/{ENCODED}")
