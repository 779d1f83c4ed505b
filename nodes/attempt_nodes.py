"""The nodes that a loop places for itself. Hidden from menus; ids are stable because caches know them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import torch
from comfy_api.latest import io

from ..interleave_thinker.contract import LOOP_OPEN_OUTPUTS
from ..interleave_thinker.errors import RunError
from ..interleave_thinker.loop.trajectory import Judgment
from ..interleave_thinker.roles.critic import compare
from .agents import AgentValue
from .comfy_internals.caches import blocking_node, executor_caches, finished, hidden_execution_list
from .events import show_text, text_watcher
from .images import one_image, to_tensor
from .loop_open import loop_open_outputs
from .placing import place_next_attempt
from .running_loops import RunningLoop, running_loop, stopwatch
from .types import AGENT, DOCUMENT, JUDGMENT, expect, internal_schema, only


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
        if "image" not in values:  # else there is one already, and only output nodes beside it run
            facts = {name: values[name] for name in ("step", "attempt", "prompt", "seed")}
            facts["t_max"] = running.session.state.settings.t_max
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
        pending = running.session.pending
        if pending is not None:  # with --cache-none ComfyUI runs it again for what a loop in the judge places
            return io.NodeOutput(pending.image_key)
        seconds = stopwatch(running)
        try:
            made = one_image(image[0] if image else None, f"The picture of {running.where}")
        except ValueError:
            running.session.writer.settle()  # what is finished is told before the error
            raise
        return io.NodeOutput(running.session.image_made(made, seconds, running.loads.taken()))


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


class PassPicture(io.ComfyNode):
    """What the body made, for output nodes beside the picture: the whole batch or list, after Keep Picture has run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "PassPicture",
            is_input_list=True,
            inputs=[
                io.String.Input("token"),
                io.AnyType.Input("image"),
                io.String.Input("after", raw_link=True, tooltip="From Keep Picture."),
            ],
            outputs=[io.AnyType.Output(is_output_list=True)],
        )

    @classmethod
    def execute(cls, token: list[str], image: list[Any], after: Any) -> io.NodeOutput:
        return io.NodeOutput(image)


class KeepJudgment(io.ComfyNode):
    """Notes an attempt's judgment for Next Attempt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "KeepJudgment",
            is_input_list=True,
            inputs=[
                io.String.Input("token"),
                JUDGMENT.Input("judgment"),
                io.String.Input("after", optional=True, raw_link=True, tooltip="From Keep Picture, which runs first."),
            ],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, token: list[str], judgment: list[Judgment], after: Any = None) -> io.NodeOutput:
        running = running_loop(token[0])
        if not judgment or not isinstance(judgment[0], Judgment):
            running.session.writer.settle()  # what is finished is told before the error
        if not judgment:
            raise RunError(
                f"No judgment came for {running.where}, but an empty list. A node between Critic-Refine (or Judgment) "
                "and Loop Close lost it; connect the two directly."
            )
        running.judgment = expect(judgment[0], Judgment, f"Loop Close's 'judgment', at {running.where},")
        return io.NodeOutput("")


class NoteOutput(io.ComfyNode):
    """Records that an output node beside the picture has run or was blocked.

    It is an output node itself, because ComfyUI runs those first. If another output fails later, the record is there.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "NoteOutput",
            is_output_node=True,
            inputs=[
                io.String.Input("token"),
                io.String.Input("placed_id"),
                io.AnyType.Input("output", optional=True, raw_link=True),
                io.AnyType.Input("after", optional=True, raw_link=True, tooltip="Keep Picture, or another of these."),
            ],
            outputs=[io.String.Output()],
        )

    @classmethod
    async def execute(cls, token: str, placed_id: str, output: Any = None, after: Any = None) -> io.NodeOutput:
        while output is None and not finished([placed_id]):
            await asyncio.sleep(0.005)  # others run meanwhile; ComfyUI fails at a link to a node without outputs
        running_loop(token).note_output(placed_id)
        return io.NodeOutput("")


class NextAttempt(io.ComfyNode):
    """Takes the judgment, asks the core what comes next, and places it.

    It waits for what its raw links lead to, also where that is blocked, and gets none of the values.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "NextAttempt",
            enable_expand=True,
            hidden=hidden_execution_list(),
            is_input_list=True,
            inputs=[
                io.String.Input("token"),
                io.String.Input("kept", optional=True, raw_link=True, tooltip="From Keep Picture."),
                io.String.Input("judged", optional=True, raw_link=True, tooltip="From Keep Judgment."),
                io.AnyType.Input("after", optional=True, raw_link=True, tooltip="What is to run first."),
            ],
            outputs=[DOCUMENT.Output()],
        )

    @classmethod
    def execute(cls, token: list[str], kept: Any = None, judged: Any = None, after: Any = None) -> io.NodeOutput:
        running = running_loop(token[0])
        running.caches = executor_caches(cls.hidden.execution_list)
        if kept is not None and running.session.pending is None:
            raise _blocked(running, "picture", kept)
        if judged is not None:
            if running.judgment is None:
                raise _blocked(running, "judgment", judged)
            judgment, running.judgment = running.judgment, None
            running.session.judgment_made(judgment, stopwatch(running), running.loads.taken())
        return place_next_attempt(running)


def _blocked(running: RunningLoop, what: str, link: Any) -> RunError:
    """What to say where an ExecutionBlocker came instead. link: raw, to the node that did not run for it."""
    running.session.writer.settle()
    node_id = blocking_node(running.caches, running.dynprompt, link[0])
    source = running.body.image_link if what == "picture" else running.body.judgment_link
    last = node_id or (source or [running.body.close_id])[0]
    name, kind = running.dynprompt.get_display_node_id(last), running.dynprompt.get_node(last)["class_type"]
    or_above = "" if node_id else ", or a node before it,"
    return RunError(
        f"No {what} came for {running.where}: node {name} ({kind}){or_above} blocks it. What is finished is kept. To "
        "leave a picture out, take its prompt out of the plan; to accept without a critic, disconnect 'judgment'."
    )


class CompareAttempts(io.ComfyNode):
    """on_exhausted = best: the agent looks at all attempts of the step and names the closest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            "CompareAttempts",
            enable_expand=True,
            hidden=hidden_execution_list(),
            is_input_list=True,
            inputs=[io.String.Input("token"), AGENT.Input("agent")],
            outputs=[DOCUMENT.Output()],
        )

    @classmethod
    def execute(cls, token: list[str], agent: list[AgentValue]) -> io.NodeOutput:
        running = running_loop(token[0])
        running.caches = executor_caches(cls.hidden.execution_list)
        chosen = expect(only(agent, "Loop Close", "agent"), AgentValue, "Loop Close's 'agent'")
        session = running.session
        state = session.state
        best = compare(
            chosen.agent,
            session.image(state.reference_key) if state.reference_key else None,
            [session.image(a.image_key) for a in state.tried],
            state.plan_step.prompt or "",
            sampling=chosen.sampling,
            prompt_folders=chosen.prompt_folders,
            on_text=text_watcher(running.display_id, "Comparing", f"the attempts of step {state.step}"),
        )
        session.comparison_made(best)
        return place_next_attempt(running)
