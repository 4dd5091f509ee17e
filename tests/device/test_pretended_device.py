"""Everything on a pretended device, in a process of its own: it registers the device for the whole process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("which", "files"),
    [
        ("not slow", "pretended"),
        pytest.param("slow", "pretended", marks=pytest.mark.slow),
        pytest.param("gpu", "test_real_card.py", marks=pytest.mark.slow),
    ],
)
def test_everything_computes_on_a_device_as_on_the_cpu(which: str, files: str) -> None:
    """Run the tests of ``pretended``, which loop over the registries: new names are covered without a new line here.

    Those of a real card run there too, so that they are right when one is there.
    """
    options = ["-q", "--no-header", "-p", "no:xdist", "-m", which, "--tb=short"]
    command = [sys.executable, "-m", "pytest", *options, str(HERE / files)]
    environment = os.environ | {"PRETENDED_DEVICE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if "registered at" not in line]
    assert done.returncode == 0 and "passed" in lines[-1], "\n".join(lines[-80:]) + done.stderr[-2000:]
