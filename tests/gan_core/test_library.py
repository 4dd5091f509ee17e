"""The library's face: what it offers, that the page shows all of it, and that the page's code runs."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import gan_core
from documentation.face import FOR_PACKAGES, TYPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text()


def test_every_name_is_there_and_on_the_page() -> None:
    assert [name for name in gan_core.__all__ if getattr(gan_core, name, None) is None] == []
    assert [name for name in gan_core.__all__ if f"gan_core.{name}" not in PAGE] == []
    assert set(re.findall(r"gan_core\.(\w+)", PAGE)) <= set(gan_core.__all__)
    assert 20 <= len(gan_core.__all__) <= 32


def test_what_packages_import_and_functions_return_is_stable() -> None:
    listed = {(module, name) for places in (TYPES, FOR_PACKAGES) for module, names in places.items() for name in names}
    assert [each for each in listed if not hasattr(import_module(each[0]), each[1])] == []
    sources = [ast.parse(path.read_text()) for path in (ROOT / "tests/plugin/edit_dataset_example").glob("*.py")]
    imports = [node for tree in sources for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    used = {(str(node.module), each.name) for node in imports for each in node.names}
    offered = {(f"gan_core.{place}", name) for name, place in gan_core._PLACES.items()}
    ours = {each for each in used if each[0].startswith("gan_core")}
    assert len(ours) > 20 and ours <= listed | offered


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
