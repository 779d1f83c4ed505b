"""What nodes say of their files."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from .missing import say_missing

_log = logging.getLogger(__name__)


def file_states(dynprompt: Any) -> Callable[[str], Any]:
    """A function from a node's id to what the node says of its files (IS_CHANGED, fingerprint_inputs).

    False: nothing. NaN: they count as changed each time.
    """
    try:
        from execution import IsChangedCache

        get = IsChangedCache("", dynprompt, None).get
    except (ImportError, AttributeError, TypeError):
        say_missing("execution.IsChangedCache")
        return lambda node_id: _ask_class(dynprompt.get_node(node_id))
    return lambda node_id: _run_now(get(node_id))


def _ask_class(node: Mapping[str, Any]) -> Any:
    """As ComfyUI's own: constants only, None for links, and NaN if the node raises.

    The node is not told its hidden inputs. One that cannot answer without them raises: its image is made again, which
    costs time; recalling an image whose input file changed would be wrong.
    """
    from comfy_execution.graph_utils import is_link

    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
    ask = _declared(kind)
    if ask is None:
        return False
    declared = kind.INPUT_TYPES()
    known = {**declared.get("required", {}), **declared.get("optional", {})}
    given = {name: value for name, value in node["inputs"].items() if name.split(".")[0] in known}
    values: dict[str, Any] = {name: None if is_link(value) else value for name, value in given.items()}
    if getattr(kind, "INPUT_IS_LIST", False):
        values = {name: (None,) if value is None else [value] for name, value in values.items()}
    try:
        answer = ask(**values)
        if isinstance(answer, Coroutine):
            answer.close()
            return math.nan  # as `_run_now` of what ComfyUI makes of it
        return [answer]
    except Exception as error:
        _log.warning("%s does not say whether its files changed: %s", node["class_type"], error)
        return math.nan


def _declared(kind: Any) -> Any:
    """The class's own fingerprint_inputs or IS_CHANGED, or None. ComfyUI's base class has a stand-in of the first."""
    for base in kind.__mro__:
        if "fingerprint_inputs" in vars(base) and base.__module__.split(".")[0] != "comfy_api":
            return kind.fingerprint_inputs
    return getattr(kind, "IS_CHANGED", None)


def _run_now(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that does not wait for anything; NaN ("always changed") if it does."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    return math.nan
