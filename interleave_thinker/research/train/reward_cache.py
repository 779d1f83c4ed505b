"""Scores of refined prompts that were tried, on disk: a picture that was drawn and judged is never paid for again.

One small file a trial. All processes of a training may use one folder at the same time, and so may a resumed training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...files import files_state, write_atomically
from ...resolve import GeneratorChoice
from ...roles.scorer import Score


def maker(generator: GeneratorChoice, judge: str) -> str:
    """What made and judged the pictures; with another generator, workflow or judge a score does not count.

    The address of a server is not part of it: servers of one training are alike.
    """
    files = [
        _digest(str(path), path.stat().st_mtime_ns) for path in (generator.workflow, generator.edit_workflow) if path
    ]
    folder = Path(generator.spec)
    files += [files_state(folder)] if folder.is_dir() else []
    return json.dumps([generator.spec, files, sorted(generator.workflow_inputs.items()), generator.dtype, judge])


@dataclass(frozen=True)
class RewardCache:
    """folder: of the files, made with the first one. made_by: see `maker`. seed: of every picture."""

    folder: Path
    made_by: str
    seed: int

    def get(self, state: Sequence[object], prompt: str) -> Score | None:
        """state: what names the state, such as `Trial.state`."""
        try:
            kept = json.loads(self._path(state, prompt).read_bytes())
            return Score(float(kept["semantics"]), float(kept["quality"]))
        except Exception:  # not there, cut off by a full disk, or anything else
            return None

    def put(self, state: Sequence[object], prompt: str, score: Score) -> None:
        """Keep a score.

        Raises:
            RunError: the disk is full, or the folder cannot be written.
        """
        record = {"semantics": score.semantics, "quality": score.quality, "prompt": prompt}
        write_atomically(self._path(state, prompt), json.dumps(record).encode())

    def _path(self, state: Sequence[object], prompt: str) -> Path:
        text = json.dumps([self.made_by, self.seed, list(state), prompt])
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"


def picture_digest(path: Path) -> str:
    """SHA-256 of a picture's file; each version of a file is read once."""
    return _digest(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: str, changed: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
