"""A real PostgreSQL of our own, on loopback: Debian's package (``apt-get install postgresql``)."""

import os
import shutil
import subprocess
from pathlib import Path

from flows import servers

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
REASON = "PostgreSQL is not installed: apt-get install postgresql"
DATABASES = ("prefect", "mlflow")


class PostgreSQL:
    """A server that is started, killed and started again on the same port and data, with ``DATABASES`` in it."""

    def __init__(self) -> None:
        self.place = Path("/tmp") / f"edit-dataset-pg-{os.getpid()}"
        self.place.mkdir()
        self.port = servers.free_port(5640)
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.place, "postgres")
        self._run("initdb", "-D", f"{self.place}/data", "-U", "me", "-A", "trust", "--no-sync")
        self.start()
        for name in DATABASES:
            self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "me", name)

    def address(self, database: str) -> str:
        """Return user, host, port and database as addresses have them after ``//``."""
        return f"me@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.place} -c fsync=off"
        self._run("pg_ctl", "-D", f"{self.place}/data", "-o", options, "-l", f"{self.place}/log", "-w", "start")

    def kill(self) -> None:
        """End it at once, without any tidying up, as a crash does."""
        self._run("pg_ctl", "-D", f"{self.place}/data", "-m", "immediate", "stop")

    def remove(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self.place)

    def _run(self, program: str, *arguments: str) -> None:
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_user, str(PROGRAMS[-1].parent / program), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)
