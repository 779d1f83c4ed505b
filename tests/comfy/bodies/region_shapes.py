"""Which nodes are copied: those that ComfyUI itself would run for this prompt, and of them the loop's own.

An output whose inputs are not valid is left out by ComfyUI, and so is one that was not asked for.
"""

from __future__ import annotations

from comfy_test_graphs import Graph, node, ours
from shape import (
    ACCEPT_FIRST,
    FIRSTS,
    PROMPT,
    SEED,
    Queue,
    Shape,
    base,
    body,
    changed,
    close,
    merged,
    renamed,
    says,
    show,
)

TWO_SIDES = merged(ACCEPT_FIRST, {"14": show(["12", 0], "first"), "15": show(["12", 0], "second")})


def two_loops() -> Graph:
    one = changed(base(), ACCEPT_FIRST, {"14": show(["12", 0], "left")})
    two = changed(one, {"2": {"seed": 9_000_000}, "14": {"label": "right"}})
    return one | renamed(two, {node_id: f"x{node_id}" for node_id in two})


SHAPES = [
    Shape(
        "an output with a value out of range",
        "ComfyUI drops the output and runs the rest, once and in the loop",
        merged(ACCEPT_FIRST, {"14": show(["12", 0], must=9), "15": show(["12", 0], "good")}),
        [Queue(made=FIRSTS, dropped=["14"], calls={"side": 0, "good": FIRSTS})],
    ),
    Shape(
        "an output that lacks an input",
        "its code would fail, and is not asked to run",
        merged(ACCEPT_FIRST, {"14": body("Set", value=["12", 0])}),
        [Queue(made=FIRSTS, dropped=["14"], calls={"set": 0})],
    ),
    Shape(
        "an output that lacks its picture",
        "what is connected to the loop by another input only",
        merged(ACCEPT_FIRST, {"14": body("Set", name=PROMPT)}),
        [Queue(made=FIRSTS, dropped=["14"], calls={"set": 0})],
    ),
    Shape(
        "an output below a node that is not valid",
        "ComfyUI drops it for what is above it",
        merged(ACCEPT_FIRST, {"13": body("Validated", image=["12", 0], text=PROMPT, mode="b"), "14": show(["13", 0])}),
        [Queue(made=FIRSTS, dropped=["13"], calls={"side": 0})],
    ),
    Shape(
        "an output below the judge that is not valid",
        "the same behind the judgment",
        merged(ACCEPT_FIRST, {"14": show(["21", 0], must=9)}),
        [Queue(made=FIRSTS, dropped=["14"], calls={"side": 0})],
    ),
    Shape(
        "only the document is asked for",
        "the editor can queue one output: previews in the body are not among it",
        TWO_SIDES,
        [Queue(made=FIRSTS, targets=["31"], calls={"first": 0, "second": 0})],
    ),
    Shape(
        "the document and one preview are asked for",
        "that one runs at every attempt",
        TWO_SIDES,
        [Queue(made=FIRSTS, targets=["31", "14"], calls={"first": FIRSTS, "second": 0})],
    ),
    Shape(
        "only the document, then all",
        "the previews that were not asked for are due when they are",
        TWO_SIDES,
        [
            Queue(made=FIRSTS, targets=["31"], calls={"first": 0, "second": 0}),
            Queue(made=[], calls={"first": FIRSTS, "second": FIRSTS}),
        ],
    ),
    Shape(
        "only a preview in the body is asked for",
        "without its end the loop does not run: nothing is made, and the user is told why",
        TWO_SIDES,
        [
            Queue(
                made=[],
                targets=["14"],
                error=says("node 2", "Loop Close", "Save Document"),
                calls={"first": 0, "second": 0, "draw": 0},
            )
        ],
    ),
    Shape(
        "one of two loops is asked for",
        "the other one does not run, nor do its previews",
        {},
        [
            Queue(
                made={"30": FIRSTS, "x30": []},
                targets=["31"],
                pictures={"31": 2, "x31": None},  # type: ignore[dict-item]
                calls={"left": 0, "right": 0, "draw": 2},
            ),
            Queue(
                made={"30": [], "x30": FIRSTS},
                targets=["x31", "x14"],
                pictures={"x31": 2},
                calls={"left": 0, "right": FIRSTS, "draw": 2},
            ),
        ],
        graph=two_loops,
    ),
    Shape(
        "two loops with a preview each",
        "a preview belongs to the loop that it looks at",
        {},
        [
            Queue(
                made={"30": FIRSTS, "x30": FIRSTS},
                pictures={"31": 2, "x31": 2},
                calls={"left": FIRSTS, "right": FIRSTS},
            )
        ],
        graph=two_loops,
    ),
    Shape(
        "two ends with a preview each",
        "on one Loop Open too",
        merged(
            ACCEPT_FIRST,
            {
                "13": body("Draw", seed=SEED, prompt=PROMPT, size=24),
                "60": close(["2", 0], ["13", 0]),
                "61": ours("SaveDocument", document=["60", 0]),
                "14": show(["12", 0], "left"),
                "15": show(["13", 0], "right"),
            },
        ),
        [
            Queue(
                made={"30": FIRSTS, "60": FIRSTS},
                pictures={"31": 2, "61": 2},
                calls={"left": FIRSTS, "right": FIRSTS, "draw": 4},
                saw={"left": {"shape": [1, 16, 16, 3]}, "right": {"shape": [1, 24, 24, 3]}},
            )
        ],
    ),
    Shape(
        "an output of the document",
        "what is below Loop Close runs once, after it",
        merged(
            ACCEPT_FIRST,
            {"u": ours("UnpackDocument", document=["30", 0]), "14": body("ShowAll", value=["u", 3], label="after")},
        ),
        [Queue(made=FIRSTS, calls={"after": 1})],
    ),
    Shape(
        "an output of the document and the loop",
        "it can run only after the loop, where the loop's own values are blocked",
        merged(
            ACCEPT_FIRST,
            {
                "u": ours("UnpackDocument", document=["30", 0]),
                "13": body("FirstOf", any_1=["u", 3], any_2=PROMPT),
                "14": show(["13", 0], "after"),
            },
        ),
        [Queue(made=FIRSTS, calls={"after": 0})],
    ),
    Shape(
        "a switch that leaves the loop out",
        "a picture that does not come from the loop after all still is the attempt's",
        merged(
            ACCEPT_FIRST,
            {
                "10": node("EmptyImage", width=16, height=16, batch_size=1, color=255),
                "13": node("ComfySwitchNode", switch=False, on_true=["12", 0], on_false=["10", 0]),
                "30": {"image": ["13", 0]},
            },
        ),
        [Queue(made=FIRSTS, recalled=[], calls={"draw": 0})],
    ),
]
