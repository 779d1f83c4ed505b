"""The pack's socket types and what all node schemas share."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

AGENT = io.Custom("INTERLEAVE_AGENT")
PLAN = io.Custom("INTERLEAVE_PLAN")
LOOP = io.Custom("INTERLEAVE_LOOP")
JUDGMENT = io.Custom("INTERLEAVE_JUDGMENT")
DOCUMENT = io.Custom("INTERLEAVE_DOCUMENT")

CATEGORY = "InterleaveThinker"
PREFIX = "InterleaveThinker"

_KNOWN = {f.name for f in dataclasses.fields(io.Schema)}


def schema(name: str, **values: Any) -> io.Schema:
    """A V3 schema with our prefix and category; fields that this ComfyUI does not know are left out."""
    values.setdefault("category", CATEGORY)
    return io.Schema(node_id=PREFIX + name, **{k: v for k, v in values.items() if k in _KNOWN})


def internal_schema(name: str, **values: Any) -> io.Schema:
    """A node that only the loop itself places into the graph; hidden from menus."""
    return schema(name, category=f"{CATEGORY}/internal", is_dev_only=True, **values)


def user_images(tooltip: str) -> io.Autogrow.Input:
    """A growing row of picture sockets; pictures may differ in size."""
    template = io.Autogrow.TemplatePrefix(
        io.Image.Input("image", tooltip="A picture, or a batch of pictures."), prefix="image_", min=0, max=16
    )
    return io.Autogrow.Input("images", template=template, optional=True, tooltip=tooltip)
