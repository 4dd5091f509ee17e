"""Flows run in this process, on a real Prefect server."""

import os
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import servers
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from tests.flows.from_wheel import install_wheel

ROOT = Path(__file__).parents[2]


def cut_off_after(steps: int) -> Callable[[str, str], None]:
    """Return what replaces ``os.replace``: it moves so many files, then raises ``KeyboardInterrupt``."""
    left, replace = iter(range(steps)), os.replace

    def cut_off(source: str, target: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace(source, target)

    return cut_off


@pytest.fixture(scope="session")
def gated_folder(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, str], tiny_dataset: str) -> Path:
    """A folder with a finished run ``runs/a`` of 8 rows, 7 of them ok; 3 of these fail its gate. Copy it."""
    folder = tmp_path_factory.mktemp("gated")
    edits = [{"direction": "smile", "strengths": [-0.5, 1]}]
    values = {"models": tiny_models, "run": {"workers": 1}, "tune": {"enabled": False}, "edits": edits}
    with chdir(folder):
        Path("params.yaml").write_text(yaml.safe_dump(values | {"measure": {"metrics": ["mse"], "swd_images": 4}}))
        run_plain(plan_run(tiny_dataset, "runs/a", overrides={"gates": ["mse <= q0.5"]}))
    return folder


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the programs of an environment that has the wheel."""
    return install_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def on_server(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Point Prefect at the test server; gives its address."""
    home = tmp_path_factory.mktemp("home")
    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_HOME: home}):
        yield prefect_server


@pytest.fixture
def up(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project folder with its servers and worker up; they are stopped in the end."""
    for name in ("flows", "tasks", "gan_core", "prefect.yaml"):
        (project / name).symlink_to(ROOT / name)
    monkeypatch.setattr(servers, "FOLDER", project / ".servers")
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            os.environ.pop(name, None)
        os.environ |= {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
        servers.up()
        try:
            yield project
        finally:
            servers.down()
