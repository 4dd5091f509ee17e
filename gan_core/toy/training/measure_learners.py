"""How the identity embedder, the attribute regressor and the perceptual trunk learn."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, mse_loss

from gan_core.device import on_host, place
from gan_core.judges.networks import AttributeRegressor, IdentityEmbedder, PerceptualTrunk
from gan_core.storage.images import to_tensor
from gan_core.toy.renderer import ATTRIBUTES, FACTOR_NAMES, FACTORS, SEGMENTATION_LABELS
from gan_core.toy.training.augment import augment
from gan_core.toy.training.landmark_learner import LandmarkLearner
from gan_core.toy.training.learner import HELD_OUT_SEED, Batch, PortraitLearner, Scores, embed
from gan_core.toy.training.measure_data import IDENTITY_COLUMNS, render_identities, whiten
from gan_core.toy.training.segmenter_learner import SegmenterLearner

ATTRIBUTE_COLUMNS = [FACTOR_NAMES.index(name) for name in ATTRIBUTES]
MILD, HARSH = {"share": 0.25, "strength": 0.5}, {"share": 0.65, "strength": 1.0}


class IdentityLearner(PortraitLearner):
    """The embedding estimates the whitened identity factors, each weighted by how well views of one person agree on it:
    so cosines of unit vectors compare what can be seen of two people's factors."""

    name = "identity"
    views = 4
    held_out_people = 100
    network: IdentityEmbedder

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        self.network = IdentityEmbedder(self.params.width, len(IDENTITY_COLUMNS))

    def draw(self, rng: torch.Generator) -> Batch:
        images, rows = self._pick(self.params.batch_size, rng)
        mirrored = torch.rand(len(images), 1, 1, 1, generator=rng) < 0.5
        images = augment(torch.where(mirrored, images.flip(3), images), rng, **MILD)[0]
        return {"images": images, "target": whiten(torch.from_numpy(self.train_set.factors[rows]))[:, IDENTITY_COLUMNS]}

    def loss(self, batch: Batch) -> Tensor:
        return mse_loss(self.network.estimate(batch["images"]).float(), batch["target"])

    @torch.no_grad()
    def finish(self) -> None:
        """Weigh every factor by its reliability over views of people that are rendered for this."""
        people = render_identities(self.params.rendered // self.views, self.views, 2_000_000)["image"]
        estimates = embed(self.network.estimate, people.reshape(-1, *people.shape[2:]))
        weight = place(reliability(estimates.unflatten(0, people.shape[:2])))
        self.network.embed.weight.mul_(weight[:, None])
        self.network.embed.bias.mul_(weight)

    def score(self) -> Scores:
        people = render_identities(self.held_out_people, self.views, HELD_OUT_SEED)["image"]
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


class AttributeLearner(PortraitLearner):
    """Squared error on attribute values scaled to [-1, 1]."""

    name = "attributes"

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        self.network = AttributeRegressor(list(ATTRIBUTES), self.params.width)

    def draw(self, rng: torch.Generator) -> Batch:
        images, rows = self._pick(self.params.batch_size, rng)
        return {"images": augment(images, rng, **MILD)[0], "target": attribute_values(self.train_set.factors[rows])}

    def loss(self, batch: Batch) -> Tensor:
        return mse_loss(self.network(batch["images"]).float(), batch["target"])

    def score(self) -> Scores:
        found, truth = embed(self.network, self.held_out.image), attribute_values(self.held_out.factors)
        correlations = [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in zip(found.T, truth.T, strict=True)]
        residual = (found - truth).square().mean(0) / truth.var(0)
        named = {f"correlation/{name}": value for name, value in zip(ATTRIBUTES, correlations, strict=True)}
        return named | {f"r2/{name}": 1 - value.item() for name, value in zip(ATTRIBUTES, residual, strict=True)}


class JudgeLearner(AttributeLearner):
    """A second attribute regressor, wider and begun elsewhere. Nothing is trained, chosen or named by it."""

    name = "judge"
    registered = "attributes"


class PerceptualLearner(PortraitLearner):
    """All slices together label pixels, the first three tell how an image was damaged, the last tells all factors."""

    name = "perceptual"

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        w = self.params.width
        channels = (w // 2, w, 2 * w, 2 * w, 2 * w)
        self.network = PerceptualTrunk(channels)
        self.label = nn.ModuleList(nn.Conv2d(c, len(SEGMENTATION_LABELS), 1) for c in channels)
        self.damage = nn.Sequential(nn.Linear(2 * sum(channels[:3]), 64), nn.ReLU(), nn.Linear(64, 3))
        self.factors = nn.Linear(16 * channels[-1], len(FACTORS))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw(self, rng: torch.Generator) -> Batch:
        images, rows = self._pick(self.params.batch_size, rng)
        images, damage = augment(images, rng, **HARSH)
        labels = torch.from_numpy(self.train_set.segmentation[rows][:, ::2, ::2].astype(np.int64))
        factors = whiten(torch.from_numpy(np.array(self.train_set.factors[rows])))
        return {"images": images, "damage": damage, "labels": labels, "factors": factors}

    def loss(self, batch: Batch) -> Tensor:
        labels, damage, factors = self.predict(batch["images"])
        return (
            cross_entropy(labels, batch["labels"])
            + 3 * mse_loss(damage, batch["damage"])
            + mse_loss(factors, batch["factors"])
        )

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Label logits ``[B, labels, 32, 32]``, damage ``[B, 3]`` and whitened factors ``[B, F]``."""
        maps = self.network(images.contiguous(memory_format=torch.channels_last))
        halves = [avg_pool2d(maps[0], 2), *maps[1:]]
        parts = [head(m).float() for head, m in zip(self.label, halves, strict=True)]
        labels = torch.stack([interpolate(part, (32, 32), mode="bilinear") for part in parts]).sum(0)
        texture = torch.cat([f for m in maps[:3] for f in (m.mean((2, 3)), m.square().mean((2, 3)))], 1)
        return labels, self.damage(texture).float(), self.factors(maps[-1].flatten(1)).float()

    def score(self) -> Scores:
        rng = torch.Generator().manual_seed(HELD_OUT_SEED)
        with on_host():
            images, damage = augment(to_tensor(list(self.held_out.image)), rng, **HARSH)
        labels, found, explained = (part.cpu() for part in self.predict(place(images)))
        truth = torch.from_numpy(self.held_out.segmentation[:, ::2, ::2].astype(np.int64))
        factors = whiten(torch.from_numpy(np.array(self.held_out.factors)))
        return {
            "label_accuracy": (labels.argmax(1) == truth).float().mean().item(),
            "factor_r2": 1 - mse_loss(explained, factors).item(),
            "damage_r2": 1 - mse_loss(found, damage).item() / damage.var(0).mean().item(),
        }


def reliability(estimates: Tensor) -> Tensor:
    """Share of the variance of ``[people, views, D]`` that lies between people, in [0, 1] (intraclass correlation)."""
    within, total = estimates.var(1).mean(0), estimates.flatten(0, 1).var(0)
    return (1 - within / total.clamp(min=1e-12)).clamp(min=0)


def attribute_values(factors: np.ndarray) -> Tensor:
    """Factors ``[N, F]`` -> the attributes' values ``[N, A]``, -1 and 1 being the ends of each range."""
    return whiten(torch.from_numpy(np.array(factors)))[:, ATTRIBUTE_COLUMNS] / 3**0.5


LEARNERS: dict[str, type[PortraitLearner]] = {
    learner.name: learner
    for learner in (
        *(IdentityLearner, AttributeLearner, JudgeLearner, PerceptualLearner),
        *(LandmarkLearner, SegmenterLearner),
    )
}
