"""The commands that fit, rank, show and import directions."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from flows import cli
from gan_core.checkpoints.files import file_sha256
from gan_core.editing.directions import load_directions
from gan_core.loading import load_generator
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
    assert [line.split()[0] for line in lines] == ["smile", "styles", "yaw", "smile", "yaw"]
    assert "curvilinear path 2 in w, any order, strengths -1 to 1" in lines[3]


def test_rank_prints_the_best_paths_of_each_attribute(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = answered(capsys, "directions", "rank", "--top", "2", "--set", "rank_codes=2").splitlines()
    assert any(line.startswith("hair_lightness") and line.count("l1") == 2 for line in lines)


@pytest.mark.parametrize("option", [[], ["--direction"]])
def test_show_draws_a_strip(project: Path, capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    answered(capsys, "directions", "show", "yaw", "yaw.png", "--rows", "2", *option)
    assert Image.open("yaw.png").size == (7 * 64, 2 * 64)
    assert "did you mean 'yaw'" in refused(capsys, "directions", "show", "yow", "yaw.png", *option)
    assert "yaw.txt is no name of a picture" in refused(capsys, "directions", "show", "yaw", "yaw.txt", *option)


def test_fit_learns_names_and_stores_paths(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("rank=3", "steps=1", "batch_size=2", "rank_codes=2", "attributes=[smile, yaw]")
    settings = [word for setting in chosen for word in ("--set", setting)]
    reply = answered(capsys, "directions", "fit", "orthogonal", "mine.safetensors", *settings)
    assert [line.split()[0] for line in reply.splitlines()] == ["smile", "yaw"]
    found = load_paths("mine.safetensors", load_generator(models(project)["generator"])).model
    assert set(found.named) == {"smile", "yaw"}
    assert not Path("data/metrics").exists()
    names = []
    with monkeypatch.context() as patch:
        patch.setattr("gan_core.training.log.resumable", lambda name: names.append(name) or nullcontext(Path(name)))
        patch.setattr("gan_core.training.fit_paths.fit_paths", lambda *_: (found, {}))
        for setting in ("steps=1", "steps=2", "seed=1"):
            answered(capsys, "directions", "fit", "orthogonal", "mine.safetensors", *settings, "--set", setting)
    assert names[0] == names[1] != names[2], "another training has a state of its own, one of more steps goes on"
    mistyped = refused(capsys, "directions", "fit", "warped", "x.safetensors", "--set", "step=1")
    assert "--set, overrides or variables: unknown key step; did you mean 'steps'" in mistyped
    assert "no way to fit 'wraped'; did you mean 'warped'" in refused(
        capsys, "directions", "fit", "wraped", "x.safetensors"
    )
    lines = answered(capsys, "directions", "list", "--file", "mine.safetensors").splitlines()
    assert [line.split()[1] for line in lines] == ["orthogonal", "orthogonal"]


def test_paths_replace_only_paths_of_the_same_model_and_generator(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [word for one in ("rank=2", "steps=1", "rank_codes=2", "attributes=[yaw]") for word in ("--set", one)]
    Path("notes.txt").write_text("mine")
    for target, held in (("notes.txt", "something else"), (models(project)["directions"], "directions (linear)")):
        before = Path(target).read_bytes()
        said = refused(capsys, "directions", "fit", "orthogonal", target, *settings)
        assert f"{target} is there already and holds {held}, not paths of orthogonal" in said
        assert Path(target).read_bytes() == before
    answered(capsys, "directions", "fit", "orthogonal", "mine.safetensors", *settings)
    answered(capsys, "directions", "fit", "orthogonal", "mine.safetensors", *settings)
    assert "holds paths (orthogonal)" in refused(capsys, "directions", "fit", "linear", "mine.safetensors", *settings)
    unused = refused(capsys, "directions", "fit", "linear", "x.safetensors", "--count", "3", *settings)
    assert "linear has no use for --count" in unused


@pytest.mark.parametrize("name", ["", " ", "a/b", "smile@+1", "a\nb"])
def test_a_direction_whose_name_cannot_be_part_of_a_column_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    np.save("age.npy", np.eye(16)[0])
    said = refused(capsys, "directions", "import", "age.npy", "mine.safetensors", "--space", "w", "--name", name)
    assert "a direction can't be called" in said and not Path("mine.safetensors").exists()


def test_fit_by_a_judge_adds_to_the_file_of_the_generator(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--set", "samples=200", "--set", "seed=5")
    reply = answered(capsys, "directions", "fit", "--judge", "attributes/smile", *few).splitlines()
    assert reply[0].startswith("smile ") and "judged by attributes (" in reply[0] and "200 samples, seed 5" in reply[0]
    assert reply[1] == "models.directions=generator-directions.safetensors"
    answered(capsys, "directions", "fit", "svm", "generator-directions.safetensors", "--judge", "yaw=0.1", *few)
    generator = load_generator(models(project)["generator"])
    found = load_directions("generator-directions.safetensors", generator).model
    assert sorted(found) == ["smile", "yaw"]
    assert found["smile"].judge["sha256"] == file_sha256(models(project)["attributes"])
    for arguments, message in (
        (["pca", "x.safetensors", "--judge", "yaw"], "--judge fits by svm, not by 'pca'"),
        (["svm", "x.safetensors", "--judge", "yaw", "--attribute", "yaw"], "leave --attribute out"),
        ([], "name what is fitted and where to"),
        (["--judge", "attributes"], "--judge attributes: write attributes/NAME; known: age, bangs"),
        (["--judge", "attributes/smiles"], "has no attribute 'smiles'; did you mean 'smile'"),
        (["--judge", "beauty"], "unknown judge 'beauty'; known: age, gender, smile, attributes/"),
    ):
        assert message in refused(capsys, "directions", "fit", *arguments)


def test_name_takes_published_paths_and_ours(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--set", "rank_codes=2", "--set", "attributes=[yaw]")
    supports = {"ALPHAS": torch.tensor([[1.0, -1.0]] * 3), "LOGGAMMA": torch.zeros(3, 1)}
    supports |= {"SUPPORT_SETS": torch.randn(3, 32)}
    torch.save({"iter": 5, "support_sets": supports, "reconstructor": {}}, "support_sets.pt")
    assert "yaw              warped path" in answered(
        capsys, "directions", "name", "support_sets.pt", "mine.safetensors", *settings
    )
    assert "yaw" in answered(capsys, "directions", "name", "mine.safetensors", "again.safetensors", *settings)
    generator = load_generator(models(project)["generator"])
    mine, other = (load_paths(file, generator) for file in ("mine.safetensors", "again.safetensors"))
    assert mine.model.named == other.model.named and set(mine.model.named) == {"yaw"}
    assert mine.card.licence == other.card.licence == "not stated in the file that the paths come from: ask its authors"
    assert mine.card.source == other.card.source and mine.card.source.startswith("support_sets.pt, sha256 ")
    wide = refused(capsys, "directions", "name", "support_sets.pt", "x.safetensors", "--space", "w_plus")
    assert "moves codes of 16 numbers, w_plus of this generator has 160" in wide


def test_import_adds_what_fits_and_refuses_the_rest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("stylegan2_ffhq_age_w_boundary.npy", np.eye(16)[:1])
    np.save("wide.npy", np.ones((1, 512)))
    file = "stylegan2_ffhq_age_w_boundary.npy"
    reply = answered(capsys, "directions", "import", file, "mine.safetensors", "--space", "w", "--layers", "2", "6")
    assert "layers 2 to 6, strengths -1 to 1" in reply
    answered(capsys, "directions", "import", file, "mine.safetensors", "--space", "w", "--absolute", "--name", "old")
    age, old = load_directions("mine.safetensors").model.values()
    assert (age.name, age.layers, age.origin, old.origin) == ("age", (2, 6), None, 0.0)
    assert age.generator_sha256 == file_sha256(models(project)["generator"])
    for arguments, message in (
        (["wide.npy", "mine.safetensors", "--space", "w"], r"wide is [512], latents of this generator are [10, 16]"),
        ([file, "mine.safetensors", "--space", "z"], "a z direction on w codes gives nonsense"),
        ([file, "mine.safetensors", "--space", "x"], "stylegan2 has no space 'x'"),
        ([file, "mine.safetensors", "--space", "w", "--layers", "4", "40"], "not among this generator's 10 latents"),
    ):
        assert message in refused(capsys, "directions", "import", *arguments)


def test_import_chooses_an_entry_and_says_what_it_replaces(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"age": torch.eye(16)[:1], "smile": torch.eye(16)[1:2]}, "boundaries.pt")
    command = ["directions", "import", "boundaries.pt", "mine.safetensors", "--space", "w"]
    assert "choose an entry with --entry (age, smile)" in refused(capsys, *command)
    assert answered(capsys, *command, "--entry", "smile").startswith("smile ")
    again = [*command, "--entry", "age", "--name", "smile"]
    assert "smile: this replaces another direction (imported from boundaries.pt)" in answered(capsys, *again)
    assert "replaces" not in answered(capsys, *again)


def test_import_of_what_another_generator_has_must_be_told(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from gan_core.checkpoints.files import load_checkpoint, save_checkpoint

    stored = load_checkpoint(models(project)["generator"])
    tensors, card = stored.model, stored.card
    save_checkpoint(tmp_path / "other.safetensors", {key: t * 1.5 for key, t in tensors.items()}, card)
    settings = yaml.safe_load((project / "params.yaml").read_text())
    settings["models"]["generator"] = str(tmp_path / "other.safetensors")
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["directions", "import", settings["models"]["directions"], "mine.safetensors", "--space", "w"]
    assert "use --any-generator to import it anyway" in refused(capsys, *arguments, "--name", "yaw")
    assert "yaw              w, all layers" in answered(capsys, *arguments, "--name", "yaw", "--any-generator")


@pytest.mark.parametrize(
    ("method", "unit"), [("sefa", "a unit vector"), ("closed-form", "a unit vector"), ("pca", "one sigma")]
)
def test_fit_finds_the_leading_factors(
    project: Path, capsys: pytest.CaptureFixture[str], method: str, unit: str
) -> None:
    lines = answered(capsys, "directions", "fit", method, "mine.safetensors", "--count", "3").splitlines()
    assert [line.split()[0] for line in lines] == [f"{method}-{i}" for i in range(3)]
    assert all(f"1 = {unit}" in line for line in lines)
    vectors = np.stack([d.vector.numpy() for d in load_directions("mine.safetensors").model.values()])
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(vectors / lengths[:, None] @ (vectors / lengths[:, None]).T, np.eye(3), atol=1e-4)
    assert (np.diff(lengths) < 0).all() if method == "pca" else np.allclose(lengths, 1, atol=1e-4)
    answered(
        capsys,
        "directions",
        "show",
        f"{method}-1",
        "s.png",
        "--direction",
        "--file",
        "mine.safetensors",
        "--ends",
        "-3",
        "3",
    )
    assert Image.open("s.png").size == (7 * 64, 4 * 64)


def test_fit_finds_boundaries_free_of_others(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fitted(*options: str) -> dict[str, np.ndarray]:
        answered(capsys, "directions", "fit", "svm", "mine.safetensors", "--set", "samples=40", *options)
        found = {d.name: d.vector.numpy().astype(float) for d in load_directions("mine.safetensors").model.values()}
        return {name: vector / np.linalg.norm(vector) for name, vector in found.items()}

    plain = fitted("--attribute", "smile", "--attribute", "yaw")
    free = fitted("--attribute", "smile", "--free-of", "yaw", "--free-of", "smile")
    assert abs(plain["smile"] @ plain["yaw"]) > 1e-3
    assert abs(free["smile"] @ plain["yaw"]) < 1e-5
    methods = {name: direction.method for name, direction in load_directions("mine.safetensors").model.items()}
    assert methods == {"smile": "svm free of yaw", "yaw": "svm"}
    assert "did you mean 'smile'" in refused(
        capsys, "directions", "fit", "svm", "x.safetensors", "--attribute", "smile", "--free-of", "smyle"
    )


def test_fit_adds_to_a_file_and_replaces_no_other(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answered(capsys, "directions", "fit", "sefa", "mine.safetensors", "--count", "2")
    answered(capsys, "directions", "fit", "pca", "mine.safetensors", "--count", "1")
    assert sorted(load_directions("mine.safetensors").model) == ["pca-0", "sefa-0", "sefa-1"]
    Path("notes.txt").write_text("mine")
    for target in ("notes.txt", models(project)["encoder"]):
        before = Path(target).read_bytes()
        refused(capsys, "directions", "fit", "sefa", target)
        refused(capsys, "directions", "fit", "svm", target, "--attribute", "smile", "--set", "samples=40")
        assert Path(target).read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["fit", "sefa", "x", "--layers", "5", "2"], "layers [5, 2] of 'sefa' are not among"),
        (["fit", "pca", "x", "--layers", "0", "99"], "layers [0, 99] of 'pca' are not among"),
        (["fit", "pca", "x", "--set", "samples=3"], "pca has no use for --set"),
        (["fit", "sefa", "x", "--attribute", "smile"], "sefa has no use for --attribute"),
        (["fit", "svm", "x", "--set", "samples=2"], "samples"),
        (["show", "smile", "no/s.png"], "there is no folder no for no/s.png"),
        (["show", "smile", "s.h5"], "s.h5 is no name of a picture"),
        (["show", "smile", "s.png", "--ends", "nan", "1"], "--ends nan 1: give two finite strengths"),
    ],
)
def test_options_that_cannot_be_used_are_told(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert said in refused(capsys, "directions", *options)
    assert not Path("x").exists()
