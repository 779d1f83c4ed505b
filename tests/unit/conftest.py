"""A small studio for the loop's tests: a real store and run folder, a painter of one-coloured pictures and a
scripted critic, driven by the same `drive` as everywhere."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image

from interleave_thinker.agents.base import Message
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.driver import LoopModels, drive
from interleave_thinker.files import hash_of
from interleave_thinker.generators.base import GenerationRequest
from interleave_thinker.loop.document import Document
from interleave_thinker.loop.plan import Plan
from interleave_thinker.loop.state import LoopSettings, begin
from interleave_thinker.session import Session
from interleave_thinker.storage.attempt_store import AttemptStore
from interleave_thinker.storage.images import image_key
from interleave_thinker.storage.run_folder import RunFolder
from interleave_thinker.storage.write_behind import WriteNow, Writer, wait_for_writes

sys.path.insert(0, str(Path(__file__).parent))

from chat_server import Server, serving

settings.register_profile("unit", deadline=None)  # a busy machine is no fault
settings.load_profile("unit")


@dataclass
class Painter:
    """A Generator whose picture follows from the request alone. `fails_at`: the call that raises `error`."""

    name: str = "painter"
    fails_at: int = 0
    error: BaseException = field(default_factory=lambda: KeyboardInterrupt("killed"))
    requests: list[GenerationRequest] = field(default_factory=list)

    def generate(self, request: GenerationRequest) -> Image.Image:
        if len(self.requests) + 1 == self.fails_at:
            raise self.error
        self.requests.append(request)
        seen = hash_of(request.prompt, request.seed, [image_key(i) for i in request.references])
        return Image.new("RGB", request.size or (16, 12), tuple(hashlib.sha256(seen.encode()).digest()[:3]))


@dataclass
class Run:
    """One execution: what was asked of whom, and what came out."""

    session: Session
    painter: Painter
    critic: ScriptedAgent
    events: list[tuple[str, Mapping[str, Any]]]

    @property
    def document(self) -> Document:
        return self.session.document()

    @property
    def prompts(self) -> list[str]:
        return [r.prompt for r in self.painter.requests]

    @property
    def seeds(self) -> list[int]:
        return [r.seed for r in self.painter.requests]

    @property
    def judged(self) -> list[tuple[Image.Image, Image.Image]]:
        """(before, after) of each call of the critic."""
        return [(c[-1].images[0], c[-1].images[1]) for c in self.critic.calls]


Replies = Sequence[str | Callable[[Sequence[Message]], str]]


@dataclass
class Studio:
    root: Path
    limit: int = 10**9
    line: Callable[[], Writer] = WriteNow

    @property
    def store(self) -> AttemptStore:
        """As a new process would open it."""
        return AttemptStore(self.root / "store", self.limit)

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def keep(self, *colours: str) -> tuple[str, ...]:
        """User pictures, by store key."""
        return tuple(self.store.put_image(Image.new("RGB", (20, 10), c)) for c in colours)

    def run(
        self,
        plan: Plan,
        replies: Replies | None = (),
        *,
        user_images: tuple[str, ...] = (),
        picks: Mapping[int, int] | None = None,
        painter: Painter | None = None,
        name: str = "run",
        **settings: Any,
    ) -> Run:
        """Drive a plan to its end. `replies` of the critic: () accepts everything, None is no critic."""
        run = self.prepare(plan, replies, user_images=user_images, picks=picks, painter=painter, name=name, **settings)
        drive(run.session, self.loop(run, replies is not None))
        return run

    def prepare(
        self,
        plan: Plan,
        replies: Replies | None = (),
        *,
        user_images: tuple[str, ...] = (),
        picks: Mapping[int, int] | None = None,
        painter: Painter | None = None,
        name: str = "run",
        **settings: Any,
    ) -> Run:
        wait_for_writes()
        run = Run(None, painter or Painter(), ScriptedAgent(list(replies or ()) or [self.yes()]), [])  # type: ignore[arg-type]
        loop = self.loop(run, replies is not None)
        run.session = Session(
            begin(plan, LoopSettings(**settings), user_images, picks),
            self.store,
            RunFolder(self.runs, name),
            loop.made_by,
            loop.judged_by,
            notify=lambda event, facts: run.events.append((event, facts)),
            writer=self.line(),
        )
        return run

    @staticmethod
    def loop(run: Run, critic: bool = True) -> LoopModels:
        return LoopModels(run.painter, run.critic if critic else None)

    @staticmethod
    def yes() -> str:
        return '<think>good</think><answer>{"previous_step_success": true, "refine_prompt": "as it is"}</answer>'

    @staticmethod
    def no(refined: str | None = "try again") -> str:
        answer = json.dumps({"previous_step_success": False, "refine_prompt": refined})
        return f"<think>bad</think><answer>{answer}</answer>"


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@pytest.fixture
def painter() -> type[Painter]:
    return Painter


@pytest.fixture
def server() -> Iterator[Server]:
    """A chat server that answers as the test says."""
    with serving() as state:
        yield state
