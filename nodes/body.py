"""The loop's body: which of the user's nodes are between Loop Open and Loop Close, and what they depend on.

Reads the prompt only; places nothing. Works on node ids of any form, also "50:11" of subgraphs.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from comfy_execution.graph_utils import is_link

import nodes

from ..interleave_thinker.contract import LOOP_OPEN_OUTPUTS, loop_open_output
from ..interleave_thinker.files import hash_of
from ..interleave_thinker.session import Signature
from .folders import model_state

Link = list[Any]

_SIGNED_AS = {"has_reference": "reference"}


@dataclass(frozen=True)
class Body:
    """What an attempt consists of, by ids of the user's nodes.

    image_link, judgment_link: what Loop Close is connected to. image_nodes: those that the image needs.
    judgment_nodes: further ones that the judgment needs once the image is there. image_outputs, judgment_outputs:
    output nodes (previews and the like) that show something of these.
    """

    open_id: str
    close_id: str
    image_link: Link
    judgment_link: Link | None
    image_nodes: frozenset[str]
    judgment_nodes: frozenset[str]
    image_outputs: frozenset[str]
    judgment_outputs: frozenset[str]


def links_of(node: Mapping[str, Any]) -> list[Link]:
    return [v for v in node["inputs"].values() if is_link(v)]


def find_body(dynprompt: Any, open_id: str, close_id: str, image: Any, judgment: Any) -> Body:
    """Sort the nodes between the two ends by what they are for.

    Raises:
        ValueError: `image` is not connected to anything that depends on Loop Open, or no prompt of the
            loop reaches it.
    """
    graph = {i: dynprompt.get_node(i) for i in dynprompt.all_node_ids()}
    children: dict[str, set[str]] = {}
    for node_id, node in graph.items():
        for link in links_of(node):
            children.setdefault(link[0], set()).add(node_id)
    inside = _reachable(children.get(open_id, ()), lambda i: children.get(i, ()))
    kind = graph[close_id]["class_type"]
    ends = [i for i, n in graph.items() if n["class_type"] == kind and n["inputs"].get("loop") == [open_id, 0]]
    region = inside - _reachable([close_id, *ends], lambda i: children.get(i, ()))  # what another end makes is its own

    def needed(start: Iterable[str], stop_at: Link | None = None) -> set[str]:
        """Nodes of the region that `start` needs; with `stop_at`, that output counts as given."""

        def above(node_id: str) -> list[str]:
            return [link[0] for link in links_of(graph[node_id]) if link[0] in region and link != stop_at]

        return _reachable([i for i in start if i in region], above)

    if not is_link(image):
        raise ValueError("Loop Close: 'image' is not connected, but the plan has steps that make pictures.")
    if image[0] not in region:
        source = f"node {image[0]}"
        raise ValueError(
            f"Loop Close: 'image' comes from {source}, which does not depend on Loop Open {open_id}. "
            "Connect Loop Open's prompt (and reference) to the nodes that make the picture."
        )
    image_nodes = needed([image[0]])
    judgment_nodes: set[str] = set()
    if is_link(judgment):
        if judgment[0] not in region:
            raise ValueError(
                f"Loop Close: 'judgment' comes from node {judgment[0]}, which does not depend on Loop Open "
                f"{open_id}. Connect the attempt's picture to Critic-Refine."
            )
        judgment_nodes = needed([judgment[0]], stop_at=image)
    image_outputs: set[str] = set()
    judgment_outputs: set[str] = set()
    for node_id in region:
        if not getattr(nodes.NODE_CLASS_MAPPINGS[graph[node_id]["class_type"]], "OUTPUT_NODE", False):
            continue
        wants = needed([node_id]) - {node_id}
        if node_id in image_nodes or node_id in judgment_nodes:
            continue
        if wants <= image_nodes:
            image_outputs |= {node_id}
        else:
            side = wants - image_nodes - judgment_nodes - {node_id}
            target = image_outputs if not (wants & judgment_nodes - image_nodes) else judgment_outputs
            target |= {node_id, *side}
    return Body(
        open_id,
        close_id,
        list(image),
        list(judgment) if is_link(judgment) else None,
        frozenset(image_nodes),
        frozenset(judgment_nodes),
        frozenset(image_outputs),
        frozenset(judgment_outputs),
    )


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
    dynprompt: Any, body: Body, link: Link, file_state: Callable[[str], Any], given: Link | None = None
) -> Signature:
    """The signature of what `link` yields: everything upstream, with the loop's own values left open.

    given: an output that counts as a value of the loop ("image"): the image the critic is shown.
    file_state: node id -> what the node says of its files (`comfy_internals.file_states`).
    """
    order: dict[str, int] = {}
    lines: list[Any] = []
    uses: set[str] = set()

    def visit(node_id: str) -> int:
        if node_id in order:
            return order[node_id]
        order[node_id] = len(order)
        mine = order[node_id]
        node = dynprompt.get_node(node_id)
        inputs: list[tuple[Any, ...]] = []
        for name in sorted(node["inputs"]):
            value = node["inputs"][name]
            if not is_link(value):
                inputs.append((name, "value", value, model_state(value)))
            elif given is not None and list(value) == given:
                uses.add("image")
                inputs.append((name, "loop", "image"))
            elif value[0] == body.open_id:
                output = LOOP_OPEN_OUTPUTS[value[1]]
                uses.add(_SIGNED_AS.get(output, output))
                inputs.append((name, "loop", output))
            else:
                inputs.append((name, "node", visit(value[0]), value[1]))
        lines.append((mine, node["class_type"], _hashable(file_state(node_id)), inputs))
        return mine

    top = visit(link[0])
    return Signature(hash_of(lines, top, link[1]), frozenset(uses - {"loop"}))


def _hashable(value: Any) -> Any:
    """What a node says of its files, as a hashable part. NaN means "always changed": never the same."""
    values = value if isinstance(value, list) else [value]
    return [str(uuid.uuid4()) if isinstance(v, float) and math.isnan(v) else repr(v) for v in values]


def node_needing_reference(dynprompt: Any, body: Body) -> str | None:
    """A node that cannot run without a reference image whatever branch is taken, or None.

    Follows the image upstream through inputs that are not lazy: what stands behind a lazy switch is
    the graph's own business.
    """
    reference = [body.open_id, loop_open_output("reference")]
    waiting: list[str] = [body.image_link[0]]
    seen: set[str] = set()
    while waiting:
        node_id = waiting.pop()
        if node_id in seen or node_id not in body.image_nodes:
            continue
        seen.add(node_id)
        node = dynprompt.get_node(node_id)
        described = nodes.NODE_CLASS_MAPPINGS[node["class_type"]].INPUT_TYPES()
        for name, value in node["inputs"].items():
            if not is_link(value):
                continue
            required = described.get("required", {}).get(name)
            optional = described.get("optional", {}).get(name)
            options: tuple[Any, ...] = (required or optional or (None, {}))[1:] or ({},)
            if options[0].get("lazy"):
                continue
            if list(value) == reference and required is not None:
                return node_id
            waiting.append(value[0])
    return None
