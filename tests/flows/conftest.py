"""Flows run in this process, on a real Prefect server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import servers

ROOT = Path(__file__).parents[2]


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
