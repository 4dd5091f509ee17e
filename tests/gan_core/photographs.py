"""What the tests of photographs share: the portrait, and skipping where a package is not installed."""

from importlib.util import find_spec

import pytest
from PIL import Image


def require(*packages: str) -> None:
    """Skip the test, with a reason, unless all packages are installed."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: docs/photographs.md says how")


def portrait() -> Image.Image:
    """Return the public-domain portrait (NASA) that scikit-image carries, 512 x 512."""
    data = pytest.importorskip("skimage.data", reason="the portrait comes with scikit-image, which is not installed")
    return Image.fromarray(data.astronaut())
