"""One read-only route: which runs are saved. Everything else comes through ComfyUI's own file route."""

from __future__ import annotations

from aiohttp import web
from server import PromptServer

from ..interleave_thinker.runs import read_state
from .folders import runs_root

LISTED = 200


def add_routes() -> None:
    """GET /interleave_thinker/runs: [{name, title, status}], the latest first. It takes no parameters."""
    server = getattr(PromptServer, "instance", None)  # there is none where only the nodes are imported
    if server is not None:
        server.routes.get("/interleave_thinker/runs")(_runs)


async def _runs(request: web.Request) -> web.Response:
    root = runs_root()
    folders = [p for p in root.iterdir() if (p / "run.json").is_file()] if root.is_dir() else []
    folders.sort(key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)
    listed = []
    for folder in folders[:LISTED]:
        state = read_state(folder) or {}
        status = (state.get("trajectory") or {}).get("status", "")
        listed.append({"name": folder.name, "title": str(state.get("title") or "")[:200], "status": str(status)})
    return web.json_response(listed)
