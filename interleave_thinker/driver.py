"""Run the loop outside ComfyUI: any agent and any generator, the same `Session` as in ComfyUI."""

from __future__ import annotations

import time
from collections.abc import Generator as Coroutine
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from .agents.base import Agent, Sampling
from .files import hash_of
from .generators.base import BatchGenerator, GenerationRequest, Generator
from .loop.plan import Plan
from .loop.state import LoopSettings, begin
from .roles.critic import OnUnreadable, compare, judge
from .roles.prompt_files import load_prompt
from .session import Session, Signature
from .storage.attempt_store import AttemptStore
from .storage.run_folder import RunFolder


@dataclass
class LoopModels:
    """What makes pictures and judgments for `drive`.

    agent None: no critic, the first attempt of each step goes on.
    size: of pictures made from text alone; None leaves it to the generator.
    strictness: as of `roles.critic.judge`; a judgment of another one is made anew.
    """

    generator: Generator
    agent: Agent | None = None
    sampling: Sampling | None = None
    size: tuple[int, int] | None = None
    prompt_folders: Sequence[str | None] = ()
    on_unreadable: OnUnreadable = "retry"
    strictness: float = 0.0

    @property
    def made_by(self) -> Signature:
        key = hash_of("generator", *_identity(self.generator), self.size)
        return Signature(key, frozenset({"prompt", "seed", "reference"}))

    @property
    def judged_by(self) -> Signature | None:
        if self.agent is None:
            return None
        text = load_prompt("critic", [*self.prompt_folders, self.agent.prompts])
        shift = [float(self.strictness)] if self.strictness else []  # at 0 the key is that of versions before
        key = hash_of("critic", *_identity(self.agent), str(self.sampling), text, *shift)
        return Signature(key, frozenset({"instruction", "prompt", "reference", "image"}))


def _identity(model: Generator | Agent) -> tuple[str, str]:
    """Its name, and the state of its files where it has any: weights that were written anew are another model."""
    return model.name, getattr(model, "state", "")


def start_run(
    plan: Plan,
    loop: LoopModels,
    settings: LoopSettings,
    store: AttemptStore,
    folder: RunFolder,
    images: Sequence[Image.Image] = (),
) -> Session:
    """A run of `plan` with the user's `images`, nothing done yet. The same call goes on with one that was begun."""
    given = tuple(store.put_image(i) for i in images)
    return Session(begin(plan, settings, given), store, folder, loop.made_by, loop.judged_by, title=plan.headline)


def drive(session: Session, loop: LoopModels) -> Session:
    """Carry the session to its end; returns it.

    Raises:
        GeneratorError, AgentError, RunError: as the parts raise them; everything finished is on disk,
            and the same call goes on from there.
    """
    run = _run(session, loop)
    request = next(run, None)
    while request is not None:
        begun = time.monotonic()
        image = loop.generator.generate(request)
        request = _go_on(run, image, time.monotonic() - begun)
    return session


def drive_all(sessions: Sequence[Session], loop: LoopModels, generator: BatchGenerator) -> None:
    """As `drive` for each: whatever the sessions wait for at a time is made in one batch of `generator`, the loop's.

    The same pictures but for rounding. Errors as of `drive`; one session's ends all.
    """
    runs = [_run(session, loop) for session in sessions]
    waiting = [(run, next(run, None)) for run in runs]
    while asked := [(run, request) for run, request in waiting if request is not None]:
        begun = time.monotonic()
        images = generator.generate_all([request for _, request in asked])
        seconds = (time.monotonic() - begun) / len(asked)
        waiting = [(run, _go_on(run, image, seconds)) for (run, _), image in zip(asked, images, strict=True)]


_Run = Coroutine[GenerationRequest, tuple[Image.Image, float], None]
"""A session under way: asks for a picture, and goes on when it is given it with the seconds that it took."""


def _run(session: Session, loop: LoopModels) -> _Run:
    session.start()
    while session.advance_from_store():
        if session.state.status == "compare":
            session.comparison_made(_closest(session, loop))
        elif session.pending is None:
            image, seconds = yield _request(session, loop)
            session.image_made(image, seconds)
        else:
            _judge(session, loop)


def _go_on(run: _Run, image: Image.Image, seconds: float) -> GenerationRequest | None:
    try:
        return run.send((image, seconds))
    except StopIteration:
        return None


def _reference(session: Session) -> Image.Image | None:
    key = session.state.reference_key
    return session.image(key) if key else None


def _request(session: Session, loop: LoopModels) -> GenerationRequest:
    reference = _reference(session)
    return GenerationRequest(
        session.state.prompt,
        (reference,) if reference else (),
        session.state.seed,
        reference.size if reference else loop.size,
    )


def _judge(session: Session, loop: LoopModels) -> None:
    assert loop.agent is not None and session.pending is not None
    begun = time.monotonic()
    judgment = judge(
        loop.agent,
        _reference(session),
        session.image(session.pending.image_key),
        session.state.plan_step.prompt or "",
        session.pending.prompt,
        sampling=replace(loop.sampling or Sampling(), earlier=session.replies),
        prompt_folders=loop.prompt_folders,
        on_unreadable=loop.on_unreadable,
        strictness=loop.strictness,
    )
    session.judgment_made(judgment, time.monotonic() - begun)


def _closest(session: Session, loop: LoopModels) -> int:
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
