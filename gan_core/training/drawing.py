"""Pictures of codes as a training draws them: of a frozen generator, where they must be cheap rather than exact."""

import copy

import torch
from torch import Tensor

from gan_core.generators.base import Generator
from gan_core.paths.space import codes_to_w_plus
from gan_core.precision import autocast, set_precision
from gan_core.sections import Precision


class Drawing:
    """Draws codes of ``space`` by a frozen generator; gradients reach the codes.

    ``exact`` draws as the generator does. ``fast`` uses a folded copy with bfloat16 convolutions where the device has
    them: by the family's own ``compute_dtype``, else by autocast with channels last.
    """

    def __init__(self, generator: Generator, space: str, precision: Precision) -> None:
        self.generator, self.space, self.fast = generator, space, precision == "fast"
        self._casts = False
        if self.fast:
            self.generator = copy.deepcopy(generator)
            self.generator.fold()
            set_precision(self.generator, precision)
            self._casts = not any(hasattr(part, "compute_dtype") for part in generator.modules())
            if self._casts:
                self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, codes: Tensor) -> Tensor:
        """Draw codes ``[B, width]``: images ``[B, 3, size, size]`` around [-1, 1], in bfloat16 or float32."""
        with autocast(self._casts):
            return self.generator.synthesis(codes_to_w_plus(self.generator, self.space, codes))
