"""A custom node file for a measured ComfyUI: GET /memory_probe says how many tensors live, and their bytes."""

import gc

import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, type] = {}


@PromptServer.instance.routes.get("/memory_probe")
async def memory_probe(request: web.Request) -> web.Response:
    gc.collect()
    objects = gc.get_objects()
    storages = [t.untyped_storage() for t in objects if isinstance(t, torch.Tensor)]
    sizes = {s.data_ptr(): s.nbytes() for s in storages}
    return web.json_response({"tensors": len(sizes), "bytes": sum(sizes.values()), "objects": len(objects)})
