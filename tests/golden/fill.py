"""Weights and inputs of the golden numbers: none is stored, each follows from its key, the salt and a rule."""

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
KEPT_AS_BUILT = ("kernel", "resample_filter", "num_batches_tracked")
PRELU = re.compile(r"(input_layer|res_layer)\.2\.weight$|prelu\d*\.weight$")
SLOW_MAPPING = re.compile(r"(^|\.)(style\.\d+|mapping\.fc\d+)\.(weight|bias)$")


def fill(key: str, shape: Sequence[int], salt: str = "public", rule: str = "plain") -> np.ndarray:
    """Return the float32 array of ``key`` under a rule: ``plain``, ``he``, ``psp``, ``stylegan2``, ``soat`` or ``raw``.

    ``soat`` is ``stylegan2`` with an image that stays inside the clamp of that program.
    """
    stream = np.random.RandomState(zlib.crc32(f"{salt}:{key}".encode()))
    x = np.asarray(stream.standard_normal(tuple(shape)), dtype=np.float32)
    return np.asarray(x if rule == "raw" else _scaled(x, key, rule), dtype=np.float32)


def pattern(height: int, width: int) -> np.ndarray:
    """Return the test image of golden files, ``uint8 [H, W, 3]``."""
    y, x, c = np.ogrid[:height, :width, :3]

    def triangle(t: np.ndarray, period: np.ndarray) -> np.ndarray:
        return np.abs(t % (2 * period) - period) * 255 // period

    return ((triangle(x + y // 2, 37 + 11 * c) + triangle(3 * y - x, 53 + 7 * c)) // 2).astype(np.uint8)


def fill_state(shapes: Mapping[str, Sequence[int]], salt: str = "public", rule: str = "plain") -> dict[str, np.ndarray]:
    """Fill every key but the buffers that keep the values their module builds (blur kernels, counters)."""
    return {key: fill(key, shape, salt, rule) for key, shape in shapes.items() if _last(key) not in KEPT_AS_BUILT}


def keys(name: str) -> dict[str, list[int]]:
    """Return the listing ``tests/golden/keys/<name>.json``: state-dict key -> shape."""
    return json.loads((HERE / "keys" / f"{name}.json").read_text())["keys"]


def golden(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of ``tests/golden/<name>.npz`` and their ``meta``."""
    with np.load(HERE / f"{name}.npz") as stored:
        arrays = {key: stored[key] for key in stored.files if key != "meta"}
        return arrays, json.loads(str(stored["meta"]))


def relative_error(actual: Any, expected: Any) -> float:
    """Return the largest absolute difference as a share of the largest absolute expected value."""
    actual, expected = (np.asarray(x, dtype=np.float64) for x in (actual, expected))
    if actual.shape != expected.shape:
        raise ValueError(f"shapes differ: {actual.shape} and {expected.shape}")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def relative_error_of(actual: Any, key: str, stored: tuple[dict[str, np.ndarray], dict[str, Any]]) -> float:
    """Return the error of what ``golden`` stores as ``key``: all of it, or every n-th value of its shape."""
    arrays, meta = stored
    if key in arrays:
        return relative_error(actual, arrays[key])
    about, values = meta["subsampled"][key], np.asarray(actual)
    if list(values.shape) != about["shape"]:
        raise ValueError(f"shapes differ: {values.shape} and {about['shape']}")
    return relative_error(values.reshape(-1)[:: about["stride"]], arrays[f"{key}__sub"])


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _scaled(x: np.ndarray, key: str, rule: str) -> np.ndarray:
    name = _last(key)
    if name == "running_mean":
        return 0.1 * x
    if name == "running_var":
        return 1 + 0.1 * np.abs(x)
    if rule == "soat" and re.search(r"to_rgb.*conv\.weight$", key):
        return 0.1 * x
    if rule in ("stylegan2", "soat"):
        return _stylegan2(x, key, name)
    if name.endswith("bias"):
        return 0.1 * x
    return _weight(x, key, rule) if name.endswith("weight") else x


def _stylegan2(x: np.ndarray, key: str, name: str) -> np.ndarray:
    if key.endswith("noise.weight") or key.endswith("noise_strength"):
        return 0.3 * x
    if key.endswith(("modulation.bias", "affine.bias")):
        return 1 + 0.1 * x
    slow = SLOW_MAPPING.search(key) is not None
    if name.endswith("bias"):
        return 0.1 * x / 0.01 if slow else 0.1 * x
    return x / 0.01 if slow else x


def _weight(x: np.ndarray, key: str, rule: str) -> np.ndarray:
    if x.ndim == 1:
        return 0.25 + 0.02 * x if PRELU.search(key) else 1 + 0.1 * x
    if rule == "psp" and (key == "linear.weight" or key.endswith(".linear.weight")):
        return x
    return x * math.sqrt((2.0 if rule == "he" else 1.0) / math.prod(x.shape[1:]))
