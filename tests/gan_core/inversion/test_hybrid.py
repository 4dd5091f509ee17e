"""Hybrid refinement on small networks: weights inside a mask, a layer's maps outside it, both in every edit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gan_core.errors import CheckpointError, DataError, ParamsError
from gan_core.generators.sngan import SNGAN
from gan_core.inversion.delta import pack_delta, unpack_delta
from gan_core.inversion.features import check_layer
from gan_core.inversion.hybrid import Blend, Hybrid, known_part, layer_for, pop_blend, refine_hybrid
from gan_core.inversion.own import own_generator
from gan_core.inversion.refinement import ByHybrid
from gan_core.inversion.weights import RowWeights
from gan_core.loading import load_generator
from gan_core.params import EditParams, ModelPaths, TuneParams, edit_spec
from gan_core.rows import Row
from gan_core.stages.edit import EditStage
from gan_core.stages.tune import TuneStage
from gan_core.storage.images import to_uint8
from tests.gan_core.stages.test_tune_stage import pixels

PARAMS = TuneParams(refine=["hybrid"], min_resolution=32)


def hybrid_stage(models: ModelPaths) -> TuneStage:
    """The stage with few steps."""
    stage = TuneStage(PARAMS, models)
    (refinement,) = stage.refinements
    assert isinstance(refinement, ByHybrid)
    refinement.recipe = replace(refinement.recipe, steps=3, weight_steps=2)
    return stage


def test_a_row_keeps_weights_and_a_feature_from_which_its_pictures_are_drawn(
    models: ModelPaths, rows: list[Row]
) -> None:
    stage = hybrid_stage(models)
    found = stage.process(rows)
    for row, result in zip(rows, found, strict=True):
        assert result["steps"] == 3 and result["stop_reason"] == "steps"
        delta = unpack_delta(result["delta"])
        blend = pop_blend(dict(delta))
        assert blend is not None and blend.layer == 4 and blend.feature.shape[1:] == blend.mask.shape[1:] == (16, 16)
        assert "convs.4.conv.weight" in delta and "convs.3.conv.weight" not in delta
        latent = torch.from_numpy(row["latent"])[None]
        with torch.no_grad(), own_generator(stage.generator, result["delta"]) as own:
            drawn = to_uint8(own(lambda code=latent: stage.generator.synthesis(code)))[0]
        assert np.array_equal(drawn, pixels(result["tuned"]))
    kept = [row | result for row, result in zip(rows, found, strict=True)]
    smile = EditParams(direction="smile", strengths=[1.0])
    edited, plain = (
        EditStage([smile], models, tuned=True, refined=["hybrid"]).process(given)
        for given in (kept, [row | {"delta": b""} for row in kept])
    )
    for one, other in zip(edited, plain, strict=True):
        assert np.abs(pixels(one["smile@+1"]).astype(int) - pixels(other["smile@+1"])).max() > 1
    compose = edit_spec("compose").model_validate({"kind": "compose", "apply": {"operation": "extend"}})
    with pytest.raises(ParamsError, match=r"compose draws several rows into one picture"):
        EditStage([compose], models, tuned=True, refined=["hybrid"])
    assert hybrid_stage(models).process(rows[1:]) == found[1:], "company changes no row"


def test_the_mask_says_what_is_fitted(models: ModelPaths, rows: list[Row]) -> None:
    stage = hybrid_stage(models)
    given = stage.invert([stage.load(row) for row in rows[:1]])  # type: ignore[misc]
    whole = torch.ones_like(given.targets[:, :1])
    setting = (given.pivots, given.targets)
    start = torch.zeros(1)
    for mask in (whole, 0 * whole):
        weights = RowWeights(stage.generator, 32, 1)
        refined = refine_hybrid(weights, *setting, mask, stage.loss, Hybrid(4, 3, 3))
        start = refined.blend.feature if mask.any() else start
        assert bool(refined.delta) == bool(mask.any()), "weights are fitted inside alone"
        assert torch.equal(refined.blend.feature, start) == bool(mask.any()), "the feature is fitted outside alone"
        empty = [pair[int(not mask.any())] for pair in refined.losses]
        assert empty == [0.0] * 3 and all(sum(pair) > 0 for pair in refined.losses)
    with pytest.raises(ValueError, match=r"convs\.4 lies below the 64 px"):
        refine_hybrid(RowWeights(stage.generator, 64, 1), *setting, whole, stage.loss, Hybrid(4))


def test_what_is_near_is_refined_by_weights(models: ModelPaths, rows: list[Row]) -> None:
    stage = hybrid_stage(models)
    given = stage.invert([stage.load(row) for row in rows[:1]])  # type: ignore[misc]
    other = given.targets.clone()
    other[:, :, :12, :12] = -other[:, :, :12, :12]
    mask = known_part(other, given.targets, stage.loss)
    assert mask[0, 0, 32:, 32:].all() and not mask[0, 0, 4:8, 4:8].any()
    assert [layer_for(size) for size in (16, 32, 64, 256, 1024)] == [2, 4, 4, 6, 10]


def test_what_does_not_fit_is_refused(models: ModelPaths) -> None:
    generator = load_generator(models.generator).model
    with pytest.raises(CheckpointError, match=r"at the layer convs\.4, and this 'sngan' has none"):
        check_layer(SNGAN([16, 16, 8], 1, 12), 4)
    codes = torch.zeros(1, generator.n_latent, generator.w_dim)
    foreign = Blend(4, torch.zeros(3, 16, 16), torch.ones(1, 16, 16))
    with pytest.raises(DataError, match=r"a row has a feature of \[3, 16, 16\]"), foreign.injected(generator):
        generator.synthesis(codes)
    with (
        pytest.raises(DataError, match="a feature without its mask"),
        own_generator(generator, pack_delta({"feature.4": foreign.feature})),
    ):
        pass
