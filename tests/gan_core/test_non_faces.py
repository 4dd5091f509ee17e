"""Pictures of cars, churches and cats from a published file to the report: nothing in the way needs a face."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from flows import cli
from gan_core.checkpoints.files import read_card
from gan_core.checkpoints.subjects import subject_of
from gan_core.encoders.base import ENCODERS
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.importers import import_dataset
from gan_core.params import METRIC_SETS, MeasureParams, check_params
from gan_core.plain import run_plain
from gan_core.published.directions import Source, import_direction
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from gan_core.recipes.base import Plan, plan_params
from gan_core.recipes.subject import without_face_metrics
from gan_core.report import write_report
from gan_core.storage.images import decode_image
from gan_core.storage.shards import read_rows
from tests.gan_core.published.test_published_runs import published_file
from tests.gan_core.published.test_wrappers import GOLDEN

KINDS: dict[str, tuple[list[int], tuple[int, int], str]] = {
    "cars_encode": ([192, 256], (120, 90), "cars"),
    "church_encode": ([64, 64], (90, 120), "churches"),
    "cats_encode": ([64, 64], (64, 64), "cats"),
}
"""What the encoder sees (height and width), the size of the pictures, and what they show, by the option in the file."""
QUICK = {"tune": {"steps": 1, "batch_size": 2}, "run": {"workers": 1}, "paste": {"enabled": True}}


def write_file(path: Path, dataset: str, size: int = 64) -> None:
    """Write what the training code of e4e saves, with random weights."""
    torch.manual_seed(1)
    generator = StyleGAN2(size, 16, 2, channels={4 << i: 8 for i in range(size.bit_length() - 2)})
    shape = KINDS[dataset][0]
    encoder = ENCODERS.get("e4e")(generator.n_latent, 16, shape, [1, 1, 1, 1], 8, 3)  # type: ignore[call-arg]
    torch.save(published_file(encoder, generator, dataset), path)


def write_pictures(folder: Path, size: tuple[int, int]) -> None:
    folder.mkdir()
    stream = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(stream.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(folder / f"{name}.png")


def networks(folder: Path, dataset: str) -> dict[str, str]:
    """Import the networks and a direction, and return their paths by their names in ``models``."""
    write_file(folder / "x.pt", dataset)
    generator, encoder = import_checkpoint(folder / "x.pt", folder / "x.safetensors")
    np.save(folder / "d.npy", np.ones((1, 16), np.float32))
    directions = str(folder / "d.safetensors")
    import_direction(folder / "d.npy", directions, generator, Source("", "w", name="larger"))
    return {"generator": generator, "encoder": encoder, "directions": directions}


def planned(folder: Path, dataset: str, models: dict[str, str], **sections: Any) -> Plan:
    """Import pictures and plan a run over them."""
    if not (folder / "files").exists():
        write_pictures(folder / "files", KINDS[dataset][1])
        import_dataset(str(folder / "files"), str(folder / "data"))
    values = {"models": models, "encode": {"encoder": "e4e"}, "edits": [{"direction": "larger", "strengths": [1]}]}
    return plan_params(check_params(QUICK | values | sections), str(folder / "data"), str(folder / "run"))


@pytest.mark.parametrize(
    ("dataset", "landmarks"),
    [
        ("cars_encode", "aligned"),
        pytest.param("church_encode", "centre", marks=pytest.mark.slow),
        pytest.param("cats_encode", "aligned", marks=pytest.mark.slow),
    ],
)
def test_a_run_of_other_things_goes_through_without_metrics_of_faces(
    dataset: str, landmarks: str, tmp_path: Path, tiny_models: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    models = networks(tmp_path, dataset) | {"perceptual": tiny_models["perceptual"]}
    with caplog.at_level(logging.WARNING):
        plan = planned(tmp_path, dataset, models, align={"landmarks": landmarks})
    subject = KINDS[dataset][2]
    assert f"identity, attributes, fid left out: the networks are for {subject}, not for faces" in caplog.messages
    scores = run_plain(plan)
    assert {"mse/tuned", "lpips/toy/tuned"} <= set(scores)
    assert not any(name.split("/")[0] in ("identity", "fid", "side_effect") for name in scores)
    assert plan.run.params.measure.metrics == ["mse", "psnr", "lpips", "swd"]
    shape = (64, 48) if dataset == "cars_encode" else (64, 64)
    (rows,) = [rows for path in plan.run.stage_shards("edit") for rows in read_rows(path)]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert {decode_image(row["larger@+1"]["bytes"], 1 << 20).size for row in rows} == {shape}
    (pasted,) = [rows for path in plan.run.stage_shards("paste") for rows in read_rows(path)]
    assert {decode_image(row["larger@+1/pasted"]["bytes"], 1 << 20).size for row in pasted} == {KINDS[dataset][1]}
    assert Path(write_report(plan.run.output)).stat().st_size > 10_000


@pytest.mark.parametrize("metric", ["identity", "attributes", "fid", "identity-distance", "face-attributes"])
def test_a_metric_of_faces_is_refused_when_asked_for_by_name(metric: str, car_networks: dict[str, str]) -> None:
    params = check_params({"models": car_networks, "measure": {"metrics": ["mse", metric]}})
    with pytest.raises(
        ParamsError, match=f"metrics has {metric}, for faces only, but the networks are for cars: leave"
    ):
        without_face_metrics(params)


@pytest.mark.parametrize("chosen", METRIC_SETS)
def test_a_set_loses_the_metrics_of_faces(chosen: str, car_networks: dict[str, str]) -> None:
    params = check_params({"models": car_networks, "measure": chosen})
    kept = without_face_metrics(params).metrics
    assert kept == [name for name in METRIC_SETS[chosen] if name in kept] and {"mse", "psnr"} < set(kept)
    assert not any("identity" in name or "attributes" in name for name in kept)
    again = params.model_copy(update={"measure": MeasureParams(metrics=kept)})
    assert without_face_metrics(again) == again.measure  # as a run that is made again has it


def test_networks_that_say_nothing_may_be_of_faces(tiny_models: dict[str, str]) -> None:
    params = check_params({"models": tiny_models, "measure": {"metrics": ["identity", "fid"]}})
    assert without_face_metrics(params) == params.measure
    assert without_face_metrics(check_params({"models": {"generator": "none.safetensors"}})) == MeasureParams()


@pytest.fixture(scope="module")
def car_networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The networks for cars, imported once."""
    return networks(tmp_path_factory.mktemp("cars"), "cars_encode")


def test_the_subject_is_what_the_file_says_or_what_is_told(car_networks: dict[str, str], tmp_path: Path) -> None:
    assert {subject_of(car_networks[name]) for name in ("generator", "encoder")} == {"cars"}
    assert inspect_checkpoint(Path(car_networks["generator"]).with_name("x.pt"))["subject"] == "cars"
    assert subject_of("none.safetensors", car_networks["generator"]) == "cars"
    pickle, target = GOLDEN / "ada-tiny.pkl", tmp_path / "g.safetensors"
    (plain,) = import_checkpoint(pickle, target)
    assert subject_of(plain) is None and read_card(plain).extra == {}
    (told,) = import_checkpoint(pickle, target, subject="cats")
    assert subject_of(told) == "cats"


@pytest.mark.slow
def test_a_user_comes_from_the_file_of_cars_to_the_report(
    tmp_path: Path, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "e4e_cars_encode.pt", "cars_encode")
    write_pictures(tmp_path / "pictures", (120, 90))
    np.save("larger.npy", np.ones((1, 16), np.float32))
    models = {name: f"cars.{name}.safetensors" for name in ("generator", "encoder")}
    models |= {"directions": "d.safetensors", "perceptual": tiny_models["perceptual"]}
    edits = [{"direction": "larger", "strengths": [1]}]
    chosen = {"models": models, "align": {"landmarks": "centre"}, "encode": {"encoder": "e4e"}, "edits": edits}
    Path("cars.yaml").write_text(yaml.safe_dump(QUICK | chosen))

    def command(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            cli.main(list(words))
        said = "".join(capfd.readouterr())
        assert end.value.code == 0, said
        return said

    command("checkpoints", "import", "e4e_cars_encode.pt", "cars.safetensors", "--no-track")
    command("directions", "import", "larger.npy", "d.safetensors", "--space", "w", "--params", "cars.yaml")
    command("import", "pictures", "data")
    said = command("run", "data", "run", "--params", "cars.yaml")
    assert "identity, attributes, fid left out: the networks are for cars, not for faces" in said
    assert Path("run/report.html").is_file() and json.loads(Path("run/summary.json").read_text())
