"""Two routes that change nothing: which runs are saved, and which node of a workflow is what.

Everything else comes through ComfyUI's own routes.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web
from server import PromptServer

from ..interleave_thinker.comfy_choice import candidates
from ..interleave_thinker.comfy_workflow import checked_workflow
from ..interleave_thinker.errors import InterleaveError
from ..interleave_thinker.runs import read_state
from .folders import runs_root

LISTED = 200


def add_routes() -> None:
    """GET /interleave_thinker/runs: [{name, title, status}], the latest first. It takes no parameters.

    POST /interleave_thinker/choose: a workflow in API format, as {workflow, output?, among?} -> what the prompt,
    seed, reference and result could be (`comfy_choice.Candidates`). It only computes.
    """
    server = getattr(PromptServer, "instance", None)  # there is none where only the nodes are imported
    if server is not None:
        server.routes.get("/interleave_thinker/runs")(_runs)
        server.routes.post("/interleave_thinker/choose")(_choose)


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


async def _choose(request: web.Request) -> web.Response:
    try:
        asked = await request.json()
        if not isinstance(asked, dict):
            raise InterleaveError("Send an object with a workflow in it.")
        found = candidates(
            checked_workflow(asked.get("workflow"), "The workflow"),
            output=_text(asked.get("output")),
            among=_texts(asked.get("among")),
        )
    except (ValueError, InterleaveError) as error:
        return web.json_response({"error": str(error)[:500]}, status=400)
    return web.json_response(
        {"outputs": found.outputs, "prompts": found.prompts, "seed": found.seed, "images": found.images}
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> set[str] | None:
    return {v for v in value if isinstance(v, str)} if isinstance(value, list) else None
