"""The executor's caches: outputs of earlier attempts leave them, and copies of nodes get short keys in them."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .missing import say_missing


def hidden_execution_list() -> list[Any]:
    """For the `hidden` of a schema: the official way to the outputs, where this ComfyUI has it."""
    from comfy_api.latest import io

    found = getattr(io.Hidden, "execution_list", None)
    return [] if found is None else [found]


def executor_caches(execution_list: Any = None) -> list[Any]:
    """Where ComfyUI keeps the outputs and the objects of the nodes of the running prompt.

    execution_list: the hidden input, which has the cache of the outputs. The objects' cache is only on the call stack,
    in the frame of ComfyUI's `execute` that runs the calling node.
    """
    found: list[Any] = []
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "execute" and "caches" in frame.f_locals:
            found = [c for c in getattr(frame.f_locals["caches"], "all", []) if c is not None]
            break
        frame = frame.f_back  # type: ignore[assignment]
    official = getattr(execution_list, "output_cache", None)
    if official is not None and all(cache is not official for cache in found):
        found.append(official)
    if not found:
        say_missing("caches in execution.execute")
    return found


def drop_outputs(caches: Iterable[Any], node_ids: Sequence[str]) -> None:
    """Drop what the caches hold of these nodes, which one expansion placed, and their progress entries."""
    if not node_ids:
        return
    for cache in caches:
        try:
            _drop(cache, node_ids)
        except Exception:
            say_missing("key sets in its caches as we know them")
    for node_id in node_ids:
        _progress().pop(node_id, None)


def finished(node_ids: Iterable[str]) -> set[str]:
    """Those of these nodes that have run."""
    entries = _progress()
    done = {i for i, entry in entries.items() if str(getattr(entry["state"], "value", entry["state"])) == "finished"}
    return set(node_ids) & done if entries else set(node_ids)


def displayed_node(node_id: str) -> str:
    """The node of the running prompt that a placed node stands for; of any other node, itself."""
    found = _of_progress(lambda state: state.dynprompt.get_display_node_id(node_id))
    return node_id if found is None else str(found)


def _progress() -> dict[str, Any]:
    """What ComfyUI notes of the progress of each node of the running prompt."""
    return _of_progress(lambda state: state.nodes) or {}


def _of_progress(get: Callable[[Any], Any]) -> Any:
    try:
        from comfy_execution.progress import get_progress_state

        return get(get_progress_state())
    except (ImportError, AttributeError):
        say_missing("comfy_execution.progress.get_progress_state")
        return None


def blocking_node(caches: Iterable[Any], dynprompt: Any, link: Sequence[Any]) -> str | None:
    """The node that made an ExecutionBlocker of what `link` yields, as far as the caches tell."""
    from comfy_execution.graph_utils import ExecutionBlocker, is_link

    def is_blocked(output: Sequence[Any]) -> bool:
        for cache in caches:
            try:
                values = cache.get_local(output[0]).outputs[output[1]]
            except (AttributeError, IndexError, KeyError, TypeError):
                continue  # the cache of the objects, or one that has nothing of this node
            return any(isinstance(v, ExecutionBlocker) for v in values)
        return False

    found, above = None, [link]
    while above:
        at = next((output for output in above if is_blocked(output)), None)
        if at is None or at[0] == found:
            break
        found = at[0]
        above = [value for value in dynprompt.get_node(found)["inputs"].values() if is_link(value)]
    return found


def _drop(cache: Any, node_ids: Sequence[str]) -> None:
    if _keeps_nothing(cache):
        return
    if hasattr(cache, "remove_local"):  # ComfyUI 0.36
        for node_id in node_ids:
            cache.remove_local(node_id)
        return
    holder = _holder(cache, node_ids[0])
    kept = [getattr(holder, name, {}) for name in ("cache", "used_generation", "timestamps", "children")]
    for node_id in node_ids:
        key = holder.cache_key_set.keys[node_id]
        for entries in kept:
            entries.pop(key, None)


_numbers = itertools.count()


def use_short_keys(caches: Iterable[Any], parent_id: str, placed: Mapping[str, Any]) -> None:
    """Give the nodes that `parent_id` is about to place keys that nothing else has, before ComfyUI makes its own.

    ComfyUI's keys name all nodes above a node, so that its outputs are found again in another prompt. Those of a loop
    never are: the values of every attempt differ, and images are recalled from the attempt store.
    placed: node id -> node, as in an expansion.
    """
    for cache in caches:
        try:
            _use_short_keys(cache, parent_id, placed)
        except Exception:
            say_missing("key sets in its caches as we know them")


def _use_short_keys(cache: Any, parent_id: str, placed: Mapping[str, Any]) -> None:
    if _keeps_nothing(cache):
        return
    from comfy_execution.caching import BasicCache, CacheKeySetID

    holder = _holder(cache, parent_id)
    keys = holder.cache_key_set
    if isinstance(keys, CacheKeySetID):
        return  # ids are keys here, and in all caches below this one
    if holder is cache and not _is_hierarchical(cache):
        for node_id, node in placed.items():
            # A frozenset, as ComfyUI's are. With a NaN in it external caches are not asked about it.
            keys.keys[node_id] = frozenset((next(_numbers), math.nan))
            keys.subcache_keys[node_id] = (node_id, node["class_type"])
    below = BasicCache(CacheKeySetID)  # a new one: ids come again with every prompt
    # ComfyUI's `all_node_ids` calls itself once for each nested expansion. Every attempt nests one deeper, and Python
    # allows 1,000 nested calls. ComfyUI uses the list only in an error message.
    below.all_node_ids = set
    holder.subcaches[keys.get_subcache_key(parent_id)] = below


def _keeps_nothing(cache: Any) -> bool:
    """With `--cache-none` it has no state at all."""
    return not vars(cache)


def _is_hierarchical(cache: Any) -> bool:
    return hasattr(cache, "_get_cache_for")


def _holder(cache: Any, node_id: str) -> Any:
    """The cache that keeps this node's outputs: in classic mode each expansion has one of its own."""
    return cache._get_cache_for(node_id) if _is_hierarchical(cache) else cache
