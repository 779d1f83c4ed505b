"""ComfyUI's own Start Loop and End Loop (0.36) in the body, around the loop, and across its ends.

When a prompt is queued, ComfyUI notes at each Start Loop which nodes are between it and its End Loop. Here the shapes
note it themselves: an older ComfyUI does not, and has stand-ins for both nodes (`body_nodes.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from comfy_test_graphs import node, ours
from nested_shapes import inner
from shape import (
    ACCEPT_FIRST,
    ALL,
    FIRSTS,
    PROMPT,
    SEED,
    STEP,
    Change,
    Queue,
    Shape,
    body,
    merged,
    says,
    show,
)
from watched_server import Outcome


def start(between: str, end_id: str, parent: Any = STEP, **inputs: Any) -> dict[str, Any]:
    """Two rounds. between: ids of the nodes up to End Loop."""
    more = {"parent_iteration": parent, **inputs, "mode.num_iterations": 2}
    entry = node("StartLoop", mode="simple", cache_iterations=False, **more)
    return {**entry, "_loop_body": sorted(between.split()), "_loop_end": end_id}


def end(value: Any, **inputs: Any) -> dict[str, Any]:
    return node("EndLoop", output_value=value, **{"accumulate": False, **inputs})


def draw(number: Any) -> dict[str, Any]:
    """16 pixels wide in the first round, 24 in the second."""
    return body("Draw", seed=SEED, prompt=PROMPT, step=number)


ROUNDS: Change = {
    "11": start("12", "13"),
    "12": draw(["11", 0]),
    "13": end(["12", 0]),
    "30": {"image": ["13", 0]},
}
NESTED: Change = {
    "50:51:9": start("50:11 50:12 50:13", "50:51:16"),
    "50:11": start("50:12", "50:13", ["50:51:9", 0]),
    "50:12": draw(["50:11", 0]),
    "50:13": end(["50:12", 0]),
    "50:51:16": end(["50:13", 0]),
    "12": None,
    "30": {"image": ["50:51:16", 0]},
}
AROUND: Change = {
    "5": start("1 2 12 20 21 30 u", "6", None),
    "1": ours("PlanFromText", text="1. one\n2. two", max_steps=10, title=""),
    "2": ours("LoopOpen", plan=["1", 0], seed=["5", 0]),
    "u": ours("UnpackDocument", document=["30", 0]),
    "6": end(["u", 3], accumulate=True),
    "31": None,
    "40": body("ShowAll", value=["6", 0], label="end"),
}
"""The whole loop stands between Start Loop and End Loop."""
LAST_ROUND = {"shape": [1, 24, 24, 3]}


def ids_are_of_one_copy(outcomes: Sequence[Outcome]) -> None:
    for call in outcomes[-1].calls:
        if call["label"] == "noted":
            mine = call["id"].removesuffix("b15")
            assert call["later"] == {f"{mine}b12": ["x", {"to": f"{mine}b14", "from": "1"}]}


SHAPES = [
    Shape(
        "a Start Loop in the picture",
        "its rounds run in each attempt; it is no node that always changes",
        merged(ROUNDS, {"14": show(["13", 0])}),
        [
            Queue(
                made=ALL, calls={"draw": 8, "side": ALL}, saw={"side": LAST_ROUND}, quiet=re.compile("Always changes")
            ),
            Queue(made=[], recalled=ALL, calls={"draw": 0, "side": 0}, quiet=re.compile("Always changes")),
        ],
    ),
    Shape(
        "a Start Loop that feeds the sampler",
        "each round gets what the one before it made",
        merged(
            ACCEPT_FIRST,
            {
                "10": body("Draw", seed=SEED, prompt=PROMPT, size=64),
                "11": start("9", "13", initial_iteration_value=["10", 1]),
                "9": body("Refine", latent=["11", 4], seed=SEED),
                "13": end(["9", 0], next_iteration_value=["9", 0]),
                "12": body("Decode", latent=["13", 0]),
                "14": show(["12", 0]),
            },
        ),
        [Queue(made=FIRSTS, calls={"refine": 4, "side": FIRSTS}), Queue(made=[], recalled=FIRSTS)],
    ),
    Shape(
        "a Start Loop in a Start Loop, in subgraphs",
        "ids may be paths, and the inner one is placed by the outer one",
        merged(ACCEPT_FIRST, NESTED, {"14": show(["50:51:16", 0])}),
        [Queue(made=FIRSTS, calls={"draw": 8, "side": FIRSTS}, saw={"side": LAST_ROUND})],
    ),
    Shape(
        "a Start Loop with a preview inside",
        "it runs each round; what hangs on it has no way to End Loop, but is one of the loop's nodes",
        merged(
            ACCEPT_FIRST,
            ROUNDS,
            {
                "11": start("12 14 15", "13"),
                "14": show(["12", 0]),
                "15": body("Pass", value=["14", 0]),
                "13": {"terminations.termination0": ["14", 0]},
            },
        ),
        [Queue(made=FIRSTS, calls={"draw": 4, "side": 4})],
    ),
    Shape(
        "a Start Loop in the judge",
        "the judge may repeat its nodes, too",
        {
            "11": start("15 22", "13"),
            "22": body("Pass", value=["11", 0]),
            "15": body("Mix", label="mix", run=1, a=["12", 0], b=["22", 0]),
            "13": end(["15", 1]),
            "21": {"reasoning": ["13", 0]},
        },
        [Queue(made=ALL, calls={"draw": 4, "mix": 8})],
    ),
    Shape(
        "a Start Loop beside the loop",
        "what is not connected to the loop is left alone",
        merged(
            ACCEPT_FIRST,
            {
                "61": start("62", "63", None),
                "62": body("Draw", seed=3, step=["61", 0], label="beside"),
                "63": end(["62", 0]),
                "64": show(["63", 0]),
            },
        ),
        [Queue(made=FIRSTS, calls={"draw": 2, "beside": 2, "side": 1}, saw={"side": LAST_ROUND})],
    ),
    Shape(
        "a loop in a Start Loop in the loop",
        "each round runs the inner loop",
        merged(
            ACCEPT_FIRST,
            inner(),
            {
                "11": start("102 112 120 121 130 140", "13"),
                "102": {"seed": ["11", 0]},
                "13": end(["140", 3]),
                "30": {"image": ["13", 0]},
            },
        ),
        [Queue(made=FIRSTS, pictures=2)],
    ),
    Shape(
        "a Start Loop in a loop in the loop",
        "it is copied with the inner loop, and once more by it",
        merged(
            ACCEPT_FIRST,
            inner(),
            {"111": start("112", "113", ["102", 6]), "112": {"step": ["111", 0]}, "113": end(["112", 0])},
            {"130": {"image": ["113", 0]}},
        ),
        [Queue(made=FIRSTS, calls={"inner": 8})],
    ),
    Shape(
        "a loop in a Start Loop",
        "each round is a run of its own",
        merged(ACCEPT_FIRST, AROUND),
        [Queue(made=None, pictures=None, calls={"draw": 4, "end": 1}, saw={"end": {"count": 2}})],
    ),
    Shape(
        "a loop in a Start Loop that waits for a preview of its body",
        "the preview gets nothing outside of the loop, and ComfyUI would wait for ever",
        merged(
            ACCEPT_FIRST,
            AROUND,
            {
                "5": start("1 2 12 14 20 21 30 u", "6", None),
                "14": show(["12", 0]),
                "6": {"terminations.termination0": ["14", 0]},
            },
        ),
        [Queue(error=says("node 6", "node 14", "Loop Open 2", "Disconnect"), pictures=None, calls={"draw": 0})],
    ),
    Shape(
        "a Start Loop that takes nothing from Loop Open",
        "it would run outside of the loop, where its nodes get nothing",
        merged(ACCEPT_FIRST, ROUNDS, {"11": start("12", "13", None)}, {"14": show(["13", 0])}),
        [Queue(error=says("node 11", "Loop Open 2", "'step'", "'parent_iteration'"), calls={"draw": 0})],
    ),
    Shape(
        "the same in an inner loop",
        "the inner loop is the one that it must be connected to",
        merged(
            ACCEPT_FIRST,
            inner(),
            {"111": start("112", "113"), "112": {"step": ["111", 0]}, "113": end(["112", 0])},
            {"130": {"image": ["113", 0]}},
        ),
        [Queue(error=says("node 111", "Loop Open 102", "'step'", "'parent_iteration'"), calls={"inner": 0})],
    ),
    Shape(
        "a Start Loop inside whose End Loop is behind",
        "the end of the loop cuts it",
        merged(
            ACCEPT_FIRST,
            ROUNDS,
            {
                "11": start("12 30 u", "13"),
                "30": {"image": ["12", 0]},
                "u": ours("UnpackDocument", document=["30", 0]),
                "13": end(["u", 3]),
                "31": None,
                "40": show(["13", 0]),
            },
        ),
        [Queue(error=says("cross", "Loop Open 2", "node 11", "node 13"), calls={"draw": 0})],
    ),
    Shape(
        "a Start Loop before whose End Loop is behind",
        "Loop Close is in it and Loop Open is not",
        merged(
            ACCEPT_FIRST,
            {
                "5": start("12 30 u", "6", None),
                "12": draw(["5", 0]),
                "u": ours("UnpackDocument", document=["30", 0]),
                "6": end(["u", 3]),
                "31": None,
                "40": show(["6", 0]),
            },
        ),
        [Queue(error=says("cross", "Loop Open 2", "node 5", "node 30"), calls={"draw": 0})],
    ),
    Shape(
        "a node with ids of others in its entry",
        "a later ComfyUI may note more; whatever names a copied node names its copy",
        merged(
            ACCEPT_FIRST,
            {
                "14": body("Pass", value=["12", 0]),
                "15": {
                    **body("Noted", image=["12", 0]),
                    "_later": {"12": ["x", {"to": "14", "from": "1"}]},
                    "_meta": {"title": "12"},
                },
                "30": {"image": ["15", 0]},
            },
        ),
        [Queue(made=FIRSTS, calls={"noted": FIRSTS}, check=ids_are_of_one_copy)],
    ),
]
