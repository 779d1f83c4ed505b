"""Which folder a run goes into: the one it has had before, a new one, or a branch of an earlier run.

Runs that share a name, or the work they begin with, are a family: `story`, `story~2`, `story~3`. Each folder is for
one identity: plan, seed, pictures, body, critic, T_max and policies. A run with another identity gets a folder of its
own, and `parent` in its run.json names the run that it branched from. The loop looks for missing files in the
folders of its ancestors. A folder is held while its run is under way, so two live runs never share one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunError, write_failed
from ..files import hash_of
from ..loop.plan import Plan
from ..loop.state import LoopSettings
from .run_folder import RunFolder, read_state, safe_name

MOST = 500
"""Folders of a family that are looked at, the latest first."""
MOST_NAMES = 50_000
"""Names in the output folder that are looked at."""
DEEPEST = 30
"""Ancestors that are looked in."""
LOCK = ".lock"
_BRANCH = re.compile(r"~(\d{1,5})\Z")


@dataclass(frozen=True)
class Work:
    """What a run does. plan, settings, user_images: as given to the loop. body, judge: keys of their signatures."""

    plan: Plan
    settings: LoopSettings
    user_images: tuple[str, ...] = ()
    body: str = ""
    judge: str = ""
    node: str = ""
    """Id of the Loop Close. If several runs could be the parent, one of the same Loop Close is taken."""
    always_changes: bool = False
    """A node of the body or the judge always changes. An unfinished run goes on; after a finished one the same work
    gets a new folder."""
    reopens_finished: bool = False
    """A gate is set or attempts are accepted: a finished run that always changes is opened again, not made anew."""

    @property
    def identity(self) -> str:
        """Of a run that would do the same. The gate and a person's verdicts are no part of it."""
        settings = self.settings
        policy = (settings.t_max, settings.on_exhausted, settings.reference_policy, settings.judge_all)
        steps = [step.to_dict() for step in self.plan.steps]
        return hash_of("run", steps, self.plan.request, settings.seed, self.user_images, self.body, self.judge, *policy)

    @property
    def family(self) -> str:
        """What runs without a name have in common with those that branch from them."""
        return hash_of("family", self.settings.seed, self.user_images, self.body)[:8]

    @property
    def words(self) -> str:
        """The beginning of a name."""
        steps = self.plan.steps
        first = self.plan.request or (steps[0].text or steps[0].prompt if steps else "") or "run"
        return "-".join(re.findall(r"[A-Za-z0-9]+", first.lower()))[:40].strip("-") or "run"

    def is_related(self, state: Mapping[str, Any]) -> bool:
        """Whether a saved run is of the same request, or has a step in common."""
        trajectory = state.get("trajectory")
        saved = trajectory.get("plan") if isinstance(trajectory, Mapping) else None
        if not isinstance(saved, Mapping):
            return False
        if self.plan.request and saved.get("request") == self.plan.request:
            return True
        steps = saved.get("execution_plan")
        steps = steps if isinstance(steps, list) else []
        return any(
            isinstance(old, Mapping) and dict(old) == new.to_dict()
            for old, new in zip(steps, self.plan.steps, strict=False)
        )


@dataclass(frozen=True)
class _Member:
    name: str
    changed: float
    state: Mapping[str, Any] | None
    is_empty: bool

    @property
    def identity(self) -> str:
        return str((self.state or {}).get("identity") or "")

    @property
    def node(self) -> str:
        origin = (self.state or {}).get("origin")
        return str(origin.get("node") or "") if isinstance(origin, Mapping) else ""

    @property
    def token(self) -> str:
        return str((self.state or {}).get("token") or "")

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do: it is done, or stopped because a step has used up its attempts."""
        try:
            state = dict(self.state or {})
            status, results = state["trajectory"]["status"], state["trajectory"]["results"]
            stops = state["state"]["settings"]["on_exhausted"] == "stop"
            return bool(status == "done" or (status == "stopped" and stops and results[-1]["exhausted"]))
        except (KeyError, IndexError, TypeError):
            return False


def open_run(root: Path, work: Work, run_name: str = "") -> RunFolder:
    """The folder for `work`, held until `RunFolder.release`.

    run_name: as the user typed it; empty: a name is made.

    Raises:
        RunError: the name cannot be used, or the folder cannot be written.
    """
    base = safe_name(run_name) if run_name.strip() else f"{work.words}-{work.family}"
    same = _named(base) if run_name.strip() else _ends_with(work.family)
    members = _members(root, same)
    same_work = [m for m in members if m.identity == work.identity]
    anew = bool(work.always_changes and not work.reopens_finished and same_work and same_work[0].is_over)
    for member in () if anew else same_work:
        folder = _held(root, member.name)
        if folder is not None:
            return _opened(folder, root, work, str((member.state or {}).get("parent") or ""), member.token)
    parents = [m for m in members if not m.is_empty and (run_name.strip() or work.is_related(m.state or {}))]
    parents = [m for m in parents if m.identity == work.identity or not _is_held(root / m.name)]
    parent = next((m for m in parents if m.node == work.node), next(iter(parents), None)) if not anew else None
    empty = (m.name for m in members if m.is_empty)
    folder = next(filter(None, (_held(root, name) for name in empty)), None) or _held(root, _new_name(root, base))
    if folder is None:
        raise RunError(f"Cannot use the run folder {root / base}: another run took it. Queue again.")
    return _opened(folder, root, work, parent.name if parent else "", parent.token if parent else "")


def _opened(folder: RunFolder, root: Path, work: Work, parent: str, token: str) -> RunFolder:
    folder.about = {"identity": work.identity, "parent": parent}
    if work.always_changes:
        folder.about["token"] = token or uuid.uuid4().hex
    folder.ancestors = tuple(_ancestors(root, folder.name, parent))
    return folder


def _ancestors(root: Path, name: str, parent: str) -> Iterator[RunFolder]:
    """The folders that a run branched from, the nearest first, as far as they are there."""
    seen = {name}
    while parent and parent not in seen and len(seen) <= DEEPEST:
        seen.add(parent)
        try:
            name = safe_name(parent, branch=True)
            if not (root / name).is_dir():
                return
            folder = RunFolder(root, name)
        except RunError:
            return
        yield folder
        parent = str((folder.read_state() or {}).get("parent") or "")


def _named(base: str) -> Callable[[str], bool]:
    wanted = base.casefold()  # file systems that ignore case
    return lambda name: _BRANCH.sub("", name).casefold() == wanted


def _ends_with(family: str) -> Callable[[str], bool]:
    return lambda name: _BRANCH.sub("", name).endswith(f"-{family}")


def _members(root: Path, belongs: Callable[[str], bool]) -> list[_Member]:
    """The folders of a family, the latest first."""
    found: list[tuple[float, str]] = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for number, entry in enumerate(entries):
            if number >= MOST_NAMES:
                break
            if belongs(entry.name) and entry.is_dir(follow_symlinks=False):
                found.append((_changed(Path(entry.path)), entry.name))
    return [_member(root / name, at) for at, name in sorted(found, reverse=True)[:MOST]]


def _changed(path: Path) -> float:
    for name in ("run.json", ""):
        with contextlib.suppress(OSError):
            return (path / name).stat().st_mtime
    return 0.0


def _member(path: Path, changed: float) -> _Member:
    state = read_state(path)
    is_empty = False
    if state is None:  # the run ended before it wrote anything, or nobody can know what the folder is about
        with contextlib.suppress(OSError):
            lines = path / "trajectory.jsonl"
            is_empty = not (path / "run.json").exists() and (not lines.exists() or lines.stat().st_size == 0)
    return _Member(path.name, changed, state, is_empty)


def _new_name(root: Path, base: str) -> str:
    """A name of a folder that this call made."""
    for number in range(1, 100_000):
        name = base if number == 1 else f"{base}~{number}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / name).mkdir()
        except FileExistsError as error:
            if number == 1 and not (root / name).is_dir():
                raise write_failed("create the run folder", root / name, error) from error
            continue
        except OSError as error:
            raise write_failed("create the run folder", root / name, error) from error
        return name
    raise RunError(f"There are too many runs named {base!r} in {root}. Give another run_name, or delete some.")


# -- holding a folder


_here: set[str] = set()
_guard = threading.Lock()


@dataclass
class Hold:
    """A folder that one live run has to itself, against other loops and other servers, until it is released.

    The operating system's lock ends with the process, however it ends.
    """

    path: Path
    _file: int | None = field(default=None, repr=False)

    def take(self) -> bool:
        key = str(self.path.resolve())
        with _guard:
            if key in _here:
                return False
            try:
                self._file = _locked(self.path / LOCK)
            except BlockingIOError:
                return False
            except OSError as error:
                raise write_failed("use the run folder", self.path, error) from error
            _here.add(key)
        return True

    def release(self) -> None:
        with _guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None
                _here.discard(str(self.path.resolve()))


def _held(root: Path, name: str) -> RunFolder | None:
    hold = Hold(root / name)
    if not hold.take():
        return None
    try:
        folder = RunFolder(root, name)
    except BaseException:
        hold.release()
        raise
    folder.hold = hold
    return folder


def _is_held(path: Path) -> bool:
    hold = Hold(path)
    with contextlib.suppress(RunError):
        if not hold.take():
            return True
        hold.release()
    return False


def _locked(path: Path) -> int:
    """A file with the system's lock on it. Raises BlockingIOError if another one has it, OSError as `os.open`."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    file = os.open(path, flags, 0o644)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            os.close(file)
            raise BlockingIOError(error.errno, "held by another run", str(path)) from None
        # a file system without locks: runs of this process are still told apart
    return file
