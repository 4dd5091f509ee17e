"""``make`` in what GitHub gives as a ZIP: a folder without git."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gan_core.align.facemesh_landmarks import MESH
from gan_core.checkpoints.packaged import WITHOUT_DEPENDENCIES
from gan_core.judges.age_gender import AGE_FILE, GENDER_FILE
from gan_core.judges.expression import FILE as EXPRESSION_FILE

ROOT = Path(__file__).parents[2]


def make_data(folder: Path) -> "subprocess.CompletedProcess[str]":
    variables = [f"BIN={Path(sys.executable).parent}", "STAMP=installed"]
    return subprocess.run(["make", "data", *variables], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_data_are_fetched_without_git_and_with_it_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    dvc = [sys.executable, "-m", "dvc"]
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc/config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../.dvcstore\n")
    shutil.copy(ROOT / "Makefile", project)
    for name in ("pyproject.toml", "constraints.txt", "installed"):
        (project / name).touch()
    (project / "file").write_text("data")
    subprocess.run([*dvc, "config", "--local", "core.no_scm", "true"], cwd=project, check=True)
    subprocess.run([*dvc, "add", "-q", "file"], cwd=project, check=True)
    subprocess.run([*dvc, "push", "-q"], cwd=project, check=True)
    (project / ".dvc/config.local").unlink()
    shutil.rmtree(project / ".dvc/cache", ignore_errors=True)

    (project / "file").unlink()
    done = make_data(project)
    assert (done.returncode, done.stderr) == (0, "") and "no git repository here" in done.stdout
    assert (project / "file").read_text() == "data"
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    assert make_data(project).returncode == 0
    assert "no_scm" not in (project / ".dvc/config.local").read_text()

    shutil.rmtree(project / ".dvcstore")
    shutil.rmtree(project / ".dvc/cache")
    (project / "file").unlink()
    failed = make_data(project)
    assert failed.returncode and "ERROR" in failed.stderr


def test_photographs_are_edited_where_a_generator_is_given() -> None:
    def plan(*variables: str) -> str:
        done = subprocess.run(["make", "-n", "demo-photos", *variables], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    alone, edited = plan(), plan("GENERATOR=g.pt", "ENCODER=e.pt")
    assert "--recipe photographs" in alone and "no generator was given" in alone and "models.generator" not in alone
    assert "models.generator=g.pt --set models.encoder=e.pt" in " ".join(edited.replace("\\\n", " ").split())
    assert "no generator" not in edited and "edits=[]" in edited
    assert "{direction: gender, strengths: [1]}" in plan("GENERATOR=g.pt", "DIRECTIONS=d.safetensors")
    chosen = plan("GENERATOR=g.pt", "DIRECTIONS=d.safetensors", "EDITS=smile age")
    (edits,) = re.findall(r"--set 'edits=(.*?)'", chosen)
    assert yaml.safe_load(edits) == [{"direction": name, "strengths": [1]} for name in ("smile", "age")]


def test_one_command_installs_what_messages_and_the_page_name() -> None:
    (line,) = [x for x in (ROOT / "Makefile").read_text().splitlines() if x.startswith("WITHOUT_DEPENDENCIES :=")]
    pins = line.partition(":= ")[2].split()
    files = (MESH, AGE_FILE, GENDER_FILE, EXPRESSION_FILE)
    assert {file.release for file in files} == set(pins) and {file.install for file in files} == {WITHOUT_DEPENDENCIES}
    assert f"'.[photos]' && {WITHOUT_DEPENDENCIES}\n" in (ROOT / "docs/photographs.md").read_text()
    assert WITHOUT_DEPENDENCIES.split()[3:] == pins
