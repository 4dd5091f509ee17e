"""Both servers on a real PostgreSQL, named by two addresses; skipped where there is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import servers
from flows.edit_dataset import edit_dataset
from tests.postgresql import PROGRAMS, REASON, PostgreSQL

QUICK = {"tune.enabled": False, "edits": [], "measure.metrics": ["mse"], "track.uri": ""}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.skipif(not PROGRAMS, reason=REASON)]


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of our own."""
    pytest.importorskip("psycopg2", reason="MLflow wants it: pip install psycopg2-binary")
    server = PostgreSQL()
    yield server
    server.remove()


def test_runs_are_kept_in_postgresql(
    postgresql: PostgreSQL, project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "FOLDER", project / ".servers")
    monkeypatch.setenv(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL", f"postgresql+asyncpg://{postgresql.address('prefect')}"
    )
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"postgresql://{postgresql.address('mlflow')}")
    monkeypatch.setenv("PREFECT_HOME", str(project / ".prefect"))
    try:
        address = servers.start("prefect").url
        assert servers.answers("mlflow", servers.start("mlflow"))
        with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
            edit_dataset(tiny_dataset, "out", overrides=QUICK)
        ended = rows(postgresql.address("prefect"), "select name from flow_run where state_type = 'COMPLETED'")
        assert ended == ["out"]
        assert rows(postgresql.address("mlflow"), "select status from runs") == ["FINISHED"]
        assert not (project / "mlflow.db").exists() and not (project / ".prefect/prefect.db").exists()
    finally:
        for name in ("prefect", "mlflow"):
            servers.stop(name)


def rows(place: str, query: str) -> list[str]:
    """Return the first column of what a database answers."""
    with sqlalchemy.create_engine(f"postgresql://{place}").connect() as connection:
        return [row[0] for row in connection.execute(sqlalchemy.text(query))]
