"""The editor's own format (what Save writes) -> API format, with comfy-cli's converter where that is installed.

Only a server knows the inputs of its nodes, so a running ComfyUI is asked for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from .client import ComfyClient, WorkflowError

EXPORT = "Export it with Workflow > Export (API)."


def is_editor_format(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("nodes"), list)


def refusal(name: str) -> WorkflowError:
    """The error where nothing can convert it."""
    return WorkflowError(f"{name} is in the editor's format. {EXPORT}")


def to_api_format(
    workflow: Mapping[str, Any], name: str, client: ComfyClient, note: Callable[[str], None]
) -> dict[str, Any]:
    """What Export (API) would write.

    Raises:
        WorkflowError: comfy-cli is not installed, the server does not answer or lacks a node, or a node cannot be
            converted.
    """
    try:
        from comfy_cli.workflow_to_api import WorkflowConversionError, convert_ui_to_api
    except ImportError:
        raise WorkflowError(
            f"{refusal(name)} With comfy-cli beside this package (pip install comfy-cli) and ComfyUI running it is "
            "converted here."
        ) from None
    try:
        known = client.node_kinds()
    except WorkflowError as error:
        raise WorkflowError(
            f"{refusal(name)} Or start the ComfyUI that it is for, to convert it, and name it with --server. {error}"
        ) from None
    with _Complaints() as complaints:
        try:
            converted: dict[str, Any] = convert_ui_to_api(dict(workflow), known)
        except WorkflowConversionError as error:
            complaints.said.append(str(error))
        except Exception as error:  # whatever somebody else's code raises on a file that it does not expect
            complaints.said.append(f"{type(error).__name__}: {error}")
    if complaints.said:  # it leaves out what it fails at
        raise WorkflowError(f"comfy-cli cannot convert {name}: {complaints.said[0]}. {EXPORT}")
    kept = {i: n for i, n in converted.items() if n["class_type"] in known or _is_connected(converted, i)}
    if lacking := [f"{n['class_type']} (node {i})" for i, n in kept.items() if n["class_type"] not in known]:
        raise WorkflowError(
            f"The ComfyUI at {client.url} has no {', '.join(lacking[:6])}. Install what is missing there, or name "
            f"another ComfyUI with --server, or export {name} with Workflow > Export (API)."
        )
    note(f"{name} is in the editor's format; comfy-cli converted it.")
    if left := [f"{i} ({n['class_type']})" for i, n in converted.items() if i not in kept]:
        note(f"Left out what is connected to nothing and unknown to ComfyUI: {', '.join(left)}.")
    return kept


def _is_connected(workflow: Mapping[str, Any], node_id: str) -> bool:
    links = {i: {str(v[0]) for v in n["inputs"].values() if isinstance(v, list) and v} for i, n in workflow.items()}
    return bool(links[node_id]) or any(node_id in sources for sources in links.values())


class _Complaints(logging.Handler):
    """Takes down what the converter logs instead of raising it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._logger = logging.getLogger("comfy_cli.workflow_to_api")

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage().rstrip("."))

    def __enter__(self) -> _Complaints:
        self._logger.addHandler(self)
        self._propagated, self._logger.propagate = self._logger.propagate, False
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated
