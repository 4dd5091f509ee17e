"""Everything here is computed twice, on the CPU and on the pretended device, and has to be the same."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from gan_core.device import compute_on, fetch, has_bfloat16
from gan_core.rows import Rejected
from tests.device.fakegpu import NAME, Counts, OnDevice, fakegpu
from tests.gan_core.conftest import aligned_rows, models  # noqa: F401  (fixtures)
from tests.gan_core.translation.conftest import build, rows, sample, translators  # noqa: F401  (fixtures)

NEEDS_BFLOAT16 = pytest.mark.skipif(not has_bfloat16(), reason="`fast` is float32 on this CPU, and not on the device")
TOLERANCE = 1e-4
"""Where the CPU uses float64 the device has float32; all else is the same to the bit."""


def there(compute: Callable[[], Any]) -> Any:
    """Compute on the pretended device, with the counts of this call in ``Counts``."""
    with fakegpu(), compute_on(NAME):
        Counts.reset()
        return compute()


def check_same(compute: Callable[[], Any], tolerance: float = TOLERANCE) -> Any:
    """Assert that the device gives what the CPU gives; return that."""
    expected = compute()
    found = there(compute)
    assert Counts.calls, "nothing was computed on the device"
    compare(expected, found, tolerance)
    return found


def compare(expected: Any, found: Any, tolerance: float, where: str = "result") -> None:
    """Assert that two results are the same: nested, of tensors, arrays, numbers, pictures and text."""
    if isinstance(expected, Tensor):
        assert isinstance(found, Tensor), where
        compare(fetch(expected), fetch(found), tolerance, where)
    elif isinstance(expected, np.ndarray) and expected.dtype == np.uint8:
        assert np.abs(expected.astype(int) - found).max() <= 1, where
    elif isinstance(expected, np.ndarray | float):
        scale = max(1.0, float(np.nanmax(np.abs(expected)))) if np.size(expected) else 1.0
        assert np.shape(found) == np.shape(expected), where
        np.testing.assert_allclose(found, expected, atol=tolerance * scale, rtol=0, err_msg=where)
    elif isinstance(expected, bytes) and expected.startswith(b"\x89PNG"):
        one, other = (np.asarray(Image.open(io.BytesIO(data))).astype(int) for data in (expected, found))
        assert np.abs(one - other).max() <= 1, where
    elif isinstance(expected, Mapping):
        assert list(found) == list(expected), where
        for key in expected:
            compare(expected[key], found[key], tolerance, f"{where}[{key!r}]")
    elif isinstance(expected, Sequence) and not isinstance(expected, str | bytes | Rejected):
        assert len(found) == len(expected), where
        for i, pair in enumerate(zip(expected, found, strict=True)):
            compare(*pair, tolerance, f"{where}[{i}]")
    else:
        assert found == expected, where


def is_there(item: Any) -> bool:
    """Tell whether a tensor, or every parameter and buffer of a network, is on the device."""
    tensors = [item] if isinstance(item, Tensor) else [*item.parameters(), *item.buffers()]
    return all(isinstance(tensor, OnDevice) for tensor in tensors)
