"""Run inside ComfyUI's folder by test_caches.py: what its caches do with nodes that a loop places."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

REPO = Path(sys.argv[1])
sys.argv = sys.argv[:1] + ["--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

from comfy_execution import caching  # noqa: E402
from comfy_execution.cache_provider import CacheProvider, register_cache_provider  # noqa: E402
from comfy_execution.graph import DynamicPrompt  # noqa: E402
from execution import CacheEntry, CacheSet, CacheType, IsChangedCache  # noqa: E402
from pack_inside import load_pack  # noqa: E402

load_pack(REPO)

from interleave_pack.nodes.comfy_internals.caches import drop_outputs, use_short_keys  # noqa: E402

DEPTH = 300
"""Attempts of a run, each placed by the one before, and the nested calls that Python is to allow for it (of 1,000)."""
INPUTS = {"width": 8, "height": 8, "batch_size": 1, "color": 0}
signed: list[str] = []
asked: list[str] = []
plain = caching.CacheKeySetInputSignature.get_node_signature


async def noting(self: Any, dynprompt: Any, node_id: str) -> Any:
    signed.append(node_id)
    return await plain(self, dynprompt, node_id)


class Provider(CacheProvider):
    """An external cache, as other packs register them."""

    async def on_lookup(self, context: Any) -> None:
        asked.append(context.node_id)

    async def on_store(self, context: Any, value: Any) -> None:
        asked.append(context.node_id)


caching.CacheKeySetInputSignature.get_node_signature = noting
register_cache_provider(Provider())


def attempt(number: int) -> dict[str, Any]:
    """What is placed for an attempt: a node, and one that places the next."""
    first = f"30.s{number}a1.b1"
    return {
        first: {"class_type": "EmptyImage", "inputs": dict(INPUTS)},
        f"30.s{number}a1.next": {"class_type": "ImageInvert", "inputs": {"image": [first, 0]}},
    }


async def run(caches: CacheSet, attempts: int, *, short: bool) -> list[bool]:
    """One prompt in which "30" places the first attempt and each attempt the next; whether nodes were found before
    they ran. What is over is dropped as the loop does it (`nodes/running_loops.py: place_next_attempt`)."""
    prompt = {"30": {"class_type": "EmptyImage", "inputs": dict(INPUTS)}}
    dynprompt = DynamicPrompt(prompt)
    for cache in caches.all:
        await cache.set_prompt(dynprompt, prompt.keys(), IsChangedCache("p", dynprompt, caches.outputs))
        cache.clean_unused()
    found: list[bool] = []
    parent, over, placed = "30", [], {}
    for number in range(1, attempts + 1):
        drop_outputs(caches.all, over)
        drop_outputs(caches.all, list(placed))
        over, placed = list(placed)[-1:], attempt(number)
        if short:
            use_short_keys(caches.all, parent, placed)
        for node_id, node in placed.items():
            dynprompt.add_ephemeral_node(node_id, node, parent, "30")
        for cache in caches.all:
            (await cache.ensure_subcache_for(parent, set(placed))).clean_unused()
        for node_id in placed:
            found.append(await caches.outputs.get(node_id) is not None)
            await caches.outputs.set(node_id, CacheEntry(ui=None, outputs=[node_id]))
            assert (await caches.outputs.get(node_id)).outputs == [node_id]
        parent = f"30.s{number}a1.next"
    caches.outputs.all_node_ids()
    drop_outputs(caches.all, over)
    drop_outputs(caches.all, list(placed))
    return found


def kept(cache: Any) -> int:
    """Outputs and notes about them, in a cache and all below it, but for those of "30"."""
    notes = [getattr(cache, name, {}) for name in ("cache", "used_generation", "timestamps", "children")]
    total = sum(len(n.keys() - {cache.cache_key_set.get_data_key("30")}) for n in notes)
    waiting = list(cache.subcaches.values())
    while waiting:
        below = waiting.pop()
        total += len(below.cache)
        waiting += below.subcaches.values()
    return total


async def mode(kind: CacheType, *, short: bool) -> dict[str, Any]:
    caches = CacheSet(kind, {"lru": 50, "ram": 0.1})
    signed.clear(), asked.clear()
    first = await run(caches, 2, short=short)
    names, told = [i for i in signed if i != "30"], [i for i in asked if i != "30"]
    again = await run(caches, 2, short=short)
    left = kept(caches.outputs)
    if short and kind == CacheType.CLASSIC:  # where each attempt has a cache below that of the one before
        allowed = sys.getrecursionlimit()
        sys.setrecursionlimit(DEPTH)
        await run(caches, DEPTH, short=True)
        sys.setrecursionlimit(allowed)
    return {"signed": names, "told": told, "found": any(first), "found again": any(again), "left": left}


KINDS = (CacheType.RAM_PRESSURE, CacheType.CLASSIC, CacheType.LRU)
result = {
    str(short): {kind.name.lower(): asyncio.run(mode(kind, short=short)) for kind in KINDS} for short in (True, False)
}
print("RESULT " + json.dumps(result))
