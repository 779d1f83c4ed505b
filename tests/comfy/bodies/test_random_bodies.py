"""Bodies of any shape: which nodes run, how often, and what is kept of them.

The oracle below knows nothing of the loop's own code. It says only what a user would: what the picture, the judge or
an output needs runs once an attempt if it depends on Loop Open, once if it does not, and nothing else runs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from comfy_test_graphs import Graph, plan_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from shape import ATTEMPT, LOOP, PROMPT, REFERENCE, SEED, STEP, attempts_of, base, body, close, pictures_of
from watched_server import Outcome, WatchedServer

from interleave_thinker.contract import placed_where

EXAMPLES = 40
MANY_EXAMPLES = 400
STEPS = 2

_runs = itertools.count(1)
"""The attempt store of a server is shared, so each example has seeds of its own."""


@dataclass(frozen=True)
class Example:
    """A body. nodes: id -> what it takes, from nodes before it, from Loop Open, or nothing (then it is outside).

    picture, judge, later: the node that the picture, the critic, and an output that is added afterwards look at.
    """

    nodes: Mapping[str, list[list[Any]]]
    shows: frozenset[str]
    """Which nodes are output nodes."""
    asked: frozenset[str] | None
    """Which output nodes are asked for, beside the document; None: all."""
    picture: str
    judge: str | None
    later: str
    accepted: int
    """The attempt at which a step is accepted."""
    t_max: int

    def graph(self, seed: int) -> Graph:
        graph = base()
        graph["1"]["inputs"]["text"] = plan_text(STEPS)
        graph["2"]["inputs"]["seed"] = seed
        del graph["12"]
        for node_id, takes in self.nodes.items():
            kind = "MixAndShow" if node_id in self.shows else "Mix"
            graph[node_id] = body(kind, label=node_id, run=seed, **dict(zip("ab", takes, strict=False)))
        graph["picture"] = body(
            "Mix", label="picture", run=seed, a=[self.picture, 0], b=SEED
        )  # another one at each attempt
        graph["20"]["inputs"]["expression"] = f"b >= {self.accepted} + 0 * a"
        if self.judge is not None:
            graph["21"]["inputs"]["reasoning"] = [self.judge, 1]
        graph["30"] = close(LOOP, ["picture", 0], judgment=["21", 0], t_max=self.t_max)
        return graph

    @property
    def attempts(self) -> list[tuple[int, int]]:
        return [(s, a) for s in range(1, STEPS + 1) for a in range(1, min(self.accepted, self.t_max) + 1)]

    @property
    def judged(self) -> list[tuple[int, int]]:
        """A verdict on the last attempt that a step may have changes nothing."""
        return [(s, a) for s, a in self.attempts if a < self.t_max]

    @property
    def targets(self) -> list[str] | None:
        return None if self.asked is None else ["31", *sorted(self.asked)]

    @property
    def outputs(self) -> set[str]:
        """The output nodes that are to run."""
        return set(self.shows if self.asked is None else self.shows & self.asked)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    of_loop = [PROMPT, REFERENCE, SEED, STEP, ATTEMPT]
    nodes: dict[str, list[list[Any]]] = {"outside": [], "n0": [draw(st.sampled_from(of_loop))]}
    for number in range(1, draw(st.integers(3, 9))):
        known = [[node_id, 0] for node_id in nodes]
        takes = st.sampled_from(known * 2 + of_loop)
        nodes[f"n{number}"] = draw(st.lists(takes, min_size=0 if number == 1 else 1, max_size=2))
    ids = sorted(nodes)
    shows = draw(st.frozensets(st.sampled_from(ids), max_size=4))
    asked = draw(st.none() | (st.frozensets(st.sampled_from(sorted(shows))) if shows else st.just(frozenset())))
    return Example(
        nodes,
        shows,
        asked,
        picture=draw(st.sampled_from(ids)),
        judge=draw(st.none() | st.sampled_from([*ids, "picture"])),
        later=draw(st.sampled_from([*ids, "picture", "picture"])),
        accepted=draw(st.integers(1, 2)),
        t_max=draw(st.integers(1, 3)),
    )


class Oracle:
    """What each node must do, from the links of a prompt alone."""

    def __init__(self, graph: Graph):
        self.takes = {
            node_id: [tuple(v) for v in node["inputs"].values() if isinstance(v, list)]
            for node_id, node in graph.items()
        }

    def needs(self, starts: Iterable[str], given: str = "") -> set[str]:
        """These nodes and all that they need. given: a node whose picture is there already."""
        found: set[str] = set()
        waiting = list(starts)
        while waiting:
            node_id = waiting.pop()
            if node_id not in found:
                found.add(node_id)
                waiting += [i for i, output in self.takes[node_id] if (i, output) != (given, 0)]
        return found

    def is_of_loop(self, node_id: str) -> bool:
        return "2" in self.needs([node_id])


def first_queue(example: Example, graph: Graph) -> dict[str, Counter[Any]]:
    """Node -> where it runs (None: outside of the attempts), in a run that is made."""
    oracle = Oracle(graph)
    always = oracle.needs(["picture", *example.outputs])
    judged = oracle.needs(["21"]) if example.judged else set()
    expected: dict[str, Counter[Any]] = {}
    for node_id in [*example.nodes, "picture"]:
        if not oracle.is_of_loop(node_id):
            expected[node_id] = Counter([None] if node_id in always | judged else [])
        else:
            where = example.attempts if node_id in always else example.judged if node_id in judged else []
            expected[node_id] = Counter(where)
    return expected


def second_queue(example: Example, graph: Graph, before: Mapping[str, Counter[Any]]) -> dict[str, Counter[Any]]:
    """The same where an output `later` was added: what has run does not run again."""
    oracle = Oracle(graph)
    expected: dict[str, Counter[Any]] = {node_id: Counter() for node_id in [*before, "later"]}
    needed = oracle.needs(["later"], given="picture")
    if not oracle.is_of_loop("later"):
        expected["later"][None] = 1
    elif not any(oracle.is_of_loop(i) for i in needed & oracle.needs(["picture"]) & set(before)):
        for node_id in needed & set(expected):
            if oracle.is_of_loop(node_id):
                expected[node_id] = Counter(example.attempts)
    for node_id in needed & set(before):
        if not oracle.is_of_loop(node_id) and not before[node_id]:
            expected[node_id][None] = 1
    return expected


def ran(outcome: Outcome, expected: Iterable[str]) -> dict[str, Counter[Any]]:
    found = {node_id: Counter[Any]() for node_id in expected}
    for call in outcome.calls:
        found[call["label"]][placed_where(call["id"])] += 1
    return found


def check(bodies: WatchedServer, example: Example) -> None:
    graph = example.graph(next(_runs) * 1_000_000)
    expected = first_queue(example, graph)
    first = bodies.queue(graph, targets=example.targets)
    assert not first.errors
    assert ran(first, expected) == expected
    assert attempts_of(first, "30", recalled=False) == example.attempts
    assert pictures_of(first, "31") == STEPS
    check_pictures(example, first)

    graph["later"] = body("MixAndShow", label="later", run=0, a=[example.later, 0])
    added = second_queue(example, graph, expected)
    second = bodies.queue(graph, targets=None if example.targets is None else [*example.targets, "later"])
    assert not second.errors
    assert ran(second, added) == added
    assert attempts_of(second, "30", recalled=False) == []


def check_pictures(example: Example, outcome: Outcome) -> None:
    """The document has the last attempt of each step, as the body made it."""
    trajectory = outcome.documents[0]["trajectory"]
    last = max(attempt for _, attempt in example.attempts)
    assert [r["chosen"] for r in trajectory["results"]] == [last] * STEPS
    made = {placed_where(c["id"]): c["colour"] for c in outcome.calls if c["label"] == "picture"}
    for attempt in trajectory["attempts"]:
        with Image.open(outcome.folder / attempt["file"]) as picture:
            assert list(picture.getpixel((0, 0))) == made[attempt["step"], attempt["attempt"]]


WITHOUT_SURPRISES = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
"""CI sees the same examples each time."""


@settings(max_examples=EXAMPLES, **WITHOUT_SURPRISES)
@given(example=examples())
def test_a_random_body_runs_what_it_needs_once_an_attempt(bodies: WatchedServer, example: Example) -> None:
    check(bodies, example)


@pytest.mark.slow
@settings(max_examples=MANY_EXAMPLES, **WITHOUT_SURPRISES)
@given(example=examples())
def test_many_random_bodies_run_what_they_need_once_an_attempt(bodies: WatchedServer, example: Example) -> None:
    check(bodies, example)
