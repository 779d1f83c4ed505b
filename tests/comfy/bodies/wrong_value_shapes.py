"""Something else than a picture, a judgment or a setting arrives: an error in words, at once, at step and attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from comfy_test_graphs import node, ours
from common_shapes import through
from shape import (
    ACCEPT_FIRST,
    ACCEPT_NONE,
    ALL,
    ATTEMPT,
    FIRSTS,
    HAS_REFERENCE,
    INSTRUCTION,
    LOOP,
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
from watched_server import Outcome, WatchedServer

AGENT: Change = {
    "8": ours("AgentFromServer", endpoint="test", model="m", max_tokens=16, temperature=0.0, max_megapixels=1.0)
}
OUTSIDE: Change = {"90": node("EmptyImage", width=8, height=8, batch_size=1, color=1)}


def judgment(value: object) -> Change:
    """Node 22 stands between Judgment and Loop Close."""
    return {"22": value, "30": {"judgment": ["22", 0]}}


def empty(value: object) -> dict[str, object]:
    return body("Many", value=value, count=0)


def name_a_server(server: WatchedServer) -> None:
    """An entry for an agent that is never asked."""
    folder = server.base / "user" / "interleave_thinker"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "endpoints.toml").write_text('[test]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\ntimeout = 1\n')


def named(name: str) -> Callable[[Sequence[Outcome]], None]:
    def check(outcomes: Sequence[Outcome]) -> None:
        assert outcomes[-1].folder.name == name

    return check


BAD_JUDGMENT = says("step 1", "attempt 1", "judgment")
BAD_PICTURE = says("step 1", "attempt 1", "picture")

SHAPES = [
    Shape(
        "no judgment at all",
        "an empty list between Judgment and Loop Close must not make ComfyUI wait for ever",
        judgment(empty(["21", 0])),
        [Queue(made=[(1, 1)], error=BAD_JUDGMENT)] + [Queue(made=[], error=BAD_JUDGMENT)],
    ),
    Shape(
        "no judgment in step 2",
        "the error says where it was",
        merged(
            {"40": node("ComfyMathExpression", expression="2 - a", **{"values.a": STEP})},
            judgment(body("Many", value=["21", 0], count=["40", 1])),
        ),
        [Queue(made=ALL[:3], error=says("step 2", "attempt 1", "judgment"))],
    ),
    Shape(
        "empty lists into all of Judgment",
        "ComfyUI runs such a node without its inputs, and says so",
        {
            "18": empty(["20", 2]),
            "19": empty(PROMPT),
            "21": {"accepted": ["18", 0], "refined_prompt": ["19", 0], "reasoning": ["19", 0]},
        },
        [Queue(error=says("step 1, attempt 1", "node 21"), in_our_words=False)],
    ),
    Shape(
        "an empty list into Judgment",
        "beside others it is ComfyUI's own error, at the node that it was given to",
        {"19": empty(["20", 2]), "21": {"accepted": ["19", 0]}},
        [Queue(error=says("step 1, attempt 1", "node 21"), in_our_words=False)],
    ),
    Shape(
        "an empty list of pictures into the critic",
        "Critic-Refine is not asked; no run waits for its verdict",
        merged(
            AGENT,
            {
                "19": empty(["12", 0]),
                "20": None,
                "21": ours(
                    "CriticRefine",
                    agent=["8", 0],
                    after=["19", 0],
                    instruction=INSTRUCTION,
                    prompt=PROMPT,
                    seed=0,
                    if_unreadable="retry",
                ),
            },
        ),
        [Queue(error=says("step 1, attempt 1", "node 21"), in_our_words=False, before=name_a_server)],
    ),
    Shape(
        "no judgment where nobody asks for one",
        "the last attempt is not judged",
        merged(ACCEPT_NONE, judgment(empty(["21", 0])), {"30": {"judgment": ["22", 0], "t_max": 1}}),
        [Queue(made=FIRSTS)],
    ),
    *(
        Shape(
            f"{what} for a judgment",
            "a wildcard socket hands on anything",
            judgment(body("Gives", value=["21", 0], what=what)),
            [Queue(made=[(1, 1)], error=BAD_JUDGMENT)],
        )
        for what in ("none", "true", "false", "number", "text", "dict", "empty dict")
    ),
    Shape(
        "a picture for a judgment",
        "through a reroute everything can be connected to everything",
        judgment(body("Pass", value=["12", 0])),
        [Queue(made=[(1, 1)], error=BAD_JUDGMENT)],
    ),
    Shape(
        "two judgments",
        "of a list the first counts",
        judgment(body("Many", value=["21", 0], count=2)),
        [Queue(made=ALL)],
    ),
    Shape(
        "no picture in a list",
        "a list node can hand on none",
        through(empty(["12", 0])),
        [Queue(made=[], error=BAD_PICTURE)] * 2,
    ),
    Shape(
        "no picture in step 2",
        "the error says where it was",
        merged(
            {"40": node("ComfyMathExpression", expression="2 - a", **{"values.a": STEP})},
            through(body("Many", value=["12", 0], count=["40", 1])),
        ),
        [Queue(made=ALL[:2], error=says("step 2", "attempt 1", "picture"))],
    ),
    *(
        Shape(
            f"{what} for a picture",
            "a node's mistake is told as such",
            through(body("Gives", value=["12", 0], what=what)),
            [Queue(made=[], error=BAD_PICTURE)],
        )
        for what in ("none", "true", "text", "dict", "batch of none", "flat", "no height", "nan", "two channels")
    ),
    Shape(
        "a latent for a picture",
        "through a reroute",
        through(body("Pass", value=["12", 1])),
        [Queue(made=[], error=BAD_PICTURE)],
    ),
    *(
        Shape(
            f"an empty list for {name}",
            "a setting that is connected to a list node with nothing in it is named",
            merged(OUTSIDE, {"91": empty(["90", 0]), "30": {name: ["91", 0]}}),
            [Queue(made=[], error=says(name))],
        )
        for name in ("t_max", "on_exhausted", "reference_policy", "gate", "run_name")
    ),
    *(
        Shape(
            f"{what} for {name}",
            "a wildcard socket hands on anything here too",
            merged(OUTSIDE, {"91": body("Gives", value=["90", 0], what=what), "30": {name: ["91", 0]}}),
            [Queue(made=[], error=says(name))],
        )
        for name in ("t_max", "on_exhausted", "reference_policy", "gate", "run_name", "accept_attempts")
        for what in ("none", "dict")
    ),
    *(
        Shape(
            f"{what} for Judgment's {name}",
            "the node says which of its texts is none",
            merged(OUTSIDE, {"91": body("Gives", value=["90", 0], what=what), "21": {name: ["91", 0]}}),
            [Queue(error=says("Judgment", name))],
        )
        for name in ("refined_prompt", "reasoning")
        for what in ("none", "dict")
    ),
    Shape(
        "a document without a picture",
        "what would show its pictures is left out, and the run is no failure",
        merged(
            ACCEPT_NONE,
            {
                "30": {"gate": "stop_on_reject"},
                "40": ours("UnpackDocument", document=["30", 0]),
                "41": show(["40", 0], "all"),
                "42": show(["40", 3], "last"),
            },
        ),
        [Queue(made=[(1, 1)], pictures=0, calls={"all": 0, "last": 0})],
    ),
    Shape(
        "none for the seed",
        "it is Loop Open's, and Loop Close names it",
        merged(OUTSIDE, {"91": body("Gives", value=["90", 0], what="none"), "2": {"seed": ["91", 0]}}),
        [Queue(made=[], error=says("seed"))],
    ),
    Shape(
        "an empty list of accepted attempts",
        "none was accepted",
        merged(OUTSIDE, {"91": empty(["90", 0]), "30": {"accept_attempts": ["91", 0]}}),
        [Queue(made=ALL)],
    ),
    Shape(
        "an empty list for the agent that is not needed",
        "only on_exhausted = best asks for it",
        merged(OUTSIDE, {"91": empty(["90", 0]), "30": {"agent": ["91", 0]}}),
        [Queue(made=ALL)],
    ),
    Shape(
        "an empty list for the agent that is needed",
        "the comparison needs one",
        merged(OUTSIDE, {"91": empty(["90", 0]), "30": {"agent": ["91", 0], "on_exhausted": "best"}}),
        [Queue(made=[], error=says("agent"))],
    ),
    Shape(
        "an empty list for the loop",
        "there is nothing to run",
        {"91": empty(LOOP), "30": {"loop": ["91", 0]}},
        [Queue(made=[], error=says("loop", "empty list"))],
    ),
    Shape(
        "an empty list for the seed",
        "Loop Open does not run",
        merged(OUTSIDE, {"91": empty(["90", 0]), "2": {"seed": ["91", 0]}}),
        [Queue(made=[], error=says(r"node 2 \(InterleaveThinkerLoopOpen\)"), in_our_words=False)],
    ),
    Shape(
        "a name for the run from another node",
        "a text node may say it",
        {"90": body("ChangedText", text="named by a node", how="file"), "30": {"run_name": ["90", 0]}},
        [Queue(made=ALL, check=named("named by a node"))],
    ),
    Shape(
        "a name for the run from another node that is a path",
        "it is refused when the loop begins, for before that nobody knows it",
        {"90": body("ChangedText", text="../../x", how="file"), "30": {"run_name": ["90", 0]}},
        [Queue(made=[], error=says("is a path"))],
    ),
    Shape(
        "accepted attempts from another node",
        "a text node may say them",
        merged(
            ACCEPT_NONE,
            {"90": body("ChangedText", text="1:1, 2:1", how="file"), "30": {"accept_attempts": ["90", 0]}},
        ),
        [Queue(made=FIRSTS)],
    ),
    Shape(
        "something else for the loop",
        "a wildcard socket again",
        merged(OUTSIDE, {"91": body("Gives", value=["90", 0], what="text"), "30": {"loop": ["91", 0]}}),
        [Queue(made=[], error=says("loop"))],
    ),
    Shape(
        "a plain switch on has_reference",
        "a switch that is not lazy is given None for the missing picture, and takes the other side",
        {
            "10": node("EmptyImage", width=16, height=16, batch_size=1, color=255),
            "13": body("PlainSwitch", which=HAS_REFERENCE, on_true=REFERENCE, on_false=["10", 0]),
            "12": {"reference": ["13", 0]},
        },
        [Queue(made=ALL), Queue(made=[])],
    ),
    Shape(
        "a plain switch as the picture",
        "the picture may come straight from the switch",
        merged(
            ACCEPT_FIRST,
            {
                "10": node("EmptyImage", width=16, height=16, batch_size=1, color=255),
                "12": body("PlainSwitch", which=HAS_REFERENCE, on_true=REFERENCE, on_false=["10", 0]),
            },
        ),
        [Queue(made=FIRSTS), Queue(made=[])],
    ),
    Shape(
        "a plain switch behind a reroute",
        "nodes between Loop Open and the switch pass the missing picture on",
        {
            "9": body("Pass", value=REFERENCE),
            "10": node("EmptyImage", width=16, height=16, batch_size=1, color=255),
            "13": body("PlainSwitch", which=HAS_REFERENCE, on_true=["9", 0], on_false=["10", 0]),
            "12": {"reference": ["13", 0]},
        },
        [Queue(made=ALL)],
    ),
    Shape(
        "a plain switch between drawing and editing",
        "both sides are drawn, and the right one is kept",
        {
            "14": body("Draw", seed=["2", 5], prompt=PROMPT, reference=REFERENCE, size=24, label="edit"),
            "13": body("PlainSwitch", which=HAS_REFERENCE, on_true=["14", 0], on_false=["12", 0]),
            "30": {"image": ["13", 0]},
        },
        [Queue(made=ALL, calls={"draw": ALL, "edit": ALL})],
    ),
    Shape(
        "a plain switch with a preprocessor on one side",
        "the preprocessor needs a picture that a first step does not have; the user is told which node it is",
        {
            "9": body("Invert", image=REFERENCE),
            "10": node("EmptyImage", width=16, height=16, batch_size=1, color=255),
            "13": body("PlainSwitch", which=HAS_REFERENCE, on_true=["9", 0], on_false=["10", 0]),
            "12": {"reference": ["13", 0]},
        },
        [Queue(made=[], error=says("step 1", r"node 9 \(BodyInvert\)", "picture"))],
    ),
    Shape(
        "a node that needs a reference, with the user's picture",
        "with a picture to edit the first step has one",
        merged(
            OUTSIDE,
            {"2": {"images.image_0": ["90", 0]}, "9": body("Invert", image=REFERENCE), "12": {"reference": ["9", 0]}},
        ),
        [Queue(made=ALL, calls={"invert": ALL})],
    ),
    Shape(
        "an attempt's number for the list",
        "lists of other lengths at other attempts",
        through(body("Many", value=["12", 0], count=ATTEMPT)),
        [Queue(made=ALL), Queue(made=[])],
    ),
]
