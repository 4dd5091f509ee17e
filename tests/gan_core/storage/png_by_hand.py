"""A small PNG writer and reader from the specification, with zlib and numpy, to check the project's decoder by."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

Pixels = np.ndarray
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
Chunk = tuple[bytes, bytes]


def pack(pixels: Pixels, bits: int, order: str = ">") -> bytes:
    """Return samples ``[H, W, C]`` of ``bits`` each, most significant first; every row begins at a byte."""
    if bits >= 16:
        return pixels.astype(f"{order}u{bits // 8}").tobytes()
    rows = pixels.reshape(len(pixels), -1)
    spread = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode_png_file(pixels: Pixels, depth: int, kind: int, extra: Sequence[Chunk] = ()) -> bytes:
    """Write samples ``[H, W, C]`` without filters; ``extra`` chunks come before the pixels, as PLTE and tRNS must."""
    height, width, _ = pixels.shape
    packed = pack(pixels, depth)
    size = len(packed) // height
    rows = b"".join(b"\0" + packed[i : i + size] for i in range(0, len(packed), size))
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*found) for found in chunks)


def with_chunk(data: bytes, kind: bytes, content: bytes, last: bool = False) -> bytes:
    """Add a chunk after the header (33 bytes), or before the end (the last 12)."""
    at = len(data) - 12 if last else 33
    return data[:at] + chunk(kind, content) + data[at:]


def decode_png(data: bytes) -> Pixels:
    """Read a PNG without interlace to ``[H, W, 3]`` in 0 to 255, not rounded, on white, whatever its profile."""
    chunks = _chunks(data)
    width, height, depth, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    samples = _samples(zlib.decompress(chunks[b"IDAT"]), height, width, depth, CHANNELS[kind])
    top = (1 << depth) - 1
    opacity = np.ones((height, width, 1))
    if kind == 3:
        colours = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
        covers = np.full(len(colours), 255)
        covers[: len(chunks.get(b"tRNS", b""))] = list(chunks.get(b"tRNS", b""))
        return _on_white(colours[samples[..., 0]], covers[samples[..., 0]][..., None] / 255)
    if b"tRNS" in chunks:
        named = struct.unpack(f">{CHANNELS[kind]}H", chunks[b"tRNS"])
        opacity = 1.0 - (samples == named).all(axis=-1, keepdims=True)
    elif kind in (4, 6):
        opacity, samples = samples[..., -1:] / top, samples[..., :-1]
    return _on_white(np.broadcast_to(samples / top * 255, (height, width, 3)), opacity)


def _on_white(colours: Pixels, opacity: Pixels) -> Pixels:
    return colours * opacity + 255 * (1 - opacity)


def _chunks(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind = data[at + 4 : at + 8]
        found[kind] = found.get(kind, b"") + data[at + 8 : at + 8 + size]
        at += 12 + size
    return found


def _samples(raw: bytes, height: int, width: int, depth: int, channels: int) -> Pixels:
    size = -(-width * channels * depth // 8)
    step = max(channels * depth // 8, 1)
    rows = np.zeros((height, size), np.int64)
    before = np.zeros(size, np.int64)
    for y in range(height):
        line = raw[y * (size + 1) : (y + 1) * (size + 1)]
        before = rows[y] = _unfilter(line[0], line[1:], before, step)
    octets = rows.astype(np.uint8)
    if depth == 16:
        return octets.view(">u2").astype(np.int64).reshape(height, width, channels)
    bits = np.unpackbits(octets, axis=1)[:, : width * channels * depth].reshape(height, width, channels, depth)
    return (bits.astype(np.int64) << np.arange(depth - 1, -1, -1)).sum(axis=-1)


def _unfilter(kind: int, line: bytes, above: Pixels, step: int) -> Pixels:
    row = np.zeros(len(line), np.int64)
    for x, stored in enumerate(line):
        left = row[x - step] if x >= step else 0
        corner = above[x - step] if x >= step else 0
        guess = (0, left, above[x], (left + above[x]) // 2, _paeth(left, above[x], corner))[kind]
        row[x] = (stored + guess) % 256
    return row


def _paeth(left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))
