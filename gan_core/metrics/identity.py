"""Whether a picture still shows the same person: the cosine of two face embeddings."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Loaded
from gan_core.device import fetch, place, widest
from gan_core.errors import CheckpointError
from gan_core.judges.faces import FaceEmbedder, warp_faces
from gan_core.judges.networks import SIZE, load_network
from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.metrics.base import ALIGNED, METRICS, Columns, Faces, RowMetric, Setting

TOY = "identity"


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine ``[B]`` of embeddings ``[B, D]`` of any length; 0 for a zero vector."""
    return torch.nn.functional.cosine_similarity(widest(x), widest(y), dim=1)


@torch.no_grad()
def _check_embedder(loaded: Loaded[nn.Module], path: str) -> None:
    """Raise ``CheckpointError`` for a network that gives no vector ``[1, D]`` of a picture, or one of attributes."""
    try:
        found = loaded.model(place(torch.zeros(1, 3, SIZE, SIZE)))
    except (AttributeError, RuntimeError, TypeError, ValueError):
        found = None
    if not isinstance(found, Tensor) or found.dim() != 2 or hasattr(loaded.model, "names"):
        raise CheckpointError(
            f"{path} holds the network {loaded.card.name!r}, which embeds no faces: choose another as models.identity"
        )


@METRICS.register("identity")
class IdentitySimilarity(RowMetric):
    """Cosine with the aligned image, of each reconstruction and each edit: ``identity/toy/<picture>`` in [-1, 1].

    With another embedder in ``models.identity`` its name stands for ``toy``, such as ``arcface-ir-se50``.
    """

    name: ClassVar[str] = "identity"
    faces: ClassVar[Faces] = "pictures"
    meaning: ClassVar[Meaning] = Meaning(
        "Identity",
        "",
        "higher",
        3,
        "Cosine between the face embeddings of this image and the aligned one; 1 is equal.",
    )

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        loaded = load_network(setting.models.identity)
        _check_embedder(loaded, setting.models.identity)
        self.embed, self._sha256 = loaded.model, loaded.sha256
        self.extractor = "toy" if loaded.card.name == TOY else loaded.card.name

    @property
    def columns(self) -> list[str]:
        return [f"{self.name}/{self.extractor}/{picture}" for picture in self.setting.pictures]

    def identity(self) -> dict[str, Any]:
        return {"identity_sha256": self._sha256}

    @torch.no_grad()
    def score(self, pictures: Pictures) -> Columns:
        source = self._embed(pictures, ALIGNED)
        scores = (fetch(cosine(source, self._embed(pictures, p))) for p in self.setting.pictures)
        return dict(zip(self.columns, scores, strict=True))

    def _embed(self, pictures: Pictures, picture: str) -> Tensor:
        network = self.embed
        if isinstance(network, FaceEmbedder) and network.by_landmarks and pictures.points:
            return in_chunks(network.embed, warp_faces(pictures[picture], pictures.points))
        return in_chunks(network, pictures[picture])
