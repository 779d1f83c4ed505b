"""The loop as a value (paper, section 3 and algorithm 1).

`LoopState` says what is to be generated next; `advance` takes what came of it and says what then.
ComfyUI's Loop Close, the command line, data construction and the benchmarks all drive these two.
Pure: no picture, agent or file is touched here, images are named by keys.

Departures from the paper, each for a reason:
1. T_max counts generator calls of a step (the paper indexes attempts from 0 and from 1).
2. Every attempt has its own seed, so that a retry with an unchanged prompt is not the same picture.
3. The last attempt is not judged where its verdict could not change what happens next.
4. On exhaustion the paper keeps the last attempt; `best`, `first` and `stop` are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from ..contract import MAX_ATTEMPTS, T_MAX, Gate, OnExhausted, ReferencePolicy
from ..errors import ConfigError, PlanError, RunError
from .plan import Plan, PlanStep
from .trajectory import Attempt, StepResult, strict

Status = Literal["generate", "compare", "done", "stopped"]

SEED_LIMIT = 2**64


@dataclass(frozen=True)
class LoopSettings:
    """How the loop runs.

    t_max: generator calls a step may take; the paper's best is 5.
    on_exhausted: what goes on when no attempt of a step was accepted: the last (paper), the one the
        agent prefers in a comparison, the first, or nothing (the run stops).
    reference_policy: what an edit starts from: the previous chosen picture (paper), the first picture
        of the run, or the user's last picture.
    gate: where the run ends with everything saved, to be queued again after a look.
    seed: of the first attempt; attempt t of step s (both from 0) uses seed + 1000 s + t.
    judge_all: judge the last attempt too where its verdict changes nothing, as data for training.
    """

    t_max: int = T_MAX
    on_exhausted: OnExhausted = "last"
    reference_policy: ReferencePolicy = "previous"
    gate: Gate = "off"
    seed: int = 0
    judge_all: bool = False

    def __post_init__(self) -> None:
        for name in ("t_max", "seed"):
            if not isinstance(getattr(self, name), int):
                raise ConfigError(f"{name} is {getattr(self, name)!r:.60}; it must be a whole number.")
        if not 1 <= self.t_max <= MAX_ATTEMPTS:
            raise ConfigError(f"t_max is {self.t_max}; it must be between 1 and {MAX_ATTEMPTS}.")
        for name, allowed in (
            ("on_exhausted", OnExhausted),
            ("reference_policy", ReferencePolicy),
            ("gate", Gate),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r:.60}; choose one of: {', '.join(get_args(allowed))}."
                )


@dataclass(frozen=True)
class LoopState:
    """Where a run stands. `position` indexes `plan.steps`; `tried` holds the attempts of that step."""

    plan: Plan
    settings: LoopSettings
    user_images: tuple[str, ...] = ()
    position: int = 0
    prompt: str = ""
    tried: tuple[Attempt, ...] = ()
    results: tuple[StepResult, ...] = ()
    status: Status = "generate"
    reason: str = ""
    picks: Mapping[int, int] = field(default_factory=dict)

    @property
    def plan_step(self) -> PlanStep:
        return self.plan.steps[self.position]

    @property
    def step(self) -> int:
        """Position of the current step, counted from 1."""
        return self.position + 1

    @property
    def attempt(self) -> int:
        """Number of the attempt to be made next, counted from 1."""
        return len(self.tried) + 1

    @property
    def seed(self) -> int:
        return (self.settings.seed + 1000 * self.position + len(self.tried)) % SEED_LIMIT

    @property
    def reference_key(self) -> str | None:
        """The picture an attempt of this step edits, or None for a picture from text alone.

        The same for every attempt of the step: a retry never starts from a failed attempt.
        """
        made = [r.image_key for r in self.results if r.image_key]
        policy = self.settings.reference_policy
        if policy == "pinned":
            return self.user_images[-1]
        if policy == "first":
            return next(iter([*self.user_images, *made]), None)
        return made[-1] if made else (self.user_images[-1] if self.user_images else None)

    @property
    def picked(self) -> int | None:
        """The attempt of this step that a person chose, if any."""
        return self.picks.get(self.step)

    @property
    def needs_judgment(self) -> bool:
        """Whether the critic's verdict on the next attempt can change what happens."""
        if self.picked is not None:
            return self.attempt < self.picked
        settings = self.settings
        if settings.judge_all or self.attempt < settings.t_max or settings.on_exhausted == "stop":
            return True
        if settings.gate == "stop_on_reject" and any(s.prompt is not None for s in self.plan.steps[self.step :]):
            return True
        return settings.t_max > 1 and settings.on_exhausted != "last"

    @property
    def finished(self) -> bool:
        return self.status in ("done", "stopped")

    def to_dict(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_dict(),
            "settings": asdict(self.settings),
            "user_images": list(self.user_images),
            "position": self.position,
            "prompt": self.prompt,
            "tried": [a.to_dict() for a in self.tried],
            "results": [r.to_dict() for r in self.results],
            "status": self.status,
            "reason": self.reason,
            "picks": {str(k): v for k, v in self.picks.items()},
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> LoopState:
        values = dict(data)
        try:
            values["plan"] = Plan.from_dict(values["plan"])
            values["settings"] = strict(LoopSettings, values["settings"])
            values["user_images"] = tuple(values["user_images"])
            values["tried"] = tuple(Attempt.from_dict(a) for a in values["tried"])
            values["results"] = tuple(StepResult.from_dict(r) for r in values["results"])
            values["picks"] = {int(k): v for k, v in values["picks"].items()}
        except KeyError as error:
            raise RunError(f"A loop state lacks {error}.") from None
        return strict(LoopState, values)


def begin(
    plan: Plan,
    settings: LoopSettings,
    user_images: tuple[str, ...] = (),
    picks: Mapping[int, int] | None = None,
) -> LoopState:
    """The state before the first attempt; steps of text only are passed at once.

    Raises:
        PlanError: the plan is empty or too long for `t_max`.
        ConfigError: `pinned` without a user image, or a pick beyond the plan or T_max.
    """
    if not plan.steps:
        raise PlanError("The plan has no steps.")
    if plan.image_steps * settings.t_max > MAX_ATTEMPTS:
        raise PlanError(
            f"{plan.image_steps} picture steps x t_max {settings.t_max} exceed {MAX_ATTEMPTS} "
            "generator calls. Lower t_max or split the request."
        )
    if settings.reference_policy == "pinned" and not user_images:
        raise ConfigError("reference_policy 'pinned' needs a user image; connect one or choose 'previous'.")
    picks = dict(picks or {})
    for step, attempt in picks.items():
        if not (1 <= step <= len(plan.steps) and 1 <= attempt <= settings.t_max):
            raise ConfigError(
                f"accept_attempts {step}:{attempt}: the plan has {len(plan.steps)} steps, and each has at most "
                f"{settings.t_max} attempts (one, where no judgment is connected)."
            )
    return _enter(LoopState(plan, settings, tuple(user_images), picks=picks))


def advance(state: LoopState, attempt: Attempt) -> LoopState:
    """What comes after `attempt`, the outcome of what `state` asked for (paper, algorithm 1).

    Raises:
        ValueError: the attempt is not the one that the state asked for (a programming error).
    """
    if state.status != "generate" or (attempt.step, attempt.attempt) != (state.step, state.attempt):
        raise ValueError(f"attempt {attempt.step}.{attempt.attempt} was not asked for")
    tried = (*state.tried, attempt)
    if state.picked == attempt.attempt:
        attempt = replace(attempt, overridden=True)
        tried = (*state.tried, attempt)
        return _leave(replace(state, tried=tried), attempt, accepted=True)
    if attempt.accepted and state.picked is None:
        return _leave(replace(state, tried=tried), attempt, accepted=True)
    if state.picked is None and len(tried) >= state.settings.t_max:
        return _exhausted(replace(state, tried=tried))
    refined = attempt.judgment.refined_prompt if attempt.judgment else ""
    return replace(state, tried=tried, prompt=refined.strip() or attempt.prompt)


def choose(state: LoopState, attempt: int) -> LoopState:
    """Answer the state's wish for a comparison (`on_exhausted="best"`): `attempt` (from 1) goes on."""
    if state.status != "compare" or not 1 <= attempt <= len(state.tried):
        raise ValueError(f"no comparison that could choose attempt {attempt}")
    return _leave(replace(state, status="generate"), state.tried[attempt - 1], accepted=False)


def stop(state: LoopState, reason: str) -> LoopState:
    """End the run here, with everything kept; `reason` is shown to the user."""
    return replace(state, status="stopped", reason=reason)


def _exhausted(state: LoopState) -> LoopState:
    policy = state.settings.on_exhausted
    if policy == "best" and len(state.tried) > 1:
        return replace(state, status="compare")
    if policy == "stop":
        ended = _leave(state, state.tried[-1], accepted=False, enter_next=False)
        return stop(ended, f"Step {state.step}: no attempt of {len(state.tried)} was accepted.")
    return _leave(state, state.tried[0 if policy == "first" else -1], accepted=False)


def _leave(state: LoopState, chosen: Attempt, *, accepted: bool, enter_next: bool = True) -> LoopState:
    result = StepResult(
        state.step,
        chosen.attempt,
        chosen.image_key,
        accepted,
        exhausted=not accepted and len(state.tried) >= state.settings.t_max,
    )
    moved = replace(state, position=state.position + 1, tried=(), results=(*state.results, result))
    return _enter(moved) if enter_next else moved


def _enter(state: LoopState) -> LoopState:
    """Go to the next step that makes a picture; steps of text only are complete as they are."""
    while state.position < len(state.plan.steps):
        step = state.plan_step
        if step.prompt is not None:
            return replace(state, prompt=step.prompt)
        done = StepResult(state.step)
        state = replace(state, position=state.position + 1, results=(*state.results, done))
    return replace(state, status="done", prompt="")
