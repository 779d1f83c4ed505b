"""Read a workflow in ComfyUI's API format, and put a request and pictures into it.

A file holds it plainly, or in a body for a server, such as {"prompt": ...} or {"input": {"workflow": ...}}: it is found
by its shape, objects with a class_type. The editor's own format is converted where it can be (`editor_format.py`).
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract import COMFYUI_ADDRESS, NODE_IDS
from .client import ComfyClient, WorkflowError
from .editor_format import EXPORT, is_editor_format, refusal, to_api_format
from .links import is_link
from .model_files import AGENTS
from .workflow_json import parse_json, read_json

LEVELS = 4
"""How deep in a body a workflow is looked for; an entry of /history has it at the third."""

_log = logging.getLogger(__name__)


def load_workflow(
    path: Path, *, client: ComfyClient | None = None, note: Callable[[str], None] = _log.warning
) -> dict[str, Any]:
    """The workflow that a file holds, in API format.

    client: of the ComfyUI that is asked about its nodes if the file is in the editor's format. note: is told what was
    left out or converted.

    Raises:
        WorkflowError: no such file, no JSON, no workflow in it or several, or the editor's own format and nothing
            that converts it.
    """
    held = _read(path)
    where, workflow = _only_workflow(held, str(path))
    if where:
        note(f'Took the workflow under "{where}" in {path} and left out the rest of the file.')
    if is_editor_format(workflow):
        workflow = to_api_format(workflow, str(path), client or ComfyClient(COMFYUI_ADDRESS), note)
    return checked_workflow(workflow, str(path), note=note)


def load_graph(path: Path) -> dict[str, Any]:
    """The workflow that a file holds, in the editor's format.

    Raises:
        WorkflowError: no such file, no JSON, or another format.
    """
    held = _read(path)
    if not is_editor_format(held):
        raise WorkflowError(f"{path} is not in the editor's format: save the workflow in the editor.")
    return dict(held)


def _read(path: Path) -> Any:
    try:
        return read_json(path.read_bytes())
    except OSError as error:
        raise WorkflowError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise WorkflowError(f"{path} is not valid JSON: {error}.") from None


def checked_workflow(workflow: object, name: str, *, note: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """`workflow`, if it is in API format: {node id: {class_type, inputs}}. What is clearly no node, as a comment, is
    left out, and `note` is told.

    Raises:
        WorkflowError: it is in the editor's own format, or anything else.
    """
    if is_editor_format(workflow):
        raise refusal(name)
    if not isinstance(workflow, Mapping) or (workflow and not _has_nodes(workflow)):
        raise WorkflowError(f"{name} is not a workflow in API format. {EXPORT}")
    sources = {str(v[0]) for n in workflow.values() for v in _inputs_of(n).values() if is_link(v)}
    nodes: dict[str, Any] = {}
    left: list[str] = []
    for node_id, node in workflow.items():
        if _is_node(node):
            nodes[node_id] = node if node.get("inputs") is not None else {**node, "inputs": {}}
        elif node_id not in sources and _is_comment(node_id, node):
            left.append(node_id)
        else:
            raise WorkflowError(
                f"Node {node_id} of {name} has no class_type. Its node pack was missing when the file was written: "
                "install it and export the workflow again."
            )
        if node_id in nodes and not isinstance(nodes[node_id]["inputs"], Mapping):
            raise WorkflowError(f"The inputs of node {node_id} of {name} are no object. {EXPORT}")
    if left:
        note(f"Left out of {name} what is no node: {', '.join(left)}.")
    return nodes


def _only_workflow(held: object, name: str) -> tuple[str, Any]:
    """The workflow in a file's content and where in it: API format before the editor's.

    Raises:
        WorkflowError: there is none, or there are several that differ.
    """
    found = list(_workflows(held))
    found = [f for f in found if not is_editor_format(f[1])] or found
    distinct = [f for n, f in enumerate(found) if f[1] not in [w for _, w in found[:n]]]
    if not distinct:
        raise WorkflowError(f"{name} is not a workflow in API format, and has none in it. {EXPORT}")
    if len(distinct) > 1:
        places = ", ".join(where for where, _ in distinct[:6])
        raise WorkflowError(f"{name} holds {len(distinct)} different workflows: {places}. Keep the one that you mean.")
    return distinct[0]


def _workflows(held: object, where: str = "", level: int = 0) -> Iterator[tuple[str, Any]]:
    """What has the shape of a workflow, in either format and also as JSON in a text; not what is inside of one."""
    if isinstance(held, str) and held.lstrip().startswith(("{", "[", '"')) and level < LEVELS:
        with contextlib.suppress(ValueError):
            yield from _workflows(parse_json(held), where, level + 1)
    elif is_editor_format(held) or (isinstance(held, Mapping) and _has_nodes(held)):
        yield where, held
    elif level < LEVELS and isinstance(held, (Mapping, list)):
        for key, value in held.items() if isinstance(held, Mapping) else enumerate(held):
            yield from _workflows(value, f"{where}.{key}" if where else str(key), level + 1)


def _has_nodes(held: Mapping[str, Any]) -> bool:
    return any(_is_node(value) for value in held.values())


def _is_node(value: object) -> bool:
    kind = value.get("class_type") if isinstance(value, Mapping) else None
    return isinstance(kind, str) and kind != ""


def _is_comment(node_id: str, value: object) -> bool:
    """Whether what has no class_type is no node either, rather than a node whose pack was missing."""
    if not isinstance(value, Mapping) or node_id.startswith(("_", "#", "//")):
        return True
    return not {"class_type", "inputs", "_meta"} & value.keys()


def _inputs_of(node: object) -> Mapping[str, Any]:
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def prepare(
    workflow: Mapping[str, Any],
    *,
    request: str | None = None,
    images: Sequence[str] = (),
    seed: int | None = None,
    t_max: int | None = None,
    strictness: float | None = None,
    keep_form: bool = True,
) -> dict[str, Any]:
    """A copy with the request in its Planner, pictures (names in the input folder) and seeds set.

    keep_form: False has all agents write freely; True leaves them as they are.

    Raises:
        WorkflowError: a request without a Planner or Plan from Text to take it, pictures without a loop, a strictness
            without a Critic-Refine, or `keep_form` without an agent.
    """
    prompt: dict[str, Any] = copy.deepcopy(dict(workflow))
    planners = _of(prompt, NODE_IDS.planner)
    if request is not None:
        takers = [(i, "request") for i in planners] or [(i, "text") for i in _of(prompt, NODE_IDS.plan_from_text)]
        if not takers:
            raise WorkflowError("This workflow has neither a Planner nor a Plan from Text that could take a request.")
        for node_id, name in takers:
            prompt[node_id]["inputs"][name] = request
    ends = planners + _of(prompt, NODE_IDS.loop_open)
    if images and not ends:
        raise WorkflowError("This workflow has no Planner or Loop Open that could take pictures.")
    for node_id in ends if images else ():
        taken = prompt[node_id]["inputs"]
        for old in [i for i in taken if i.startswith("images.")]:
            del taken[old]  # the workflow's own example pictures
    for number, name in enumerate(images):
        loader = f"given_image_{number}"
        prompt[loader] = {"class_type": "LoadImage", "inputs": {"image": name}}
        for node_id in ends:
            prompt[node_id]["inputs"][f"images.image_{number}"] = [loader, 0]
    for node_id in ends:
        if seed is not None:
            prompt[node_id]["inputs"]["seed"] = seed
    if t_max is not None:
        for node_id in _of(prompt, NODE_IDS.loop_close):
            prompt[node_id]["inputs"]["t_max"] = t_max
    if strictness is not None:
        critics = _of(prompt, NODE_IDS.critic_refine)
        if not critics:
            raise WorkflowError("This workflow has no Critic-Refine that could take a strictness. Leave it out.")
        for node_id in critics:
            prompt[node_id]["inputs"]["strictness"] = strictness
    if not keep_form:
        agents = [i for kind in AGENTS for i in _of(prompt, kind)]
        if not agents:
            raise WorkflowError("This workflow has no agent whose form could be let go (--no-keep-form).")
        for node_id in agents:
            prompt[node_id]["inputs"]["keep_form"] = False
    return prompt


def _of(prompt: Mapping[str, Any], class_type: str) -> list[str]:
    return [i for i, n in prompt.items() if n["class_type"] == class_type]
