"""Image features that distribution metrics compare; metric names carry the extractor's name (``fid/toy-attr``)."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Loaded
from gan_core.judges.networks import AttributeRegressor, load_network
from gan_core.judges.pictures import Pictures
from gan_core.params import ModelPaths
from gan_core.registry import Registry


class Extractor(ABC):
    """Images ``[B, 3, H, W]`` in [-1, 1] -> features ``[B, dim]`` float32."""

    name: ClassVar[str]
    dim: int

    @abstractmethod
    def __init__(self, models: ModelPaths) -> None: ...

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Hashes of what decides the features."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Features of a batch."""

    def of(self, pictures: Pictures, picture: str) -> Tensor:
        """Features of one picture of each row, worked out once however many metrics ask."""
        key = (self.name, picture)
        if key not in pictures.known:
            with torch.no_grad():
                pictures.known[key] = self.features(pictures[picture])
        return pictures.known[key]


EXTRACTORS: Registry[type[Extractor]] = Registry("feature extractor", "gan_core.judges", Extractor)


@EXTRACTORS.register("toy-attr")
class ToyAttributes(Extractor):
    """The penultimate layer of the toy attribute regressor."""

    name = "toy-attr"
    suffix = ""

    def __init__(self, models: ModelPaths) -> None:
        loaded: Loaded[Any] = load_network(models.attributes, "attributes")
        self.network: AttributeRegressor = loaded.model
        self.names: list[str] = self.network.names
        self.dim = self.network.hidden.out_features
        self._identity = {"attributes_sha256": loaded.sha256}

    def identity(self) -> dict[str, Any]:
        return self._identity

    def features(self, images: Tensor) -> Tensor:
        return in_chunks(self.network.features, images)

    def values(self, pictures: Pictures, picture: str) -> Tensor:
        """Attribute values ``[B, len(names)]`` of one picture of each row, -1 and 1 being the ends of each range."""
        with torch.no_grad():
            return in_chunks(self.network.head, self.of(pictures, picture).relu())
