"""Ranger: rectified Adam (Liu et al. 2020), look-ahead (Zhang et al. 2019) and centred gradients (Yong et al. 2020)."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Ranger(torch.optim.Optimizer):
    """The optimiser that pSp, e4e and Style Transformer are trained with; the defaults are theirs.

    A gradient of more than one dimension loses its mean over all but the first (``centre``). The step is Adam's once
    its variance can be trusted (more than 5 effective samples), momentum alone before. Every ``sync_every`` steps the
    weights go back ``1 - alpha`` of the way to where they were at the last such step.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        alpha: float = 0.5,
        sync_every: int = 6,
        centre: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.alpha, self.sync_every, self.centre = alpha, sync_every, centre

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step with the gradients at hand; ``closure`` computes the loss anew and is called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["slow"] = parameter.clone()
        gradient = parameter.grad
        assert gradient is not None
        if self.centre and gradient.ndim > 1:
            gradient = gradient - gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)
        first, second = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        rate, adaptive = rectified_rate(state["step"], first, second)
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        if adaptive:
            parameter.addcdiv_(state["mean"], state["square"].sqrt().add_(group["eps"]), value=-group["lr"] * rate)
        else:
            parameter.add_(state["mean"], alpha=-group["lr"] * rate)
        if state["step"] % self.sync_every == 0:
            state["slow"].lerp_(parameter, self.alpha)
            parameter.copy_(state["slow"])


def rectified_rate(step: int, first: float, second: float) -> tuple[float, bool]:
    """Return the factor on the learning rate at a step (from 1), and whether the variance is used (alg. 2)."""
    longest = 2 / (1 - second) - 1
    decayed = second**step
    samples = longest - 2 * step * decayed / (1 - decayed)
    bias = 1 - first**step
    if samples <= 5:
        return 1 / bias, False
    variance = (samples - 4) / (longest - 4) * (samples - 2) / samples * longest / (longest - 2)
    return math.sqrt((1 - decayed) * variance) / bias, True
