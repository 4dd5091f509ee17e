"""A batch of pictures by name, as judges and metrics look at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor


@dataclass
class Pictures:
    """The pictures of a batch by name (``aligned``, ``encoded``, ``tuned``, edits): ``[B, 3, H, W]`` in [-1, 1].

    ``known`` keeps features that several metrics want, by extractor and picture. ``points`` are the five landmarks
    ``[5, 2]`` of each row in pixels of these pictures, None where alignment had none.
    """

    images: Mapping[str, Tensor]
    keys: Sequence[str]
    known: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    points: Sequence[np.ndarray | None] = ()

    def __getitem__(self, name: str) -> Tensor:
        return self.images[name]
