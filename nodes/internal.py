"""The nodes that a loop places for itself. Hidden from menus; ids are stable because caches know them."""

from __future__ import annotations

import json
import time

import torch
from comfy_api.latest import io

from ..interleave_thinker.critic import compare
from ..interleave_thinker.trajectory import Judgment
from .agents import AgentValue
from .body import OPEN_OUTPUTS
from .caches import find_caches
from .events import show_text, watcher
from .images import to_pictures, to_tensor
from .live import go_on, live_loop, stopwatch
from .loop_open import outputs
from .types import AGENT, DOCUMENT, JUDGMENT, internal_schema


class StepFeed(io.ComfyNode):
    """Stands in for Loop Open in one attempt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "StepFeed",
            inputs=[
                io.String.Input("token"),
                io.String.Input("due", tooltip="The loop's values for this attempt, as JSON (`Session.values`)."),
            ],
            outputs=outputs(),
        )

    @classmethod
    def execute(cls, token: str, due: str) -> io.NodeOutput:
        live = live_loop(token)
        values = json.loads(due)
        told = {name: values[name] for name in ("step", "attempt", "prompt", "seed")}
        show_text(live.step_label(), live.display_id)
        live.session.tell("trying", **told)
        key = values["reference"]
        values["reference"] = to_tensor(live.session.image(key)) if key else None
        live.begun = time.monotonic()
        return io.NodeOutput(None, *(values[name] for name in OPEN_OUTPUTS[1:]))


class KeepPicture(io.ComfyNode):
    """Puts an attempt's picture into store and run folder; hands on its key."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "KeepPicture",
            is_input_list=True,
            inputs=[io.String.Input("token"), io.Image.Input("image")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, token: list[str], image: list[torch.Tensor]) -> io.NodeOutput:
        live = live_loop(token[0])
        seconds = stopwatch(live)
        picture = to_pictures(image[0], "The attempt's picture")[0]
        return io.NodeOutput(live.session.picture_made(picture, seconds))


class RecallPicture(io.ComfyNode):
    """An attempt's picture from the store."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "RecallPicture",
            inputs=[io.String.Input("token"), io.String.Input("key")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, token: str, key: str) -> io.NodeOutput:
        live = live_loop(token)
        stopwatch(live)
        return io.NodeOutput(to_tensor(live.session.image(key)))


class NextAttempt(io.ComfyNode):
    """Takes the judgment, asks the core what comes next, and places it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "NextAttempt",
            enable_expand=True,
            is_input_list=True,
            inputs=[
                io.String.Input("token"),
                io.String.Input("kept", tooltip="Key of the attempt's picture."),
                JUDGMENT.Input("judgment", optional=True),
            ],
            outputs=[DOCUMENT.Output()],
        )

    @classmethod
    def execute(cls, token: list[str], kept: list[str], judgment: list[Judgment] | None = None) -> io.NodeOutput:
        live = live_loop(token[0])
        live.caches = find_caches()
        if judgment:
            live.session.judged(judgment[0], stopwatch(live))
        return go_on(live)


class CompareAttempts(io.ComfyNode):
    """on_exhausted = best: the agent looks at all attempts of the step and names the closest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "CompareAttempts",
            enable_expand=True,
            inputs=[io.String.Input("token"), AGENT.Input("agent")],
            outputs=[DOCUMENT.Output()],
        )

    @classmethod
    def execute(cls, token: str, agent: AgentValue) -> io.NodeOutput:
        live = live_loop(token)
        live.caches = find_caches()
        session = live.session
        state = session.state
        best = compare(
            agent.agent,
            session.image(state.reference_key) if state.reference_key else None,
            [session.image(a.image_key) for a in state.tried],
            state.plan_step.prompt or "",
            sampling=agent.sampling,
            prompt_folders=agent.prompt_folders,
            on_text=watcher(live.display_id, f"Comparing the attempts of step {state.step}"),
        )
        session.compared(best)
        return go_on(live)
