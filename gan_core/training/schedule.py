"""Learning rates over a training run."""

import math

import torch


def warm(step: int, warmup: int = 200) -> float:
    """Factor on the learning rate: linear rise over ``warmup`` steps, then 1."""
    return min(1.0, (step + 1) / max(1, warmup))


def warm_cosine(step: int, steps: int, warmup: int = 200) -> float:
    """Factor on the learning rate: linear rise over ``warmup`` steps, then half a cosine down to 0 at ``steps``."""
    return warm(step, min(warmup, steps // 4)) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))


def set_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Give all parameters of an optimiser the learning rate ``lr``."""
    for group in optimiser.param_groups:
        group["lr"] = lr
