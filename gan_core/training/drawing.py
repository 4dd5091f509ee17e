"""Pictures of codes as a training draws them: of a frozen generator, where they must be cheap rather than exact."""

import copy

import torch
from torch import Tensor

from gan_core.generators.base import Generator
from gan_core.paths.space import codes_to_w_plus
from gan_core.precision import autocast, set_precision
from gan_core.sections import Precision


class Drawing:
    """Draws codes of ``space`` by a copy of ``generator`` in ``precision``; gradients reach the codes.

    ``fast`` has channels last, and bfloat16 convolutions where the device has them: by the family's own
    ``compute_dtype``, else by autocast.
    """

    def __init__(self, generator: Generator, space: str, precision: Precision) -> None:
        self.space, self.fast = space, precision == "fast"
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self._casts = self.fast and not any(hasattr(part, "compute_dtype") for part in self.generator.modules())
        if self.fast:
            self.generator = self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            set_precision(self.generator, precision)

    def __call__(self, codes: Tensor) -> Tensor:
        """Draw codes ``[B, width]``: images ``[B, 3, size, size]`` around [-1, 1], in bfloat16 or float32."""
        with autocast(self._casts):
            return self.generator.synthesis(codes_to_w_plus(self.generator, self.space, codes))
