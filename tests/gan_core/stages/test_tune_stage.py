import io

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.errors import ParamsError
from gan_core.inversion.delta import apply_delta
from gan_core.params import EncodeParams, ModelPaths, Params, TuneParams
from gan_core.rows import Rejected, Row, row_seed
from gan_core.runs.stage import build_stage
from gan_core.stages.encode import EncodeStage
from gan_core.stages.tune import TuneStage
from gan_core.storage.images import decode_image, encode_png, image_value, to_uint8

PARAMS = TuneParams(steps=8, lr=1e-2, min_resolution=4, locality_weight=0.01)


@pytest.fixture(scope="module")
def stage(models: ModelPaths) -> TuneStage:
    return TuneStage(PARAMS, models)


@pytest.fixture(scope="module")
def encoded_rows(models: ModelPaths, aligned_rows: list[Row]) -> list[Row]:
    rows = aligned_rows[:3]
    return [row | new for row, new in zip(rows, EncodeStage(EncodeParams(), models).process(rows), strict=True)]


def pixels(value: Row) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(value["bytes"]))).astype(int)


def test_the_tuned_image_is_nearer_and_is_what_the_delta_draws(stage: TuneStage, encoded_rows: list[Row]) -> None:
    for row, result in zip(encoded_rows, stage.process(encoded_rows), strict=True):
        target = pixels(row["image"])
        error = np.square(pixels(result["tuned"]) - target).mean()
        assert error < 0.9 * np.square(pixels(row["reconstruction"]) - target).mean()
        with torch.no_grad(), apply_delta(stage.generator, result["delta"]) as generator:
            drawn = to_uint8(generator.synthesis(torch.from_numpy(row["latent"])[None]))[0]
        assert np.abs(drawn - pixels(result["tuned"])).max() <= 1
        assert (result["steps"], result["stop_reason"]) == (8, "steps")
        assert 0 < result["loss"] < 10


def test_the_same_rows_give_the_same_bits_on_any_number_of_threads(stage: TuneStage, encoded_rows: list[Row]) -> None:
    first = stage.process(encoded_rows)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    second = stage.process(encoded_rows)
    torch.set_num_threads(before)
    assert first == second


def test_company_and_order_change_a_picture_by_one_level_at_most(stage: TuneStage, encoded_rows: list[Row]) -> None:
    together = stage.process(encoded_rows)
    alone = [stage.process([row])[0] for row in reversed(encoded_rows)]
    for one, other in zip(together, alone[::-1], strict=True):
        assert np.abs(pixels(one["tuned"]) - pixels(other["tuned"])).max() <= 1
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert (one["steps"], one["stop_reason"]) == (other["steps"], other["stop_reason"])


def test_a_constant_and_a_noise_image_end_with_a_status(stage: TuneStage, encoded_rows: list[Row]) -> None:
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    images = [image_value(encode_png(image), "") for image in (grey, noise)]
    rows = [encoded_rows[0] | {"image": image} for image in images]
    for result in stage.process(rows):
        assert result["stop_reason"] in {"steps", "diverged"} and np.isfinite(result["loss"])


@pytest.mark.parametrize(("pivot", "same"), [("w", True), ("w_plus", False), ("in_domain", False)])
def test_a_pivot_can_be_optimised(models: ModelPaths, encoded_rows: list[Row], pivot: str, same: bool) -> None:
    stage = TuneStage(TuneParams(steps=2, pivot=pivot, pivot_steps=4), models)
    assert "latent" in {field.name for field in stage.fields}
    (result,) = stage.process(encoded_rows[:1])
    latent = result["latent"]
    assert latent.shape == encoded_rows[0]["latent"].shape and not np.allclose(latent, encoded_rows[0]["latent"])
    assert np.array_equal(latent, np.broadcast_to(latent[:1], latent.shape)) is same
    with torch.no_grad(), apply_delta(stage.generator, result["delta"]) as generator:
        drawn = to_uint8(generator.synthesis(torch.from_numpy(latent)[None].contiguous()))[0]
    assert np.abs(drawn - pixels(result["tuned"])).max() <= 1


def test_rows_of_a_batch_can_share_a_generator(models: ModelPaths, encoded_rows: list[Row]) -> None:
    stage = TuneStage(PARAMS.model_copy(update={"shared": True}), models)
    first, second = stage.process(encoded_rows[:2])
    assert first["delta"] == second["delta"] != b"" and first["tuned"] != second["tuned"]
    for row, result in zip(encoded_rows[:2], (first, second), strict=True):
        target = pixels(row["image"])
        assert (
            np.square(pixels(result["tuned"]) - target).mean()
            < np.square(pixels(row["reconstruction"]) - target).mean()
        )


def test_whole_weights_can_be_kept(stage: TuneStage, models: ModelPaths, encoded_rows: list[Row]) -> None:
    (small,) = stage.process(encoded_rows[:1])
    (whole,) = TuneStage(PARAMS.model_copy(update={"persist": "full"}), models).process(encoded_rows[:1])
    assert len(whole["delta"]) > 2 * len(small["delta"])
    assert np.abs(pixels(whole["tuned"]) - pixels(small["tuned"])).max() <= 2


def test_edits_are_drawn_at_once_where_no_weights_are_kept(models: ModelPaths, encoded_rows: list[Row]) -> None:
    tune = PARAMS.model_dump() | {"precision": "exact"}
    params = Params(models=models, edits=[{"direction": "smile", "strengths": [1]}], tune=tune | {"persist": "none"})
    tuned, edited = build_stage("tune", params, ""), build_stage("edit", params, "")
    (columns,) = tuned.process(encoded_rows[:1])
    assert columns["delta"] == b"" and columns.keys() == {field.name for field in tuned.fields}
    (drawn,) = edited.process([encoded_rows[0] | columns])
    kept = params.model_copy(update={"tune": params.tune.model_copy(update={"persist": "delta"})})
    (with_delta,) = build_stage("tune", kept, "").process(encoded_rows[:1])
    (again,) = build_stage("edit", kept, "").process([encoded_rows[0] | with_delta])
    assert drawn == again
    assert edited.identity() != build_stage("edit", kept, "").identity()


def test_locality_samples_follow_the_key(stage: TuneStage, encoded_rows: list[Row]) -> None:
    (first,) = stage.process(encoded_rows[:1])
    (second,) = stage.process([encoded_rows[0] | {"key": "another"}])
    assert first["loss"] != second["loss"]
    assert row_seed("a") != row_seed("b") and 0 <= row_seed("a") < 1 << 63


def test_divergence_leaves_the_encoded_image(models: ModelPaths, encoded_rows: list[Row]) -> None:
    stage = TuneStage(TuneParams(steps=3, lr=1e8), models)
    (result,) = stage.process(encoded_rows[:1])
    assert (result["stop_reason"], result["delta"]) == ("diverged", b"")
    assert np.abs(pixels(result["tuned"]) - pixels(encoded_rows[0]["reconstruction"])).max() <= 1
    assert np.isfinite(result["loss"])


def test_a_latent_that_is_not_finite_is_rejected(stage: TuneStage, encoded_rows: list[Row]) -> None:
    broken = encoded_rows[1] | {"latent": np.full_like(encoded_rows[1]["latent"], np.nan)}
    results = stage.process([encoded_rows[0], broken])
    assert not isinstance(results[0], Rejected)
    assert isinstance(results[1], Rejected) and results[1].status == "bad_latent"


def resized(row: Row, size: tuple[int, int]) -> Row:
    picture = decode_image(row["image"]["bytes"], 1 << 20).resize(size, Image.Resampling.BOX)
    return row | {"image": image_value(encode_png(np.asarray(picture)), "")}


def test_images_of_another_proportion_are_refused(stage: TuneStage, encoded_rows: list[Row]) -> None:
    with pytest.raises(ParamsError, match="the aligned images have 64x48 px, but this encoder's pictures are 1 wide"):
        stage.process([resized(encoded_rows[0], (64, 48))])


@pytest.mark.parametrize("side", [32, 128])
def test_images_of_another_size_are_compared_at_the_smaller_one(
    stage: TuneStage, encoded_rows: list[Row], side: int
) -> None:
    (result,) = stage.process([resized(encoded_rows[0], (side, side))])
    assert not isinstance(result, Rejected)
    (same,) = stage.process([encoded_rows[0]])
    assert not isinstance(same, Rejected)
    assert pixels(result["tuned"]).shape == pixels(same["tuned"]).shape == (64, 64, 3)
    assert (abs(result["loss_l2"] / same["loss_l2"] - 1) < 0.01) == (side == 128)  # enlarged by boxes, then averaged


def test_what_changes_the_result_changes_the_identity(stage: TuneStage, models: ModelPaths) -> None:
    same = TuneStage(PARAMS.model_copy(update={"enabled": False}), models)
    other = TuneStage(PARAMS.model_copy(update={"lr": 2e-3}), models)
    assert same.identity() == stage.identity() != other.identity()
