"""The library's face: what it offers, that the page shows all of it, and that the page's code runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gan_core

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text()


def test_every_name_is_there_and_on_the_page() -> None:
    assert [name for name in gan_core.__all__ if getattr(gan_core, name, None) is None] == []
    assert [name for name in gan_core.__all__ if f"gan_core.{name}" not in PAGE] == []
    assert set(re.findall(r"gan_core\.(\w+)", PAGE)) <= set(gan_core.__all__)
    assert 20 <= len(gan_core.__all__) <= 32


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(gan_core.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {name: f"gan_core.{place}" for name, place in gan_core._PLACES.items()}


def test_importing_the_package_alone_is_quick() -> None:
    code = "import gan_core, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_generatr'"):
        gan_core.load_generatr  # noqa: B018


@pytest.mark.slow
def test_the_code_of_the_page_runs() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.S))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "run/report.html" in done.stdout
