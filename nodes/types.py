"""The pack's socket types and what all node schemas share."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from comfy_api.latest import io

from ..interleave_thinker.contract import MAX_SEED, PREFIX
from ..interleave_thinker.errors import ConfigError

AGENT = io.Custom("INTERLEAVE_AGENT")
PLAN = io.Custom("INTERLEAVE_PLAN")
LOOP = io.Custom("INTERLEAVE_LOOP")
JUDGMENT = io.Custom("INTERLEAVE_JUDGMENT")
DOCUMENT = io.Custom("INTERLEAVE_DOCUMENT")

CATEGORY = "InterleaveThinker"

_SOURCES = {
    "AgentValue": "Agent from CLIP, Load Agent or Agent from Server",
    "Plan": "Planner or Plan from Text",
    "LoopContext": "the 'loop' of Loop Open",
    "Judgment": "Critic-Refine, or Judgment, which takes any verdict",
    "Document": "Loop Close",
    "str": "a node that gives text",
}
"""What gives a value of each type."""

T = TypeVar("T")

_KNOWN = {f.name for f in dataclasses.fields(io.Schema)}


def schema(name: str, **values: Any) -> io.Schema:
    """A V3 schema with our prefix and category; fields that this ComfyUI does not know are left out."""
    values.setdefault("category", CATEGORY)
    return io.Schema(node_id=PREFIX + name, **{k: v for k, v in values.items() if k in _KNOWN})


def internal_schema(name: str, **values: Any) -> io.Schema:
    """A node that only the loop itself places into the graph; hidden from menus."""
    return schema(name, category=f"{CATEGORY}/internal", is_dev_only=True, **values)


def expect(value: Any, kind: type[T], what: str) -> T:
    """A value that came through a socket: reroutes and switches of any type let others pass.

    Raises:
        ConfigError: it is of another kind; names `what` it should be and the node it comes from.
    """
    if isinstance(value, kind):
        return value
    came = "nothing" if value is None else f"a value of type {type(value).__name__}"
    raise ConfigError(f"{what} got {came}. Connect {_SOURCES[kind.__name__]}.")


def only(values: Any, node: str, name: str) -> Any:
    """The first value of a list input.

    Raises:
        ConfigError: the list is empty.
    """
    if not values:
        raise ConfigError(f"{node}: {name!r} got an empty list. Connect a node that gives a value.")
    return values[0]


def user_images(tooltip: str) -> io.Autogrow.Input:
    """A growing row of image sockets; images may differ in size."""
    template = io.Autogrow.TemplatePrefix(
        io.Image.Input("image", tooltip="A picture, or a batch of pictures."), prefix="image_", min=0, max=16
    )
    return io.Autogrow.Input("images", template=template, optional=True, tooltip=tooltip)


def seed_input(tooltip: str, **options: Any) -> io.Int.Input:
    options = {"control_after_generate": io.ControlAfterGenerate.fixed, **options}
    return io.Int.Input("seed", default=0, min=0, max=MAX_SEED, tooltip=tooltip, **options)


def dtype_input(tooltip: str) -> io.Combo.Input:
    names = ["auto", "bfloat16", "float16", "float32"]
    return io.Combo.Input("dtype", options=names, default="auto", advanced=True, tooltip=tooltip)
