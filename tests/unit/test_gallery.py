"""What a new user sees of the shipped workflows: their names and thumbnails in the gallery, and how they lie open.

Nothing here needs ComfyUI; tests/browser/test_templates.py looks at the same in the editor.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "workflows"
sys.path.insert(0, str(FOLDER))

from make_thumbnails import EDGE, diagram  # noqa: E402
from pages import PAGES, REQUEST, RUN  # noqa: E402

Json = dict[str, Any]
Box = tuple[float, float, float, float]

TITLE, SLOT, WIDGET = 30, 20, 24
"""Heights in the editor: of a node's title, above its place, of a socket and of a widget."""
WINDOW: Box = (60, 90, 1280, 720)
"""What the editor's bars leave of a small window."""
CARD_LETTERS = 34
"""Of a name, that a card shows in one line."""
TINY = "tiny_story"

each = pytest.mark.parametrize("name", sorted(PAGES))


def workflow(name: str) -> Json:
    found: Json = json.loads((FOLDER / PAGES[name].file).read_text(encoding="utf-8"))
    return found


def nodes(name: str) -> dict[int, Json]:
    return {node["id"]: node for node in workflow(name)["nodes"]}


def start(name: str) -> Json:
    (note,) = [node for node in nodes(name).values() if node.get("title") == "START HERE"]
    return note


def box(node: Json) -> Box:
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


# ---- in the gallery


@each
def test_a_name_is_made_of_words_and_fits_a_card(name: str) -> None:
    """It is a file's name on every system, and part of an address that the editor does not escape."""
    title = PAGES[name].title
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]*(,? [A-Za-z0-9.-]+)+", title) and len(title) <= CARD_LETTERS


def test_what_runs_anywhere_comes_first() -> None:
    """ComfyUI's list has no order but that of the disk, and the page sorts ours: by letters, as some disks do."""
    titles = [page.title for page in PAGES.values()]
    assert min(titles) == min(titles, key=str.casefold) == PAGES[TINY].title


@each
def test_a_thumbnail_is_what_the_script_draws(name: str) -> None:
    """No screenshot, and no picture that the workflow did not make: tests/comfy runs the one that can run here."""
    with Image.open(FOLDER / f"{PAGES[name].title}.jpg") as picture:
        shown = picture.convert("RGB")
    assert shown.size == (EDGE, EDGE)
    assert (PAGES[name].drawn == RUN) == (name == TINY)
    if name != TINY:
        drawn = diagram(PAGES[name].drawn, PAGES[name].again)
        assert furthest_apart(shown, drawn) < 25, "due: python workflows/make_thumbnails.py"


def furthest_apart(one: Image.Image, other: Image.Image) -> float:
    """In the 16 x 16 pixels that differ most: JPEG and another FreeType change little, a word much."""
    apart = np.abs(np.asarray(one, float) - np.asarray(other, float))
    return float(apart.reshape(EDGE // 16, 16, EDGE // 16, 16, 3).mean((1, 3, 4)).max())


def test_no_two_thumbnails_are_the_same() -> None:
    drawn = [(page.drawn, page.again) for page in PAGES.values()]
    assert all(a != b for a, b in itertools.combinations(drawn, 2))


# ---- open


@each
def test_the_note_beside_the_request_says_what_to_do(name: str) -> None:
    found = nodes(name)
    note, request = box(start(name)), box(found[int(REQUEST)])
    assert 0 < request[0] - note[2] < 100, "right of it, and near"
    assert note[1] < request[3] and request[1] < note[3], "at its height"
    (text,) = start(name)["widgets_values"]
    assert "**Run**" in text
    tab = re.search(r'registerSidebarTab.*?title: "(\w+)"', (ROOT / "js" / "view.js").read_text(), re.DOTALL)
    loops = any(node["type"] == "InterleaveThinkerLoopClose" for node in found.values())
    assert tab and loops == (f"**{tab[1]}** in the bar at the left" in text)
    for named in re.findall(r"\*(?:\*(Planner|Prompt|Save Document)\*|(About this workflow))\*", text):
        titles = {re.sub("^Interleave ", "", node.get("title") or kind_words(node["type"])) for node in found.values()}
        assert set(named) - {""} <= titles


def kind_words(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.removeprefix("InterleaveThinker"))


@each
def test_it_opens_where_note_and_request_can_be_read(name: str) -> None:
    view = workflow(name)["extra"]["ds"]
    assert 0.8 <= view["scale"] <= 1
    for node in (start(name), nodes(name)[int(REQUEST)]):
        place = [(side + view["offset"][i % 2]) * view["scale"] for i, side in enumerate(box(node))]
        assert place[0] >= WINDOW[0] and place[1] >= WINDOW[1], node["type"]
        assert place[2] <= WINDOW[2] and place[3] <= WINDOW[3], node["type"]


@each
def test_links_keep_off_nodes(name: str) -> None:
    """As the editor draws them: a curve that leaves to the right and arrives from the left. One in ten may touch."""
    assert len(crossing(workflow(name))) <= len(workflow(name)["links"]) / 10


def test_a_link_behind_a_node_is_found() -> None:
    graph = workflow("nano_banana_pro_story")
    source, target = (next(n for n in graph["nodes"] if n["id"] == end) for end in graph["links"][-1][1:4:2])
    before = len(crossing(graph))
    between = [(a + b) / 2 for a, b in zip(source["pos"], target["pos"], strict=True)]
    graph["nodes"].append({"id": 999, "pos": between, "size": [200, 200], "inputs": [], "outputs": []})
    assert len(crossing(graph)) > before


def crossing(graph: Json) -> set[int]:
    """Numbers of links that a node other than their own two hides in part."""
    found = {node["id"]: node for node in graph["nodes"]}
    hidden = set()
    for number, source, out, target, place, _ in graph["links"]:
        points = curve(end_of(found[source], out), begin_of(found[target], place))
        for other in found.values():
            left, top, right, bottom = box(other)
            if other["id"] not in (source, target) and any(left < x < right and top < y < bottom for x, y in points):
                hidden.add(number)
    return hidden


def end_of(node: Json, out: int) -> tuple[float, float]:
    return node["pos"][0] + node["size"][0], node["pos"][1] + SLOT * (out + 0.7)


def begin_of(node: Json, place: int) -> tuple[float, float]:
    sockets = [slot for slot in node["inputs"] if "widget" not in slot]
    slot = node["inputs"][place]
    if slot in sockets:
        return node["pos"][0], node["pos"][1] + SLOT * (sockets.index(slot) + 0.7)
    rows = max(len(sockets), len(node["outputs"]))
    linked = [other for other in node["inputs"] if "widget" in other]
    return node["pos"][0], node["pos"][1] + SLOT * (rows + 1) + WIDGET * linked.index(slot)


def curve(a: tuple[float, float], b: tuple[float, float]) -> list[tuple[float, float]]:
    reach = math.dist(a, b) / 4
    bends = (a, (a[0] + reach, a[1]), (b[0] - reach, b[1]), b)
    made = []
    for t in np.linspace(0, 1, 60):
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        made.append(tuple(sum(w * bend[i] for w, bend in zip(weights, bends, strict=True)) for i in (0, 1)))
    return made
