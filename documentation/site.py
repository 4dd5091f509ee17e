"""What the site adds to the pages of ``docs``: those that lie elsewhere, and the files that pages link to.

MkDocs calls the functions ``on_…`` below; ``mkdocs.yml`` names this file.
"""

import posixpath
from pathlib import Path
from typing import Any

from documentation.links import OUTSIDE, ROOT, Link, all_pages, change_targets, slug, targets

PLACES = {"README.md": "overview.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Where the site has the pages that are not in ``docs``."""
DOCS, FILES = "docs/", "files/"
UNSEARCHED = "---\nsearch: {exclude: true}\n---"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json"}


def on_config(config: Any) -> Any:
    """Give headings the anchors that they have on GitHub."""
    config.mdx_configs["toc"]["slugify"] = slug
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages outside of ``docs``, and a page for each other file or folder that a page links to."""
    from mkdocs.structure.files import File

    pages = all_pages()
    found = (Link.of(page, target) for page in pages for target in targets((ROOT / page).read_text()))
    linked = {link.path for link in found if link and not link.path.startswith(DOCS) and link.path not in OUTSIDE}
    texts = {PLACES[name]: (ROOT / name).read_text() for name in OUTSIDE}
    texts |= {_place(path): _show(ROOT / path) for path in sorted(linked)}
    for place, text in texts.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let the links of a page lead to where the site has what they name."""
    place = page.file.src_uri
    origin = next((name for name, at in PLACES.items() if at == place), DOCS + place)
    return markdown if place.startswith(FILES) else change_targets(markdown, lambda target: _resolve(origin, target))


def _resolve(page: str, target: str) -> str:
    link = Link.of(page, target)
    if link is None:
        return target
    path = posixpath.relpath(_place(link.path), posixpath.dirname(_place(page)) or ".")
    return f"{path}#{link.anchor}" if link.anchor else path


def _place(path: str) -> str:
    """Return where the site has a file of the repository."""
    return path.removeprefix(DOCS) if path.startswith(DOCS) else PLACES.get(path, f"{FILES}{path}.md")


def _show(path: Path) -> str:
    """Write a file, or all files of a folder, as code."""
    found = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix in LANGUAGES)
    name = path.relative_to(ROOT)
    parts = [f"## {each.relative_to(path)}\n\n{_code(each)}" if path.is_dir() else _code(each) for each in found]
    return "\n\n".join([UNSEARCHED, f"# {name}", *parts, ""])


def _code(path: Path) -> str:
    return f"````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text().rstrip()}\n````"
