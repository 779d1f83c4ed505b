"""A loop in the loop: each attempt of the outer one runs the inner one to its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_test_graphs import node, ours
from shape import (
    ACCEPT_FIRST,
    ALL,
    ATTEMPT,
    FIRSTS,
    ONE_STEP,
    PROMPT,
    REFERENCE,
    SEED,
    STEP,
    Change,
    Queue,
    Shape,
    body,
    close,
    merged,
    says,
    show,
)


def inner(text: Any = PROMPT, seed: Any = SEED, expression: str = "b >= 2", **draw: Any) -> Change:
    """Nodes 101 to 140 are a loop whose first picture is the outer attempt's. Its plan is the outer prompt."""
    return {
        "101": ours("PlanFromText", text=text, max_steps=10, title=""),
        "102": ours("LoopOpen", plan=["101", 0], seed=seed),
        "112": body("Draw", seed=["102", 5], prompt=["102", 1], label="inner", **draw),
        "120": node("ComfyMathExpression", expression=expression, **{"values.a": ["102", 6], "values.b": ["102", 7]}),
        "121": ours("Judgment", accepted=["120", 2], refined_prompt="", reasoning="inner"),
        "130": close(["102", 0], ["112", 0], judgment=["121", 0]),
        "140": ours("UnpackDocument", document=["130", 0]),
        "12": None,
        "30": {"image": ["140", 3]},
    }


TWO = "1. x\n2. y"
OUTER: Mapping[str, Any] = {"reference": REFERENCE, "other": PROMPT}
"""The inner body reads the outer loop's values."""


def failing(step: Any, attempt: Any, at: str, how: str = "raise") -> Change:
    """Node 113 fails in the inner loop."""
    fail = body("Fail", value=["112", 0], step=step, attempt=attempt, at=at, how=how)
    return {"113": fail, "130": {"image": ["113", 0]}}


INNER_STEP, INNER_ATTEMPT = ["102", 6], ["102", 7]

SHAPES = [
    Shape(
        "a loop in the loop",
        "an inner attempt with the same prompt and seed is the same picture, also for another outer attempt",
        inner(),
        [Queue(made=ALL, calls={"inner": 6}), Queue(made=[], calls={"inner": 0})],
    ),
    Shape(
        "that reads the outer reference",
        "the inner pictures differ with the outer picture, so every one is made",
        inner(**OUTER),
        [Queue(made=ALL), Queue(made=[], calls={"inner": 0})],
    ),
    Shape(
        "with an Open of its own, a body of both",
        "the inner Loop Open need not depend on the outer one",
        merged(ACCEPT_FIRST, inner(TWO, 77, **OUTER)),
        [Queue(made=FIRSTS, calls={"inner": 8}), Queue(made=[], calls={"inner": 0})],
    ),
    Shape(
        "with an Open of its own and a preview inside",
        "the preview belongs to the inner loop",
        merged(ACCEPT_FIRST, inner(TWO, 77, **OUTER), {"113": show(["112", 0])}),
        [Queue(made=FIRSTS, calls={"inner": 8, "side": 8})],
    ),
    Shape(
        "with an Open of its own, whose document is saved",
        "the inner loop runs in attempts of the outer one only",
        merged(ACCEPT_FIRST, inner(TWO, 77, **OUTER), {"141": ours("SaveDocument", document=["130", 0])}),
        [Queue(made=FIRSTS, calls={"inner": 8})],
    ),
    Shape(
        "whose document is saved",
        "once an outer attempt",
        merged(ACCEPT_FIRST, inner(), {"141": ours("SaveDocument", document=["130", 0])}),
        [Queue(made=FIRSTS, calls={"inner": 4})],
    ),
    Shape(
        "with a preview inside",
        "it runs for each inner attempt that is made",
        merged(inner(), {"113": show(["112", 0])}),
        [Queue(made=ALL, calls={"inner": 6})],
    ),
    Shape(
        "with previews of the outer loop",
        "what looks at the outer loop runs once an outer attempt, not once an inner one",
        merged(ACCEPT_FIRST, inner(), {"14": show(PROMPT, "prompt"), "15": show(["140", 3], "picture")}),
        [Queue(made=FIRSTS, calls={"inner": 4, "prompt": FIRSTS, "picture": FIRSTS})],
    ),
    Shape(
        "with an output of the outer loop that is not valid",
        "it runs in neither",
        merged(ACCEPT_FIRST, inner(), {"14": show(PROMPT, must=9), "15": show(["112", 0], "other", must=9)}),
        [Queue(made=FIRSTS, dropped=["14", "15"], calls={"side": 0, "other": 0})],
    ),
    Shape(
        "that fails",
        "inner pictures that were made before are recalled",
        merged(ONE_STEP, ACCEPT_FIRST, inner(TWO), failing(INNER_STEP, INNER_ATTEMPT, "2:1")),
        [
            Queue(made={"30": [], "130": ALL[:2]}, error=says(r"node 113 \(BodyFail\)")),
            Queue(made={"30": [(1, 1)], "130": ALL[2:]}, pictures=1),
        ],
    ),
    Shape(
        "that reads the outer loop and fails",
        "the same where the inner body depends on the outer values",
        merged(ONE_STEP, ACCEPT_FIRST, inner(TWO, **OUTER), failing(INNER_STEP, INNER_ATTEMPT, "2:1")),
        [
            Queue(made={"30": [], "130": ALL[:2]}, error=says(r"node 113 \(BodyFail\)")),
            Queue(made={"30": [(1, 1)], "130": ALL[2:]}, pictures=1),
        ],
    ),
    Shape(
        "that reads the outer loop and is interrupted",
        "the same after an interrupt",
        merged(ONE_STEP, ACCEPT_FIRST, inner(TWO, **OUTER), failing(INNER_STEP, INNER_ATTEMPT, "2:2", "interrupt")),
        [
            Queue(made={"30": [], "130": ALL[:3]}, error=says("Interrupted", r"node 113 \(BodyFail\)")),
            Queue(made={"30": [(1, 1)], "130": [(2, 2)]}, pictures=1),
        ],
    ),
    Shape(
        "that reads the outer reference and fails in step 2",
        "the outer reference is a picture by then, and the same one when the run goes on",
        merged(ACCEPT_FIRST, inner(**OUTER), failing(STEP, INNER_ATTEMPT, "2:2")),
        [
            Queue(made={"30": [(1, 1)], "130": [(1, 1), (1, 2), (1, 1)]}, error=says(r"node 113 \(BodyFail\)")),
            Queue(made={"30": [(2, 1)], "130": [(1, 2)]}, recalled=[(1, 1)]),
        ],
    ),
    Shape(
        "that reads the outer attempt and fails in attempt 2",
        "of another outer attempt nothing is taken",
        merged(ONE_STEP, inner(other=ATTEMPT), failing(ATTEMPT, INNER_ATTEMPT, "2:2")),
        [
            Queue(made={"30": [(1, 1)], "130": [(1, 1), (1, 2), (1, 1)]}, error=says(r"node 113 \(BodyFail\)")),
            Queue(made={"30": [(1, 2)], "130": [(1, 2)]}, recalled=[(1, 1)], pictures=1),
        ],
    ),
    Shape(
        "that reads the outer reference through a reroute and fails in step 2",
        "a node of the outer body stands between both",
        merged(
            ACCEPT_FIRST,
            inner(**OUTER),
            {"9": body("Pass", value=REFERENCE), "112": {"reference": ["9", 0]}},
            failing(STEP, INNER_ATTEMPT, "2:2"),
        ),
        [
            Queue(made={"30": [(1, 1)], "130": [(1, 1), (1, 2), (1, 1)]}, error=says(r"node 113 \(BodyFail\)")),
            Queue(made={"30": [(2, 1)], "130": [(1, 2)]}, recalled=[(1, 1)]),
        ],
    ),
    Shape(
        "with a node that always counts as changed, that fails in step 2",
        "the inner run that was under way goes on",
        merged(
            ACCEPT_FIRST,
            inner(**OUTER),
            failing(STEP, INNER_ATTEMPT, "2:2"),
            {"114": body("Changed", value=["113", 0], how="nan"), "130": {"image": ["114", 0]}},
        ),
        [
            Queue(made={"30": [(1, 1)], "130": [(1, 1), (1, 2), (1, 1)]}, error=says(r"node 113 \(BodyFail\)")),
            Queue(made={"30": [(2, 1)], "130": [(1, 2)]}, recalled=[(1, 1)]),
        ],
    ),
    Shape(
        "whose judge reads the outer prompt and fails",
        "verdicts are recalled as pictures are",
        merged(
            ONE_STEP,
            ACCEPT_FIRST,
            inner(TWO),
            {"121": {"reasoning": PROMPT}},
            failing(INNER_STEP, INNER_ATTEMPT, "2:1"),
        ),
        [
            Queue(made={"30": [], "130": ALL[:2]}, error=says(r"node 113 \(BodyFail\)")),
            Queue(made={"30": [(1, 1)], "130": ALL[2:]}, pictures=1),
        ],
    ),
    Shape(
        "without a judgment inside",
        "an inner loop that gets none ends with an error, too",
        merged(
            ACCEPT_FIRST,
            inner(),
            {"122": body("Many", value=["121", 0], count=0), "130": {"judgment": ["122", 0]}},
        ),
        [Queue(made={"30": []}, error=says("step 1", "attempt 1", "judgment"))],
    ),
    Shape(
        "whose loop wire goes through a reroute",
        "a wire of the inner loop may be bent as one of the outer",
        merged(ACCEPT_FIRST, inner(), {"103": body("Pass", value=["102", 0]), "130": {"loop": ["103", 0]}}),
        [Queue(made=FIRSTS, calls={"inner": 4})],
    ),
    Shape(
        "with two ends on the inner Open",
        "two closes on one open, copied by the outer loop",
        merged(
            ACCEPT_FIRST,
            inner(),
            {
                "113": body("Draw", seed=["102", 5], prompt=["102", 1], size=24, label="second"),
                "131": close(["102", 0], ["113", 0]),
                "141": ours("UnpackDocument", document=["131", 0]),
                "142": node("ImageBatch", image1=["140", 3], image2=["141", 3]),
                "30": {"image": ["142", 0]},
            },
        ),
        [Queue(made=FIRSTS, calls={"inner": 4, "second": 2})],
    ),
]
