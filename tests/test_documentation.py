"""The documentation: its links and anchors, its generated pages, and that the site has every page."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from documentation.links import ROOT, all_pages, anchors, broken_links, change_targets, slug
from documentation.reference import PAGES, REFERENCE
from documentation.site import PLACES, on_page_markdown
from gan_core.params import ModelPaths, load_params


def test_every_link_leads_to_something() -> None:
    assert len(all_pages()) > 25
    assert broken_links() == []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs/more").mkdir(parents=True)
    (tmp_path / "docs/picture.png").touch()
    (tmp_path / "README.md").write_text(
        "# Title\n[there](docs/page.md#its-second-heading-x) [gone](docs/gone.md) [no](docs/page.md#none)\n"
        "![is](docs/picture.png) `[code](nothing.md)` [web](https://example.org/x)\n```\n[code](nothing.md)\n```\n"
    )
    (tmp_path / "docs/page.md").write_text(
        "# A\n## Its second heading: `x`\n```\n# None\n```\n[up](../README.md#title)\n"
    )
    (tmp_path / "docs/more/deep.md").write_text(
        "[its\nown](#own) [`code`](../page.md) [out](../../../x) [p](../picture.jpg)\n## Own\n[wrong](#owned)\n"
    )
    assert broken_links(tmp_path) == [
        *("README.md: docs/gone.md", "README.md: docs/page.md#none", "docs/more/deep.md: ../../../x"),
        *("docs/more/deep.md: ../picture.jpg", "docs/more/deep.md: #owned"),
    ]


def is_name(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and re.fullmatch("[a-z]+(_[a-z]+)*", str(node.value)) is not None


def statuses_in(path: Path) -> Iterator[str]:
    """Yield the statuses that a module gives to rows, however it does: calls, keywords, dictionaries, pairs."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found += node.args[:1] if called in ("Rejected", "ImageError") else []
            found += [keyword.value for keyword in node.keywords if keyword.arg == "status"]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "status"]
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and is_name(node.elts[0]):
            second = node.elts[1]  # a sentence
            is_said = isinstance(second, ast.Constant) and " " in str(second.value)
            found += node.elts[:1] if isinstance(second, ast.JoinedStr) or is_said else []
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for each in found:
        if isinstance(each, ast.Constant) and is_name(each):
            yield str(each.value)
        elif isinstance(each, ast.Name) and each.id.isupper():
            yield getattr(import_module(module), each.id)


def told_statuses() -> list[list[str]]:
    """Return the cells of the table of statuses; where a row has no first cell, it has that of the row above."""
    page = (ROOT / "docs/datasets.md").read_text().partition("## Statuses")[2]
    lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in re.findall(r"^\|.*", page, re.M)]
    for above, line in pairwise(lines):
        line[0] = line[0] or above[0]
    return lines[2:]


def test_every_status_of_a_row_is_explained() -> None:
    code = [path for path in (ROOT / "gan_core").rglob("*.py") if "toy" not in path.parts]
    named = {name for path in code for name in statuses_in(path)} - {"ok"}
    assert named >= {"unsafe_name", "not_a_file", "bad_source", "out_of_domain", "duplicate_key", "no_face", "oom"}
    table = told_statuses()
    assert [line for line in table if len(line) != 4 or not all(line)] == []
    told = {name for line in table for name in re.findall("`([a-z_]+)`", line[1])}
    assert sorted(named ^ told) == []


@pytest.mark.parametrize(
    ("code", "stage"),
    [
        ("importers", "import"),
        ("stages/encode.py", "encode"),
        ("align", "align"),
        ("recipes/composition_plan.py", "compose"),
    ],
)
def test_a_status_is_told_of_the_stage_that_sets_it(code: str, stage: str) -> None:
    place = ROOT / "gan_core" / code
    given = {name for path in (place.rglob("*.py") if place.is_dir() else [place]) for name in statuses_in(path)}
    told = {name for line in told_statuses() if stage in line[0] for name in re.findall("`([a-z_]+)`", line[1])}
    assert given and sorted(given - told - {"ok"}) == []


def test_every_command_that_starts_a_deployment_gives_what_it_requires() -> None:
    parts = re.split("^## ", PAGES["deployments.md"](), flags=re.M)[1:]
    required = {part.split("\n", 1)[0]: re.findall(r"^\| `(\w+)` \| required \|", part, flags=re.M) for part in parts}
    commands = [line for part in parts for line in re.findall("^prefect deployment run .*", part, flags=re.M)]
    assert required["edit-shards/shards"] == ["output", "shards"] and len(commands) > 5
    for command in commands:
        assert [key for key in required[command.split()[3]] if f"-p {key}=" not in command] == []


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("## Gates: only rows that are good enough", "gates-only-rows-that-are-good-enough"),
        ("### `kind: style-channel`", "kind-style-channel"),
        ("# MLflow & DVC, [a link](x.md)", "mlflow--dvc-a-link"),
        ("## gan_core.align_face #", "gan_corealign_face"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert anchors(f"text\n{heading}\nmore\n") == {anchor}


def test_links_lead_to_the_same_on_the_site() -> None:
    class Page:
        class file:
            src_uri = "reference/parameters.md"

    text = "[a](../../params.yaml) [b](../tuning.md#x) [c](../../README.md) [d](https://e.org) [e](#own) `[f](g.md)`"
    assert on_page_markdown(text, Page, None, None) == (
        "[a](../files/params.yaml.md) [b](../tuning.md#x) [c](../overview.md) [d](https://e.org) "
        "[e](parameters.md#own) `[f](g.md)`"
    )
    assert change_targets(text, lambda target: target) == text


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_says_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), "write it with `python -m documentation`"


@pytest.mark.parametrize(("page", "name"), [("photographs.md", "photos.yaml"), ("checkpoints.md", "pti.yaml")])
def test_parameter_files_of_the_pages_are_accepted_and_named(page: str, name: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / page).read_text()
    (content,) = [block for block in re.findall("```yaml\n(.*?)```", text, flags=re.S) if "\nmodels:" in block]
    (tmp_path / name).write_text(content)
    params = load_params(tmp_path / name)
    assert params.models.perceptual != ModelPaths().perceptual and params.tune.persist == "none" and params.edits
    assert text.index(content) < text.index(f"--params {name}")
    assert f"--params {name}" in text and f"`{name}`" in text


def test_every_parameter_of_params_yaml_is_described() -> None:
    lines = dict(re.findall(r"^\| `([^`]+)` \|.*\| ([^|]*) \|$", PAGES["parameters.md"](), flags=re.M))
    assert [key for key, meaning in lines.items() if not meaning.strip()] == []
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    keys = {f"{section}.{key}" for section, own in values.items() if isinstance(own, dict) for key in own}
    assert len(keys) > 60 and keys - set(lines) == set()


def test_the_site_has_every_page() -> None:
    declared = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = re.findall(r"[\w/.-]+\.md", str(declared["nav"]))
    expected = [PLACES.get(page, page.removeprefix("docs/")) for page in all_pages()]
    assert sorted(named) == sorted(expected)
    assert (ROOT / "docs" / declared["theme"]["favicon"]).is_file() and declared["theme"]["font"] is False


def test_lists_begin_after_an_empty_line() -> None:
    """GitHub shows a list that follows a paragraph at once; the site would show one paragraph."""
    item = re.compile(r"^(?![-*|>#\s]|\d+\. )[^\n]+\n(?:[-*]|\d+\.) ", flags=re.M)
    fenced = re.compile(r"^```.*?^```", flags=re.S | re.M)
    found = {page: item.findall(fenced.sub("", (ROOT / page).read_text())) for page in all_pages()}
    assert {page: lines for page, lines in found.items() if lines} == {}


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra docs is not installed: make docs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(all_pages())
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//|<link[^>]+stylesheet[^>]+href=\"?(?:https?:)?//"
    )
    assert [page.name for page in pages if loads.search(page.read_text())] == []
    assert f'id="{slug("Gates: only rows that are good enough")}"' in (tmp_path / "site/datasets.html").read_text()
