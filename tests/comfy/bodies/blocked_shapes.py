"""A switch that blocks (ExecutionBlocker) what the loop waits for: the user is told where, and no run ends silently.

What a blocked preview would have shown is nobody's loss.
"""

from __future__ import annotations

from comfy_test_graphs import node, ours, plan_text
from common_shapes import through
from shape import (
    ACCEPT_FIRST,
    ACCEPT_NONE,
    ALL,
    ATTEMPT,
    FIRSTS,
    NO_JUDGE,
    PROMPT,
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

MESSAGES = {"no message": "", "a message": "left out on purpose"}


def when(expression: str) -> Change:
    """Node 40 says when: a is the step, b the attempt."""
    return {"40": node("ComfyMathExpression", expression=expression, **{"values.a": STEP, "values.b": ATTEMPT})}


def block(value: object, message: str = "") -> dict[str, object]:
    return body("Block", value=value, block=["40", 2], message=message)


def blocked_judgment(expression: str, message: str = "") -> Change:
    return {**when(expression), "22": block(["21", 0], message), "30": {"judgment": ["22", 0]}}


def told(step: int, attempt: int, node_id: str, *words: str) -> object:
    return says(f"step {step}", f"attempt {attempt}", rf"\bnode {node_id}\b", "block", *words)


INNER: Change = {
    "101": ours("PlanFromText", text=plan_text(1), max_steps=10, title=""),
    "102": ours("LoopOpen", plan=["101", 0], seed=SEED),
    "112": body("Draw", seed=["102", 5], prompt=["102", 1], other=PROMPT),
    "113": block(["112", 0]),
    "130": close(["102", 0], ["113", 0]),
    "140": ours("UnpackDocument", document=["130", 0]),
    "12": None,
    "30": {"image": ["140", 3]},
}

SHAPES = [
    *(
        shape
        for name, message in MESSAGES.items()
        for words in [[message] if message else []]
        for shape in (
            Shape(
                f"the picture of step 2, {name}",
                "the error names step, attempt and the node that blocked; queued again it is the same",
                merged(when("a == 2"), through(block(["12", 0], message))),
                [
                    Queue(made=ALL[:2], error=told(2, 1, "13", *words)),  # type: ignore[arg-type]
                    Queue(made=[], recalled=ALL[:2], error=told(2, 1, "13", *words)),  # type: ignore[arg-type]
                ],
            ),
            Shape(
                f"the picture of attempt 2, {name}",
                "any attempt can be the blocked one",
                merged(when("b == 2"), through(block(["12", 0], message))),
                [Queue(made=[(1, 1)], error=told(1, 2, "13", *words))],  # type: ignore[arg-type]
            ),
            Shape(
                f"every picture, {name}",
                "nothing is made, and nothing looks like a success",
                merged(when("a == a"), through(block(["12", 0], message))),
                [Queue(made=[], error=told(1, 1, "13", *words))] * 2,  # type: ignore[arg-type]
            ),
            Shape(
                f"every picture, without a judge, {name}",
                "the same without a critic",
                merged(NO_JUDGE, when("a == a"), through(block(["12", 0], message))),
                [Queue(made=[], error=told(1, 1, "13", *words))] * 2,  # type: ignore[arg-type]
            ),
            Shape(
                f"the judgment of step 2, {name}",
                "a critic that is switched off in the middle is no acceptance",
                blocked_judgment("a == 2", message),
                [
                    Queue(made=ALL[:3], error=told(2, 1, "22", *words)),  # type: ignore[arg-type]
                    Queue(made=[], recalled=ALL[:3], error=told(2, 1, "22", *words)),  # type: ignore[arg-type]
                ],
            ),
            Shape(
                f"the judgment of attempt 2, {name}",
                "any attempt can be the blocked one",
                blocked_judgment("b == 2", message),
                [Queue(made=ALL[:2], error=told(1, 2, "22", *words))],  # type: ignore[arg-type]
            ),
        )
    ),
    Shape(
        "the prompt, far above the picture",
        "the picture is blocked by what is blocked above it",
        merged(
            when("a == 2"), {"71": block(PROMPT), "12": {"prompt": ["71", 0]}}, through(body("Pass", value=["12", 0]))
        ),
        [Queue(made=ALL[:2], error=says("step 2", "attempt 1", "block"))],
    ),
    Shape(
        "what the judge looks at",
        "its verdict is blocked",
        merged(when("a == 2"), {"72": block(ATTEMPT), "20": {"values.c": ["72", 0]}}),
        [Queue(made=ALL[:3], error=says("step 2", "attempt 1", "block"))],
    ),
    Shape(
        "a blocker from outside the loop",
        "a switch before the loop blocks all of it",
        merged({"73": body("Block", value=3, block=True), "12": {"other": ["73", 0]}}),
        [Queue(made=[], error=says("step 1", "attempt 1", "block"))] * 2,
    ),
    Shape(
        "the judgment that nobody asks for",
        "the last attempt is not judged, so nothing is missing",
        merged(
            ACCEPT_NONE, {"30": {"t_max": 2}}, blocked_judgment("b == 2"), {"30": {"judgment": ["22", 0], "t_max": 2}}
        ),
        [Queue(made=ALL)],
    ),
    Shape(
        "the judgment of an attempt that a person accepts",
        "the critic is not asked about it",
        merged(blocked_judgment("a == 2"), {"30": {"judgment": ["22", 0], "accept_attempts": "2:1"}}),
        [Queue(made=ALL[:3])],
    ),
    Shape(
        "a preview of step 2, no message",
        "a side output that is blocked is left out, as ComfyUI does anywhere",
        merged(when("a == 2"), {"13": block(["12", 0]), "14": show(["13", 0])}),
        [Queue(made=ALL, calls={"side": [(1, 1), (1, 2)]}), Queue(made=[], calls={"side": 0})],
    ),
    Shape(
        "a preview of step 2, a message",
        "ComfyUI says the message and the loop goes on",
        merged(when("a == 2"), {"13": block(["12", 0], "left out on purpose"), "14": show(["13", 0])}),
        [
            Queue(made=ALL, calls={"side": [(1, 1), (1, 2)]}, error=says("left out on purpose"), ending=False),
        ],
    ),
    Shape(
        "a preview of what the judge makes, no message",
        "the judge's own side outputs may be blocked too",
        merged(ACCEPT_FIRST, when("a == 2"), {"13": block(["21", 0]), "14": show(["13", 0])}),
        [Queue(made=FIRSTS, calls={"side": [(1, 1)]})],
    ),
    Shape(
        "the picture of a loop in the loop",
        "the inner loop ends with an error, so the outer one does",
        merged(when("a == 2"), INNER),
        [Queue(error=says("block", r"\bnode 113\b"))],
    ),
]
