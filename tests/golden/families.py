"""Filling rules of the editing families, on top of ``fill``: (expression searched in the key, a, b) for a + b x."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, from_numpy

from tests.golden.fill import fill, keys

KEPT = ("kernel", "num_batches_tracked", "_num_evals", "lod", "sv0", "w_avg")
LINES: dict[str, list[tuple[str, float, float]]] = {
    "equalised": [(r"bias$", 0, 0.1), ("", 0, 1)],
    "proggan": [(r"conv\.weight$", 0, 1), (r"wscale\.b$", 0, 0.1)],
    "biggan": [
        (r"^shared\.weight$", 0, 1),
        (r"stored_mean$", 0, 0.1),
        (r"gamma$", 0.5, 0.1),
        (r"layer\.0\.gain$", 0.3, 0.03),
    ],
    "biggan-deep": [
        (r"running_means$", 0, 0.1),
        (r"gamma$", 0.5, 0.1),
        (r"embeddings\.weight$", 0, 1),
        (r"generator\.bn\.weight$", 0.1, 0.01),
    ],
    "rbf": [(r"^SUPPORT_SETS$", 0, 0.25), (r"^LOGGAMMA$", -5, 0.1)],
}
BY_FAN_IN = {"biggan-deep": (r"weight_orig$", 1), "flow": (r"_layer\.weight$", 3)}


def filled(listing: str, rule: str = "plain", salt: str = "public") -> dict[str, Tensor]:
    """Fill the state dict of a key listing, but for the tensors that keep what their module builds."""
    shapes = keys(listing)
    state = {key: _one(key, shape, salt, rule) for key, shape in shapes.items() if not key.endswith(KEPT)}
    for key in shapes:
        if key.endswith("wscale.scale"):
            state[key] = _scale(key, shapes, salt)
        elif key.endswith("weight_u"):
            state |= _singular(key, state)
        elif alias := re.match(r"(model\.\d+)\.conv([12])\.(weight|bias)$", key):
            state[key] = state[f"{alias[1]}.model.{3 * int(alias[2])}.{alias[3]}"]
    return {key: from_numpy(np.asarray(value, dtype=np.float32)) for key, value in state.items()}


def raw(name: str, *shape: int) -> Tensor:
    """Return the generated input ``name``."""
    return from_numpy(fill(f"input:{name}", shape, rule="raw"))


def _one(key: str, shape: Sequence[int], salt: str, rule: str) -> np.ndarray:
    x = fill(key, shape, salt, "raw")
    if key.endswith(("stored_var", "running_vars")):
        return 1 + 0.1 * np.abs(x)
    expression, gain = BY_FAN_IN.get(rule, ("$^", 0))
    if re.search(expression, key):
        return x * np.float32(gain / math.sqrt(math.prod(shape[1:])))
    line = next(((a, b) for pattern, a, b in LINES.get(rule, []) if re.search(pattern, key)), None)
    return fill(key, shape, salt) if line is None else line[0] + line[1] * x


def _scale(key: str, shapes: Mapping[str, Sequence[int]], salt: str) -> np.ndarray:
    fan_in = math.prod(shapes[key.replace("wscale.scale", "conv.weight")][1:])
    gain = 1 if key.startswith("output") else 2
    return math.sqrt(gain / fan_in) * (1 + 0.05 * fill(key, shapes[key], salt, "raw"))


def _singular(key: str, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    stem = key.removesuffix("weight_u")
    u = state[key] = np.asarray(fill(key, state[key].shape, rule="raw"))
    u = u / np.linalg.norm(u)
    v = state[f"{stem}weight_orig"].reshape(len(u), -1).T @ u
    return {key: u, f"{stem}weight_v": v / np.linalg.norm(v)}
