"""A package outside of the project: installed beside it, found by its entry points alone, and seen by every command."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from mlflow import MlflowClient

from gan_core import Card, load_generator, save_checkpoint
from gan_core.loading import model_tensors
from gan_core.storage.shards import list_shards, read_rows
from gan_core.storage.urls import hash_file
from tests.flows.deployed import run_deployment
from tests.plugin.edit_dataset_example.denoise import DenoiseParams
from tests.plugin.edit_dataset_example.thumbnail import ThumbnailEncoder

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests/plugin"
MODULE = "edit_dataset_example"
ENTRIES: dict[str, dict[str, str]] = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]
RUN = "runs/denoised"
STAGES = ("align", "denoise", "encode", "edit", "measure")
NOISY = "shard-00000.parquet"
"""The shard of the sample with a picture that is noisier than ``PARAMS`` allows (3.0; the next has 2.8)."""
PARAMS: dict[str, Any] = {
    "models": {"encoder": "thumbnail.safetensors"},
    "encode": {"encoder": "linear-thumbnail"},
    "tune": {"enabled": False},
    "edits": [{"kind": "toward-average", "shares": [0.5]}],
    "measure": {"metrics": ["psnr", "sharpness"]},
    "track": {"uri": "sqlite:///later/mlflow.db", "grid_rows": 2},
    "extensions": {"denoise": {"max_noise": 2.9}},
}
CALL = """
import contextlib, io, json, sys
from flows.cli import main
replies = []
for line in sys.argv[1:]:
    code, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(line.split())
        except SystemExit as end:
            code = end.code or 0
    replies.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(replies))
"""


class Reply(NamedTuple):
    """What ``edit-dataset`` answers: its exit code and what it prints."""

    code: int
    out: str
    err: str


class Place:
    """A folder to work in, with and without the package."""

    def __init__(self, folder: Path, installed: Path, environment: dict[str, str]) -> None:
        self.folder, self.installed, self.environment = folder, installed, environment

    def call(self, *lines: str, beside: tuple[Path, ...] | None = None) -> list[Reply]:
        """Give lines to ``edit-dataset``, one after the other in one process, with the folders ``beside`` on its path.

        The installed package is there if none are named.
        """
        paths = [str(path) for path in ([self.installed] if beside is None else beside)]
        environment = self.environment | {"PYTHONPATH": os.pathsep.join([*paths, str(ROOT)])}
        command = [sys.executable, "-c", CALL, *lines]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return [Reply(*reply) for reply in json.loads(done.stdout.splitlines()[-1])]

    def written(self) -> dict[str, int]:
        """Return when each shard of the run was written."""
        found = sorted((self.folder / RUN).glob("*/*.parquet"))
        return {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed in."""
    folder = tmp_path_factory.mktemp("installed")
    copied = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("package") / "copy")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "-q", *options, "--target", str(folder), str(copied)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"pip and setuptools>=77 are needed (pip install -e '.[dev]'): {done.stderr}"
    return folder


@pytest.fixture(scope="module")
def place(installed: Path, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A project folder with a part of the sample dataset, our networks, and an encoder of the package for them."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "data/sample").mkdir(parents=True)
    for shard in (NOISY, "shard-00001.parquet"):
        shutil.copy(ROOT / "data/sample" / shard, folder / "data/sample")
    (folder / "data/models").symlink_to(ROOT / "data/models")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "later").touch()  # in the way of MLflow's database
    write_encoder(folder / "thumbnail.safetensors")
    quiet = {"PREFECT_API_URL": prefect_server, "PREFECT_HOME": str(folder / ".prefect"), "OMP_NUM_THREADS": "1"}
    return Place(folder, installed, os.environ | quiet)


def write_encoder(path: Path) -> None:
    """Write a checkpoint of the package's encoder, fitted to the published generator."""
    generator = load_generator(ROOT / "data/models/generator.safetensors")
    encoder = ThumbnailEncoder.fit(generator.model, samples=128)
    about = {"made_by": "tests", "licence": "Apache-2.0", "source": "fitted to the generator"}
    made_for = {"generator_sha256": generator.sha256, "arguments": encoder.arguments}
    card = Card(kind="encoder", name="linear-thumbnail", **made_for, **about)
    save_checkpoint(path, model_tensors(encoder), card)


@pytest.fixture(scope="module")
def run(place: Place) -> Place:
    """The place after a run of the package's recipe over the sample, which MLflow could not be told of yet."""
    (reply,) = place.call(f"run data/sample {RUN} --recipe denoised")
    assert reply.code == 0, reply
    assert f"64 rows in 2 shards: {' → '.join(STAGES)}" in reply.out
    return place


LISTS = {"encoders": "linear-thumbnail", "metrics": "sharpness", "edits": "toward-average", "stages": "denoise"}
LISTS |= {"recipes": "denoised", "sections": "denoise"}
PUBLISH = [f"publish {RUN} data-edited", f"publish {RUN} data-denoised --stage denoise"]


@pytest.fixture(scope="module")
def told(run: Place) -> dict[str, str]:
    """What the commands print that only read a run, by the line that was given; all have succeeded."""
    assert (run.folder / RUN / "pending.json").exists()
    (run.folder / "later").unlink()
    (run.folder / "later").mkdir()
    (run.folder / RUN / "report.html").unlink()
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=run.folder, env=run.environment, check=True)
    lines = [f"{command} {RUN}" for command in ("inspect", "status", "sync", "report")]
    lines += [*PUBLISH, *(f"list {kind}" for kind in LISTS)]
    replies = run.call(*lines)
    assert [reply for reply in replies if reply.code] == []
    return {line: reply.out for line, reply in zip(lines, replies, strict=True)}


def test_every_row_goes_through_the_stage_of_the_package(run: Place) -> None:
    rows = [row for shard in list_shards(f"{run.folder / RUN}/measure") for part in read_rows(shard) for row in part]
    noisy = [row for row in rows if row["status"] == "too_noisy"]
    assert len(rows) == 64 and len(noisy) == 1 and noisy[0]["stage"] == "denoise"
    fine = [row for row in rows if row["status"] == "ok"]
    assert len(fine) == 59 and all(0.5 < row["sharpness/toward-average@0.5"] < 2 for row in fine)
    receipt = json.loads((run.folder / RUN / f"encode/{NOISY}.receipt.json").read_text())
    assert list(receipt["input_keys"]) == ["denoise"]
    metrics = json.loads((run.folder / RUN / "summary.json").read_text())["metrics"]
    assert metrics["psnr/encoded"] > 15 and metrics.keys() >= {"sharpness/encoded", "sharpness/toward-average@0.5"}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_have_what_the_package_adds(told: dict[str, str], kind: str) -> None:
    (line,) = (line for line in told[f"list {kind}"].splitlines() if line.split()[0] == LISTS[kind])
    assert len(line.split()) > 5


def test_commands_that_look_at_a_run_know_its_recipe(told: dict[str, str]) -> None:
    inspected, status = told[f"inspect {RUN}"], told[f"status {RUN}"]
    assert f"{RUN}: denoised run over data/sample, 2 shards, 64 rows" in inspected
    assert "  denoise  2 shards, 64 rows, 59 ok, " in inspected and ", 1 too_noisy" in inspected
    assert f"{RUN}: denoised of data/sample, 10 of 10 shards, finished" in status
    assert "  denoise  2 finished" in status and "1 too_noisy (denoise)" in status
    assert f"not logged yet: `edit-dataset sync {RUN}`" in status


def test_mlflow_is_told_what_is_the_packages_own(run: Place, told: dict[str, str]) -> None:
    run_id = re.fullmatch(r"logged to MLflow \(.*\), as run (\w+)\n", told[f"sync {RUN}"])
    assert run_id and not (run.folder / RUN / "pending.json").exists()
    logged = MlflowClient(f"sqlite:///{run.folder}/later/mlflow.db").get_run(run_id[1])
    assert logged.info.run_name.startswith("linear-thumbnail, denoised · sample · denoised · 20")
    assert logged.data.tags["recipe"] == "denoised" and logged.data.tags["mlflow.source.name"] == "run-dataset"
    params = logged.data.params
    assert (params["extensions.denoise.size"], params["extensions.denoise.max_noise"]) == ("3", "2.9")
    assert '"toward-average"' in params["edits"]
    assert logged.data.metrics.keys() == {"psnr/encoded", "sharpness/encoded", "sharpness/toward-average:x40:0.5"}


def test_the_report_shows_the_pictures_and_scores_of_the_package(run: Place, told: dict[str, str]) -> None:
    assert told[f"report {RUN}"] == f"{RUN}/report.html\n"
    page = (run.folder / RUN / "report.html").read_text()
    for shown in ("A denoised dataset", "Encoder and tuning saw denoised images.", "toward-average@0.5", ">denoise<"):
        assert shown in page
    assert "Fine detail; 1 is as sharp as the aligned image. Higher is better." in page and "Sharpness" in page
    assert "too_noisy" in page and "the filter changes it by 3.0, more than 2.9" in page


def test_a_stage_of_the_package_is_published(run: Place, told: dict[str, str]) -> None:
    assert all("version " in told[line] for line in PUBLISH)
    origin = json.loads((run.folder / "data-edited/origin.json").read_text())
    assert (origin["recipe"], origin["stage"]) == ("denoised", "edit")
    (row, *_) = next(read_rows(f"{run.folder}/data-denoised/{NOISY}"))
    assert row["image"]["bytes"].startswith(b"\x89PNG")


def test_failed_rows_are_made_again_by_the_recipe_of_their_run_and_nothing_else_is(run: Place) -> None:
    before = run.written()
    (reply,) = run.call(f"retry-failed {RUN} --reason too_noisy")
    assert "4 shards to make again: denoise/shard-00000.parquet, encode/" in reply.out, reply
    again = {name for name, when in run.written().items() if when != before.get(name)}
    assert again == {f"{stage}/{NOISY}" for stage in STAGES[1:]} and run.written().keys() == before.keys()
    assert f"{RUN}: denoised of data/sample, 10 of 10 shards, finished" in reply.out
    assert json.loads((run.folder / RUN / "run.json").read_text())["recipe"] == "denoised"


def test_without_the_package_its_run_can_be_looked_at_and_the_rest_says_what_is_missing(run: Place) -> None:
    needing = [f"report {RUN}", f"publish {RUN} elsewhere", f"retry-failed {RUN} --reason too_noisy"]
    anew = f"run data/sample {RUN} --recipe denoised"
    inspected, status, *refused, unknown = run.call(f"inspect {RUN}", f"status {RUN}", *needing, anew, beside=())
    assert "denoised run over" in inspected.out and "1 too_noisy (denoise)" in status.out
    missing = f"error: {RUN} was made by the recipe 'denoised', which no installed package provides: install the "
    for reply in refused:
        assert reply.code == 2 and reply.err.startswith(missing) and reply.err.count("\n") == 1
    assert unknown.code == 2 and unknown.err.startswith("error: unknown edit kind 'toward-average'; known: ")
    assert unknown.err.count("\n") == 1


MISTAKES = {
    "denoise.siz=5": "--set, overrides or variables: unknown key extensions.denoise.siz; did you mean 'size'?",
    "denoice.size=5": "extensions: no installed package has a section 'denoice'; did you mean 'denoise'?",
    "denoise.size=4": "--set, overrides or variables: extensions.denoise.size: Input should be 3, 5 or 7 (got 4)",
}


def test_mistakes_and_broken_packages_are_one_line_each_and_break_nothing_else(run: Place, tmp_path: Path) -> None:
    about = tmp_path / "broken-0.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.3\n")
    (about / "entry_points.txt").write_text("[edit_dataset.recipe]\nbroken = broken:Recipe\n")
    lines = [f"run data/sample runs/none --recipe denoised --set extensions.{mistake}" for mistake in MISTAKES]
    lines += [f"status {RUN}", "run data/sample runs/none --recipe broken", "list recipes"]
    *mistakes, status, broken, listed = run.call(*lines, beside=(run.installed, tmp_path))
    assert [(reply.code, reply.err) for reply in mistakes] == [(2, f"error: {said}\n") for said in MISTAKES.values()]
    assert "10 of 10 shards" in status.out and "denoised" in listed.out and "broken" not in listed.out
    assert broken.code == 2 and broken.err.count("\n") == 1
    said = (
        "error: recipe 'broken' of the package broken 0.3 (broken:Recipe): it can't be loaded (ModuleNotFoundError: No"
    )
    assert broken.err.startswith(said)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_worker_runs_the_recipe_of_the_package(up: Path, run: Place) -> None:
    shutil.copytree(run.installed, up, dirs_exist_ok=True)
    for name in ("data", "params.yaml", "thumbnail.safetensors"):
        (up / name).unlink(missing_ok=True)
        (up / name).symlink_to(run.folder / name)
    reply = run_deployment(
        "run-dataset/local", {"recipe": "denoised", "source": "data/sample", "output": RUN}, "--watch"
    )
    assert reply.returncode == 0, reply.stdout + reply.stderr + (up / ".servers/worker.log").read_text()
    for stage in STAGES:
        assert {p.name: hash_file(p) for p in (up / RUN / stage).glob("*.parquet")} == {
            p.name: hash_file(p) for p in (run.folder / RUN / stage).glob("*.parquet")
        }
    assert (up / RUN / "summary.json").read_bytes() == (run.folder / RUN / "summary.json").read_bytes()
    assert (up / RUN / "report.html").is_file()


def test_nothing_in_the_project_names_the_package() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [path for path in listed if path.endswith((".py", ".yaml", ".toml", ".j2", "Makefile", ".txt"))]
    sources = [path for path in texts if not path.startswith("tests/")]
    names = {MODULE, MODULE.replace("_", "-"), *(f'"{name}"' for group in ENTRIES.values() for name in group)}
    assert len(sources) > 200
    found = {path: [name for name in names if name in (ROOT / path).read_text()] for path in sources}
    assert {path: named for path, named in found.items() if named} == {}


def test_each_of_the_five_is_one_file_that_needs_none_of_the_others() -> None:
    files = {group: {value.partition(":")[0] for value in entries.values()} for group, entries in ENTRIES.items()}
    modules = [module for group, named in files.items() for module in named if group != "edit_dataset.section"]
    assert len(modules) == len(set(modules)) == 5 and files["edit_dataset.section"] <= set(modules)
    for module in modules:
        parsed = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())
        nodes = [node for node in ast.walk(parsed) if isinstance(node, ast.ImportFrom)]
        assert [node.module for node in nodes if node.level or MODULE in str(node.module)] == []


def test_the_page_about_extending_shows_the_code_of_the_package() -> None:
    page = (ROOT / "docs/extending.md").read_text()
    code = [path.read_text() for path in [PACKAGE / "pyproject.toml", *(PACKAGE / MODULE).glob("*.py")]]
    blocks = re.findall(r"^```(?:python|toml)\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) == 6
    assert [block for block in blocks if not any(block in text for text in code)] == []
    (settings,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    assert DenoiseParams(**yaml.safe_load(settings)["extensions"]["denoise"]).size == 5
    linked = re.findall(r"\]\(\.\./(tests/plugin[^)]*)\)", page)
    assert len(linked) == 6 and all((ROOT / path).exists() for path in linked)
