"""What nodes say of their files."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import math
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...interleave_thinker.contract import PREFIX
from .missing import say_missing

_log = logging.getLogger(__name__)

SECONDS_OF_A_CLOCK = 1.05
"""How long to wait before a node whose answer looks like the time is asked again."""
SECONDS_OF_AN_ANSWER = 30.0
"""How long a node may take to answer."""
NEAR = 120.0
"""Seconds from now within which a number looks like the time."""


class FileStates:
    """What the nodes of a prompt say of their files (IS_CHANGED, fingerprint_inputs).

    A node "always changes" if it says so (NaN), or if it answers otherwise when it is asked again: the time, a random
    number.
    """

    def __init__(self, dynprompt: Any):
        self._dynprompt = dynprompt
        self._known: dict[str, Any] = {}
        self._begun = time.monotonic()
        self._ask = _asking(dynprompt)

    def get(self, node_id: str) -> Any:
        """The node's answer, or False if it has none to give. None if it always changes."""
        if node_id not in self._known:
            self._known[node_id] = self._get(node_id)
        return self._known[node_id]

    def _get(self, node_id: str) -> Any:
        node = self._dynprompt.get_node(node_id)
        # A Start Loop always says NaN, for ComfyUI to place its nodes anew. What it gives comes from its inputs alone.
        if "_loop_end" in node or not declares_fingerprint(node):
            return False
        answer = self._ask(node_id, False)
        if _is_clock_of_minutes(answer):
            return None
        if not (_is_nan(answer) or _is_stock_digest(node, answer) or node["class_type"].startswith(PREFIX)):
            if _looks_like_time(answer):
                time.sleep(max(0.0, SECONDS_OF_A_CLOCK - (time.monotonic() - self._begun)))
            again = self._ask(node_id, True)
            if _is_nan(again) or repr(again) != repr(answer):
                return None
        return None if _is_nan(answer) else answer


def declares_fingerprint(node: Mapping[str, Any]) -> bool:
    """Whether the node's class declares what its files are."""
    import nodes

    return _declared(nodes.NODE_CLASS_MAPPINGS[node["class_type"]]) is not None


def _is_nan(answer: Any) -> bool:
    """Whether a NaN is anywhere in it: it is equal to no other answer, so ComfyUI runs the node again."""
    if isinstance(answer, Mapping):
        return any(map(_is_nan, answer.values()))
    if isinstance(answer, (list, tuple, set, frozenset)):
        return any(map(_is_nan, answer))
    return isinstance(answer, float) and math.isnan(answer)


def _is_stock_digest(node: Mapping[str, Any], answer: Any) -> bool:
    """Whether ComfyUI's own node answers with a file's hash. It is not asked again: reading a long file takes time."""
    import nodes

    home = str(getattr(nodes.NODE_CLASS_MAPPINGS[node["class_type"]], "RELATIVE_PYTHON_MODULE", "nodes"))
    values = answer if isinstance(answer, list) else [answer]
    is_digest = all(isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v) for v in values)
    return is_digest and not home.startswith("custom_nodes")


def _looks_like_time(answer: Any) -> bool:
    now = time.time()
    text = repr(answer)
    numbers = [float(found) for found in re.findall(r"\d{9,20}(?:\.\d+)?", text)]
    if any(abs(n / unit - now) < NEAR for n in numbers for unit in (1, 1e3, 1e6, 1e9)):
        return True
    clocks = (time.strftime("%H:%M", made) for made in (time.localtime(now), time.gmtime(now)))
    return any(clock in text for clock in clocks)


def _is_clock_of_minutes(answer: Any) -> bool:
    """Nobody waits a minute for the next answer. A time with seconds may be that of a file."""
    now = time.time()
    text = repr(answer)
    if any(abs(int(found) * 60 - now) < NEAR for found in re.findall(r"(?<![\d.])\d{8}(?![\d.])", text)):
        return True
    clocks = (time.strftime("%H:%M", made) for made in (time.localtime(now), time.gmtime(now)))
    return any(re.search(rf"(?<![\d:]){clock}(?![:\d])", text) for clock in clocks)


def _asking(dynprompt: Any) -> Callable[[str, bool], Any]:
    """(node id, whether to ask anew) -> the node's answer."""
    try:
        from execution import IsChangedCache

        get = IsChangedCache("", dynprompt, None).get
    except (ImportError, AttributeError, TypeError):
        say_missing("execution.IsChangedCache")
        return lambda node_id, anew: _ask_class(dynprompt.get_node(node_id))

    def ask(node_id: str, anew: bool) -> Any:
        import nodes

        asked = IsChangedCache("", _Forgetful(dynprompt), None).get if anew else get
        declared = _declared(nodes.NODE_CLASS_MAPPINGS[dynprompt.get_node(node_id)["class_type"]])
        return _run_now(asked(node_id), waits=inspect.iscoroutinefunction(declared))

    return ask


class _Forgetful:
    """A prompt whose nodes do not hold the answer that ComfyUI keeps in them."""

    def __init__(self, dynprompt: Any):
        self._dynprompt = dynprompt

    def get_node(self, node_id: str) -> dict[str, Any]:
        return {k: v for k, v in self._dynprompt.get_node(node_id).items() if k != "is_changed"}


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
        return [_run_now(answer, waits=True) if isinstance(answer, Coroutine) else answer]
    except Exception as error:
        _log.warning("%s does not say whether its files changed: %s", node["class_type"], error)
        return math.nan


def _declared(kind: Any) -> Any:
    """The class's own fingerprint_inputs or IS_CHANGED, or None. ComfyUI's base class has a stand-in of the first."""
    for base in kind.__mro__:
        if "fingerprint_inputs" in vars(base) and base.__module__.split(".")[0] != "comfy_api":
            return kind.fingerprint_inputs
    return getattr(kind, "IS_CHANGED", None)


def _run_now(work: Coroutine[Any, Any, Any], waits: bool) -> Any:
    """The result of a coroutine; NaN ("always changed") if there is none.

    waits: whether it may wait for something. Then it has an event loop of its own: this runs in ComfyUI's.
    """
    try:
        if waits:
            with ThreadPoolExecutor(1) as thread:
                limited = asyncio.wait_for(work, SECONDS_OF_AN_ANSWER)
                return thread.submit(contextvars.copy_context().run, asyncio.run, limited).result()
        work.send(None)
    except StopIteration as done:
        return done.value
    except Exception as error:
        _log.warning("A node does not say whether its files changed: %s", error)
        return math.nan
    with contextlib.suppress(Exception):  # ComfyUI's own clean-up expects an answer
        work.close()
    return math.nan
