"""Tuning as it was published: all weights, Adam's own decays, no weighting."""

from typing import Any

from gan_core.params import TuneParams

PUBLISHED = {"lr": 1e-3, "lr_rampdown": 0.0, "betas": (0.9, 0.999), "min_resolution": 4, "l2_weight": 1.0}


def published(**changes: Any) -> TuneParams:
    """Return the published settings but for ``changes``."""
    return TuneParams.model_validate(PUBLISHED | changes)
