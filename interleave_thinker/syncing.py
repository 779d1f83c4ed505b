"""Bring what was written to the disk itself, behind the loop's back.

A written file outlives the program whatever happens to it. Only against a power cut must it be synced too,
and that takes as long as the disk likes (`benchmarks/loop_cost.py`), so neither the loop nor the program's exit
waits for it. A power cut costs at most the attempts of the last moment; digests, checksums and missing line ends
show which files it left half written. A run that says "done" is on the disk.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import threading
from collections import deque
from pathlib import Path

from .errors import write_failed

BEHIND = 8
"""Files of a run that may wait; with more, the loop waits for the disk."""

_log = logging.getLogger(__name__)


class SyncQueue:
    """The files of one run that are on their way. What the disk says of one is raised by a later call."""

    def __init__(self) -> None:
        self._waiting: deque[_Sync] = deque()

    def put(self, path: Path) -> None:
        """Have a file synced by and by.

        Raises:
            RunError: an earlier one could not be; names its path and the reason.
        """
        sync = _Sync(path)
        self._waiting.append(sync)
        _line().put(sync)
        while self._waiting and (self._waiting[0].over.is_set() or len(self._waiting) > BEHIND):
            self._waiting.popleft().result()

    def settle(self) -> None:
        """Wait until everything is on the disk. Raises as `put` does."""
        while self._waiting:
            self._waiting.popleft().result()


class _Sync:
    def __init__(self, path: Path):
        self.path, self.over = path, threading.Event()
        self.error: OSError | None = None

    def carry_out(self) -> None:
        try:
            _sync(self.path)
        except OSError as error:
            self.error = error
            _log.error("Cannot write %s: %s", self.path, error.strerror or error)  # also where nobody asks any more
        finally:
            self.over.set()

    def result(self) -> None:
        self.over.wait()
        if self.error is not None:
            raise write_failed("write", self.path, self.error)


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return  # dropped meanwhile; or somebody else's, or held by another program: written it is all the same
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@functools.cache
def _line() -> queue.SimpleQueue[_Sync]:
    """The one line of all runs, and the thread that works on it."""
    line: queue.SimpleQueue[_Sync] = queue.SimpleQueue()

    def work() -> None:
        while True:
            line.get().carry_out()

    threading.Thread(target=work, name="interleave-sync", daemon=True).start()
    return line
