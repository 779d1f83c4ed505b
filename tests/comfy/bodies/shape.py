"""A shape of a loop's body: how its graph differs from a plain loop, what is queued, and what must come of it.

A new shape is one entry in one of the `*_shapes.py`; `test_bodies.py` runs them all.
"""

from __future__ import annotations

import copy
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comfy_test_graphs import Graph, node, ours, plan_text
from watched_server import Outcome, Watch, WatchedServer

from interleave_thinker.contract import placed_where

Where = list[tuple[int, int]]
"""Steps and attempts, such as [(1, 1), (1, 2)]."""

Change = Mapping[str, Any]
"""How a graph differs: id -> a whole node, or the inputs that differ (None: the input is gone), or None: no such node."""

ALL: Where = [(1, 1), (1, 2), (2, 1), (2, 2)]
"""What the plain loop makes: two steps, each accepted at its second attempt."""
FIRSTS: Where = [(1, 1), (2, 1)]
"""The same where every first attempt is accepted."""

LOOP, PROMPT, REFERENCE, HAS_REFERENCE, INSTRUCTION, SEED, STEP, ATTEMPT = (["2", i] for i in range(8))
"""Loop Open's outputs."""

ACCEPT_FIRST: Change = {"20": {"expression": "1"}}
ACCEPT_NONE: Change = {"20": {"expression": "0 == 1"}}
NO_JUDGE: Change = {"20": None, "21": None, "30": {"judgment": None}}
ONE_STEP: Change = {"1": {"text": plan_text(1)}}
THREE_STEPS: Change = {"1": {"text": plan_text(3)}}

PYTHONS_WORDS = re.compile(
    r"index out of range|has no attribute|not subscriptable|takes \d+ positional|NoneType|KeyError|values to unpack|cannot reshape"
    r"|unsupported operand|Dependency cycle|argument of type|unhashable"
)
"""What an error must never say to a user."""


def body(kind: str, **inputs: Any) -> dict[str, Any]:
    """One of the test nodes."""
    return node("Body" + kind, **inputs)


def show(value: Any, label: str = "side", **inputs: Any) -> dict[str, Any]:
    """An output node that writes down what it sees."""
    return body("Show", value=value, label=label, **inputs)


def close(loop: Any, image: Any, **more: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "loop": loop,
        "image": image,
        "t_max": 3,
        "on_exhausted": "last",
        "reference_policy": "previous",
        "gate": "off",
        "run_name": "",
        "accept_attempts": "",
    }
    return ours("LoopClose", **{**inputs, **more})


def base() -> Graph:
    """Two steps, each accepted at its second attempt; node 12 draws. Every shape begins with this."""
    return {
        "1": ours("PlanFromText", text=plan_text(2), max_steps=100, title=""),
        "2": ours("LoopOpen", plan=["1", 0], seed=0),
        "12": body("Draw", seed=SEED, prompt=PROMPT),
        "20": node("ComfyMathExpression", expression="b >= 2", **{"values.a": STEP, "values.b": ATTEMPT}),
        "21": ours("Judgment", accepted=["20", 2], refined_prompt="", reasoning="by rule"),
        "30": close(LOOP, ["12", 0], judgment=["21", 0]),
        "31": ours("SaveDocument", document=["30", 0]),
    }


def changed(graph: Graph, *changes: Change) -> Graph:
    """A copy of `graph` with these changes."""
    graph = copy.deepcopy(graph)
    for change in changes:
        for node_id, what in change.items():
            if what is None:
                graph.pop(node_id, None)
            elif "class_type" in what:
                graph[node_id] = copy.deepcopy(dict(what))
            else:
                graph[node_id]["inputs"].update(what)
    for entry in graph.values():
        entry["inputs"] = {name: value for name, value in entry["inputs"].items() if value is not None}
    return graph


def merged(*changes: Change) -> Change:
    """Several changes as one; of the same node the later one's inputs are added."""
    result: dict[str, Any] = {}
    for change in changes:
        for node_id, what in change.items():
            earlier = result.get(node_id)
            if what is None or earlier is None or "class_type" in what:
                result[node_id] = what
            elif "class_type" in earlier:
                result[node_id] = {**earlier, "inputs": {**earlier["inputs"], **what}}
            else:
                result[node_id] = {**earlier, **what}
    return result


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The same graph with other ids."""
    result: Graph = {}
    for node_id, entry in copy.deepcopy(graph).items():
        for name, value in entry["inputs"].items():
            if isinstance(value, list) and len(value) == 2 and value[0] in names:
                entry["inputs"][name] = [names[value[0]], value[1]]
        result[names.get(node_id, node_id)] = entry
    return result


def says(*words: str) -> re.Pattern[str]:
    """An error that has all of these in it, in any order and case."""
    return re.compile("(?is)" + "".join(f"(?=.*{word})" for word in words))


@dataclass(frozen=True)
class Queue:
    """One prompt that is queued, and what must come of it. None: not looked at.

    change: differs from the shape's graph, in this queue only. made, recalled: attempts of the loop that ends in node
    30, or a dict from the id of a Loop Close. pictures: of the document that node 31 saves, or a dict; None: there is
    no document. error: what the user is told; without it there must be none. calls: label of a test node -> how often
    it ran, or at which steps and attempts. saw: label -> what it wrote down each time. warned: what one line of the log
    must say, once. dropped: outputs that ComfyUI itself left out.
    """

    change: Change = field(default_factory=dict)
    made: Where | Mapping[str, Where] | None = None
    recalled: Where | None = None
    pictures: int | Mapping[str, int] | None = 2
    error: re.Pattern[str] | None = None
    ending: bool = True
    """Whether an error ends the run; without, it is told and the rest goes on."""
    in_our_words: bool = True
    """Whether the error must not be Python's. ComfyUI's own are: a node that is given an empty list beside others."""
    calls: Mapping[str, int | Where] = field(default_factory=dict)
    saw: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warned: re.Pattern[str] | None = None
    quiet: re.Pattern[str] | None = None
    """What no line of the log may say."""
    dropped: Sequence[str] = ()
    targets: list[str] | None = None
    extra: Mapping[str, Any] | None = None
    watch: Callable[[WatchedServer], Watch] | None = None
    """Given the server, makes what listens while the prompt runs."""
    wait: float = 0.0
    """Seconds before it is queued."""
    before: Callable[[WatchedServer], None] | None = None
    """What happens to the server's files before it is queued."""
    check: Callable[[Sequence[Outcome]], None] | None = None
    """Given this and all earlier outcomes, the latest last."""


@dataclass(frozen=True)
class Shape:
    """why: what must hold, and for whom. needs_cache: it does not hold with `--cache-none`, see docs/bodies.md."""

    name: str
    why: str
    change: Change
    queues: Sequence[Queue]
    graph: Callable[[], Graph] = base
    needs_cache: bool = False

    def prompt(self, queue: Queue) -> Graph:
        graph = changed(self.graph(), self.change, queue.change)
        for entry in graph.values():
            if entry["class_type"] == "InterleaveThinkerLoopOpen" and isinstance(entry["inputs"]["seed"], int):
                entry["inputs"]["seed"] += self.seed  # the attempt store of a server is shared
            if entry["class_type"] == "BodyFail":
                entry["inputs"]["token"] = self.name
        return graph

    @property
    def seed(self) -> int:
        return (zlib.crc32(self.name.encode()) + 1) * 100_000_000


def check_outcome(queue: Queue, outcomes: Sequence[Outcome]) -> None:
    """Fails, in words, if the latest outcome is not what the queue expects."""
    outcome = outcomes[-1]
    _check_errors(queue, outcome)
    _check_documents(queue, outcome)
    if queue.made is not None:
        wanted = queue.made if isinstance(queue.made, Mapping) else {"30": queue.made}
        assert {i: attempts_of(outcome, i, recalled=False) for i in wanted} == dict(wanted), "attempts that were made"
    if queue.recalled is not None:
        assert attempts_of(outcome, "30", recalled=True) == queue.recalled, "attempts that were recalled"
    _check_calls(queue, outcome)
    lines = outcome.log.splitlines()
    if queue.warned is not None:
        assert sum(bool(queue.warned.search(line)) for line in lines) == 1, f"one warning in:\n{outcome.log}"
    if queue.quiet is not None:
        assert not queue.quiet.search(outcome.log), outcome.log
    assert sorted(outcome.dropped) == sorted(queue.dropped), "outputs that ComfyUI dropped"
    if queue.check is not None:
        queue.check(outcomes)


def attempts_of(outcome: Outcome, close_id: str, *, recalled: bool) -> Where:
    found = [f for f in outcome.of("attempt") if f["node"] == close_id and f["recalled"] is recalled]
    return [(f["step"], f["attempt"]) for f in found]


def _check_errors(queue: Queue, outcome: Outcome) -> None:
    if queue.error is None:
        assert not outcome.errors
        return
    text = "\n".join(outcome.errors)
    assert text, "nothing was said; the run counts as a success"
    assert queue.error.search(text), f"{queue.error.pattern} is not said: {text}"
    assert not (queue.in_our_words and PYTHONS_WORDS.search(text)), text


def _check_documents(queue: Queue, outcome: Outcome) -> None:
    if (queue.error is not None and queue.ending) or queue.pictures is None:
        assert not outcome.documents, "there is a document"
        return
    wanted = queue.pictures if isinstance(queue.pictures, Mapping) else {"31": queue.pictures}
    found = {i: pictures_of(outcome, i) for i in wanted}
    assert found == dict(wanted), "pictures in the documents"


def pictures_of(outcome: Outcome, save_id: str) -> int | None:
    """Of the document that this node saved; None if it saved none."""
    entries = outcome.outputs.get(save_id, {}).get("interleave_document", [])
    return sum(item["kind"] == "image" for item in entries[0]["document"]["items"]) if entries else None


def _check_calls(queue: Queue, outcome: Outcome) -> None:
    counts = Counter(call["label"] for call in outcome.calls)
    for label, wanted in queue.calls.items():
        if isinstance(wanted, int):
            assert counts[label] == wanted, f"calls of {label}"
        else:
            found = [placed_where(call["id"]) for call in outcome.calls if call["label"] == label]
            assert sorted(found, key=str) == sorted(wanted), f"where {label} ran"
    for label, facts in queue.saw.items():
        seen = [call for call in outcome.calls if call["label"] == label]
        assert seen, f"{label} did not run"
        for call in seen:
            assert {name: call.get(name) for name in facts} == dict(facts), f"what {label} saw"


def chosen_keys(outcome: Outcome) -> list[str]:
    """Keys of the pictures that the latest document holds."""
    trajectory = outcome.documents[0]["trajectory"]
    keys = {(a["step"], a["attempt"]): a["image_key"] for a in trajectory["attempts"]}
    return [keys[r["step"], r["chosen"]] for r in trajectory["results"]]


def names_of(shapes: Iterable[Shape]) -> list[str]:
    names = [shape.name for shape in shapes]
    twice = [name for name, count in Counter(names).items() if count > 1]
    assert not twice, f"two shapes have one name: {twice}"
    return names
