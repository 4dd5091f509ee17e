"""Aligned toy portraits with what the tasks see beside them: label maps, sketches, small pictures and masks.

``python -m gan_core.toy.translation_sample`` writes ``data/translation-sample``, with rows among them that must fail.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from gan_core.errors import ParamsError
from gan_core.rows import Row
from gan_core.storage.images import encode_png, image_value, to_uint8
from gan_core.storage.shards import IMAGE, ShardWriter, shard_name
from gan_core.storage.urls import join_url
from gan_core.toy.params import SampleParams, load_toy_params
from gan_core.toy.renderer import ATTRIBUTES, FACTOR_NAMES, SEGMENTATION_LABELS, render, sample_factors
from gan_core.translation.degradations import reduce_pixels
from gan_core.translation.masks import draw_mask

FOLDER = Path("data/translation-sample")
SEED_AFTER = 500_000
"""So far from the seeds of the sample in the wild."""
SMALL_FACTOR = 8
SPOILED: dict[str, tuple[str, str]] = {
    "bad/unknown-class.png": ("labels", "bad_labels"),
    "bad/coloured-labels.png": ("labels", "bad_labels"),
    "bad/whole-mask.png": ("mask", "bad_mask"),
    "bad/odd-size.png": ("small", "bad_size"),
}
"""Keys of rows with one bad cell: its column, and the status of a run that reads it."""
FIELDS = (
    *(pa.field(name, IMAGE) for name in ("image", "labels", "sketch", "small", "mask")),
    pa.field("seed", pa.int64()),
    *(pa.field(name, pa.float32()) for name in ATTRIBUTES),
)


def write_translation_sample(destination: str | Path, params: SampleParams) -> list[str]:
    """Write the shards to a folder and return their URLs; the same ``params`` give the same bytes.

    ``labels`` are class ids as grey values, ``sketch`` lines 0 on paper 255, ``small`` the portrait reduced by 8,
    ``mask`` white where a box hides it. Raises ``ParamsError`` for fewer rows than must fail.
    """
    if params.rows < len(SPOILED):
        raise ParamsError(f"sample.rows is {params.rows}: at least {len(SPOILED)} are needed")
    first = params.seed + SEED_AFTER
    spoiled = {(2 * i + 1) * params.rows // (2 * len(SPOILED)): key for i, key in enumerate(SPOILED)}
    keys = [spoiled.get(i, f"portraits/{first + i}.png") for i in range(params.rows)]
    ends = np.linspace(0, params.rows, params.shards + 1).astype(int).tolist()
    urls = []
    for index, (begin, end) in enumerate(pairwise(ends)):
        urls.append(join_url(destination, shard_name(index)))
        with ShardWriter(urls[-1], FIELDS) as writer:
            writer.write(make_rows(keys[begin:end], first + begin))
    return urls


def make_rows(keys: list[str], first_seed: int) -> list[Row]:
    """Render one row a key, from consecutive seeds."""
    factors = sample_factors(range(first_seed, first_seed + len(keys)))
    drawn = render(factors)
    images, rows = to_uint8(drawn.image), []
    for i, key in enumerate(keys):
        cells = {
            "image": images[i],
            "labels": _grey(drawn.segmentation[i].numpy()),
            "sketch": _grey((drawn.sketch[i, 0] * 255).byte().numpy()),
            "small": reduce_pixels(images[i], SMALL_FACTOR),
            "mask": _grey(255 * draw_mask("box", 64, torch.Generator().manual_seed(first_seed + i)).byte().numpy()),
        }
        if key in SPOILED:
            _spoil(key, cells)
        values = dict(zip(FACTOR_NAMES, factors[i].tolist(), strict=True))
        row: dict[str, Any] = {"key": key, "status": "ok", "reason": "", "stage": "source", "seed": first_seed + i}
        row |= {name: image_value(encode_png(pixels), key) for name, pixels in cells.items()}
        rows.append(row | {name: values[name] for name in ATTRIBUTES})
    return rows


def _spoil(key: str, cells: dict[str, np.ndarray]) -> None:
    if key == "bad/unknown-class.png":
        cells["labels"] = np.full_like(cells["labels"], len(SEGMENTATION_LABELS))
    elif key == "bad/coloured-labels.png":
        cells["labels"] = cells["image"]
    elif key == "bad/whole-mask.png":
        cells["mask"] = np.full_like(cells["mask"], 255)
    else:
        cells["small"] = cells["image"][:24, :24]


def _grey(values: np.ndarray) -> np.ndarray:
    return values[..., None].repeat(3, 2)


if __name__ == "__main__":
    write_translation_sample(FOLDER, load_toy_params().sample)
