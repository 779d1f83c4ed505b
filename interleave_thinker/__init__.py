"""Interleaved text-and-image generation around a frozen image generator (arXiv 2606.13679), without ComfyUI.

    from interleave_thinker import AttemptStore, GeneratorChoice, LoopModels, LoopSettings, RunFolder
    from interleave_thinker import agent_from, drive, make_plan, start_run

    agent = agent_from("models/VLM/planner")
    plan = make_plan(agent, "How to fold a paper boat, in four pictures").plan
    models = LoopModels(GeneratorChoice("models/diffusers/flux2-klein").load(), agent)
    session = start_run(plan, models, LoopSettings(t_max=5), AttemptStore(store), RunFolder(runs, "boat"))
    drive(session, models)
    print(to_markdown(session.document(), lambda item: item.image_key))

What `__all__` names stays; everything else may move. A name is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agents.base import Agent, Completion, Message, Sampling
    from .driver import LoopModels, drive, start_run
    from .errors import AgentError, ConfigError, GeneratorError, InterleaveError, PlanError, RunError
    from .export.markdown import to_markdown
    from .export.page import PageOptions, to_html
    from .export.pictures import page_picture
    from .generators.base import GenerationRequest, Generator
    from .loop.document import Document, compose
    from .loop.plan import Plan, PlanStep
    from .loop.state import LoopSettings, LoopState, advance, begin
    from .loop.trajectory import Attempt, Judgment, Trajectory
    from .reading.judgments import read_judgment
    from .reading.plan_text import read_plan
    from .resolve import GeneratorChoice, agent_from, scorer_from
    from .roles.critic import judge
    from .roles.planner import make_plan
    from .roles.scorer import Score, Scorer
    from .session import Session
    from .storage.attempt_store import AttemptStore
    from .storage.run_folder import RunFolder

_HOMES = {
    "agents.base": ("Agent", "Completion", "Message", "Sampling"),
    "driver": ("LoopModels", "drive", "start_run"),
    "errors": ("AgentError", "ConfigError", "GeneratorError", "InterleaveError", "PlanError", "RunError"),
    "generators.base": ("GenerationRequest", "Generator"),
    "export.markdown": ("to_markdown",),
    "export.page": ("PageOptions", "to_html"),
    "export.pictures": ("page_picture",),
    "loop.document": ("Document", "compose"),
    "loop.plan": ("Plan", "PlanStep"),
    "loop.state": ("LoopSettings", "LoopState", "advance", "begin"),
    "loop.trajectory": ("Attempt", "Judgment", "Trajectory"),
    "reading.judgments": ("read_judgment",),
    "reading.plan_text": ("read_plan",),
    "resolve": ("GeneratorChoice", "agent_from", "scorer_from"),
    "roles.critic": ("judge",),
    "roles.planner": ("make_plan",),
    "roles.scorer": ("Score", "Scorer"),
    "session": ("Session",),
    "storage.attempt_store": ("AttemptStore",),
    "storage.run_folder": ("RunFolder",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order of the list above
    "Agent",
    "Completion",
    "Message",
    "Sampling",
    "LoopModels",
    "drive",
    "start_run",
    "AgentError",
    "ConfigError",
    "GeneratorError",
    "InterleaveError",
    "PlanError",
    "RunError",
    "GenerationRequest",
    "Generator",
    "to_markdown",
    "PageOptions",
    "to_html",
    "page_picture",
    "Document",
    "compose",
    "Plan",
    "PlanStep",
    "LoopSettings",
    "LoopState",
    "advance",
    "begin",
    "Attempt",
    "Judgment",
    "Trajectory",
    "read_judgment",
    "read_plan",
    "GeneratorChoice",
    "agent_from",
    "scorer_from",
    "judge",
    "make_plan",
    "Score",
    "Scorer",
    "Session",
    "AttemptStore",
    "RunFolder",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)
