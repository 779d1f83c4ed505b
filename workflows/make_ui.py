"""Make the editor's workflows (*.json, by their titles) from the API files (api/*.json), which are their source.

    python workflows/make_ui.py [--url http://127.0.0.1:8188]

Needs a running ComfyUI with this pack, because only it knows the order of a node's sockets and widgets.
What the API files do not hold (names, places, notes, addresses of models, nodes that only show something) is in
pages.py. Nodes that this ComfyUI lacks are taken as newer/nodes.json describes them.
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
from pages import ABOUT, COLORS, GRAPH, MODELS, PAGES, REQUEST, START, Group, Page

from interleave_thinker.contract import NODE_IDS, OPENING, PREFIX

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

GAP, ASIDE, TITLE, FRAME, HEAD = 40, 70, 30, 20, 40
"""Between nodes; between stacks; a node's title, above its place; between frame and nodes; a group's heading."""
WIDTH, ROW, WIDGET, LINKED_TEXT, TEXT, EDGE = 270, 20, 24, 56, 110, 28
"""Of a node: its width, and the heights of what it holds. Nodes 2.0 needs a little more than the canvas."""
LETTER, BESIDE_TITLE = 7, 50
"""Of a title."""
WIDTHS = {
    "InterleaveThinkerPlanner": 420,
    "InterleaveThinkerSaveDocument": 420,
    "GeminiImage2Node": 320,
    "InterleaveThinkerGenerateOrEdit": 300,
    "CLIPLoader": 320,
    "UNETLoader": 320,
    "LoraLoaderModelOnly": 340,
    "PrimitiveStringMultiline": 380,
    "TextGenerate": 320,
    "StringReplace": 320,
    "PreviewAny": 360,
    "TextEncodeQwenImage21": 350,
}
SHOWS = {
    "PreviewImage": 250,
    "SaveImage": 250,
    "LoadImage": 220,
    "InterleaveThinkerSaveDocument": 400,
    "InterleaveThinkerPlanner": 100,
    "InterleaveThinkerCriticRefine": 60,
    "InterleaveThinkerJudgment": 60,
    "PreviewAny": 60,
}
"""Extra height for what a node shows when it has run."""
NOTES = {START: "START HERE", ABOUT: "About this workflow"}
NOTE_WIDTH, NOTE_LETTERS, NOTE_LINE = 360, 52, 15
BARS, WINDOW = (80, 110, 20, 20), (1280, 720)
"""What the editor has at the left, top, right and bottom of its window; the smallest window that is looked after."""


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
        notes = {name: self._note(name, number) for number, name in enumerate(NOTES, max(map(int, self.nodes)) + 1)}
        self._place(notes)
        everything = [*notes.values(), *self.nodes.values()]
        for order, node in enumerate([*notes.values(), *self._ordered()]):
            node["order"] = order
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{OURS}/{self.name}")),
            "revision": 0,
            "last_node_id": max(n["id"] for n in everything),
            "last_link_id": len(self.links),
            "nodes": everything,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {
                "ds": self._view(notes[START]),
                "frontendVersion": FRONTEND,
                "workflowRendererVersion": "LG",
                OPENING: True,
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
        title = node.get("_meta", {}).get("title") or ""
        if title in (*CLIENT_TITLES, described["display_name"]):
            title = ""
        width = max(WIDTHS.get(kind, WIDTH), BESIDE_TITLE + LETTER * len(title))
        sockets = max(sum(not s.widget for s in found), len(outputs))
        height = EDGE + ROW * sockets + sum(self._height(s, given) for s in found if s.widget)
        made = {
            "id": int(node_id),
            "type": kind,
            "pos": [0, 0],
            "size": [width, height + SHOWS.get(kind, 0)],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": inputs,
            "outputs": outputs,
            "properties": self._properties(kind, values),
            "widgets_values": values,
        }
        if title and title != kind:
            made["title"] = title
        return made

    def _height(self, slot: Slot, given: Json) -> int:
        if slot.multiline:
            return LINKED_TEXT if isinstance(given.get(slot.name), list) else TEXT
        return WIDGET * (1 + len(slot.extra))

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

    def _note(self, name: str, number: int) -> Json:
        text = self._first() if name == START else self._about()
        lines = sum(1 + len(line) // NOTE_LETTERS for line in re.sub(r"\]\(.*?\)|\*\*", "", text).split("\n"))
        return {
            "id": number,
            "type": "MarkdownNote",
            "pos": [0, 0],
            "size": [NOTE_WIDTH, 50 + NOTE_LINE * lines],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "properties": {},
            "widgets_values": [text],
            "color": "#432",
            "bgcolor": "#653",
            "title": NOTES[name],
        }

    def _first(self) -> str:
        lines = [f"{number}. {line}" for number, line in enumerate(self.page.first, 1)]
        kinds = {n["class_type"] for n in self.api.values()}
        after = "\n\nStopped? **Run** goes on where it was." if NODE_IDS.loop_close in kinds else ""
        return f"# {NOTES[START]}\n\n" + "\n".join(lines) + after

    def _about(self) -> str:
        text = unwrapped(self.page.about)
        files = sorted({m["name"] for n in self.nodes.values() for m in n["properties"].get("models", [])})
        if files:
            text += "\n\n**Files**\n" + "".join(f"\n- [{f}]({MODELS[f][1]}) in `models/{MODELS[f][0]}`" for f in files)
        return text

    def _view(self, start: Json) -> Json:
        """Note and request in the window, as large as they go; the editor's scale and offset."""
        request = self.nodes[REQUEST]
        ends = [[n["pos"][i] + n["size"][i] for i in (0, 1)] for n in (start, request)]
        width, height = (max(end[i] for end in ends) for i in (0, 1))
        left, top, right, bottom = BARS
        room = WINDOW[0] - left - right, WINDOW[1] - top - bottom
        scale = min(100, 100 * room[0] // width, 100 * room[1] // height) / 100
        return {"scale": scale, "offset": [round(left / scale), round(top / scale)]}

    def _place(self, notes: dict[str, Json]) -> None:
        placed = [i for stack in self.page.stacks for group in stack if isinstance(group, Group) for i in group.nodes]
        if sorted(placed) != sorted(self.nodes):
            raise SystemExit(f"{self.name}: pages.py places {sorted(set(placed) ^ set(self.nodes))} wrongly")
        x = 0
        for stack in self.page.stacks:
            y, widest = 0, 0
            for item in stack:
                if isinstance(item, int):
                    y += item
                    continue
                if isinstance(item, Group):
                    width, height = self._place_group(item, x, y)
                else:
                    notes[item]["pos"] = [x, y + TITLE]
                    width, height = notes[item]["size"][0], notes[item]["size"][1] + TITLE
                y += height + GAP
                widest = max(widest, width)
            x += widest + ASIDE

    def _place_group(self, group: Group, x: int, y: int) -> tuple[int, int]:
        left, lowest = x + FRAME, y
        for column in group.columns:
            top = y + HEAD + TITLE
            for item in column:
                if isinstance(item, int):
                    top += item
                    continue
                self.nodes[item]["pos"] = [left, top]
                top += self.nodes[item]["size"][1] + GAP + TITLE
            lowest = max(lowest, top - GAP - TITLE)
            left += max(self.nodes[i]["size"][0] for i in column if isinstance(i, str)) + GAP
        size = left - GAP + FRAME - x, lowest + FRAME - y
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": group.title,
                "bounding": [x, y, *size],
                "color": COLORS.get(group.title, COLORS[GRAPH]),
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
        path = HERE / page.file
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not chosen.check:
            path.write_text(text, encoding="utf-8")
    print(("out of date: " if chosen.check else "written: ") + (", ".join(stale) or "nothing"))
    return int(chosen.check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
