"""Whether a workflow's own text encoder can plan and judge, by the file that it is loaded from.

Several image models carry a whole Qwen3-VL as their text encoder, with eyes and language head. As the agent it costs
no second model. The file's name decides; nothing is opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .links import body_of, downstream, upstream

EYELESS_TYPES = ("flux", "flux2")
"""Types of Load CLIP that load a Qwen3-VL without its eyes."""
_WHOLE = re.compile(r"qwen[-_.]?3[-_.]?vl", re.IGNORECASE)
_CUT = re.compile(r"32b|235b", re.IGNORECASE)
_HEADLESS = re.compile(r"qwen[-_.]?2[-_.]?5[-_.]?vl", re.IGNORECASE)


@dataclass(frozen=True)
class AgentClip:
    """node: the Load CLIP whose model can be the agent, "" where none can; then why_not says why, as the end of a
    sentence. loras: files that the workflow puts on that CLIP for the generator; the agent does without.
    """

    node: str = ""
    file: str = ""
    why_not: str = ""
    loras: tuple[str, ...] = ()


def find_agent_clip(workflow: Mapping[str, Any], output: str) -> AgentClip:
    """The Load CLIP nearest to the result whose model can be the agent: the generator's, or a prompt enhancer's."""
    reasons = []
    for node_id in upstream(workflow, output):
        inputs = workflow[node_id]["inputs"]
        if "cliploader" not in str(workflow[node_id]["class_type"]).lower():
            continue
        files = [v for n, v in sorted(inputs.items()) if n.startswith("clip_name") and isinstance(v, str)]
        reasons += [why_no_agent(file, str(inputs.get("type", ""))) for file in files]
        if len(files) == 1 and not reasons[-1]:
            return AgentClip(node_id, files[0], loras=_loras(workflow, output, node_id))
    return AgentClip(why_not=next(filter(None, reasons), "the workflow has no Load CLIP of its own"))


def why_no_agent(file: str, kind: str) -> str:
    """What the model of a file lacks, loaded by Load CLIP with a type; "" for one that sees and writes."""
    name = file.replace("\\", "/").rpartition("/")[2]
    if _HEADLESS.search(name):
        return f"{name} is a Qwen2.5-VL, which has no language head in ComfyUI"
    if not _WHOLE.search(name):
        return f"{name} does not see pictures, or does not write"
    if _CUT.search(name):
        return f"{name} is an encoder without its last layers"
    if name.endswith(".gguf"):
        return f"{name} is loaded by nodes that do not write text"
    if kind in EYELESS_TYPES:
        return f"{name} is loaded with type {kind}, which leaves its eyes out"
    return ""


def _loras(workflow: Mapping[str, Any], output: str, loader: str) -> tuple[str, ...]:
    """Files that nodes put on the CLIP between its loader and the result."""
    behind = downstream(workflow, [loader], through="clip") & body_of(workflow, output)
    inputs = [item for node_id in sorted(behind) for item in workflow[node_id]["inputs"].items()]
    return tuple(dict.fromkeys(v for n, v in inputs if "lora" in n and isinstance(v, str) and "." in v))
