"""What a measuring network learns from: its data, its loss, and its score on pictures that it has not seen."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gan_core.storage.images import to_tensor
from gan_core.toy.params import TrainMeasureParams
from gan_core.toy.training.portraits import PortraitSet

HELD_OUT_SEED = 9_500_000
Batch = dict[str, Tensor]
Scores = dict[str, float]


class Learner(nn.Module, ABC):
    """A network with its data, loss and score; heads that only training needs live here and are not saved.

    ``registered`` is the network's name in ``gan_core.judges.networks.NETWORKS``, where that isn't ``name``.
    """

    name: ClassVar[str]
    registered: ClassVar[str] = ""
    network: nn.Module

    def __init__(self, params: TrainMeasureParams) -> None:
        super().__init__()
        self.params = params

    @abstractmethod
    def draw(self, rng: torch.Generator) -> Batch:
        """Draw one training batch; this is done on the CPU."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Loss of a batch, a scalar."""

    def finish(self) -> None:
        """What is left to do when training has ended; the network is in eval mode."""

    @abstractmethod
    def score(self) -> Scores:
        """Scores on held-out pictures; the network is in eval mode."""


class PortraitLearner(Learner):
    """Learns from portraits of a disk, and keeps what it makes of them in the folder ``cache``."""

    def __init__(self, params: TrainMeasureParams, train: PortraitSet, held_out: PortraitSet, cache: Path) -> None:
        super().__init__(params)
        self.train_set, self.held_out, self.cache = train, held_out, cache

    def _pick(self, count: int, rng: torch.Generator) -> tuple[Tensor, np.ndarray]:
        rows = torch.randint(len(self.train_set), (count,), generator=rng).sort().values.numpy()
        return self.train_set.images(rows).contiguous(), rows


def embed(network: Callable[[Tensor], Tensor], images: np.ndarray) -> Tensor:
    """Outputs of ``network`` for uint8 images ``[N, H, W, 3]``, in batches, on the CPU."""
    parts = np.array_split(images, max(1, len(images) // 64))
    return torch.cat([network(to_tensor(list(part))).cpu() for part in parts])
