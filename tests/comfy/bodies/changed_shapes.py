"""Nodes that say "always changed": seeds, wildcards, Get nodes, clocks.

ComfyUI runs them in every prompt. A run that is under way goes on all the same with what it has, or a gate and an
accepted attempt would mean nothing; a run that is over is made anew, for nothing may be recalled silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from comfy_test_graphs import node
from common_shapes import failing, through
from PIL import Image
from shape import (
    ACCEPT_FIRST,
    ACCEPT_NONE,
    ALL,
    FIRSTS,
    NO_JUDGE,
    ONE_STEP,
    REFERENCE,
    THREE_STEPS,
    Change,
    Queue,
    Shape,
    body,
    chosen_keys,
    merged,
    says,
    show,
)
from watched_server import Outcome, WatchedServer

AFTER_STEP: Change = {"30": {"gate": "stop_after_step"}}
ON_REJECT: Change = {"30": {"gate": "stop_on_reject"}}
THREE = [(1, 1), (1, 2), (1, 3)]
NAMES_13, NAMES_90 = says(r"\bnode 13\b"), says(r"\bnode 90\b")
WAIT = {"nan": 0.0, "time": 0.0, "digest": 0.0, "random": 0.0, "text": 0.0, "raises": 0.0, "seconds": 1.1}
"""What a node may say, and how long it takes until it says something else."""


def always(how: str = "nan") -> Change:
    """Above the picture."""
    return through(body("Changed", value=["12", 0], how=how))


def random_noise() -> dict[str, object]:
    """Another picture each time, as nodes with a random seed of their own make."""
    return body("Noise", image=["12", 0])


def outside(how: str = "nan") -> Change:
    """The prompt is made by a node outside the loop."""
    return {"90": body("ChangedText", text="outside", how=how), "12": {"prompt": ["90", 0]}}


def in_judge(how: str = "nan") -> Change:
    return {"90": body("ChangedText", text="why", how=how), "21": {"reasoning": ["90", 0]}}


def another_folder(outcomes: Sequence[Outcome]) -> None:
    assert outcomes[0].folder != outcomes[1].folder, "the run that was finished was written over"
    assert (outcomes[0].folder / "trajectory.jsonl").exists()


def another_picture(server: WatchedServer) -> None:
    """A file that really is another one each time."""
    folder = server.base / "input"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (16, 16), (next(_COLOURS), 0, 0)).save(folder / "changes.png")


_COLOURS = count(1)


def same_pictures(attempt: int, of: int = 0) -> Callable[[Sequence[Outcome]], None]:
    """The accepted attempt is the picture that was seen, not another one made like it."""

    def check(outcomes: Sequence[Outcome]) -> None:
        seen = outcomes[of].documents[0]["trajectory"]["attempts"][attempt - 1]["image_key"]
        assert chosen_keys(outcomes[-1])[0] == seen

    return check


SHAPES = [
    *(
        Shape(
            f"a gate after each step, {how}",
            "queued again it goes on after the step that was seen",
            merged(THREE_STEPS, ACCEPT_FIRST, always(how), AFTER_STEP),
            [
                Queue(made=[(1, 1)], pictures=1, warned=NAMES_13),
                Queue(made=[(2, 1)], recalled=[(1, 1)], pictures=2, warned=NAMES_13, wait=WAIT[how]),
                Queue(made=[(3, 1)], recalled=[(1, 1), (2, 1)], pictures=3, warned=NAMES_13, wait=WAIT[how]),
            ],
        )
        for how in WAIT
    ),
    Shape(
        "a gate without a judge, nan",
        "the same where every first attempt is accepted",
        merged(NO_JUDGE, always(), AFTER_STEP),
        [Queue(made=[(1, 1)], pictures=1), Queue(made=[(2, 1)], pictures=2)],
    ),
    Shape(
        "a gate at each rejection, nan",
        "the person looks at each rejected attempt and queues for the next one",
        merged(ONE_STEP, ACCEPT_NONE, always(), ON_REJECT),
        [Queue(made=[(1, attempt)], pictures={}) for attempt in (1, 2, 3)],
    ),
    Shape(
        "a gate, then none",
        "a run that a gate stopped is not over: without the gate the rest is made",
        merged(ACCEPT_FIRST, always()),
        [Queue(AFTER_STEP, made=[(1, 1)], pictures=1), Queue(made=[(2, 1)], recalled=[(1, 1)])],
    ),
    *(
        Shape(
            f"accepted by a person, {how}",
            "who accepts an attempt means the picture that was shown",
            merged(ONE_STEP, ACCEPT_NONE, always(how)),
            [
                Queue(made=THREE, pictures=1, warned=NAMES_13),
                Queue(
                    {"30": {"accept_attempts": "1:2"}},
                    made=[],
                    pictures=1,
                    wait=WAIT[how],
                    check=same_pictures(2),
                ),
                Queue({"30": {"accept_attempts": "1:2"}}, made=[], pictures=1, check=same_pictures(2)),
                Queue({"30": {"accept_attempts": "1:1"}}, made=[], pictures=1, check=same_pictures(1)),
            ],
        )
        for how in ("nan", "time", "seconds")
    ),
    Shape(
        "accepted by a person, the next step edits it",
        "what was seen of the first step stays; the second is made from the accepted picture",
        merged(ACCEPT_NONE, always(), {"12": {"reference": REFERENCE}, "30": {"t_max": 2}}),
        [
            Queue(made=ALL),
            Queue({"30": {"accept_attempts": "1:1"}}, made=[(2, 1), (2, 2)], recalled=[(1, 1)], check=same_pictures(1)),
        ],
    ),
    Shape(
        "accepted by a person, with a gate, nan",
        "looking at each rejection and accepting one of them is how a person works with a gate",
        merged(ACCEPT_NONE, always(), ON_REJECT),
        [
            Queue(made=[(1, 1)], pictures={}),
            Queue(made=[(1, 2)], recalled=[(1, 1)], pictures={}),
            Queue({"30": {"accept_attempts": "1:1"}}, made=[(2, 1)], recalled=[(1, 1)], pictures={}),
        ],
    ),
    Shape(
        "accepted by a person, of the second run, nan",
        "the attempt that was shown last is meant",
        merged(ONE_STEP, ACCEPT_NONE, always(), {"13": {"value": ["14", 0]}, "14": random_noise()}),
        [
            Queue(made=THREE, pictures=1),
            Queue(made=THREE, pictures=1, check=another_folder),
            Queue({"30": {"accept_attempts": "1:2"}}, made=[], pictures=1, check=same_pictures(2, of=1)),
        ],
    ),
    Shape(
        "the plan is edited at a gate, nan",
        "a person looks at the first step and writes the second one anew",
        merged(ACCEPT_FIRST, always(), AFTER_STEP),
        [
            Queue(made=[(1, 1)], pictures=1),
            Queue({"1": {"text": "1. picture number 1\n2. another"}}, made=[(2, 1)], recalled=[(1, 1)]),
        ],
    ),
    Shape(
        "with a preview at a gate, nan",
        "what was shown is not shown again",
        merged(ACCEPT_FIRST, always(), AFTER_STEP, {"14": show(["13", 0])}),
        [
            Queue(made=[(1, 1)], pictures=1, calls={"side": [(1, 1)]}),
            Queue(made=[(2, 1)], recalled=[(1, 1)], calls={"side": [(2, 1)]}),
        ],
    ),
    Shape(
        "two at once at a gate, nan and time",
        "several nodes may say it",
        merged(ACCEPT_FIRST, always(), outside("time"), AFTER_STEP),
        [
            Queue(made=[(1, 1)], pictures=1, warned=NAMES_13),
            Queue(made=[(2, 1)], recalled=[(1, 1)], warned=NAMES_90),
        ],
    ),
    *(
        Shape(
            f"after a node that {how}s, {kind}",
            "a run that failed or was interrupted goes on with what it has",
            merged(failing(how), {"14": body("Changed", value=["13", 0], how=kind), "30": {"image": ["14", 0]}}),
            [
                Queue(made=ALL[:3], error=says("step 2, attempt 2")),
                Queue(made=[(2, 2)], recalled=ALL[:3], wait=WAIT[kind]),
            ],
        )
        for how, kind in (("raise", "nan"), ("interrupt", "nan"), ("raise", "time"), ("interrupt", "seconds"))
    ),
    *(
        Shape(
            f"a finished run again, {how}",
            "the user queues again to get other pictures, and keeps the first ones",
            always(how),
            [Queue(made=ALL, warned=NAMES_13), Queue(made=ALL, warned=NAMES_13, wait=WAIT[how], check=another_folder)],
        )
        for how in WAIT
    ),
    Shape(
        "outside the loop, gate, nan",
        "a wildcard node before the loop is above the picture too",
        merged(ACCEPT_FIRST, outside(), AFTER_STEP),
        [
            Queue(made=[(1, 1)], pictures=1, warned=NAMES_90),
            Queue(made=[(2, 1)], recalled=[(1, 1)], warned=NAMES_90),
        ],
    ),
    Shape(
        "outside the loop, finished run again, time",
        "as inside",
        merged(ACCEPT_FIRST, outside("time")),
        [Queue(made=FIRSTS, warned=NAMES_90), Queue(made=FIRSTS, warned=NAMES_90, check=another_folder)],
    ),
    Shape(
        "beside the loop, nan",
        "what is not above the picture concerns nobody",
        merged(ACCEPT_FIRST, AFTER_STEP, {"90": body("ChangedText", text="x", how="nan"), "14": show(["90", 0])}),
        [
            Queue(made=[(1, 1)], pictures=1, quiet=NAMES_90),
            Queue(made=[(2, 1)], recalled=[(1, 1)], quiet=NAMES_90, calls={"side": 1}),
            Queue(made=[], recalled=FIRSTS, quiet=NAMES_90),
        ],
    ),
    Shape(
        "above the plan, nan",
        "the plan is a value: the same plan finds the same pictures",
        {"90": body("ChangedText", text="1. one\n2. two", how="nan"), "1": {"text": ["90", 0]}},
        [Queue(made=ALL), Queue(made=[], recalled=ALL)],
    ),
    Shape(
        "in a side output only, nan",
        "the picture does not depend on it",
        merged(ACCEPT_FIRST, {"13": body("Changed", value=["12", 0], how="nan"), "14": show(["13", 0])}),
        [Queue(made=FIRSTS, calls={"side": FIRSTS}), Queue(made=[])],
    ),
    *(
        Shape(
            f"in the judge only, gate at each rejection, {how}",
            "the person queues for the next attempt and gets it",
            merged(ONE_STEP, ACCEPT_NONE, in_judge(how), ON_REJECT),
            [
                Queue(made=[(1, attempt)], recalled=THREE[: attempt - 1], pictures={}, wait=WAIT[how])
                for attempt in (1, 2, 3)
            ],
        )
        for how in ("nan", "time", "seconds")
    ),
    Shape(
        "in the judge only, gate after each step, nan",
        "the step that was seen is over",
        merged(ACCEPT_FIRST, in_judge(), AFTER_STEP),
        [Queue(made=[(1, 1)], pictures=1), Queue(made=[(2, 1)], recalled=[(1, 1)])],
    ),
    Shape(
        "in the judge only, accepted by a person, nan",
        "the accepted attempt is the one that was seen",
        merged(ONE_STEP, ACCEPT_NONE, in_judge()),
        [
            Queue(made=THREE, pictures=1),
            Queue({"30": {"accept_attempts": "1:2"}}, made=[], pictures=1, check=same_pictures(2)),
        ],
    ),
    Shape(
        "in the judge only, after a failure, nan",
        "pictures and verdicts of a run under way are used",
        merged(failing("raise"), in_judge()),
        [
            Queue(made=ALL[:3], error=says("step 2, attempt 2")),
            Queue(made=[(2, 2)], recalled=ALL[:3]),
        ],
    ),
    Shape(
        "a file that stays the same",
        "what a node says of its file is no clock: the same answer finds the same pictures",
        always("file"),
        [Queue(made=ALL, quiet=NAMES_13), Queue(made=[], quiet=NAMES_13)],
    ),
    Shape(
        "a file that changed under a gate",
        "another file is another work, whatever a gate or a failure left unfinished",
        merged(ACCEPT_FIRST, AFTER_STEP, {"9": node("LoadImage", image="changes.png"), "12": {"other": ["9", 0]}}),
        [
            Queue(made=[(1, 1)], pictures=1, before=another_picture),
            Queue(made=[(1, 1)], pictures=1, before=another_picture),
            Queue(made=[(2, 1)], recalled=[(1, 1)]),
        ],
    ),
]
