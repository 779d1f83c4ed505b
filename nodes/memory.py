"""Keep a long loop's memory flat: forget the outputs of attempts that are over.

ComfyUI's output caches keep what every node of a prompt produced until another prompt runs. For the
clones of past attempts that is waste: their pictures are on disk, and nothing refers to them any more.
ComfyUI (as of 0.30) hands nodes no way to its caches, so they are looked up on the call stack; where
they are not found as expected, nothing is forgotten and nothing else changes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from comfy_execution.progress import get_progress_state


def find_caches() -> list[Any]:
    """The executor's caches, from the frame of ComfyUI's `execute` that runs the calling node."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "execute" and "caches" in frame.f_locals:
            found = frame.f_locals["caches"]
            return [c for c in getattr(found, "all", []) if c is not None]
        frame = frame.f_back  # type: ignore[assignment]
    return []


def forget(caches: Iterable[Any], node_ids: Sequence[str]) -> None:
    """Drop what the caches hold for these nodes of one expansion, in any of ComfyUI's cache modes."""
    if not node_ids:
        return
    for cache in caches:
        hierarchical = hasattr(cache, "_get_cache_for")
        holder = cache._get_cache_for(node_ids[0]) if hierarchical else cache
        keys = getattr(holder, "cache_key_set", None)
        if keys is None:
            continue
        kept = [getattr(holder, name, {}) for name in ("cache", "used_generation", "timestamps", "children")]
        for node_id in node_ids:
            _forget_one(keys, kept, node_id)
            if not hierarchical:  # a hierarchical cache needs them to find anything
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
    # Signatures hold those of all ancestors, half a megabyte an attempt: in the keys of the node itself and
    # in those of the cache made for the nodes that it placed. A node that is still running will store its
    # outputs under the short key.
    if node_id in getattr(keys, "keys", {}):
        keys.keys[node_id] = ("forgotten", node_id)
