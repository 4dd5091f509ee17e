"""The sample dataset: toy portraits in the wild, some in unusual files that must work, some that must fail."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from gan_core.errors import ParamsError
from gan_core.rows import Row
from gan_core.storage.images import image_value
from gan_core.storage.readme import write_readme
from gan_core.storage.receipts import Receipt, code_version, content_key, write_receipt
from gan_core.storage.shards import IMAGE, ShardWriter, latent_type, shard_name
from gan_core.storage.urls import join_url
from gan_core.toy.params import SampleParams, load_toy_params
from gan_core.toy.planted import FORMATS, SPOILED, Frame, write_jpeg, write_png
from gan_core.toy.renderer import ATTRIBUTES, FACTOR_NAMES, render_wild, sample_factors

PLANTED: dict[str, str] = {f"bad/{name}": spoiled.status for name, spoiled in SPOILED.items()}
SAMPLE_VERSION = 1
ABOUT = "Toy portraits that `edit-dataset` draws itself, with files that must be rejected among them."
FIELDS = (
    pa.field("image", IMAGE),
    pa.field("landmarks", latent_type(5, 2)),
    pa.field("seed", pa.int64()),
    *(pa.field(name, pa.float32()) for name in ATTRIBUTES),
)


def write_sample(destination: str | Path, params: SampleParams) -> list[str]:
    """Write the sample dataset to a folder and return its shards' URLs; the same ``params`` give the same bytes.

    Rows have ``landmarks`` [5][2] (pixels, the first pixel's centre at (0, 0)) and, unless they are in ``PLANTED``, the
    ``seed`` of ``sample_factors`` and the attributes' values. Raises ``ParamsError`` for too few rows.
    """
    keys = sample_keys(params)
    ends = np.linspace(0, params.rows, params.shards + 1).astype(int).tolist()
    shards = [
        write_shard(join_url(destination, shard_name(i)), keys[begin:end], params.seed + begin)
        for i, (begin, end) in enumerate(pairwise(ends))
    ]
    write_readme(destination, shards[0], "toy portraits", [ABOUT], licence="apache-2.0")
    return shards


def sample_keys(params: SampleParams) -> list[str]:
    """Return the keys in order: plain portraits with the bad and the unusual files spread evenly among them."""
    special = [*PLANTED, *(f"formats/{name}" for name in FORMATS)]
    if params.rows < max(len(special), params.shards):
        raise ParamsError(f"sample.rows is {params.rows}: at least {max(len(special), params.shards)} are needed")
    special = [special[i] for i in np.random.Generator(np.random.PCG64(params.seed)).permutation(len(special))]
    places = {(2 * i + 1) * params.rows // (2 * len(special)): key for i, key in enumerate(special)}
    plain = (f"portraits/{params.seed + i}.{'jpg' if i % 4 == 0 else 'png'}" for i in range(params.rows))
    return [places.get(i, name) for i, name in enumerate(plain)]


def write_shard(url: str, keys: list[str], first_seed: int) -> str:
    """Write one shard of portraits in the wild, from the seeds ``first_seed ...``, and return its URL."""
    with ShardWriter(url, FIELDS) as writer:
        for i, key in enumerate(keys):
            writer.write([_make_row(key, first_seed + i)])
    identity = {"sample": SAMPLE_VERSION, "first_seed": first_seed, "keys": keys}
    write_receipt(
        url,
        Receipt(
            stage="source",
            key=content_key("source", code_version(SAMPLE_VERSION), identity, {}),
            input_keys={},
            output_sha256=writer.sha256,
            rows=dict(writer.statuses),
            seconds=0.0,
            code_version=code_version(SAMPLE_VERSION),
            identity=identity,
        ),
    )
    return url


def _make_row(key: str, seed: int) -> Row:
    factors = sample_factors([seed])
    (portrait,) = render_wild(factors, [seed])
    frame = Frame(Image.fromarray(portrait.image), portrait.landmarks.astype(np.float64) - 0.5)  # from half-integers
    base = {"key": key, "status": "ok", "reason": "", "stage": "source"}
    folder, name = key.split("/")
    if folder == "bad":
        data, landmarks = SPOILED[name].make(frame)
        return {**base, "image": image_value(data, key), "landmarks": landmarks}
    data = FORMATS[name](frame.image) if folder == "formats" else _encode(name, frame.image)
    truth = {n: v for n, v in zip(FACTOR_NAMES, factors[0].tolist(), strict=True) if n in ATTRIBUTES}
    return {**base, "image": image_value(data, key), "landmarks": frame.landmarks, "seed": seed, **truth}


def _encode(name: str, image: Image.Image) -> bytes:
    return write_jpeg(image) if name.endswith(".jpg") else write_png(image)


def main() -> None:
    """Write the sample dataset of ``toy.yaml``."""
    write_sample("data/sample", load_toy_params().sample)


if __name__ == "__main__":
    main()
