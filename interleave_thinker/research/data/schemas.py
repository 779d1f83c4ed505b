"""JSON Schemas (2020-12) of everything that `data` writes; `docs/schemas` holds them as files."""

from __future__ import annotations

from typing import Any

from .records import RECORDS, schema

_TEXT = {"type": "string"}
_PATHS = {"type": "array", "items": {"type": "string"}}


def _object(title: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_closed(properties),
    }


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _turn(role: str, content: dict[str, Any]) -> dict[str, Any]:
    return _closed({"role": {"const": role}, "content": content})


def _turns(*roles_and_contents: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    turns = [_turn(role, content) for role, content in roles_and_contents]
    return {"type": "array", "prefixItems": turns, "items": False, "minItems": len(turns)}


_MARK = {"type": "number", "minimum": 0, "maximum": 10}
_PARTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "oneOf": [_closed({"type": {"const": "image"}}), _closed({"type": {"const": "text"}, "text": _TEXT})],
    },
}
_DIALOGUE = _turns(("user", _TEXT), ("assistant", _TEXT))

SCHEMAS: dict[str, dict[str, Any]] = {
    **{name: schema(cls) for name, cls in RECORDS.items()},
    "trl": _object(
        "Row for TRL's SFTTrainer",
        {"prompt": _turns(("user", _PARTS)), "completion": _turns(("assistant", _PARTS)), "images": _PATHS},
    ),
    "sharegpt": _object("Row for LLaMA-Factory", {"messages": _DIALOGUE, "images": _PATHS}),
    "critic_rl": _object(
        "State for single-step GRPO",
        {
            "id": _TEXT,
            "origin_prompt": _TEXT,
            "rewritten_prompt": _TEXT,
            "origin_image_path": _TEXT,
            "edited_image_path": _TEXT,
            "evaluation": _closed({"semantics": _MARK, "quality": _MARK, "success": {"type": "boolean"}}),
        },
    ),
    "sequence": _object("Interleaved sequence, easy or hard", {"id": _TEXT, "messages": _DIALOGUE, "images": _PATHS}),
}
