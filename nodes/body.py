"""The loop's body: which of the user's nodes are between Loop Open and Loop Close, and what each is for.

Reads the prompt only; places nothing. Works on node ids of any form, also "50:11" of subgraphs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from comfy_execution.graph_utils import is_link

from ..interleave_thinker.contract import NODE_IDS
from ..interleave_thinker.errors import ConfigError
from ..interleave_thinker.files import hash_of
from .prompt_graph import Link, PromptGraph, is_output, outer_opens, region_between

_VERDICTS = {NODE_IDS.critic_refine, NODE_IDS.judgment}


@dataclass(frozen=True)
class Body:
    """What an attempt consists of, by ids of the user's nodes.

    image_link, judgment_link: what Loop Close is connected to. image_nodes: those that the image needs.
    judgment_nodes: further ones that the judgment needs once the image is there.

    side_outputs: output nodes (previews and the like) that hang on these, each with the further nodes that it needs.
    Of them, needing_image_alone need no other value of the image's nodes, showing_verdict need the critic's verdict,
    and of_inner_loops belong to a loop inside this one, whose Loop Close runs them.
    """

    open_id: str
    close_id: str
    image_link: Link
    judgment_link: Link | None
    image_nodes: frozenset[str]
    judgment_nodes: frozenset[str]
    side_outputs: Mapping[str, frozenset[str]]
    needing_image_alone: frozenset[str]
    showing_verdict: frozenset[str]
    of_inner_loops: frozenset[str]
    is_inside_another: bool
    """Whether it needs values of another Loop Open, which gives them only inside of its own loop."""

    def nodes_of(self, side_outputs: Iterable[str]) -> frozenset[str]:
        """These side outputs and the further nodes that they need."""
        return frozenset().union(*({output} | self.side_outputs[output] for output in side_outputs))


def find_body(dynprompt: Any, open_id: str, close_id: str, image: Any, judgment: Any, targets: Any = None) -> Body:
    """Sort the nodes between the two ends by what they are for.

    targets: ids of the output nodes that ComfyUI was asked to run, and found valid; None: all.

    Raises:
        ConfigError: `image` is not connected to anything that depends on Loop Open, or the loop crosses another one.
    """
    graph = PromptGraph({i: dynprompt.get_node(i) for i in dynprompt.all_node_ids()})
    if not is_link(image):
        raise ConfigError("Loop Close: 'image' is not connected, but the plan has steps that make pictures.")
    originals = dynprompt.get_original_prompt()
    run = graph.above(targets) if targets is not None else set(graph.nodes)
    ends = [i for i in graph.ends_of(open_id) if i == close_id or i in run or i not in originals]
    region = region_between(graph, open_id, close_id, ends)
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
        if not is_output(graph.kind(node_id)) or not _is_run(node_id, dynprompt, targets):
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
        bool(outer_opens(graph, region, open_id, used)),
    )


def state_of_side_outputs(prompt: Mapping[str, Any], close_id: str, targets: Collection[str]) -> str:
    """Changes with the output nodes beside the images of a loop, which Loop Close does not depend on. "": none."""
    graph = PromptGraph(prompt)
    needed = graph.above([close_id])
    opens = graph.opens_of(close_id)
    while inner := {o for i in graph.closes_in(graph.below(opens)) for o in graph.opens_of(i)} - opens:
        opens |= inner
    beside = graph.below(opens) - graph.below([close_id]) - needed
    sides = graph.above(i for i in beside if i in targets and is_output(graph.kind(i))) - needed
    lines = [(i, graph.kind(i), sorted(graph.nodes[i]["inputs"].items())) for i in sorted(sides)]
    return hash_of(lines) if lines else ""


def _nodes_of_close(graph: PromptGraph, close_id: str, open_id: str, ends: Iterable[str]) -> set[str]:
    """What another Loop Close of the same Loop Open is made of."""
    inputs = graph.nodes[close_id]["inputs"]
    links = [inputs[name] for name in ("image", "judgment") if is_link(inputs.get(name))]
    region = graph.below(graph.children.get(open_id, ())) - graph.below(ends)
    return graph.above([link[0] for link in links], region)


def _inside_inner_loops(graph: PromptGraph, region: set[str], open_id: str) -> set[str]:
    """Nodes between an inner Loop Open and its Loop Close: the first gives them nothing outside of its loop."""
    closes = graph.closes_in(region)
    opens = {o for i in closes for o in graph.opens_of(i)} - {open_id}
    below = graph.below(child for o in opens for child in graph.children.get(o, ()))
    return (below & region) - graph.below(closes)


def _is_run(node_id: str, dynprompt: Any, targets: Collection[str] | None) -> bool:
    """Whether ComfyUI would run this output node. It runs all that are placed, and of the prompt those it was asked."""
    return targets is None or node_id in targets or node_id not in dynprompt.get_original_prompt()
