"""Bring what was written to the disk itself, behind the loop's back.

A written file outlives the program whatever happens to it. Only against a power cut must it be synced too,
and that takes as long as the disk likes (`benchmarks/loop_cost.py`), so the loop does not wait for it: a power
cut costs at most the attempts of the last moment, and what it leaves half written is told by checksums and
missing line ends.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .errors import RunError

BEHIND = 8
"""Files that may wait; with more, the loop waits for the disk."""

_worker = ThreadPoolExecutor(1, "interleave-sync")


class SyncQueue:
    """The files of one run that are on their way. What the disk says of one is raised by a later call."""

    def __init__(self) -> None:
        self._waiting: deque[Future[None]] = deque()

    def put(self, path: Path) -> None:
        """Have a file synced by and by.

        Raises:
            RunError: an earlier one could not be; names its path and the reason.
        """
        self._waiting.append(_worker.submit(_sync, path))
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > BEHIND):
            self._waiting.popleft().result()

    def settle(self) -> None:
        """Wait until everything is on the disk. Raises as `put` does."""
        while self._waiting:
            self._waiting.popleft().result()


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except FileNotFoundError:
        pass  # dropped meanwhile
    except OSError as error:
        raise RunError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose a writable folder; "
            "everything finished before it is kept."
        ) from error
