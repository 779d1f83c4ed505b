"""Several of the other files' kinds in one graph."""

from __future__ import annotations

import json
from typing import Any

from comfy_test_graphs import Graph, node, ours, plan_text
from common_shapes import through
from nested_shapes import OUTER, TWO, inner
from shape import (
    ACCEPT_FIRST,
    ACCEPT_NONE,
    ALL,
    ATTEMPT,
    FIRSTS,
    HAS_REFERENCE,
    LOOP,
    PROMPT,
    REFERENCE,
    SEED,
    STEP,
    Change,
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
from side_shapes import once

THREE = [(1, 1), (1, 2), (1, 3)]
SIDE: Change = {"14": show(["12", 0])}
GATE: Change = {"30": {"gate": "stop_after_step"}}


def level(n: int, text: Any, seed: Any, **draw: Any) -> Change:
    """A loop without a judge whose nodes' ids begin with `n`."""
    p = str(n)
    return {
        p + "01": ours("PlanFromText", text=text, max_steps=10, title=""),
        p + "02": ours("LoopOpen", plan=[p + "01", 0], seed=seed),
        p + "12": body("Draw", seed=[p + "02", 5], prompt=[p + "02", 1], label=f"level {n}", **draw),
        p + "30": close([p + "02", 0], [p + "12", 0]),
        p + "40": ours("UnpackDocument", document=[p + "30", 0]),
    }


def three(**draw: Any) -> Change:
    """Loop 2 in loop 1 in the base loop: 30's picture is 1's, whose picture is 2's."""
    one = level(1, PROMPT, SEED)
    two = level(2, ["102", 1], ["102", 5], **draw)
    return merged(one, two, {"112": None, "130": {"image": ["240", 3]}, "12": None, "30": {"image": ["140", 3]}})


def chained(**second: Any) -> Graph:
    """Loop x edits the document of the base loop."""
    one = changed(base(), ACCEPT_FIRST)
    two = renamed(changed(one, {"2": {"seed": 9_000_000}}), {i: "x" + i for i in one})
    g = one | two
    g["u"] = ours("UnpackDocument", document=["30", 0])
    g["x12"]["inputs"].update({"reference": ["u", 3], **second})
    return g


def two_loops(**more: Any) -> Graph:
    one = changed(base(), ACCEPT_FIRST)
    two = renamed(changed(one, {"2": {"seed": 9_000_000}}), {i: "x" + i for i in one})
    return one | two | more


def for_loop(total: int = 2, **draw: Any) -> Change:
    """The whole loop stands in another pack's for-loop."""
    return {
        "50": body("ForOpen", total=total, value=["49", 0]),
        "49": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "1": {"text": TWO},
        "12": draw,
        "u": ours("UnpackDocument", document=["30", 0]),
        "52": body("ForClose", flow=["50", 0], value=["u", 3], index=["50", 1], total=total),
        "53": show(["52", 0], "end"),
    }


def async_side() -> Change:
    late = {"13": body("Late", image=["12", 0], seconds=0.3), "14": show(["13", 0])}
    return {**late, "18": body("ShowAll", value=["13", 0], label="all")}  # has no outputs of its own


def failing_side(how: str) -> Change:
    fail = body("Fail", value=["12", 0], step=STEP, attempt=ATTEMPT, at="2:1", how=how)
    return {"13": fail, "14": show(["13", 0])}


SHAPES = [
    Shape(
        "three loops in each other",
        "each level is run by the one above it",
        merged(ACCEPT_FIRST, three()),
        [Queue(made=FIRSTS, calls={"level 2": 2}), Queue(made=[], calls={"level 2": 0})],
    ),
    Shape(
        "three loops, the innermost reads the outermost",
        "values go down two levels",
        merged(ACCEPT_FIRST, three(other=PROMPT, reference=REFERENCE)),
        [Queue(made=FIRSTS, calls={"level 2": 2}), Queue(made=[], calls={"level 2": 0})],
    ),
    Shape(
        "three loops whose Opens depend on none",
        "the innermost reads the two others",
        merged(
            ACCEPT_FIRST,
            three(other=PROMPT),
            {
                "101": {"text": TWO},
                "102": {"seed": 5},
                "201": {"text": TWO},
                "202": {"seed": 6},
                "212": {"label": "l", "reference": ["102", 2]},
            },
        ),
        [Queue(made=FIRSTS, calls={"l": 8}), Queue(made=[], calls={"l": 0})],
    ),
    Shape(
        "three loops with a preview in each",
        "each preview belongs to the loop that it looks at",
        merged(
            ACCEPT_FIRST,
            three(),
            {"214": show(["212", 0], "s2"), "114": show(["240", 3], "s1"), "14": show(["140", 3], "s0")},
        ),
        [Queue(made=FIRSTS, calls={"s2": 2, "s1": 2, "s0": FIRSTS}), Queue(made=[], calls={"s2": 0, "s1": 0, "s0": 0})],
    ),
    Shape(
        "three loops, the innermost fails",
        "all three levels go on where they were",
        merged(
            ACCEPT_FIRST,
            three(other=PROMPT),
            {
                "201": {"text": TWO},
                "213": body("Fail", value=["212", 0], step=["202", 6], attempt=STEP, at="2:2", how="raise"),
                "230": {"image": ["213", 0]},
            },
        ),
        [
            Queue(made={"30": [(1, 1)]}, error=says("node 213"), calls={"level 2": 4}),
            Queue(made=[(2, 1)], calls={"level 2": 1}),
        ],
    ),
    Shape(
        "a loop after a loop that uses its prompt",
        "there is no prompt any more: told before anything runs, for nothing would ever run the second loop",
        {},
        [Queue(made={"30": [], "x30": []}, pictures={}, error=says("Loop Close x30", "Loop Open 2", "document"))],
        graph=lambda: chained(other=["2", 1]),
    ),
    Shape(
        "a loop after a loop that uses a node of its body",
        "the same one node further",
        {},
        [Queue(made={"30": [], "x30": []}, pictures={}, error=says("Loop Close x30", "Loop Open 2", "document"))],
        graph=lambda: chained(other=["12", 0]),
    ),
    Shape(
        "a loop beside the picture that uses the prompt",
        "it is in the other loop, whose picture does not need it",
        {},
        [Queue(made={"30": FIRSTS, "x30": [(1, 1), (2, 1), (1, 1), (2, 1)]}, pictures={"31": 2})],
        graph=lambda: changed(two_loops(), {"x12": {"other": ["2", 1]}}),
    ),
    Shape(
        "a preview of two loops' pictures",
        "there is no moment at which both are there; each loop is made all the same, once",
        {},
        [Queue(made={"30": FIRSTS, "x30": FIRSTS}, pictures={"31": 2, "x31": 2}, calls={"side": 0})],
        graph=lambda: two_loops(b=node("ImageBatch", image1=["12", 0], image2=["x12", 0]), s=show(["b", 0])),
    ),
    Shape(
        "a preview of a picture and another loop's document",
        "the other loop is over by then",
        {},
        [Queue(made={"30": FIRSTS, "x30": FIRSTS}, pictures={"31": 2, "x31": 2}, calls={"side": FIRSTS})],
        graph=lambda: two_loops(
            u=ours("UnpackDocument", document=["x30", 0]),
            b=node("ImageBatch", image1=["12", 0], image2=["u", 3]),
            s=show(["b", 0]),
        ),
    ),
    Shape(
        "previews behind a preview",
        "output nodes may hand on what they show",
        merged(ACCEPT_FIRST, SIDE, {"15": show(["14", 0], "second"), "16": show(["15", 0], "third")}),
        [
            Queue(made=FIRSTS, calls={"side": FIRSTS, "second": FIRSTS, "third": FIRSTS}),
            Queue(made=[], calls={"side": 0, "second": 0, "third": 0}),
        ],
    ),
    Shape(
        "previews behind a preview, added",
        "the same beside recalled pictures",
        merged(ACCEPT_FIRST),
        [
            Queue(made=FIRSTS),
            Queue(merged(SIDE, {"15": show(["14", 0], "second")}), made=[], calls={"side": FIRSTS, "second": FIRSTS}),
            Queue(merged(SIDE, {"15": show(["14", 0], "second")}), made=[], calls={"side": 0, "second": 0}),
        ],
    ),
    Shape(
        "a preview in the inner loop of what reads the outer one",
        "it belongs to the inner loop",
        merged(
            ACCEPT_FIRST,
            inner(TWO, 77, **OUTER),
            {"113": body("Draw", seed=SEED, prompt=PROMPT, other=["112", 0], label="d"), "114": show(["113", 0])},
        ),
        [Queue(made=FIRSTS, calls={"inner": 8, "side": 8})],
    ),
    Shape(
        "a preview that always changes",
        "it is no part of the picture, which is recalled; it has been shown",
        merged(ACCEPT_FIRST, {"13": body("Changed", value=["12", 0], how="nan"), "14": show(["13", 0])}),
        [Queue(made=FIRSTS, calls={"side": FIRSTS}), Queue(made=[], calls={"side": 0})],
    ),
    Shape(
        "a preview that always changes, with a gate",
        "the same over a gate",
        merged(ACCEPT_FIRST, GATE, {"13": body("Changed", value=["12", 0], how="nan"), "14": show(["13", 0])}),
        [Queue(made=[(1, 1)], pictures=1, calls={"side": [(1, 1)]}), Queue(made=[(2, 1)], calls={"side": [(2, 1)]})],
    ),
    Shape(
        "a preview that is added at a gate",
        "the person wants to see what there is, and what comes",
        merged(ACCEPT_FIRST, GATE),
        [Queue(made=[(1, 1)], pictures=1), Queue(SIDE, made=[(2, 1)], calls={"side": FIRSTS})],
    ),
    Shape(
        "a preview that is changed, taken away and put back",
        "a changed one is another one; the first has been shown",
        ACCEPT_FIRST,
        [
            Queue(SIDE, made=FIRSTS, calls={"side": FIRSTS}),
            Queue({"14": show(["12", 0], "other")}, made=[], calls={"other": FIRSTS}),
            Queue(made=[]),
            Queue(SIDE, made=[], calls={"side": 0}),
        ],
    ),
    Shape(
        "a blocked preview in the judge's way",
        "its block is the verdict's",
        {
            "40": node("ComfyMathExpression", expression="a == 2", **{"values.a": STEP}),
            "13": body("Block", value=["12", 0], block=["40", 2]),
            "14": show(["13", 0]),
            "17": node("GetImageSize", image=["14", 0]),
            "20": {"values.c": ["17", 0], "expression": "b >= 2 + 0 * c"},
        },
        [Queue(made=ALL[:3], error=says("step 2, attempt 1", "node 13"))],
        needs_cache=True,
    ),
    Shape(
        "one picture of a list is blocked",
        "ComfyUI blocks a node for any element of a list",
        merged(ACCEPT_FIRST, through(body("BlockOne", value=["12", 0], which=1))),
        [Queue(made=[], error=says("step 1, attempt 1", "node 13"))],
    ),
    Shape(
        "the first picture of a list is blocked",
        "and that may be the first",
        merged(ACCEPT_FIRST, through(body("BlockOne", value=["12", 0], which=0))),
        [Queue(made=[], error=says("step 1, attempt 1", "node 13"))],
    ),
    Shape(
        "one picture of a list is blocked above a node",
        "and nodes may stand between",
        merged(
            ACCEPT_FIRST,
            through(body("BlockOne", value=["12", 0], which=2)),
            {"15": body("Pass", value=["13", 0]), "30": {"image": ["15", 0]}},
        ),
        [Queue(made=[], error=says("step 1, attempt 1", "node 13"))],
        needs_cache=True,
    ),
    Shape(
        "one judgment of a list is blocked",
        "the same behind the critic",
        merged(ACCEPT_FIRST, {"22": body("BlockOne", value=["21", 0], which=1), "30": {"judgment": ["22", 0]}}),
        [Queue(made=[(1, 1)], error=says("step 1, attempt 1", "node 22"))],
    ),
    Shape(
        "a block behind a lazy switch",
        "it blocks where the switch takes it",
        merged(
            ACCEPT_FIRST,
            {
                "13": body("Block", value=["12", 0], block=True),
                "15": node("ComfySwitchNode", switch=HAS_REFERENCE, on_true=["13", 0], on_false=["12", 0]),
                "30": {"image": ["15", 0]},
            },
        ),
        [Queue(made=[(1, 1)], error=says("step 2, attempt 1", "node 13"))],
        needs_cache=True,
    ),
    Shape(
        "a block out of a node that places nodes",
        "the node of the graph that the user sees is named",
        merged(ACCEPT_FIRST, through(body("ExpandBlock", value=["12", 0]))),
        [Queue(made=[], error=says("step 1, attempt 1", "node 13"))],
    ),
    Shape(
        "a block out of a node that places nodes, in the judge",
        "the same for the verdict",
        merged(ACCEPT_FIRST, {"22": body("ExpandBlock", value=["21", 0]), "30": {"judgment": ["22", 0]}}),
        [Queue(made=[(1, 1)], error=says("step 1, attempt 1", "node 22"))],
    ),
    Shape(
        "a block in a for-loop of the body",
        "in a later round",
        merged(
            ACCEPT_FIRST,
            {
                "50": body("ForOpen", total=3, value=["12", 0]),
                "51": body("Block", value=["50", 2], block=["54", 2]),
                "54": node("ComfyMathExpression", expression="a == 1", **{"values.a": ["50", 1]}),
                "52": body("ForClose", flow=["50", 0], value=["51", 0], index=["50", 1], total=3),
                "30": {"image": ["52", 0]},
            },
        ),
        [Queue(made=[], error=says("step 1, attempt 1", "block"))],
    ),
    Shape(
        "a loop in another pack's for-loop",
        "each round is the same loop, so the second is recalled",
        merged(ACCEPT_FIRST, for_loop(seed=SEED)),
        [Queue(pictures={"31": 2}, calls={"end": 1, "draw": 2})],
    ),
    Shape(
        "a loop in a for-loop that reads the round",
        "each round has pictures of its own",
        merged(ACCEPT_FIRST, for_loop(3, other=["50", 1], label="d")),
        [Queue(pictures={"31": 2}, calls={"end": 1, "d": 6}), Queue(calls={"d": 0})],
    ),
    Shape(
        "a loop in a for-loop that reads its picture",
        "the last round's picture is the next one's reference",
        merged(ACCEPT_FIRST, for_loop(3, reference=["50", 2], label="d"), {"12": {"size": 64}}),
        [Queue(pictures={"31": 2}, calls={"end": 1, "d": 6})],
    ),
    Shape(
        "a loop in a for-loop with a seed of each round",
        "Loop Open may be driven by it, too",
        merged(ACCEPT_FIRST, for_loop(3), {"2": {"seed": ["50", 1]}}),
        [Queue(pictures={"31": 2}, calls={"end": 1, "draw": 6})],
    ),
    Shape(
        "a loop that another node places",
        "a pack may use ours",
        {"70": body("ExpandLoop", text=TWO, seed=5), "71": ours("SaveDocument", document=["70", 0])},
        [
            Queue(pictures={"31": 2, "71": 2}, calls={"placed draw": 2, "placed side": 2}),
            Queue(pictures={"31": 2, "71": 2}, calls={"placed draw": 0, "placed side": 0}),
        ],
    ),
    Shape(
        "a loop that another node places, in a loop",
        "in each attempt",
        merged(
            ACCEPT_FIRST, {"70": body("ExpandLoop", text=PROMPT, seed=SEED), "12": None, "30": {"image": ["70", 1]}}
        ),
        [Queue(made={"30": FIRSTS}, calls={"placed draw": 2, "placed side": 2}), Queue(calls={"placed draw": 0})],
    ),
    Shape(
        "a text that takes the place of a judgment",
        "an any-switch takes the wrong one",
        {
            "22": body("Many", value=["21", 0], count=2),
            "23": body("Many", value=PROMPT, count=2),
            "24": body("FirstOf", any_1=["23", 0], any_2=["22", 0]),
            "30": {"judgment": ["24", 0]},
        },
        [Queue(error=says("step 1, attempt 1", "judgment"))],
    ),
    Shape(
        "a judgment from a lazy switch",
        "two critics, one at a time",
        merged(
            {
                "23": ours("Judgment", accepted=True, refined_prompt="", reasoning="yes"),
                "40": node("ComfyMathExpression", expression="b == 2", **{"values.a": STEP, "values.b": ATTEMPT}),
                "24": node("ComfySwitchNode", switch=["40", 2], on_true=["23", 0], on_false=["21", 0]),
                "30": {"judgment": ["24", 0]},
            }
        ),
        [Queue(made=ALL)],
    ),
    Shape(
        "a preview that hands on the picture",
        "it is part of the picture, and shown once",
        merged(ACCEPT_FIRST, SIDE, {"30": {"image": ["14", 0]}, "15": show(["14", 0], "b")}),
        [Queue(made=FIRSTS, calls={"side": 2, "b": 2}), Queue(made=[], calls={"side": 0, "b": 0})],
    ),
    Shape(
        "a preview before one that hands on the picture",
        "both are shown once",
        merged(ACCEPT_FIRST, SIDE, {"30": {"image": ["14", 0]}, "15": show(["12", 0], "b")}),
        [Queue(made=FIRSTS, calls={"side": 2, "b": 2}), Queue(made=[], calls={"side": 0, "b": 0})],
    ),
    Shape(
        "the document through reroutes to two saves",
        "one run, saved twice",
        {
            "70": body("Pass", value=["30", 0]),
            "71": body("FirstOf", any_1=["70", 0]),
            "32": ours("SaveDocument", document=["71", 0]),
        },
        [Queue(made=ALL, pictures={"31": 2, "32": 2})],
    ),
    Shape(
        "a second end that nothing needs",
        "ComfyUI does not run it",
        merged(ACCEPT_FIRST, {"60": close(LOOP, ["13", 0]), "13": body("Draw", seed=SEED, prompt=PROMPT, label="un")}),
        [Queue(made=FIRSTS, calls={"un": 0})],
    ),
    Shape(
        "a second end that nothing needs, and a preview on it",
        "the preview was asked for: the loop that runs shows it",
        merged(
            ACCEPT_FIRST,
            {
                "60": close(LOOP, ["13", 0]),
                "13": body("Draw", seed=SEED, prompt=PROMPT, label="un"),
                "14": show(["13", 0]),
            },
        ),
        [Queue(made=FIRSTS, calls={"side": FIRSTS, "un": 2})],
    ),
    Shape(
        "only a preview in the inner loop is queued",
        "it has nothing to show without the outer loop",
        merged(ACCEPT_FIRST, inner(), {"113": show(["112", 0])}),
        [Queue(targets=["113"], error=says("Loop Close"), calls={"side": 0, "inner": 0})],
    ),
    Shape(
        "only the inner document is queued",
        "the same",
        merged(ACCEPT_FIRST, inner(), {"141": ours("SaveDocument", document=["130", 0])}),
        [Queue(targets=["141"], error=says("Loop Close"), calls={"inner": 0})],
    ),
    Shape(
        "only the inner document is queued, its Open depends on nothing",
        "its body still needs the outer loop",
        merged(ACCEPT_FIRST, inner(TWO, 77, **OUTER), {"141": ours("SaveDocument", document=["130", 0])}),
        [Queue(targets=["141"], error=says("Loop Close"), calls={"inner": 0})],
    ),
    Shape(
        "the document and one inner preview are queued",
        "the other one is not shown",
        merged(ACCEPT_FIRST, inner(), {"113": show(["112", 0]), "114": show(["112", 0], "b")}),
        [Queue(made=FIRSTS, targets=["31", "113"], calls={"side": 4, "b": 0, "inner": 4})],
    ),
    Shape(
        "t_max from the loop itself",
        "Loop Close waits for a value that exists only inside of its loop: told, for it would never run",
        {"30": {"t_max": ["40", 1]}, "40": node("ComfyMathExpression", expression="a + 1", **{"values.a": STEP})},
        [Queue(error=says("node 40", "step", "loop"))],
    ),
    Shape(
        "run_name from the loop itself",
        "the same without a node between",
        {"30": {"run_name": PROMPT}},
        [Queue(error=says("run_name"))],
    ),
    Shape(
        "the loop's wire through a switch on has_reference",
        "the switch is blocked, and Loop Close with it",
        {"70": node("ComfySwitchNode", switch=HAS_REFERENCE, on_true=LOOP, on_false=LOOP), "30": {"loop": ["70", 0]}},
        [Queue(error=says("loop"))],
    ),
    Shape(
        "the loop's wire through an any-switch with the prompt",
        "a node is blocked by any of its inputs",
        {"70": body("FirstOf", any_01=LOOP, any_02=PROMPT), "30": {"loop": ["70", 0]}},
        [Queue(error=says("loop"))],
    ),
    Shape(
        "Loop Open's seed from itself",
        "ComfyUI refuses circles",
        {"2": {"seed": STEP}},
        [Queue(error=says(""), in_our_words=False)],
    ),
    Shape(
        "all that is saved waits for the prompt",
        "the document could be made, and nobody would get it",
        {"31": {"document": ["70", 0]}, "70": body("FirstOf", any_01=["30", 0], any_02=PROMPT)},
        [Queue(error=says("Loop"))],
    ),
    Shape(
        "an async answer that stays the same",
        "ComfyUI waits for such nodes, so must we",
        merged(ACCEPT_FIRST, through(body("ChangedLater", value=["12", 0]))),
        [Queue(made=FIRSTS), Queue(made=[])],
    ),
    *(
        Shape(
            f"an answer: {how}",
            "an answer may be long or a list",
            merged(ACCEPT_FIRST, through(body("Changed", value=["12", 0], how=how))),
            [Queue(made=FIRSTS), Queue(made=[])],
        )
        for how in ("list", "long", "digits")
    ),
    *(
        Shape(
            f"an answer: {how}",
            "a NaN anywhere, and what differs each time",
            merged(ACCEPT_FIRST, through(body("Changed", value=["12", 0], how=how))),
            [Queue(made=FIRSTS, warned=says(r"\bnode 13\b")), Queue(made=FIRSTS)],
        )
        for how in ("list with nan", "object")
    ),
    *(
        Shape(
            f"an answer: {how}",
            "nobody waits a minute to find out",
            merged(ACCEPT_FIRST, through(body("Changed", value=["12", 0], how=how))),
            [Queue(made=FIRSTS, warned=says(r"\bnode 13\b"))],
        )
        for how in ("minutes", "minute")
    ),
    Shape(
        "a for-loop that writes pictures into nodes",
        "pictures that differ in one pixel are two: nothing may be recalled for the other",
        merged(
            ACCEPT_FIRST,
            for_loop(3),
            {
                "12": None,
                "13": body("FirstOf", any_1=["50", 2], any_2=PROMPT),
                "15": body("Pass", value=["13", 0], label="d"),
                "30": {"image": ["15", 0]},
                "51": body("Dot", image=["u", 3], number=1),
                "52": {"value": ["51", 0]},
            },
        ),
        [Queue(pictures={"31": 2}, calls={"d": 6}), Queue({"51": {"number": 5}}, pictures={"31": 2}, calls={"d": 4})],
    ),
    Shape(
        "the loop's wire through an any-switch between two Opens",
        "the first one is taken, and the other needs no end of its own",
        merged(
            ACCEPT_FIRST,
            {
                "92": ours("LoopOpen", plan=["1", 0], seed=3),
                "70": body("FirstOf", any_1=LOOP, any_2=["92", 0]),
                "30": {"loop": ["70", 0]},
            },
        ),
        [Queue(made=FIRSTS), Queue(made=[])],
    ),
    Shape(
        "previews added after a run of 20 steps",
        "more pictures than are shown at a time",
        merged(ACCEPT_FIRST, {"1": {"text": plan_text(20)}}),
        [
            Queue(pictures=20),
            Queue(
                merged(
                    SIDE,
                    {
                        "15": show(["12", 0], "b"),
                        "16": body("Draw", seed=SEED, prompt=PROMPT, other=["12", 0], label="dd"),
                        "17": show(["16", 0], "c"),
                    },
                ),
                made=[],
                pictures=20,
                calls={"side": 20, "b": 20, "c": 20, "dd": 20},
            ),
            Queue(
                merged(SIDE, {"15": show(["12", 0], "b"), "17": show(["12", 0], "c")}),
                pictures=20,
                calls={"side": 0, "b": 0, "c": 20},
            ),
        ],
    ),
    Shape(
        "always changed, a preview added at a gate",
        "the pictures of the run are shown",
        merged(ACCEPT_FIRST, GATE, through(body("Changed", value=["12", 0], how="nan"))),
        [
            Queue(made=[(1, 1)], pictures=1),
            Queue({"14": show(["13", 0])}, made=[(2, 1)], calls={"side": FIRSTS}),
            Queue({"14": show(["13", 0])}, made=[], calls={"side": 0}),
        ],
    ),
    Shape(
        "always changed, accepted when done, then not",
        "accepted is what was seen; without it all is made anew",
        merged(ACCEPT_NONE, {"30": {"t_max": 2}}, through(body("Changed", value=["12", 0], how="time")), SIDE),
        [Queue(made=ALL), Queue({"30": {"accept_attempts": "2:1"}}, made=[], calls={"side": 0}), Queue(made=ALL)],
    ),
    Shape(
        "always changed in the inner loop, gate at the outer",
        "the outer run goes on after its gate",
        merged(
            ACCEPT_FIRST,
            GATE,
            inner(TWO, 77, **OUTER),
            {"113": body("Changed", value=["112", 0], how="nan"), "130": {"image": ["113", 0]}},
        ),
        [
            Queue(made=[(1, 1)], pictures=1, calls={"inner": 4}),
            Queue(made=[(2, 1)], recalled=[(1, 1)], calls={"inner": 4}),
        ],
    ),
    Shape(
        "a gate at the inner loop",
        "the inner run ends there, and the outer goes on with what it gave",
        merged(ACCEPT_FIRST, inner(TWO, 77, **OUTER), {"130": {"gate": "stop_after_step"}}),
        [Queue(made=FIRSTS), Queue()],
    ),
    Shape(
        "always changed in the inner loop, run again",
        "what the inner loop makes makes the outer picture",
        merged(
            ACCEPT_FIRST, inner(), {"113": body("Changed", value=["112", 0], how="nan"), "130": {"image": ["113", 0]}}
        ),
        [Queue(made=FIRSTS, calls={"inner": 4}), Queue(made=FIRSTS, calls={"inner": 4})],
    ),
    Shape(
        "accepted at the outer loop",
        "inner loops are recalled with it",
        merged(ACCEPT_NONE, {"30": {"t_max": 2}}, inner()),
        [Queue(made=ALL), Queue({"30": {"accept_attempts": "1:1"}}, made=[], recalled=[(1, 1), (2, 1), (2, 2)])],
    ),
    *(
        Shape(
            f"always changed, exhausted {how}",
            "an exhausted step is chosen among what was seen",
            merged(
                ACCEPT_NONE,
                {"30": {"on_exhausted": how, "t_max": 2}},
                through(body("Changed", value=["12", 0], how="nan")),
            ),
            [
                Queue(made=ALL if how == "first" else ALL[:2], pictures=2 if how == "first" else {}),
                Queue(made=ALL if how == "first" else ALL[:2], pictures={}),
            ],
        )
        for how in ("first", "stop")
    ),
    Shape(
        "one attempt a step, and a preview of the verdict",
        "there is no verdict",
        {"30": {"t_max": 1}, "14": show(["21", 0])},
        [Queue(made=FIRSTS), Queue(made=[])],
    ),
    Shape(
        "the reference as the picture",
        "nothing is made",
        {"30": {"image": REFERENCE}},
        [Queue(error=says("Loop Open"))],
    ),
    Shape(
        "the picture from inside of an inner loop",
        "only its document leaves a loop",
        merged(ACCEPT_FIRST, inner(), {"30": {"image": ["112", 0]}}),
        [Queue(error=says("102"))],
    ),
    Shape(
        "two loops that use each other's prompt",
        "neither can be inside of the other",
        {},
        [Queue(error=says("loop"))],
        graph=lambda: changed(two_loops(), {"x12": {"other": ["2", 1]}, "12": {"other": ["x2", 1]}}),
    ),
    Shape(
        "only a preview is queued, after the whole",
        "Loop Open is known to ComfyUI, and must say it all the same",
        merged(ACCEPT_FIRST, SIDE),
        [Queue(made=FIRSTS), Queue(targets=["14"], error=says("Loop Close"), made=[]), Queue(made=[])],
    ),
    Shape(
        "t_max from the loop itself, after a run",
        "the same where a wire is changed",
        ACCEPT_FIRST,
        [Queue(made=FIRSTS), Queue({"30": {"t_max": STEP}}, error=says("node 30"))],
    ),
    Shape(
        "t_max from an earlier loop's document",
        "that is a value like any other",
        {},
        [Queue(made={"30": FIRSTS, "x30": FIRSTS}, pictures={"31": 2, "x31": 2})],
        graph=lambda: (
            two_loops(u=ours("UnpackDocument", document=["30", 0]), z=node("GetImageSize", image=["u", 3]))
            | {"x30": close(["x2", 0], ["x12", 0], judgment=["x21", 0], t_max=["z", 2])}
        ),
    ),
    Shape(
        "a preview of the inner prompt, added",
        "it shows only while the inner loop runs, and ends nothing",
        merged(ACCEPT_FIRST, inner(TWO, 77, **OUTER)),
        [Queue(made=FIRSTS), Queue({"114": show(["102", 1])}, made=[])],
    ),
    Shape(
        "an interrupt in a preview",
        "the run goes on",
        {
            "13": body("Fail", value=["12", 0], step=STEP, attempt=ATTEMPT, at="2:1", how="interrupt"),
            "14": show(["13", 0]),
        },
        [Queue(error=says("Interrupted")), Queue()],
    ),
    Shape(
        "the agent through a node that takes the prompt",
        "as t_max",
        {
            "8": ours(
                "AgentFromServer", endpoint="test", model="m", max_tokens=16, temperature=0.0, max_megapixels=1.0
            ),
            "9": body("FirstOf", any_1=["8", 0], any_2=PROMPT),
            "30": {"agent": ["9", 0]},
        },
        [Queue(error=says("node 9", "prompt"))],
    ),
    *(
        Shape(
            f"ids {a!r}",
            "an id is any text",
            {},
            [Queue(made={a + "c": ALL}, pictures={"31": 2}), Queue(made={a + "c": []}, pictures={"31": 2})],
            graph=lambda a=a: renamed(
                changed(base(), SIDE, through(body("Pass", value=["12", 0]))),
                {
                    "12": a,
                    "13": a.replace(":", "%3A") + "d",
                    "14": a.replace("%", "%25") + "e",
                    "30": a + "c",
                    "2": a + "o",
                },
            ),
        )
        for a in (
            "a:b%3Ac",
            "%",
            "%25%3A",
            ".",
            "a b.c",
            " ",
            "é/😀",
            "x.s1a1.",
            "30.0.0.1",
            "../..",
            "'\"<b>",
            "constructor",
            "\n",
        )
    ),
    Shape(
        "a slow async preview, with a gate",
        "the run ends after it",
        merged(ACCEPT_FIRST, GATE, async_side()),
        [
            Queue(made=[(1, 1)], pictures=1, calls={"side": [(1, 1)]}),
            Queue(made=[(2, 1)], pictures=2, check=once(*FIRSTS)),
            Queue(made=[], check=once(*FIRSTS)),
        ],
    ),
    Shape(
        "a slow async preview",
        "the same at the end of a run",
        merged(ACCEPT_FIRST, async_side()),
        [
            Queue(made=FIRSTS, check=once(*FIRSTS)),
            Queue({"15": show(["12", 0], "b")}, made=[], check=once(*FIRSTS), calls={"b": FIRSTS}),
        ],
    ),
    Shape(
        "a slow async preview, added",
        "and beside recalled pictures",
        merged(ACCEPT_FIRST, {"1": {"text": plan_text(10)}}),
        [
            Queue(pictures=10),
            Queue(async_side(), pictures=10, calls={"side": 10}),
            Queue(merged(async_side(), {"15": show(["12", 0], "b")}), pictures=10, calls={"side": 0, "b": 10}),
        ],
    ),
    Shape(
        "an added preview that fails",
        "what was shown before is not shown again",
        merged({}),
        [
            Queue(made=ALL),
            Queue(failing_side("raise"), made=[], error=says("step 2, attempt 1", "node 13")),
            Queue(failing_side("raise"), made=[], check=once(*ALL)),
        ],
    ),
    Shape(
        "an added preview that is interrupted",
        "the same",
        merged({}),
        [
            Queue(made=ALL),
            Queue(failing_side("interrupt"), made=[], error=says("Interrupted at step 2, attempt 1")),
            Queue(failing_side("interrupt"), made=[], check=once(*ALL)),
        ],
    ),
    Shape(
        "an added preview that is blocked at some pictures",
        "it is left out there",
        merged({}),
        [
            Queue(made=ALL),
            Queue(
                {
                    "40": node("ComfyMathExpression", expression="a == 2", **{"values.a": STEP}),
                    "13": body("Block", value=["12", 0], block=["40", 2]),
                    "14": show(["13", 0]),
                },
                made=[],
                calls={"side": ALL[:2]},
            ),
        ],
    ),
    Shape(
        "steps of text before and after",
        "a preview has no picture there",
        merged(
            ACCEPT_FIRST,
            {
                "1": {
                    "text": json.dumps(
                        {
                            "execution_plan": [
                                {"step_number": 1, "step_name": "a", "auxiliary_text": "hello", "prompt": None},
                                {"step_number": 2, "step_name": "b", "prompt": "p", "instruction": "p"},
                                {"step_number": 3, "step_name": "c", "auxiliary_text": "bye", "prompt": None},
                            ]
                        }
                    )
                }
            },
            SIDE,
        ),
        [Queue(pictures=1, calls={"side": 1}), Queue(pictures=1, calls={"side": 0})],
    ),
    Shape(
        "a preview of the verdict, added",
        "it is shown only while there is one; a warning names it",
        {},
        [Queue(made=ALL), Queue({"14": show(["21", 0])}, made=[], calls={"side": 0}, warned=says("node 14"))],
    ),
    Shape(
        "sixty attempts with three previews",
        "the last ones take no longer than the first",
        merged(
            ACCEPT_NONE, {"1": {"text": plan_text(20)}}, SIDE, {"15": show(["12", 0], "b"), "16": show(["12", 1], "c")}
        ),
        [Queue(pictures=20, calls={"side": 60, "b": 60, "c": 60}), Queue(pictures=20, calls={"side": 0})],
    ),
    Shape(
        "an inner loop around the picture, as a preview",
        "it ends before the attempt does",
        merged(
            ACCEPT_FIRST,
            level(1, PROMPT, SEED, reference=["12", 0]),
            {"141": ours("SaveDocument", document=["130", 0]), "14": show(["140", 3])},
        ),
        [
            Queue(made={"30": FIRSTS, "130": [(1, 1)] * 2}, calls={"side": FIRSTS, "level 1": 2}),
            Queue(made={"30": [], "130": []}, calls={"side": 0, "level 1": 0}),
        ],
    ),
    Shape(
        "an inner loop around the picture, added",
        "it runs beside recalled pictures",
        ACCEPT_FIRST,
        [
            Queue(made=FIRSTS),
            Queue(
                merged(level(1, PROMPT, SEED, reference=["12", 0]), {"14": show(["140", 3])}),
                made={"30": [], "130": [(1, 1)] * 2},
                calls={"side": FIRSTS, "level 1": 2},
            ),
            Queue(
                merged(level(1, PROMPT, SEED, reference=["12", 0]), {"14": show(["140", 3])}),
                made={"30": [], "130": []},
                calls={"side": 0, "level 1": 0},
            ),
        ],
    ),
    Shape(
        "a loop in the judge",
        "a critic may try, too",
        merged(
            level(1, PROMPT, SEED, reference=["12", 0]),
            {
                "17": node("GetImageSize", image=["140", 3]),
                "20": {"values.c": ["17", 0], "expression": "b >= 2 + 0 * c"},
            },
        ),
        [Queue(made={"30": ALL, "130": [(1, 1)] * 4}, calls={"level 1": 4}), Queue(made={"30": [], "130": []})],
    ),
    Shape(
        "a loop in the judge that fails",
        "the picture is kept, and the inner verdicts go on",
        merged(
            level(1, PROMPT, SEED, reference=["12", 0]),
            {
                "113": body("Fail", value=["112", 0], step=STEP, attempt=ATTEMPT, at="2:1", how="raise"),
                "130": {"image": ["113", 0]},
                "17": node("GetImageSize", image=["140", 3]),
                "20": {"values.c": ["17", 0], "expression": "b >= 2 + 0 * c"},
            },
        ),
        [
            Queue(made={"30": ALL[:3], "130": [(1, 1)] * 2}, error=says("node 113")),
            Queue(made={"30": ALL[3:], "130": [(1, 1)] * 2}, recalled=ALL[:3]),
        ],
    ),
    Shape(
        "a second end that is needed later",
        "its preview is shown by the loop that runs",
        merged(
            ACCEPT_FIRST,
            {"60": close(LOOP, ["13", 0]), "13": body("Upscale", image=["12", 0], by=2), "14": show(["13", 0])},
        ),
        [
            Queue(made=FIRSTS, calls={"side": FIRSTS, "upscale": 2}),
            Queue(
                {"61": ours("SaveDocument", document=["60", 0])},
                made={"30": [], "60": FIRSTS},
                pictures={"31": 2, "61": 2},
            ),
        ],
    ),
    Shape(
        "a for-loop around all but Loop Open",
        "the Opens of all rounds are one",
        merged(
            ACCEPT_FIRST,
            {
                "50": body("ForOpen", total=2, value=["9", 0]),
                "9": node("EmptyImage", width=8, height=8, batch_size=1, color=3),
                "12": {"other": ["50", 1]},
                "u": ours("UnpackDocument", document=["30", 0]),
                "52": body("ForClose", flow=["50", 0], value=["u", 3], index=["50", 1], total=2),
                "53": show(["52", 0], "end"),
            },
            SIDE,
        ),
        [Queue(calls={"draw": 4, "end": 1})],
    ),
]
