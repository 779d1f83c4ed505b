"""Put a loop around a working workflow (API format), and take it off again.

The user's nodes stay as they are, except for the inputs that the loop feeds: every place of the prompt, every
sampler's seed, and every input that read the reference picture. The prompt's text becomes the Planner's request.
Everything else is added beside them. `unwrap(wrap(w))` equals `w`. Which node is what: `find_inputs.py`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..contract import (
    MAX_MEGAPIXELS,
    MAX_SEED,
    MAX_STEPS,
    MAX_TOKENS,
    NODE_IDS,
    PACKAGED_CLIP,
    PREFIX,
    T_MAX,
    TEMPERATURE,
    loop_open_output,
)
from .agent_clip import ADDED_TYPE
from .client import WorkflowError
from .find_inputs import WorkflowInputs
from .links import body_of, image_link, is_link

PROMPT, REFERENCE, INSTRUCTION, SEED = map(loop_open_output, ("prompt", "reference", "instruction", "seed"))

Workflow = dict[str, Any]


@dataclass(frozen=True)
class AgentChoice:
    """How an agent is loaded. kind: "clip" (a file in text_encoders), "node" (the id of a Load CLIP that the workflow
    has), "folder" (in models/VLM), "server" (endpoint).
    """

    kind: str = "clip"
    name: str = PACKAGED_CLIP

    @staticmethod
    def read(text: str) -> AgentChoice:
        """`clip:FILE`, `node:ID`, `folder:NAME` or `server:NAME`.

        Raises:
            WorkflowError: it is none of these.
        """
        kind, _, name = text.partition(":")
        if kind not in ("clip", "node", "folder", "server") or not name:
            raise WorkflowError(f"{text!r} names no agent; write clip:FILE, node:ID, folder:NAME or server:NAME.")
        return AgentChoice(kind, name)

    def nodes(self, prefix: str) -> tuple[Workflow, list[Any]]:
        """The nodes that load it, and the link to the agent."""
        common = {"max_tokens": MAX_TOKENS, "temperature": TEMPERATURE, "max_megapixels": MAX_MEGAPIXELS, "prompts": ""}
        agent = f"{prefix}agent"
        if self.kind == "node":
            return {agent: _node(NODE_IDS.agent_from_clip, {"clip": [self.name, 0], **common})}, [agent, 0]
        if self.kind == "clip":
            loader = {"clip_name": self.name, "type": ADDED_TYPE, "device": "default"}
            return {
                f"{prefix}clip": _node("CLIPLoader", loader),
                agent: _node(NODE_IDS.agent_from_clip, {"clip": [f"{prefix}clip", 0], **common}),
            }, [agent, 0]
        if self.kind == "folder":
            inputs = {"model": self.name, "adapter": "none", "dtype": "auto", **common}
            return {agent: _node(NODE_IDS.load_agent, inputs)}, [agent, 0]
        return {agent: _node(NODE_IDS.agent_from_server, {"endpoint": self.name, **common})}, [agent, 0]


def wrap(
    workflow: Mapping[str, Any],
    found: WorkflowInputs,
    *,
    planner: AgentChoice = AgentChoice(),
    critic: AgentChoice | None = None,
    t_max: int = T_MAX,
) -> Workflow:
    """A copy with the loop around it. Without `found.image` every step is drawn from text alone.

    Words and seeds that the loop cannot give back by itself, such as a seed of -1, are kept beside their node's title.

    Raises:
        WorkflowError: there is a loop in it already, the prompt is no text, the output node shows no picture, or a node
            that an agent names does not exist.
    """
    refuse_a_loop(workflow)
    for agent in filter(None, (planner, critic)):
        if agent.kind == "node" and agent.name not in workflow:
            raise WorkflowError(f"The workflow has no node {agent.name} that could load the agent.")
    wrapped: Workflow = copy.deepcopy(dict(workflow))
    prefix = "interleave_"
    while any(i.startswith(prefix) for i in wrapped):
        prefix += "_"
    request = wrapped[found.prompt[0]]["inputs"][found.prompt[1]]
    if not isinstance(request, str) and not is_link(request):
        raise WorkflowError(f"{'.'.join(found.prompt)} is {json.dumps(request)}, which is no text. Name the prompt.")
    seed = (loop_seed(wrapped[found.seed[0]]["inputs"][found.seed[1]]) if found.seed else None) or 0
    source = _source(wrapped, found.output)
    open_id, close_id = f"{prefix}open", f"{prefix}close"
    for ref in (found.prompt, *found.also):
        if wrapped[ref[0]]["inputs"][ref[1]] != request:
            _remember(wrapped[ref[0]], ref[1])
        _set(wrapped, ref, [open_id, PROMPT])
    for ref in (found.seed, *found.seeds) if found.seed else ():
        typed = wrapped[ref[0]]["inputs"][ref[1]]
        if type(typed) is not int or typed != seed:
            _remember(wrapped[ref[0]], ref[1])
        _set(wrapped, ref, [open_id, SEED])
    images: dict[str, Any] = {}
    if found.image:
        picture = [found.image[0], found.image_slot]
        images = {"images.image_0": picture}
        for node_id in body_of(workflow, found.output):
            for name, value in workflow[node_id]["inputs"].items():
                if is_link(value) and [str(value[0]), value[1]] == picture:
                    if value != picture:  # an id that is a number
                        _remember(wrapped[node_id], name)
                    _set(wrapped, (node_id, name), [open_id, REFERENCE])
    agents, planner_link = planner.nodes(f"{prefix}planner_" if critic else prefix)
    critic_link = planner_link
    if critic is not None:
        more, critic_link = critic.nodes(f"{prefix}critic_")
        agents |= more
    planning = {
        "agent": planner_link,
        "request": request,
        "max_steps": MAX_STEPS,
        "seed": seed,
        "if_unreadable": "error",
    }
    # Optional inputs of later versions stay out: a wrapped file is the same as one that an earlier version wrote.
    judging: dict[str, Any] = {
        "agent": critic_link,
        "after": source,
        "instruction": [open_id, INSTRUCTION],
        "prompt": [open_id, PROMPT],
        "seed": 0,
        "if_unreadable": "retry",
    }
    if found.image:
        judging["before"] = [open_id, REFERENCE]
    closing = {
        "loop": [open_id, 0],
        "image": source,
        "judgment": [f"{prefix}critic", 0],
        "t_max": t_max,
        "on_exhausted": "last",
        "reference_policy": "previous",
        "gate": "off",
        "run_name": "",
        "accept_attempts": "",
    }
    return (
        wrapped
        | agents
        | {
            f"{prefix}planner": _node(NODE_IDS.planner, planning | images),
            open_id: _node(NODE_IDS.loop_open, {"plan": [f"{prefix}planner", 0], "seed": seed} | images),
            f"{prefix}critic": _node(NODE_IDS.critic_refine, judging),
            close_id: _node(NODE_IDS.loop_close, closing),
            f"{prefix}save": _node(NODE_IDS.save_document, {"document": [close_id, 0]}),
        }
    )


def refuse_a_loop(workflow: Mapping[str, Any]) -> None:
    """Raises:
    WorkflowError: there is a loop in the workflow already.
    """
    if any(str(n["class_type"]).startswith(PREFIX) for n in workflow.values()):
        raise WorkflowError("This workflow has a loop already. Unwrap it first, or change the loop that is there.")


def unwrap(workflow: Mapping[str, Any]) -> Workflow:
    """The workflow without its loop: request, seed and picture go back to where the loop fed them.

    Raises:
        WorkflowError: there is no loop in it, or more than one, or the prompt did not come from a Planner.
    """
    opens = [i for i, n in workflow.items() if n["class_type"] == NODE_IDS.loop_open]
    if len(opens) != 1:
        raise WorkflowError(f"This workflow has {len(opens) or 'no'} loops; one can be taken off.")
    open_inputs = workflow[opens[0]]["inputs"]
    planner = workflow.get(str(open_inputs["plan"][0]), {}) if is_link(open_inputs.get("plan")) else {}
    request = planner.get("inputs", {}).get("request")
    if not isinstance(request, str) and not is_link(request):
        raise WorkflowError("The loop's plan does not come from a Planner with a request in it.")
    back: dict[int, Any] = {PROMPT: request, INSTRUCTION: request, SEED: open_inputs.get("seed", 0)}
    image = next((v for k, v in open_inputs.items() if k.startswith("images.")), None)
    if image is not None:
        back[REFERENCE] = list(image)
    gone = {i for i, n in workflow.items() if n["class_type"].startswith(PREFIX)}
    plain: Workflow = {}
    for node_id, node in workflow.items():
        if node_id in gone:
            continue
        kept = copy.deepcopy(node)
        remembered = _recall(kept)
        for name, value in list(kept["inputs"].items()):
            if not is_link(value) or str(value[0]) not in gone:
                continue
            if str(value[0]) != opens[0] or value[1] not in back:
                raise WorkflowError(
                    f"{node_id}.{name} is connected to a node of the loop that has nothing to put there."
                )
            kept["inputs"][name] = copy.deepcopy(remembered.get(name, back[value[1]]))
        plain[node_id] = kept
    users = {str(image[0])} if image is not None and is_link(image) else set()
    return {i: n for i, n in plain.items() if i in users or not _served_only(workflow, plain, i, gone)}


def loop_seed(value: object) -> int | None:
    """A typed seed, read as ComfyUI reads it ("42" and 42.0 are 42); None where the loop's nodes would refuse it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seed = int(value)
    except (ValueError, OverflowError):
        try:
            seed = int(float(value))
        except (ValueError, OverflowError):
            return None
    return seed if 0 <= seed <= MAX_SEED else None


def _served_only(before: Mapping[str, Any], after: Mapping[str, Any], node_id: str, gone: set[str]) -> bool:
    """Whether a node, such as the agent's loader, was there for nodes that are gone, and for no other."""
    return bool(_readers(before, node_id) & gone) and not _readers(after, node_id)


def _readers(workflow: Mapping[str, Any], node_id: str) -> set[str]:
    return {i for i, n in workflow.items() if any(is_link(v) and str(v[0]) == node_id for v in n["inputs"].values())}


def _remember(node: dict[str, Any], name: str) -> None:
    """What the loop replaces and has no other place for, beside the node's title."""
    meta = node.get("_meta")
    if "_meta" in node and (not isinstance(meta, dict) or not meta):
        node["_meta"] = {PREFIX: {"_meta": meta}}
    node.setdefault("_meta", {}).setdefault(PREFIX, {})[name] = node["inputs"][name]


def _recall(node: dict[str, Any]) -> dict[str, Any]:
    meta = node.get("_meta")
    if not isinstance(meta, dict) or not isinstance(meta.get(PREFIX), dict):
        return {}
    remembered: dict[str, Any] = meta.pop(PREFIX)
    if "_meta" in remembered:
        node["_meta"] = remembered.pop("_meta")
    elif not meta:
        del node["_meta"]
    return remembered


def _source(workflow: Mapping[str, Any], output: str) -> list[Any]:
    """The link that the output node shows."""
    link = image_link(workflow, output)
    if link is None:
        raise WorkflowError(f"Node {output} shows no picture.")
    return link


def _set(workflow: Workflow, ref: tuple[str, str], value: object) -> None:
    workflow[ref[0]]["inputs"][ref[1]] = value


def _node(kind: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"class_type": kind, "inputs": dict(inputs)}
