"""Loops that run, by token, and how an attempt is placed into the running graph.

Every attempt is one expansion: Step Feed -> a copy of the body -> Keep Picture -> Recall Picture -> a copy of the judge
-> Next Attempt, which decides and expands again. The copies get literals and store keys, never links to earlier
attempts: linked iterations cost quadratic time and recursion depth in ComfyUI's caches.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder, is_link

from ..interleave_thinker.contract import PREFIX, PlacedKind, placed_prefix
from ..interleave_thinker.session import Session
from .body import Body, links_of
from .comfy_internals.caches import drop_outputs, use_short_keys
from .comfy_internals.server import executing_prompt_id


@dataclass
class RunningLoop:
    """A session, and where in the running prompt its nodes are.

    agent_link: what Loop Close's `agent` is connected to. display_id: the node that the user sees at work.
    placed_ids: the nodes of the latest expansion. placed_by: the node that placed them.
    """

    session: Session
    body: Body
    dynprompt: Any
    agent_link: list[Any] | None
    display_id: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    stopwatch_start: float = 0.0
    placed_ids: list[str] = field(default_factory=list)
    placed_by: list[str] = field(default_factory=list)
    caches: list[Any] = field(default_factory=list)
    prompt_id: str = field(default_factory=lambda: running_prompt_id())

    def step_label(self) -> str:
        state = self.session.state
        return (
            f"Step {min(state.step, len(state.plan.steps))}/{len(state.plan.steps)}, "
            f"attempt {state.attempt}/{state.settings.t_max}"
        )


_RUNNING: dict[str, RunningLoop] = {}


def running_prompt_id() -> str:
    """Id of the prompt that is being executed."""
    return executing_prompt_id() or ""


def add_running_loop(running: RunningLoop) -> None:
    _RUNNING[running.token] = running


def drop_ended_loops() -> None:
    """Let go of the loops of prompts that failed or were interrupted: ComfyUI executes one prompt at a time."""
    now = running_prompt_id()
    for token in [token for token, running in _RUNNING.items() if running.prompt_id != now]:
        _RUNNING.pop(token).session.folder.release()


def running_loop(token: str) -> RunningLoop:
    if token not in _RUNNING:
        raise ValueError("This loop is no longer running; queue the prompt again.")
    return _RUNNING[token]


def place_next_attempt(running: RunningLoop) -> io.NodeOutput:
    """Take what the store has, place what must be made next, or hand out the finished document."""
    # The node that placed the latest nodes was dropped before them, but ComfyUI kept something of it when it took them.
    for node_ids in (running.placed_by, running.placed_ids):
        drop_outputs(running.caches, node_ids)
    running.placed_by, running.placed_ids = running.placed_ids[-1:], []
    session = running.session
    if not session.advance_from_store():
        _RUNNING.pop(running.token, None)
        session.folder.release()
        return io.NodeOutput(session.document())
    placed = _AttemptGraph(running)
    if session.state.status == "compare":
        last = placed.add("CompareAttempts", "compare", agent=running.agent_link)
    elif session.pending is None:
        last = placed.attempt()
    else:
        last = placed.judgment_only(session.pending.image_key)
    graph = placed.builder.finalize()
    running.placed_ids = list(graph)
    use_short_keys(running.caches, running.placed_by[0] if running.placed_by else running.body.close_id, graph)
    return io.NodeOutput(last.out(0), expand=graph)


class _AttemptGraph:
    """Builds the nodes of one expansion."""

    def __init__(self, running: RunningLoop):
        self.running = running
        state = running.session.state
        kind: PlacedKind = "c" if state.status == "compare" else "j" if running.session.pending else "a"
        prefix = placed_prefix(running.body.close_id, state.step, kind, state.attempt)
        self.builder = GraphBuilder(prefix=prefix)
        self.copies: dict[str, Any] = {}
        self.feed: Any = None

    def add(self, name: str, node_id: str, **inputs: Any) -> Any:
        values = {k: v for k, v in inputs.items() if v is not None}
        node = self.builder.node(PREFIX + name, node_id, token=self.running.token, **values)
        node.set_override_display_id(self.running.display_id)
        return node

    def attempt(self) -> Any:
        """Make the image and, where its verdict matters, judge it."""
        body, judging = self.running.body, self.running.session.needs_judgment
        copied = body.image_nodes | body.image_outputs
        if judging:
            copied |= body.judgment_nodes | body.judgment_outputs
        self._add_feed()
        self._copy(copied)
        self._connect(body.image_nodes, lambda link: None)
        keep = self.add("KeepPicture", "keep", image=self._into_copy(body.image_link))
        self._show_stored(copied - body.image_nodes, keep.out(0))
        return self._add_next(keep.out(0), judging)

    def judgment_only(self, image_key: str) -> Any:
        """The image is in the store already: only judge it."""
        copied = self.running.body.judgment_nodes | self.running.body.judgment_outputs
        self._add_feed()
        self._copy(copied)
        self._show_stored(copied, image_key)
        return self._add_next(image_key, True)

    def _show_stored(self, node_ids: frozenset[str], key: Any) -> None:
        """Connect nodes that look at the image: they see what was stored, with 8 bits a channel."""
        link = self.running.body.image_link
        if any(link == other for i in node_ids for other in links_of(self.running.dynprompt.get_node(i))):
            image = self.add("RecallPicture", "recall", key=key).out(0)
            self._connect(node_ids, lambda other: image if other == link else None)
        else:
            self._connect(node_ids, lambda other: None)

    def _add_next(self, key: Any, judging: bool) -> Any:
        """Next Attempt waits while later attempts run, so it must hold no image: keys only."""
        link = self._into_copy(self.running.body.judgment_link) if judging else None
        return self.add("NextAttempt", "next", kept=key, judgment=link)

    def _add_feed(self) -> None:
        # One literal instead of seven: ComfyUI writes every node's inputs into the key of each node below it.
        self.feed = self.add("StepFeed", "feed", due=json.dumps(self.running.session.values))
        self.feed.set_override_display_id(self.running.body.open_id)

    def _copy(self, node_ids: frozenset[str]) -> None:
        for node_id in sorted(node_ids):
            original = self.running.dynprompt.get_node(node_id)
            copy = self.builder.node(original["class_type"], "b" + node_id.replace(":", "_"))
            copy.set_override_display_id(node_id)
            self.copies[node_id] = copy

    def _connect(self, node_ids: frozenset[str], replaced: Callable[[list[Any]], Any]) -> None:
        for node_id in sorted(node_ids):
            inputs: Mapping[str, Any] = self.running.dynprompt.get_node(node_id)["inputs"]
            for name, value in inputs.items():
                given = replaced(list(value)) if is_link(value) else None
                self.copies[node_id].set_input(name, given if given is not None else self._into_copy(value))

    def _into_copy(self, value: Any) -> Any:
        """A link into the body -> the same link into this copy of it; anything else stays."""
        if is_link(value):
            if value[0] == self.running.body.open_id:
                return self.feed.out(value[1])
            if value[0] in self.copies:
                return self.copies[value[0]].out(value[1])
        return value


def stopwatch(running: RunningLoop) -> float:
    """Seconds since the last call for this loop."""
    now = time.monotonic()
    passed, running.stopwatch_start = now - running.stopwatch_start, now
    return passed
