"""Bad input: one line on stderr that says what to do, exit code 2, and nothing written."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from flows import cli, servers
from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.loading import model_tensors
from gan_core.params import load_params
from gan_core.recipes.base import plan_run
from gan_core.storage.shards import ShardWriter
from gan_core.toy.sample import FIELDS


def run(source: str, *options: str, output: str = "out") -> None:
    cli.main(["run", source, output, *options])


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Input must be checked before a server is started."""
    monkeypatch.setattr(servers, "use_prefect_server", lambda _: pytest.fail("went on with bad input"))


def refused(capsys: pytest.CaptureFixture[str], project: Path, *arguments: Any, **options: Any) -> str:
    """Run with bad input and return the message, having checked how it was told and that no file has changed."""
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(*arguments, **options)
    told = capsys.readouterr()
    assert end.value.code == 2
    assert told.out == "" and told.err.count("\n") == 1 and told.err.startswith("error: ")
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    return told.err


def test_good_input_would_go_on(project: Path, tiny_dataset: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="went on"):
        run(tiny_dataset)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("encode.encoder=pssp", "unknown encoder 'pssp'; did you mean 'psp' or 'psp-w'?"),
        ("align.landmarks=column", "did you mean 'columns'?"),
        ("measure.metrics=[fids]", "did you mean 'fid'?"),
        ("tune.step=3", "unknown key tune.step; did you mean 'steps' or 'pivot_steps'?"),
        ("tune.steps=0", "tune.steps: "),
        ("run.device=gpu", "run.device: unknown device 'gpu'"),
        ("run.device=cuda:99", "run.device: there is no cuda:99, this process sees "),
        ("edits=[{direction: smiel, strengths: [1]}]", "did you mean 'smile'?"),
        ("edits=[{direction: smile, strengths: [1, 1]}]", "smile@+1"),
        (
            "models.generator=gone.safetensors",
            "at gone.safetensors: check the path; `edit-dataset checkpoints list`",
        ),
        ("models.encoder=gone.safetensors", "no checkpoint at gone.safetensors"),
        ("models.directions=gone.safetensors", "no checkpoint at gone.safetensors"),
        ("models.identity=gone.safetensors", "no checkpoint at gone.safetensors"),
        ("models.perceptual=gone.safetensors", "no checkpoint at gone.safetensors"),
        ("tune.refine=[hybrid, pti]", "tune.refine names another after hybrid"),
        ("tune={refine: [hybrid], locality_weight: 1}", "tune.locality_weight is of pti"),
        ("tune={l2_weight: 0, perceptual_weight: 0}", "are both 0: nothing would be learnt, so set one"),
        ("tune.min_resolution=48", "tune.min_resolution: resolution 48: this generator has the powers of two up to 64"),
        ("edits=[{kind: mix, latent_mask: [3], pictures: 1001}]", "less than or equal to 1000"),
        ("nonsense", "write KEY=VALUE"),
        ("tune=[", "not valid YAML"),
    ],
)
def test_parameters(
    project: Path, tiny_dataset: str, capsys: pytest.CaptureFixture[str], setting: str, said: str
) -> None:
    assert said in refused(capsys, project, tiny_dataset, "--set", setting)


def test_a_typo_in_the_parameter_file(project: Path, tiny_dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load((project / "params.yaml").read_text())
    (project / "typo.yaml").write_text(yaml.safe_dump(values | {"algn": {"size": 64}}))
    assert "unknown key algn; did you mean 'align'?" in refused(capsys, project, tiny_dataset, "--params", "typo.yaml")
    assert "no parameter file at gone.yaml" in refused(capsys, project, tiny_dataset, "--params", "gone.yaml")


def test_an_encoder_of_another_generator(
    project: Path, tiny_dataset: str, tiny_models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = GradualStyleEncoder(14, 32, input_size=64, units=(1, 1, 1, 1), width=8)
    card = Card(kind="encoder", name="psp", arguments=encoder.arguments, made_by="t", licence="t", source="t")
    save_checkpoint("other.safetensors", model_tensors(encoder), card)
    message = refused(capsys, project, tiny_dataset, "--set", "models.encoder=other.safetensors")
    assert "made for another generator" in message and "keys" in message
    message = refused(capsys, project, tiny_dataset, "--set", f"models.encoder={tiny_models['generator']}")
    assert "holds a generator" in message and "keys such as" in message


@pytest.mark.parametrize(
    ("setting", "network", "said"),
    [
        ("attributes", "identity", "holds the network 'identity', which gives no attributes"),
        ("identity", "attributes", "holds the network 'attributes', which embeds no faces"),
        ("identity", "landmarks", "holds the network 'landmarks', which embeds no faces"),
        ("identity", "perceptual", "holds the network 'perceptual', which embeds no faces"),
    ],
)
def test_networks_that_measure_something_else(
    project: Path,
    tiny_dataset: str,
    tiny_models: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    setting: str,
    network: str,
    said: str,
) -> None:
    assert said in refused(capsys, project, tiny_dataset, "--set", f"models.{setting}={tiny_models[network]}")


def test_directions_of_another_generator(
    project: Path, tiny_dataset: str, tiny_models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    from gan_core.editing.directions import Direction, save_directions

    save_directions("other.safetensors", [Direction("smile", torch.ones(16), "0" * 64)], made_by="t")
    message = refused(capsys, project, tiny_dataset, "--set", "models.directions=other.safetensors")
    assert "made for the generator 000000000000" in message


def test_a_dataset_without_shards(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "photos").mkdir()
    (project / "photos/me.jpg").write_bytes(b"x")
    assert "no shards in photos: make a dataset with `edit-dataset import" in refused(capsys, project, "photos")
    assert "no dataset at nowhere" in refused(capsys, project, "nowhere")


def test_empty_shards(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ShardWriter("no-rows/shard-00000.parquet", FIELDS):
        pass
    assert "has no rows" in refused(capsys, project, "no-rows")
    (project / "no-bytes").mkdir()
    (project / "no-bytes/shard-00000.parquet").touch()
    assert "not a whole Parquet file" in refused(capsys, project, "no-bytes")


def test_a_folder_of_another_run(project: Path, tiny_dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan_run(tiny_dataset, "out").begin()
    message = refused(capsys, project, tiny_dataset, "--set", "tune.steps=9")
    assert "tune.params.steps: 2 → 9" in message and "--update" in message
    with pytest.raises(pytest.fail.Exception, match="went on"):
        run(tiny_dataset, "--set", "tune.steps=9", "--update")
    with pytest.raises(pytest.fail.Exception, match="went on"):
        run(tiny_dataset, "--set", "run.workers=1", "--set", "track.grid_rows=3")


def test_folders_that_are_not_a_run(project: Path, tiny_dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "home").mkdir()
    (project / "home/letter.txt").write_text("dear")
    assert "is not empty and holds no run" in refused(capsys, project, tiny_dataset, output="home")
    assert "is a file" in refused(capsys, project, tiny_dataset, output="params.yaml")
    assert "overlap" in refused(capsys, project, tiny_dataset, output=tiny_dataset)
    assert "overlap" in refused(capsys, project, tiny_dataset, output=f"{tiny_dataset}/out")
    (project / "broken").mkdir()
    (project / "broken/run.json").write_text("{")
    assert "run.json is damaged" in refused(capsys, project, tiny_dataset, output="broken")


def test_other_commands_tell_it_the_same_way(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["report", "out"], ["inspect", "out"], ["inspect", "x.parquet"], ["import", "gone", "new"]):
        with pytest.raises(SystemExit) as end:
            cli.main(command)
        told = capsys.readouterr()
        assert (end.value.code, told.out, told.err.count("\n")) == (2, "", 1), command
    assert load_params().tune.steps == 2
