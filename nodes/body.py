"""The loop's body: which of the user's nodes are between Loop Open and Loop Close, and what they depend on.

Reads the prompt only; places nothing. Works on node ids of any form, also "50:11" of subgraphs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy_execution.graph_utils import is_link

import nodes

from ..interleave_thinker.contract import LOOP_OPEN_OUTPUTS, NODE_IDS, PREFIX, loop_open_output
from ..interleave_thinker.errors import ConfigError
from ..interleave_thinker.files import hash_of
from ..interleave_thinker.session import Signature
from .folders import model_state
from .users import current_user

Link = list[Any]

_SIGNED_AS = {"has_reference": "reference"}
_VERDICTS = {NODE_IDS.critic_refine, NODE_IDS.judgment}


@dataclass(frozen=True)
class Body:
    """What an attempt consists of, by ids of the user's nodes.

    image_link, judgment_link: what Loop Close is connected to. image_nodes: those that the image needs.
    judgment_nodes: further ones that the judgment needs once the image is there. sides: output nodes (previews and the
    like) beside these, each with the nodes that it needs beside the image's. sides_of_image: those of them that need
    nothing of the image's nodes but the image. verdict_sides: those that show the verdict. inner_sides: output nodes of
    loops inside this one; their own Loop Close runs them.
    """

    open_id: str
    close_id: str
    image_link: Link
    judgment_link: Link | None
    image_nodes: frozenset[str]
    judgment_nodes: frozenset[str]
    sides: Mapping[str, frozenset[str]]
    sides_of_image: frozenset[str]
    verdict_sides: frozenset[str]
    inner_sides: frozenset[str]
    is_inside_another: bool
    """Whether it needs values of another Loop Open, which gives them only inside of its own loop."""

    def of_sides(self, sides: Iterable[str]) -> frozenset[str]:
        """These sides and the nodes that they need beside the image's."""
        return frozenset().union(*({side} | self.sides[side] for side in sides))


def links_of(node: Mapping[str, Any]) -> list[Link]:
    return [v for v in node["inputs"].values() if is_link(v)]


class _Graph:
    """nodes: of a prompt, by id."""

    def __init__(self, nodes: Mapping[str, Any]):
        self.nodes = nodes
        self.children: dict[str, set[str]] = {}
        for node_id, node in self.nodes.items():
            for link in links_of(node):
                self.children.setdefault(link[0], set()).add(node_id)

    def kind(self, node_id: str) -> str:
        return str(self.nodes[node_id]["class_type"])

    def below(self, start: Iterable[str]) -> set[str]:
        """`start` and all that depends on it."""
        return _reachable(start, lambda i: self.children.get(i, ()))

    def above(
        self, start: Iterable[str], within: Collection[str] | None = None, stop_at: Link | None = None
    ) -> set[str]:
        """`start` and all that it needs. within: other nodes are left out. stop_at: this output counts as given."""

        def needs(node_id: str) -> list[str]:
            links = links_of(self.nodes[node_id]) if node_id in self.nodes else []
            return [link[0] for link in links if (within is None or link[0] in within) and link != stop_at]

        return _reachable([i for i in start if within is None or i in within], needs)

    def opens_of(self, close_id: str) -> set[str]:
        """The Loop Opens whose `loop` reaches this Loop Close, also through reroutes and switches."""
        found: set[str] = set()

        def carriers(node_id: str) -> list[str]:
            if node_id in self.nodes and self.kind(node_id) == NODE_IDS.loop_open:
                found.add(node_id)
                return []
            return [link[0] for link in links_of(self.nodes.get(node_id, {"inputs": {}}))]

        link = self.nodes[close_id]["inputs"].get("loop")
        _reachable([link[0]] if is_link(link) else [], carriers)
        return found

    def ends_of(self, open_id: str) -> list[str]:
        return [i for i in self.closes_in(self.below([open_id])) if open_id in self.opens_of(i)]

    def closes_in(self, node_ids: Iterable[str]) -> list[str]:
        return sorted(i for i in node_ids if i in self.nodes and self.kind(i) == NODE_IDS.loop_close)


def find_body(dynprompt: Any, open_id: str, close_id: str, image: Any, judgment: Any, targets: Any = None) -> Body:
    """Sort the nodes between the two ends by what they are for.

    targets: ids of the output nodes that ComfyUI was asked to run, and found valid; None: all.

    Raises:
        ConfigError: `image` is not connected to anything that depends on Loop Open, or the loop crosses another one.
    """
    graph = _Graph({i: dynprompt.get_node(i) for i in dynprompt.all_node_ids()})
    if not is_link(image):
        raise ConfigError("Loop Close: 'image' is not connected, but the plan has steps that make pictures.")
    originals = dynprompt.get_original_prompt()
    run = graph.above(targets) if targets is not None else set(graph.nodes)
    ends = [i for i in graph.ends_of(open_id) if i == close_id or i in run or i not in originals]
    region = _region(graph, open_id, close_id, ends)
    if image[0] not in region:
        raise ConfigError(
            f"Loop Close: 'image' comes from node {image[0]}, which does not depend on Loop Open {open_id}. "
            "Connect Loop Open's prompt (and reference) to the nodes that make the picture."
        )
    image_nodes = graph.above([image[0]], region)
    judgment_nodes: set[str] = set()
    if is_link(judgment):
        if judgment[0] not in region:
            raise ConfigError(
                f"Loop Close: 'judgment' comes from node {judgment[0]}, which does not depend on Loop Open "
                f"{open_id}. Connect the attempt's picture to Critic-Refine."
            )
        judgment_nodes = graph.above([judgment[0]], region, stop_at=list(image))
    used = image_nodes | judgment_nodes
    inner = _inside_inner_loops(graph, region, open_id)
    earlier = [_nodes_of_close(graph, i, open_id, ends) for i in ends if i < close_id]
    later = [_nodes_of_close(graph, i, open_id, ends) for i in ends if i > close_id]
    sides: dict[str, frozenset[str]] = {}
    for node_id in sorted(region - image_nodes):
        if not _is_output(graph.kind(node_id)) or not _is_run(node_id, dynprompt, targets):
            continue
        if dynprompt.get_parent_node_id(node_id) != dynprompt.get_parent_node_id(close_id):
            continue  # another loop placed it for an attempt of its own
        needs = graph.above([node_id], region)
        if any(needs & other for other in earlier):
            continue  # each is run by one Loop Close, the first that it belongs to
        if not needs & used and (earlier or any(needs & other for other in later)):
            continue
        sides[node_id] = frozenset(needs - image_nodes - {node_id})
    verdicts = {i for i in judgment_nodes if graph.kind(i) in _VERDICTS}
    verdicts |= {judgment[0]} if is_link(judgment) else set()
    return Body(
        open_id,
        close_id,
        list(image),
        list(judgment) if is_link(judgment) else None,
        frozenset(image_nodes),
        frozenset(judgment_nodes),
        sides,
        frozenset(s for s in sides if not graph.above([s], region, stop_at=list(image)) & image_nodes),
        frozenset(side for side, needs in sides.items() if (needs | {side}) & verdicts),
        frozenset(side for side in sides if side in inner),
        bool(_outer_opens(graph, region, open_id, used)),
    )


def why_not_run(prompt: Mapping[str, Any], open_id: str, targets: Collection[str]) -> str:
    """Why ComfyUI would not run the loop of this Loop Open, or run it in vain, and say nothing. "": it will.

    targets: the output nodes that it is to run.
    """
    graph = _Graph(prompt)
    run = graph.above(targets)
    ends = [i for i in graph.ends_of(open_id) if i in run]
    if not ends:
        return (
            "Loop Open gives values only inside of its loop, and nothing that was queued runs the loop. Queue a "
            "node behind its Loop Close, such as Save Document."
        )
    try:
        found = (_why_blocked(graph, open_id, i, targets) or _why_outside(graph, open_id, i, run) for i in ends)
        return next(filter(None, found), "")
    except ConfigError as error:
        return str(error)


def _why_blocked(graph: _Graph, open_id: str, close_id: str, targets: Iterable[str]) -> str:
    """All that needs this Loop Close needs a value, too, that Loop Open gives only inside of the loop."""

    def waits_for(node_id: str) -> list[Link]:
        node = graph.nodes[node_id]
        named = [(name, value) for name, value in node["inputs"].items() if is_link(value)]
        return [value for name, value in named if not _is_left_out(node["class_type"], name)]

    taking: tuple[str, Link] = ("", [])
    for target in sorted(i for i in targets if close_id in graph.above([i])):
        waiting = _reachable([target], lambda i: [link[0] for link in waits_for(i) if link[0] in graph.nodes])
        blocked = sorted((i, link) for i in waiting for link in waits_for(i) if link[0] == open_id and link[1] != 0)
        if not blocked:
            return ""
        taking = blocked[0]
    node_id, link = taking
    inputs = sorted(name for name, value in graph.nodes[node_id]["inputs"].items() if value == link)
    return (
        f"Node {node_id} ({graph.kind(node_id)}) takes {LOOP_OPEN_OUTPUTS[link[1]]!r} of Loop Open {open_id} for its "
        f"{inputs[0]!r}, but Loop Close {close_id} or what comes after it waits for that node, and Loop Open gives "
        "values only inside of its loop. Type the value, take it from outside of the loop, or use the document."
    )


def _why_outside(graph: _Graph, open_id: str, close_id: str, run: Collection[str]) -> str:
    """The loop uses values of another one, but is not inside of it."""
    inputs = graph.nodes[close_id]["inputs"]
    region = _region(graph, open_id, close_id, [i for i in graph.ends_of(open_id) if i in run])
    used = graph.above([inputs[n][0] for n in ("image", "judgment") if is_link(inputs.get(n))], region)
    for end in graph.closes_in(region):
        for other in sorted(graph.opens_of(end) - {open_id}):
            if close_id in _region(graph, other, end, [i for i in graph.ends_of(other) if i in run]):
                return (
                    f"The loops of Loop Close {close_id} and Loop Close {end} use values of each other's Loop Open. "
                    "Only one of them can be inside of the other: disconnect the values of one."
                )
    for other in sorted(_outer_opens(graph, region, open_id, used)):
        ends = [i for i in graph.ends_of(other) if i in run]
        if not any(close_id in _region(graph, other, i, ends) for i in ends):
            where = f"comes after Loop Close {ends[0]}" if ends else "is all that was queued"
            return (
                f"The loop of Loop Close {close_id} uses values of Loop Open {other}, which has them only inside of "
                f"its own loop, but it {where}. "
                + (
                    "Use that loop's document, or put one loop wholly into the other."
                    if ends
                    else "Queue a node behind the Loop Close of the outer loop, such as Save Document."
                )
            )
    return ""


def _is_left_out(kind: str, name: str) -> bool:
    """Whether ComfyUI may run a node of this kind without what this input is connected to."""
    options = (_input_of(kind, name)[0][1:] or ({},))[0]
    return bool(options.get("lazy") or options.get("rawLink"))


def state_of_sides(prompt: Mapping[str, Any], close_id: str, targets: Collection[str]) -> str:
    """Changes with the output nodes beside the images of a loop, which Loop Close does not depend on. "": none."""
    graph = _Graph(prompt)
    needed = graph.above([close_id])
    opens = graph.opens_of(close_id)
    while inner := {o for i in graph.closes_in(graph.below(opens)) for o in graph.opens_of(i)} - opens:
        opens |= inner
    beside = graph.below(opens) - graph.below([close_id]) - needed
    sides = graph.above(i for i in beside if i in targets and _is_output(graph.kind(i))) - needed
    lines = [(i, graph.kind(i), sorted(graph.nodes[i]["inputs"].items())) for i in sorted(sides)]
    return hash_of(lines) if lines else ""


def _region(graph: _Graph, open_id: str, close_id: str, ends: Iterable[str]) -> set[str]:
    """The nodes between the ends. What another end makes is its own; what this loop needs of it is given.

    An inner loop is in it with both ends, also where only its Loop Close depends on the outer loop.
    """
    needed = graph.above([close_id])
    given = {i for i in ends if i in needed and i != close_id}
    beyond = graph.below(i for i in ends if i not in given) | given
    starts = set(graph.children.get(open_id, ()))
    while True:
        region = graph.below(starts) - beyond
        inner = {o for i in graph.closes_in(region) for o in graph.opens_of(i)} - region - {open_id}
        crossing = inner & graph.above([open_id])
        if crossing:
            raise ConfigError(
                f"The loop of Loop Open {open_id} and Loop Close {close_id} crosses that of Loop Open "
                f"{min(crossing)}: it begins inside of it and ends outside. Put one loop wholly into the other."
            )
        if inner <= starts:
            return region
        starts |= inner


def _nodes_of_close(graph: _Graph, close_id: str, open_id: str, ends: Iterable[str]) -> set[str]:
    """What another Loop Close of the same Loop Open is made of."""
    inputs = graph.nodes[close_id]["inputs"]
    links = [inputs[name] for name in ("image", "judgment") if is_link(inputs.get(name))]
    region = graph.below(graph.children.get(open_id, ())) - graph.below(ends)
    return graph.above([link[0] for link in links], region)


def _inside_inner_loops(graph: _Graph, region: set[str], open_id: str) -> set[str]:
    """Nodes between an inner Loop Open and its Loop Close: the first gives them nothing outside of its loop."""
    closes = graph.closes_in(region)
    opens = {o for i in closes for o in graph.opens_of(i)} - {open_id}
    below = graph.below(child for o in opens for child in graph.children.get(o, ()))
    return (below & region) - graph.below(closes)


def _outer_opens(graph: _Graph, region: set[str], open_id: str, used: set[str]) -> set[str]:
    """Loop Opens whose values this loop uses: it is inside of theirs."""

    def needs(node_id: str) -> list[str]:
        if graph.kind(node_id) == NODE_IDS.loop_close and node_id not in region:
            return []  # of a loop before this one: its inside is its own
        return [link[0] for link in links_of(graph.nodes[node_id]) if link[0] in graph.nodes]

    others = {i for i in graph.nodes if graph.kind(i) == NODE_IDS.loop_open} - region - {open_id}
    inside = _reachable(used, needs)
    return {link[0] for i in inside for link in links_of(graph.nodes[i]) if link[0] in others and link[1] != 0}


def _is_output(kind: str) -> bool:
    return bool(getattr(nodes.NODE_CLASS_MAPPINGS.get(kind), "OUTPUT_NODE", False))


def has_outputs(kind: str) -> bool:
    return bool(getattr(nodes.NODE_CLASS_MAPPINGS.get(kind), "RETURN_TYPES", ()))


def _is_run(node_id: str, dynprompt: Any, targets: Collection[str] | None) -> bool:
    """Whether ComfyUI would run this output node. It runs all that are placed, and of the prompt those it was asked."""
    return targets is None or node_id in targets or node_id not in dynprompt.get_original_prompt()


def _reachable(start: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        node_id = waiting.pop()
        if node_id not in seen:
            seen.add(node_id)
            waiting += following(node_id)
    return seen


def signature_of(
    dynprompt: Any,
    body: Body,
    link: Link,
    file_state: Callable[[str], Any],
    given: Link | None = None,
    outer_image: Callable[[str], str] | None = None,
) -> tuple[Signature, dict[str, str]]:
    """The signature of what `link` yields: everything upstream, with the loop's own values left open.

    given: an output that counts as a value of the loop ("image"): the image the critic is shown.
    file_state: node id -> what the node says of its files, None for "always changes" (`FileStates.get`).
    outer_image: token of an outer loop -> key of the image that it judges.

    Returns it and the nodes upstream that always change, by id, with their classes. They count as unchanged in it.
    """
    order: dict[str, int] = {}
    lines: list[Any] = []
    uses: set[str] = set()
    changing: dict[str, str] = {}

    def visit(node_id: str) -> int:
        if node_id in order:
            return order[node_id]
        order[node_id] = len(order)
        mine = order[node_id]
        node = dynprompt.get_node(node_id)
        kind = node["class_type"]
        inputs: list[tuple[Any, ...]] = []
        for name in sorted(node["inputs"]):
            value = node["inputs"][name]
            if name == "token" and kind.startswith(PREFIX):
                continue  # an outer loop's: another in each run
            if kind == f"{PREFIX}RecallPicture" and name == "key":
                token = node["inputs"]["token"]
                inputs.append((name, "value", outer_image(token) if outer_image and is_link(value) else value))
            elif not is_link(value):
                inputs.append((name, "value", _plain(value), model_state(value)))
            elif given is not None and list(value) == given:
                uses.add("image")
                inputs.append((name, "loop", "image"))
            elif value[0] == body.open_id:
                output = LOOP_OPEN_OUTPUTS[value[1]]
                uses.add(_SIGNED_AS.get(output, output))
                inputs.append((name, "loop", output))
            elif (fed := _value_of_feed(dynprompt.get_node(value[0]), value[1])) is not None:
                inputs.append((name, "value", fed))
            else:
                inputs.append((name, "node", visit(value[0]), value[1]))
        # A loop before this one: what it says asks to be run again, for its gate or its sides.
        state = [current_user()] if kind == NODE_IDS.loop_close else file_state(node_id)
        if state is None:
            changing[dynprompt.get_display_node_id(node_id)] = kind
        lines.append((mine, kind, _hashable(state), inputs))
        return mine

    top = visit(link[0])
    return Signature(hash_of(lines, top, link[1]), frozenset(uses - {"loop"})), changing


def _value_of_feed(node: Mapping[str, Any], output: int) -> tuple[str, Any] | None:
    """What an outer loop gives for its attempt; None if `node` is no Step Feed."""
    if node["class_type"] != f"{PREFIX}StepFeed":
        return None
    name = LOOP_OPEN_OUTPUTS[output]
    return name, json.loads(node["inputs"]["due"]).get(name)


def _plain(value: Any) -> Any:
    """A literal as a hashable part. Loops of other packs write tensors into the nodes that they place."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous()
        return [str(data.dtype), list(data.shape), hashlib.sha256(data.view(torch.uint8).numpy().tobytes()).hexdigest()]
    return value


def _hashable(value: Any) -> Any:
    """What a node says of its files, as a hashable part."""
    return [repr(v) for v in (value if isinstance(value, list) else [value])]


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
            declared, required = _input_of(node["class_type"], name)
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
                    if through_all or (_takes_anything(_input_of(node["class_type"], name)[0]) and single):
                        found.add((node_id, 0))
    return found


def _input_of(kind: str, name: str) -> tuple[tuple[Any, ...], bool]:
    """How an input is declared, and whether it is required."""
    described = nodes.NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()
    required = described.get("required", {}).get(name)
    declared: tuple[Any, ...] = required or described.get("optional", {}).get(name) or (None, {})
    return tuple(declared), required is not None


def _takes_anything(declared: tuple[Any, ...]) -> bool:
    return isinstance(declared[0], str) and (declared[0] == "*" or declared[0].startswith("COMFY_MATCHTYPE"))
