"""Put a request and pictures into a workflow in ComfyUI's API format."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract import NODE_IDS
from .client import WorkflowError


def load_workflow(path: Path) -> dict[str, Any]:
    """An API-format workflow file.

    Raises:
        WorkflowError: no such file, no JSON, or the editor's own format.
    """
    try:
        workflow = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkflowError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise WorkflowError(f"{path} is not valid JSON: {error}.") from None
    return checked_workflow(workflow, str(path))


def checked_workflow(workflow: object, name: str) -> dict[str, Any]:
    """`workflow`, if it is in API format: {node id: {class_type, inputs}}.

    Raises:
        WorkflowError: it is in the editor's own format, or anything else.
    """
    if not isinstance(workflow, dict) or "nodes" in workflow:
        raise WorkflowError(f"{name} is in the editor's format. Export it with Workflow > Export (API).")
    for node in workflow.values():
        if not isinstance(node, Mapping) or "class_type" not in node or not isinstance(node.get("inputs"), Mapping):
            raise WorkflowError(f"{name} is not a workflow in API format.")
    return workflow


def prepare(
    workflow: Mapping[str, Any],
    *,
    request: str | None = None,
    images: Sequence[str] = (),
    seed: int | None = None,
    t_max: int | None = None,
) -> dict[str, Any]:
    """A copy with the request in its Planner, pictures (names in the input folder) and seeds set.

    Raises:
        WorkflowError: a request without a Planner or Plan from Text to take it, or pictures without a loop.
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
    return prompt


def _of(prompt: Mapping[str, Any], class_type: str) -> list[str]:
    return [i for i, n in prompt.items() if n["class_type"] == class_type]
