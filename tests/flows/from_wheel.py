"""An environment that has the project's wheel, and programs that run there in a folder of their own."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
needs_models = pytest.mark.skipif(
    not (ROOT / "data/models/generator.safetensors").is_file(), reason="the toy networks are not here: dvc pull"
)
OUTSIDE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
QUICK = {
    "tune": {"enabled": False},
    "measure": {"metrics": ["mse"]},
    "edits": [{"direction": "smile", "strengths": [1]}],
}


def install_wheel(folder: Path) -> Path:
    """Build the wheel and an environment with it in ``folder``, and return the folder with its programs.

    All other packages are those of this environment.
    """
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in tracked.split("\n") if re.match(r"(flows|tasks|gan_core)/|[^/]+$", name)]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for name in ("data/models", "data/sample"):
        shutil.copytree(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run([*pip, *build], check=True)
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv/bin"
    packages = next((folder / "venv/lib").glob("*/site-packages"))
    (wheel,) = folder.glob("*.whl")
    install = ["--python", programs / "python", "install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, *install], env=OUTSIDE, check=True)
    (packages / "others.pth").write_text(f"{Path(yaml.__file__).parents[1]}\n")  # read by the venv from now on
    return programs


def environment_of(programs: Path) -> dict[str, str]:
    """The variables of whoever works with the environment."""
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    return OUTSIDE | {"PATH": path, "GIT_CEILING_DIRECTORIES": "/"}


def call(programs: Path, folder: Path, *words: str, code: int = 0) -> str:
    """Run a program of the environment in a folder, and return what it prints; fails unless it ends with ``code``."""
    done = subprocess.run(words, cwd=folder, env=environment_of(programs), capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + (done.stderr if code else "")


def make_quick(project: Path) -> None:
    """Leave out of a project's parameters what takes long."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(
        yaml.safe_dump(params | {k: params[k] | v if isinstance(v, dict) else v for k, v in QUICK.items()})
    )
