"""Answers of models that took time or money, a line each in a file: work that was stopped goes on from them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import append_synced


@dataclass
class AnswerFile:
    """Answers by key; several threads may keep some. A line that was cut off is passed over.

    path: None keeps them in memory only. Values of entries that were read are not checked: any file may lie there.
    """

    path: Path | None
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lines = self.path.read_bytes().split(b"\n") if self.path is not None and self.path.is_file() else []
        for line in lines:
            try:
                entry = json.loads(line)
                self.known[str(entry["key"])] = entry
            except (ValueError, TypeError, KeyError, RecursionError):
                continue

    def keep(self, key: str, **entry: Any) -> None:
        """Raises:
        RunError: it cannot be written.
        """
        kept = {"key": key, **entry}
        self.known[key] = kept
        if self.path is None:
            return
        try:
            append_synced(self.path, b"\n" + json.dumps(kept).encode())
        except OSError as error:
            raise RunError(f"Cannot write {self.path}: {error.strerror or error}. What is there is kept.") from None
