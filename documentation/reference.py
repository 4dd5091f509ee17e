"""The generated pages by their file names in ``docs/reference``."""

from collections.abc import Callable
from pathlib import Path

from documentation.commands import commands
from documentation.deployments import deployments
from documentation.face import face
from documentation.parameters import parameters

REFERENCE = Path(__file__).parents[1] / "docs/reference"
PAGES: dict[str, Callable[[], str]] = {
    "parameters.md": parameters,
    "commands.md": commands,
    "deployments.md": deployments,
    "library.md": face,
}
"""What writes each page."""
