"""Planner, and plans that come from elsewhere."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..interleave_thinker.contract import MAX_STEPS, MAX_STEPS_LIMIT
from ..interleave_thinker.errors import ConfigError, InterleaveError
from ..interleave_thinker.loop.plan import Plan, short_title
from ..interleave_thinker.reading.plan_text import plan_as_typed
from ..interleave_thinker.roles.planner import make_plan
from .agents import AgentValue
from .events import check_interrupt, send_event, show_text, text_below, text_watcher, workflow_id
from .images import images_of_sockets
from .types import AGENT, PLAN, schema, seed_input, user_images

READ_AT_ONCE = 20_000
"""Characters of a typed plan that are read while a prompt is being queued."""


class _TimeBudget:
    """A number of seconds that may be used in each second."""

    def __init__(self, seconds: float):
        self.seconds, self.spent, self.since, self.begun = seconds, 0.0, 0.0, 0.0

    def left(self) -> bool:
        if time.monotonic() - self.since > 1:
            self.spent, self.since = 0.0, time.monotonic()
        return self.spent < self.seconds

    def __enter__(self) -> None:
        self.begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.spent += time.monotonic() - self.begun


_reading_time = _TimeBudget(0.05)


def _plan_outputs() -> list[io.Output]:
    return [
        PLAN.Output("PLAN", "plan", tooltip="To Loop Open."),
        io.String.Output("PLAN_JSON", "plan_json", tooltip="The plan as text; edit it and feed Plan from Text."),
        io.Int.Output("STEP_COUNT", "step_count", tooltip="How many steps the plan has."),
    ]


def _plan_result(plan: Plan, hidden: Any) -> io.NodeOutput:
    node_id = hidden.unique_id
    show_text("1 step planned" if len(plan.steps) == 1 else f"{len(plan.steps)} steps planned", node_id)
    send_event("planned", node_id, {"plan": plan.to_dict(), "workflow": workflow_id(hidden.extra_pnginfo)})
    return io.NodeOutput(plan, plan.to_json(), len(plan.steps), ui=text_below(outline(plan), hidden.extra_pnginfo))


def _why_refused(text: str, max_steps: int) -> bool | str:
    """Why a typed plan cannot run, said before anything does. ComfyUI asks in its event loop, so the time is bounded:
    a long text, or the hundredth of a prompt, is read when its node runs."""
    if len(text) > READ_AT_ONCE or not _reading_time.left():
        return True
    with _reading_time:
        return _why_unreadable(text, max_steps)


def _why_unreadable(text: str, max_steps: int) -> bool | str:
    try:
        plan_as_typed(text, max_steps)
    except InterleaveError as error:
        return str(error)
    return True


def outline(plan: Plan) -> str:
    """One line a step, to be read on the node."""
    return "\n".join(f"{s.step_number}. {s.prompt if s.prompt is not None else s.text}" for s in plan.steps)


class Planner(io.ComfyNode):
    """Writes the whole plan before any picture exists (paper, section 3.2)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Planner",
            display_name="Interleave Planner",
            description="A vision-language model turns a request into a plan: for each step an instruction, "
            "a generator prompt and a text. With pictures it continues or describes them.",
            search_aliases=["InterleaveThinker", "planner", "storyboard", "steps", "VLM", "prompt sequence"],
            has_intermediate_output=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                AGENT.Input(
                    "agent",
                    lazy=True,
                    tooltip="A Qwen3-VL, Qwen3.5 or Gemma 4; the paper's planner is a fine-tuned Qwen3-VL 8B. "
                    "Not loaded if you edited the plan.",
                ),
                io.String.Input(
                    "request",
                    multiline=True,
                    default="Show how a paper boat is folded, step by step, with a caption for each picture.",
                    tooltip="What text and pictures should tell. <image> stands where one of your pictures belongs.",
                ),
                io.Int.Input(
                    "max_steps",
                    default=MAX_STEPS,
                    min=1,
                    max=MAX_STEPS_LIMIT,
                    tooltip="A longer plan is refused, not cut.",
                ),
                seed_input("Another seed can give another plan where temperature is above 0."),
                io.Combo.Input(
                    "if_unreadable",
                    options=["error", "single step"],
                    default="error",
                    advanced=True,
                    tooltip="When two replies are no plan: stop, or use the request as the only step.",
                ),
                io.String.Input(
                    "edited_plan",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="The plan as you edited it, as JSON or one prompt a line. Empty: the agent plans.",
                ),
                user_images("Pictures the request is about. They may differ in size."),
            ],
            outputs=_plan_outputs(),
        )

    @classmethod
    def validate_inputs(
        cls, edited_plan: str | None = "", max_steps: int | None = None, images: Any = None
    ) -> bool | str:
        """An edited plan is refused before anything runs. (ComfyUI hands over growing inputs unasked.)"""
        if not (edited_plan or "").strip():
            return True
        return _why_refused(str(edited_plan), max_steps or MAX_STEPS_LIMIT)

    @classmethod
    def check_lazy_status(cls, agent: AgentValue | None = None, edited_plan: str = "", **_: Any) -> list[str]:
        return ["agent"] if agent is None and not edited_plan.strip() else []

    @classmethod
    def execute(
        cls,
        request: str,
        max_steps: int,
        seed: int,
        agent: AgentValue | None = None,
        if_unreadable: str = "error",
        edited_plan: str = "",
        images: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        if edited_plan.strip():
            plan = replace(plan_as_typed(edited_plan, max_steps, check_interrupt), request=request.strip())
            return _plan_result(plan, cls.hidden)
        if agent is None:
            raise ConfigError("The Planner has no agent. Connect one of the agent nodes, or write the plan yourself.")
        planned = make_plan(
            agent.agent,
            request,
            images_of_sockets(images),
            max_steps=max_steps,
            sampling=replace(agent.sampling, seed=seed),
            prompt_folders=agent.prompt_folders,
            single_step_fallback=if_unreadable == "single step",
            on_text=text_watcher(cls.hidden.unique_id, "Planning"),
        )
        return _plan_result(planned.plan, cls.hidden)


class PlanFromText(io.ComfyNode):
    """A plan from anyone: another model, a file, a person."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "PlanFromText",
            display_name="Interleave Plan from Text",
            description="A plan as JSON (the Planner's plan_json, edited) or as a plain list with one prompt a line.",
            search_aliases=["plan", "storyboard", "list of prompts", "numbered list", "JSON plan", "InterleaveThinker"],
            has_intermediate_output=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="1. a lighthouse on a cliff at dawn\n2. make it a stormy night\n3. let the light shine",
                    tooltip='One prompt a line, or {"execution_plan": [...]}.',
                ),
                io.Int.Input(
                    "max_steps",
                    default=MAX_STEPS_LIMIT,
                    min=1,
                    max=MAX_STEPS_LIMIT,
                    advanced=True,
                    tooltip="More steps are refused.",
                ),
                io.String.Input(
                    "title",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Title of the document; without one it has none.",
                ),
            ],
            outputs=_plan_outputs(),
        )

    @classmethod
    def validate_inputs(cls, text: str | None = None, max_steps: int = MAX_STEPS_LIMIT) -> bool | str:
        """A plan that is typed into the node is refused before anything runs."""
        return True if text is None else _why_refused(text, max_steps)

    @classmethod
    def execute(cls, text: str, max_steps: int = MAX_STEPS_LIMIT, title: str = "") -> io.NodeOutput:
        plan = plan_as_typed(text, max_steps, check_interrupt)
        # What the request gives by itself is not said twice: a plan stays as it was in earlier versions.
        titled = plan.title if short_title(title) == title else title
        return _plan_result(replace(plan, request=title or plan.request, title=titled), cls.hidden)
