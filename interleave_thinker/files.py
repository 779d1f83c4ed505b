"""Files: keys from their content or state, writing that is whole or not at all, and paths that stay in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

from .errors import write_failed

KEY_LENGTH = 24
HALF_WRITTEN = ".writing-"
"""How the name of a file begins until it is complete."""
LEFT_OVER = 3600.0
"""Seconds after which nobody writes such a file any more."""
LOOKED_AT = 4000
"""Names of a folder that are looked at for such files."""
_BACK = 3 * 10**9
"""Nanoseconds that our own times lie back: an edit sets a later time, also where times count in steps of 2 s."""
_CHMOD_BY_HANDLE = os.chmod in os.supports_fd

FileState = tuple[int, ...]
"""Device, inode, size and times of a file."""


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


def file_state(path: Path) -> FileState | None:
    """Device, inode, size and times of a file: changes with every writing. None where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def write_atomically(path: Path, data: bytes) -> None:
    """All of the file or nothing of it. Makes the folder if it is missing.

    Raises:
        RunError: the folder cannot be written or the disk is full; names the path and the reason.
    """
    write_whole(path, data)


def write_whole(path: Path, data: bytes, *, aged: bool = False) -> FileState:
    """Returns the state of the file before its renaming. `aged`: with our own time (`set_time_of_use`)."""
    try:
        try:
            return _write_beside(path, data, aged)
        except FileNotFoundError:  # somebody deleted the folder at this moment
            return _write_beside(path, data, aged)
    except OSError as error:
        raise write_failed("write", path, error) from error


def _write_beside(path: Path, data: bytes, aged: bool) -> FileState:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=HALF_WRITTEN)  # never opens a link that lies there
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.chmod(handle if _CHMOD_BY_HANDLE else name, 0o644)
        if aged:
            with contextlib.suppress(OSError):  # some network folders keep no times
                set_time_of_use(Path(name))
        state = file_state(Path(name))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return state or ()


def append_synced(path: Path, data: bytes) -> None:
    """Append to a file, made with its folder if it is missing; on the disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def is_below(folder: Path, path: Path) -> bool:
    """Whether `path` lies in `folder`, links followed: a name from outside must not lead out of it.

    False for a name that no file can have (a zero byte, half a character, a circle of links).
    """
    try:
        return folder.resolve() in path.resolve().parents
    except (OSError, ValueError, RuntimeError):
        return False


def is_plain_path(name: str) -> bool:
    """Whether a name stays below its folder as it is written; what it names may be a link to another disk."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


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


def set_time_of_use(path: Path) -> int:
    """Give a file the present time as its time of use, less `_BACK`; returns that."""
    used = (time.time_ns() - _BACK) // 1000 * 1000
    os.utime(path, ns=(used, used))
    return used
