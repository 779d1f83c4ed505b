"""What was written comes to the disk behind the loop's back, and a disk that fails is heard."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from interleave_thinker.errors import RunError
from interleave_thinker.syncing import BEHIND, SyncQueue


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x").write_bytes(b"x")
    return tmp_path / "x"


def test_the_caller_does_not_wait_until_too_much_waits(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: disk.wait(30))
    syncs = SyncQueue()
    for _ in range(BEHIND):
        syncs.put(file)
    late = threading.Thread(target=syncs.put, args=(file,))
    late.start()
    late.join(0.2)
    assert late.is_alive(), "a disk that never catches up must hold the loop, not fill the memory"
    disk.set()
    late.join(30)
    assert not late.is_alive()
    syncs.settle()


def test_a_failure_is_raised_once_and_logged(file: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
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
