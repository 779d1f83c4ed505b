"""Stand-ins for nodes that a ComfyUI does not have: the sockets and widgets that workflow files show, and no function.

With them the editor opens workflows of another version, or of packs that are not installed, as their users see
them, and the server checks their links. Nothing of them can run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

CONTROLS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
VIRTUAL = {"Note", "MarkdownNote", "PrimitiveNode", "Reroute"}
"""Nodes that the editor itself makes."""
FOLDER = "stand_ins"
MOST = 2**53
"""The largest whole number of a widget that JavaScript keeps exactly."""

_PACK = '''"""Nodes without a function, as nodes.json describes them."""
import json
from pathlib import Path


class Anything(str):
    """Equal to every type, for sockets of several types."""

    def __ne__(self, other):
        return False


def made(name, facts):
    def types(cls):
        kinds = {kind: {} for kind in ("required", "optional")}
        for field in facts["inputs"]:
            kinds[field["kind"]][field["name"]] = (field["type"], field["options"])
        return kinds

    return type(name, (), {
        "INPUT_TYPES": classmethod(types),
        "RETURN_TYPES": tuple(Anything("*") if t == "*" else t for t in facts["outputs"]),
        "RETURN_NAMES": tuple(facts["output_names"]),
        "OUTPUT_NODE": facts["shows"],
        "FUNCTION": "run",
        "CATEGORY": "stand-in",
        "run": lambda self, **inputs: (None,) * len(facts["outputs"]),
    })


NODE_CLASS_MAPPINGS = {
    name: made(name, facts)
    for name, facts in json.loads(Path(__file__).with_name("nodes.json").read_text(encoding="utf-8")).items()
}
'''


def write_pack(custom_nodes: Path, graphs: Collection[Mapping[str, Any]], known: Collection[str]) -> dict[str, Any]:
    """Write the pack of all node types of `graphs` that are not `known`; returns what it describes, by type."""
    found: dict[str, dict[str, Any]] = {}
    for graph in graphs:
        inner = {str(g["id"]) for g in (graph.get("definitions") or {}).get("subgraphs", [])}
        for node in _nodes(graph):
            kind = str(node.get("type"))
            if kind in known or kind in VIRTUAL or kind in inner or re.match(r"workflow[/>]", kind):
                continue
            facts = found.setdefault(kind, {"inputs": [], "outputs": [], "output_names": [], "shows": False})
            _merge(facts, node)
    folder = custom_nodes / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nodes.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    (folder / "__init__.py").write_text(_PACK, encoding="utf-8")
    return found


def _nodes(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from graph.get("nodes") or []
    for inner in (graph.get("definitions") or {}).get("subgraphs", []):
        yield from inner.get("nodes") or []


def _merge(facts: dict[str, Any], node: Mapping[str, Any]) -> None:
    """Add what this node shows of its type: each occurrence may have grown other sockets."""
    by_name = {field["name"]: field for field in facts["inputs"]}
    widgets = _widgets(node)
    sockets = [s for s in node.get("inputs") or [] if not s.get("widget")]
    for socket in [*sockets, *widgets]:
        name, value = str(socket["name"]), socket.get("value")
        field = by_name.get(name)
        if field is None:
            field = by_name[name] = _field(socket, value)
            facts["inputs"].append(field)
        if isinstance(field["type"], list) and value is not None and value not in field["type"]:
            field["type"].append(value)
        if socket.get("controlled"):
            field["options"]["control_after_generate"] = True
    outputs = node.get("outputs") or []
    if len(outputs) > len(facts["outputs"]):
        facts["outputs"] = [str(o.get("type") or "*") for o in outputs]
        facts["output_names"] = [str(o.get("name") or "") for o in outputs]
    facts["shows"] = not facts["outputs"] or bool(re.match(r"Save|Preview", str(node.get("type"))))


def _widgets(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The widgets in the order of their values. Files name those that have a socket; the others get a name here."""
    named = [dict(s) for s in node.get("inputs") or [] if s.get("widget")]
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return [s | {"value": values.get(str(s["name"]))} for s in named]
    found: list[dict[str, Any]] = []
    for value in values or []:
        if value in CONTROLS and found and found[-1]["type"] in ("INT", "COMBO"):
            found[-1]["controlled"] = True
        elif named and _fits(named[0], value):
            found.append(named.pop(0) | {"value": value})
        else:
            # Words may be a prompt; one word is as a rule a choice of several.
            free = "text" if isinstance(value, str) and (" " in value.strip() or not value) else "value"
            name = free if free not in [f["name"] for f in found] else f"{free}_{len(found) + 1}"
            found.append({"name": name, "type": _kind_of(value), "widget": {"name": name}, "value": value})
    return [*found, *named]


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, (int, float)):
        return "INT" if isinstance(value, int) else "FLOAT"
    return "STRING"


def _fits(socket: Mapping[str, Any], value: object) -> bool:
    """Whether a value can be the widget's."""
    kind, of = str(socket.get("type")), _kind_of(value)
    return of == kind or (kind == "FLOAT" and of == "INT") or kind not in ("INT", "FLOAT", "STRING", "BOOLEAN")


def _field(socket: Mapping[str, Any], value: Any) -> dict[str, Any]:
    name, kind = str(socket["name"]), str(socket.get("type") or "*")
    if not socket.get("widget"):
        return {"name": name, "kind": "optional", "type": kind, "options": {}}
    options: dict[str, Any] = {}
    if kind in ("INT", "FLOAT"):
        options = {"default": 0, "min": -MOST, "max": MOST, "step": 1 if kind == "INT" else 0.001}
    elif kind == "STRING":
        options = {"default": "", "multiline": isinstance(value, str) and ("\n" in value or len(value) > 40)}
    elif kind == "BOOLEAN":
        options = {"default": False}
    elif "COMBO" in kind:
        return {"name": name, "kind": "required", "type": [], "options": {}}
    else:  # a widget that only its own version draws
        kind, options = "STRING", {"default": ""}
    return {"name": name, "kind": "required", "type": kind, "options": options}
