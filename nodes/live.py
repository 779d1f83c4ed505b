"""Loops under way, by token, and how an attempt is placed into the running graph.

Every attempt is one expansion: Step Feed -> a copy of the body -> Keep Picture -> Recall Picture -> a copy
of the judge -> Next Attempt, which decides and expands again. The copies get literals and store keys, never links to
earlier attempts (linked iterations cost quadratic time and recursion depth in ComfyUI's caches).
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
from comfy_execution.utils import get_executing_context

from ..interleave_thinker.session import Session
from .body import Body, links_of
from .caches import forget, shorten
from .types import PREFIX


@dataclass
class LiveLoop:
    """A session with its place in the prompt being executed."""

    session: Session
    body: Body
    dynprompt: Any
    agent_link: list[Any] | None
    display_id: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    begun: float = 0.0
    placed: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    """The last node of what was placed before that, which placed it: ComfyUI made a cache for it after that."""
    caches: list[Any] = field(default_factory=list)
    prompt_id: str = field(default_factory=lambda: running_prompt())

    def step_label(self) -> str:
        state = self.session.state
        return (
            f"Step {min(state.step, len(state.plan.steps))}/{len(state.plan.steps)}, "
            f"attempt {state.attempt}/{state.settings.t_max}"
        )


_LIVE: dict[str, LiveLoop] = {}


def running_prompt() -> str:
    """Id of the prompt that is being executed."""
    context = get_executing_context()
    return context.prompt_id if context is not None else ""


def remember(live: LiveLoop) -> None:
    _LIVE[live.token] = live


def drop_dead_loops() -> None:
    """Let go of the loops of prompts that failed or were interrupted: ComfyUI executes one prompt at a time."""
    now = running_prompt()
    for token in [token for token, live in _LIVE.items() if live.prompt_id != now]:
        _LIVE.pop(token).session.folder.release()


def live_loop(token: str) -> LiveLoop:
    if token not in _LIVE:
        raise ValueError("This loop is no longer running; queue the prompt again.")
    return _LIVE[token]


def go_on(live: LiveLoop) -> io.NodeOutput:
    """Take what the store has, place what must be made next, or hand out the finished document."""
    for nodes_of_one in (live.over, live.placed):
        forget(live.caches, nodes_of_one)
    live.over, live.placed = live.placed[-1:], []
    session = live.session
    if not session.advance_from_store():
        _LIVE.pop(live.token, None)
        session.folder.release()
        return io.NodeOutput(session.document())
    place = _Placer(live)
    if session.state.status == "compare":
        last = place.add("CompareAttempts", "compare", agent=live.agent_link)
    elif session.pending is None:
        last = place.attempt()
    else:
        last = place.judgment_only(session.pending.image_key)
    graph = place.builder.finalize()
    live.placed = list(graph)
    shorten(live.caches, live.over[0] if live.over else live.body.close_id, graph)
    return io.NodeOutput(last.out(0), expand=graph)


class _Placer:
    """Builds the nodes of one expansion."""

    def __init__(self, live: LiveLoop):
        self.live, self.state = live, live.session.state
        close = live.body.close_id.replace(":", "_")
        kind = "c" if self.state.status == "compare" else "j" if live.session.pending else "a"
        # Whoever reports an error reads step and attempt from this: comfy_client.py, place.mjs.
        self.builder = GraphBuilder(prefix=f"{close}.s{self.state.step}{kind}{self.state.attempt}.")
        self.copies: dict[str, Any] = {}
        self.feed: Any = None

    def add(self, name: str, node_id: str, **inputs: Any) -> Any:
        values = {k: v for k, v in inputs.items() if v is not None}
        node = self.builder.node(PREFIX + name, node_id, token=self.live.token, **values)
        node.set_override_display_id(self.live.display_id)
        return node

    def attempt(self) -> Any:
        """Make the picture and, where its verdict matters, judge it."""
        body, judging = self.live.body, self.live.session.needs_judgment
        copied = body.make | body.shown_make
        if judging:
            copied |= body.judge | body.shown_judge
        self._feed()
        self._copy(copied)
        self._connect(body.make, lambda link: None)
        keep = self.add("KeepPicture", "keep", image=self._moved(body.image_link))
        self._show_stored(copied - body.make, keep.out(0))
        return self._next(keep.out(0), judging)

    def judgment_only(self, image_key: str) -> Any:
        """The picture is in the store already: only judge it."""
        copied = self.live.body.judge | self.live.body.shown_judge
        self._feed()
        self._copy(copied)
        self._show_stored(copied, image_key)
        return self._next(image_key, True)

    def _show_stored(self, node_ids: frozenset[str], key: Any) -> None:
        """Connect nodes that look at the picture: they see what was stored, with 8 bits a channel."""
        link = self.live.body.image_link
        if any(link == other for i in node_ids for other in links_of(self.live.dynprompt.get_node(i))):
            picture = self.add("RecallPicture", "recall", key=key).out(0)
            self._connect(node_ids, lambda other: picture if other == link else None)
        else:
            self._connect(node_ids, lambda other: None)

    def _next(self, key: Any, judging: bool) -> Any:
        """Next Attempt waits while later attempts run, so it must hold no picture: keys only."""
        link = self._moved(self.live.body.judgment_link) if judging else None
        return self.add("NextAttempt", "next", kept=key, judgment=link)

    def _feed(self) -> None:
        # One literal instead of seven: ComfyUI writes every node's inputs into the key of each node below it.
        self.feed = self.add("StepFeed", "feed", due=json.dumps(self.live.session.values))
        self.feed.set_override_display_id(self.live.body.open_id)

    def _copy(self, node_ids: frozenset[str]) -> None:
        for node_id in sorted(node_ids):
            original = self.live.dynprompt.get_node(node_id)
            copy = self.builder.node(original["class_type"], "b" + node_id.replace(":", "_"))
            copy.set_override_display_id(node_id)
            self.copies[node_id] = copy

    def _connect(self, node_ids: frozenset[str], replaced: Callable[[list[Any]], Any]) -> None:
        for node_id in sorted(node_ids):
            inputs: Mapping[str, Any] = self.live.dynprompt.get_node(node_id)["inputs"]
            for name, value in inputs.items():
                given = replaced(list(value)) if is_link(value) else None
                self.copies[node_id].set_input(name, given if given is not None else self._moved(value))

    def _moved(self, value: Any) -> Any:
        """A link into the body -> the same link into this copy of it; anything else stays."""
        if is_link(value):
            if value[0] == self.live.body.open_id:
                return self.feed.out(value[1])
            if value[0] in self.copies:
                return self.copies[value[0]].out(value[1])
        return value


def stopwatch(live: LiveLoop) -> float:
    """Seconds since the last call for this loop."""
    now = time.monotonic()
    passed, live.begun = now - live.begun, now
    return passed
