"""Make the editor's workflows (*.json) from the API files (api/*.json), which are their source.

    python workflows/make_ui.py [--url http://127.0.0.1:8188]

Needs a running ComfyUI with this pack, because only it knows the order of a node's sockets and widgets.
What the API files do not hold (places, notes, addresses of models, nodes that only show something) is in pages.py.
Nodes that this ComfyUI lacks are taken as newer/nodes.json describes them.
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from newer_nodes import NODES, with_newer
from pages import AGENTS, GRAPH, JUDGE, MODELS, PAGES, PLAN, RESULT, Group, Page

from interleave_thinker.contract import PREFIX

HERE = Path(__file__).resolve().parent
COMFYUI, FRONTEND = "0.30.0", "1.47.12"
OURS = "interleave-thinker"

Json = dict[str, Any]

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
AUTOGROW, DYNAMIC_COMBO, MATCH = "COMFY_AUTOGROW_V3", "COMFY_DYNAMICCOMBO_V3", "COMFY_MATCHTYPE_V3"
OPTIONAL_SHAPE = 7
SEEDS = ("seed", "noise_seed")
CLIENT_TITLES = ("Request", "Seed", "Run", "Document", "Pictures")
"""Titles by which API clients find a node (docs/api.md). The editor shows the node's own name."""
COLORS = {AGENTS: "#8A8", PLAN: "#b58b2a", GRAPH: "#3f789e", JUDGE: "#a1309b", RESULT: "#88A"}

GAP, TITLE, FRAME, HEAD = 40, 30, 30, 50
"""Between nodes; a node's title, above its place; between frame and nodes; a group's heading."""
WIDTH, ROW, WIDGET, TEXT, EDGE = 320, 20, 30, 150, 60
WIDTHS = {
    "InterleaveThinkerPlanner": 420,
    "InterleaveThinkerSaveDocument": 460,
    "GeminiImage2Node": 420,
    "CLIPLoader": 360,
    "UNETLoader": 360,
    "LoraLoaderModelOnly": 400,
    "PrimitiveStringMultiline": 420,
    "TextGenerate": 400,
    "StringReplace": 400,
    "PreviewAny": 460,
    "ConditioningZeroOut": 260,
    "GetImageSize": 260,
    "TextEncodeQwenImage21": 420,
}
SHOWS = {
    "PreviewImage": 320,
    "SaveImage": 320,
    "LoadImage": 320,
    "InterleaveThinkerSaveDocument": 560,
    "InterleaveThinkerPlanner": 160,
    "InterleaveThinkerCriticRefine": 100,
    "InterleaveThinkerJudgment": 80,
    "InterleaveThinkerLoopClose": 60,
    "PreviewAny": 140,
}
"""Extra height for what a node shows when it has run."""


@dataclass
class Slot:
    """One input of a node as the editor has it. `extra`: values of widgets that the editor adds behind it."""

    name: str
    type: str
    optional: bool
    widget: bool
    default: Any = None
    multiline: bool = False
    label: str | None = None
    extra: list[Any] = field(default_factory=list)


def slots(described: Json, given: Json) -> list[Slot]:
    """A node's inputs in the editor's order: sockets, then widgets."""
    found = []
    for kind in ("required", "optional"):
        for name, spec in (described["input"].get(kind) or {}).items():
            found += _slots_of(name, spec, kind == "optional", given)
    return [s for s in found if not s.widget] + [s for s in found if s.widget]


def _slots_of(name: str, spec: Any, optional: bool, given: Json) -> Iterator[Slot]:
    kind = spec[0]
    options = spec[1] if len(spec) > 1 else {}
    if isinstance(kind, list):
        kind, options = "COMBO", {"options": kind, **options}
    if kind == AUTOGROW:
        yield from _grown(name, options["template"], optional, given)
    elif kind == DYNAMIC_COMBO:
        yield Slot(name, kind, optional, True, options["options"][0]["key"])
        chosen = next(o for o in options["options"] if o["key"] == given[name])
        for inner in ("required", "optional"):
            for child, child_spec in (chosen["inputs"].get(inner) or {}).items():
                yield from _slots_of(f"{name}.{child}", child_spec, inner == "optional", given)
    elif kind in WIDGETS and not options.get("forceInput"):
        slot = Slot(name, kind, optional, True, _default(kind, options), bool(options.get("multiline")))
        control = options.get("control_after_generate")
        if (kind == "INT" and name in SEEDS) if control is None else control:
            slot.extra.append("fixed")
        if options.get("image_upload"):
            slot.extra.append("image")
        yield slot
    else:
        yield Slot(name, kind, optional, False)


def _grown(name: str, template: Json, optional: bool, given: Json) -> Iterator[Slot]:
    """Sockets that grow: the ones in use and one more."""
    (spec,) = [s for kind in template["input"].values() for s in kind.values()]
    used = sum(g.startswith(name + ".") for g in given)
    least = template.get("min", 1)
    labels = template.get("names") or [f"{template['prefix']}{i}" for i in range(template.get("max", 100))]
    for number, label in enumerate(labels[: max(used, least) + 1]):
        yield Slot(f"{name}.{label}", spec[0], optional or number >= least, False, label=label)


def _default(kind: str, options: Json) -> Any:
    if "default" in options:
        return options["default"]
    if kind == "COMBO":
        return (options.get("options") or [None])[0]
    return {"STRING": "", "BOOLEAN": False}.get(kind, options.get("min", 0))


def unwrapped(text: str) -> str:
    """Markdown with one line a paragraph: the editor shows every line break."""
    return re.sub(r"(?<!\n)\n *(?!\n|- )", " ", text.strip())


@dataclass
class Maker:
    """One workflow on its way: `api` with what the editor shows besides, with what ComfyUI says of its nodes (`info`),
    laid out by `page`.
    """

    name: str
    api: Json
    info: Mapping[str, Json]
    page: Page
    links: list[list[Any]] = field(default_factory=list)
    nodes: dict[str, Json] = field(default_factory=dict)
    groups: list[Json] = field(default_factory=list)

    def make(self) -> Json:
        for node_id in sorted(self.api, key=int):
            self.nodes[node_id] = self._node(node_id)
        self._connect()
        note = self._note()
        self._place(note)
        everything = [note, *self.nodes.values()]
        for order, node in enumerate(self._ordered()):
            node["order"] = order + 1
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{OURS}/{self.name}")),
            "revision": 0,
            "last_node_id": note["id"],
            "last_link_id": len(self.links),
            "nodes": everything,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {
                "ds": {"scale": 0.6, "offset": [80, 120]},
                "frontendVersion": FRONTEND,
                "workflowRendererVersion": "LG",
            },
            "version": 0.4,
        }

    def _described(self, node_id: str) -> Json:
        return self.info[self.api[node_id]["class_type"]]

    def _node(self, node_id: str) -> Json:
        node, described = self.api[node_id], self._described(node_id)
        kind, given = node["class_type"], node["inputs"]
        inputs, values = [], []
        found = slots(described, given)
        unknown = set(given) - {s.name for s in found}
        missing = {s.name for s in found if s.name not in given and (s.widget or not s.optional)}
        if unknown or missing:
            raise SystemExit(f"{self.name}, node {node_id} ({kind}): unknown {unknown}, missing {missing}")
        for slot in found:
            linked = isinstance(given.get(slot.name), list)
            if slot.widget:
                values += [slot.default if linked else given[slot.name], *slot.extra]
            if linked or not slot.widget:
                inputs.append(self._input(slot))
        outputs = [
            {"name": name, "type": self._type([node_id, i]), "links": None}
            for i, (_, name) in enumerate(zip(described["output"], described["output_name"], strict=True))
        ]
        sockets = max(sum(not s.widget for s in found), len(outputs))
        height = EDGE + ROW * sockets + sum(TEXT if s.multiline else WIDGET for s in found if s.widget)
        height += sum(WIDGET * len(s.extra) for s in found)
        made = {
            "id": int(node_id),
            "type": kind,
            "pos": [0, 0],
            "size": [WIDTHS.get(kind, WIDTH), height + SHOWS.get(kind, 0)],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": inputs,
            "outputs": outputs,
            "properties": self._properties(kind, values),
            "widgets_values": values,
        }
        title = node.get("_meta", {}).get("title")
        if title and title not in (*CLIENT_TITLES, described["display_name"] or kind):
            made["title"] = title
        return made

    def _input(self, slot: Slot) -> Json:
        made: Json = {"name": slot.name, "type": slot.type, "link": None}
        if slot.optional and not slot.widget:
            made["shape"] = OPTIONAL_SHAPE
        if slot.label:
            made["label"] = slot.label
        if slot.widget:
            made["widget"] = {"name": slot.name}
        return made

    def _properties(self, kind: str, values: list[Any]) -> Json:
        made: Json = {"Node name for S&R": kind}
        if kind.startswith(PREFIX):
            made["cnr_id"] = OURS
        else:
            made |= {"cnr_id": "comfy-core"} | ({} if kind in NODES else {"ver": COMFYUI})
        files = [v for v in values if isinstance(v, str) and v in MODELS]
        if files:
            made["models"] = [{"name": f, "url": MODELS[f][1], "directory": MODELS[f][0]} for f in files]
        return made

    def _type(self, link: list[Any]) -> str:
        """The type of an output; that of a switch is what is connected to it."""
        kind: str = self._described(link[0])["output"][link[1]]
        if kind != MATCH:
            return kind
        matched = next(v for n, v in self.api[link[0]]["inputs"].items() if n != "switch" and isinstance(v, list))
        return self._type(matched)

    def _connect(self) -> None:
        for node_id, node in self.nodes.items():
            for place, slot in enumerate(node["inputs"]):
                link = self.api[node_id]["inputs"].get(slot["name"])
                if not isinstance(link, list):
                    continue
                number, kind = len(self.links) + 1, self._type(link)
                self.links.append([number, int(link[0]), link[1], int(node_id), place, kind])
                slot["link"] = number
                if slot["type"] == MATCH:
                    slot["type"] = kind
                output = self.nodes[link[0]]["outputs"][link[1]]
                output["links"] = [*(output["links"] or []), number]

    def _ordered(self) -> list[Json]:
        done: dict[str, Json] = {}

        def visit(node_id: str) -> None:
            if node_id in done:
                return
            for value in self.api[node_id]["inputs"].values():
                if isinstance(value, list):
                    visit(value[0])
            done[node_id] = self.nodes[node_id]

        for node_id in self.nodes:
            visit(node_id)
        return list(done.values())

    def _note(self) -> Json:
        text = unwrapped(self.page.note)
        files = sorted({m["name"] for n in self.nodes.values() for m in n["properties"].get("models", [])})
        if files:
            text += "\n\n**Files**\n" + "".join(f"\n- [{f}]({MODELS[f][1]}) in `models/{MODELS[f][0]}`" for f in files)
        lines = sum(1 + len(line) // 52 for line in text.split("\n"))
        return {
            "id": max(int(i) for i in self.nodes) + 1,
            "type": "MarkdownNote",
            "pos": [0, 0],
            "size": [440, 80 + 21 * lines],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "properties": {},
            "widgets_values": [text],
            "color": "#432",
            "bgcolor": "#653",
            "title": "Read me",
        }

    def _place(self, note: Json) -> None:
        placed = [i for stack in self.page.stacks for group in stack for column in group.columns for i in column]
        if sorted(placed) != sorted(self.nodes):
            raise SystemExit(f"{self.name}: pages.py places {sorted(set(placed) ^ set(self.nodes))} wrongly")
        note["pos"] = [0, TITLE]
        x = note["size"][0] + GAP
        for stack in self.page.stacks:
            y, widest = 0, 0
            for group in stack:
                width, height = self._place_group(group, x, y)
                y += height + GAP
                widest = max(widest, width)
            x += widest + GAP

    def _place_group(self, group: Group, x: int, y: int) -> tuple[int, int]:
        left, lowest = x + FRAME, y
        for column in group.columns:
            top = y + HEAD + TITLE
            for node_id in column:
                self.nodes[node_id]["pos"] = [left, top]
                top += self.nodes[node_id]["size"][1] + GAP + TITLE
            lowest = max(lowest, top - GAP - TITLE)
            left += max(self.nodes[i]["size"][0] for i in column) + GAP
        size = left - GAP + FRAME - x, lowest + FRAME - y
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": group.title,
                "bounding": [x, y, *size],
                "color": COLORS.get(group.title, "#3f789e"),
                "font_size": 24,
                "flags": {},
            }
        )
        return size


def main() -> int:
    parser = argparse.ArgumentParser(description="make workflows/*.json from workflows/api/*.json")
    parser.add_argument("--url", default="http://127.0.0.1:8188", help="a running ComfyUI with this pack")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    chosen = parser.parse_args()
    with urllib.request.urlopen(f"{chosen.url}/object_info", timeout=60) as reply:
        info = with_newer(json.load(reply))
    stale = []
    for name, page in PAGES.items():
        api = json.loads((HERE / "api" / f"{name}.json").read_text(encoding="utf-8"))
        text = json.dumps(Maker(name, api | page.shown, info, page).make(), indent=2, ensure_ascii=False) + "\n"
        path = HERE / f"{name}.json"
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not chosen.check:
            path.write_text(text, encoding="utf-8")
    print(("out of date: " if chosen.check else "written: ") + (", ".join(stale) or "nothing"))
    return int(chosen.check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
