"""Write an RGB picture as PNG, fast.

Pillow tries every row filter and needs about three times as long, which is the largest part of what the
loop costs per attempt (`benchmarks/loop_cost.py`). One filter (the row above) and run-length matching
give files of the same size here, and bands of the picture are packed beside each other where there are cores
for it. Reading is left to Pillow.
"""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2
_RGB8 = (8, 2, 0, 0, 0)
_ZLIB_HEADER = b"\x78\x01"
BAND = 2**17
"""Bytes that are packed as one, about. Bands follow from the picture alone, not from the machine's cores."""

_packers = ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 2) - 1)), "interleave-png")
"""One core is left to the loop, which goes on meanwhile."""


def encode_png(image: Image.Image) -> bytes:
    """PNG file of an RGB picture; lossless. Raises ValueError for any other mode."""
    if image.mode != "RGB":
        raise ValueError(f"an RGB picture is needed, not {image.mode}")
    rows = np.asarray(image).reshape(image.height, -1)
    filtered = np.empty((image.height, 1 + rows.shape[1]), dtype=np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    data = _deflate(filtered.tobytes())
    header = struct.pack(">II5B", image.width, image.height, *_RGB8)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _deflate(data: bytes) -> bytes:
    """A zlib stream of bands that end at byte borders (RFC 1950, RFC 1951 section 3.2.4)."""
    size = -(-len(data) // max(1, round(len(data) / BAND)))  # alike, so that no core waits for a remainder
    bands = [data[i : i + size] for i in range(0, len(data), size)]
    ends = [zlib.Z_SYNC_FLUSH] * (len(bands) - 1) + [zlib.Z_FINISH]
    try:
        packed = _packers.map(_pack, bands, ends)
    except RuntimeError:  # the program ends; what it has just made is still kept
        packed = map(_pack, bands, ends)
    return _ZLIB_HEADER + b"".join(packed) + struct.pack(">I", zlib.adler32(data))


def _pack(band: bytes, end: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return packer.compress(band) + packer.flush(end)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
