"""What each measuring network learns from, its loss, and how well it does on pictures it has not seen."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    mse_loss,
    smooth_l1_loss,
)

from gan_core.data.images import to_tensor
from gan_core.data.toy import ATTRIBUTES, FACTOR_NAMES, FACTORS, SEGMENTATION_LABELS
from gan_core.metrics.networks import AttributeRegressor, IdentityEmbedder, LandmarkNet, PerceptualTrunk
from gan_core.params import TrainMeasureParams
from gan_core.training.augment import augment
from gan_core.training.measure_data import (
    IDENTITY_COLUMNS,
    cached,
    invent_clutter,
    look,
    render_frames,
    render_identities,
    whiten,
)
from gan_core.training.portraits import PortraitSet

ATTRIBUTE_COLUMNS = [FACTOR_NAMES.index(name) for name in ATTRIBUTES]
HELD_OUT_SEED = 9_500_000
Batch = dict[str, Tensor]
Scores = dict[str, float]


class Learner(nn.Module, ABC):
    """A network with its data, loss and score; heads that only training needs live here and are not saved."""

    name: ClassVar[str]
    network: nn.Module

    def __init__(self, params: TrainMeasureParams, train: PortraitSet, held_out: PortraitSet, cache: Path) -> None:
        super().__init__()
        self.params, self.train_set, self.held_out, self.cache = params, train, held_out, cache

    @abstractmethod
    def draw(self, rng: torch.Generator) -> Batch:
        """Draw one training batch."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Loss of a batch, a scalar."""

    @abstractmethod
    def score(self) -> Scores:
        """Scores on held-out pictures; the network is in eval mode."""

    def _pick(self, count: int, rng: torch.Generator) -> tuple[Tensor, np.ndarray]:
        rows = torch.randint(len(self.train_set), (count,), generator=rng).sort().values.numpy()
        return self.train_set.images(rows).contiguous(), rows


class IdentityLearner(Learner):
    """Cosines learn to equal the cosine of the whitened identity factors: 1 for two views of one person, 0 on average
    for two people."""

    name = "identity"
    views = 4

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        self.network = IdentityEmbedder(self.params.width)
        self.head = nn.Linear(24 * self.params.width, len(IDENTITY_COLUMNS))
        self.people = cached(
            self.cache / "people.npz",
            lambda: render_identities(self.params.rendered // self.views, self.views, 2_000_000),
        )

    def draw(self, rng: torch.Generator) -> Batch:
        people = self.params.batch_size // 2 // self.views
        rows = torch.randint(len(self.people["image"]), (people,), generator=rng).numpy()
        strangers, others = self._pick(self.params.batch_size - people * self.views, rng)
        images = torch.cat([to_tensor(list(self.people["image"][rows].reshape(-1, 64, 64, 3))), strangers])
        factors = np.concatenate(
            [self.people["factors"][rows].reshape(-1, len(FACTORS)), self.train_set.factors[others]]
        )
        who = torch.cat([torch.arange(people).repeat_interleave(self.views), people + torch.arange(len(others))])
        target = whiten(torch.from_numpy(factors))[:, IDENTITY_COLUMNS]
        return {"images": augment(images, rng)[0], "who": who, "target": target}

    def loss(self, batch: Batch) -> Tensor:
        features = self.network.backbone(batch["images"])
        embedding = nn.functional.normalize(self.network.embed(features).float(), dim=1)
        cosine, unit = embedding @ embedding.T, nn.functional.normalize(batch["target"], dim=1)
        error = (cosine - unit @ unit.T).square()
        same = batch["who"][:, None] == batch["who"][None]
        twins = same & ~torch.eye(len(same), dtype=torch.bool)
        return error[twins].mean() + error[~same].mean() + 0.3 * mse_loss(self.head(features).float(), batch["target"])

    def score(self) -> Scores:
        people = render_identities(100, self.views, HELD_OUT_SEED)["image"]
        embedding = embed(self.network, people.reshape(-1, 64, 64, 3))
        cosine = embedding @ embedding.T
        who = torch.arange(len(people)).repeat_interleave(self.views)
        same = who[:, None] == who[None]
        twins, strangers = cosine[same & ~torch.eye(len(same), dtype=torch.bool)], cosine[~same]
        return {
            "same_mean": twins.mean().item(),
            "same_5_percent": twins.quantile(0.05).item(),
            "different_mean": strangers.mean().item(),
            "different_95_percent": strangers.quantile(0.95).item(),
            "separation": (twins[:, None] > strangers[::7][None]).float().mean().item(),
        }


class AttributeLearner(Learner):
    """Squared error on attribute values scaled to [-1, 1]."""

    name = "attributes"

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        self.network = AttributeRegressor(list(ATTRIBUTES), self.params.width)

    def draw(self, rng: torch.Generator) -> Batch:
        images, rows = self._pick(self.params.batch_size, rng)
        return {"images": augment(images, rng)[0], "target": attribute_values(self.train_set.factors[rows])}

    def loss(self, batch: Batch) -> Tensor:
        return mse_loss(self.network(batch["images"]).float(), batch["target"])

    def score(self) -> Scores:
        found, truth = embed(self.network, self.held_out.image), attribute_values(self.held_out.factors)
        correlations = [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in zip(found.T, truth.T, strict=True)]
        residual = (found - truth).square().mean(0) / truth.var(0)
        named = {f"correlation/{name}": value for name, value in zip(ATTRIBUTES, correlations, strict=True)}
        return named | {f"r2/{name}": 1 - value.item() for name, value in zip(ATTRIBUTES, residual, strict=True)}


class PerceptualLearner(Learner):
    """All slices together label pixels, the first three tell how an image was damaged, the last tells all factors."""

    name = "perceptual"

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        w = self.params.width
        channels = (w // 2, w, 2 * w, 2 * w, 2 * w)
        self.network = PerceptualTrunk(channels)
        self.label = nn.ModuleList(nn.Conv2d(c, len(SEGMENTATION_LABELS), 1) for c in channels)
        self.damage = nn.Linear(2 * sum(channels[:3]), 3)
        self.factors = nn.Linear(16 * channels[-1], len(FACTORS))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw(self, rng: torch.Generator) -> Batch:
        images, rows = self._pick(self.params.batch_size, rng)
        images, damage = augment(images, rng)
        labels = torch.from_numpy(self.train_set.segmentation[rows][:, ::2, ::2].astype(np.int64))
        factors = whiten(torch.from_numpy(np.array(self.train_set.factors[rows])))
        return {"images": images, "damage": damage, "labels": labels, "factors": factors}

    def loss(self, batch: Batch) -> Tensor:
        labels, damage, factors = self.predict(batch["images"])
        return (
            cross_entropy(labels, batch["labels"])
            + mse_loss(damage, batch["damage"])
            + mse_loss(factors, batch["factors"])
        )

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Label logits ``[B, labels, 32, 32]``, damage ``[B, 3]`` and whitened factors ``[B, F]``."""
        maps = self.network(images.contiguous(memory_format=torch.channels_last))
        halves = [avg_pool2d(maps[0], 2), *maps[1:]]
        parts = [head(m).float() for head, m in zip(self.label, halves, strict=True)]
        labels = torch.stack([interpolate(part, (32, 32), mode="bilinear") for part in parts]).sum(0)
        texture = torch.cat([f for m in maps[:3] for f in (m.float().mean((2, 3)), m.float().std((2, 3)))], 1)
        return labels, self.damage(texture).float(), self.factors(maps[-1].flatten(1)).float()

    def score(self) -> Scores:
        rng = torch.Generator().manual_seed(HELD_OUT_SEED)
        images, damage = augment(to_tensor(list(self.held_out.image)), rng)
        labels, found, explained = self.predict(images)
        truth = torch.from_numpy(self.held_out.segmentation[:, ::2, ::2].astype(np.int64))
        factors = whiten(torch.from_numpy(np.array(self.held_out.factors)))
        return {
            "label_accuracy": (labels.argmax(1) == truth).float().mean().item(),
            "factor_r2": 1 - mse_loss(explained, factors).item(),
            "damage_r2": 1 - mse_loss(found, damage).item() / damage.var(0).mean().item(),
        }


class LandmarkLearner(Learner):
    """Points of heads in frames, near and far, and whether there is a head at all."""

    name = "landmarks"

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        self.network = LandmarkNet(self.params.width)
        self.frames = cached(self.cache / "frames.npz", lambda: render_frames(self.params.rendered, 3_000_000))

    def draw(self, rng: torch.Generator) -> Batch:
        count = self.params.batch_size
        rows = torch.randint(len(self.frames["image"]), (count,), generator=rng).numpy()
        frames, points = to_tensor(list(self.frames["image"][rows])), torch.from_numpy(self.frames["points"][rows])
        windows = look(frames, points, *self._glance(points, rng))
        clutter = invent_clutter(count // 8, rng)
        images, points = torch.cat([windows.images, clutter]), torch.cat([windows.points, points[: len(clutter)]])
        present = torch.cat([windows.present, torch.zeros(len(clutter), dtype=torch.bool)])
        absent = torch.cat([windows.absent, torch.ones(len(clutter), dtype=torch.bool)])
        return {"images": augment_frames(images, rng), "points": points, "present": present, "absent": absent}

    @staticmethod
    def _glance(points: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Whole frames, close looks at the head, and looks elsewhere, a third each."""
        count = len(points)
        kind = torch.rand(count, generator=rng)
        close, far = (kind > 0.35)[:, None], (kind > 0.8)[:, None]
        spread = (points.amax(1) - points.amin(1)).amax(1)
        half = torch.where(close[:, 0], spread * (1.3 + 1.7 * torch.rand(count, generator=rng)), torch.ones(count))
        near = points.mean(1) + (torch.rand(count, 2, generator=rng) - 0.5) * (0.8 * half)[:, None]
        centre = torch.where(close, near, 0.5 + 0.06 * (torch.rand(count, 2, generator=rng) - 0.5))
        centre = torch.where(far, torch.rand(count, 2, generator=rng), centre)
        half = torch.where(far[:, 0], spread * (0.6 + 1.4 * torch.rand(count, generator=rng)), half)
        turn = (torch.rand(count, generator=rng) - 0.5) * (0.9 * close[:, 0].float())
        return centre, half, turn

    def loss(self, batch: Batch) -> Tensor:
        logit, points = self.network(batch["images"])
        present, known = batch["present"], batch["present"] | batch["absent"]
        seen = binary_cross_entropy_with_logits(logit[known], present[known].float())
        return 0.3 * seen + smooth_l1_loss(64 * points[present], 64 * batch["points"][present], beta=0.5)

    def score(self) -> Scores:
        frames = render_frames(200, HELD_OUT_SEED)
        images, points = to_tensor(list(frames["image"])), torch.from_numpy(frames["points"])
        count, rng = len(images), torch.Generator().manual_seed(HELD_OUT_SEED)
        whole = look(images, points, torch.full((count, 2), 0.5), torch.ones(count), torch.zeros(count))
        logit, found = self.network(whole.images)
        spread = (points[:, 1] - points[:, 0]).norm(dim=1)
        error = (found - points).norm(dim=2).mean(1)
        empty = torch.cat([self.network(invent_clutter(200, rng))[0], self._logits_elsewhere(images, points, rng)])
        return {
            "error_px_of_64": 64 * error.mean().item(),
            "error_px_of_64_95_percent": 64 * error.quantile(0.95).item(),
            "error_share_of_eye_distance": (error / spread).mean().item(),
            "found": (logit > 0).float().mean().item(),
            "false_alarms": (empty > 0).float().mean().item(),
        }

    def _logits_elsewhere(self, frames: Tensor, points: Tensor, rng: torch.Generator) -> Tensor:
        centre = torch.rand(len(frames), 2, generator=rng)
        windows = look(frames, points, centre, torch.full((len(frames),), 0.25), torch.zeros(len(frames)))
        return self.network(windows.images[windows.absent])[0]


def attribute_values(factors: np.ndarray) -> Tensor:
    """Factors ``[N, F]`` -> the attributes' values ``[N, A]``, -1 and 1 being the ends of each range."""
    return whiten(torch.from_numpy(np.array(factors)))[:, ATTRIBUTE_COLUMNS] / 3**0.5


def augment_frames(images: Tensor, rng: torch.Generator) -> Tensor:
    """Vary brightness and contrast of images ``[B, 3, 64, 64]`` and add a little noise; nothing moves."""
    gain, lift, noise = torch.rand(3, len(images), 1, 1, 1, generator=rng).unbind(0)
    varied = images * (0.8 + 0.3 * gain) + 0.2 * (lift - 0.5)
    return (varied + 0.04 * noise * torch.randn(images.shape, generator=rng)).clamp(-1, 1)


def embed(network: Callable[[Tensor], Tensor], images: np.ndarray) -> Tensor:
    """Outputs of ``network`` for uint8 images ``[N, H, W, 3]``, in batches."""
    parts = np.array_split(images, max(1, len(images) // 64))
    return torch.cat([network(to_tensor(list(part))) for part in parts])


LEARNERS: dict[str, type[Learner]] = {
    learner.name: learner for learner in (IdentityLearner, AttributeLearner, PerceptualLearner, LandmarkLearner)
}
