"""Links and anchors of the pages in Markdown, as GitHub and the site both resolve them."""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parents[1]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Pages that are not in ``docs``."""
FENCED = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[^\n]*$", flags=re.S | re.M)
CODE = re.compile(rf"{FENCED.pattern}|`[^`\n]+`", flags=FENCED.flags)
LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", flags=re.M)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", flags=re.I)


@dataclass(frozen=True)
class Link:
    """A relative link of a page: the ``path`` below the root that it leads to, and the ``anchor`` there, or ``""``."""

    path: str
    anchor: str

    @classmethod
    def of(cls, page: str, target: str) -> "Link | None":
        """Return what a target in a page leads to, nothing for an address of the network."""
        if ELSEWHERE.match(target):
            return None
        path, _, anchor = unquote(target).partition("#")
        return cls(posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page, anchor)


def all_pages(root: Path = ROOT) -> list[str]:
    """Return the paths of all pages below ``root``, with ``/``."""
    inside = sorted(path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md"))
    return [*(name for name in OUTSIDE if (root / name).is_file()), *inside]


def slug(text: str, separator: str = "-") -> str:
    """Return the anchor that GitHub gives a heading; the site takes this function too."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", separator)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    return {slug(LINK.sub(lambda found: found["text"], heading)) for heading in HEADING.findall(FENCED.sub("", text))}


def targets(text: str) -> Iterator[str]:
    """Yield the targets of a page's links, those of pictures too; what stands in code is none."""
    yield from (found["target"] for found in LINK.finditer(_without_code(text)))


def change_targets(text: str, change: Callable[[str], str]) -> str:
    """Return a page whose links lead to what ``change`` makes of their targets."""
    for found in reversed(list(LINK.finditer(_without_code(text)))):
        begin, end = found.span("target")
        text = text[:begin] + change(found["target"]) + text[end:]
    return text


def broken_links(root: Path = ROOT) -> list[str]:
    """Return ``PAGE: TARGET`` for every link to a file, folder or heading that is not there."""
    texts = {page: (root / page).read_text() for page in all_pages(root)}
    known = {page: anchors(text) for page, text in texts.items()}

    def is_broken(page: str, target: str) -> bool:
        link = Link.of(page, target)
        if link is None:
            return False
        missing = link.path.startswith("..") or not (root / link.path).exists()
        return missing or (link.anchor != "" and link.anchor not in known.get(link.path, set()))

    return [f"{page}: {target}" for page, text in texts.items() for target in targets(text) if is_broken(page, target)]


def _without_code(text: str) -> str:
    """Return a text of the same length with an x for every letter of its code."""
    return CODE.sub(lambda found: re.sub(r"[^\n]", "x", found[0]), text)
