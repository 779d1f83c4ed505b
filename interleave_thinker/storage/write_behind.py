"""Files and messages of a run are written on background threads; making the next attempt does not wait for them.

Two queues for each run, each with one thread for all runs:

- `WriteBehind`: jobs in order. Packing an image takes longer than placing the next attempt. An event is sent only
  after its files are written, so every attempt that a client has heard of survives a kill.
- `SyncQueue`: fsync of files that are written. A written file outlives the program; only a power cut needs the sync,
  which takes as long as the disk likes (`benchmarks/loop_cost.py`). A power cut costs at most the attempts of the
  last moment: digests, checksums and missing line ends show which files it left half written. A run that says "done"
  is on the disk.

With more than `LIMIT` jobs waiting, the loop waits. A failure is raised at a later call.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from ..errors import write_failed

Job = Callable[[], None]
LIMIT = 8
"""Jobs of a run that may wait in one queue: those of about two attempts."""

_log = logging.getLogger(__name__)


class Writer(Protocol):
    """Where a session's jobs go."""

    def put(self, job: Job) -> None:
        """Have it done after those before it."""

    def check(self) -> None:
        """Raise what a job raised, once."""

    def settle(self) -> None:
        """Wait until all is done, and `check`."""


class WriteNow:
    """Does each job where it is put, and raises there."""

    def put(self, job: Job) -> None:
        job()

    def check(self) -> None: ...

    def settle(self) -> None: ...


class _Waiting:
    """Jobs of a run that are under way, in order."""

    def __init__(self) -> None:
        self._jobs: deque[Future[None]] = deque()

    def add(self, job: Future[None]) -> None:
        """Raises what a job before it raised."""
        self._jobs.append(job)
        while self._jobs and (self._jobs[0].done() or len(self._jobs) > LIMIT):
            self._jobs.popleft().result()

    def settle(self) -> None:
        while self._jobs:
            self._jobs.popleft().result()


class WriteBehind:
    """A `Writer` in the background, each job in the context of its caller. The first failure ends the run's writing."""

    def __init__(self) -> None:
        self._waiting = _Waiting()
        self._failed: BaseException | None = None
        self._broken = False

    def put(self, job: Job) -> None:
        self._waiting.add(_writing_thread().submit(self._carry_out, contextvars.copy_context(), job))

    def check(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def settle(self) -> None:
        self._waiting.settle()
        self.check()

    def _carry_out(self, context: contextvars.Context, job: Job) -> None:
        if self._broken:
            return
        try:
            context.run(job)
        except BaseException as error:
            _log.error("What a run made could not be kept: %s", error)  # also where nobody asks any more
            self._failed, self._broken = error, True


def wait_for_writes() -> None:
    """Wait until the jobs of all runs are done, such as those of a run that was interrupted a moment ago."""
    _writing_thread().submit(lambda: None).result()


class SyncQueue:
    """Files of one run that are on their way to the disk."""

    def __init__(self) -> None:
        self._waiting = _Waiting()

    def put(self, path: Path) -> None:
        """Have a file synced by and by.

        Raises:
            RunError: an earlier one could not be; names its path and the reason.
        """
        future: Future[None] = Future()
        _syncing_thread().put((path, future))
        self._waiting.add(future)

    def settle(self) -> None:
        """Wait until everything is on the disk. Raises as `put` does."""
        self._waiting.settle()


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
def _writing_thread() -> ThreadPoolExecutor:
    """One thread: two runs that write at a time would only slow each other. The program's exit waits for it."""
    return ThreadPoolExecutor(1, "interleave-write")


@functools.cache
def _syncing_thread() -> queue.SimpleQueue[tuple[Path, Future[None]]]:
    """Its input. The program's exit does not wait for it: a disk may hang."""
    files: queue.SimpleQueue[tuple[Path, Future[None]]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            path, future = files.get()
            try:
                _sync(path)
            except OSError as error:
                _log.error("Cannot write %s: %s", path, error.strerror or error)  # also where nobody asks any more
                future.set_exception(write_failed("write", path, error))
            else:
                future.set_result(None)

    threading.Thread(target=work, name="interleave-sync", daemon=True).start()
    return files
