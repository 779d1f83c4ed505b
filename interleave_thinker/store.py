"""The attempt store: pictures and judgments by content, so that nothing is computed twice.

    images/<key>.png       key = hash of the 8-bit pixels
    attempts/<key>.json    key = hash of everything that made the picture -> image key
    judgments/<key>.json   key = hash of everything that made the verdict -> judgment
    comparisons/<key>.json key = hash of what was compared -> number of the closest attempt

A crash, an interrupt or an edited late step then costs only what really changed, whatever ComfyUI's
cache mode. Bounded in bytes: the pictures used longest ago go first. Every write is atomic.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from .errors import RunError
from .png import encode_png
from .trajectory import Judgment

KEY_LENGTH = 24
DEFAULT_LIMIT = 8 * 1024**3
"""Bytes of pictures kept."""
_T = TypeVar("_T")
IN_MEMORY = 4
"""Pictures kept decoded: the reference and the attempt of the moment are asked for again at once."""
RECORDS = ("attempts", "judgments", "comparisons")


def hash_of(*parts: object) -> str:
    """A key for JSON-serialisable parts."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]


def files_state(*places: Path) -> str:
    """Changes when a file in or below `places` does: by name, size and time, without reading it."""
    found = []
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                state = path.stat()
                found.append((path.name, state.st_mtime_ns, state.st_size))
    return hash_of(found)


def image_key(image: Image.Image) -> str:
    """The key of an RGB picture: its size and 8-bit pixels."""
    digest = hashlib.sha256(f"{image.mode}{image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()[:KEY_LENGTH]


def open_rgb(path: Path) -> Image.Image:
    """A picture file as RGB.

    Raises:
        OSError: the file cannot be read or is no sound picture.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = file.convert("RGB")
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path} is no sound picture: {error}") from error
    return image


def write_atomically(path: Path, data: bytes) -> None:
    """All of the file or nothing of it.

    Raises:
        RunError: the folder cannot be written or the disk is full; names the path and the reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose a writable folder; "
            "everything finished so far is kept."
        ) from error


class AttemptStore:
    """Below `root`; safe to share between runs, prompts and restarts."""

    def __init__(self, root: Path, limit: int = DEFAULT_LIMIT):
        self.root, self.limit = root, limit
        self._bytes: int | None = None
        self._memory = threading.Lock()  # pictures may be written behind the loop, which asks for others meanwhile
        self._expected: dict[str, Image.Image] = {}
        self._recent: OrderedDict[str, Image.Image] = OrderedDict()
        self._whole: OrderedDict[str, tuple[int, ...] | None] = OrderedDict()
        """State in which a recent picture's file was found whole: until it changes, it is not read again."""

    def put_image(self, image: Image.Image) -> str:
        """Keep an RGB picture; returns its key."""
        key = self.expect(image)
        self.put_expected(key)
        return key

    def expect(self, image: Image.Image) -> str:
        """Have a picture at hand by its key before `put_expected` writes it; returns the key."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        key = image_key(image)
        self._expected[key] = image.copy()
        return key

    def put_expected(self, key: str) -> None:
        """Write an expected picture. Raises as `write_atomically` does, and keeps it expected then."""
        image = self._expected.get(key)
        if image is None:
            return  # another attempt with the same picture had it written
        path = self._image_path(key)
        if self.image_file(key) is None:
            data = encode_png(image)
            self._make_room(len(data))
            write_atomically(path, data)
        with self._memory:
            _keep_few(self._recent, key, image)  # nobody else holds it
        self._expected.pop(key, None)

    def image_file(self, key: str) -> Path | None:
        """Where the picture lies, or None if it is not (or no longer) kept, or damaged."""
        path = self._image_path(key)
        state = _state(path)
        with self._memory:
            known = self._whole.get(key)
        if state is None or (state != known and not _is_sound(path)):
            return None
        self._touch(path)
        with self._memory:
            _keep_few(self._whole, key, _state(path))
        return path

    def get_image(self, key: str) -> Image.Image | None:
        expected = self._expected.get(key)
        if expected is not None:
            return expected.copy()
        path = self.image_file(key)
        if path is None:
            return None
        with self._memory:
            recent = self._recent.get(key)
        if recent is not None:
            return recent.copy()
        try:
            image = open_rgb(path)
        except OSError:
            path.unlink(missing_ok=True)
            return None
        self._remember(key, image)
        return image

    def _remember(self, key: str, image: Image.Image) -> None:
        """Copies go in and come out: whoever draws on a picture of his must not change the stored one."""
        with self._memory:
            _keep_few(self._recent, key, image.copy())

    def put_attempt(self, key: str, image: str, seconds: float) -> None:
        self._put_record("attempts", key, {"image_key": image, "seconds": seconds})

    def get_attempt(self, key: str) -> tuple[str, float] | None:
        """(image key, seconds it took) of an attempt whose picture is still kept."""
        record = self._get_record("attempts", key)
        try:
            if record is None or self.image_file(record["image_key"]) is None:
                return None
            return str(record["image_key"]), float(record["seconds"])
        except (KeyError, TypeError, ValueError, RunError):
            return None  # not a record of ours: as good as none

    def put_judgment(self, key: str, judgment: Judgment, seconds: float) -> None:
        """Keep a judgment that could be read; an unreadable one is worth asking again."""
        if judgment.parsed:
            self._put_record("judgments", key, {"judgment": judgment.to_dict(), "seconds": seconds})

    def get_judgment(self, key: str) -> tuple[Judgment, float] | None:
        record = self._get_record("judgments", key)
        if record is None:
            return None
        try:
            return Judgment.from_dict(record["judgment"]), float(record["seconds"])
        except (KeyError, TypeError, ValueError, RunError):
            return None

    def put_comparison(self, key: str, best: int) -> None:
        self._put_record("comparisons", key, {"best": best})

    def get_comparison(self, key: str) -> int | None:
        best = (self._get_record("comparisons", key) or {}).get("best")
        return best if isinstance(best, int) else None

    def _image_path(self, key: str) -> Path:
        return self.root / "images" / f"{_plain(key)}.png"

    def _put_record(self, kind: str, key: str, record: dict[str, Any]) -> None:
        data = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
        write_atomically(self.root / kind / f"{_plain(key)}.json", data)

    def _get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        path = self.root / kind / f"{_plain(key)}.json"
        try:
            found = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
        except (OSError, ValueError, RecursionError):
            return None
        self._touch(path)
        return found if isinstance(found, dict) else None

    def _touch(self, path: Path) -> None:
        try:
            os.utime(path)
        except OSError:
            pass  # A read-only store still serves; only its order of eviction suffers.

    def _make_room(self, coming: int) -> None:
        """Drop the pictures used longest ago until `coming` bytes fit, and the records older than these."""
        if self._bytes is None or self._bytes + coming > self.limit:
            images = sorted(_by_age(self.root / "images"))
            self._bytes = sum(size for _, size, _ in images)
            dropped = 0.0
            while images and self._bytes + coming > self.limit:
                dropped, size, file = images.pop(0)
                _remove(file)
                self._bytes -= size
            for kind in RECORDS if dropped else ():
                for used, _, file in _by_age(self.root / kind):
                    if used < dropped:
                        _remove(file)
        self._bytes += coming


def _by_age(folder: Path) -> list[tuple[float, int, Path]]:
    """(time of last use, bytes, path) of what lies in a folder, also of what a crash left half written."""
    found = []
    for file in folder.glob("*"):
        try:
            facts = file.stat()
        except OSError:
            continue  # another process dropped it meanwhile
        found.append((facts.st_mtime, facts.st_size, file))
    return found


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:
        pass  # in use, or not ours to delete: the next one goes instead


def _keep_few(kept: OrderedDict[str, _T], key: str, value: _T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > IN_MEMORY:
        kept.popitem(last=False)


def _state(path: Path) -> tuple[int, ...] | None:
    """Changes with every writing of a file; None where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _is_sound(path: Path) -> bool:
    """Whether a picture file is whole: checksums only, nothing is decoded."""
    try:
        with Image.open(path) as file:
            file.verify()
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        return False
    return True


def _plain(key: str) -> str:
    """A key as a file name. Keys are hex; anything else is no key of ours."""
    if not key or any(c not in "0123456789abcdef" for c in key):
        raise RunError(f"{key[:40]!r} is not a store key.")
    return key
