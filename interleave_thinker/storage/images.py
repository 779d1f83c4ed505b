"""Image files of a store or run folder: used only with the pixels of their key.

A file that was edited or damaged is not the image of its key. Each file is decoded and hashed once per process
and state of the file.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..files import KEY_LENGTH, FileState, file_state, write_whole
from .png import decode_png, encode_png

REMEMBERED = 4096
"""Verified image files that are remembered."""
_HASHED_AT_ONCE = 2**25
_K = TypeVar("_K")
_T = TypeVar("_T")


def image_key(image: Image.Image) -> str:
    """The key of an RGB picture: its size and 8-bit pixels."""
    digest = hashlib.sha256(f"{image.mode}{image.size}".encode())
    rows = max(1, _HASHED_AT_ONCE // max(1, 3 * image.width))
    if rows >= image.height:
        digest.update(image.tobytes())
    else:  # a large picture in bands, for the memory
        for top in range(0, image.height, rows):
            digest.update(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    return digest.hexdigest()[:KEY_LENGTH]


def open_rgb(path: Path) -> Image.Image:
    """A picture file from anywhere as RGB; one of ours is read by `read_image`.

    Raises:
        OSError: the file cannot be read or is no sound picture.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = file.convert("RGB")
    except OSError:
        raise
    except Exception as error:  # whatever a decoder makes of a broken file
        raise OSError(f"{path} is no sound picture: {error}") from error
    return image


class VerifiedFiles:
    """Picture files whose pixels were those of their key, with the state that each file had then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[tuple[str, str], FileState] = OrderedDict()

    def add(self, path: Path, key: str, state: FileState) -> None:
        with self._lock:
            keep_latest(self._states, (str(path), key), state, REMEMBERED)

    def has(self, path: Path, key: str, state: FileState | None) -> bool:
        with self._lock:
            return state is not None and self._states.get((str(path), key)) == state


_verified = VerifiedFiles()
"""Of the process: a file is decoded and hashed once until it changes."""


def is_verified(path: Path, key: str, state: FileState | None) -> bool:
    """Whether a file in this state was found to be the image of `key`."""
    return _verified.has(path, key, state)


def mark_verified(path: Path, key: str, state: FileState) -> None:
    """Remember that a file in this state is the image of `key`."""
    _verified.add(path, key, state)


def read_image(path: Path, key: str) -> Image.Image | None:
    """The picture of a file in a store or run folder; None if it is missing, damaged or not the picture of `key`."""
    try:
        return decoded_image(path, key)
    except (OSError, ValueError):
        return None


def is_image_of(path: Path, key: str, data: bytes | None = None) -> bool:
    """Whether `read_image` would return the picture. Decodes the file only if it changed since the last time.

    data: a verified file of this picture. If the bytes are the same, nothing is decoded.
    """
    state = file_state(path)
    if state is None or is_verified(path, key, state):
        return state is not None
    try:
        if data is not None and state[2] == len(data) and path.read_bytes() == data:
            mark_verified(path, key, state)
            return True
    except OSError:
        return False
    return read_image(path, key) is not None


def image_bytes(path: Path, key: str) -> bytes | None:
    """The bytes of a file that `is_image_of`, else None."""
    if not is_image_of(path, key):
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if is_verified(path, key, file_state(path)) else None


def packed(image: Image.Image) -> bytes:
    """The PNG file of an RGB picture, as the store writes it."""
    return encode_png(image)


def write_image(path: Path, data: bytes, key: str) -> None:
    """`write_atomically` for the PNG file of a picture whose key is known: it counts as verified."""
    written = write_whole(path, data, aged=True)
    state = file_state(path)
    if state is not None and state[:4] == written[:4]:  # the last is the time of the renaming
        mark_verified(path, key, state)


def decoded_image(path: Path, key: str) -> Image.Image:
    """Raises OSError if the file cannot be read, ValueError if its pixels are not those of `key`."""
    before = file_state(path)
    with path.open("rb") as file:
        image = decode_png(file)
    if image_key(image) != key:
        raise ValueError("its pixels are not those of its key")
    after = file_state(path)
    if after is not None and after == before:
        mark_verified(path, key, after)
    return image


def keep_latest(kept: OrderedDict[_K, _T], key: _K, value: _T, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
