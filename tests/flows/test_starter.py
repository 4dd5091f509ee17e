"""A project without a clone: the wheel in an environment of its own, and every file that a folder needs from it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

import gan_core
from flows import starter
from flows.project import checkout
from gan_core.errors import UserError
from gan_core.params import load_params
from gan_core.storage.shards import list_shards
from tests.flows.from_wheel import ROOT, call, make_quick, needs_models


@needs_models
def test_a_project_from_the_wheel_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    said = call(installed, tmp_path, "edit-dataset", "init", "faces", "--sample")
    assert "no git repository" in said and "cd faces && edit-dataset doctor" in said
    assert len(said.splitlines()) == 3
    project = tmp_path / "faces"
    where = call(installed, project, "python", "-c", "import gan_core; print(gan_core.__file__)").strip()
    assert Path(where).is_relative_to(installed.parent) and where != gan_core.__file__
    assert "FAIL" not in call(installed, project, "edit-dataset", "doctor")
    assert load_params(project / "params.yaml") == load_params(ROOT / "params.yaml")
    make_quick(project)
    assert len(list_shards(project / "data/sample")) == len(list_shards(ROOT / "data/sample"))
    for shard in sorted((project / "data/sample").glob("shard-*"))[2:]:  # one shard and its receipt take less time
        shard.unlink()
    call(installed, project, "dvc", "repro", "-q")
    assert "mse" in (project / "data/metrics/sample.json").read_text()
    assert (project / "runs/repro/report.html").is_file() and not (project / "runs/sample").exists()
    assert len(list_shards(project / "runs/repro/edit")) == 1


@pytest.mark.slow
@needs_models
def test_its_deployments_run_there(installed: Path, tmp_path: Path) -> None:
    call(installed, tmp_path, "edit-dataset", "init", ".", "--sample")
    make_quick(tmp_path)
    try:
        call(installed, tmp_path, "edit-dataset", "server", "up")
        call(installed, tmp_path, "prefect", "deployment", "run", "edit-dataset/local", "--watch")
        assert "128 rows" in call(installed, tmp_path, "edit-dataset", "inspect", "runs/local")
    finally:
        call(installed, tmp_path, "edit-dataset", "server", "down")


def tutorial() -> list[tuple[str, str]]:
    """Return the code of the tutorial, as pairs of its language and its text."""
    return re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(), flags=re.S)


def test_the_tutorial_installs_what_the_project_is() -> None:
    page, project = (ROOT / "docs/tutorial.md").read_text(), (ROOT / "pyproject.toml").read_text()
    assert set(re.findall(r"torch(?:vision)?==[\d.]+", page)) == set(
        re.findall(r'"(torch(?:vision)?==[\d.]+)"', project)
    )
    (version,) = re.findall(r'^version = "(.*)"$', project, flags=re.M)
    assert f"edit_dataset-{version}-py3-none-any.whl[datasets]" in tutorial()[0][1]


WATCHED = """
edit-dataset view runs/pictures --port 18300 > view.txt & viewer=$!
python -c 'import re, time, urllib.request
while not (found := re.match("http://[0-9.:]+", open("view.txt").read())): time.sleep(0.2)
while True:
    try: print("page", urllib.request.urlopen(found[0]).status); break
    except OSError: time.sleep(0.2)'
kill -INT $viewer; wait $viewer
"""
"""``edit-dataset view``, which ends by Ctrl-C once its page was answered."""


@pytest.mark.slow
@needs_models
def test_the_tutorial_runs_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    (_, install), *steps = tutorial()
    assert "pip install" in install and {language for language, _ in steps} == {"bash", "python"}
    script = "\n".join(code if language == "bash" else f"python - <<'END'\n{code}END\n" for language, code in steps)
    assert script.count("edit-dataset view runs/pictures\n") == 1
    script = "set -eu\n" + script.replace("edit-dataset view runs/pictures\n", WATCHED)
    try:
        said = call(installed, tmp_path, "bash", "-c", script)
    finally:
        if (tmp_path / "faces").is_dir():
            call(installed, tmp_path / "faces", "edit-dataset", "server", "stop")
    assert "imported 32 rows into 1 shard (32 ok)" in said and "31 of 32 rows" in said and "page 200" in said
    assert re.search(
        r"^\d+ rows: \['key', .*'smile@\+1', 'hair_lightness@-1', 'hair_lightness@\+1'\]$", said, flags=re.M
    )
    assert (tmp_path / "faces/smile.png").is_file() and (tmp_path / "faces/runs/pictures/report.html").is_file()


@needs_models
def test_what_is_there_stays_and_git_keeps_what_it_should(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "params.yaml").write_text("tune: {steps: 3}\n")
    first = starter.make_project(tmp_path)
    assert first.kept == ["params.yaml"] and first.git and load_params(tmp_path / "params.yaml").tune.steps == 3
    listed = ["git", "ls-files", "--others", "--exclude-standard"]
    new = subprocess.run(listed, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert "data/models/psp.safetensors.dvc" in new and not [name for name in new if name.endswith(".safetensors")]
    again = starter.make_project(tmp_path)
    assert again.written == [] and set(again.kept) == {*first.written, "params.yaml"}


def test_a_package_without_networks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "checkout", lambda: tmp_path / "bare")
    with pytest.raises(UserError, match="data/models has no networks"):
        starter.make_project(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_checkout_is_known_by_its_files() -> None:
    assert checkout() == ROOT


def test_a_project_is_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="s3://bucket/x is a URL: name a local folder"):
        starter.make_project("s3://bucket/x")
    assert list(tmp_path.iterdir()) == []


def test_its_pipeline_makes_a_run_again_for_the_same_parameters_as_ours() -> None:
    ours, theirs = (yaml.safe_load((ROOT / path).read_text()) for path in ("dvc.yaml", "flows/starter/pipeline.yaml"))
    assert theirs["stages"]["edit"]["params"] == ours["stages"]["demo"]["params"]


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/models").symlink_to("/nowhere/models")
    with pytest.raises(UserError, match=r"data/models is a link to /nowhere/models, which isn't there: mount it"):
        starter.make_project(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "models"]
