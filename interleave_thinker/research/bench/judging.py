"""Ask the judge, keep every reply, and never ask twice for the same.

`judge.jsonl` holds one line a reply, synced as it comes: item, criterion, a fingerprint of everything that
was asked (texts, pictures, judge, sampling) and the raw reply. A run that was killed goes on from it, and a
picture that changed since is judged anew. Knows nothing of any benchmark.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from ...agents.base import Agent, Completion, Message, Part, Sampling, identity
from ...errors import AgentError, InterleaveError
from ...files import append_synced
from ...roles.asking import ask_anew
from .base import HALVES, BenchError, Benchmark, Item
from .progress import Progress

T = TypeVar("T")
TRIES = 3
SAMPLING = Sampling(max_tokens=1024)
JUDGE_TOKENS = 4096
"""Upstream's limit of a judge's reply."""


@dataclass
class ReplyLog:
    """Replies by (item, criterion, fingerprint); the last counts. A line that a crash cut off is skipped."""

    path: Path
    known: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        whole = self.path.read_bytes() if self.path.is_file() else b""
        for line in whole.split(b"\n"):
            try:
                entry = json.loads(line.decode("utf-8", "surrogatepass"))
                self.known[str(entry["item"]), str(entry["criterion"]), str(entry["fingerprint"])] = entry
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
        if whole and not whole.endswith(b"\n"):
            self._write(b"\n")

    def keep(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", HALVES) + b"\n"
        with self._lock:
            self._write(line)
            self.known[entry["item"], entry["criterion"], entry["fingerprint"]] = entry

    def items(self) -> set[str]:
        """Ids of those with a reply."""
        return {item for item, _, _ in self.known}

    def recall(
        self, item: str, criterion: str, fingerprint: str, parse: Callable[[str], T | None], retry_failed: bool
    ) -> tuple[T | None] | None:
        """The kept reply as `parse` reads it, in a tuple; None where the judge has to be asked."""
        known = self.known.get((item, criterion, fingerprint))
        read = None if known is None else parse(str(known.get("raw", "")))
        return None if known is None or (read is None and retry_failed) else (read,)

    def _write(self, data: bytes) -> None:
        try:
            append_synced(self.path, data)
        except OSError as error:
            reason = error.strerror or error
            raise BenchError(f"Cannot write {self.path}: {reason}. Finished replies are kept.") from error


@dataclass
class Judge:
    """Asks `agent`; `calls`, `failed` and `unread` count what happened in this execution.

    max_tokens: limit of a reply; a judge may think before it answers. A kept reply counts whatever limit it had.

    If a reply cannot be read, the judge is asked again, up to TRIES times. Then the last reply is kept and the
    criterion has failed. If the agent cannot be reached, nothing is kept, and the next execution asks again.
    """

    agent: Agent
    log: ReplyLog
    retry_failed: bool = False
    max_tokens: int = JUDGE_TOKENS
    calls: int = 0
    recalled: int = 0
    unread: int = 0
    failed: int = 0
    last_error: str = ""
    broken: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def about(self, item: Item) -> _Asker:
        return _Asker(self, item)

    def ask(
        self,
        item: str,
        criterion: str,
        parts: Sequence[Part],
        parse: Callable[[str], T | None],
        system: str | None,
        sampling: Sampling,
    ) -> T | None:
        messages = _messages(parts, system)
        fingerprint = _fingerprint(identity(self.agent), messages, sampling)
        known = self.log.recall(item, criterion, fingerprint, parse, self.retry_failed)
        if known is not None:
            self._count(recalled=1, unread=int(known[0] is None))
            return known[0]
        return self._ask(item, criterion, messages, parse, sampling, fingerprint)

    def _ask(
        self,
        item: str,
        criterion: str,
        messages: list[Message],
        parse: Callable[[str], T | None],
        sampling: Sampling,
        fingerprint: str,
    ) -> T | None:
        def complete(asked: Sampling) -> Completion:
            self._count(calls=1)
            return self.agent.complete(messages, replace(asked, max_tokens=self.max_tokens))

        try:
            found = ask_anew(complete, parse, sampling, TRIES)
        except AgentError as error:
            self._count(failed=1)
            self.last_error = str(error)
            return None
        self._count(unread=int(found.value is None))
        self.log.keep(
            {
                "item": item,
                "criterion": criterion,
                "fingerprint": fingerprint,
                "judge": self.agent.name,
                "tries": found.tries,
                "read": found.value is not None,
                "raw": found.completion.text,
            }
        )
        return found.value

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)


@dataclass(frozen=True)
class _Asker:
    """`base.Ask` for one item."""

    judge: Judge
    item: Item

    def __call__(
        self,
        criterion: str,
        parts: Sequence[Part],
        parse: Callable[[str], T | None],
        *,
        system: str | None = None,
        sampling: Sampling = SAMPLING,
    ) -> T | None:
        return self.judge.ask(self.item.id, criterion, parts, parse, system, sampling)


def judge_all(
    bench: Benchmark, outputs: Path, items: Sequence[Item], judge: Judge, workers: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Every item's verdict, `workers` items at a time; the order of the answers changes nothing.

    An item that cannot be judged at all, for example because an image cannot be read, has no verdict; `judge.broken`
    has the reason.
    """
    verdicts: dict[str, dict[str, Any]] = {}
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        waiting = {pool.submit(bench.judge, outputs, i, judge.about(i)): i for i in items}
        for done in as_completed(waiting):
            item = waiting[done]
            try:
                verdicts[item.id] = done.result()
            except Exception as error:  # one item's trouble must not cost the others
                named = str(error) if isinstance(error, InterleaveError) else f"{type(error).__name__}: {error}"
                judge.broken[item.id] = " ".join(named.split())[:1000]
            progress.advance()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return {i.id: verdicts[i.id] for i in items if i.id in verdicts}


def calls_left(
    bench: Benchmark, outputs: Path, item: Item, log: ReplyLog, judge: str, retry_failed: bool = False
) -> int:
    """The most questions about an item that no kept reply answers. What is asked is made anew, and nobody is asked."""
    answered = 0

    def ask(
        criterion: str,
        parts: Sequence[Part],
        parse: Callable[[str], T | None],
        *,
        system: str | None = None,
        sampling: Sampling = SAMPLING,
    ) -> T | None:
        nonlocal answered
        fingerprint = _fingerprint(judge, _messages(parts, system), sampling)
        known = log.recall(item.id, criterion, fingerprint, parse, retry_failed)
        answered += known is not None
        return None if known is None else known[0]

    try:
        bench.judge(outputs, item, ask)
    except Exception:  # it cannot be judged, which `judge` will say
        return 0
    return max(0, bench.judge_calls(item) - answered)


def _messages(parts: Sequence[Part], system: str | None) -> list[Message]:
    return [*([Message("system", (system,))] if system else []), Message("user", tuple(parts))]


def _fingerprint(judge: str, messages: Sequence[Message], sampling: Sampling) -> str:
    digest = hashlib.sha256(f"{judge}\0{sampling}\0".encode())
    for message in messages:
        for part in message.parts:
            if isinstance(part, Image.Image):
                digest.update(f"\0{part.mode}{part.size}\0".encode() + part.tobytes())
            else:
                digest.update(b"\0text\0" + part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]
