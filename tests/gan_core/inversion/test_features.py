"""Features on small networks: detail that is drawn, stored, and drawn again in every edit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.errors import CheckpointError, DataError, ParamsError
from gan_core.generators.sngan import SNGAN
from gan_core.inversion.delta import apply_delta, changed, pack_delta, unpack_delta
from gan_core.inversion.features import HFGI, load_features
from gan_core.inversion.objective import Losses
from gan_core.inversion.own import own_generator
from gan_core.inversion.pti import Tuned
from gan_core.loading import load_generator, model_tensors
from gan_core.params import EditParams, EncodeParams, ModelPaths, TuneParams, edit_spec
from gan_core.rows import Row
from gan_core.stages.edit import EditStage
from gan_core.stages.encode import EncodeStage
from gan_core.stages.tune import TuneStage
from gan_core.storage.images import to_uint8
from tests.gan_core.stages.test_tune_stage import pixels

NETWORK: dict[str, Any] = {
    **{"layer": 4, "input_size": 64, "strides": [1, 2], "units": 2, "hidden": 4},
    **{"aligner": [4, 4, 4, 4], "residue": [4, 4, 4]},
}
PARAMS = TuneParams(
    **{"steps": 1, "lr": 1e-3, "min_resolution": 64, "refine": ["features"]},
    **{"l2_weight": 0.0, "perceptual_weight": 0.0},  # so that nothing is worse than anything
)


def write_features(path: Path, generator_path: str, seed: int = 3) -> None:
    """Write small features, which change pictures at random."""
    generator = load_generator(generator_path)
    torch.manual_seed(seed)
    network = HFGI.for_generator(generator.model, **NETWORK).requires_grad_(False)
    network.get_parameter("residue.condition_shift3.2.weight").normal_()
    about: dict[str, Any] = {"made_by": "tests", "licence": "none", "source": "random"}
    card = Card(kind="features", name="hfgi", arguments=network.arguments, generator_sha256=generator.sha256, **about)
    save_checkpoint(path, model_tensors(network), card)


@pytest.fixture(scope="module")
def detailed(models: ModelPaths, tmp_path_factory: pytest.TempPathFactory) -> ModelPaths:
    path = tmp_path_factory.mktemp("features") / "f.safetensors"
    write_features(path, models.generator)
    return models.model_copy(update={"features": str(path)})


@pytest.fixture(scope="module")
def rows(models: ModelPaths, aligned_rows: list[Row]) -> list[Row]:
    found = aligned_rows[:3]
    return [row | new for row, new in zip(found, EncodeStage(EncodeParams(), models).process(found), strict=True)]


@pytest.fixture(scope="module")
def refined(detailed: ModelPaths, rows: list[Row]) -> list[Row]:
    return TuneStage(PARAMS, detailed).process(rows)


def test_a_row_keeps_its_residual_and_its_picture_is_drawn_from_it(
    detailed: ModelPaths, rows: list[Row], refined: list[Row]
) -> None:
    stage = TuneStage(PARAMS, detailed)
    assert stage.features is not None
    for row, result in zip(rows, refined, strict=True):
        assert result["steps"] == 1 and result["stop_reason"] == "steps"
        latent = torch.from_numpy(row["latent"])[None]
        plain = to_uint8(stage.generator.synthesis(latent))[0].astype(int)
        with torch.no_grad(), own_generator(stage.generator, result["delta"], stage.features) as own:
            drawn = to_uint8(own(lambda code=latent: stage.generator.synthesis(code)))[0]
        assert np.abs(drawn - pixels(result["tuned"])).max() <= 1
        assert np.abs(plain - pixels(result["tuned"])).max() > 1
        assert unpack_delta(result["delta"])["residual"].shape == (3, 64, 64)
    assert "features_sha256" in stage.identity()
    judged = TuneStage(PARAMS.model_copy(update={"l2_weight": 10.0}), detailed).process(rows[:1])[0]
    assert judged["delta"] == b"" and judged["stop_reason"] == "diverged", "these features make a picture worse"


def test_company_changes_no_row(detailed: ModelPaths, rows: list[Row], refined: list[Row]) -> None:
    stage = TuneStage(PARAMS, detailed)
    assert [stage.process([row])[0] for row in rows] == refined


def test_edits_have_detail_of_their_own(detailed: ModelPaths, rows: list[Row], refined: list[Row]) -> None:
    smile = EditParams(direction="smile", strengths=[1.0])
    channel = edit_spec("style-channel").model_validate(
        {"kind": "style-channel", "layer": 2, "channel": 1, "strengths": [3]}
    )
    kept = [row | result for row, result in zip(rows, refined, strict=True)]
    stage = EditStage([smile, channel], detailed, tuned=True, refined=["features"])
    plain = EditStage([smile, channel], detailed, tuned=True)
    assert stage.features is not None and "features" in stage.identity() and "features" not in plain.identity()
    for row, edited, without in zip(
        kept, stage.process(kept), plain.process([row | {"delta": b""} for row in kept]), strict=True
    ):
        before = torch.from_numpy(row["latent"])[None]
        for column in ("smile@+1", "style-2-1@+3"):
            assert np.abs(pixels(edited[column]).astype(int) - pixels(without[column])).max() > 1, column
        residual = unpack_delta(row["delta"])["residual"][None]
        drawn = stage.features.redrawn(stage.generator, lambda code=before: stage.generator.synthesis(code), residual)
        assert (to_uint8(drawn)[0] != pixels(edited["smile@+1"])).any()
    with pytest.raises(DataError, match=r"has the detail of features, and tune\.refine names none"):
        plain.process(kept)
    compose = edit_spec("compose").model_validate({"kind": "compose", "apply": {"operation": "extend"}})
    with pytest.raises(ParamsError, match=r"compose draws several rows into one picture"):
        EditStage([compose], detailed, tuned=True, refined=["features"])


def test_features_after_tuning_keep_its_weights(detailed: ModelPaths, rows: list[Row]) -> None:
    stage = TuneStage(PARAMS, detailed)
    given = stage.invert([stage.load(row) for row in rows[:2]])  # type: ignore[misc]
    weights = {"convs.0.conv.weight": 0.1 * torch.ones_like(stage.generator.get_parameter("convs.0.conv.weight"))}
    start = Tuned(weights, given.targets[:1], 3, [Losses(1.0, 1.0, 1.0)], "steps")
    found = stage.refinements[0].refine(given, [start, start], None)
    for row, one in enumerate(found):
        assert set(one.delta) == {*weights, "residual"}
        code = given.pivots[row : row + 1]
        with changed(stage.generator, weights):
            drawn = stage.generator.synthesis(code)
        lacking = (given.targets[row] - drawn[0].clamp(-1, 1)).detach()
        torch.testing.assert_close(one.delta["residual"], lacking, rtol=0, atol=lacking.abs().max().item() / 127)
        with torch.no_grad(), own_generator(stage.generator, pack_delta(one.delta), stage.features) as own:
            again = own(lambda code=code: stage.generator.synthesis(code))
        assert one.as_stored
        torch.testing.assert_close(one.image, again, rtol=0, atol=1e-4)
    with pytest.raises(ParamsError, match=r"names another after features"):
        TuneStage(PARAMS.model_copy(update={"refine": ["features", "pti"]}), detailed)


def test_features_of_another_generator_or_layer_are_refused(detailed: ModelPaths) -> None:
    generator = load_generator(detailed.generator)
    network = load_features(detailed.features, generator).model
    assert network.resolution == 32
    with pytest.raises(ParamsError, match=r"don't fit layer 4: its maps have 32 px"):
        HFGI.for_generator(generator.model, **NETWORK | {"strides": [1, 1]})
    with pytest.raises(CheckpointError, match=r"act at the layer convs\.4, and this 'sngan' has none"):
        network.check(SNGAN([16, 16, 8], 1, 12))
    wide = HFGI(3, **NETWORK)
    with pytest.raises(CheckpointError, match=r"the features have 3 channels, but layer 4 of this generator has"):
        wide.check(generator.model)
    with (
        pytest.raises(DataError, match=r"a weight delta is of another generator"),
        apply_delta(generator.model, pack_delta({"residual": torch.ones(3, 64, 64)})),
    ):
        pass
    with pytest.raises(ParamsError, match=r"can't be drawn in a picture of 128x64 px"):
        network.redrawn(generator.model, lambda: torch.zeros(1, 3, 64, 128), torch.zeros(1, 3, 64, 64))
