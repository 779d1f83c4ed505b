"""Following the links of a workflow in API format. Nodes are not known: names of inputs say what they carry."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

InputRef = tuple[str, str]
"""Node id and input name."""

IMAGE_INPUTS = ("images", "image")
"""How core's nodes call the input that they show or save. Other packs' names have "image" in them."""
_PICTURE = re.compile(r"image|(^|_)img(_|\d|$)|pixel|picture|photo|video|frame(?!s?_?(rate|count|num))", re.IGNORECASE)
_NO_PICTURE = re.compile(r"(?<!to_)latent|size|clip_vision|model|prompt|text", re.IGNORECASE)
_PICKED = re.compile(r"^(?:input|image|any|value|text|string|latent|conditioning)_?(\d+)$", re.IGNORECASE)
_POSITIONS = ("switch", "boolean", "condition", "bool", "enabled")
_NUMBERS = ("select", "index", "input_index", "Input")
_TURNS = re.compile(r"not(_?node)?$|^not|invert|negate|math|compare|logic", re.IGNORECASE)
"""Words in the class of a node that gives another value than the one that comes in."""
_CHOOSES = re.compile(r"switch|select|pick|choose|index|any", re.IGNORECASE)
"""Words in the class of a node of whose numbered inputs one is taken."""
MOST_HOPS = 50
"""Nodes that a typed value is followed through."""


def is_link(value: object) -> bool:
    """A link in API format: [node id, output number]."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    return isinstance(value[0], (str, int)) and isinstance(value[1], int)


def carries_picture(name: str) -> bool:
    """Whether an input of this name takes a picture's pixels."""
    return bool(_PICTURE.search(name)) and not _NO_PICTURE.search(name)


def live_inputs(workflow: Mapping[str, Any], node_id: str) -> dict[str, Any]:
    """The inputs of a node; of a switch whose position is known, only the side that it takes."""
    inputs = dict(workflow[node_id]["inputs"])
    if {"on_true", "on_false"} & set(inputs):
        position = next((typed_value(workflow, inputs[n]) for n in _POSITIONS if n in inputs), None)
        if isinstance(position, bool) and {"on_true", "on_false"} <= set(inputs):
            inputs.pop("on_false" if position else "on_true")
        return inputs
    if not _CHOOSES.search(str(workflow[node_id]["class_type"])):
        return inputs
    number = next((typed_value(workflow, inputs[n]) for n in _NUMBERS if n in inputs), None)
    sides = {name: int(found[1]) for name in inputs if (found := _PICKED.match(name))}
    if isinstance(number, int) and not isinstance(number, bool) and len(sides) > 1 and number in sides.values():
        return {name: value for name, value in inputs.items() if sides.get(name, number) == number}
    return inputs


def live_links(workflow: Mapping[str, Any], node_id: str) -> list[tuple[str, list[Any]]]:
    return [(name, value) for name, value in live_inputs(workflow, node_id).items() if is_link(value)]


def typed_value(workflow: Mapping[str, Any], value: object) -> object:
    """What is typed at the end of a link, through nodes that hand on one value; `value` itself where it is no link."""
    for _ in range(MOST_HOPS):
        if not isinstance(value, list) or not is_link(value):
            return value
        node = workflow.get(str(value[0]), {})
        if _TURNS.search(str(node.get("class_type", ""))):
            return None
        inputs = node.get("inputs", {})
        name = next((n for n in ("value", "boolean", "number", "int", "source") if n in inputs), None)
        if name is None:
            return None
        value = inputs[name]
    return None


def upstream(workflow: Mapping[str, Any], *node_ids: str, both_sides: bool = False) -> Iterator[str]:
    """The nodes and everything they depend on, nearest first; both_sides: or would if a switch were set otherwise."""
    seen: set[str] = set()
    waiting = deque(node_ids)
    while waiting:
        current = waiting.popleft()
        if current in seen or current not in workflow:
            continue
        seen.add(current)
        yield current
        inputs = workflow[current]["inputs"] if both_sides else live_inputs(workflow, current)
        waiting += [str(v[0]) for v in inputs.values() if is_link(v)]


def downstream(workflow: Mapping[str, Any], node_ids: Iterable[str], *, through: str = "") -> set[str]:
    """The nodes and everything that depends on them; through: by inputs of this name alone."""
    readers: dict[str, list[str]] = {}
    for node_id, node in workflow.items():
        for name, value in node["inputs"].items():
            if is_link(value) and (not through or name == through):
                readers.setdefault(str(value[0]), []).append(node_id)
    found: set[str] = set()
    waiting = list(node_ids)
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += readers.get(current, [])
    return found


def body_of(workflow: Mapping[str, Any], output: str) -> set[str]:
    """The nodes that the result depends on, or would if a switch were set otherwise; the output node left out."""
    return set(upstream(workflow, output, both_sides=True)) - {output}


def shown_input(workflow: Mapping[str, Any], output: str) -> str | None:
    """The input whose picture the output node shows; None where it shows none."""
    linked = [name for name, value in workflow[output]["inputs"].items() if is_link(value) and carries_picture(name)]
    return next((name for name in IMAGE_INPUTS if name in linked), linked[0] if linked else None)


def image_link(workflow: Mapping[str, Any], output: str) -> list[Any] | None:
    """The link whose picture the output node shows; None where it shows none."""
    name = shown_input(workflow, output)
    return list(workflow[output]["inputs"][name]) if name else None
