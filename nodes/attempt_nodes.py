"""The nodes that a loop places for itself. Hidden from menus; ids are stable because caches know them."""

from __future__ import annotations

import json
import time

import torch
from comfy_api.latest import io

from ..interleave_thinker.contract import LOOP_OPEN_OUTPUTS
from ..interleave_thinker.loop.trajectory import Judgment
from ..interleave_thinker.roles.critic import compare
from .agents import AgentValue
from .comfy_internals.caches import executor_caches, hidden_execution_list
from .events import show_text, text_watcher
from .images import to_images, to_tensor
from .loop_open import loop_open_outputs
from .running_loops import place_next_attempt, running_loop, stopwatch
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
            outputs=loop_open_outputs(),
        )

    @classmethod
    def execute(cls, token: str, due: str) -> io.NodeOutput:
        running = running_loop(token)
        values = json.loads(due)
        facts = {name: values[name] for name in ("step", "attempt", "prompt", "seed")}
        show_text(running.step_label(), running.display_id)
        running.session.send_event("trying", **facts)
        key = values["reference"]
        values["reference"] = to_tensor(running.session.image(key)) if key else None
        running.stopwatch_start = time.monotonic()
        return io.NodeOutput(None, *(values[name] for name in LOOP_OPEN_OUTPUTS[1:]))


class KeepPicture(io.ComfyNode):
    """Puts an attempt's image into store and run folder; hands on its key."""

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
        running = running_loop(token[0])
        seconds = stopwatch(running)
        made = to_images(image[0], "The attempt's picture")[0]
        return io.NodeOutput(running.session.image_made(made, seconds))


class RecallPicture(io.ComfyNode):
    """An attempt's image from the store."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "RecallPicture",
            inputs=[io.String.Input("token"), io.String.Input("key")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, token: str, key: str) -> io.NodeOutput:
        running = running_loop(token)
        stopwatch(running)
        return io.NodeOutput(to_tensor(running.session.image(key)))


class NextAttempt(io.ComfyNode):
    """Takes the judgment, asks the core what comes next, and places it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "NextAttempt",
            enable_expand=True,
            hidden=hidden_execution_list(),
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
        running = running_loop(token[0])
        running.caches = executor_caches(cls.hidden.execution_list)
        if judgment:
            running.session.judgment_made(judgment[0], stopwatch(running))
        return place_next_attempt(running)


class CompareAttempts(io.ComfyNode):
    """on_exhausted = best: the agent looks at all attempts of the step and names the closest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "CompareAttempts",
            enable_expand=True,
            hidden=hidden_execution_list(),
            inputs=[io.String.Input("token"), AGENT.Input("agent")],
            outputs=[DOCUMENT.Output()],
        )

    @classmethod
    def execute(cls, token: str, agent: AgentValue) -> io.NodeOutput:
        running = running_loop(token)
        running.caches = executor_caches(cls.hidden.execution_list)
        session = running.session
        state = session.state
        best = compare(
            agent.agent,
            session.image(state.reference_key) if state.reference_key else None,
            [session.image(a.image_key) for a in state.tried],
            state.plan_step.prompt or "",
            sampling=agent.sampling,
            prompt_folders=agent.prompt_folders,
            on_text=text_watcher(running.display_id, f"Comparing the attempts of step {state.step}"),
        )
        session.comparison_made(best)
        return place_next_attempt(running)
