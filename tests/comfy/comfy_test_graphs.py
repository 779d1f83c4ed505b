"""Workflows for the tests, in API format, from stock nodes and ours."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "workflows"))

from pages import PAGES  # noqa: E402

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


def shipped(name: str) -> Graph:
    """A shipped workflow in API format."""
    found: Graph = json.loads((REPO / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def shipped_for_editor(name: str) -> Graph:
    """A shipped workflow in the editor's format, by the name of its API file."""
    found: Graph = json.loads((REPO / "workflows" / PAGES[name].file).read_text(encoding="utf-8"))
    return found


def tiny_story() -> Graph:
    """The shipped demo workflow."""
    return shipped("tiny_story")


ONE_CLIP = ("qwen_image_2_1_story", "flux3_klein_story")
"""Shipped workflows whose generator's text encoder is the agent."""


def install_newer_nodes(base: Path) -> None:
    """Put stand-ins for the nodes that ComfyUI 0.30 lacks (newer_pack) into a server's folder."""
    pack = shutil.copytree(Path(__file__).with_name("newer_pack"), base / "custom_nodes" / "newer_pack")
    shutil.copy(REPO / "workflows" / "newer" / "nodes.json", pack)


def with_tiny_nodes(graph: Graph) -> Graph:
    """A workflow of ONE_CLIP with the stand-ins, and latents as the tiny world's: 16 channels, an eighth of the size."""
    for entry in graph.values():
        if entry["class_type"] in ("ReferenceMultiLatent", "TextEncodeQwenImage21"):
            entry["class_type"] = f"Tiny{entry['class_type']}"
    graph["26"]["inputs"]["steps"] = 2
    if "14" in graph:
        graph["14"] = node("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    return graph


def with_critic(graph: Graph, **critic: Any) -> Graph:
    """A `loop` whose attempts Critic-Refine judges, with the agent of node 9. critic: further inputs of it."""
    graph["21"] = ours(
        "CriticRefine",
        agent=["9", 0],
        after=["12", 0],
        instruction=["2", 4],
        prompt=["2", 1],
        seed=0,
        if_unreadable="retry",
        before=["2", 2],
    )
    graph["21"]["inputs"] |= critic
    del graph["20"]
    return graph
