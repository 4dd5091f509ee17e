"""Rows that edits refer to are the run's own, aligned and encoded."""

import numpy as np
import pytest
import torch

from gan_core.errors import ParamsError
from gan_core.params import Params, check_params
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.stages.references import SourceLatents
from gan_core.storage.shards import list_shards, read_rows


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


def test_a_key_that_is_not_there_is_named_with_near_ones(latents_of: SourceLatents) -> None:
    with pytest.raises(ParamsError, match=r"no row 'portraits/700000.png' .*did you mean 'portraits/700000\d.png'"):
        latents_of(["portraits/700000.png"])


def test_a_row_that_cannot_be_aligned_says_why(latents_of: SourceLatents) -> None:
    with pytest.raises(ParamsError, match=r"the row 'bad/web-page.jpg' can't be referred to: "):
        latents_of(["bad/web-page.jpg"])
