"""The commands that fit, rank, show and import directions."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from flows import cli
from gan_core.checkpoints.files import file_sha256
from gan_core.editing.directions import list_directions
from gan_core.paths.stored import load_paths


def models(project: Path) -> dict[str, str]:
    return yaml.safe_load((project / "params.yaml").read_text())["models"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    assert end.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    return error


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    reply = capsys.readouterr().out
    assert end.value.code == 0
    return reply


def test_list_says_of_paths_whether_their_order_counts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = answered(capsys, "directions", "list").splitlines()
    assert [line.split()[0] for line in lines] == ["smile", "yaw", "smile", "yaw"]
    assert "curvilinear path 2 in w, any order, strengths -1 to 1" in lines[2]


def test_rank_prints_the_best_paths_of_each_attribute(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = yaml.safe_load((project / "params.yaml").read_text()) | {"train_paths": {"rank_codes": 2}}
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    lines = answered(capsys, "directions", "rank", "--top", "2").splitlines()
    assert any(line.startswith("hair_lightness") and line.count("l1") == 2 for line in lines)


@pytest.mark.parametrize("option", [[], ["--direction"]])
def test_show_draws_a_strip(project: Path, capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    answered(capsys, "directions", "show", "yaw", "yaw.png", "--rows", "2", *option)
    assert Image.open("yaw.png").size == (7 * 64, 2 * 64)
    assert "did you mean 'yaw'" in refused(capsys, "directions", "show", "yow", "yaw.png", *option)


def test_fit_learns_names_and_stores_paths(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = {"rank": 3, "steps": 1, "batch_size": 2, "rank_codes": 2, "attributes": ["smile", "yaw"]}
    settings = yaml.safe_load((project / "params.yaml").read_text()) | {"train_paths": section}
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    reply = answered(capsys, "directions", "fit", "orthogonal", "mine.safetensors")
    assert [line.split()[0] for line in reply.splitlines()] == ["smile", "yaw"]
    assert set(load_paths("mine.safetensors", models(project)["generator"]).named) == {"smile", "yaw"}
    assert set(json.loads(Path("data/metrics/mine.json").read_text())) == {"smile", "yaw", "scores"}
    assert "unknown path model 'wraped'; did you mean 'warped'" in refused(
        capsys, "directions", "fit", "wraped", "x.safetensors"
    )


def test_import_adds_what_fits_and_refuses_the_rest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("stylegan2_ffhq_age_w_boundary.npy", np.eye(16)[:1])
    np.save("wide.npy", np.ones((1, 512)))
    file = "stylegan2_ffhq_age_w_boundary.npy"
    reply = answered(capsys, "directions", "import", file, "mine.safetensors", "--space", "w", "--layers", "2", "6")
    assert "age: w, strengths are moves" in reply
    answered(capsys, "directions", "import", file, "mine.safetensors", "--space", "w", "--absolute", "--name", "old")
    age, old = list_directions("mine.safetensors")
    assert (age.name, age.layers, age.origin, old.origin) == ("age", (2, 6), None, 0.0)
    assert age.generator_sha256 == file_sha256(models(project)["generator"])
    for arguments, message in (
        (["wide.npy", "mine.safetensors", "--space", "w"], r"wide is [512], latents of this generator are [10, 16]"),
        ([file, "mine.safetensors", "--space", "z"], "a z direction on w codes gives nonsense"),
        ([file, "mine.safetensors", "--space", "x"], "stylegan2 has no space 'x'"),
        ([file, "mine.safetensors", "--space", "w", "--layers", "4", "40"], "within [0, 10]"),
    ):
        assert message in refused(capsys, "directions", "import", *arguments)


def test_import_of_what_another_generator_has_must_be_told(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from gan_core.checkpoints.files import load_checkpoint, save_checkpoint

    tensors, card = load_checkpoint(models(project)["generator"])
    save_checkpoint(tmp_path / "other.safetensors", {key: t * 1.5 for key, t in tensors.items()}, card)
    settings = yaml.safe_load((project / "params.yaml").read_text())
    settings["models"]["generator"] = str(tmp_path / "other.safetensors")
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["directions", "import", settings["models"]["directions"], "mine.safetensors", "--space", "w"]
    assert "say --any-generator if you mean it" in refused(capsys, *arguments, "--name", "yaw")
    assert "yaw: w" in answered(capsys, *arguments, "--name", "yaw", "--any-generator")


def test_factorise_writes_the_leading_directions(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method, unit in (("sefa", "a unit vector"), ("closed-form", "a unit vector"), ("pca", "one sigma")):
        reply = answered(capsys, "directions", "factorise", method, f"{method}.safetensors", "--count", "3")
        assert reply.strip() == f"{method}.safetensors: {method}-0, {method}-1, {method}-2, 1 = {unit}"
        vectors = np.stack([d.vector.numpy() for d in list_directions(f"{method}.safetensors")])
        lengths = np.linalg.norm(vectors, axis=1)
        assert np.allclose(vectors / lengths[:, None] @ (vectors / lengths[:, None]).T, np.eye(3), atol=1e-4)
        assert (np.diff(lengths) < 0).all() if method == "pca" else np.allclose(lengths, 1, atol=1e-4)
    assert "unknown way to factorise 'sfa'; did you mean 'sefa'?" in refused(
        capsys, "directions", "factorise", "sfa", "x.safetensors"
    )
