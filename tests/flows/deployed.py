"""Prefect's command line, as somebody would use it who runs the project's deployments."""

import subprocess
import sys
from collections.abc import Mapping


def prefect(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a ``prefect`` command."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=800)


def run_deployment(name: str, given: Mapping[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Have a worker run the deployment ``name`` with the parameters that are given."""
    parameters = [part for key, value in given.items() for part in ("-p", f"{key}={value}")]
    return prefect("deployment", "run", name, *options, *parameters)
