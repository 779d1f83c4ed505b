"""How the ends and ids of a graph may lie: several ends, bent wires, ids that look alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from comfy_test_graphs import Graph, node, ours
from shape import (
    ACCEPT_FIRST,
    ALL,
    FIRSTS,
    LOOP,
    NO_JUDGE,
    ONE_STEP,
    PROMPT,
    SEED,
    Change,
    Queue,
    Shape,
    base,
    body,
    changed,
    close,
    merged,
    renamed,
    show,
)


def ends(count: int, loop: object = LOOP) -> Change:
    """`count` further Loop Closes on the same Loop Open, each with a picture of its own."""
    nodes: dict[str, object] = {}
    for number in range(1, count + 1):
        nodes[f"{number}13"] = body("Draw", seed=SEED, prompt=PROMPT, size=16 + 8 * number, label=f"draw {number}")
        nodes[f"{number}60"] = close(loop, [f"{number}13", 0])
        nodes[f"{number}61"] = ours("SaveDocument", document=[f"{number}60", 0])
    return nodes


def with_ids(names: Mapping[str, str], *changes: Change) -> Callable[[], Graph]:
    return lambda: renamed(changed(base(), *changes), names)


PASSED: Change = {"13": body("Pass", value=["12", 0]), "14": show(["13", 0]), "30": {"image": ["13", 0]}}
"""Nodes 12, 13 and 14 in a row."""
TWO = {"30": 2, "60": 2}


def ids(name: str, why: str, names: Mapping[str, str]) -> Shape:
    """The plain loop with a pass and a preview, under other ids."""
    end = names.get("30", "30")
    return Shape(
        name,
        why,
        {},
        [
            Queue(made={end: ALL}, pictures={names.get("31", "31"): 2}, calls={"side": 4, "pass": 4}),
            Queue(made={end: []}, pictures={names.get("31", "31"): 2}, calls={"side": 0, "pass": 0}),
        ],
        graph=with_ids(names, PASSED),
    )


def loops_that_look_alike() -> Graph:
    """Two loops whose ids differ in a character that ids of placed nodes cannot have."""
    one = changed(base(), ACCEPT_FIRST, PASSED)
    two = changed(one, {"2": {"seed": 9_000_000}})
    return renamed(one, {i: f"5:{i}" for i in one}) | renamed(two, {i: f"5_{i}" for i in two})


OTHER_IDS: Change = {
    "2": None,
    "5": ours("LoopOpen", plan=["1", 0], seed=0),
    "12": {"seed": ["5", 5], "prompt": ["5", 1]},
    "20": {"values.a": ["5", 6], "values.b": ["5", 7]},
}

SHAPES = [
    Shape(
        "the same loop under other ids, changed",
        "ComfyUI recalls a node of the same inputs at another id; Loop Open must not give the old one's id",
        {},
        [Queue(made=ALL), Queue({**OTHER_IDS, "30": {"loop": ["5", 0], "t_max": 4}}, made=[], recalled=ALL)],
    ),
    Shape(
        "two ends on one Open",
        "both run over the same plan, each with its own picture",
        merged(NO_JUDGE, ends(1)),
        [
            Queue(made={"30": FIRSTS, "160": FIRSTS}, pictures={"31": 2, "161": 2}, calls={"draw": 2, "draw 1": 2}),
            Queue(made={"30": [], "160": []}, pictures={"31": 2, "161": 2}),
        ],
    ),
    Shape(
        "three ends on one Open",
        "and three",
        merged(NO_JUDGE, ends(2)),
        [
            Queue(
                made={"30": FIRSTS, "160": FIRSTS, "260": FIRSTS},
                pictures={"31": 2, "161": 2, "261": 2},
                calls={"draw": 2, "draw 1": 2, "draw 2": 2},
            )
        ],
    ),
    Shape(
        "two ends, one with a judge",
        "each end has its own verdicts and retries",
        ends(1),
        [
            Queue(made={"30": ALL, "160": FIRSTS}, pictures={"31": 2, "161": 2}),
            Queue(made={"30": [], "160": []}, pictures={"31": 2, "161": 2}),
        ],
    ),
    Shape(
        "two ends, one judge for both",
        "nodes that both need are copied for both",
        merged(ends(1), {"160": {"judgment": ["21", 0]}}),
        [Queue(made={"30": ALL, "160": ALL}, pictures={"31": 2, "161": 2})],
    ),
    Shape(
        "two ends that share what draws",
        "the same picture in two sizes",
        merged(ACCEPT_FIRST, ends(1), {"113": body("Upscale", image=["12", 0], by=2)}),
        [Queue(made={"30": FIRSTS, "160": FIRSTS}, pictures={"31": 2, "161": 2})],
    ),
    Shape(
        "two ends, the second looks at the first one's document",
        "the first loop is over when the second begins",
        merged(
            ACCEPT_FIRST,
            ends(1),
            {"u": ours("UnpackDocument", document=["30", 0]), "113": {"reference": ["u", 3]}},
        ),
        [Queue(made={"30": FIRSTS, "160": FIRSTS}, pictures={"31": 2, "161": 2})],
    ),
    Shape(
        "two ends, one with a gate",
        "a gate stops its own loop",
        merged(ACCEPT_FIRST, ends(1), {"30": {"gate": "stop_after_step"}}),
        [
            Queue(made={"30": [(1, 1)], "160": FIRSTS}, pictures={"31": 1, "161": 2}),
            Queue(made={"30": [(2, 1)], "160": []}, pictures={"31": 2, "161": 2}),
        ],
    ),
    Shape(
        "two ends, one through a reroute",
        "the wire of one of them is bent",
        merged(ACCEPT_FIRST, ends(1, ["70", 0]), {"70": body("Pass", value=LOOP)}),
        [Queue(made={"30": FIRSTS, "160": FIRSTS}, pictures={"31": 2, "161": 2})],
    ),
    Shape(
        "the loop's wire through a reroute",
        "reroutes and Get nodes of the editor's packs are nodes",
        {"70": body("Pass", value=LOOP), "30": {"loop": ["70", 0]}},
        [Queue(made=ALL), Queue(made=[])],
    ),
    Shape(
        "the loop's wire through two reroutes",
        "and bent twice",
        {"70": body("Pass", value=LOOP), "71": body("Pass", value=["70", 0]), "30": {"loop": ["71", 0]}},
        [Queue(made=ALL)],
    ),
    Shape(
        "the loop's wire through an any-switch",
        "the first input that is there",
        {"70": body("FirstOf", any_01=LOOP), "30": {"loop": ["70", 0]}},
        [Queue(made=ALL)],
    ),
    Shape(
        "the loop's wire through a lazy switch",
        "the switch also has a side that is not asked",
        {"70": node("ComfySwitchNode", switch=True, on_true=LOOP, on_false=LOOP), "30": {"loop": ["70", 0]}},
        [Queue(made=ALL)],
    ),
    Shape(
        "the loop's wire through a switch between two loops",
        "the body is that of the Open that is chosen",
        merged(
            ACCEPT_FIRST,
            {
                "92": ours("LoopOpen", plan=["1", 0], seed=3),
                "70": node("ComfySwitchNode", switch=True, on_true=LOOP, on_false=["92", 0]),
                "30": {"loop": ["70", 0]},
            },
        ),
        [Queue(made=FIRSTS)],
    ),
    Shape(
        "the loop's wire through a list of one",
        "a list node hands on one loop",
        {"70": body("Many", value=LOOP, count=1), "30": {"loop": ["70", 0]}},
        [Queue(made=ALL)],
    ),
    Shape(
        "picture and judgment through reroutes",
        "every wire may be bent",
        {
            "70": body("Pass", value=["12", 0]),
            "71": body("Pass", value=["21", 0]),
            "30": {"image": ["70", 0], "judgment": ["71", 0]},
        },
        [Queue(made=ALL), Queue(made=[])],
    ),
    ids(
        "ids of subgraphs", "the editor flattens subgraphs to such ids", {"2": "12:3:1", "12": "12:3:5", "30": "12:30"}
    ),
    ids(
        "ids of other tools",
        "an id is any text",
        {"2": "开", "30": "Ende ü", "12": "3f1c9a52-7f1e-4d4a-9a57-1b2a6d1f2b11", "13": "x y", "21": "a.b/c"},
    ),
    ids("ids 50:11 and 50_11", "they are two nodes", {"12": "50:11", "13": "50_11"}),
    ids("ids 50:11, 50_11 and 50.11", "and three", {"12": "50:11", "13": "50_11", "14": "50.11"}),
    ids("ids 1:2_3 and 1_2:3", "both have both characters", {"12": "1:2_3", "13": "1_2:3"}),
    ids("ids that end alike", "escapes of one must not be the other", {"12": "50__11", "13": "50_:11", "14": "50:_11"}),
    ids("ids of the placed nodes", "what a loop adds has names of its own", {"12": "feed", "13": "keep", "14": "next"}),
    ids("an id like that of a copy", "the prompt itself may hold such an id", {"12": "30.s1a1.b13", "13": "13"}),
    ids("an id like that of an added node", "or such", {"12": "30.s1a1.keep", "13": "30.s1a1.feed"}),
    ids(
        "the end 5:30 beside a node 5_30", "the end's own id begins the ids of the copies", {"30": "5:30", "13": "5_30"}
    ),
    Shape(
        "the ends 5:30 and 5_30",
        "two loops whose copies must not meet",
        {},
        [
            Queue(
                made={"5:30": FIRSTS, "5_30": FIRSTS},
                pictures={"5:31": 2, "5_31": 2},
                calls={"side": 4, "draw": 4},
            ),
            Queue(made={"5:30": [], "5_30": []}, pictures={"5:31": 2, "5_31": 2}, calls={"side": 0, "draw": 0}),
        ],
        graph=loops_that_look_alike,
    ),
    Shape(
        "a very long id",
        "no tool forbids it",
        {},
        [Queue(made=[(1, 1)], pictures=1)],
        graph=with_ids({"12": "n" * 300}, ACCEPT_FIRST, ONE_STEP),
    ),
]
