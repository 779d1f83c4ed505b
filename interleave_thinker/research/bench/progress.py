"""A bar with rate and time left, on a terminal; a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

QUIET_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """`with Progress("judge", 40) as progress: ... progress.advance()`. rich is used where it is installed."""

    def __init__(self, what: str, total: int):
        self.what, self.total, self.done = what, total, 0
        self.begun = self.printed = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            try:
                from rich.console import Console
                from rich.progress import (
                    BarColumn,
                    MofNCompleteColumn,
                    TextColumn,
                    TimeElapsedColumn,
                    TimeRemainingColumn,
                )
                from rich.progress import Progress as Bar
            except ImportError:
                return self
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task(self.what, total=self.total, rate="")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self) -> None:
        self.done += 1
        now = time.monotonic()
        rate = self.done / max(1e-9, now - self.begun)
        if self.bar is not None:
            self.bar.update(self.task, advance=1, rate=f"{rate:.2f}/s")
        elif now - self.printed > QUIET_EVERY:
            self.printed = now
            left = (self.total - self.done) / rate
            print(f"{self.what}: {self.done} of {self.total}, {rate:.2f}/s, {left:.0f} s left", file=sys.stderr)
