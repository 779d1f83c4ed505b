"""What makes an attempt and its judgment, as hashes: what was made before is found again by them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from comfy_execution.graph_utils import is_link

from ..interleave_thinker.contract import LOOP_OPEN_OUTPUTS, NODE_IDS, PREFIX
from ..interleave_thinker.files import hash_of
from ..interleave_thinker.session import Signature
from .body import Body
from .comfy_internals.file_states import FileStates
from .folders import model_state
from .prompt_graph import Link, input_of
from .running_loops import running_loop
from .users import current_user

_SIGNED_AS = {"has_reference": "reference"}
_SIGNED_AT_DEFAULT = {
    f"{PREFIX}{kind}": name
    for kind, name in {
        "AgentFromCLIP": "prompts",
        "AgentFromServer": "prompts",
        "LoadAgent": "prompts",
        "LoopClose": "accept_attempts",
        "PlanFromText": "title",
        "Planner": "edited_plan",
    }.items()
}
"""Optional inputs that 0.1.0 already had, by node. It signed them at their defaults, so they stay signed."""


class BodySignatures:
    """What makes an attempt of this body, its judgment, and what the output nodes beside it show.

    made_changing, judged_changing: nodes that always change, by id, with their classes.
    """

    def __init__(self, dynprompt: Any, body: Body):
        state_of = FileStates(dynprompt).get
        self.made_by, self.made_changing = signature_of(dynprompt, body, body.image_link, state_of)
        self.judged_by: Signature | None = None
        self.judged_changing: dict[str, str] = {}
        if body.judgment_link:
            self.judged_by, self.judged_changing = signature_of(
                dynprompt, body, body.judgment_link, state_of, body.image_link
            )
        self.side_outputs = {
            side: signature_of(dynprompt, body, [side, 0], state_of, body.image_link)[0]
            for side in body.side_outputs
            if side not in body.of_inner_loops
        }

    @property
    def changing(self) -> dict[str, str]:
        return self.made_changing | self.judged_changing

    def in_run(self, token: str) -> tuple[Signature, Signature | None]:
        """What makes attempts and judgments in the run of `token` (`RunFolder.about`)."""
        made, judged = self.made_by, self.judged_by
        return (
            made.in_run(token) if self.made_changing else made,
            judged.in_run(token) if judged and self.judged_changing else judged,
        )


def _judged_image(token: str) -> str:
    """Key of the image that the loop of `token` judges now."""
    pending = running_loop(token).session.pending
    return pending.image_key if pending else ""


def signature_of(
    dynprompt: Any,
    body: Body,
    link: Link,
    file_state: Callable[[str], Any],
    given: Link | None = None,
) -> tuple[Signature, dict[str, str]]:
    """The signature of what `link` yields: everything upstream, with the loop's own values left open.

    given: an output that counts as a value of the loop ("image"): the image the critic is shown.
    file_state: node id -> what the node says of its files, None for "always changes" (`FileStates.get`).

    Returns it and the nodes upstream that always change, by id, with their classes. They count as unchanged in it.
    """
    order: dict[str, int] = {}
    lines: list[Any] = []
    uses: set[str] = set()
    changing: dict[str, str] = {}

    def visit(node_id: str) -> int:
        if node_id in order:
            return order[node_id]
        order[node_id] = len(order)
        mine = order[node_id]
        node = dynprompt.get_node(node_id)
        kind = node["class_type"]
        inputs: list[tuple[Any, ...]] = []
        for name in sorted(node["inputs"]):
            value = node["inputs"][name]
            if name == "token" and kind.startswith(PREFIX):
                continue  # an outer loop's: another in each run
            if kind == f"{PREFIX}RecallPicture" and name == "key":
                key = _judged_image(node["inputs"]["token"]) if is_link(value) else value
                inputs.append((name, "value", key))
            elif not is_link(value):
                if _is_as_if_absent(kind, name, value):
                    continue
                inputs.append((name, "value", _plain(value), model_state(value)))
            elif given is not None and list(value) == given:
                uses.add("image")
                inputs.append((name, "loop", "image"))
            elif value[0] == body.open_id:
                output = LOOP_OPEN_OUTPUTS[value[1]]
                uses.add(_SIGNED_AS.get(output, output))
                inputs.append((name, "loop", output))
            elif (fed := _value_of_feed(dynprompt.get_node(value[0]), value[1])) is not None:
                inputs.append((name, "value", fed))
            else:
                inputs.append((name, "node", visit(value[0]), value[1]))
        # An earlier Loop Close: its fingerprint changes with gate and outputs, which do not change its document.
        state = [current_user()] if kind == NODE_IDS.loop_close else file_state(node_id)
        if state is None:
            changing[dynprompt.get_display_node_id(node_id)] = kind
        lines.append((mine, kind, _hashable(state), inputs))
        return mine

    top = visit(link[0])
    return Signature(hash_of(lines, top, link[1]), frozenset(uses - {"loop"})), changing


def _is_as_if_absent(kind: str, name: str, value: Any) -> bool:
    """A later optional input of ours at its default. Prompts of before do not have it; the editor adds it to them."""
    if not kind.startswith(PREFIX) or _SIGNED_AT_DEFAULT.get(kind) == name:
        return False
    (_, *facts), required = input_of(kind, name)
    return bool(not required and facts and "default" in facts[0] and facts[0]["default"] == value)


def _value_of_feed(node: Mapping[str, Any], output: int) -> tuple[str, Any] | None:
    """What an outer loop gives for its attempt; None if `node` is no Step Feed."""
    if node["class_type"] != f"{PREFIX}StepFeed":
        return None
    name = LOOP_OPEN_OUTPUTS[output]
    return name, json.loads(node["inputs"]["due"]).get(name)


def _plain(value: Any) -> Any:
    """A literal as a hashable part. Loops of other packs write tensors into the nodes that they place."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous()
        return [str(data.dtype), list(data.shape), hashlib.sha256(data.view(torch.uint8).numpy().tobytes()).hexdigest()]
    return value


def _hashable(value: Any) -> Any:
    """What a node says of its files, as a hashable part."""
    return [repr(v) for v in (value if isinstance(value, list) else [value])]
