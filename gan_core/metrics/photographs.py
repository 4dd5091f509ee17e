"""Metrics of photographs by networks that Python packages carry (the extra ``photos``); each name says which one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Loaded
from gan_core.device import fetch
from gan_core.editing.planned import PlannedEdit
from gan_core.judges.dlib_resnet import CARD, SAME_PERSON
from gan_core.judges.efficientnet_lite import load_distance
from gan_core.judges.perceptual import PerceptualLoss
from gan_core.judges.photographs import ATTRIBUTES, JUDGES, PhotoAttributes
from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.metrics.attributes import AttributeChange, AttributeReader, range_shares
from gan_core.metrics.base import (
    ALIGNED,
    METRICS,
    Columns,
    Faces,
    Metric,
    RowMetric,
    ScoreName,
    Setting,
    State,
    States,
    Summary,
)
from gan_core.metrics.frechet import FrechetInceptionDistance
from gan_core.metrics.lpips import PerceptualDistance
from gan_core.metrics.swd import hash_keys

SAME = "same-person"
DRIFT = "-drift"
JUDGE_OF = {attribute.name: attribute.judge for attribute in ATTRIBUTES}


class FaceVectors(Metric):
    """A metric of the face embeddings of ``dlib-resnet``."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._loaded = JUDGES[CARD.name]()

    def identity(self) -> dict[str, Any]:
        return {"dlib_resnet_sha256": self._loaded.sha256}

    def embed(self, images: Tensor) -> np.ndarray:
        """Return the embeddings float64 ``[B, D]`` of FFHQ-aligned images ``[B, 3, S, S]`` in [-1, 1]."""
        return fetch(in_chunks(self._loaded.model, images)).astype(np.float64)


@METRICS.register("identity-distance")
class IdentityDistance(FaceVectors, RowMetric):
    """Distance from the aligned face, ``identity-distance/dlib-resnet/<picture>``, and whether it is below 0.6.

    The column ``same-person/dlib-resnet/<picture>`` is 1 where it is, so its total is the share of such rows.
    """

    name: ClassVar[str] = "identity-distance"
    faces: ClassVar[Faces] = "located"
    meaning: ClassVar[Meaning] = Meaning(
        "Identity distance",
        "",
        "lower",
        3,
        "Distance between the face embeddings of this image and the aligned one; below 0.6 it is the same person.",
    )
    share: ClassVar[Meaning] = Meaning(
        "Same person", "", "higher", 2, "Share of the images whose identity distance is below 0.6."
    )

    @classmethod
    def explain(cls, name: ScoreName, edits: Sequence[PlannedEdit] = ()) -> Meaning | None:
        return cls.share.by(name.extractor) if name.metric == SAME else super().explain(name, edits)

    @property
    def columns(self) -> list[str]:
        return [f"{what}/{CARD.name}/{picture}" for picture in self.setting.pictures for what in (self.name, SAME)]

    @torch.no_grad()
    def score(self, pictures: Pictures) -> Columns:
        source, columns = self.embed(pictures[ALIGNED]), Columns()
        for picture in self.setting.pictures:
            distance = np.linalg.norm(self.embed(pictures[picture]) - source, axis=1)
            columns[f"{self.name}/{CARD.name}/{picture}"] = distance
            columns[f"{SAME}/{CARD.name}/{picture}"] = (distance < SAME_PERSON).astype(np.float64)
        return columns


@METRICS.register("identity-pairs")
class IdentityPairs(FaceVectors):
    """Distances between the aligned faces of any two rows, for datasets in which each row shows another person.

    Totals: the mean ``other/dlib-resnet/aligned``, the smallest ``nearest-other/...``, and ``other-person/...``, the
    share that is not below 0.6. Of more than ``MOST`` rows those with the smallest hashes of their keys count.
    """

    name: ClassVar[str] = "identity-pairs"
    faces: ClassVar[Faces] = "located"
    MOST: ClassVar[int] = 1000
    meaning: ClassVar[Meaning] = Meaning(
        "Others", "", "higher", 3, "Mean identity distance between the faces of two rows."
    )
    meanings: ClassVar[dict[str, Meaning]] = {
        "other": meaning,
        "nearest-other": Meaning("Nearest others", "", "higher", 3, "Smallest identity distance of two rows."),
        "other-person": Meaning("Other person", "", "higher", 2, "Share of pairs of rows that are 0.6 or more apart."),
    }

    @classmethod
    def explain(cls, name: ScoreName, edits: Sequence[PlannedEdit] = ()) -> Meaning | None:
        found = cls.meanings.get(name.metric)
        return found and found.by(name.extractor)

    @torch.no_grad()
    def update(self, states: States, pictures: Pictures, columns: Columns) -> None:
        batch = {"hash": hash_keys(pictures.keys), "vector": self.embed(pictures[ALIGNED])}
        states[ALIGNED] = self.merge(states[ALIGNED], batch) if ALIGNED in states else batch

    @classmethod
    def merge(cls, one: State, other: State) -> State:
        hashes, vectors = (np.concatenate([one[name], other[name]]) for name in ("hash", "vector"))
        chosen = np.argsort(hashes, kind="stable")[: cls.MOST]
        return {"hash": hashes[chosen], "vector": vectors[chosen]}

    @classmethod
    def compute(cls, states: States) -> Summary:
        vectors = states[ALIGNED]["vector"] if ALIGNED in states else np.empty((0, 1))
        names = [f"{name}/{CARD.name}/{ALIGNED}" for name in cls.meanings]
        if len(vectors) < 2:
            return Summary(omitted=dict.fromkeys(names, f"{len(vectors)} rows have no pair: 2 are needed"))
        distances = pdist(vectors)
        values = [distances.mean(), distances.min(), (distances >= SAME_PERSON).mean()]
        return Summary(dict(zip(names, map(float, values), strict=True)))


@METRICS.register("perceptual")
class ImagenetDistance(PerceptualDistance):
    """``perceptual/efficientnet-lite0/<picture>`` of each reconstruction: made as LPIPS is, but it is not LPIPS."""

    name: ClassVar[str] = "perceptual"
    meaning: ClassVar[Meaning] = Meaning(
        "Perceptual distance", "", "lower", 3, "Distance between the maps of an ImageNet network; 0 is equal."
    )

    @staticmethod
    def load(setting: Setting) -> Loaded[PerceptualLoss]:
        return load_distance()

    def identity(self) -> dict[str, Any]:
        return {"efficientnet_lite0_sha256": self._sha256}


@METRICS.register("frechet")
class ImagenetFrechet(FrechetInceptionDistance):
    """``frechet/efficientnet-lite0/<picture>``: the Frechet distance of other features than FID's."""

    name = "frechet"
    label = "frechet"
    features = "efficientnet-lite0"
    faces: ClassVar[Faces] = ""
    meaning: ClassVar[Meaning] = Meaning(
        "Fréchet distance", "", "lower", 2, "Fréchet distance between the features of two sets; not comparable to FID."
    )


@METRICS.register("face-attributes")
class PhotoAttributeChange(AttributeChange):
    """Age, gender and smile: what an edit changed, and how far a reconstruction is from the aligned face.

    Per edit as ``attributes`` has it, such as ``age/age-v1/<edit>`` and ``side_effect/photos/<edit>``. Per
    reconstruction the absolute difference, ``age-drift/age-v1/<picture>``, as a share of the range (80 years).
    """

    name: ClassVar[str] = "face-attributes"
    faces: ClassVar[Faces] = "located"
    drift: ClassVar[Meaning] = Meaning(
        "", "", "lower", 3, "Difference from the aligned image, as a share of the attribute's range."
    )

    @classmethod
    def explain(cls, name: ScoreName, edits: Sequence[PlannedEdit] = ()) -> Meaning | None:
        attribute = name.metric.removesuffix(DRIFT)
        if name.metric.endswith(DRIFT) and attribute in JUDGE_OF:
            return replace(cls.drift, label=f"{attribute.capitalize()} drift").by(name.extractor)
        return None

    @classmethod
    def load(cls, setting: Setting) -> AttributeReader:
        return PhotoAttributes()

    @property
    def columns(self) -> list[str]:
        drifts = [self._column(f"{name}{DRIFT}", p) for p in self.setting.inversions for name in self.extractor.names]
        return drifts + super().columns

    def score(self, pictures: Pictures) -> Columns:
        before, columns = fetch(self.extractor.values(pictures, ALIGNED)), Columns()
        for picture in self.setting.inversions:
            shares = np.abs(range_shares(before, fetch(self.extractor.values(pictures, picture))))
            for index, name in enumerate(self.extractor.names):
                columns[self._column(f"{name}{DRIFT}", picture)] = shares[:, index]
        return columns | super().score(pictures)

    def _column(self, name: str, picture: str) -> str:
        judge = JUDGE_OF.get(name.removesuffix(DRIFT))
        return f"{name}/{judge}/{picture}" if judge else super()._column(name, picture)
