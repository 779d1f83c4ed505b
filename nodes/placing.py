"""How an attempt is placed into the running graph.

Every attempt is one expansion: Step Feed -> a copy of the body -> Keep Picture -> Recall Picture -> a copy of the
judge -> Keep Judgment -> Next Attempt, which decides and expands again. The copies get literals and store keys, never
links to earlier attempts: linked iterations cost quadratic time and recursion depth in ComfyUI's caches. Next Attempt
gets raw links: it runs also where an ExecutionBlocker kept the nodes before it from running, and can say so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder, is_link

from ..interleave_thinker.contract import PREFIX, PlacedKind, placed_name, placed_prefix
from ..interleave_thinker.errors import RunError
from ..interleave_thinker.session import Recalled
from .comfy_internals.caches import drop_outputs, use_short_keys
from .prompt_graph import has_outputs, links_of, notes_of, renamed
from .running_loops import PlacedOutput, RunningLoop, end_running_loop

AT_ONCE = 8
"""Recalled images that are in memory at a time for the output nodes beside them."""

_Missed = tuple[Recalled, list[str]]


def place_next_attempt(running: RunningLoop, ui: Mapping[str, Any] | None = None) -> io.NodeOutput:
    """Take what the store has, place what must be made next, or hand out the finished document.

    ui: what the calling node shows.
    """
    running.placed_outputs.clear()
    # When ComfyUI took the latest nodes, it made a cache entry for the node that placed them. That goes too.
    for node_ids in (running.placed_by, running.placed_ids):
        drop_outputs(running.caches, node_ids)
    running.placed_by, running.placed_ids = running.placed_ids[-1:], []
    session = running.session
    is_left = session.advance_from_store()
    missed = _outputs_of_recalled(running)
    if missed:
        placed = _AttemptGraph(running, "r")
        last = placed.outputs_only(missed)
    elif not is_left:
        end_running_loop(running)
        return io.NodeOutput(session.document(), ui=ui)
    elif session.state.status == "compare":
        placed = _AttemptGraph(running, "c")
        last = placed.add("CompareAttempts", "compare", agent=running.agent_link)
    elif session.pending is None:
        placed = _AttemptGraph(running, "a")
        last = placed.attempt()
    else:
        placed = _AttemptGraph(running, "j")
        last = placed.judgment_only(session.pending.image_key)
    graph = placed.graph()
    running.placed_ids = list(graph)
    use_short_keys(running.caches, running.placed_by[0] if running.placed_by else running.body.close_id, graph)
    running.caches = []  # whoever places next finds them; a loop that was interrupted would hold what they hold
    return io.NodeOutput(last.out(0), expand=graph, ui=ui)


def _outputs_of_recalled(running: RunningLoop) -> list[_Missed]:
    """The next recalled attempts beside which output nodes have not run yet, with those that can run."""
    session, body = running.session, running.body
    found: list[_Missed] = []
    while session.recalled and len(found) < AT_ONCE:
        recalled = session.recalled.pop(0)
        sides = running.missed(recalled)
        is_pending = session.pending is not None and not session.recalled
        if is_pending:  # its judgment is made next, and what shows it runs then
            sides = [s for s in sides if s not in body.showing_verdict]
        able = [s for s in sides if s in body.needing_image_alone and s not in body.showing_verdict]
        if able:
            found.append((recalled, able))
        for side in sorted(set(sides) - set(able)):
            kind = running.dynprompt.get_node(side)["class_type"]
            name = running.dynprompt.get_display_node_id(side)
            session.warn(
                f"Node {name} ({kind}) did not run for recalled attempts. It needs more than the picture, and only the "
                "picture is kept."
            )
    return found


class _AttemptGraph:
    """Builds the nodes of one expansion."""

    def __init__(self, running: RunningLoop, kind: PlacedKind):
        self.running = running
        self.kind: PlacedKind = kind
        self.builder = GraphBuilder()
        self.notes: dict[str, dict[str, Any]] = {}
        if kind != "r":
            self.begin(running.session.state.step, running.session.state.attempt)
        self.feed: Any = None

    def begin(self, step: int, attempt: int) -> None:
        """Nodes that are added from here on belong to this attempt."""
        self.copies: dict[str, Any] = {}
        self.builder.prefix = placed_prefix(self.running.name, step, self.kind, attempt)
        if self.builder.prefix in self.running.prefixes:  # ComfyUI would run in circles
            raise RunError(f"The loop would place step {step}, attempt {attempt} twice. Please report this.")
        self.running.prefixes.add(self.builder.prefix)

    def graph(self) -> dict[str, Any]:
        """The expansion: node id -> node."""
        return {node_id: {**node, **self.notes.get(node_id, {})} for node_id, node in self.builder.finalize().items()}

    def add(self, name: str, node_id: str, **inputs: Any) -> Any:
        values = {k: v for k, v in inputs.items() if v is not None}
        node = self.builder.node(PREFIX + name, node_id, token=self.running.token, **values)
        node.set_override_display_id(self.running.display_id)
        return node

    def attempt(self) -> Any:
        """Make the image and, where its verdict matters, judge it.

        Output nodes beside the image get what the body made; the judge, and what shows more of what the judge uses, get
        the stored image: 8 bits a channel, the first of a batch. A resumed run then judges as an uninterrupted one.
        """
        body, session = self.running.body, self.running.session
        judging = session.needs_judgment
        sides = [s for s in body.side_outputs if judging or s not in body.showing_verdict]
        copied = body.image_nodes | body.nodes_of(sides) | (body.judgment_nodes if judging else frozenset())
        self._add_feed(session.values)
        self._copy(copied)
        judges = (copied & body.judgment_nodes) - body.image_nodes
        self._connect(copied & body.image_nodes, lambda link: None)
        image = self._into_copy(body.image_link)
        keep = self.add("KeepPicture", "keep", image=image)
        # ComfyUI runs output nodes first: a slow one would have the picture wait to be kept.
        self._show(copied - body.image_nodes - judges, "PassPicture", image=image, after=keep.out(0))
        self._show(judges, "RecallPicture", key=keep.out(0))
        seen = self._note(sides, session.values, keep.out(0))
        return self._add_next(judging, kept=keep.out(0), after=seen)

    def judgment_only(self, image_key: str) -> Any:
        """The image is in the store already: only judge it."""
        body, session = self.running.body, self.running.session
        sides = body.showing_verdict & body.needing_image_alone
        copied = body.judgment_nodes | body.nodes_of(sides)
        self._add_feed(session.values)
        self._copy(copied)
        self._show(copied, "RecallPicture", key=image_key)
        seen = self._note(sides, {**session.values, "image": image_key})
        return self._add_next(judging=True, after=seen)

    def outputs_only(self, missed: Sequence[_Missed]) -> Any:
        """Run output nodes beside images that are in the store."""
        seen = None
        for recalled, sides in missed:
            self.begin(recalled.values["step"], recalled.values["attempt"])
            self._add_feed(recalled.values)
            self._copy(self.running.body.nodes_of(sides))
            self._show(frozenset(self.copies), "RecallPicture", key=recalled.values["image"])
            seen = self._note(sides, recalled.values, seen)
        return self.add("NextAttempt", "next", after=seen)

    def _note(self, outputs: Iterable[str], values: Mapping[str, Any], after: Any = None) -> Any:
        """Note when these output nodes have run. Returns what Next Attempt waits for: a slow one may not outlive it."""
        for output in outputs:
            if output not in self.running.body.of_inner_loops:
                copy = self.copies[output]
                self.running.placed_outputs[copy.id] = PlacedOutput(output, values)
                name = f"noted{placed_name(output)}"
                link = copy.out(0) if has_outputs(copy.class_type) else None
                after = self.add("NoteOutput", name, placed_id=copy.id, output=link, after=after).out(0)
        return after

    def _show(self, node_ids: frozenset[str], kind: str, **inputs: Any) -> None:
        """Connect nodes; those that look at the image get it from a node of this kind."""
        link = self.running.body.image_link
        if any(link == other for i in node_ids for other in links_of(self.running.dynprompt.get_node(i))):
            shown = self.add(kind, kind.lower(), **inputs).out(0)
            self._connect(node_ids, lambda other: shown if other == link else None)
        else:
            self._connect(node_ids, lambda other: None)

    def _add_next(self, judging: bool, **links: Any) -> Any:
        """Next Attempt waits while later attempts run, so it must hold no image: raw links only."""
        if judging:
            judgment = self._into_copy(self.running.body.judgment_link)
            judged = self.add("KeepJudgment", "judged", judgment=judgment, after=links.get("kept"))
            links["judged"] = judged.out(0)
        return self.add("NextAttempt", "next", **links)

    def _add_feed(self, values: Mapping[str, Any]) -> None:
        # One literal instead of seven: ComfyUI writes every node's inputs into the key of each node below it.
        self.feed = self.add("StepFeed", "feed", due=json.dumps(dict(values)))
        self.feed.set_override_display_id(self.running.body.open_id)

    def _copy(self, node_ids: frozenset[str]) -> None:
        for node_id in sorted(node_ids):
            original = self.running.dynprompt.get_node(node_id)
            copy = self.builder.node(original["class_type"], f"b{placed_name(node_id)}")
            copy.set_override_display_id(node_id)
            self.copies[node_id] = copy
        names = {node_id: copy.id for node_id, copy in self.copies.items()}
        for node_id, copy in self.copies.items():
            self.notes[copy.id] = renamed(notes_of(self.running.dynprompt.get_node(node_id)), names)

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
