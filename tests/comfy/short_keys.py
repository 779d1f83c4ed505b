"""Run inside ComfyUI's folder by test_caches.py: what its caches do with nodes that a loop places, twice in a row."""

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
from comfy_execution.graph import DynamicPrompt  # noqa: E402
from execution import CacheEntry, CacheSet, CacheType, IsChangedCache  # noqa: E402
from pack_inside import load_pack  # noqa: E402

load_pack(REPO)

from interleave_pack.nodes.caches import forget, shorten  # noqa: E402

PLACED = {
    "30.s1a1.b1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "30.s1a1.b2": {"class_type": "ImageInvert", "inputs": {"image": ["30.s1a1.b1", 0]}},
}
signed: list[str] = []
plain = caching.CacheKeySetInputSignature.get_node_signature


async def noting(self: Any, dynprompt: Any, node_id: str) -> Any:
    signed.append(node_id)
    return await plain(self, dynprompt, node_id)


caching.CacheKeySetInputSignature.get_node_signature = noting


async def place(caches: CacheSet, *, short: bool) -> list[bool]:
    """One prompt in which "30" places the nodes and they run; whether each was found before it ran."""
    prompt = {"30": {"class_type": "EmptyImage", "inputs": dict(PLACED["30.s1a1.b1"]["inputs"])}}
    dynprompt = DynamicPrompt(prompt)
    for cache in caches.all:
        await cache.set_prompt(dynprompt, prompt.keys(), IsChangedCache("p", dynprompt, caches.outputs))
        cache.clean_unused()
    if short:
        shorten(caches.all, "30", PLACED)
    for node_id, node in PLACED.items():
        dynprompt.add_ephemeral_node(node_id, node, "30", "30")
    for cache in caches.all:
        (await cache.ensure_subcache_for("30", set(PLACED))).clean_unused()
    found = []
    for node_id in PLACED:
        found.append(await caches.outputs.get(node_id) is not None)
        await caches.outputs.set(node_id, CacheEntry(ui=None, outputs=[node_id]))
        entry = await caches.outputs.get(node_id)
        assert isinstance(caches.outputs, caching.NullCache) or entry.outputs == [node_id]
    return found


async def mode(kind: CacheType, *, short: bool) -> dict[str, Any]:
    caches = CacheSet(kind, {"lru": 50, "ram": 0.1})
    signed.clear()
    first = await place(caches, short=short)
    names = sorted(i for i in signed if i in PLACED)
    again = await place(caches, short=short)
    forget(caches.all, list(PLACED))
    left = [await caches.outputs.get(i) is not None for i in PLACED]
    return {"signed": names, "found": first, "found again": again, "left": left}


KINDS = (CacheType.RAM_PRESSURE, CacheType.CLASSIC, CacheType.LRU, CacheType.NONE)
result = {
    str(short): {kind.name.lower(): asyncio.run(mode(kind, short=short)) for kind in KINDS} for short in (True, False)
}
print("RESULT " + json.dumps(result))
