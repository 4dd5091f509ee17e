"""How learning rates rise and fall over an optimisation (Karras et al. 2020, appendix D)."""

import math


def ramp(t: float, rampdown: float, rampup: float = 0.0) -> float:
    """Share of the full rate at ``t`` (0 to 1): linear over the first ``rampup``, a cosine to 0 over the last part."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / rampdown)) if rampdown else 1.0
    return down * (min(1.0, t / rampup) if rampup else 1.0)
