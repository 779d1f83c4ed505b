"""The graph of a prompt: what depends on what, and what lies between the ends of a loop. Reads; places nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from comfy_execution.graph_utils import is_link

import nodes

from ..interleave_thinker.contract import NODE_IDS
from ..interleave_thinker.errors import ConfigError

Link = list[Any]


_NOT_COPIED = {"class_type", "inputs", "_meta", "is_changed", "override_display_id"}


def links_of(node: Mapping[str, Any]) -> list[Link]:
    return [v for v in node["inputs"].values() if is_link(v)]


def notes_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """What ComfyUI notes at a node beside class and inputs.

    At a Start Loop it is `_loop_body`, the ids of the nodes up to its End Loop, and `_loop_end`, that of the End Loop.
    """
    return {name: value for name, value in node.items() if name not in _NOT_COPIED}


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same with other ids, wherever in it they are."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {renamed(name, names): renamed(part, names) for name, part in value.items()}
    return [renamed(part, names) for part in value] if isinstance(value, (list, tuple)) else value


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts_in([*value, *value.values()])
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts_in(part)


class PromptGraph:
    """nodes: of a prompt, by id. bound: the nodes that one's notes name, by its id. It cannot run without them."""

    def __init__(self, nodes: Mapping[str, Any]):
        self.nodes = nodes
        self.children: dict[str, set[str]] = {}
        self.bound: dict[str, set[str]] = {}
        for node_id, node in self.nodes.items():
            for link in links_of(node):
                self.children.setdefault(link[0], set()).add(node_id)
            if notes := notes_of(node):
                self.bound[node_id] = {text for text in _texts_in(notes) if text in nodes}

    def kind(self, node_id: str) -> str:
        return str(self.nodes[node_id]["class_type"])

    def below(self, start: Iterable[str]) -> set[str]:
        """`start` and all that depends on it."""
        return reachable(start, lambda i: self.children.get(i, ()))

    def above(
        self, start: Iterable[str], within: Collection[str] | None = None, stop_at: Link | None = None
    ) -> set[str]:
        """`start` and all that it needs. within: other nodes are left out. stop_at: this output counts as given."""

        def needs(node_id: str) -> list[str]:
            links = links_of(self.nodes[node_id]) if node_id in self.nodes else []
            needed = [link[0] for link in links if link != stop_at] + sorted(self.bound.get(node_id, ()))
            return [other for other in needed if within is None or other in within]

        return reachable([i for i in start if within is None or i in within], needs)

    def opens_of(self, close_id: str) -> set[str]:
        """The Loop Opens whose `loop` reaches this Loop Close, also through reroutes and switches."""
        found: set[str] = set()

        def carriers(node_id: str) -> list[str]:
            if node_id in self.nodes and self.kind(node_id) == NODE_IDS.loop_open:
                found.add(node_id)
                return []
            return [link[0] for link in links_of(self.nodes.get(node_id, {"inputs": {}}))]

        link = self.nodes[close_id]["inputs"].get("loop")
        reachable([link[0]] if is_link(link) else [], carriers)
        return found

    def ends_of(self, open_id: str) -> list[str]:
        return [i for i in self.closes_in(self.below([open_id])) if open_id in self.opens_of(i)]

    def closes_in(self, node_ids: Iterable[str]) -> list[str]:
        return sorted(i for i in node_ids if i in self.nodes and self.kind(i) == NODE_IDS.loop_close)


def region_between(graph: PromptGraph, open_id: str, close_id: str, ends: Iterable[str]) -> set[str]:
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
                f"Two loops cross: Loop Open {open_id} is inside of the loop of Loop Open {min(crossing)}, whose Loop "
                f"Close stands before Loop Close {close_id}. Put one loop wholly into the other."
            )
        if inner <= starts:
            _check_whole(graph, region, open_id)
            return region
        starts |= inner


def _check_whole(graph: PromptGraph, region: Collection[str], open_id: str) -> None:
    """Raises:
    ConfigError: a Start Loop, a node of its loop or its End Loop is in the region, but not all of them are.
    """

    def named(node_id: str) -> str:
        return f"node {node_id} ({graph.kind(node_id)})"

    for start, bound in sorted(graph.bound.items()):
        if "_loop_end" not in graph.nodes[start]:
            continue
        if start in region:
            apart = bound.difference(region)
        elif bound.isdisjoint(region) or open_id in bound:  # this loop is inside of that one
            continue
        else:
            apart = bound.intersection(graph.ends_of(open_id))
            if not apart:
                raise ConfigError(
                    f"Loop Open {open_id} does not lead to {named(start)}, which repeats "
                    f"{named(min(bound.intersection(region)))} inside of the loop. Connect 'step' of Loop Open "
                    f"{open_id} to an input of node {start}, such as 'parent_iteration'."
                )
        if apart:
            end = min(apart, key=lambda i: (not apart.isdisjoint(graph.children.get(i, ())), i))
            raise ConfigError(
                f"Two loops cross: that of Loop Open {open_id} and that of {named(start)}, to which {named(end)} "
                "belongs. Put one loop wholly into the other."
            )


def outer_opens(graph: PromptGraph, region: set[str], open_id: str, used: set[str]) -> set[str]:
    """Loop Opens whose values this loop uses: it is inside of theirs."""

    def needs(node_id: str) -> list[str]:
        if graph.kind(node_id) == NODE_IDS.loop_close and node_id not in region:
            return []  # of a loop before this one: its inside is its own
        return [link[0] for link in links_of(graph.nodes[node_id]) if link[0] in graph.nodes]

    others = {i for i in graph.nodes if graph.kind(i) == NODE_IDS.loop_open} - region - {open_id}
    inside = reachable(used, needs)
    return {link[0] for i in inside for link in links_of(graph.nodes[i]) if link[0] in others and link[1] != 0}


def is_output(kind: str) -> bool:
    return bool(getattr(nodes.NODE_CLASS_MAPPINGS.get(kind), "OUTPUT_NODE", False))


def has_outputs(kind: str) -> bool:
    return bool(getattr(nodes.NODE_CLASS_MAPPINGS.get(kind), "RETURN_TYPES", ()))


def input_of(kind: str, name: str) -> tuple[tuple[Any, ...], bool]:
    """How an input is declared, and whether it is required."""
    described = nodes.NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()
    required = described.get("required", {}).get(name)
    declared: tuple[Any, ...] = required or described.get("optional", {}).get(name) or (None, {})
    return tuple(declared), required is not None


def reachable(start: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        node_id = waiting.pop()
        if node_id not in seen:
            seen.add(node_id)
            waiting += following(node_id)
    return seen
