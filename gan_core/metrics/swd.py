"""Sliced Wasserstein distance between Laplacian pyramids, as defined by ProGAN (Karras et al. 2018, section 5)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from gan_core.device import LARGE, fetch, place_array
from gan_core.editing.planned import PlannedEdit
from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.metrics.base import (
    ALIGNED,
    METRICS,
    Columns,
    Metric,
    ScoreName,
    State,
    States,
    Summary,
    TooFewError,
)
from gan_core.storage.images import to_uint8

COARSEST = 16
PATCH = 7
PATCHES_PER_IMAGE = 128
REPEATS = 4
DIRECTIONS = 128
SEED = 0
CHUNK = 64
MINIMUM = 32


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Images ``[N, 3, R, R]`` float32 in [0, 255] -> details per level from R down to 16, and the rest at 16."""
    levels = [images]
    while levels[-1].shape[-1] > COARSEST:
        smaller = _smooth(levels[-1], 1.0)[:, :, ::2, ::2]
        levels[-1] = levels[-1] - _enlarge(smaller)
        levels.append(smaller)
    return levels


def draw_places(count: int, side: int, per_image: int, rng: np.random.RandomState) -> np.ndarray:
    """Random middles of patches in ``count`` images of ``side`` px: ``[2, count, per_image]``, all x, then all y."""
    half = PATCH // 2
    places = [rng.randint(half, side - half, size=(count * per_image, 1, 1, 1)) for _ in range(2)]
    return np.stack(places).reshape(2, count, per_image)


def cut_patches(level: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Patches of images ``[N, 3, R, R]`` at ``places [2, N, P]``: ``[N * P, 3, 7, 7]``, x before y, as published."""
    count, per_image = places.shape[1:]
    across, down = places.reshape(2, -1, 1, 1, 1)
    image = np.arange(count).repeat(per_image)[:, None, None, None]
    channel = np.arange(3)[None, :, None, None]
    offset = np.arange(-(PATCH // 2), PATCH // 2 + 1)
    patches: np.ndarray = level[
        image, channel, down + offset[None, None, None, :], across + offset[None, None, :, None]
    ]
    return patches


def normalise(patches: np.ndarray) -> np.ndarray:
    """Patches -> rows ``[N, 147]``, each channel with zero mean and unit deviation over all patches."""
    patches = patches - patches.mean(axis=(0, 2, 3), keepdims=True)
    deviation = patches.std(axis=(0, 2, 3), keepdims=True)
    flat: np.ndarray = patches / np.where(deviation > 0, deviation, 1)
    return flat.reshape(len(flat), -1)


def sliced_distance(one: np.ndarray, other: np.ndarray, rng: np.random.RandomState) -> float:
    """Mean difference of sorted projections of two equal-sized sets ``[N, D]`` onto random directions."""
    results = []
    for _ in range(REPEATS):
        axes = rng.randn(one.shape[1], DIRECTIONS)
        axes = (axes / np.sqrt(np.square(axes).sum(0, keepdims=True))).astype(np.float32)
        results.append(np.abs(np.sort(one @ axes, axis=0) - np.sort(other @ axes, axis=0)).mean())
    return float(np.mean(results))


def describe(images: np.ndarray, rng: np.random.RandomState, chunk: int = CHUNK) -> dict[int, np.ndarray]:
    """Images uint8 ``[N, R, R, 3]`` -> normalised patches by the resolution of their level.

    Places are drawn for ``chunk`` images at a time, as published; pyramids of large images are built for fewer.
    """
    side = images.shape[1]
    sides = [side >> i for i in range((side // COARSEST).bit_length())]
    few = max(1, chunk * LARGE**2 // max(side, LARGE) ** 2)
    gathered: dict[int, list[np.ndarray]] = {}
    for start in range(0, len(images), chunk):
        block = images[start : start + chunk]
        places = [draw_places(len(block), n, PATCHES_PER_IMAGE, rng) for n in sides]
        for i in range(0, len(block), few):
            part = place_array(block[i : i + few].astype(np.float32)).permute(0, 3, 1, 2).contiguous()
            for level, at in zip(laplacian_pyramid(part), places, strict=True):
                gathered.setdefault(level.shape[-1], []).append(cut_patches(fetch(level), at[:, i : i + few]))
    return {resolution: normalise(np.concatenate(patches)) for resolution, patches in gathered.items()}


def sliced_wasserstein(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """SWD x 1000 of two sets of images uint8 ``[N, R, R, 3]``, by resolution (``"64"``, ``"32"``, ...), and ``"mean"``.

    R is 16 times a power of two. Both sets have the same number of images, at least ``MINIMUM``, else ``TooFewError``.
    """
    if len(real) != len(fake) or len(real) < MINIMUM:
        raise TooFewError(f"needs at least {MINIMUM} rows in both sets, there are {len(real)} and {len(fake)}")
    if (size := real.shape[1]) % COARSEST or (size // COARSEST) & (size // COARSEST - 1) or size != real.shape[2]:
        raise TooFewError(f"needs square images of {COARSEST} x 2^k pixels, these have {real.shape[2]} x {size}")
    if real.shape != fake.shape:
        raise TooFewError(f"needs images of {size} px in both sets, these have {fake.shape[2]} x {fake.shape[1]}")
    rng = np.random.RandomState(SEED)
    ours, theirs = describe(real, rng), describe(fake, rng)
    distances = {str(r): 1000 * sliced_distance(ours[r], theirs[r], rng) for r in ours}
    return distances | {"mean": float(np.mean(list(distances.values())))}


def sample(keys: Sequence[str], images: np.ndarray, size: int) -> State:
    """The ``size`` of the images uint8 ``[N, R, R, 3]`` whose keys hash lowest.

    This sample depends on neither order nor shards.
    """
    return lowest({"hash": hash_keys(keys), "image": images}, size)


def hash_keys(keys: Iterable[str]) -> np.ndarray:
    """The first 64 bits of the sha256 of each key, uint64 ``[N]``."""
    return np.array([int.from_bytes(sha256(key.encode()).digest()[:8], "big") for key in keys], np.uint64)


def lowest(state: State, size: int) -> State:
    """The ``size`` entries of a sample with the lowest hashes, in their order."""
    order = np.argsort(state["hash"], kind="stable")[:size]
    return {"hash": state["hash"][order], "image": state["image"][order], "size": np.asarray(size)}


@METRICS.register("swd")
class SlicedWasserstein(Metric):
    """``swd/<resolution>/<picture>`` and ``swd/mean/<picture>``: reconstructions against the aligned images.

    Over the ``measure.swd_images`` rows whose keys hash lowest, or all rows if there are fewer. With
    ``measure.swd_edits`` edits as well.
    """

    name: ClassVar[str] = "swd"
    meaning: ClassVar[Meaning] = Meaning(
        "SWD", "", "lower", 1, "Sliced Wasserstein distance × 1000 between patches of two sets of images."
    )

    @classmethod
    def explain(cls, name: ScoreName, edits: Sequence[PlannedEdit] = ()) -> Meaning | None:
        if name.metric != cls.name:
            return None
        if name.extractor in ("", "mean"):
            return cls.meaning
        sentence = "The part of it at one level of the Laplacian pyramid."
        return replace(cls.meaning, label=f"SWD at {name.extractor} px", sentence=sentence, headline=False)

    def update(self, states: States, pictures: Pictures, columns: Columns) -> None:
        params = self.setting.params
        for picture in (ALIGNED, *(self.setting.pictures if params.swd_edits else self.setting.inversions)):
            batch = sample(pictures.keys, to_uint8(pictures[picture]), params.swd_images)
            states[picture] = self.merge(states[picture], batch) if picture in states else batch

    @classmethod
    def merge(cls, one: State, other: State) -> State:
        """Return the sample of both parts together; raises ``ValueError`` for images of two sizes."""
        if one["image"].shape[1:] != other["image"].shape[1:]:
            raise ValueError(f"images of {one['image'].shape[1:]} and {other['image'].shape[1:]} can't be one sample")
        together = {name: np.concatenate([one[name], other[name]]) for name in ("hash", "image")}
        return lowest(together, int(one["size"]))

    @classmethod
    def compute(cls, states: States) -> Summary:
        summary = Summary()
        for picture, state in states.items():
            if picture == ALIGNED:
                continue
            try:
                distances = sliced_wasserstein(states[ALIGNED]["image"], state["image"])
            except TooFewError as error:
                summary.omitted[f"swd/mean/{picture}"] = str(error)
            else:
                summary.values |= {f"swd/{level}/{picture}": value for level, value in distances.items()}
        return summary


def _smooth(images: Tensor, gain: float) -> Tensor:
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    kernel = (gain * torch.outer(row, row)).expand(images.shape[1], 1, 5, 5)
    return conv2d(pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=images.shape[1])


def _enlarge(images: Tensor) -> Tensor:
    count, channels, height, width = images.shape
    spread = images.new_zeros(count, channels, 2 * height, 2 * width)
    spread[:, :, ::2, ::2] = images
    return _smooth(spread, 4.0)
