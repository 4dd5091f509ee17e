import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_core.checkpoints.files import Card, file_sha256, save_checkpoint
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.errors import CheckpointError, ParamsError
from gan_core.loading import load_generator, model_tensors
from gan_core.params import ModelPaths, TranslateParams, check_params
from gan_core.rows import Rejected, Row
from gan_core.stages.translate import TranslateStage
from gan_core.storage.images import encode_png, image_value
from gan_core.toy.translation_sample import SPOILED
from gan_core.translation.scores import SCORES_OF
from gan_core.translation.tasks import TASKS
from tests.conftest import ABOUT

Build = Callable[..., TranslateStage]
GIVEN: dict[str, dict[str, Any]] = {
    "sketch": {"column": "sketch"},
    "segmentation": {"column": "labels"},
    "super-resolution": {"column": "small", "truth": "image"},
    "inpainting": {"column": "image", "truth": "image"},
}
MIX = {"kind": "mix", "latent_mask": [7, 8, 9], "pictures": 2}


def variants(**changes: Any) -> Any:
    entry = {name: value for name, value in (MIX | changes).items() if value is not None}
    return check_params({"translate": {"variants": [entry]}}).translate.variants


def pixels(cell: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"]))).astype(int)


def good(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["key"] not in SPOILED]


def made(stage: TranslateStage, rows: list[Row]) -> list[Row]:
    found = stage.process(rows)
    assert not [one for one in found if isinstance(one, Rejected)]
    return [one for one in found if not isinstance(one, Rejected)]


def test_a_variant_that_gives_another_shape_is_named(
    build: Build, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = build("sketch", variants=variants())
    monkeypatch.setattr(type(stage.kinds[0]), "edit", lambda _, w_plus, *given: w_plus[:, :2])
    with pytest.raises(
        ParamsError, match=r"edits: mix@1 \(.*Mix.*\) gives \[1, 2, \d+\], and \[1, 10, \d+\] is needed"
    ):
        stage.process(good(rows)[:1])


@pytest.mark.parametrize("task", TASKS.names())
def test_each_task_translates_pictures_row_by_row(task: str, build: Build, rows: list[Row]) -> None:
    stage, some = build(task, variants=variants()), good(rows)[:3]
    together = made(stage, some)
    json.dumps(stage.identity())
    for row, columns in zip(some, together, strict=True):
        assert list(columns) == [field.name for field in stage.fields]
        assert set(columns) >= {"input", "output", "mix@1", "mix@2", "latent", "factor", *SCORES_OF[task], "diversity"}
        assert all(np.isfinite(columns[score]) for score in SCORES_OF[task])
        (alone,) = made(stage, [row])
        assert np.abs(pixels(alone["mix@2"]) - pixels(columns["mix@2"])).max() <= 1
        assert np.array_equal(pixels(alone["input"]), pixels(columns["input"]))
        assert alone["diversity"] == pytest.approx(columns["diversity"], rel=1e-4, abs=1e-6)
    assert together[0]["diversity"] > 0
    assert not np.array_equal(together[0]["latent"], together[1]["latent"])


@pytest.mark.parametrize("task", GIVEN)
def test_inputs_may_be_columns_of_the_dataset(task: str, build: Build, rows: list[Row]) -> None:
    stage = build(task, made=False, **GIVEN[task])
    found = dict(zip([row["key"] for row in rows], stage.process(rows), strict=True))
    columns = (GIVEN[task]["column"], "mask" if task == "inpainting" else "")
    faults = {key: status for key, (column, status) in SPOILED.items() if column in columns}
    assert {key: one.status for key, one in found.items() if isinstance(one, Rejected)} == faults
    first = found[good(rows)[0]["key"]]
    assert isinstance(first, dict)
    assert ("lpips" in first) == ("truth" in GIVEN[task])
    assert first["factor"] == (8 if task == "super-resolution" else 1)


def test_the_published_resampling_of_label_maps_is_another_stage(build: Build) -> None:
    plain, published = build("segmentation"), build("segmentation", label_resampling="bilinear")
    assert "label_resampling" not in plain.identity()["params"], "runs made before there was a choice are still known"
    assert published.identity()["params"]["label_resampling"] == "bilinear"
    assert published.transform.resampling == "bilinear"


def test_reading_a_column_and_making_it_come_to_the_same(build: Build, rows: list[Row]) -> None:
    some = good(rows)[:2]
    read, drawn = made(build("segmentation", made=False, column="labels"), some), made(build("segmentation"), some)
    assert all(np.array_equal(a["latent"], b["latent"]) for a, b in zip(read, drawn, strict=True))


def write_large_encoder(path: Path, models: ModelPaths, channels: int) -> str:
    """An encoder that sees 128 pixels, for the generator of 64."""
    generator = load_generator(models.generator).model
    network: dict[str, Any] = {"input_size": 128, "units": (1, 1, 1, 1), "width": 8, "input_channels": channels}
    encoder = GradualStyleEncoder.for_generator(generator, **network)
    about: dict[str, Any] = ABOUT | {"space": "w_plus", "generator_sha256": file_sha256(models.generator)}
    save_checkpoint(
        path, model_tensors(encoder), Card(kind="encoder", name="psp", arguments=encoder.arguments, **about)
    )
    return str(path)


def test_label_maps_may_have_other_classes_and_encoders_other_sizes(
    translators: ModelPaths, rows: list[Row], tmp_path: Path
) -> None:
    settings = TranslateParams(task="segmentation", made=False, column="labels", truth="image", classes=19)
    stage = TranslateStage(settings, translators, write_large_encoder(tmp_path / "e.safetensors", translators, 19))
    assert stage.scorer.names == ("lpips",), "the segmenter knows no 19 classes"
    found = dict(zip([row["key"] for row in rows], stage.process(rows), strict=True))
    assert isinstance(found["bad/unknown-class.png"], dict), "class 13 is known here"
    first = found[good(rows)[0]["key"]]
    assert isinstance(first, dict) and first["lpips"] > 0
    assert (pixels(first["input"]).shape, pixels(first["output"]).shape) == ((128, 128, 3), (64, 64, 3))


def test_outputs_are_scored_at_the_size_that_the_encoder_sees(
    translators: ModelPaths, rows: list[Row], tmp_path: Path
) -> None:
    path = write_large_encoder(tmp_path / "e.safetensors", translators, 1)
    (found,) = made(TranslateStage(TranslateParams(task="sketch"), translators, path), good(rows)[:1])
    assert 0 < found["edges"] < 1
    assert pixels(found["input"]).shape == (128, 128, 3)


def test_variants_leave_the_other_layers_and_follow_from_the_key(build: Build, rows: list[Row]) -> None:
    row = good(rows)[0]
    nothing, something = (made(build("toonify", variants=variants(alpha=a)), [row])[0] for a in (0.0, 1.0))
    assert np.array_equal(pixels(nothing["mix@1"]), pixels(nothing["output"]))
    assert nothing["diversity"] == 0 < something["diversity"]
    other = made(build("toonify", variants=variants()), [row | {"key": "other.png"}])[0]
    assert not np.array_equal(pixels(other["mix@1"]), pixels(something["mix@1"]))
    assert np.array_equal(pixels(other["output"]), pixels(something["output"]))


def test_a_latent_that_is_not_finite_costs_only_its_row(build: Build, rows: list[Row]) -> None:
    stage, some = build("inversion"), good(rows)[:3]
    encode = stage.encoder.encode

    def broken(images: Any) -> Any:
        latents = encode(images).clone()
        latents[1::8] = float("nan")
        return latents

    stage.encoder.encode = broken  # type: ignore[method-assign]
    first, second, third = stage.process(some)
    assert isinstance(second, Rejected) and second.status == "bad_latent"
    assert isinstance(first, dict) and isinstance(third, dict)


def test_a_picture_that_is_not_square_is_the_rows_fault(build: Build, rows: list[Row]) -> None:
    wide = image_value(encode_png(np.zeros((32, 64, 3), np.uint8)), "")
    (found,) = build("inversion").process([good(rows)[0] | {"image": wide}])
    assert isinstance(found, Rejected)
    assert (found.status, found.reason) == ("bad_size", "64x32 pixels: an aligned, square picture is expected")


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"task": "skech"}, ParamsError, "unknown translation task 'skech'; did you mean 'sketch'"),
        (
            {"task": "sketch", "encoder_of": "segmentation"},
            CheckpointError,
            "13 channels, but 'sketch' gives it 1",
        ),
        ({"task": "super-resolution", "factors": [3]}, ParamsError, "the factor 3 doesn't divide 64x64"),
        ({"task": "inpainting", "masks": ["bx"]}, ParamsError, "unknown mask 'bx'; did you mean 'box'"),
        ({"task": "sketch", "align": True}, ParamsError, "only pictures can be aligned"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_row(
    settings: dict[str, Any], error: type[Exception], reason: str, build: Build
) -> None:
    with pytest.raises(error, match=reason):
        build(**{"encoder_of": "inversion" if settings["task"] == "skech" else ""} | settings)


@pytest.mark.parametrize("name", ["input", "output", "factor", "image", "lpips"])
def test_a_variant_may_not_have_a_column_of_the_translation(name: str, build: Build) -> None:
    apply = {"operation": "transfer", "name": name, "boxes": ["eyes"]}
    chosen = variants(kind="compose", apply=apply, references=["a"], latent_mask=None, pictures=None)
    with pytest.raises(ParamsError, match=rf"translate\.variants: {name} is a column that every run has"):
        build("inversion", variants=chosen)


def test_a_misspelt_variant_is_named() -> None:
    with pytest.raises(ParamsError, match=r"unknown key translate\.variants\.0\.pictres; did you mean 'pictures'"):
        check_params({"translate": {"variants": [{"kind": "mix", "latent_mask": [1], "pictres": 2}]}})
