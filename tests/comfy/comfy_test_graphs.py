"""Workflows for the tests, in API format, from stock nodes and ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]

Graph = dict[str, Any]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def ours(kind: str, **inputs: Any) -> dict[str, Any]:
    return node("InterleaveThinker" + kind, **inputs)


def plan_text(steps: int) -> str:
    return "\n".join(f"{i}. picture number {i}" for i in range(1, steps + 1))


def numbers(*values: float) -> str:
    """A plan for `loop(..., prompts_matter=True)`: each prompt is the strength of the noise."""
    return "\n".join(f"{i}. {v}" for i, v in enumerate(values, 1))


def loop(
    text: str,
    *,
    accept: str = "1",
    size: int = 32,
    seed: int = 5,
    preview: bool = False,
    run_name: str = "",
    prompts_matter: bool = False,
    **close: Any,
) -> Graph:
    """A loop around stock image nodes: noise on the reference, or on an empty picture in a first step.

    accept: a math expression of a (step) and b (attempt), both from 1; true means accepted.
    seed: another number for each test, because the attempt store of a server is shared.
    """
    graph: Graph = {
        "1": ours("PlanFromText", text=text, max_steps=100, title=""),
        "2": ours("LoopOpen", plan=["1", 0], seed=seed * 100_000),
        "10": node("EmptyImage", width=size, height=size, batch_size=1, color=0x406080),
        "11": node("ComfySwitchNode", switch=["2", 3], on_false=["10", 0], on_true=["2", 2]),
        "12": node("ImageAddNoise", image=["11", 0], seed=["2", 5], strength=0.2),
        "20": node("ComfyMathExpression", expression=accept, **{"values.a": ["2", 6], "values.b": ["2", 7]}),
        "21": ours("Judgment", accepted=["20", 2], refined_prompt="", reasoning="by rule"),
        "30": ours(
            "LoopClose",
            loop=["2", 0],
            image=["12", 0],
            judgment=["21", 0],
            t_max=3,
            on_exhausted="last",
            reference_policy="previous",
            gate="off",
            run_name=run_name,
            accept_attempts="",
        ),
        "31": ours("SaveDocument", document=["30", 0]),
    }
    graph["30"]["inputs"] |= close
    if prompts_matter:
        graph["16"] = node("ComfyMathExpression", expression=["2", 1], **{"values.a": ["2", 6]})
        graph["12"]["inputs"]["strength"] = ["16", 0]
    if preview:
        graph["13"] = node("PreviewImage", images=["12", 0])
    return graph


def tiny_story() -> Graph:
    """The shipped demo workflow."""
    found: Graph = json.loads((REPO / "workflows" / "api" / "tiny_story.json").read_text())
    return found
