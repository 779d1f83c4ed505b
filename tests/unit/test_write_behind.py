"""Background writing: in order, bounded, and a failure is heard."""

from __future__ import annotations

import contextvars
import errno
import os
import threading
from pathlib import Path

import pytest

from interleave_thinker.errors import RunError
from interleave_thinker.storage.write_behind import LIMIT, SyncQueue, WriteBehind, wait_for_writes

CALLER = contextvars.ContextVar("CALLER", default="nobody")


def test_jobs_are_done_in_order_and_in_their_callers_context() -> None:
    """ComfyUI says in a context variable whose prompt runs; messages need it."""
    done: list[tuple[int, str, bool]] = []
    here = threading.get_ident()
    line = WriteBehind()
    CALLER.set("a prompt")
    for number in range(50):
        line.put(lambda n=number: done.append((n, CALLER.get(), threading.get_ident() == here)))
    line.settle()
    assert done == [(n, "a prompt", False) for n in range(50)]


def test_the_caller_does_not_wait_until_too_much_waits() -> None:
    line, slow = WriteBehind(), threading.Event()
    for _ in range(LIMIT):
        line.put(lambda: slow.wait(30) and None)
    late = threading.Thread(target=line.put, args=(lambda: None,))
    late.start()
    late.join(0.2)
    assert late.is_alive(), "a disk that never catches up must hold the loop, not fill the memory"
    slow.set()
    late.join(30)
    assert not late.is_alive()
    line.settle()


def test_a_failure_ends_that_run_and_is_raised_once_where_it_is_asked_for() -> None:
    """What follows a picture that could not be written must not be told as if it had been."""
    told: list[str] = []
    line, other = WriteBehind(), WriteBehind()

    def fail() -> None:
        raise OSError("disk full")

    line.put(lambda: told.append("before"))
    line.put(fail)
    line.put(lambda: told.append("after"))
    other.put(lambda: told.append("other"))
    wait_for_writes()
    assert told == ["before", "other"]
    with pytest.raises(OSError, match="disk full"):
        line.check()
    line.settle()
    other.settle()


def test_whoever_waits_for_all_waits_for_interrupted_runs_too() -> None:
    """Their folder is read next, and nobody holds their line any more."""
    done = threading.Event()
    WriteBehind().put(lambda: threading.Event().wait(0.2) or done.set())
    wait_for_writes()
    assert done.is_set()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x").write_bytes(b"x")
    return tmp_path / "x"


def test_the_loop_waits_for_a_disk_that_never_catches_up(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: disk.wait(30))
    syncs = SyncQueue()
    for _ in range(LIMIT):
        syncs.put(file)
    late = threading.Thread(target=syncs.put, args=(file,))
    late.start()
    late.join(0.2)
    assert late.is_alive(), "a disk that never catches up must hold the loop, not fill the memory"
    disk.set()
    late.join(30)
    assert not late.is_alive()
    syncs.settle()


def test_a_failed_sync_is_raised_once_and_logged(file: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    syncs = SyncQueue()
    syncs.put(file)
    with pytest.raises(RunError, match=f"{file}.*Input/output error"):
        syncs.settle()
    syncs.settle()
    assert str(file) in caplog.text, "a run that was interrupted asks no more; the log still says it"


def test_what_is_gone_or_not_ours_is_no_failure(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store drops old pictures, and a shared one holds those of other users."""
    syncs = SyncQueue()
    syncs.put(file.with_name("gone"))

    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    syncs.settle()
    monkeypatch.setattr(os, "open", refused)
    syncs.put(file)
    syncs.settle()


def test_a_full_disk_and_a_read_only_one_are_told_apart(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, said in ((errno.ENOSPC, "free some space"), (errno.EROFS, "choose a writable folder")):
        error = OSError(number, os.strerror(number))

        def fails(_: int, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(os, "fsync", fails)
        syncs = SyncQueue()
        syncs.put(file)
        with pytest.raises(RunError, match=f"{file}.*{said}"):
            syncs.settle()
