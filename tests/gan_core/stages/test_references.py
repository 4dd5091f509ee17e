"""Rows that edits refer to are the run's own, aligned and encoded."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from gan_core.errors import ParamsError
from gan_core.params import Params, check_params
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.stages.references import SourceLatents
from gan_core.storage.shards import IMAGE, ShardWriter, latent_type, list_shards, read_rows


@pytest.fixture(scope="module")
def params(tiny_models: dict[str, str]) -> Params:
    return check_params({"models": tiny_models})


@pytest.fixture
def latents_of(params: Params, tiny_dataset: str) -> SourceLatents:
    return SourceLatents(
        tiny_dataset, lambda: [build_stage(name, params, tiny_dataset) for name in ("align", "encode")]
    )


def test_latents_are_those_of_the_run(
    params: Params, tiny_dataset: str, latents_of: SourceLatents, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("run")
    shard = list_shards(tiny_dataset)[1].rpartition("/")[2]
    for name in ("align", "encode"):
        run_stage(build_stage(name, params, tiny_dataset), shard, output)
    rows = [row for rows in read_rows(output / "encode" / shard) for row in rows]
    keys = [row["key"] for row in rows]
    found = latents_of([keys[1], keys[0], keys[1]])
    assert torch.equal(found[0], found[2])
    np.testing.assert_array_equal(found[:2].numpy(), np.stack([rows[1]["latent"], rows[0]["latent"]]))


def test_a_key_is_found_in_any_unicode_form_and_its_own_comes_first(
    params: Params, tiny_dataset: str, tmp_path: Path
) -> None:
    rows = [row for shard in list_shards(tiny_dataset) for part in read_rows(shard) for row in part]
    rows = [row for row in rows if row["key"].startswith("portraits/")][:2]
    nfc, nfd = "Zo\xeb.png", "Zoe\u0308.png"
    fields = [pa.field("image", IMAGE), pa.field("landmarks", latent_type(5, 2))]
    for name, keys in (("one", [nfd]), ("both", [nfd, nfc])):
        with ShardWriter(f"{tmp_path}/{name}/shard-00000.parquet", fields) as writer:
            columns = ("status", "reason", "stage", "image", "landmarks")
            writer.write([{"key": key, **{c: row[c] for c in columns}} for key, row in zip(keys, rows, strict=False)])
    one, both = (
        SourceLatents(url, lambda url=url: [build_stage(name, params, url) for name in ("align", "encode")])
        for url in (f"{tmp_path}/one", f"{tmp_path}/both")
    )
    assert torch.equal(one([nfc]), both([nfd]))
    assert not torch.equal(one([nfc]), both([nfc]))


def test_a_key_that_is_not_there_is_named_with_near_ones(latents_of: SourceLatents) -> None:
    with pytest.raises(ParamsError, match=r"no row 'portraits/700000.png' .*did you mean 'portraits/700000\d.png'"):
        latents_of(["portraits/700000.png"])


def test_a_row_that_cannot_be_aligned_says_why(latents_of: SourceLatents) -> None:
    with pytest.raises(ParamsError, match=r"the row 'bad/web-page.jpg' can't be referred to: "):
        latents_of(["bad/web-page.jpg"])
