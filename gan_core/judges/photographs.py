"""What photographs of faces are judged by: attributes from three networks that Python packages carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Loaded
from gan_core.judges.age_gender import OLDEST, load_age, load_gender, years
from gan_core.judges.dlib_resnet import load_dlib_resnet
from gan_core.judges.efficientnet_lite import load_efficientnet
from gan_core.judges.expression import EXPRESSIONS, load_expression
from gan_core.judges.pictures import Pictures

JUDGES: dict[str, Callable[[], Loaded[Any]]] = {
    "dlib-resnet": load_dlib_resnet,
    "age-v1": load_age,
    "gender-v1": load_gender,
    "mini-xception": load_expression,
    "efficientnet-lite0": load_efficientnet,
}
"""All networks for photographs by name; each loader returns the network with its card and the hash of its file."""

HAPPY = EXPRESSIONS.index("happy")


@dataclass(frozen=True)
class PhotoAttribute:
    """An attribute of a face: which of ``JUDGES`` looks, and how its output becomes values ``[B]`` on [-1, 1]."""

    name: str
    judge: str
    read: Callable[[Tensor], Tensor]


ATTRIBUTES = (
    PhotoAttribute("age", "age-v1", lambda probabilities: years(probabilities) / OLDEST * 2 - 1),
    PhotoAttribute("gender", "gender-v1", lambda probabilities: probabilities[:, 0] * 2 - 1),
    PhotoAttribute("smile", "mini-xception", lambda probabilities: probabilities[:, HAPPY] * 2 - 1),
)
"""Age (the ends are 0 and 80 years), gender (1 is female, as in FairFace) and smile (1 is certainly happy)."""


class PhotoAttributes:
    """Values of ``ATTRIBUTES`` of pictures; stands where ``ToyAttributes`` does for toy portraits."""

    def __init__(self) -> None:
        self.suffix = "/photos"
        self.names = [attribute.name for attribute in ATTRIBUTES]
        self._loaded = {attribute.judge: JUDGES[attribute.judge]() for attribute in ATTRIBUTES}

    def identity(self) -> dict[str, Any]:
        """Hashes of the networks."""
        return {f"{judge}_sha256": loaded.sha256 for judge, loaded in self._loaded.items()}

    def values(self, pictures: Pictures, picture: str) -> Tensor:
        """Attribute values ``[B, 3]`` of one picture of each row."""
        key = ("photo-attributes", picture)
        if key not in pictures.known:
            with torch.no_grad():
                pictures.known[key] = in_chunks(self.look, pictures[picture])
        return pictures.known[key]

    def look(self, images: Tensor) -> Tensor:
        """FFHQ-aligned images ``[B, 3, S, S]`` in [-1, 1] -> values ``[B, 3]``."""
        return torch.stack([a.read(self._loaded[a.judge].model(images)).to(images) for a in ATTRIBUTES], 1)
