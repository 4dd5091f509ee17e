"""Flows run in this process, on a real Prefect server."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings


@pytest.fixture
def on_server(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Point Prefect at the test server; gives its address."""
    home = tmp_path_factory.mktemp("home")
    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_HOME: home}):
        yield prefect_server
