"""Describe the nodes of shipped workflows that ComfyUI 0.30 lacks, as /object_info would: newer/nodes.json.

    python workflows/newer_nodes.py TEMPLATES

TEMPLATES: the folder `templates` of comfyui-workflow-templates-json 0.1.123, unpacked. Sockets, outputs and addresses
of models are read from it. Templates show a widget's value, but not always its name and never its range: those are
stated here, as ComfyUI's help of its nodes has them (comfyui-embedded-docs 0.5.15). A ComfyUI that has a node is asked
itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

DESCRIBED = Path(__file__).resolve().parent / "newer" / "nodes.json"
TEXT = ["STRING", {"multiline": True}]
MEGAPIXELS = ["FLOAT", {"default": 1.0, "min": 0.01, "max": 16.0}]
NODES: Json = {
    "ReferenceMultiLatent": {
        "name": "Set Reference Multi Latent",
        "most": 100,
        "widgets": {
            "resolution": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "options": [
                        {"key": "keep resolution", "inputs": {}},
                        {"key": "resize", "inputs": {"required": {"megapixels": MEGAPIXELS}}},
                    ]
                },
            ]
        },
    },
    "TextEncodeQwenImage21": {
        "name": "Text Encode Qwen Image 2.1",
        "most": 16,
        "widgets": {
            "prompt": TEXT,
            "negative_prompt": TEXT,
            "resolution": ["INT", {"default": 1024, "min": 0, "max": 4096, "step": 32}],
        },
    },
}
"""By class: its title, how many pictures it takes at most, and its widgets in the order of their values."""
CHOICES = {("CLIPLoader", "type"): {"flux3"}}
"""Values of older nodes that only a newer ComfyUI offers, and that the templates use."""


def with_newer(info: Mapping[str, Any]) -> Json:
    """What a server says of its nodes, with the description of those that it lacks."""
    return json.loads(DESCRIBED.read_text(encoding="utf-8"))["nodes"] | info


def describe(graphs: list[Json]) -> Json:
    """Raises:
    SystemExit: a template has a node otherwise than it is stated here.
    """
    graphs = [graph for graph in graphs if any(node["type"] in NODES for node in _nodes(graph))]
    nodes = [node for graph in graphs for node in _nodes(graph)]
    described = {kind: _described(kind, [n for n in nodes if n["type"] == kind]) for kind in NODES}
    for (kind, name), wanted in CHOICES.items():
        seen = {v for n in nodes if n["type"] == kind for v in n["widgets_values"]}
        if wanted - seen:
            raise SystemExit(f"{kind}.{name}: no template uses {wanted - seen}")
    choices = {kind: {name: sorted(values)} for (kind, name), values in CHOICES.items()}
    models = {(m["name"], m["url"], m["directory"]) for n in nodes for m in n["properties"].get("models") or []}
    return {"nodes": described, "choices": choices, "models": sorted(models)}


def _nodes(graph: Json) -> Iterator[Json]:
    yield from graph.get("nodes") or []
    for inner in (graph.get("definitions") or {}).get("subgraphs", []):
        yield from inner.get("nodes") or []


def _described(kind: str, nodes: list[Json]) -> Json:
    stated = NODES[kind]
    if not nodes:
        raise SystemExit(f"{kind}: no template has it")
    inputs: Json = {"required": {}, "optional": {}}
    for socket in (s for node in nodes for s in node["inputs"] if not s.get("widget")):
        group, dot, first = socket["name"].partition(".")
        if group in inputs["required"] | inputs["optional"]:
            continue
        is_optional = socket.get("shape") == 7
        spec = _grown(first, socket["type"], is_optional, stated["most"]) if dot else [socket["type"], {}]
        behind = is_optional and (not dot or inputs["optional"])
        inputs["optional" if behind else "required"][group] = spec
    inputs["required"] |= stated["widgets"]
    shown = {s["name"] for node in nodes for s in node["inputs"] if s.get("widget")}
    values = {len(node["widgets_values"]) for node in nodes}
    most = sum(1 + _most_inside(spec) for spec in stated["widgets"].values())
    if shown - set(stated["widgets"]) or max(values) != most:
        raise SystemExit(f"{kind}: templates show the widgets {shown} and {values} values")
    outputs = nodes[0]["outputs"]
    return {
        "input": inputs,
        "output": [o["type"] for o in outputs],
        "output_name": [o["name"] for o in outputs],
        "display_name": stated["name"],
        "output_node": False,
    }


def _grown(first: str, kind: str, is_optional: bool, most: int) -> list[Any]:
    """A group of sockets that grows. first: the name of its first socket."""
    prefix, number = re.fullmatch(r"(.*?)(\d+)", first).groups()  # type: ignore[union-attr]
    begin = int(number)
    names = (
        {"names": [f"{prefix}{i}" for i in range(begin, begin + most)]} if begin else {"prefix": prefix, "max": most}
    )
    template = {"input": {"required": {"image": [kind, {}]}}, "min": 0 if is_optional else 1, **names}
    return ["COMFY_AUTOGROW_V3", {"template": template}]


def _most_inside(spec: list[Any]) -> int:
    """Widgets that a choice adds, at most."""
    return max((len(o["inputs"].get("required", {})) for o in spec[1].get("options", [])), default=0)


def main() -> None:
    paths = sorted(Path(sys.argv[1]).glob("*.json")) if len(sys.argv) == 2 else []
    if not paths:
        raise SystemExit(__doc__)
    graphs = [json.loads(path.read_bytes()) for path in paths]
    text = json.dumps(describe([g for g in graphs if isinstance(g, dict)]), indent=2) + "\n"
    DESCRIBED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
