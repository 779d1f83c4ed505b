"""What popular packs do in a body, and has always worked: it must stay so."""

from __future__ import annotations

from comfy_test_graphs import Graph, node, ours, plan_text
from shape import (
    ACCEPT_FIRST,
    ALL,
    ATTEMPT,
    FIRSTS,
    HAS_REFERENCE,
    NO_JUDGE,
    PROMPT,
    REFERENCE,
    SEED,
    STEP,
    THREE_STEPS,
    Change,
    Queue,
    Shape,
    base,
    body,
    changed,
    merged,
    renamed,
    says,
)

IMAGE = {"30": {"image": ["13", 0]}}
"""The picture comes from node 13."""

EMPTY = node("EmptyImage", width=16, height=16, batch_size=1, color=255)


def through(thirteen: dict[str, object]) -> Change:
    """Node 13 stands between what draws and Loop Close."""
    return {"13": thirteen, **IMAGE}


def chain(length: int, first: list[object], kind: str = "Pass") -> Change:
    """`length` nodes in a row."""
    above = [first, *([f"c{i}", 0] for i in range(length - 1))]
    return {f"c{i}": body(kind, value=link) for i, link in enumerate(above)}


def failing(how: str, at: str = "2:2") -> Change:
    return through(body("Fail", value=["12", 0], step=STEP, attempt=ATTEMPT, at=at, how=how))


def many_loops(count: int) -> Graph:
    graph: Graph = {}
    for number in range(count):
        one = changed(base(), ACCEPT_FIRST, {"2": {"seed": (number + 1) * 7_000_000}})
        graph |= renamed(one, {node_id: f"L{number}_{node_id}" for node_id in one})
    return graph


def chained_loops() -> Graph:
    """The second loop edits the pictures of the first."""
    one = changed(base(), ACCEPT_FIRST)
    two = renamed(one, {node_id: f"x{node_id}" for node_id in one})
    more: Change = {
        "u": ours("UnpackDocument", document=["30", 0]),
        "x2": {"images.image_0": ["u", 3]},
        "x12": {"reference": ["x2", 2]},
    }
    return changed(one | two, more)


MADE_ONCE = [Queue(made=ALL), Queue(made=[])]
"""Queued again, nothing is made anew."""

SHAPES = [
    Shape("plain", "the loop that every other shape begins with", {}, MADE_ONCE),
    Shape(
        "any switch, reference or empty",
        "rgthree's any-switch takes the first that is there; a first step has no reference",
        {"10": EMPTY, "11": body("FirstOf", any_01=REFERENCE, any_02=["10", 0]), "12": {"reference": ["11", 0]}},
        MADE_ONCE,
    ),
    Shape(
        "lazy switch, reference or empty",
        "the usual way to one graph for text-to-image and edit",
        {
            "10": EMPTY,
            "11": node("ComfySwitchNode", switch=HAS_REFERENCE, on_true=REFERENCE, on_false=["10", 0]),
            "12": {"reference": ["11", 0]},
        },
        MADE_ONCE,
    ),
    Shape(
        "a preprocessor behind a lazy switch",
        "a preprocessor needs an image, and the switch never asks it in a first step",
        {
            "9": body("Invert", image=REFERENCE),
            "10": EMPTY,
            "11": node("ComfySwitchNode", switch=HAS_REFERENCE, on_true=["9", 0], on_false=["10", 0]),
            "12": {"reference": ["11", 0]},
        },
        [Queue(made=ALL, calls={"invert": [(2, 1), (2, 2)]}), Queue(made=[])],
    ),
    Shape(
        "a preprocessor behind an any-switch",
        "nothing keeps the preprocessor from running in a first step, so the user is told which node needs a picture",
        {
            "9": body("Invert", image=REFERENCE),
            "10": EMPTY,
            "11": body("FirstOf", any_01=["9", 0], any_02=["10", 0]),
            "12": {"reference": ["11", 0]},
        },
        [Queue(error=says("step 1", r"node 9 \(BodyInvert\)", "picture"))],
    ),
    Shape("an optional reference", "it is left out in a first step", {"12": {"reference": REFERENCE}}, MADE_ONCE),
    Shape(
        "a branch chosen by has_reference, nothing else of the loop",
        "with fixed seeds and texts the second attempt is the first again and is recalled",
        {
            "12": body("Draw", seed=5, label="edit"),
            "14": body("Draw", seed=6, label="text"),
            "13": node("ComfySwitchNode", switch=HAS_REFERENCE, on_true=["12", 0], on_false=["14", 0]),
            **IMAGE,
        },
        [Queue(made=FIRSTS, recalled=[(1, 2), (2, 2)], calls={"text": 1, "edit": 1})],
    ),
    Shape("only the seed", "what ignores the prompt still varies by the seed", {"12": {"prompt": None}}, MADE_ONCE),
    Shape(
        "a list into the picture",
        "of a list of pictures the first goes on",
        through(body("Many", value=["12", 0], count=3)),
        MADE_ONCE,
    ),
    Shape(
        "a list that the judge measures",
        "the judge runs once for each, and the first verdict counts",
        {
            "13": body("Many", value=["12", 0], count=3),
            "17": node("GetImageSize", image=["13", 0]),
            "20": {"values.c": ["17", 0]},
        },
        MADE_ONCE,
    ),
    Shape(
        "nodes that wait",
        "async nodes hold up nobody",
        {
            "13": body("Late", image=["12", 0], seconds=0.05),
            "14": body("Late", image=["12", 0], seconds=0.05),
            "15": node("ImageBatch", image1=["13", 0], image2=["14", 0]),
            "30": {"image": ["15", 0]},
        },
        [Queue(made=ALL, calls={"late": 8}), Queue(made=[], calls={"late": 0})],
    ),
    Shape(
        "a node that places nodes, in the picture",
        "its own expansion stands inside ours",
        through(body("Expand", image=["12", 0])),
        [Queue(made=ALL, calls={"upscale": 4, "placed": 4}), Queue(made=[])],
    ),
    Shape(
        "a for-loop in the picture",
        "loops of other packs repeat the nodes between their ends within one attempt",
        {
            "50": body("ForOpen", total=3, value=["12", 0]),
            "51": body("Upscale", image=["50", 2], by=1),
            "52": body("ForClose", flow=["50", 0], value=["51", 0], index=["50", 1], total=3),
            "30": {"image": ["52", 0]},
        },
        [Queue(made=ALL, calls={"for": 12, "upscale": 12}), Queue(made=[])],
    ),
    Shape(
        "two samplers with latent and mask",
        "what lies between is no picture",
        {
            "17": body("Refine", latent=["12", 1], seed=SEED),
            "18": body("Decode", latent=["17", 0], mask=["12", 2]),
            "30": {"image": ["18", 0]},
        },
        [Queue(made=ALL, calls={"refine": 4}), Queue(made=[])],
    ),
    Shape(
        "sizes that follow the step",
        "each picture and each reference has its own size",
        {"12": {"step": STEP, "reference": REFERENCE}},
        MADE_ONCE,
    ),
    Shape(
        "an upscaler before Loop Close",
        "the large picture is what is kept",
        through(body("Upscale", image=["12", 0], by=2)),
        MADE_ONCE,
    ),
    Shape("gray pictures", "one channel is spread over three", {"12": {"channels": 1}}, MADE_ONCE),
    Shape(
        "pictures with alpha",
        "the run keeps the colours, and the reference has no alpha",
        {"12": {"channels": 4, "reference": REFERENCE}},
        MADE_ONCE,
    ),
    Shape("a batch", "of a batch the first goes on", {"12": {"batch": 3}}, MADE_ONCE),
    Shape("a wildcard socket", "packs pass anything through `*`", through(body("Pass", value=["12", 0])), MADE_ONCE),
    Shape(
        "the prompt through a wildcard",
        "a reroute in the prompt's wire changes nothing",
        {"71": body("Pass", value=PROMPT), "12": {"prompt": ["71", 0]}},
        MADE_ONCE,
    ),
    Shape(
        "a node with VALIDATE_INPUTS",
        "ComfyUI asks it once about the prompt; the copies are not asked",
        through(body("Validated", image=["12", 0], text=PROMPT, mode="a")),
        MADE_ONCE,
    ),
    Shape(
        "hidden inputs",
        "a node finds its own entry through dynprompt and must live with a prompt that does not have it",
        through(body("Hidden", image=["12", 0], title="mine")),
        [
            Queue(
                made=ALL,
                extra={"extra_pnginfo": {"workflow": {"id": "w", "nodes": []}}},
                saw={"hidden": {"title": "mine", "extra": ["workflow"]}},
            )
        ],
    ),
    Shape(
        "a node that sends messages of its own",
        "they come out, once an attempt",
        through(body("Tell", image=["12", 0])),
        [Queue(made=ALL, calls={"tell": ALL}), Queue(made=[], calls={"tell": 0})],
    ),
    Shape(
        "a counter",
        "every copy counts for itself, so attempts stay what they are when others are recalled",
        {"11": body("Count", tick=ATTEMPT), "12": {"step": ["11", 0]}},
        MADE_ONCE,
    ),
    Shape(
        "an output node in the middle",
        "a node that is both output and part of the picture runs once an attempt",
        through(body("Set", name="middle", value=["12", 0])),
        [Queue(made=ALL, calls={"set": ALL}), Queue(made=[], calls={"set": 0})],
    ),
    Shape(
        "set and get beside each other",
        "get has no link to the loop; it must be the same for all attempts and is asked outside",
        {"80": body("Set", name="p", value=PROMPT), "81": body("Get", name="p"), "12": {"other": ["81", 0]}},
        [Queue(made=ALL, calls={"set": ALL})],
    ),
    Shape(
        "get as the picture",
        "without a link nothing says that the picture is the loop's",
        {"80": body("Set", name="pic", value=["12", 0]), "81": body("Get", name="pic"), "30": {"image": ["81", 0]}},
        [Queue(error=says("node 81", "does not depend on Loop Open"))],
    ),
    Shape(
        "nodes outside",
        "what does not depend on the loop runs once for all attempts",
        {"o": EMPTY, "o1": body("Pass", value=["o", 0], label="outside"), "12": {"other": ["o1", 0]}},
        [Queue(made=ALL, calls={"outside": 1})],
        needs_cache=True,
    ),
    Shape(
        "a long row of nodes outside",
        "signatures follow it to its end without recursion",
        merged(ACCEPT_FIRST, {"o": EMPTY}, chain(200, ["o", 0]), {"12": {"other": ["c199", 0]}}),
        [Queue(made=FIRSTS, calls={"pass": 200})],
        needs_cache=True,
    ),
    Shape(
        "three hundred nodes in the body",
        "each attempt copies them all",
        merged(NO_JUDGE, chain(300, ["12", 0]), {"1": {"text": plan_text(1)}, "30": {"image": ["c299", 0]}}),
        [Queue(made=[(1, 1)], calls={"pass": 300}, pictures=1)],
    ),
    Shape(
        "two hundred nodes outside, side by side",
        "a node may have very many inputs",
        merged(
            ACCEPT_FIRST,
            {f"w{i}": node("EmptyImage", width=8, height=8, batch_size=1, color=i) for i in range(200)},
            {"aw": body("FirstOf", **{f"any_{i:03}": [f"w{i}", 0] for i in range(200)}), "12": {"other": ["aw", 0]}},
        ),
        [Queue(made=FIRSTS)],
    ),
    Shape(
        "no judge",
        "without a critic every first attempt is accepted",
        merged(NO_JUDGE, THREE_STEPS),
        [Queue(made=[(1, 1), (2, 1), (3, 1)], pictures=3), Queue(made=[], pictures=3)],
    ),
    *(
        Shape(
            f"{count} loops in one prompt",
            "independent loops share a prompt, however many",
            {},
            [
                Queue(made={f"L{i}_30": FIRSTS for i in range(count)}, pictures={f"L{i}_31": 2 for i in range(count)}),
                Queue(made={f"L{i}_30": [] for i in range(count)}, pictures={f"L{i}_31": 2 for i in range(count)}),
            ],
            graph=lambda count=count: many_loops(count),
        )
        for count in (2, 9, 12)
    ),
    Shape(
        "a loop after a loop",
        "the second edits the first one's pictures",
        {},
        [
            Queue(made={"30": FIRSTS, "x30": FIRSTS}, pictures={"31": 2, "x31": 2}),
            Queue(made={"30": [], "x30": []}, pictures={"31": 2, "x31": 2}),
        ],
        graph=chained_loops,
    ),
    *(
        Shape(
            f"a node that {how}s in the second step",
            "what was made before is recalled when the prompt is queued again",
            failing(how),
            [
                Queue(made=ALL[:3], error=says("step 2, attempt 2", r"node 13 \(BodyFail\)")),
                Queue(made=[(2, 2)], recalled=ALL[:3]),
            ],
        )
        for how in ("raise", "interrupt")
    ),
]
