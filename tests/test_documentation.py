"""The documentation: its links and anchors, its generated pages, and that the site has every page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from documentation.links import ROOT, all_pages, anchors, broken_links, change_targets, slug
from documentation.reference import PAGES, REFERENCE
from documentation.site import PLACES, on_page_markdown


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


def test_every_status_of_a_row_is_explained() -> None:
    code = "".join(path.read_text() for path in (ROOT / "gan_core").rglob("*.py"))
    given = set(
        re.findall(
            r"""(?:Rejected|ImageError)\(\s*"([a-z_]+)"|status="([a-z_]+)"|status, reason = "([a-z_]+)\"""", code
        )
    )
    named = {name for names in given for name in names if name}
    told = (ROOT / "docs/datasets.md").read_text().partition("## Statuses")[2]
    assert len(named) > 20 and sorted(name for name in named if f"`{name}`" not in told) == []


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
