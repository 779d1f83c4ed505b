"""One line in the log for each internal that this ComfyUI does not have."""

from __future__ import annotations

import functools
import logging

_WITHOUT = {
    "caches in execution.execute": "outputs of earlier attempts stay in memory until another prompt runs",
    "key sets in its caches as we know them": "placing an attempt takes longer, and outputs of earlier attempts may "
    "stay in memory until another prompt runs",
    "execution.IsChangedCache": "the pack asks nodes itself whether their files changed",
    "comfy_execution.progress.get_progress_state": "progress messages name all attempts of a run, an output beside a "
    "loop's image counts as run when it was placed, and a loop inside of a Start Loop is not checked before it runs",
    "comfy_execution.utils.get_executing_context": "the prompt that the server took last counts as the running one",
    "prompt_queue.get_current_queue_volatile": "runs of all users lie in the folder of an unknown user, and outputs "
    "beside a loop's image run also where others were asked for",
    "user_manager.get_request_user_id": "runs of all users lie in the folder of an unknown user",
    "PromptServer.sockets_metadata": "API clients get the texts of agents too, in frames that some take for pictures",
    "PromptServer.send_progress_text": "nodes show no text while an agent writes",
    "comfy.model_patcher.ModelPatcher": "Load Agent moves its model to the GPU and back for each reply",
    "CLIP that can be decoded token by token": "Agent from CLIP shows its text and ends only when the reply is whole",
    "layers of a CLIP that take several tokens at once": "Agent from CLIP writes one token at a time",
    "patcher.cached_patcher_init": "agents from two CLIP files of the same kind and size count as the same",
    "weights of a CLIP that can be read": "an adapter for another model of the same sizes is not refused",
    "line in its log for a loaded model": "runs do not count how often models are loaded",
    "comfyui_version.__version__": "the pack cannot tell whether it is too old",
}
"""What this ComfyUI may lack: what that costs."""

_log = logging.getLogger(__name__)


@functools.cache
def say_missing(what: str) -> None:
    """Once for the life of the process."""
    _log.warning("InterleaveThinker: this ComfyUI has no %s: %s.", what, _WITHOUT[what])
