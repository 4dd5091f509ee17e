"""Photographs against themselves: the recipe, its page, the second crop, and where its photographs come from."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gan_core.align.quad import FaceSquare
from gan_core.errors import DataError, ParamsError
from gan_core.importers import import_dataset, shipped
from gan_core.params import AlignParams, check_params
from gan_core.recipes.base import Recipe, plan_run, recipe_of
from gan_core.recipes.edit import EditRecipe
from gan_core.recipes.photographs import ORDER, PhotographsRecipe, measure_order
from gan_core.report.report import write_report
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.summary import load_summary
from gan_core.stages.damage import DAMAGES, MIRROR, SHIFT, VIEWS, DamageStage, aside, damage_columns
from gan_core.stages.measure import check_faces
from gan_core.storage.images import decode_image
from gan_core.storage.shards import read_rows

LANDMARKS = [[34, 40], [62, 40], [48, 55], [38, 68], [58, 68]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a finished run over two pictures, one of which has no face."""
    (tmp_path / "files").mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    for name, points in (("a", LANDMARKS), ("b", None)):
        picture = Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "files" / f"{name}.png")
        (tmp_path / "files" / f"{name}.json").write_text(json.dumps({"landmarks": points}))
    import_dataset(tmp_path / "files", tmp_path / "dataset")
    chosen = {"align": {"size": 32}, "paste": {"enabled": True}, "measure": {"metrics": ["mse", "psnr"]}}
    (tmp_path / "params.yaml").touch()
    source, output, params = (str(tmp_path / name) for name in ("dataset", "out", "params.yaml"))
    run = plan_run(source, output, params, chosen, recipe="photographs").begin()
    for name in run.stages:
        run_stage(recipe_of(run).build_stage(name, run.params, run.source), run.shards[0], run.output)
    recipe_of(run).summarise(run)
    return run


def test_faces_are_measured_against_views_and_damages_of_themselves(run: Run) -> None:
    assert run.stages == ("align", "damage", "paste", "measure")
    made, other = next(iter(read_rows(run.shard("damage", run.shards[0]))))
    aligned, _ = next(iter(read_rows(run.shard("align", run.shards[0]))))
    assert (made["status"], other["status"]) == ("ok", "no_face")
    face, mirrored = (
        np.asarray(decode_image(row[n]["bytes"], 9999)) for row, n in ((aligned, "image"), (made, MIRROR))
    )
    np.testing.assert_array_equal(mirrored, face[:, ::-1])
    summary = load_summary(run.output)
    assert set(summary["metrics"]) == {f"{m}/{p}" for m in ("mse", "psnr") for p in (*VIEWS, *damage_columns())}
    assert summary[ORDER] == {"mse": dict.fromkeys(DAMAGES, 1.0)}
    html = Path(write_report(run)).read_text()
    assert "over few faces, here 1, it can have less by chance. Below it: none." in html
    for said in ("No generator was given, so nothing is inverted", "grey/pasted", "4 of 4", "no_face"):
        assert said in html


def test_a_judge_that_orders_a_damage_wrongly_is_told() -> None:
    values = [1.0, 2.0, 4.0, 3.0, 5.0]
    metrics = {f"mse/blur@{s:g}": value for s, value in zip(DAMAGES["blur"], values, strict=True)}
    metrics |= {f"mse/noise@{s:g}": 1.0 for s in DAMAGES["noise"]} | {"mse/jpeg@60": 1.0, "psnr/blur@1": 1.0}
    assert measure_order(metrics) == {"mse": {"blur": 0.9}}


def test_the_second_crop_shows_the_same_face_a_little_aside() -> None:
    square = FaceSquare(np.array([50.0, 60.0]), np.array([20.0, 0.0]))
    other = aside(square)
    np.testing.assert_allclose(other.centre - square.centre, SHIFT * 40)
    assert 1 < other.side / square.side < 1.1 and 0 < other.half[1] < 2


def test_judges_of_faces_are_refused_where_none_are_looked_for() -> None:
    def build(landmarks: str, metrics: str, recipe: Recipe) -> None:
        params = check_params({"align": {"landmarks": landmarks, "size": 32}, "measure": metrics})
        recipe.build_stage("measure", params, "")

    for recipe in (PhotographsRecipe(), EditRecipe()):
        with pytest.raises(ParamsError, match=r"identity-distance, face-attributes judge faces, .*=centre") as raised:
            build("centre", "photos", recipe)
        assert "\n" not in str(raised.value)
    for landmarks, metrics in (("aligned", "photos"), ("mtcnn", "photos"), ("centre", "photos-things")):
        check_faces(check_params({"align": {"landmarks": landmarks}, "measure": metrics}))


def test_photographs_of_installed_packages_are_imported_and_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faces").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "faces" / "one.png")
    found = {"faces": SimpleNamespace(origin=str(tmp_path / "faces" / "__init__.py"))}
    monkeypatch.setattr(shipped, "find_spec", found.get)
    monkeypatch.setattr(shipped, "SHIPPED", {"faces": ("one.png", "gone.png"), "missing": ("x/two.png",)})
    report = import_dataset("packages:", tmp_path / "dataset")
    assert (report.rows, report.ignored) == ({"ok": 1}, 2)
    (row,) = next(iter(read_rows(str(tmp_path / "dataset" / "shard-00000.parquet"))))
    assert row["key"] == "faces/one.png"
    assert "make install-photos" in str(report)
    found.clear()
    with pytest.raises(DataError, match="packages: stands for the photographs of faces, missing, none of which is"):
        import_dataset("packages:", tmp_path / "other")


def test_how_faces_are_cut_is_in_the_identity_of_damaged_ones() -> None:
    small, large = (DamageStage("ds", AlignParams(size=64, transform_size=size)).identity() for size in (64, 512))
    assert small != large
