"""Pieces of Markdown that the generated pages consist of."""

from collections.abc import Iterable, Sequence

WRITTEN = "<!-- Written by `python -m documentation` from the code: change it there. -->"


def page(title: str, *blocks: str) -> str:
    """Return a page with its title, the note that it is generated, and its blocks."""
    return "\n\n".join([f"# {title}", WRITTEN, *blocks]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; ``rows`` have one text for each of ``heads``."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Return a text as code, nothing for an empty one."""
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Return a docstring in Markdown: one backtick around code, where docstrings have two."""
    return text.replace("``", "`")
