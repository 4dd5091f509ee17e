"""Learning-rate schedule of an optimisation (Karras et al. 2020, appendix D)."""

import math


def ramp(t: float, rampdown: float, rampup: float = 0.0) -> float:
    """Return the share of the full rate at time ``t`` (0 to 1).

    It rises linearly over the first ``rampup`` and falls as a cosine to 0 over the last ``rampdown``.
    """
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / rampdown)) if rampdown else 1.0
    return down * (min(1.0, t / rampup) if rampup else 1.0)
