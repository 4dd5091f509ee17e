"""FID: the Frechet distance between Gaussians fitted to the features of two sets (Heusel et al. 2017, eq. 6)."""

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from gan_core.device import fetch
from gan_core.judges.extractors import EXTRACTORS
from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.metrics.base import ALIGNED, METRICS, Columns, Faces, Metric, Setting, State, States, Summary, TooFewError


def gather(features: np.ndarray) -> State:
    """Features ``[N, D]`` -> count, sum and sum of outer products, in float64."""
    features = features.astype(np.float64)
    return {"n": np.asarray(float(len(features))), "sum": features.sum(0), "outer": features.T @ features}


def gather_positions(maps: Tensor) -> State:
    """Feature maps ``[B, C, h, w]`` -> the statistics of their positions, which the FID of single images compares.

    Two images' distance by ``frechet_distance`` is SIFID (Rott Shaham et al. 2019), with their features.
    """
    return gather(fetch(maps.movedim(1, 3).flatten(0, 2)))


def mean_and_covariance(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[D]`` and unbiased covariance ``[D, D]``; raises ``TooFewError`` below two samples."""
    n = float(state["n"])
    if n < 2:
        raise TooFewError(f"a covariance needs at least 2 samples, there are {n:.0f}")
    mean = state["sum"] / n
    return mean, (state["outer"] - n * np.outer(mean, mean)) / (n - 1)


def frechet_distance(one: State, other: State) -> float:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of two gathered sets, at least 0.

    Exact for singular covariances too: the trace of the root is the sum of the roots of the eigenvalues of the
    symmetric ``C1^(1/2) C2 C1^(1/2)``. Raises ``TooFewError`` below two samples on either side.
    """
    (mean, covariance), (other_mean, other_covariance) = mean_and_covariance(one), mean_and_covariance(other)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(_without_rounding(values)) @ vectors.T
    overlap = np.sqrt(_without_rounding(np.linalg.eigvalsh(root @ other_covariance @ root))).sum()
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * overlap
    return max(0.0, float(np.square(mean - other_mean).sum() + spread))


def _without_rounding(eigenvalues: np.ndarray) -> np.ndarray:
    """Set to 0 what is below the rounding of the largest: its root would not be small any more."""
    noise = eigenvalues.max(initial=0.0) * len(eigenvalues) * np.finfo(np.float64).eps
    return np.where(eigenvalues > noise, eigenvalues, 0.0)


@METRICS.register("fid")
class FrechetInceptionDistance(Metric):
    """``fid/<extractor>/<picture>``: reconstructions and edits against the aligned images.

    Left out while there are no more rows than features: the fitted covariance would be singular. ``label`` is the first
    part of the names, and ``features`` the extractor.
    """

    name: ClassVar[str] = "fid"
    faces: ClassVar[Faces] = "pictures"  # of the features: they come from portraits' attributes
    meaning: ClassVar[Meaning] = Meaning(
        "FID", "", "lower", 2, "Fréchet distance between the features of two sets of images; 0 means equal."
    )
    features: ClassVar[str] = "toy-attr"
    label: ClassVar[str] = "fid"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.extractor = EXTRACTORS.get(self.features)(setting.models)

    def identity(self) -> dict[str, Any]:
        return self.extractor.identity()

    def update(self, states: States, pictures: Pictures, columns: Columns) -> None:
        for picture in (ALIGNED, *self.setting.pictures):
            batch, name = gather(fetch(self.extractor.of(pictures, picture))), f"{self.extractor.name}/{picture}"
            states[name] = self.merge(states[name], batch) if name in states else batch

    @classmethod
    def compute(cls, states: States) -> Summary:
        summary = Summary()
        for name, state in states.items():
            extractor, picture = name.split("/", 1)
            if picture == ALIGNED:
                continue
            count, dim = int(state["n"]), len(state["sum"])
            if count <= dim:
                summary.omitted[f"{cls.label}/{name}"] = f"needs more than {dim} rows, there are {count}"
            else:
                summary.values[f"{cls.label}/{name}"] = frechet_distance(states[f"{extractor}/{ALIGNED}"], state)
        return summary


@METRICS.register("fid-inception")
class PublishedFid(FrechetInceptionDistance):
    """``fid/inception/<picture>``: the published FID, images resized as pytorch-fid does."""

    name = "fid-inception"
    features = "inception"
    faces: ClassVar[Faces] = ""


@METRICS.register("fid-inception-clean")
class CleanFid(FrechetInceptionDistance):
    """``fid/inception-clean/<picture>``: the published FID, images resized as clean-fid does (Parmar et al. 2022)."""

    name = "fid-inception-clean"
    features = "inception-clean"
    faces: ClassVar[Faces] = ""
