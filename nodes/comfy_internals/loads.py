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


@dataclass(frozen=True)
class _Line:
    """of_a_kind: a model of this class was in memory already. Then the line may be about new patches on its weights."""

    name: str
    of_a_kind: bool


class _Listener(logging.Handler):
    """Counts the lines of loaded models, and keeps the latest."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.count = 0
        self.lines: deque[_Line] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        found = _REQUESTED.match(record.getMessage()) if str(record.msg).startswith(_BEGINS) else None
        if found is not None:
            self.count += 1
            self.lines.append(_Line(found[1], found[1] in _in_memory().values()))


@functools.cache
def _listener() -> _Listener:
    listener = _Listener()
    logging.getLogger().addHandler(listener)
    return listener


def _in_memory() -> dict[int, str]:
    """The weights that ComfyUI counts as loaded, with the names of their classes."""
    try:
        import comfy.model_management as memory

        weights = [patcher.model for patcher in memory.loaded_models()]
    except (ImportError, AttributeError, TypeError):
        return {}
    return {id(model): type(model).__name__ for model in weights}


@dataclass
class LoadWatch:
    """The models that ComfyUI loads, from one question to the next."""

    seen: int = field(default_factory=lambda: _listener().count)
    known: dict[int, str] = field(default_factory=_in_memory)

    def taken(self) -> tuple[str, ...] | None:
        """Class names of what was loaded since the last call, in order; None where the log does not say it.

        Weights that stayed in memory and got other patches are not loaded.
        """
        listener = _listener()
        lines, self.seen = listener.count - self.seen, listener.count
        before, self.known = self.known, _in_memory()
        new = [name for weights, name in self.known.items() if weights not in before]
        if not logging.getLogger().isEnabledFor(logging.INFO):
            return None
        if not lines and new:
            say_missing("line in its log for a loaded model")
            return None
        latest = list(listener.lines)[-lines:] if lines else []
        return tuple(line.name for line in latest if not line.of_a_kind or line.name in new)
