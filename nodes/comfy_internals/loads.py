"""Which models ComfyUI loads. It says so in its log and nowhere else."""

from __future__ import annotations

import functools
import logging
import re
from collections import deque
from dataclasses import dataclass, field

from .missing import say_missing

_BEGINS = "Requested to load"
_REQUESTED = re.compile(_BEGINS + r" (\S{1,100})")


class _Listener(logging.Handler):
    """Counts the lines of loaded models, and keeps the names of the latest."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.count = 0
        self.names: deque[str] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        found = _REQUESTED.match(record.getMessage()) if str(record.msg).startswith(_BEGINS) else None
        if found is not None:
            self.count += 1
            self.names.append(found[1])


@functools.cache
def _listener() -> _Listener:
    listener = _Listener()
    logging.getLogger().addHandler(listener)
    return listener


def _in_memory() -> set[int]:
    """The models that ComfyUI counts as loaded."""
    import comfy.model_management as memory

    return {id(model) for model in memory.loaded_models()}


@dataclass
class LoadWatch:
    """The models that ComfyUI loads, from one question to the next."""

    seen: int = field(default_factory=lambda: _listener().count)
    known: set[int] = field(default_factory=_in_memory)

    def taken(self) -> tuple[str, ...] | None:
        """Class names of what was loaded since the last call, in order; None where the log does not say it."""
        listener = _listener()
        new, self.seen = listener.count - self.seen, listener.count
        known, self.known = self.known, _in_memory()
        if not logging.getLogger().isEnabledFor(logging.INFO):
            return None
        if not new and self.known - known:
            say_missing("line in its log for a loaded model")
            return None
        return tuple(listener.names)[-new:] if new else ()
