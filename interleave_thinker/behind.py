"""Write and tell behind the loop's back, in order: packing a picture takes longer than placing the next attempt.

An event is sent only after its files are written, so every attempt that a client has heard of survives a kill.
A failure ends the writing of that run and is raised when the loop next asks.
"""

from __future__ import annotations

import contextvars
import functools
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

Job = Callable[[], None]
_log = logging.getLogger(__name__)

WAITING = 8
"""Jobs of a run that may wait, those of about two attempts; with more, the loop waits."""


class Line(Protocol):
    """Where a session's jobs go."""

    def put(self, job: Job) -> None:
        """Have it done after those before it."""

    def check(self) -> None:
        """Raise what a job raised, once."""

    def settle(self) -> None:
        """Wait until all is done, and `check`."""


class AtOnce:
    """Does each job where it is put, and raises there."""

    def put(self, job: Job) -> None:
        job()

    def check(self) -> None: ...

    def settle(self) -> None: ...


class Behind:
    """Does the jobs of one run on the one thread of all runs, each in the context of its caller."""

    def __init__(self) -> None:
        self._waiting: deque[Future[None]] = deque()
        self._failed: BaseException | None = None
        self._broken = False

    def put(self, job: Job) -> None:
        context = contextvars.copy_context()
        self._waiting.append(_writer().submit(self._carry_out, context, job))
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > WAITING):
            self._waiting.popleft().result()

    def check(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def settle(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()
        self.check()

    def _carry_out(self, context: contextvars.Context, job: Job) -> None:
        if self._broken:
            return
        try:
            context.run(job)
        except BaseException as error:
            _log.error("What a run made could not be kept: %s", error)  # also where nobody asks any more
            self._failed, self._broken = error, True


def written() -> None:
    """Wait until all that any run has put is done, such as that of a run that was interrupted a moment ago."""
    _writer().submit(lambda: None).result()


@functools.cache
def _writer() -> ThreadPoolExecutor:
    """One thread: what two runs write at a time would only make both slower. The program's exit waits for it."""
    return ThreadPoolExecutor(1, "interleave-write")
