"""The attempt store: pictures and judgments by content, so that nothing is computed twice.

    images/<key>.png       key = hash of the 8-bit pixels
    attempts/<key>.json    key = hash of everything that made the picture -> image key
    judgments/<key>.json   key = hash of everything that made the verdict -> judgment
    comparisons/<key>.json key = hash of what was compared -> number of the closest attempt
    side_outputs/<key>.json key = hash of an output node and the attempt beside which it has run

A crash, an interrupt or an edited late step then costs only what really changed, whatever ComfyUI's
cache mode. Bounded in bytes: the pictures used longest ago go first. Every write is atomic.

A picture is used only if its pixels are those of its key: a file that was edited or damaged is deleted, and the
picture is made again. A record is used only if its digest fits. Run folders check theirs with the same functions.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import RunError
from ..files import file_state, set_time_of_use, sweep, write_atomically
from ..loop.trajectory import Judgment
from .images import (
    decoded_image,
    image_bytes,
    image_key,
    is_verified,
    keep_latest,
    mark_verified,
    packed,
    write_image,
)
from .sealed import sealed, unsealed

DEFAULT_LIMIT = 8 * 1024**3
"""Bytes of pictures kept."""
IN_MEMORY = 4
"""Pictures kept decoded: the reference and the attempt of the moment are asked for again at once."""
RECORDS = {
    "attempts": {"image_key", "seconds"},
    "judgments": {"judgment", "seconds"},
    "comparisons": {"best"},
    "side_outputs": set(),
}
"""What the records of each kind hold beside kind, key and digest; those of older versions hold nothing else."""


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
            self._write_image(key, packed(image))
        self._remember(key, image)
        self._expected.pop(key, None)

    def take(self, key: str, source: Path) -> None:
        """Copy a picture from a run folder, unless it is kept or `source` is not that picture.

        Raises:
            RunError: as `write_atomically`.
        """
        if self.image_file(key) is None and (data := image_bytes(source, key)) is not None:
            self._write_image(key, data)

    def at_hand(self, key: str) -> Image.Image | None:
        """A picture that is in memory, wherever its file is now. It is shared: copy it before you draw on it."""
        with self._memory:
            return self._expected.get(key) or self._recent.get(key)

    def _write_image(self, key: str, data: bytes) -> None:
        path = self._image_path(key)
        self._make_room(len(data), path)
        write_image(path, data, key)

    def image_file(self, key: str) -> Path | None:
        """Where the picture lies, or None if it is not (or no longer) kept, damaged or another one."""
        path = self._image_path(key)
        if not is_verified(path, key, file_state(path)) and self._read(key) is None:
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
            image = decoded_image(path, key)
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
            keep_latest(self._recent, key, image, IN_MEMORY)

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

    def put_side_output(self, key: str) -> None:
        """Note that an output node beside an attempt's image has run."""
        self._put_record("side_outputs", key, {})

    def has_side_output(self, key: str) -> bool:
        return self._get_record("side_outputs", key) is not None

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
            before = file_state(path)
            used = set_time_of_use(path)
            after = file_state(path)
        except OSError:
            return  # A read-only store still serves; only its order of eviction suffers.
        if before is None or after is None or not key or not is_verified(path, key, before):
            return
        if after[:3] == before[:3] and 0 <= used - after[3] <= 2 * 10**9:
            mark_verified(path, key, after)

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


def plain_key(key: str) -> str:
    """A key as a file name. Keys are hex; anything else is no key of ours."""
    if not key or any(c not in "0123456789abcdef" for c in key):
        raise RunError(f"{key[:40]!r} is not a store key.")
    return key
