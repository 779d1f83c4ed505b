"""One run under way: the loop's state, the attempt store and the run folder, kept in step.

ComfyUI's Loop Close and the plain driver (`driver.py`) both work through this: they ask what is
needed next, make it by their own means, and report what came of it. Everything found in the store or the run
folder is taken from there. In ComfyUI a background thread writes what is new; an event is sent only after its files are
written. A picture that is recalled is in the run folder before the loop goes on, and one that was made stays in memory
until it is: the store may drop it any time.
Knows nothing of how pictures or judgments are made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from .contract import Event
from .errors import RunError
from .files import hash_of
from .loop.document import Document, compose
from .loop.state import LoopState, advance, choose, stop
from .loop.trajectory import Attempt, Judgment, Trajectory
from .storage.attempt_store import AttemptStore
from .storage.images import image_bytes, packed, read_image
from .storage.run_folder import RunFolder, image_name, image_of_run, input_file
from .storage.write_behind import SyncQueue, WriteNow, Writer

Notify = Callable[[Event, Mapping[str, Any]], None]
"""Called with the event and its facts."""


@dataclass(frozen=True)
class Signature:
    """What makes a picture or a judgment, apart from the loop's own values.

    key: hash of body, models and settings. uses: which of the loop's values flow into it, of
    "prompt", "reference", "instruction", "seed", "step", "attempt", "image".
    """

    key: str
    uses: frozenset[str]

    def of(self, values: Mapping[str, Any]) -> str:
        return hash_of(self.key, {name: values.get(name) for name in sorted(self.uses)})

    def in_run(self, token: str) -> Signature:
        """The same in one run only, where what makes it is never the same twice. token: of the run."""
        return Signature(hash_of(self.key, "in run", token), self.uses) if token else self


@dataclass(frozen=True)
class Recalled:
    """An attempt whose image was taken from the store. values: the loop's for it, with the key of its "image"."""

    values: Mapping[str, Any]
    is_judged: bool


@dataclass
class Session:
    """made_by, judged_by: what makes attempts and judgments. judged_by None: no critic is connected."""

    state: LoopState
    store: AttemptStore
    folder: RunFolder
    made_by: Signature
    judged_by: Signature | None
    title: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Who runs it, for whoever finds the folder: in ComfyUI the Loop Close's id and the workflow's."""
    notify: Notify | None = None
    writer: Writer = field(default_factory=WriteNow)
    """Where what is to be written and told goes, in order."""
    attempts: list[Attempt] = field(default_factory=list)
    pending: Attempt | None = None
    recalled: list[Recalled] = field(default_factory=list)
    """Recalled attempts, in order. Whoever runs the outputs beside them takes them out."""
    _seen: set[tuple[str, str]] = field(default_factory=set)
    """(identity, prompt) of each attempt that the user was shown. If the body ignores its prompt, two prompts have one
    identity."""
    _is_new: bool = False
    warnings: list[str] = field(default_factory=list)
    _coming: set[str] = field(default_factory=set)
    """Keys of records that were put to be written."""
    _to_disk: SyncQueue = field(default_factory=SyncQueue)
    _at_hand: dict[str, Image.Image] = field(default_factory=dict)
    """Pictures that were made and are not in the run folder yet, by key."""

    def start(self) -> None:
        """Write the plan down and say it. What the folder already holds counts as seen by the user."""
        self._seen = {(a.identity, a.prompt) for folder in self.folder.line for a in folder.known.values()}
        self.write()
        self._keep_inputs()
        parent = self.folder.about.get("parent", "")
        titled = {"title": self.title} if self.title else {}
        self.send_event("plan", plan=self.state.plan.to_dict(), run=self.folder.name, parent=parent, **titled)
        if self.state.finished:
            self.send_event("done", status=self.state.status, reason=self.state.reason)

    @property
    def values(self) -> dict[str, Any]:
        """The loop's values for the attempt that is due, as signatures see them."""
        state = self.state
        return {
            "prompt": state.prompt,
            "reference": state.reference_key,
            "has_reference": state.reference_key is not None,
            "instruction": state.plan_step.prompt,
            "seed": state.seed,
            "step": state.step,
            "attempt": state.attempt,
        }

    @property
    def needs_judgment(self) -> bool:
        return self.judged_by is not None and self.state.needs_judgment

    def advance_from_store(self) -> bool:
        """Go on as far as the store reaches. Returns whether something is left to be made.

        After it, `pending` is None where a picture is needed, or holds the attempt to be judged.
        """
        while not self.state.finished:
            if self.state.status == "compare":
                best = self._known_comparison()
                if best is None or not 1 <= best <= len(self.state.tried):
                    return True
                self.comparison_made(best, recalled=True)
                continue
            if self.pending is None:
                found = self._known_attempt()
                if found is None:
                    return True
                self.recalled.append(Recalled({**self.values, "image": found[0]}, self.needs_judgment))
                self._attempted(found[0], found[1], recalled=True)
            if self.needs_judgment:
                known = self._known_judgment()
                if known is None:
                    return True
                self.judgment_made(known[0], known[1], recalled=True)
            elif (overruled := self._overruled()) is not None:
                self.judgment_made(overruled[0], overruled[1], recalled=True)
            else:
                self._finish_attempt()
        return False

    def _known_attempt(self) -> tuple[str, float] | None:
        """(image key, seconds) of the attempt that is due, if store or folder hold it; its picture is in the folder."""
        key = self._written(self.made_by.of(self.values))
        found = self.store.get_attempt(key)
        if found is not None and self._recalled(found[0], self.store.image_file(found[0])):
            return found
        for folder in self.folder.line:
            for attempt in folder.attempts_by(key=key):
                if attempt.file and self._recalled(attempt.image_key, folder.image_file(attempt)):
                    return attempt.image_key, attempt.seconds
        return None

    def _recalled(self, image_key: str, source: Path | None) -> bool:
        """Put the picture of the attempt that is due into the folder; False if `source` is not that picture."""
        name = image_name(self.state.step, self.state.attempt, image_key)
        data = image_bytes(source, image_key) if source is not None else None
        if self.folder.has(name, image_key, data):
            return True
        if data is None:
            return False
        path = self.folder.keep_png(name, image_key, data)
        self.writer.put(lambda: self._sync(path))
        return True

    def _known_judgment(self) -> tuple[Judgment, float] | None:
        key = self._written(self._judgment_key())
        found = self.store.get_judgment(key)
        if found is not None:
            return found
        for folder in self.folder.line:
            for attempt in folder.attempts_by(judgment_key=key):
                if attempt.judgment is not None and attempt.judgment.parsed:
                    known = attempt.judgment, attempt.judge_seconds
                    self.writer.put(partial(self.give_back, partial(self.store.put_judgment, key, *known)))
                    return known
        return None

    def _overruled(self) -> tuple[Judgment, float] | None:
        """What the critic said of an attempt that a person accepts: its reasons stay with it. It is not asked anew."""
        picked = self.judged_by is not None and self.state.picked == self.state.attempt
        return self._known_judgment() if picked else None

    def _known_comparison(self) -> int | None:
        key = self._written(self._comparison_key())
        found = self.store.get_comparison(key)
        if found is None:
            found = next(filter(None, (f.comparison(key) for f in self.folder.line)), None)
            if found is not None:
                self.writer.put(partial(self.give_back, partial(self.store.put_comparison, key, found)))
        return found

    def image_made(self, image: Image.Image, seconds: float, loads: tuple[str, ...] | None = None) -> str:
        """Report the picture of the attempt that is due; returns its key. loads: the models loaded for it.

        Raises:
            RunError: this or an earlier one could not be written.
        """
        self.writer.check()
        key = self.store.expect(image)
        self._at_hand[key] = self.store.at_hand(key) or image
        self._attempted(key, seconds, loads, recalled=False)
        return key

    def _attempted(
        self, image_key: str, seconds: float, loads: tuple[str, ...] | None = None, *, recalled: bool
    ) -> None:
        state = self.state
        key = self.made_by.of(self.values)
        attempt = Attempt(
            state.step,
            state.attempt,
            state.prompt,
            state.seed,
            state.reference_key,
            image_key,
            seconds=seconds,
            recalled=recalled,
            loads=loads,
            key=key,
            file=image_name(state.step, state.attempt, image_key),
        )
        self._coming.add(key)
        self.writer.put(lambda: self._keep(attempt))
        self.pending = attempt
        self.send_event("attempt", **self._facts(attempt))

    def _keep(self, attempt: Attempt) -> None:
        key = attempt.image_key
        path = self.folder.path / attempt.file
        if attempt.recalled:
            if self.store.get_attempt(attempt.key) is None:
                self.give_back(partial(self.store.take, key, path))
                self.give_back(partial(self.store.put_attempt, attempt.key, key, attempt.seconds))
            return
        self.store.put_expected(key)
        self.store.put_attempt(attempt.key, key, attempt.seconds)
        stored = self.store.image_file(key)
        data = image_bytes(stored, key) if stored is not None else None
        made = self._at_hand.get(key)
        if data is None and made is not None:
            data = packed(made)  # the store dropped it at once
        if data is not None:
            self.folder.keep_png(attempt.file, key, data)
        elif not self.folder.has(attempt.file, key):
            self._keep_again(attempt)
        self._at_hand.pop(key, None)
        self._sync(*filter(None, (stored, path)))

    def _keep_again(self, attempt: Attempt) -> None:
        """Copy a picture that another attempt of the run made too."""
        source = self._find(attempt.image_key)
        if source is None:
            raise RunError(f"Picture {attempt.image_key} was deleted while it was written. Queue again.")
        self.folder.keep_image(attempt.step, attempt.attempt, attempt.image_key, source)

    @staticmethod
    def give_back(put: Callable[[], None]) -> None:
        """Put into the store what it lost. The folder has it, so the run goes on where the store cannot be written."""
        with contextlib.suppress(RunError):
            put()

    def _keep_inputs(self) -> None:
        """Copy the user's pictures into the folder: nobody can make them again."""
        for key in dict.fromkeys(self.state.user_images):
            path = input_file(self.folder.path, key)
            name = path.relative_to(self.folder.path).as_posix()
            stored = self.store.image_file(key)
            source = stored or self._find(key)
            data = image_bytes(source, key) if source is not None else None
            if data is None and (image := self.store.at_hand(key)) is not None:
                data = packed(image)
            if data is not None:
                self._sync(*filter(None, (stored, self.folder.keep_png(name, key, data))))

    def _find(self, image_key: str) -> Path | None:
        """The file of a picture in the run folder or in one that it branched from."""
        return next(filter(None, (f.find(image_key) for f in self.folder.line)), None)

    @property
    def replies(self) -> tuple[str, ...]:
        """What the critic wrote about this run's attempts, the newest first."""
        judged = (attempt.judgment for attempt in reversed(self.attempts))
        return tuple(judgment.raw for judgment in judged if judgment is not None and judgment.raw)

    def judgment_made(
        self, judgment: Judgment, seconds: float, loads: tuple[str, ...] | None = None, *, recalled: bool = False
    ) -> None:
        """Report the critic's judgment of the pending attempt. loads: the models loaded for it."""
        assert self.pending is not None, "no attempt waits for a judgment"
        self.writer.check()
        judgment = judgment.bounded
        key = self._judgment_key()
        if not recalled:
            self._coming.add(key)
            self.writer.put(lambda: self.store.put_judgment(key, judgment, seconds))
        if loads is not None:
            loads = (self.pending.loads or ()) + loads
        self.pending = replace(
            self.pending,
            judgment=judgment,
            judge_seconds=seconds,
            judgment_key=key,
            loads=self.pending.loads if loads is None else loads,
        )
        cost = 0.0 if recalled else round(seconds, 3)
        self.send_event("judgment", judgment=judgment.to_dict(), judge_seconds=cost, **self._facts(self.pending))
        self._finish_attempt()

    def comparison_made(self, best: int, *, recalled: bool = False) -> None:
        """Report which rejected attempt of the step comes closest (`on_exhausted="best"`)."""
        before = self.state
        self.state = choose(before, best)
        key = self._comparison_key(before)
        if not recalled:
            self._coming.add(key)
            self.writer.put(lambda: self.store.put_comparison(key, best))
        self.writer.put(lambda: self.folder.record_comparison(key, best))
        self._after_move(before)

    def document(self) -> Document:
        return compose(self.trajectory(), run=self.folder.name, title=self.title, reason=self.state.reason)

    def trajectory(self) -> Trajectory:
        status = self.state.status if self.state.finished else "running"
        return Trajectory(self.state.plan, tuple(self.attempts), self.state.results, status)

    def image(self, key: str) -> Image.Image:
        """A picture of this run: from the store, or from a run folder if the store dropped it.

        Raises:
            RunError: none has it.
        """
        found = self.store.get_image(key)
        if found is not None:
            return found
        made = self._at_hand.get(key)
        if made is not None:
            return made.copy()
        own = [a for a in (*self.attempts, self.pending) if a is not None]
        found = image_of_run(self.folder.path, own, key)
        if found is not None:
            return found
        path = self._find(key)
        found = read_image(path, key) if path is not None else None
        if found is not None:
            return found
        raise RunError(f"Picture {key} of run {self.folder.name!r} is gone from store and run folder.")

    def write(self) -> None:
        """Bring run.json up to date."""
        self.folder.write_state(
            {
                "title": self.title,
                "origin": dict(self.origin),
                "state": self.state.to_dict(),
                "trajectory": self.trajectory().to_dict(),
            }
        )

    def _sync(self, *files: Path) -> None:
        for file in files:
            self._to_disk.put(file)

    def _judgment_key(self) -> str:
        assert self.judged_by is not None and self.pending is not None
        return self.judged_by.of({**self.values, "image": self.pending.image_key})

    def _comparison_key(self, state: LoopState | None = None) -> str:
        state = state or self.state
        judge = self.judged_by.key if self.judged_by else ""
        tried = [a.image_key for a in state.tried]
        return hash_of("compare, then beside the last", judge, state.plan_step.prompt, state.reference_key, tried)

    def _finish_attempt(self) -> None:
        attempt = self.pending
        assert attempt is not None
        if self.judged_by is None:
            attempt = replace(attempt, judgment=Judgment(True, attempt.prompt, "no critic is connected"))
        if self.state.picked == attempt.attempt:
            attempt = replace(attempt, overridden=True)
        self.writer.put(lambda: self._record(attempt))
        self.attempts.append(attempt)
        self.pending = None
        before = self.state
        self.state = advance(before, attempt)
        shown = (attempt.identity, attempt.prompt)
        self._is_new = shown not in self._seen
        self._seen.add(shown)
        self._after_move(before)

    def _record(self, attempt: Attempt) -> None:
        if self.folder.record(attempt):
            self._sync(self.folder.trajectory_file)

    def _mend(self) -> None:
        """Copy the pictures back that somebody deleted from the folder during the run, as far as the store has them."""
        missing = [a for a in self.attempts if not self.folder.image_file(a).exists()]
        for attempt in missing:
            source = self.store.image_file(attempt.image_key) or self._find(attempt.image_key)
            if source is not None:
                kept = self.folder.keep_image(attempt.step, attempt.attempt, attempt.image_key, source)
                self._sync(self.folder.path / kept)
        if missing:
            self._keep_inputs()

    def _after_move(self, before: LoopState) -> None:
        for result in self.state.results[len(before.results) :]:
            self.send_event("chosen", **result.to_dict())
        reason = self._gated(before)
        if reason:
            self.state = stop(self.state, reason)
        if self.state.finished:
            self.writer.put(self._mend)
            self.writer.settle()
            self.write()
            self._to_disk.settle()
            done = self.trajectory()
            sums = {"loads": done.loads, "verdicts": done.verdicts}
            facts = {name: value and asdict(value) for name, value in sums.items()}
            self.send_event("done", status=self.state.status, reason=self.state.reason, **facts)
            self.writer.settle()
            self.folder.release()

    def _gated(self, before: LoopState) -> str:
        """Why the run ends here because the user asked to look; only at work that this execution did."""
        if self.state.finished or not self._is_new:
            return ""
        gate, attempt = self.state.settings.gate, self.attempts[-1]
        ended = len(self.state.results) > len(before.results)
        if gate == "stop_after_step" and ended:
            why = "because gate is set to stop after each step"
            return f"Stopped after step {attempt.step}, {why}. Queue again to go on."
        if gate == "stop_on_reject" and not attempt.accepted and attempt.judgment is not None:
            why = "because gate is set to stop at each rejection"
            return (
                f"Stopped at the rejected attempt {attempt.attempt} of step {attempt.step}, {why}. "
                f"Queue again to {'go on' if ended else 'retry'}, or accept an attempt first."
            )
        return ""

    def _facts(self, attempt: Attempt) -> dict[str, Any]:
        return {
            "step": attempt.step,
            "steps": len(self.state.plan.steps),
            "attempt": attempt.attempt,
            "t_max": self.state.settings.t_max,
            "prompt": attempt.prompt,
            "seed": attempt.seed,
            "file": f"{self.folder.name}/{attempt.file}",
            "seconds": round(attempt.seconds, 3),
            "recalled": attempt.recalled,
            "loads": None if attempt.loads is None else list(attempt.loads),
            "reference": attempt.reference_key or "",
            "overridden": self.state.picked == attempt.attempt,
        }

    def warn(self, text: str) -> None:
        """Tell the user, once a run, of something that does not end it."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.send_event("warning", text=text, run=self.folder.name)

    def send_event(self, event: Event, **facts: Any) -> None:
        """Notify of an event, after all that came before it was written."""
        notify = self.notify
        if notify is not None:
            self.writer.put(lambda: notify(event, facts))

    def _written(self, key: str) -> str:
        """The key of a record that is looked for; waits if this run has just made it."""
        if key in self._coming:
            self.writer.settle()
        return key
