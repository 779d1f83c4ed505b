"""The run folder: what one run of the loop left on disk, written as it happens.

    <root>/<run>/run.json            plan, settings, status
    <root>/<run>/trajectory.jsonl    one line an attempt, appended as it ends
    <root>/<run>/attempts/*.png      every attempt, accepted or not
    <root>/<run>/inputs/*.png        the user's pictures
    <root>/<run>/comparisons.jsonl   which rejected attempt came closest, one line a comparison

The folder is the truth: a run that was killed is read back from it. Its files are copies, never links into the
attempt store. Every record carries a digest, and a picture is used only if its pixels are those of its key: what
does not fit is missing. Names from outside never form a path: see `safe_name`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from PIL import Image

from ..errors import RunError, write_failed
from ..files import is_below, sweep, write_atomically
from ..loop.trajectory import Attempt
from .attempt_store import plain_key
from .images import image_bytes, is_image_of, read_image, write_image
from .sealed import sealed, unsealed

MAX_NAME = 100
MAX_BYTES = 200
"""File systems allow 255 bytes in a name; some are left for endings."""
RESERVED = re.compile(r"(?:con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]|conin\$|conout\$|clock\$)\s*(?:\.|\Z)", re.I)
"""Names that Windows keeps for devices, also with an ending or with blanks."""


def safe_name(name: str, *, branch: bool = False) -> str:
    """A run name as a folder name: letters, digits, space, `.`, `_`, `-`; others become `_`.

    branch: the name may end in a branch's number, such as `story~2`.

    Raises:
        RunError: the name holds a path separator or drive, has no letter or digit, or is longer than
            `MAX_NAME` characters or `MAX_BYTES` bytes.
    """
    name = name.strip()
    number = re.search(r"~\d{1,5}\Z", name) if branch else None
    if number:
        return safe_name(name[: number.start()]) + number.group()
    if re.search(r"[/\\]", name) or re.match(r"^[A-Za-z]:", name):
        raise RunError(f"run_name {name[:60]!r} is a path. Give a plain name; runs lie in the output folder.")
    if len(name) > MAX_NAME:
        raise RunError(f"run_name {name[:60]!r}... has {len(name)} characters; {MAX_NAME} are allowed.")
    clean = "".join(c if c.isalnum() or c in " ._-" else "_" for c in name).strip(" .")
    if not any(c.isalnum() for c in clean):
        raise RunError(f"run_name {name!r} has no letter or digit. Give a plain name, or leave it empty.")
    length = len(clean.encode())
    if length > MAX_BYTES:
        raise RunError(f"run_name {clean[:60]!r}... has {length} bytes in UTF-8; {MAX_BYTES} are allowed. Shorten it.")
    return f"_{clean}" if RESERVED.match(clean) else clean


class Hold(Protocol):
    """What keeps other runs out of a folder."""

    def release(self) -> None: ...


class RunFolder:
    """One run's folder below `root`.

    `known` are the attempts it held when it was opened and those recorded since, by identity. `ancestors` are the
    folders of the runs that this one branched from, the nearest first: what is missing here is looked for there.
    `about` is written into run.json (its "token": see `branches.Work.always_changes`); `hold` keeps other runs out
    (both: `branches.open_run`).
    """

    def __init__(self, root: Path, name: str):
        self.name = safe_name(name, branch=True)
        self.path = root / self.name
        self.ancestors: tuple[RunFolder, ...] = ()
        self.about: dict[str, str] = {}
        self.hold: Hold | None = None
        inside = [self.path / folder for folder in ("attempts", "inputs")]
        if not all(is_below(root, p) for p in (self.path, *inside)):
            raise RunError(f"run_name {name!r} leads out of {root}.")
        try:
            inside[0].mkdir(parents=True, exist_ok=True)
            with _appending(self.trajectory_file):
                pass  # empty, not missing, for whoever looks early
        except OSError as error:
            raise write_failed("create the run folder", self.path, error) from error
        sweep(self.path, *inside)
        self.known: dict[str, Attempt] = {a.identity: a for a in read_trajectory(self.path)}
        self._compared = _read_comparisons(self.path)

    @property
    def trajectory_file(self) -> Path:
        return self.path / "trajectory.jsonl"

    @property
    def line(self) -> tuple[RunFolder, ...]:
        """The folders to look in: this one, then its ancestors."""
        return (self, *self.ancestors)

    def record(self, attempt: Attempt) -> bool:
        """Append an attempt unless the folder has it already; returns whether it was new."""
        if attempt.judgment is not None:
            attempt = replace(attempt, judgment=attempt.judgment.bounded)
        before = self.known.get(attempt.identity)
        if before is not None and _same_outcome(before, attempt):
            return False
        self._append(self.trajectory_file, (a.to_dict() for a in self.known.values()), attempt.to_dict())
        self.known[attempt.identity] = attempt
        return True

    def record_comparison(self, key: str, best: int) -> None:
        """Keep the answer to a comparison."""
        if self._compared.get(key) == best:
            return
        known = ({"key": k, "best": b} for k, b in self._compared.items())
        self._append(self.path / "comparisons.jsonl", known, {"key": key, "best": best})
        self._compared[key] = best

    def comparison(self, key: str) -> int | None:
        return self._compared.get(key)

    def attempts_by(self, *, key: str = "", judgment_key: str = "", image_key: str = "") -> Iterator[Attempt]:
        """The known attempts of a request, judgment or picture, the latest first."""
        for attempt in reversed(list(self.known.values())):  # a copy: another thread may record meanwhile
            if (
                (not key or attempt.key == key)
                and (not judgment_key or attempt.judgment_key == judgment_key)
                and (not image_key or attempt.image_key == image_key)
            ):
                yield attempt

    def keep_image(self, step: int, attempt: int, key: str, source: Path) -> str:
        """Copy an attempt's picture beside the record; returns its path relative to the run folder.

        Raises:
            RunError: it cannot be written, or `source` is not the picture of `key`.
        """
        relative = image_name(step, attempt, key)
        self._keep(relative, key, source)
        return relative

    def keep_png(self, relative: str, key: str, data: bytes) -> Path:
        """Write the PNG file of a picture, unless it is there; returns its path.

        Raises:
            RunError: as `write_atomically`.
        """
        path = self.path / relative
        if not self.has(relative, key, data):
            write_image(path, data, key)
        return path

    def has(self, relative: str, key: str, data: bytes | None = None) -> bool:
        """Whether a file is the picture of `key`, and the folder's own: older versions linked it to the store.

        data: see `images.is_image_of`.
        """
        path = self.path / relative
        try:
            facts = path.lstat()
        except OSError:
            return False
        return stat.S_ISREG(facts.st_mode) and facts.st_nlink <= 1 and is_image_of(path, key, data)

    def _keep(self, relative: str, key: str, source: Path) -> None:
        data = image_bytes(source, key)
        if self.has(relative, key, data):
            return
        if data is None:
            raise RunError(f"Cannot write {self.path / relative}: {source} is missing or is another picture.")
        write_image(self.path / relative, data, key)

    def image_file(self, attempt: Attempt) -> Path:
        """Where `keep_image` put the attempt's picture. Only the name in the record counts, not its folder."""
        return image_file(self.path, attempt)

    def image(self, attempt: Attempt) -> Image.Image | None:
        """The picture of an attempt; None if it is missing here, damaged or another one."""
        return image_of_run(self.path, [attempt], attempt.image_key)

    def find(self, image_key: str) -> Path | None:
        """The file of a picture that an attempt made or the user gave; None if the folder does not hold it."""
        files = [self.image_file(a) for a in self.attempts_by(image_key=image_key) if a.file]
        return next((f for f in (*files, input_file(self.path, image_key)) if is_image_of(f, image_key)), None)

    def _append(self, path: Path, before: Iterable[dict[str, Any]], record: dict[str, Any]) -> None:
        """Append a line, and those `before` it where somebody deleted the file during the run; else they are not asked
        for, so that an attempt late in a run costs no more than an early one.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _appending(path) as file:
                lost = file.seek(0, os.SEEK_END) == 0
                text = "\n" if not lost and _is_cut_off(file) else ""
                for line in (*(before if lost else ()), record):
                    text += json.dumps(sealed(line), ensure_ascii=False) + "\n"
                file.write(text.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise write_failed("append to", path, error) from error

    def release(self) -> None:
        """Let other runs have the folder."""
        if self.hold is not None:
            self.hold.release()
            self.hold = None

    def write_state(self, state: dict[str, Any]) -> None:
        data = json.dumps(sealed({**self.about, **state}), ensure_ascii=False, indent=1).encode(
            "utf-8", "surrogatepass"
        )
        write_atomically(self.path / "run.json", data)

    def write_workflow(self, workflow: dict[str, Any]) -> None:
        """workflow.json: the graph that makes this run, in the editor's format."""
        data = json.dumps(workflow, ensure_ascii=False).encode("utf-8", "surrogatepass")
        write_atomically(self.path / "workflow.json", data)

    def read_state(self) -> dict[str, Any] | None:
        return read_state(self.path)


def image_name(step: int, attempt: int, key: str) -> str:
    """Path of an attempt's picture, relative to its run folder."""
    return f"attempts/step{step:02d}_attempt{attempt}_{key[:8]}.png"


def image_file(path: Path, attempt: Attempt) -> Path:
    """Where the run folder `path` has an attempt's picture."""
    return path / "attempts" / Path(attempt.file).name


def image_of_run(path: Path, attempts: Iterable[Attempt], key: str) -> Image.Image | None:
    """The image of `key` from the run folder at `path`, if one of these attempts made it and it is sound."""
    files = [image_file(path, a) for a in attempts if a.image_key == key and a.file]
    return next((found for file in files if (found := read_image(file, key)) is not None), None)


def input_file(path: Path, key: str) -> Path:
    """Where the run folder `path` has a picture of the user's. Raises RunError if `key` is no key."""
    return path / "inputs" / f"{plain_key(key)}.png"


def read_state(path: Path) -> dict[str, Any] | None:
    """run.json; None if it is missing or damaged."""
    try:
        return unsealed(json.loads((path / "run.json").read_bytes().decode("utf-8", "surrogatepass")))
    except (OSError, ValueError, RecursionError):
        return None


def read_trajectory(path: Path) -> list[Attempt]:
    """The attempts of a run folder; a line that a crash cut off or that is damaged is passed over."""
    attempts = []
    for record in _read_lines(path / "trajectory.jsonl"):
        with contextlib.suppress(TypeError, RunError):
            attempts.append(Attempt.from_dict(record))
    return attempts


def _read_comparisons(path: Path) -> dict[str, int]:
    records = _read_lines(path / "comparisons.jsonl")
    return {r["key"]: r["best"] for r in records if isinstance(r.get("key"), str) and isinstance(r.get("best"), int)}


def _read_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")  # splitlines() would split at U+2028 too
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            record = unsealed(json.loads(line.decode("utf-8", "surrogatepass")))
            if record is not None:
                yield record


def _appending(path: Path) -> BinaryIO:
    """The file, open for appending; made if it is missing. Raises OSError (ELOOP) if a symbolic link lies there."""
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link", str(path))
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return cast(BinaryIO, os.fdopen(os.open(path, flags, 0o644), "ab+"))


def _is_cut_off(file: BinaryIO) -> bool:
    """Whether a crash or a full disk left the last line without its end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _same_outcome(a: Attempt, b: Attempt) -> bool:
    fields = ("image_key", "judgment", "judgment_key", "overridden")
    return all(getattr(a, name) == getattr(b, name) for name in fields)
