"""Runs over pictures of other things than faces: metrics that need faces are left out of them, or refused."""

import logging

from gan_core.checkpoints.subjects import subject_of
from gan_core.errors import ParamsError
from gan_core.metrics.base import METRICS
from gan_core.params import METRIC_SETS, MeasureParams, Params

_log = logging.getLogger(__name__)


def without_face_metrics(params: Params) -> MeasureParams:
    """Return ``measure`` without the metrics that need faces, if the networks of a run are for something else.

    They are left out, with a line in the log, where a whole set of metrics was asked for. Raises ``ParamsError`` for
    one that was asked for by name.
    """
    measure = params.measure
    needing = [name for name in measure.metrics if name in METRICS and METRICS.get(name).faces]
    subject = subject_of(params.models.generator, params.models.encoder) if needing else None
    if subject is None:
        return measure
    listed = ", ".join(needing)
    if measure.metrics not in METRIC_SETS.values():
        raise ParamsError(
            f"measure.metrics has {listed}, for faces only, but the networks are for {subject}: leave that out, or "
            "name a set of metrics (measure: photos), of which only what applies is taken"
        )
    _log.warning("%s left out: the networks are for %s, not for faces", listed, subject)
    return measure.model_copy(update={"metrics": [name for name in measure.metrics if name not in needing]})
