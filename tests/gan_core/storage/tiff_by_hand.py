"""A small writer of uncompressed TIFF files from the specification: one strip, any depth and kind of sample."""

import struct
from collections.abc import Sequence

SHORT, LONG = 3, 4


def encode_tiff(
    pixels: bytes,
    size: tuple[int, int],
    bits: Sequence[int],
    photometric: int,
    extra_sample: int | None = None,
    order: str = "<",
    sample_format: int = 1,
    palette: Sequence[int] = (),
) -> bytes:
    """Return a file of ``size`` (width, height) with one entry in ``bits`` for each sample of a pixel."""
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (LONG, [size[0]]),
        257: (LONG, [size[1]]),
        258: (SHORT, bits),
        259: (SHORT, [1]),
        262: (SHORT, [photometric]),
        273: (LONG, [8]),
        277: (SHORT, [len(bits)]),
        278: (LONG, [size[1]]),
        279: (LONG, [len(pixels)]),
        339: (SHORT, [sample_format] * len(bits)),
    }
    if palette:
        tags[320] = (SHORT, palette)
    if extra_sample is not None:
        tags[338] = (SHORT, [extra_sample])
    place = 8 + len(pixels)
    beyond = place + 2 + 12 * len(tags) + 4
    entries, tail = b"", b""
    for number, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(packed) > 4:
            packed, tail = struct.pack(f"{order}I", beyond + len(tail)), tail + packed
        entries += struct.pack(f"{order}HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place)
    return head + pixels + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + tail
