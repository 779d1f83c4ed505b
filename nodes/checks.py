"""Loops that cannot run, told before anything is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from comfy_execution.graph_utils import is_link

import nodes

from ..interleave_thinker.contract import LOOP_OPEN_OUTPUTS, loop_open_output
from ..interleave_thinker.errors import ConfigError
from .body import Body
from .prompt_graph import Link, PromptGraph, input_of, links_of, outer_opens, reachable, region_between


def why_not_run(prompt: Mapping[str, Any], open_id: str, targets: Collection[str]) -> str:
    """Why ComfyUI would not run the loop of this Loop Open, or run it in vain, and say nothing. "": it will.

    targets: the output nodes that it is to run.
    """
    graph = PromptGraph(prompt)
    run = graph.above(targets)
    ends = [i for i in graph.ends_of(open_id) if i in run]
    if not ends:
        return (
            "Loop Open gives values only inside of its loop, and nothing that was queued runs the loop. Queue a "
            "node behind its Loop Close, such as Save Document."
        )
    try:
        found = (
            _why_endless(graph, open_id, i, run)
            or _why_blocked(graph, open_id, i, targets)
            or _why_outside(graph, open_id, i, run)
            for i in ends
        )
        return next(filter(None, found), "")
    except ConfigError as error:
        return str(error)


def _why_endless(graph: PromptGraph, open_id: str, close_id: str, run: Collection[str]) -> str:
    """The loop is inside of a Start Loop, whose End Loop waits for ever for a value that there is only in the body."""
    around = {i for bound in graph.bound.values() if {open_id, close_id} <= bound for i in bound}
    if not around:
        return ""
    region = region_between(graph, open_id, close_id, [i for i in graph.ends_of(open_id) if i in run])
    for node_id in sorted(around - region):
        kind = graph.kind(node_id)
        for name, value in graph.nodes[node_id]["inputs"].items():
            if is_link(value) and value[0] in region and not _options(kind, name).get("lazy"):
                return (
                    f"Node {node_id} ({kind}) takes {name!r} from node {value[0]} ({graph.kind(value[0])}), which is "
                    f"inside of the loop of Loop Open {open_id} and gives values only there. Disconnect them, or take "
                    f"the value from the document of Loop Close {close_id}."
                )
    return ""


def _why_blocked(graph: PromptGraph, open_id: str, close_id: str, targets: Iterable[str]) -> str:
    """All that needs this Loop Close needs a value, too, that Loop Open gives only inside of the loop."""

    def waits_for(node_id: str) -> list[Link]:
        node = graph.nodes[node_id]
        named = [(name, value) for name, value in node["inputs"].items() if is_link(value)]
        return [value for name, value in named if not _is_left_out(node["class_type"], name)]

    taking: tuple[str, Link] = ("", [])
    for target in sorted(i for i in targets if close_id in graph.above([i])):
        waiting = reachable([target], lambda i: [link[0] for link in waits_for(i) if link[0] in graph.nodes])
        blocked = sorted((i, link) for i in waiting for link in waits_for(i) if link[0] == open_id and link[1] != 0)
        if not blocked:
            return ""
        taking = blocked[0]
    node_id, link = taking
    inputs = sorted(name for name, value in graph.nodes[node_id]["inputs"].items() if value == link)
    return (
        f"Node {node_id} ({graph.kind(node_id)}) takes {LOOP_OPEN_OUTPUTS[link[1]]!r} of Loop Open {open_id} for its "
        f"{inputs[0]!r}. It is not inside of the loop, and Loop Open gives values only there. Type the value, or take "
        f"it from a node outside of the loop, or from the document of Loop Close {close_id}."
    )


def _why_outside(graph: PromptGraph, open_id: str, close_id: str, run: Collection[str]) -> str:
    """The loop uses values of another one, but is not inside of it."""
    inputs = graph.nodes[close_id]["inputs"]
    region = region_between(graph, open_id, close_id, [i for i in graph.ends_of(open_id) if i in run])
    used = graph.above([inputs[n][0] for n in ("image", "judgment") if is_link(inputs.get(n))], region)
    for end in graph.closes_in(region):
        for other in sorted(graph.opens_of(end) - {open_id}):
            if close_id in region_between(graph, other, end, [i for i in graph.ends_of(other) if i in run]):
                return (
                    f"The loops of Loop Close {close_id} and Loop Close {end} use values of each other's Loop Open. "
                    "Only one of them can be inside of the other: disconnect the values of one."
                )
    for other in sorted(outer_opens(graph, region, open_id, used)):
        ends = [i for i in graph.ends_of(other) if i in run]
        if not any(close_id in region_between(graph, other, i, ends) for i in ends):
            uses = f"Loop Close {close_id} uses values of Loop Open {other}, "
            if ends:
                return (
                    f"{uses}but it stands behind Loop Close {ends[0]}, where that loop is over. Use its document, or "
                    "put one loop wholly into the other."
                )
            return (
                f"{uses}and nothing that was queued runs that loop. Queue a node behind its Loop Close, such as Save "
                "Document."
            )
    return ""


def _is_left_out(kind: str, name: str) -> bool:
    """Whether ComfyUI may run a node of this kind without what this input is connected to."""
    options = _options(kind, name)
    return bool(options.get("lazy") or options.get("rawLink"))


def _options(kind: str, name: str) -> Mapping[str, Any]:
    """What an input's declaration says of it beside its type."""
    options: Mapping[str, Any] = (input_of(kind, name)[0][1:] or ({},))[0]
    return options


def node_needing_reference(dynprompt: Any, body: Body) -> str | None:
    """A node that cannot run without a reference image whatever branch is taken, or None.

    Follows the image upstream through inputs that are not lazy: what stands behind a lazy switch is
    the graph's own business. So is a node that is told by `has_reference` whether there is one, and one that takes
    values of any type.
    """
    reference = _carriers(dynprompt, body, [body.open_id, loop_open_output("reference")])
    told = _carriers(dynprompt, body, [body.open_id, loop_open_output("has_reference")], through_all=True)
    waiting: list[str] = [body.image_link[0]]
    seen: set[str] = set()
    while waiting:
        node_id = waiting.pop()
        if node_id in seen or node_id not in body.image_nodes:
            continue
        seen.add(node_id)
        node = dynprompt.get_node(node_id)
        is_told = any(tuple(link) in told for link in links_of(node))
        for name, value in node["inputs"].items():
            if not is_link(value):
                continue
            declared, required = input_of(node["class_type"], name)
            if (declared[1:] or ({},))[0].get("lazy"):
                continue
            if tuple(value) in reference and required and not _takes_anything(declared) and not is_told:
                return node_id
            waiting.append(value[0])
    return None


def _carriers(dynprompt: Any, body: Body, link: Link, through_all: bool = False) -> set[tuple[str, int]]:
    """`link` and the outputs of body nodes that hand on its value: reroutes, or (`through_all`) whatever takes it."""
    found = {(str(link[0]), int(link[1]))}
    size = 0
    while size != len(found):
        size = len(found)
        for node_id in body.image_nodes:
            node = dynprompt.get_node(node_id)
            for name, value in node["inputs"].items():
                if is_link(value) and tuple(value) in found:
                    single = len(getattr(nodes.NODE_CLASS_MAPPINGS[node["class_type"]], "RETURN_TYPES", ())) == 1
                    if through_all or (_takes_anything(input_of(node["class_type"], name)[0]) and single):
                        found.add((node_id, 0))
    return found


def _takes_anything(declared: tuple[Any, ...]) -> bool:
    return isinstance(declared[0], str) and (declared[0] == "*" or declared[0].startswith("COMFY_MATCHTYPE"))
