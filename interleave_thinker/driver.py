"""Run the loop outside ComfyUI: any agent and any generator, the same `Session` as in ComfyUI."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from .agents.base import Agent, Sampling
from .critic import OnUnreadable, compare, judge
from .generators.base import GenerationRequest, Generator
from .loop import LoopSettings, begin
from .plan import Plan
from .prompts import load_prompt
from .runs import RunFolder
from .session import Session, Signature
from .store import AttemptStore, hash_of


@dataclass
class Loop:
    """What makes pictures and judgments for `drive`.

    agent None: no critic, the first attempt of each step goes on.
    size: of pictures made from text alone; None leaves it to the generator.
    """

    generator: Generator
    agent: Agent | None = None
    sampling: Sampling | None = None
    size: tuple[int, int] | None = None
    prompt_folders: Sequence[str | None] = ()
    on_unreadable: OnUnreadable = "retry"

    @property
    def body(self) -> Signature:
        key = hash_of("generator", *_identity(self.generator), self.size)
        return Signature(key, frozenset({"prompt", "seed", "reference"}))

    @property
    def judge(self) -> Signature | None:
        if self.agent is None:
            return None
        text = load_prompt("critic", [*self.prompt_folders, self.agent.prompts])
        key = hash_of("critic", *_identity(self.agent), str(self.sampling), text)
        return Signature(key, frozenset({"instruction", "prompt", "reference", "image"}))


def _identity(model: Generator | Agent) -> tuple[str, str]:
    """Its name, and the state of its files where it has any: weights that were written anew are another model."""
    return model.name, getattr(model, "state", "")


def carry_out(
    plan: Plan,
    loop: Loop,
    settings: LoopSettings,
    store: AttemptStore,
    folder: RunFolder,
    images: Sequence[Image.Image] = (),
) -> Session:
    """A whole run of `plan` with the user's `images`; see `drive` for errors. The same call goes on after one."""
    given = tuple(store.put_image(i) for i in images)
    session = Session(begin(plan, settings, given), store, folder, loop.body, loop.judge)
    drive(session, loop)
    return session


def drive(session: Session, loop: Loop) -> None:
    """Carry the session to its end.

    Raises:
        GeneratorError, AgentError, RunError: as the parts raise them; everything finished is on disk,
            and the same call goes on from there.
    """
    session.start()
    while session.advance_from_store():
        if session.state.status == "compare":
            session.compared(_closest(session, loop))
        elif session.pending is None:
            _make(session, loop)
        else:
            _judge(session, loop)


def _reference(session: Session) -> Image.Image | None:
    key = session.state.reference_key
    return session.image(key) if key else None


def _make(session: Session, loop: Loop) -> None:
    reference = _reference(session)
    request = GenerationRequest(
        session.state.prompt,
        (reference,) if reference else (),
        session.state.seed,
        reference.size if reference else loop.size,
    )
    begun = time.monotonic()
    image = loop.generator.generate(request)
    session.picture_made(image, time.monotonic() - begun)


def _judge(session: Session, loop: Loop) -> None:
    assert loop.agent is not None and session.pending is not None
    begun = time.monotonic()
    judgment = judge(
        loop.agent,
        _reference(session),
        session.image(session.pending.image_key),
        session.state.plan_step.prompt or "",
        session.pending.prompt,
        sampling=loop.sampling,
        prompt_folders=loop.prompt_folders,
        on_unreadable=loop.on_unreadable,
    )
    session.judged(judgment, time.monotonic() - begun)


def _closest(session: Session, loop: Loop) -> int:
    if loop.agent is None:
        return len(session.state.tried)
    images = [session.image(a.image_key) for a in session.state.tried]
    return compare(
        loop.agent,
        _reference(session),
        images,
        session.state.plan_step.prompt or "",
        sampling=loop.sampling,
        prompt_folders=loop.prompt_folders,
    )
