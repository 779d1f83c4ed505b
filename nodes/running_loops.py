"""The loops that run, by token. `placing.py` puts their attempts into the running graph."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..interleave_thinker.contract import placed_name
from ..interleave_thinker.files import hash_of
from ..interleave_thinker.loop.trajectory import Judgment
from ..interleave_thinker.session import Recalled, Session, Signature
from .body import Body
from .comfy_internals.loads import LoadWatch
from .comfy_internals.server import executing_prompt_id


@dataclass(frozen=True)
class PlacedOutput:
    """A placed copy of an output node, and the values of the loop that it runs on."""

    output: str
    values: Mapping[str, Any]


@dataclass
class RunningLoop:
    """A session, and where in the running prompt its nodes are.

    agent_link: what Loop Close's `agent` is connected to. display_id: the node that the user sees at work.
    side_outputs: the signatures of the output nodes beside the image. judgment: the critic's of the attempt that is
    placed, once it is made. placed_ids: the nodes of the latest expansion. placed_by: the node that placed them.
    prefixes: of all expansions so far. name: how they begin.
    """

    session: Session
    body: Body
    dynprompt: Any
    agent_link: list[Any] | None
    display_id: str
    side_outputs: Mapping[str, Signature] = field(default_factory=dict)
    judgment: Judgment | None = None
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    stopwatch_start: float = 0.0
    loads: LoadWatch = field(default_factory=LoadWatch)
    placed_ids: list[str] = field(default_factory=list)
    placed_by: list[str] = field(default_factory=list)
    placed_outputs: dict[str, PlacedOutput] = field(default_factory=dict)
    prefixes: set[str] = field(default_factory=set)
    name: str = field(init=False)
    caches: list[Any] = field(default_factory=list)
    prompt_id: str = field(default_factory=lambda: running_prompt_id())

    def __post_init__(self) -> None:
        self.name = placed_name(self.body.close_id)
        while any(node_id.startswith(f"{self.name}.s") for node_id in self.dynprompt.all_node_ids()):
            self.name += "_"  # the user's graph has such ids, or another pack has placed this loop twice

    def step_label(self) -> str:
        state = self.session.state
        return (
            f"Step {min(state.step, len(state.plan.steps))}/{len(state.plan.steps)}, "
            f"attempt {state.attempt}/{state.settings.t_max}"
        )

    @property
    def where(self) -> str:
        """The attempt that is placed, for messages."""
        state = self.session.state
        return f"step {state.step}, attempt {state.attempt}"

    def note_output(self, placed_id: str) -> None:
        """Note that an output node has run beside its image: it runs once beside each image."""
        placed = self.placed_outputs.pop(placed_id, None)
        values = {"image": self._latest_image, **placed.values} if placed else {}
        if placed and values["image"]:
            put = partial(self.session.store.put_side_output, self._record_of(placed.output, values))
            self.session.writer.put(partial(self.session.give_back, put))

    @property
    def _latest_image(self) -> str:
        return self.session.pending.image_key if self.session.pending else ""

    def _record_of(self, side: str, values: Mapping[str, Any]) -> str:
        return hash_of("side", self.side_outputs[side].of(values), values["image"])

    def missed(self, recalled: Recalled) -> list[str]:
        """The output nodes that did not run yet beside an image that was recalled."""
        sides = [s for s in self.side_outputs if recalled.is_judged or s not in self.body.showing_verdict]
        return [s for s in sides if not self.session.store.has_side_output(self._record_of(s, recalled.values))]


_RUNNING: dict[str, RunningLoop] = {}


def running_prompt_id() -> str:
    """Id of the prompt that is being executed."""
    return executing_prompt_id() or ""


def add_running_loop(running: RunningLoop) -> None:
    _RUNNING[running.token] = running


def end_running_loop(running: RunningLoop) -> None:
    _RUNNING.pop(running.token, None)
    running.session.folder.release()


def drop_ended_loops() -> None:
    """Let go of the loops of prompts that failed or were interrupted: ComfyUI executes one prompt at a time."""
    now = running_prompt_id()
    for running in [running for running in _RUNNING.values() if running.prompt_id != now]:
        end_running_loop(running)


def running_loop(token: str) -> RunningLoop:
    if token not in _RUNNING:
        raise ValueError("This loop is no longer running; queue the prompt again.")
    return _RUNNING[token]


def earlier_replies(node_id: str) -> tuple[str, ...]:
    """What the critic wrote in the run whose attempt a node belongs to, the newest first; nothing outside a loop."""
    prompt = running_prompt_id()
    for running in _RUNNING.values():
        if running.prompt_id == prompt and any(str(node_id).startswith(prefix) for prefix in running.prefixes):
            return running.session.replies
    return ()


def stopwatch(running: RunningLoop) -> float:
    """Seconds since the last call for this loop."""
    now = time.monotonic()
    passed, running.stopwatch_start = now - running.stopwatch_start, now
    return passed
