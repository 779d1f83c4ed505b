"""Previews and saves beside the picture: they are shown what the nodes really made, at every attempt, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from comfy_test_graphs import node
from common_shapes import failing, through
from shape import (
    ACCEPT_FIRST,
    ACCEPT_NONE,
    ALL,
    ATTEMPT,
    FIRSTS,
    ONE_STEP,
    PROMPT,
    REFERENCE,
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

from interleave_thinker.contract import placed_where

SIDE: Change = {"14": show(["12", 0])}
THREE = [(1, 1), (1, 2), (1, 3)]


def saved(count: int) -> Callable[[Sequence[Outcome]], None]:
    """How many files a save node wrote in the latest queue."""

    def check(outcomes: Sequence[Outcome]) -> None:
        outputs = [data.get("output") or {} for kind, data in outcomes[-1].messages if kind == "executed"]
        names = [image["filename"] for output in outputs for image in output.get("images", [])]
        assert len([name for name in names if name.startswith("side")]) == count, names

    return check


def once(*where: tuple[int, int]) -> Callable[[Sequence[Outcome]], None]:
    """The side node ran once for each of these attempts, in all queues together."""

    def check(outcomes: Sequence[Outcome]) -> None:
        ran = [placed_where(call["id"]) for found in outcomes for call in found.calls if call["label"] == "side"]
        assert sorted(ran, key=str) == sorted(where), "where the side node ran, in all queues"

    return check


def real(name: str, draw: Change, shape: list[int], **more: object) -> Shape:
    return Shape(
        f"a preview of {name}",
        "it is shown what the node made: all of it, alpha and fine values too",
        merged(ACCEPT_FIRST, draw, SIDE),
        [
            Queue(made=FIRSTS, calls={"side": FIRSTS}, saw={"side": {"shape": shape, "fine": True, **more}}),
            Queue(made=[], calls={"side": 0}),
        ],
    )


def nothing_is_tried(outcomes: Sequence[Outcome]) -> None:
    """The page shows a run that is over as over."""
    assert not outcomes[-1].of("trying")


SHAPES = [
    real("the picture", {}, [1, 16, 16, 3]),
    real("a batch", {"12": {"batch": 3}}, [3, 16, 16, 3]),
    real("alpha", {"12": {"channels": 4}}, [1, 16, 16, 4]),
    real("gray", {"12": {"channels": 1}}, [1, 16, 16, 1]),
    real("a batch with alpha", {"12": {"channels": 4, "batch": 2}}, [2, 16, 16, 4]),
    Shape(
        "a save of a batch",
        "all of it is saved at each attempt",
        merged(ACCEPT_FIRST, {"12": {"batch": 3}, "14": node("SaveImage", images=["12", 0], filename_prefix="side")}),
        [Queue(made=FIRSTS, check=saved(6)), Queue(made=[], check=saved(0))],
    ),
    Shape(
        "a preview of a list",
        "it runs once for each of the list, as ComfyUI does anywhere",
        merged(ACCEPT_FIRST, through(body("Many", value=["12", 0], count=3)), {"14": show(["13", 0])}),
        [Queue(made=FIRSTS, calls={"side": 6})],
    ),
    Shape(
        "a preview that takes lists",
        "it is given the whole list",
        merged(
            ACCEPT_FIRST,
            through(body("Many", value=["12", 0], count=3)),
            {"14": body("ShowAll", value=["13", 0], label="side")},
        ),
        [Queue(made=FIRSTS, calls={"side": FIRSTS}, saw={"side": {"count": 3, "fine": True}})],
    ),
    Shape(
        "previews of mask and latent",
        "side outputs of what is no picture",
        merged(
            ACCEPT_FIRST,
            {
                "14": show(["12", 2], "mask"),
                "15": show(["12", 1], "latent"),
                "22": node("MaskToImage", mask=["12", 2]),
                "23": show(["22", 0], "mask image"),
            },
        ),
        [
            Queue(
                made=FIRSTS,
                calls={"mask": FIRSTS, "latent": FIRSTS, "mask image": FIRSTS},
                saw={"mask": {"shape": [1, 16, 16]}, "latent": {"shape": [1, 4, 2, 2]}},
            ),
            Queue(made=[], calls={"mask": 0, "latent": 0, "mask image": 0}),
        ],
    ),
    Shape(
        "a preview of the prompt only",
        "an output of the loop that needs no picture runs once an attempt",
        {"14": show(PROMPT)},
        [Queue(made=ALL, calls={"side": ALL}), Queue(made=[], calls={"side": 0})],
    ),
    Shape(
        "a preview of the reference",
        "in a first step there is nothing to show, and that is no error",
        {"14": show(REFERENCE)},
        [Queue(made=ALL, calls={"side": ALL})],
    ),
    Shape(
        "a preview behind an upscaler",
        "nodes that only the preview needs run with it",
        {"13": body("Upscale", image=["12", 0], by=2), "14": show(["13", 0])},
        [
            Queue(made=ALL, calls={"side": ALL, "upscale": 4}, saw={"side": {"shape": [1, 32, 32, 3], "fine": True}}),
            Queue(made=[], calls={"side": 0, "upscale": 0}),
        ],
    ),
    Shape(
        "two previews of one picture",
        "each has its own memory of what it showed",
        merged(SIDE, {"15": show(["12", 0], "other")}),
        [Queue(made=ALL, calls={"side": ALL, "other": ALL}), Queue(made=[], calls={"side": 0, "other": 0})],
    ),
    Shape(
        "a preview of an earlier stage",
        "it is shown that stage and not the final picture",
        merged(ACCEPT_FIRST, through(body("Upscale", image=["12", 0], by=2)), SIDE),
        [Queue(made=FIRSTS, calls={"side": FIRSTS}, saw={"side": {"shape": [1, 16, 16, 3], "fine": True}})],
    ),
    Shape(
        "a preview that shares nodes with the judge",
        "the last attempt is not judged, but the preview is due all the same",
        merged(
            ONE_STEP,
            ACCEPT_NONE,
            {
                "13": body("Upscale", image=["12", 0], by=2),
                "14": show(["13", 0]),
                "16": show(["12", 0], "plain"),
                "17": node("GetImageSize", image=["13", 0]),
                "20": {"expression": "b >= 9 + 0 * c", "values.c": ["17", 0]},
            },
        ),
        [
            Queue(made=THREE, pictures=1, calls={"side": THREE, "plain": THREE, "upscale": THREE}),
            Queue(made=[], pictures=1, calls={"side": 0, "plain": 0}),
        ],
    ),
    Shape(
        "a preview that is part of the judge's way",
        "a node that shows and hands on is needed by the judge and due at every attempt",
        merged(
            ONE_STEP,
            ACCEPT_NONE,
            {
                "14": show(["12", 0]),
                "17": node("GetImageSize", image=["14", 0]),
                "20": {"expression": "b >= 9 + 0 * c", "values.c": ["17", 0]},
            },
        ),
        [Queue(made=THREE, pictures=1, calls={"side": THREE}), Queue(made=[], pictures=1, calls={"side": 0})],
    ),
    Shape(
        "a preview of the judgment",
        "it runs where there is one: the last attempt of a step is not judged for its sake",
        merged(ONE_STEP, ACCEPT_NONE, {"14": show(["21", 0])}),
        [Queue(made=THREE, pictures=1, calls={"side": [(1, 1), (1, 2)]})],
    ),
    Shape(
        "added after a finished run",
        "it is shown the recalled pictures, once; what is added later runs alone",
        ACCEPT_FIRST,
        [
            Queue(made=FIRSTS),
            Queue(
                SIDE, made=[], calls={"side": FIRSTS}, saw={"side": {"shape": [1, 16, 16, 3]}}, check=nothing_is_tried
            ),
            Queue(SIDE, made=[], calls={"side": 0}),
            Queue(merged(SIDE, {"15": show(["12", 0], "other")}), made=[], calls={"side": 0, "other": FIRSTS}),
        ],
    ),
    Shape(
        "a save added after a finished run",
        "one file an attempt",
        ACCEPT_FIRST,
        [
            Queue(made=FIRSTS),
            Queue({"14": node("SaveImage", images=["12", 0], filename_prefix="side")}, made=[], check=saved(2)),
            Queue({"14": node("SaveImage", images=["12", 0], filename_prefix="side")}, made=[], check=saved(0)),
        ],
    ),
    Shape(
        "added after a finished run with retries",
        "it is shown every attempt, also those that were rejected",
        {},
        [Queue(made=ALL), Queue(SIDE, made=[], calls={"side": ALL}), Queue(SIDE, made=[], calls={"side": 0})],
    ),
    Shape(
        "added behind an upscaler after a finished run",
        "nodes that only the preview needs run on the recalled picture",
        ACCEPT_FIRST,
        [
            Queue(made=FIRSTS),
            Queue(
                {"13": body("Upscale", image=["12", 0], by=2), "14": show(["13", 0])},
                made=[],
                calls={"draw": 0, "side": FIRSTS},
                saw={"side": {"shape": [1, 32, 32, 3]}},
            ),
        ],
    ),
    Shape(
        "added while a run is half done",
        "it is shown what was made before and what is made now",
        failing("raise"),
        [
            Queue(made=ALL[:3], error=says("step 2, attempt 2")),
            Queue({"14": show(["13", 0])}, made=[(2, 2)], recalled=ALL[:3], calls={"side": ALL}),
        ],
    ),
    Shape(
        "taken away and put back",
        "what it showed once it does not show again",
        ACCEPT_FIRST,
        [
            Queue(SIDE, made=FIRSTS, calls={"side": FIRSTS}),
            Queue(made=[]),
            Queue(SIDE, made=[], calls={"side": 0}),
        ],
    ),
    Shape(
        "once an attempt, over a failure",
        "queued again it runs for the attempts that it has not shown",
        merged(failing("raise"), {"14": show(["13", 0])}),
        [
            Queue(made=ALL[:3], error=says("step 2, attempt 2")),
            Queue(made=[(2, 2)], recalled=ALL[:3], check=once(*ALL)),
            Queue(made=[], check=once(*ALL)),
        ],
    ),
    Shape(
        "once an attempt, over a gate",
        "the same where a gate ended the run",
        merged(ACCEPT_FIRST, SIDE, {"30": {"gate": "stop_after_step"}}),
        [
            Queue(made=[(1, 1)], pictures=1, calls={"side": [(1, 1)]}),
            Queue(made=[(2, 1)], pictures=2, calls={"side": [(2, 1)]}),
            Queue(made=[], pictures=2, calls={"side": 0}),
        ],
    ),
    Shape(
        "once an attempt, with another judge",
        "the pictures are recalled and judged anew; they were shown already",
        SIDE,
        [
            Queue(made=ALL, calls={"side": ALL}),
            Queue({"20": {"expression": "b >= 2 + 0 * a"}}, made=[], recalled=ALL, calls={"side": 0}),
        ],
    ),
    Shape(
        "a side node that fails",
        "its error names step and attempt; queued again, it runs for what it has not shown",
        {
            "13": body("Fail", value=["12", 0], step=STEP, attempt=ATTEMPT, at="2:1", how="raise"),
            "14": show(["13", 0]),
        },
        [
            Queue(error=says("step 2, attempt 1", r"node 13 \(BodyFail\)")),
            Queue(check=once(*ALL)),
        ],
    ),
    Shape(
        "a preview of picture and outside together",
        "it may look at what is outside the loop as well",
        {
            "o": node("EmptyImage", width=16, height=16, batch_size=1, color=255),
            "13": node("ImageBatch", image1=["12", 0], image2=["o", 0]),
            "14": show(["13", 0]),
        },
        [Queue(made=ALL, calls={"side": ALL}, saw={"side": {"shape": [2, 16, 16, 3], "fine": True}})],
    ),
    Shape(
        "a node that places an output node, in the judge",
        "what it places is due where the judge runs",
        {
            "13": body("Expand", image=["12", 0]),
            "17": node("GetImageSize", image=["13", 0]),
            "20": {"expression": "b >= 2 + 0 * c", "values.c": ["17", 0]},
        },
        [Queue(made=ALL, calls={"placed": 4})],
    ),
    Shape(
        "a for-loop with a preview inside",
        "the preview runs in each round of each attempt, and once for its own place in the graph",
        {
            "50": body("ForOpen", total=3, value=["12", 0]),
            "51": body("Upscale", image=["50", 2], by=1),
            "52": body("ForClose", flow=["50", 0], value=["51", 0], index=["50", 1], total=3),
            "53": show(["51", 0]),
            "30": {"image": ["52", 0]},
        },
        [Queue(made=ALL, calls={"for": 12, "side": 4})],
    ),
]
