"""The attempt store: pictures and judgments by content, so that nothing is computed twice.

    images/<key>.png       key = hash of the 8-bit pixels
    attempts/<key>.json    key = hash of everything that made the picture -> image key
    judgments/<key>.json   key = hash of everything that made the verdict -> judgment
    comparisons/<key>.json key = hash of what was compared -> number of the closest attempt

A crash, an interrupt or an edited late step then costs only what really changed, whatever ComfyUI's
cache mode. Bounded in bytes: the pictures used longest ago go first. Every write is atomic.

A picture is used only if its pixels are those of its key: a file that was edited or damaged is deleted, and the
picture is made again. A record is used only if its digest fits. Run folders check theirs with the same functions.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from .errors import RunError, write_failed
from .png import decode_png, encode_png
from .trajectory import Judgment

KEY_LENGTH = 24
DEFAULT_LIMIT = 8 * 1024**3
"""Bytes of pictures kept."""
_K = TypeVar("_K")
_T = TypeVar("_T")
IN_MEMORY = 4
"""Pictures kept decoded: the reference and the attempt of the moment are asked for again at once."""
RECORDS = {
    "attempts": {"image_key", "seconds"},
    "judgments": {"judgment", "seconds"},
    "comparisons": {"best"},
}
"""What the records of each kind hold beside kind, key and digest; those of older versions hold nothing else."""
HALF_WRITTEN = ".writing-"
"""How the name of a file begins until it is complete."""
LEFT_OVER = 3600.0
"""Seconds after which nobody writes such a file any more."""
LOOKED_AT = 4000
"""Names of a folder that are looked at for such files."""
REMEMBERED = 4096
"""Verified picture files that are remembered."""
_BACK = 3 * 10**9
"""Nanoseconds that our own times lie back: an edit sets a later time, also where times count in steps of 2 s."""
_HASHED_AT_ONCE = 2**25
_CHMOD_BY_HANDLE = os.chmod in os.supports_fd


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
    rows = max(1, _HASHED_AT_ONCE // max(1, 3 * image.width))
    if rows >= image.height:
        digest.update(image.tobytes())
    else:  # a large picture in bands, for the memory
        for top in range(0, image.height, rows):
            digest.update(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    return digest.hexdigest()[:KEY_LENGTH]


def open_rgb(path: Path) -> Image.Image:
    """A picture file from anywhere as RGB; one of ours is read by `read_picture`.

    Raises:
        OSError: the file cannot be read or is no sound picture.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = file.convert("RGB")
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path} is no sound picture: {error}") from error
    return image


# --- pictures of ours: used only with the pixels of their key -------------------------------------------------

_State = tuple[int, ...]


class _Verified:
    """Picture files whose pixels were those of their key, with the state that each file had then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[tuple[str, str], _State] = OrderedDict()

    def add(self, path: Path, key: str, state: _State) -> None:
        with self._lock:
            _keep_few(self._states, (str(path), key), state, REMEMBERED)

    def has(self, path: Path, key: str, state: _State | None) -> bool:
        with self._lock:
            return state is not None and self._states.get((str(path), key)) == state


_verified = _Verified()
"""Of the process: a file is decoded and hashed once until it changes."""


def read_picture(path: Path, key: str) -> Image.Image | None:
    """The picture of a file in a store or run folder; None if it is missing, damaged or not the picture of `key`."""
    try:
        return _decoded(path, key)
    except (OSError, ValueError):
        return None


def is_picture(path: Path, key: str, data: bytes | None = None) -> bool:
    """Whether `read_picture` would return the picture. Decodes the file only if it changed since the last time.

    data: a verified file of this picture. If the bytes are the same, nothing is decoded.
    """
    state = _state(path)
    if state is None or _verified.has(path, key, state):
        return state is not None
    try:
        if data is not None and state[2] == len(data) and path.read_bytes() == data:
            _verified.add(path, key, state)
            return True
    except OSError:
        return False
    return read_picture(path, key) is not None


def picture_bytes(path: Path, key: str) -> bytes | None:
    """The bytes of a file that `is_picture`, else None."""
    if not is_picture(path, key):
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if _verified.has(path, key, _state(path)) else None


def packed(image: Image.Image) -> bytes:
    """The PNG file of an RGB picture, as the store writes it."""
    return encode_png(image)


def write_picture(path: Path, data: bytes, key: str) -> None:
    """`write_atomically` for the PNG file of a picture whose key is known: it counts as verified."""
    written = _write(path, data, aged=True)
    state = _state(path)
    if state is not None and state[:4] == written[:4]:  # the last is the time of the renaming
        _verified.add(path, key, state)


def _decoded(path: Path, key: str) -> Image.Image:
    """Raises OSError if the file cannot be read, ValueError if its pixels are not those of `key`."""
    before = _state(path)
    with path.open("rb") as file:
        image = decode_png(file)
    if image_key(image) != key:
        raise ValueError("its pixels are not those of its key")
    after = _state(path)
    if after is not None and after == before:
        _verified.add(path, key, after)
    return image


def _state(path: Path) -> _State | None:
    """Device, inode, size and times of a file: changes with every writing. None where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


# --- records: a digest says that they are as they were written ------------------------------------------------


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """A record with a digest of what it holds."""
    return {**record, "digest": _digest(record)}


def unsealed(record: Any) -> dict[str, Any] | None:
    """A record without its digest; None if it is damaged. Records of older versions have no digest."""
    if not isinstance(record, dict):
        return None
    rest = {name: value for name, value in record.items() if name != "digest"}
    return rest if "digest" not in record or record["digest"] == _digest(rest) else None


def _digest(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- writing ------------------------------------------------------------------------------------------------


def write_atomically(path: Path, data: bytes) -> None:
    """All of the file or nothing of it. Makes the folder if it is missing.

    Raises:
        RunError: the folder cannot be written or the disk is full; names the path and the reason.
    """
    _write(path, data)


def _write(path: Path, data: bytes, *, aged: bool = False) -> _State:
    """Returns the state of the file before its renaming. `aged`: with our own time (`_set_time`)."""
    try:
        try:
            return _write_beside(path, data, aged)
        except FileNotFoundError:  # somebody deleted the folder at this moment
            return _write_beside(path, data, aged)
    except OSError as error:
        raise write_failed("write", path, error) from error


def _write_beside(path: Path, data: bytes, aged: bool) -> _State:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=HALF_WRITTEN)  # never opens a link that lies there
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.chmod(handle if _CHMOD_BY_HANDLE else name, 0o644)
        if aged:
            with contextlib.suppress(OSError):  # some network folders keep no times
                _set_time(Path(name))
        state = _state(Path(name))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return state or ()


def sweep(*folders: Path) -> None:
    """Delete half-written files that a crash left in `folders` more than an hour ago."""
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                left = [e for e, _ in zip(entries, range(LOOKED_AT), strict=False) if e.name.startswith(HALF_WRITTEN)]
        except OSError:
            continue  # not made yet
        for entry in left:
            with contextlib.suppress(OSError):
                facts = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False) and facts.st_mtime < time.time() - LEFT_OVER:
                    os.unlink(entry.path)


def _set_time(path: Path) -> int:
    """Give a file the present time as its time of use, less `_BACK`; returns that."""
    used = (time.time_ns() - _BACK) // 1000 * 1000
    os.utime(path, ns=(used, used))
    return used


class AttemptStore:
    """Below `root`; safe to share between runs, prompts and restarts."""

    def __init__(self, root: Path, limit: int = DEFAULT_LIMIT):
        self.root, self.limit = root, limit
        self._bytes: int | None = None
        self._memory = threading.Lock()  # pictures may be written behind the loop, which asks for others meanwhile
        self._expected: dict[str, Image.Image] = {}
        self._recent: OrderedDict[str, Image.Image] = OrderedDict()
        sweep(*(root / kind for kind in ("images", *RECORDS)))

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
        if self.image_file(key) is None:
            self._write_image(key, encode_png(image))
        self._remember(key, image)
        self._expected.pop(key, None)

    def take(self, key: str, source: Path) -> None:
        """Copy a picture from a run folder, unless it is kept or `source` is not that picture.

        Raises:
            RunError: as `write_atomically`.
        """
        if self.image_file(key) is None and (data := picture_bytes(source, key)) is not None:
            self._write_image(key, data)

    def at_hand(self, key: str) -> Image.Image | None:
        """A picture that is in memory, wherever its file is now. It is shared: copy it before you draw on it."""
        with self._memory:
            return self._expected.get(key) or self._recent.get(key)

    def _write_image(self, key: str, data: bytes) -> None:
        path = self._image_path(key)
        self._make_room(len(data), path)
        write_picture(path, data, key)

    def image_file(self, key: str) -> Path | None:
        """Where the picture lies, or None if it is not (or no longer) kept, damaged or another one."""
        path = self._image_path(key)
        if not _verified.has(path, key, _state(path)) and self._read(key) is None:
            return None
        self._touch(path, key)
        return path

    def get_image(self, key: str) -> Image.Image | None:
        expected = self._expected.get(key)
        if expected is not None:
            return expected.copy()
        if self.image_file(key) is None:
            return None
        with self._memory:
            found = self._recent.get(key)
        if found is None:
            found = self._read(key)
        return found.copy() if found is not None else None

    def _read(self, key: str) -> Image.Image | None:
        """Decode a picture and have it at hand; delete its file if that holds anything else."""
        path = self._image_path(key)
        try:
            image = _decoded(path, key)
        except ValueError:
            _remove(path)
            return None
        except OSError:
            return None
        self._remember(key, image)
        return image

    def _remember(self, key: str, image: Image.Image) -> None:
        """Copies come out: whoever draws on a picture of his must not change this one."""
        with self._memory:
            _keep_few(self._recent, key, image, IN_MEMORY)

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
            self._put_record("judgments", key, {"judgment": judgment.bounded.to_dict(), "seconds": seconds})

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
        return self.root / "images" / f"{plain_key(key)}.png"

    def _put_record(self, kind: str, key: str, record: dict[str, Any]) -> None:
        """With its kind and key under the digest: a file that was renamed is not believed."""
        whole = sealed({"kind": kind, "key": key, **record})
        data = json.dumps(whole, ensure_ascii=False).encode("utf-8", "surrogatepass")
        write_atomically(self.root / kind / f"{plain_key(key)}.json", data)

    def _get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        path = self.root / kind / f"{plain_key(key)}.json"
        try:
            read = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
            found = unsealed(read)
        except (OSError, ValueError, RecursionError):
            return None
        if found is None:
            return None
        own = {"kind": kind, "key": key} if "digest" in read else {}
        if set(found) != RECORDS[kind] | set(own) or any(found[name] != own[name] for name in own):
            return None
        self._touch(path)
        return found

    def _touch(self, path: Path, key: str = "") -> None:
        """Note the time of use. A picture (`key`) stays verified if nobody else wrote to its file meanwhile."""
        try:
            before = _state(path)
            used = _set_time(path)
            after = _state(path)
        except OSError:
            return  # A read-only store still serves; only its order of eviction suffers.
        if before is None or after is None or not key or not _verified.has(path, key, before):
            return
        if after[:3] == before[:3] and 0 <= used - after[3] <= 2 * 10**9:
            _verified.add(path, key, after)

    def _make_room(self, coming: int, path: Path) -> None:
        """Drop the pictures used longest ago until `coming` bytes fit, and the records older than these.

        The picture that is written to `path` is kept, also if it alone exceeds the limit.
        """
        if self._bytes is None or self._bytes + coming > self.limit:
            images = sorted(found for found in _by_age(self.root / "images") if found[2] != path)
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


def _keep_few(kept: OrderedDict[_K, _T], key: _K, value: _T, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


def plain_key(key: str) -> str:
    """A key as a file name. Keys are hex; anything else is no key of ours."""
    if not key or any(c not in "0123456789abcdef" for c in key):
        raise RunError(f"{key[:40]!r} is not a store key.")
    return key
