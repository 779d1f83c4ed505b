"""What ComfyUI's output caches keep of a loop: short keys, and nothing of attempts that are over.

By default ComfyUI names a node's outputs by the inputs of all nodes above it, and keeps them until another
prompt runs. A loop's copies are never found again under such a name: the values of every attempt differ, and
what was made is recalled from the attempt store. So making the names costs time for nothing, and more than in
proportion to the body's length; and the pictures of past attempts are on disk already.
ComfyUI (as of 0.30) hands nodes no way to its caches, so they are looked up on the call stack; where they are
not found as expected, nothing else changes.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from comfy_execution.progress import get_progress_state

_log = logging.getLogger(__name__)
_numbers = itertools.count()


def find_caches() -> list[Any]:
    """The executor's caches, from the frame of ComfyUI's `execute` that runs the calling node."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "execute" and "caches" in frame.f_locals:
            found = frame.f_locals["caches"]
            return [c for c in getattr(found, "all", []) if c is not None]
        frame = frame.f_back  # type: ignore[assignment]
    return []


def shorten(caches: Iterable[Any], parent_id: str, placed: Mapping[str, Any]) -> None:
    """Give nodes that `parent_id` is about to place keys that nothing else has, before ComfyUI makes its own.

    placed: node id -> node, as in an expansion.
    """
    for cache in caches:
        try:
            _shorten(cache, parent_id, placed)
        except Exception:  # another ComfyUI, whatever is different there: its own keys do, only slower
            _log.debug("Keys of this ComfyUI's caches cannot be shortened.", exc_info=True)


def _shorten(cache: Any, parent_id: str, placed: Mapping[str, Any]) -> None:
    holder = _holder(cache, parent_id)
    keys = getattr(holder, "cache_key_set", None)
    if not hasattr(keys, "get_node_signature"):
        return  # keys of this cache are ids already, or it keeps nothing
    short_keys, short_cache = _short_kinds(type(keys))
    parts, own_key = holder.subcaches, keys.get_subcache_key(parent_id)
    if not _hierarchical(cache):
        for node_id, node in placed.items():
            _put_short(keys, node_id, node["class_type"])
    parts[own_key] = short_cache(short_keys)


@functools.cache
def _short_kinds(kind: type) -> tuple[type, type]:
    """A set of keys like `kind`, but of short ones, and a cache for it; both for the nodes of one expansion.

    Raises:
        Exception: ComfyUI's classes are not those of 0.30.
    """
    from comfy_execution.caching import BasicCache

    if getattr(kind, "short", False):
        kind = kind.__mro__[1]
    if list(inspect.signature(kind.add_keys).parameters) != ["self", "node_ids"]:  # type: ignore[attr-defined]
        raise TypeError("add_keys takes something else")

    async def add_keys(self: Any, node_ids: Iterable[str]) -> None:
        for node_id in node_ids:
            if node_id not in self.keys and self.dynprompt.has_node(node_id):
                _put_short(self, node_id, self.dynprompt.get_node(node_id)["class_type"])

    def all_node_ids(self: Any) -> set[str]:
        """ComfyUI's own calls itself for each attempt that placed the next, and Python allows 1,000 such calls."""
        found: set[str] = set()
        waiting = [self]
        while waiting:
            cache = waiting.pop()
            found |= cache.cache_key_set.all_node_ids()
            waiting += cache.subcaches.values()
        return found

    return (
        type("ShortKeys", (kind,), {"add_keys": add_keys, "short": True}),
        type("ShortKeyCache", (BasicCache,), {"all_node_ids": all_node_ids}),
    )


def _put_short(keys: Any, node_id: str, class_type: str) -> None:
    """A key that equals nothing but itself: ComfyUI does not ask external caches about a key that holds a NaN."""
    key = frozenset((next(_numbers), math.nan))  # ComfyUI's are frozensets too, and it may compare them
    keys.keys[node_id], keys.subcache_keys[node_id] = key, (node_id, class_type)


def forget(caches: Iterable[Any], node_ids: Sequence[str]) -> None:
    """Drop what the caches hold for these nodes of one expansion, in any of ComfyUI's cache modes."""
    if not node_ids:
        return
    for cache in caches:
        holder = _holder(cache, node_ids[0])
        keys = getattr(holder, "cache_key_set", None)
        if keys is None:
            continue
        kept = [getattr(holder, name, {}) for name in ("cache", "used_generation", "timestamps", "children")]
        for node_id in node_ids:
            _forget_one(keys, kept, node_id)
            if not _hierarchical(cache):  # a hierarchical cache needs them to find anything
                getattr(holder, "subcaches", {}).pop(keys.get_subcache_key(node_id), None)
    shown = get_progress_state().nodes
    for node_id in node_ids:
        shown.pop(node_id, None)


def _forget_one(keys: Any, kept: Iterable[dict[Any, Any]], node_id: str) -> None:
    key = keys.get_data_key(node_id)
    if key is None:
        return
    for entries in kept:
        entries.pop(key, None)


def _hierarchical(cache: Any) -> bool:
    return hasattr(cache, "_get_cache_for")


def _holder(cache: Any, node_id: str) -> Any:
    """The cache that keeps this node's outputs: in classic mode each expansion has one of its own."""
    return cache._get_cache_for(node_id) if _hierarchical(cache) else cache
