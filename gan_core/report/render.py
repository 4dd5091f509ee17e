"""Write a page as one HTML file without scripts, which loads nothing."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gan_core.pages.page import Page


def render(page: Page) -> str:
    """Return a page as HTML. Texts may be hostile: they are escaped, and their invisible characters shown."""
    return _environment().get_template("page.html.j2").render(page=page)


def show_invisible(value: object) -> object:
    """Write control characters and marks of text direction as escapes, so that a name can't be disguised."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in value)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("gan_core.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=show_invisible,
    )
