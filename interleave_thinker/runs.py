"""The run folder: what one run of the loop left on disk, written as it happens.

    <root>/<run>/run.json            plan, settings, status
    <root>/<run>/trajectory.jsonl    one line an attempt, appended as it ends
    <root>/<run>/attempts/*.png      every attempt, accepted or not

The folder is the truth: a run that was killed is read back from it. Names from outside never form a
path: see `safe_name`.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from .errors import RunError
from .store import write_atomically
from .trajectory import Attempt

MAX_NAME = 100
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.I)
"""Names that Windows keeps for devices."""


def safe_name(name: str) -> str:
    """A run name as a folder name: letters, digits, space, `.`, `_`, `-`; others become `_`.

    Raises:
        RunError: the name holds a path separator or drive, has no letter or digit, or is longer than
            `MAX_NAME`.
    """
    name = name.strip()
    if re.search(r"[/\\]", name) or re.match(r"^[A-Za-z]:", name):
        raise RunError(f"run_name {name[:60]!r} is a path. Give a plain name; runs lie in the output folder.")
    if len(name) > MAX_NAME:
        raise RunError(f"run_name has {len(name)} characters; {MAX_NAME} are allowed.")
    clean = "".join(c if c.isalnum() or c in " ._-" else "_" for c in name).strip(" .")
    if not any(c.isalnum() for c in clean):
        raise RunError(f"run_name {name!r} has no letter or digit. Give a plain name, or leave it empty.")
    return f"_{clean}" if RESERVED.match(clean) else clean


class RunFolder:
    """One run's folder below `root`. `known` are the attempts it held when it was opened, by identity."""

    def __init__(self, root: Path, name: str):
        self.name = safe_name(name)
        self.path = root / self.name
        if any(root.resolve() not in p.resolve().parents for p in (self.path, self.path / "attempts")):
            raise RunError(f"run_name {name!r} leads out of {root}.")
        try:
            (self.path / "attempts").mkdir(parents=True, exist_ok=True)
            self.trajectory_file.touch()  # empty, not missing, for whoever looks early
        except OSError as error:
            raise RunError(
                f"Cannot create the run folder {self.path}: {error.strerror or error}. Choose a writable output folder."
            ) from error
        self.known: dict[str, Attempt] = {a.identity: a for a in read_trajectory(self.path)}

    @property
    def trajectory_file(self) -> Path:
        return self.path / "trajectory.jsonl"

    def record(self, attempt: Attempt) -> bool:
        """Append an attempt unless the folder has it already; returns whether it was new."""
        before = self.known.get(attempt.identity)
        if before is not None and _same_outcome(before, attempt):
            return False
        line = json.dumps(attempt.to_dict(), ensure_ascii=False) + "\n"
        try:
            with self.trajectory_file.open("ab+") as file:
                if _is_cut_off(file):
                    line = "\n" + line
                file.write(line.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise RunError(
                f"Cannot append to {self.trajectory_file}: {error.strerror or error}. "
                "Everything up to the last attempt is kept; free some space and queue again."
            ) from error
        self.known[attempt.identity] = attempt
        return True

    def keep_image(self, step: int, attempt: int, key: str, source: Path) -> str:
        """Put an attempt's picture beside the record; returns its path relative to the run folder."""
        relative = image_name(step, attempt, key)
        target = self.path / relative
        try:
            if target.exists() and (target.samefile(source) or filecmp.cmp(target, source, shallow=False)):
                return relative
            target.unlink(missing_ok=True)  # half a copy, left by a crash
            os.link(source, target)
        except OSError:
            self._copy(source, target)
        return relative

    def image_file(self, attempt: Attempt) -> Path:
        """Where `keep_image` put the attempt's picture. Only the name in the record counts, not its folder."""
        return self.path / "attempts" / Path(attempt.file).name

    def _copy(self, source: Path, target: Path) -> None:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
            raise RunError(
                f"Cannot write {target}: {error.strerror or error}. Free some space or choose a writable "
                "output folder; everything finished so far is kept."
            ) from error

    def write_state(self, state: dict[str, Any]) -> None:
        data = json.dumps(state, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
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


def read_state(path: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((path / "run.json").read_bytes().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


def read_trajectory(path: Path) -> list[Attempt]:
    """The attempts of a run folder; a line cut off by a crash is passed over."""
    try:
        lines = (path / "trajectory.jsonl").read_bytes().split(b"\n")  # splitlines() would split at U+2028 too
    except OSError:
        return []
    attempts = []
    for line in lines:
        try:
            attempts.append(Attempt.from_dict(json.loads(line.decode("utf-8", "surrogatepass"))))
        except (ValueError, TypeError, RecursionError, RunError):
            continue
    return attempts


def _is_cut_off(file: BinaryIO) -> bool:
    """Whether a crash or a full disk left the last line without its end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _same_outcome(a: Attempt, b: Attempt) -> bool:
    return (a.image_key, a.judgment, a.overridden) == (b.image_key, b.judgment, b.overridden)
