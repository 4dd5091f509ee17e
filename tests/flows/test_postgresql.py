"""Both servers on a real PostgreSQL, named by two addresses; skipped where there is none."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import servers
from flows.edit_dataset import edit_dataset

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
QUICK = {"tune.enabled": False, "edits": [], "measure.metrics": ["mse"], "track.uri": ""}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed: apt-get install postgresql"),
]


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """The address of a PostgreSQL server of our own, on loopback, with the databases ``prefect`` and ``mlflow``."""
    pytest.importorskip("psycopg2", reason="MLflow wants it: pip install psycopg2-binary")
    place = Path("/tmp") / f"edit-dataset-pg-{os.getpid()}"
    place.mkdir()
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(place, "postgres")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    programs, port = PROGRAMS[-1].parent, servers._free_port(5640)

    def run(program: str, *arguments: str) -> None:
        subprocess.run([*as_user, str(programs / program), *arguments], check=True, cwd="/", stdout=subprocess.DEVNULL)

    run("initdb", "-D", f"{place}/data", "-U", "me", "-A", "trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place} -c fsync=off"
    run("pg_ctl", "-D", f"{place}/data", "-o", options, "-l", f"{place}/log", "-w", "start")
    try:
        for name in ("prefect", "mlflow"):
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "me", name)
        yield f"me@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-D", f"{place}/data", "-m", "immediate", "stop")
        shutil.rmtree(place)


def test_runs_are_kept_in_postgresql(
    postgresql: str, project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "FOLDER", project / ".servers")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"postgresql+asyncpg://{postgresql}/prefect")
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"postgresql://{postgresql}/mlflow")
    monkeypatch.setenv("PREFECT_HOME", str(project / ".prefect"))
    try:
        address = servers.start("prefect").url
        assert servers.answers("mlflow", servers.start("mlflow"))
        with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
            edit_dataset(tiny_dataset, "out", overrides=QUICK)
        assert rows(f"{postgresql}/prefect", "select name from flow_run where state_type = 'COMPLETED'") == ["out"]
        assert rows(f"{postgresql}/mlflow", "select status from runs") == ["FINISHED"]
        assert not (project / "mlflow.db").exists() and not (project / ".prefect/prefect.db").exists()
    finally:
        for name in ("prefect", "mlflow"):
            servers.stop(name)


def rows(place: str, query: str) -> list[str]:
    """Return the first column of what a database answers."""
    with sqlalchemy.create_engine(f"postgresql://{place}").connect() as connection:
        return [row[0] for row in connection.execute(sqlalchemy.text(query))]
