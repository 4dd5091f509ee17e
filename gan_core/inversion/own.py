"""What is a row's own when it is drawn: its weights, a layer's maps, and the detail that features put into pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor

from gan_core.device import place
from gan_core.errors import DataError
from gan_core.generators.base import Generator
from gan_core.inversion.delta import RESIDUAL, changed, unpack_delta
from gan_core.inversion.features import HFGI
from gan_core.inversion.hybrid import pop_blend

Draw = Callable[[], Tensor]


@contextmanager
def own_generator(
    generator: Generator, data: bytes, features: HFGI | None = None
) -> Iterator[Callable[[Draw], Tensor]]:
    """Give the generator a row's packed ``delta`` for the ``with`` block, and its exact weights back afterwards.

    The block gets a function that calls what draws ``[B, 3, S, S]`` by the generator: once, or twice where the row has
    a residual. Raises ``DataError`` if the delta is damaged, belongs to another generator, or needs ``features``.
    """
    delta = unpack_delta(data)
    residual, blend = delta.pop(RESIDUAL, None), pop_blend(delta)
    if residual is not None and features is None:
        raise DataError("a row has the detail of features, and tune.refine names none: run the tune stage again")
    with changed(generator, delta), blend.injected(generator) if blend else nullcontext():
        if residual is None or features is None:
            yield lambda draw: draw()
        else:
            whole = place(residual)[None]
            yield lambda draw: features.redrawn(generator, draw, whole)
