"""Pictures of codes as a training draws them: of a frozen generator, where they must be cheap rather than exact."""

import copy

import torch
from torch import Tensor

from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.paths.space import codes_to_w_plus
from gan_core.precision import autocast, set_precision
from gan_core.sections import Precision


class Drawing:
    """Draws codes of ``space`` by a frozen generator; gradients reach the codes.

    With ``size`` its pictures are those that the generator has inside at so many pixels, before its finer layers.
    Raises ``ParamsError`` for a family that has none, or none of that size.
    ``exact`` draws as the generator does. ``fast`` uses a folded copy with bfloat16 convolutions where the device has
    them: by the family's own ``compute_dtype``, else by autocast with channels last.
    """

    def __init__(self, generator: Generator, space: str, precision: Precision, size: int | None = None) -> None:
        self.generator, self.space, self.fast, self.size = generator, space, precision == "fast", size
        if size is not None and size not in (sizes := generator.inner_sizes()):
            raise ParamsError(f"drawn_size {size}: {generator.family} has pictures inside of {sizes or 'no size'}")
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
        w_plus = codes_to_w_plus(self.generator, self.space, codes)
        with autocast(self._casts):
            if self.size is None:
                return self.generator.synthesis(w_plus)
            return self.generator.lower(w_plus, 2 * self.size)[-1]
