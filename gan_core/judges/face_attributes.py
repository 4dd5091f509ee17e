"""Published regressors of what a face looks like: FairFace, Hopenet and Talk-to-Edit's five CelebA attributes.

Each gives values on [-1, 1], the ends of its scale, so that edits can be scored as shares of it. They see the same
square of an FFHQ-aligned image as the face embedders, at 224 px, not the boxes of a detector as their authors do.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Loaded, read_card
from gan_core.errors import CheckpointError
from gan_core.judges.extractors import ToyAttributes
from gan_core.judges.faces import ALIGNED_SIZE, COLUMNS, ROWS
from gan_core.judges.networks import NETWORKS, load_network, resize
from gan_core.judges.pictures import Pictures
from gan_core.judges.resnet import BasicBlock, Bottleneck, ResNet, imagenet_input
from gan_core.params import ModelPaths


def face_square(images: Tensor) -> Tensor:
    """FFHQ-aligned images ``[B, 3, S, S]`` -> the face's square, ``[B, 3, 188, 188]``."""
    return resize(images, ALIGNED_SIZE)[:, :, ROWS, COLUMNS]


class FaceRegressor(ResNet):
    """FFHQ-aligned images in [-1, 1] -> values ``[B, len(names)]`` on [-1, 1]."""

    names: ClassVar[list[str]]

    def values(self, features: Tensor) -> Tensor:
        """Pooled features ``[B, dim]`` -> values ``[B, len(names)]``."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.values(self.pooled(imagenet_input(face_square(images))).float())


@NETWORKS.register("fairface")
class FairFace(FaceRegressor):
    """FairFace (Kärkkäinen and Joo 2021): ``gender`` (1 is female) and ``age`` (the ends are 0-2 and over 70 years).

    Age is the mean of its nine groups under the softmax. The outputs for race are not used: they have no order.
    """

    names: ClassVar[list[str]] = ["gender", "age"]

    def __init__(self, width: int = 64) -> None:
        super().__init__(BasicBlock, (3, 4, 6, 3), width)
        self.arguments: dict[str, Any] = {} if width == 64 else {"width": width}
        self.fc = nn.Linear(self.dim, 18)

    def values(self, features: Tensor) -> Tensor:
        logits = self.fc(features)
        female = F.softmax(logits[:, 7:9], 1)[:, 1]
        age = F.softmax(logits[:, 9:18], 1) @ torch.arange(9.0, device=logits.device) / 8
        return torch.stack([female, age], 1) * 2 - 1


@NETWORKS.register("hopenet")
class Hopenet(FaceRegressor):
    """Hopenet (Ruiz et al. 2018): ``yaw``, ``pitch`` and ``roll``; 1 is 99 degrees, the end of its 66 bins."""

    names: ClassVar[list[str]] = ["yaw", "pitch", "roll"]

    def __init__(self, width: int = 64) -> None:
        super().__init__(Bottleneck, (3, 4, 6, 3), width)
        self.arguments: dict[str, Any] = {} if width == 64 else {"width": width}
        self.fc_yaw, self.fc_pitch, self.fc_roll = (nn.Linear(self.dim, 66) for _ in range(3))
        self.fc_finetune = nn.Linear(self.dim + 3, 3)  # in the published file, and used by nobody

    def degrees(self, features: Tensor) -> Tensor:
        """Yaw, pitch and roll in degrees, ``[B, 3]``: the mean of the bins under the softmax."""
        bins = torch.arange(66.0, device=features.device)
        heads = (self.fc_yaw, self.fc_pitch, self.fc_roll)
        return torch.stack([F.softmax(head(features), 1) @ bins * 3 - 99 for head in heads], 1)

    def values(self, features: Tensor) -> Tensor:
        return self.degrees(features) / 99


class DenseBlock(nn.Module):
    """Linear layer, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, outputs)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x)).relu()


@NETWORKS.register("celeba-5")
class CelebaFive(FaceRegressor):
    """Talk-to-Edit's predictor (Jiang et al. 2021): five attributes in six classes each, from none to full.

    Values are means of the classes under the softmax. As published, its input is normalised twice: values in [-1, 1]
    are treated as if they were in [0, 1].
    """

    names: ClassVar[list[str]] = ["bangs", "eyeglasses", "no_beard", "smile", "young"]
    heads: ClassVar[tuple[str, ...]] = ("06Bangs", "16Eyeglasses", "25No_Beard", "32Smiling", "40Young")

    def __init__(self, width: int = 64) -> None:
        super().__init__(Bottleneck, (3, 4, 6, 3), width)
        self.arguments: dict[str, Any] = {} if width == 64 else {"width": width}
        self.stem = DenseBlock(self.dim, 512)
        for head in self.heads:
            self.add_module(f"classifier{head}", nn.Sequential(DenseBlock(512, 256), nn.Linear(256, 6)))

    def values(self, features: Tensor) -> Tensor:
        stem = self.stem(features)
        logits = torch.stack([self.get_submodule(f"classifier{head}")(stem) for head in self.heads], 1)
        return F.softmax(logits, 2) @ torch.arange(6.0, device=logits.device) / 5 * 2 - 1

    def forward(self, images: Tensor) -> Tensor:
        return self.values(self.pooled(imagenet_input(images * 2 - 1)).float())


class FaceAttributes:
    """Attribute values of pictures by a published regressor; stands where ``ToyAttributes`` does for toy portraits."""

    def __init__(self, models: ModelPaths) -> None:
        loaded: Loaded[Any] = load_network(models.attributes)
        if not hasattr(loaded.model, "names"):
            raise CheckpointError(
                f"{models.attributes} holds the network {loaded.card.name!r}, which gives no attributes: choose one of "
                "attributes as models.attributes"
            )
        self.suffix = f"/{loaded.card.name}"
        self.network: FaceRegressor = loaded.model
        self.names = list(self.network.names)
        self._identity = {"attributes_sha256": loaded.sha256}

    def identity(self) -> dict[str, Any]:
        """Hash of the network."""
        return self._identity

    def values(self, pictures: Pictures, picture: str) -> Tensor:
        """Attribute values ``[B, len(names)]`` of one picture of each row."""
        key = (f"attributes{self.suffix}", picture)
        if key not in pictures.known:
            with torch.no_grad():
                pictures.known[key] = in_chunks(self.network, pictures[picture])
        return pictures.known[key]


def load_attributes(models: ModelPaths) -> ToyAttributes | FaceAttributes:
    """Whatever ``models.attributes`` holds: the toy regressor or a published one."""
    toy = read_card(models.attributes).name == "attributes"
    return ToyAttributes(models) if toy else FaceAttributes(models)
