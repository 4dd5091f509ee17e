"""Everything on a pretended device, in a process of its own: it registers the device for the whole process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_everything_computes_on_a_device_as_on_the_cpu(which: str) -> None:
    """Run the tests of ``pretended``, which loop over the registries: new names are covered without a new line here."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "-p",
        "no:xdist",
        "-m",
        which,
        "--tb=short",
        str(HERE / "pretended"),
    ]
    environment = os.environ | {"PRETENDED_DEVICE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if "registered at" not in line]
    assert done.returncode == 0, "\n".join(lines[-80:]) + done.stderr[-2000:]
