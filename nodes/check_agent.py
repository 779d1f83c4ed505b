"""Check Agent, and what the doctor places behind a workflow's picture. `interleave_thinker/doctor/` does the work."""

from __future__ import annotations

from typing import Any, get_args

import comfy.model_management
import torch
from comfy_api.latest import io

from ..interleave_thinker.contract import CHECK_RESULT, MEASURE_PICTURE, PICTURE_RESULT, PREFIX
from ..interleave_thinker.doctor.check_agent import PICTURE_SIDE, SECONDS, Role, check_agent
from ..interleave_thinker.doctor.facts import Result, facts_of
from ..interleave_thinker.doctor.peak_memory import read_peak, reset_peak
from ..interleave_thinker.doctor.report import as_text, report_of
from .agents import AgentValue
from .events import show_text, text_below, text_watcher
from .types import AGENT, expect, internal_schema, schema

ROLES = ("planner and critic", "critic", "planner")


class CheckAgent(io.ComfyNode):
    """Asks an agent what a planner and a critic are asked, with known answers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "CheckAgent",
            display_name="Interleave Check Agent",
            description="Shows an agent a few built-in pictures with known answers: can its replies be read, does it "
            "see, how fast is it, how much memory does it take, and what to change.",
            search_aliases=["doctor", "test agent", "benchmark", "tokens per second", "VLM check", "InterleaveThinker"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                AGENT.Input(
                    "agent", tooltip="The agent to ask. Its max_tokens and max_megapixels count; temperature 0."
                ),
                io.Combo.Input("role", options=list(ROLES), default=ROLES[0], tooltip="What the agent is used for."),
                io.Int.Input(
                    "side",
                    default=PICTURE_SIDE,
                    min=64,
                    max=2048,
                    step=64,
                    tooltip="Edge in pixels of the pictures that are shown: take the size of yours.",
                ),
                io.Float.Input(
                    "seconds",
                    default=SECONDS,
                    min=1.0,
                    max=3600.0,
                    step=1.0,
                    tooltip="After this time nothing more is asked, and a reply under way is stopped.",
                ),
                io.Int.Input(
                    "questions",
                    default=0,
                    min=0,
                    max=100,
                    optional=True,
                    advanced=True,
                    tooltip="How many questions to put at most, the critic's first. 0: all.",
                ),
            ],
            outputs=[io.String.Output("REPORT", "report", tooltip="What was found, and what to change.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """NaN: ComfyUI must never reuse this result. A new object each time, because ComfyUI compares by identity."""
        return float("nan")

    @classmethod
    def execute(
        cls,
        agent: AgentValue,
        role: str = ROLES[0],
        side: int = PICTURE_SIDE,
        seconds: float = SECONDS,
        questions: int = 0,
    ) -> io.NodeOutput:
        chosen = expect(agent, AgentValue, "Check Agent's 'agent'")
        node_id, device = cls.hidden.unique_id, comfy.model_management.get_torch_device()
        roles = tuple(r for r in get_args(Role) if r in role)
        reset_peak(device)
        found = check_agent(
            chosen.agent,
            chosen.sampling,
            roles=roles,
            prompt_folders=chosen.prompt_folders,
            side=side,
            seconds=seconds,
            most=questions or None,
            on_question=lambda number, of: show_text(f"Question {number} of {of}", node_id),
            on_text=text_watcher(node_id, "Checking"),
        )
        told = {**found.to_dict(), "peak": read_peak(device)}
        reset_peak(device)
        text = _report(told, roles, device)
        show_text(text, node_id)
        return io.NodeOutput(text, ui={CHECK_RESULT: [told], **(text_below(text, cls.hidden.extra_pnginfo) or {})})


def _report(told: dict[str, Any], roles: tuple[str, ...], device: Any) -> str:
    """Of the agent alone; what to change comes first, for a node shows few lines."""
    total = comfy.model_management.get_total_memory(device)
    machine = {"versions": {}, "device": {"name": str(device), "type": device.type, "total": int(total), "free": None}}
    return as_text(
        report_of(facts_of([Result("agent", "The agent", roles, found=told)], machine=machine), "editor")[::-1]
    )


class MeasurePicture(io.ComfyNode):
    """The end of a prompt that makes one picture to be timed; keeps nothing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            MEASURE_PICTURE.removeprefix(PREFIX),
            display_name="Interleave Measure Picture",
            description="Says how large a picture is and how much memory was in use; the doctor places it.",
            is_output_node=True,
            inputs=[io.Image.Input("image", tooltip="The picture.")],
            outputs=[],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")

    @classmethod
    def execute(cls, image: torch.Tensor) -> io.NodeOutput:
        device = comfy.model_management.get_torch_device()
        count, height, width = image.shape[:3]
        told = {"width": width, "height": height, "count": count, "peak": read_peak(device)}
        reset_peak(device)
        return io.NodeOutput(ui={PICTURE_RESULT: [told]})
