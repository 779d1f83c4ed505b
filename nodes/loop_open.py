"""Loop Open: where a plan enters the user's graph, and what each attempt is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..interleave_thinker.contract import NODE_IDS
from ..interleave_thinker.errors import ConfigError
from ..interleave_thinker.loop.plan import Plan
from .checks import why_not_run
from .comfy_internals.caches import displayed_node
from .comfy_internals.server import prompt_and_targets
from .folders import attempt_store
from .images import images_of_sockets
from .running_loops import running_prompt_id
from .types import LOOP, PLAN, expect, schema, seed_input, user_images
from .users import current_user


@dataclass(frozen=True)
class LoopContext:
    """What Loop Open hands to Loop Close. `user_images` are keys of the attempt store.

    open_id: of the Loop Open, because reroutes and switches may stand between the two.
    """

    plan: Plan
    seed: int
    user_images: tuple[str, ...]
    open_id: str


def loop_open_outputs() -> list[io.Output]:
    """The sockets of Loop Open, in the order of `contract.LOOP_OPEN_OUTPUTS`."""
    return [
        LOOP.Output("LOOP", "loop", tooltip="To Loop Close."),
        io.String.Output("PROMPT", "prompt", tooltip="What the generator is to make or change this time."),
        io.Image.Output(
            "REFERENCE",
            "reference",
            tooltip="The picture to edit, as reference_policy of Loop Close says. Nothing in a first step from text.",
        ),
        io.Boolean.Output(
            "HAS_REFERENCE",
            "has_reference",
            tooltip="Whether there is a picture to edit. Drives a Switch between text-to-image and edit.",
        ),
        io.String.Output(
            "INSTRUCTION", "instruction", tooltip="What the plan wants of this step, as planned: to Critic-Refine."
        ),
        io.Int.Output("SEED", "seed", tooltip="A new one for each attempt: to the sampler."),
        io.Int.Output("STEP", "step", tooltip="Number of the step, from 1."),
        io.Int.Output("ATTEMPT", "attempt", tooltip="Number of the attempt in its step, from 1."),
    ]


class LoopOpen(io.ComfyNode):
    """Never runs the body itself: Loop Close places a copy of it for every attempt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoopOpen",
            display_name="Interleave Loop Open",
            description="Start of the loop: gives each attempt its prompt, reference picture and seed.",
            search_aliases=["interleave", "loop start", "for each step", "retry loop", "storyboard", "while"],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # the id is part of what it gives, so it is not the same at another id
            inputs=[
                PLAN.Input("plan", tooltip="From Planner or Plan from Text."),
                seed_input("Seed of the run. Attempt t of step s uses seed + 1000 (s - 1) + (t - 1)."),
                user_images("Your own pictures, the same as for the Planner. The last one is edited first."),
            ],
            outputs=loop_open_outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> str:
        """The user's pictures lie in the user's own store. A loop that nothing runs any more is to say so."""
        return current_user() + (cls._why_not_run() if cls.hidden is not None else "")

    @classmethod
    def _why_not_run(cls) -> str:
        """Of a copy that another loop placed: why the user's own would not."""
        node_id = displayed_node(str(cls.hidden.unique_id))
        prompt, targets = prompt_and_targets(running_prompt_id()) or ({}, frozenset())
        is_users = prompt.get(node_id, {}).get("class_type") == NODE_IDS.loop_open
        return why_not_run(prompt, node_id, targets) if is_users else ""

    @classmethod
    def execute(cls, plan: Plan, seed: int, images: dict[str, Any] | None = None) -> io.NodeOutput:
        plan = expect(plan, Plan, "Loop Open's 'plan'")
        if reason := cls._why_not_run():
            raise ConfigError(reason)
        keys = tuple(attempt_store().put_image(p) for p in images_of_sockets(images))
        blocked = ExecutionBlocker(None)
        context = LoopContext(plan, seed, keys, str(cls.hidden.unique_id))
        return io.NodeOutput(context, *[blocked] * (len(loop_open_outputs()) - 1))
