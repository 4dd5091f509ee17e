"""StyleGAN2 with a pSp encoder through align, encode and edit with random weights: small, and at the published size."""

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from gan_core.align.stage import AlignStage
from gan_core.checkpoints.store import Card, model_tensors, save_checkpoint
from gan_core.data.images import decode_image, encode_png
from gan_core.data.run_stage import run_stage
from gan_core.data.shards import IMAGE, ShardWriter, read_rows
from gan_core.editing.directions import Direction, save_directions
from gan_core.editing.stage import EditStage
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.encoders.stage import EncodeStage
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.params import AlignParams, EditParams, EncodeParams, ModelPaths

ABOUT: dict[str, Any] = {"made_by": "a test", "licence": "none", "source": "random weights"}
MAX_GIGABYTES = 8


SMALL_ENCODER = {"n_latent": 10, "style_dim": 32, "input_size": 64, "units": [1, 1, 1, 1], "width": 8}
SIZES: dict[int, Any] = {
    64: ({"style_dim": 32, "n_mlp": 2, "channels": {4 << i: 8 for i in range(5)}}, SMALL_ENCODER),
    1024: ({}, {}),
}


def write_models(folder: Path, size: int) -> ModelPaths:
    """Write a generator of ``size`` px (1024: as published), a pSp encoder for it and a direction; random weights."""
    torch.manual_seed(0)
    paths = {name: str(folder / f"{name}.safetensors") for name in ("generator", "encoder", "directions")}
    generator, encoder = StyleGAN2(size, **SIZES[size][0]), GradualStyleEncoder(**SIZES[size][1])
    card = Card(kind="generator", name="stylegan2", arguments=generator.arguments, space="w", **ABOUT)
    sha256 = save_checkpoint(paths["generator"], model_tensors(generator), card)
    card = Card(kind="encoder", name="psp", arguments=encoder.arguments, generator_sha256=sha256, **ABOUT)
    save_checkpoint(paths["encoder"], model_tensors(encoder), card)
    save_directions(paths["directions"], [Direction("smile", torch.randn(generator.w_dim), sha256)], made_by="a test")
    return ModelPaths(**paths)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [64, pytest.param(1024, marks=pytest.mark.slow)])
def test_a_row_goes_through_within_bounded_memory(size: int, tmp_path: Path) -> None:
    models = write_models(tmp_path, size)
    pixels = np.random.default_rng(0).integers(0, 256, (size + 76, size + 276, 3), dtype=np.uint8)
    with ShardWriter(str(tmp_path / "source" / "s.parquet"), [pa.field("image", IMAGE)]) as writer:
        image = {"bytes": encode_png(pixels), "path": "a.png"}
        writer.write([{"key": "a", "status": "ok", "reason": "", "stage": "import", "image": image}])
    align = AlignParams(landmarks="centre", size=size, transform_size=size)
    edits = [EditParams(direction="smile", strengths=[1])]
    seconds = {}
    for name, build in {
        "align": lambda: AlignStage(str(tmp_path / "source"), align),
        "encode": lambda: EncodeStage(EncodeParams(), models, 1),
        "edit": lambda: EditStage(edits, models, False, 1),
    }.items():
        begin = time.perf_counter()
        assert run_stage(build(), "s.parquet", str(tmp_path / "run")).rows == {"ok": 1}
        seconds[name] = round(time.perf_counter() - begin, 1)
    (row,) = next(iter(read_rows(str(tmp_path / "run" / "edit" / "s.parquet"))))
    assert decode_image(row["smile@+1"]["bytes"], 2 << 20).size == (size, size)
    print(f"seconds per stage for one row: {seconds}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 < MAX_GIGABYTES
