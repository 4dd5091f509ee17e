"""What ``checkpoints inspect`` shows of a file of pSp, e4e or Style Transformer beside its sizes."""

from collections.abc import Mapping
from itertools import islice

from gan_core.geometry import Frame

MOST_OPTIONS = 80
"""Training options that are shown; e4e's files have about 60."""


def shown_options(options: Mapping[str, object]) -> dict[str, object]:
    """Return the training options of a file in a form that fits a page: plain values, of others the type."""
    return {str(name)[:40]: _shown(value) for name, value in islice(options.items(), MOST_OPTIONS)}


def describe_framing(size: int | list[int], drawn: int | None) -> str:
    """Say what of a picture an encoder sees, and which part of the generator's square of ``drawn`` px that is."""
    height, width = (size, size) if isinstance(size, int) else size
    if height == width or drawn is None:
        return f"the whole picture at {width}x{height} px"
    rows, _ = Frame(height, width).shape(drawn)
    top = (drawn - rows) // 2
    return f"the whole picture at {width}x{height} px, rows {top} to {top + rows - 1} of the generator's {drawn}"


def _shown(value: object) -> object:
    if isinstance(value, bool | float | None) or (isinstance(value, int) and value.bit_length() < 64):
        return value
    return value[:80] if isinstance(value, str) else f"a {type(value).__name__}"
