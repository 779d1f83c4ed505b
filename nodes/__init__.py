"""The node list. This package is the only code of ours that imports ComfyUI."""

# ruff: noqa: E402  (an old ComfyUI is refused before what it lacks is imported)

from __future__ import annotations

from .comfy_internals.server import comfyui_version
from .version_check import require_comfyui

require_comfyui(comfyui_version())

from comfy_api.latest import ComfyExtension, io

from . import agents, attempt_nodes, check_agent, critic, diffusers, document, loop_close, loop_open, planner
from .folders import add_model_folders
from .routes import add_routes

add_routes()


class InterleaveThinker(ComfyExtension):
    async def on_load(self) -> None:
        add_model_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            agents.AgentFromClip,
            agents.LoadAgent,
            agents.AgentFromServer,
            planner.Planner,
            planner.PlanFromText,
            loop_open.LoopOpen,
            critic.CriticRefine,
            critic.JudgmentNode,
            loop_close.LoopClose,
            document.UnpackDocument,
            document.SaveDocument,
            diffusers.GenerateOrEdit,
            check_agent.CheckAgent,
            check_agent.MeasurePicture,
            attempt_nodes.StepFeed,
            attempt_nodes.KeepPicture,
            attempt_nodes.RecallPicture,
            attempt_nodes.PassPicture,
            attempt_nodes.KeepJudgment,
            attempt_nodes.NoteOutput,
            attempt_nodes.NextAttempt,
            attempt_nodes.CompareAttempts,
        ]


async def comfy_entrypoint() -> InterleaveThinker:
    return InterleaveThinker()
