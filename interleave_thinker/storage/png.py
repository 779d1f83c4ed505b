"""Write an RGB picture as PNG, fast, and read such files back.

Pillow tries every row filter and needs about three times as long, which is the largest part of what the
loop costs per attempt (`benchmarks/loop_cost.py`). One filter (the row above) and run-length matching
give files of the same size here, and bands of the picture are packed beside each other where there are cores
for it. Pillow decodes, without its limit on the size of pictures: these files are our own.
"""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2
_RGB8 = (8, 2, 0, 0, 0)
_ZLIB_HEADER = b"\x78\x01"
_START = struct.Struct(">8sI4sII5B")
"""The signature and the first chunk, which says size and kind."""
MOST_BYTES = 4 * 1024**3
"""Bytes of pixels that a file of ours may hold."""
_BEST_RATIO = 1040
"""Deflate makes data at most 1032 times smaller: a header that claims more pixels lies."""
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


def decode_png(file: BinaryIO) -> Image.Image:
    """The picture of an 8-bit RGB file, as `encode_png` writes it.

    `Image.open` refuses large pictures (`MAX_IMAGE_PIXELS`), and that limit is one for all threads. `PngImageFile`
    has none; the size is checked here against the file instead.

    Raises:
        ValueError: the file is damaged or of another kind.
        OSError: the file cannot be read.
    """
    start = file.read(_START.size)
    if len(start) < _START.size:
        raise ValueError("it is too short")
    signature, _, kind, width, height, *form = _START.unpack(start)
    if signature != _SIGNATURE or kind != b"IHDR" or tuple(form) != _RGB8:
        raise ValueError("it is no PNG file of 8-bit RGB pixels")
    pixels = 3 * width * height
    length = file.seek(0, os.SEEK_END)
    if pixels > MOST_BYTES or not pixels <= _BEST_RATIO * length or length > 2 * pixels + 2**20:
        raise ValueError(f"it says that it has {width} x {height} pixels in {length} bytes")
    _check_chunks(file, length)
    file.seek(0)
    try:
        loaded = PngImageFile(file)
        if loaded.mode != "RGB" or loaded.size != (width, height):
            raise ValueError("its headers contradict each other")
        image = Image.Image.copy(loaded)
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(str(error)) from error
    except (SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error) as error:
        raise ValueError(str(error)) from error
    image.info = {}
    return image


def _check_chunks(file: BinaryIO, length: int) -> None:
    """Raise ValueError unless the file is one chunk after the other, each with its checksum, to the end."""
    at, kind = len(_SIGNATURE), b""
    while at < length and kind != b"IEND":
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        checksum, left = zlib.crc32(kind), size
        while left and (part := file.read(min(left, 2**20))):
            checksum, left = zlib.crc32(part, checksum), left - len(part)
        if left or file.read(4) != struct.pack(">I", checksum):
            raise ValueError("a part of it is cut off or its checksum does not fit")
        at += size + 12
    if at != length or kind != b"IEND":
        raise ValueError("its end is missing or something follows it")


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
