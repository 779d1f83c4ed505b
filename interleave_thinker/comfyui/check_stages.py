"""What is queued to measure a workflow: its agents are asked, its generator makes pictures, one after the other.

All stages hold the same nodes and differ in which are to run (`partial_execution_targets`), for ComfyUI forgets the
models of nodes that a prompt lacks: a stage would load them anew, which no loop does. Nothing of the user's is saved,
but for what an output node saves that gives something that only it can give; a note names it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..contract import LOOP_OPEN_OUTPUTS, MAX_SEED, MEASURE_PICTURE, NODE_IDS, PREFIX, T_MAX
from .agent_clip import find_agent_clip
from .client import WorkflowError
from .find_inputs import candidates
from .links import IMAGE_INPUTS, image_link, is_link, typed_value, upstream
from .memory import picture_pixels
from .model_files import AGENTS, live_nodes
from .wrap import AgentChoice, Workflow

StageKind = Literal["agent", "picture", "loop critic", "loop picture"]
"""agent: all questions to one agent. picture: the generator alone. The loop's: the critic, then a picture, each after
the other's models were in use, as in a loop."""
PICTURES = 2
"""Pictures of the generator alone: one with loading, one without."""
AGENTS_SHARE = 0.5
"""Of the time, for all questions to agents."""
SHORTEST = 1.0
"""Seconds for an agent, at least."""
SMALLEST_SIDE, LARGEST_SIDE = 64, 2048
_COLORS = ("blue", "green", "yellow", "purple")


@dataclass(frozen=True)
class Stage:
    """One prompt to queue. label: for people. result_node: the node whose `ui` has the figures; it is the target too.
    roles: of the agent that is asked. after: other result nodes. If one of them, or this stage's own, failed before,
    the stage is skipped."""

    kind: StageKind
    label: str
    prompt: Workflow
    result_node: str
    roles: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stages:
    """notes: what cannot be measured, and why; for people. t_max: the loop's. has_agent: whether the workflow has an
    agent to ask."""

    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()
    t_max: int = T_MAX
    has_agent: bool = False


@dataclass
class _Parts:
    """What the prompts are made of."""

    nodes: Workflow = field(default_factory=dict)
    agents: list[tuple[list[Any], tuple[str, ...]]] = field(default_factory=list)
    picture: list[Any] | None = None
    prompts: list[tuple[str, str]] = field(default_factory=list)
    """Inputs that take the words for the picture."""
    seeds: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def stages_of(
    workflow: Mapping[str, Any],
    *,
    seconds: float,
    seed: int,
    agent: AgentChoice | None = None,
    is_there: Callable[[str], bool] = lambda kind: True,
    is_paid: Callable[[str], bool] = lambda kind: False,
    about: Callable[[str], Mapping[str, Any]] = lambda kind: {},
) -> Stages:
    """How to measure a workflow in API format, wrapped or not.

    seconds: for everything. seed: of the first picture; another one each time, or ComfyUI would recall the picture.
    agent: instead of the workflow's. is_there: whether ComfyUI has a node of this class. is_paid: whether it calls a
    paid service, which is not asked to draw. about: what GET /object_info says of a class: `output_node`, `input` and
    `output`; an output node before the picture, such as one that saves it and passes it on, is left out by them.

    Raises:
        WorkflowError: `agent` names a node that the workflow lacks.
    """
    loops = [i for i, n in workflow.items() if n["class_type"] == NODE_IDS.loop_close]
    side = _side(workflow)
    parts = _Parts(copy.deepcopy(dict(workflow)))
    if loops:
        _take_loops_picture(parts, loops, side)
    else:
        _take_plain_picture(parts)
    _take_agents(parts, agent)
    has_agent = bool(parts.agents)
    _bypass_outputs(parts, about)
    _leave_out(parts, is_there, is_paid)
    t_max = typed_value(workflow, workflow[loops[0]]["inputs"].get("t_max")) if loops else T_MAX
    return Stages(
        tuple(_stages(parts, seconds, seed, side)),
        tuple(parts.notes),
        t_max if isinstance(t_max, int) and not isinstance(t_max, bool) else T_MAX,
        has_agent,
    )


def _side(workflow: Mapping[str, Any]) -> int:
    """Edge of a square as large as the workflow's pictures, in whole 64s."""
    edge = math.sqrt(picture_pixels(workflow, set(live_nodes(workflow))))
    return max(SMALLEST_SIDE, min(round(edge / 64) * 64, LARGEST_SIDE))


def _take_loops_picture(parts: _Parts, loops: list[str], side: int) -> None:
    """The picture that goes into Loop Close, with plain values in the place of what Loop Open gives."""
    if len(loops) > 1:
        parts.notes.append(f"The workflow has {len(loops)} loops; the pictures of node {loops[0]} are measured.")
    link = parts.nodes[loops[0]]["inputs"].get("image")
    if not is_link(link):
        parts.notes.append(f"No picture is connected to Loop Close (node {loops[0]}), so none was measured.")
        return
    body = list(upstream(parts.nodes, str(link[0]), both_sides=True))
    if any(parts.nodes[i]["class_type"] == NODE_IDS.loop_close for i in body):
        parts.notes.append("The picture comes from a loop within the loop; it was not measured.")
        return
    opens = [i for i in body if parts.nodes[i]["class_type"] == NODE_IDS.loop_open]
    given = {i: _reference_of(parts.nodes, i, side) for i in opens}
    for node_id in body:
        for name, value in list(parts.nodes[node_id]["inputs"].items()):
            if not is_link(value) or str(value[0]) not in given or not 0 <= value[1] < len(LOOP_OPEN_OUTPUTS):
                continue
            output = LOOP_OPEN_OUTPUTS[value[1]]
            if output in ("prompt", "instruction"):
                parts.prompts.append((node_id, name))
            elif output == "seed":
                parts.seeds.append((node_id, name))
            plain = {"reference": given[str(value[0])], "has_reference": True, "step": 2, "attempt": 1}
            parts.nodes[node_id]["inputs"][name] = plain.get(output, "" if output == "loop" else 0)
    parts.picture = list(link)


def _reference_of(nodes: Workflow, open_id: str, side: int) -> list[Any]:
    """The picture that is edited: the user's first one, or a white one."""
    for name, value in nodes[open_id]["inputs"].items():
        if name.startswith("images.") and is_link(value):
            return list(value)
    white = _free_id(nodes, "white")
    inputs = {"width": side, "height": side, "batch_size": 1, "color": 0xFFFFFF}
    nodes[white] = {"class_type": "EmptyImage", "inputs": inputs}
    return [white, 0]


def _take_plain_picture(parts: _Parts) -> None:
    found = candidates(parts.nodes).outputs
    link = image_link(parts.nodes, found[0]) if found else None
    if link is None:
        parts.notes.append("The workflow shows no picture, so none was measured.")
        return
    if len(found) > 1:
        parts.notes.append(f"The workflow shows several pictures; that of node {found[0]} is measured.")
    parts.picture = link
    parts.seeds = list(candidates(parts.nodes, output=found[0]).seeds)


def _take_agents(parts: _Parts, choice: AgentChoice | None) -> None:
    """The agents that the workflow's planner and critic read, or else one that a node loads."""
    roles: dict[tuple[str, int], set[str]] = {}
    readers = {NODE_IDS.planner: "planner", NODE_IDS.critic_refine: "critic", NODE_IDS.loop_close: "critic"}
    for node in parts.nodes.values():
        link = node["inputs"].get("agent")
        if node["class_type"] in readers and is_link(link):
            roles.setdefault((str(link[0]), link[1]), set()).add(readers[node["class_type"]])
    if not roles:
        roles = {(i, 0): {"planner", "critic"} for i, n in parts.nodes.items() if n["class_type"] in AGENTS}
    if choice is None and not roles and parts.picture is not None:
        clip = find_agent_clip(parts.nodes, str(parts.picture[0]))
        if clip.node:
            choice = AgentChoice("node", clip.node)
            parts.notes.append(
                f"The workflow has no agent yet; its own CLIP (node {clip.node}, {clip.file}) was asked."
            )
    if choice is not None:
        if choice.kind == "node" and choice.name not in parts.nodes:
            raise WorkflowError(f"The workflow has no node {choice.name} that could load the agent.")
        more, link = choice.nodes(f"{_free_id(parts.nodes, 'agent')}_")
        parts.nodes |= more
        roles = {(str(link[0]), link[1]): {"planner", "critic"}}
    parts.agents = [([i, slot], tuple(sorted(said, reverse=True))) for (i, slot), said in roles.items()]


def _bypass_outputs(parts: _Parts, about: Callable[[str], Mapping[str, Any]]) -> None:
    """Links that come from an output node take what goes into it instead, where one input is of their type."""
    into = {i: found for i in parts.nodes if (found := _passed_on(parts.nodes, i, about))}
    for node in parts.nodes.values():
        node["inputs"] = {name: _source(value, into) for name, value in node["inputs"].items()}
    parts.agents = [(_source(link, into), roles) for link, roles in parts.agents]
    parts.picture = _source(parts.picture, into)
    ends = [str(link[0]) for link in (*(a for a, _ in parts.agents), parts.picture) if link]
    for node_id in upstream(parts.nodes, *ends, both_sides=True):
        kind = str(parts.nodes[node_id]["class_type"])
        if about(kind).get("output_node"):
            parts.notes.append(
                f"Node {node_id} ({kind}) runs and saves or shows what it always does: the rest needs what it gives."
            )


def _passed_on(nodes: Workflow, node_id: str, about: Callable[[str], Mapping[str, Any]]) -> dict[int, list[Any]]:
    """Of an output node: for each output the link into the node that has its type; of other nodes nothing."""
    known = about(str(nodes[node_id]["class_type"]))
    if not known.get("output_node"):
        return {}
    declared = {
        n: spec
        for group in (known.get("input") or {}).values()
        if isinstance(group, Mapping)
        for n, spec in group.items()
    }
    links = {name: value for name, value in nodes[node_id]["inputs"].items() if is_link(value)}
    found = {}
    for slot, kind in enumerate(known.get("output") or ()):
        alike = [name for name in links if name in declared and declared[name] and declared[name][0] == kind]
        name = next((n for n in IMAGE_INPUTS if n in alike), alike[0] if len(alike) == 1 else None)
        if name is not None:
            found[slot] = list(links[name])
    return found


def _source(value: Any, into: Mapping[str, Mapping[int, list[Any]]]) -> Any:
    """Where a link comes from, past output nodes; any other value as it is."""
    seen = set()
    while (
        is_link(value)
        and (before := into.get(str(value[0]), {}).get(value[1])) is not None
        and str(value[0]) not in seen
    ):
        seen.add(str(value[0]))
        value = before
    return value


def _leave_out(parts: _Parts, is_there: Callable[[str], bool], is_paid: Callable[[str], bool]) -> None:
    """Drop the parts that cannot run, or cost money, and keep the nodes that the rest needs."""
    agents = []
    for link, roles in parts.agents:
        missing = _of_kind(parts.nodes, str(link[0]), lambda kind: not is_there(kind))
        if missing:
            parts.notes.append(f"The agent of node {link[0]} was not asked: this ComfyUI lacks {missing}.")
        else:
            agents.append((link, roles))
    parts.agents = agents
    if parts.picture is not None:
        source = str(parts.picture[0])
        missing, paid = _of_kind(parts.nodes, source, lambda k: not is_there(k)), _of_kind(parts.nodes, source, is_paid)
        if missing:
            parts.notes.append(f"No picture was made: this ComfyUI lacks {missing}.")
        elif paid:
            parts.notes.append(f"No picture was made, because {paid} calls a paid service.")
        if missing or paid:
            parts.picture = None
    kept = [str(link[0]) for link in (*(a for a, _ in parts.agents), parts.picture) if link]
    needed = set(upstream(parts.nodes, *kept, both_sides=True))
    parts.nodes = {i: n for i, n in parts.nodes.items() if i in needed}


def _of_kind(nodes: Workflow, node_id: str, is_one: Callable[[str], bool]) -> str:
    """Classes above a node that are so, for people; "" if there are none."""
    kinds = (str(nodes[i]["class_type"]) for i in upstream(nodes, node_id, both_sides=True))
    return ", ".join(dict.fromkeys(k for k in kinds if is_one(k)))


def _stages(parts: _Parts, seconds: float, seed: int, side: int) -> list[Stage]:
    nodes, checks = dict(parts.nodes), []
    each = max(SHORTEST, seconds * AGENTS_SHARE / max(1, len(parts.agents)))
    for link, roles in parts.agents:
        check = _free_id(nodes, "agent")
        checks.append((check, roles))
        inputs = {"agent": link, "role": " and ".join(roles), "side": side, "seconds": round(each, 1), "questions": 0}
        nodes[check] = {"class_type": NODE_IDS.check_agent, "inputs": inputs}
    result = _free_id(nodes, "picture")
    if parts.picture is not None:
        nodes[result] = {"class_type": MEASURE_PICTURE, "inputs": {"image": parts.picture}}
    stages = []
    for check, roles in checks:
        title = f"the {' and '.join(roles)}" if len(checks) > 1 else "the agent"
        stages.append(Stage("agent", f"Asking {title}", nodes, check, roles))
    if parts.picture is None:
        return stages
    varies = bool(parts.seeds or parts.prompts)
    made = []
    for number in range(PICTURES + 1):
        drawn = copy.deepcopy(nodes)
        for node_id, name in parts.seeds:
            drawn[node_id]["inputs"][name] = (seed + number) % MAX_SEED
        for node_id, name in parts.prompts:
            drawn[node_id]["inputs"][name] = f"make the circle {_COLORS[number]}"
        made.append(drawn)
    for number, drawn in enumerate(made[: PICTURES if varies else 1], 1):
        stages.append(Stage("picture", f"Making picture {number}", drawn, result))
    critic = next((check for check, roles in checks if "critic" in roles), None)
    if critic is not None and varies:
        asked = copy.deepcopy(made[-1])
        asked[critic]["inputs"] |= {"questions": 1, "role": "critic"}
        stages.append(
            Stage("loop critic", "Asking the critic between two pictures", asked, critic, ("critic",), (result,))
        )
        stages.append(Stage("loop picture", "Making a picture after the critic", asked, result, (), (critic,)))
    return stages


def _free_id(nodes: Mapping[str, Any], name: str) -> str:
    found = f"{PREFIX.lower()}_check_{name}"
    while any(i.startswith(found) for i in nodes):
        found += "_"
    return found
