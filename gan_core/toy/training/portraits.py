"""The toy portraits that the embedded models learn from, rendered once into memory-mapped arrays.

``python -m gan_core.toy.training.portraits`` renders both splits, unless they are there.
"""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gan_core.errors import DataError
from gan_core.storage.atomic import write_bytes
from gan_core.storage.images import to_uint8
from gan_core.toy import renderer as toy
from gan_core.toy.gan_params import FeatureParams
from gan_core.toy.params import load_toy_params
from gan_core.toy.renderer import FACTORS, SEGMENTATION_LABELS, render, sample_factors

FOLDER = Path("data/portraits")
MADE_FROM = "made_from.json"
BATCH = 64


@dataclass(frozen=True)
class PortraitSet:
    """Aligned toy portraits with their truth; arrays may be memory-mapped."""

    image: NDArray[np.uint8]
    """``[N, 64, 64, 3]``"""
    segmentation: NDArray[np.uint8]
    """``[N, 64, 64]`` label ids of ``gan_core.toy.renderer.SEGMENTATION_LABELS``"""
    factors: NDArray[np.float32]
    """``[N, F]`` in the units of ``gan_core.toy.renderer.FACTORS``"""

    def __len__(self) -> int:
        return len(self.image)

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """Float images ``[B, 3, 64, 64]`` in [-1, 1] (channels last in memory) of the given rows."""
        return torch.from_numpy(self.image[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1

    def weights(self, rows: NDArray[np.int64], params: FeatureParams) -> Tensor:
        """``[B, 1, 64, 64]``: 1 and, up to ``feature_reach`` pixels from a feature, its weight (the largest)."""
        more = torch.tensor([params.feature_weights.get(name, 0.0) for name in SEGMENTATION_LABELS])
        shown = more[torch.from_numpy(self.segmentation[rows]).long()][:, None]
        return 1 + F.max_pool2d(shown, 2 * params.feature_reach + 1, stride=1, padding=params.feature_reach)


def gaussian_from_factors(factors: Tensor) -> Tensor:
    """Inverse of ``gan_core.toy.renderer.factors_from_gaussian``: factor values ``[B, F]`` -> noise ``[B, F]``."""
    low = factors.new_tensor([f.low for f in FACTORS])
    high = factors.new_tensor([f.high for f in FACTORS])
    return torch.special.ndtri(((factors - low) / (high - low)).clamp(1e-6, 1 - 1e-6))


def render_portraits(folder: Path, count: int, seed: int) -> None:
    """Render ``count`` portraits from the seeds ``seed ...`` into ``folder``, one array file a field, on all cores."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "factors.npy", sample_factors(range(seed, seed + count)).numpy())
    shapes = {"image": (count, 64, 64, 3), "segmentation": (count, 64, 64)}
    for name, shape in shapes.items():
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(_render_batch, *zip(*((folder, start) for start in range(0, count, BATCH)), strict=True)):
            pass


def _render_batch(folder: Path, start: int) -> None:
    rows = slice(start, start + BATCH)
    portraits = render(torch.from_numpy(np.load(folder / "factors.npy", mmap_mode="r")[rows].copy()))
    np.load(folder / "image.npy", mmap_mode="r+")[rows] = to_uint8(portraits.image)
    np.load(folder / "segmentation.npy", mmap_mode="r+")[rows] = portraits.segmentation.numpy()


def ensure_portraits(folder: Path, count: int, seed: int) -> None:
    """Render unless ``folder`` holds just these portraits already, drawn by the renderer as it is now."""
    made_from = {"count": count, "seed": seed, "renderer": renderer_sha256()}
    note = folder / MADE_FROM
    if note.exists() and json.loads(note.read_text()) == made_from:
        return
    note.unlink(missing_ok=True)
    render_portraits(folder, count, seed)
    write_bytes(note, json.dumps(made_from).encode())


def renderer_sha256() -> str:
    """Return the hash of the renderer's source."""
    sources = sorted(Path(toy.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def load_portraits(split: str, folder: Path = FOLDER) -> PortraitSet:
    """Open a split (``train`` or ``held_out``); raises ``DataError`` when it was not rendered yet."""
    try:
        return PortraitSet(
            **{name: np.load(folder / split / f"{name}.npy", mmap_mode="r") for name in PortraitSet.__annotations__}
        )
    except FileNotFoundError:
        raise DataError(
            f"no portraits in {folder / split}: run `python -m gan_core.toy.training.portraits` (about 6 minutes)"
        ) from None


def main() -> None:
    """Render the splits that ``toy.yaml`` asks for."""
    params = load_toy_params().portraits
    ensure_portraits(FOLDER / "held_out", params.held_out_images, params.held_out_seed)
    ensure_portraits(FOLDER / "train", params.train_images, params.seed)


if __name__ == "__main__":
    main()
