"""What nodes, wrap, the command line and the browser agree on. Each contract stands here, once.

`js/contract.mjs` is made from it: `python -m interleave_thinker.contract js/contract.mjs` (a test says when that is
due). Knows nothing of what uses it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

# Node ids. Saved workflows hold them: they never change.

PREFIX: Final = "InterleaveThinker"


class NodeIds(NamedTuple):
    """Ids of the nodes that a workflow can hold."""

    agent_from_clip: str = f"{PREFIX}AgentFromCLIP"
    load_agent: str = f"{PREFIX}LoadAgent"
    agent_from_server: str = f"{PREFIX}AgentFromServer"
    planner: str = f"{PREFIX}Planner"
    plan_from_text: str = f"{PREFIX}PlanFromText"
    loop_open: str = f"{PREFIX}LoopOpen"
    critic_refine: str = f"{PREFIX}CriticRefine"
    judgment: str = f"{PREFIX}Judgment"
    loop_close: str = f"{PREFIX}LoopClose"
    save_document: str = f"{PREFIX}SaveDocument"
    check_agent: str = f"{PREFIX}CheckAgent"


NODE_IDS: Final = NodeIds()

MEASURE_PICTURE: Final = f"{PREFIX}MeasurePicture"
"""Placed by the doctor behind a workflow's picture; no saved workflow holds it."""

# Results of nodes, in the `ui` of the history

CHECK_RESULT: Final = "interleave_check"
"""Of Check Agent: a list of one `AgentCheck.to_dict()` with "peak" beside it (`peak_memory.read_peak`)."""
PICTURE_RESULT: Final = "interleave_picture"
"""Of Measure Picture: a list of one {"width", "height", "count", "peak"}."""

# Sockets

LOOP_OPEN_OUTPUTS: Final = ("loop", "prompt", "reference", "has_reference", "instruction", "seed", "step", "attempt")
"""Loop Open's outputs, in the order of its sockets."""


def loop_open_output(name: str) -> int:
    """The socket's number of one of `LOOP_OPEN_OUTPUTS`."""
    return LOOP_OPEN_OUTPUTS.index(name)


# What a shipped workflow says of itself

OPENING: Final = "interleave_thinker_opening"
"""In `extra` of a workflow that was never saved by a user: the page opens it at `extra.ds`, not shrunk to fit."""

# Events: a message of type EVENT_TYPE whose "event" is one of these

EVENT_TYPE: Final = "interleave_thinker"
Event = Literal["planned", "plan", "warning", "trying", "attempt", "judgment", "chosen", "done"]
"""planned: a Planner wrote a plan. plan: a loop begins with it. warning: what the user should know of the run.
trying: an attempt begins. attempt: its image is on disk. judgment: the critic's. chosen: the attempt that goes on.
done: the loop ended, "done" or "stopped"."""

# Texts that an agent writes, as they come: a first line with what it is at, then its words

Writing = Literal["Planning", "Judging", "Comparing", "Checking"]
"""How that first line begins. Our nodes send other texts too, which are no agent's words."""

# Ids of the nodes that a loop places: <id of Loop Close>.s<step><kind><attempt>.<name>

PlacedKind = Literal["a", "j", "c", "r"]
"""a: makes an attempt. j: judges an image that is there. c: compares the attempts of a step. r: runs the output nodes
beside images that are there."""
PLACED_ID: Final = r"\.s(\d+)[ajcr](\d+)\."
"""Finds step and attempt in such an id; valid in Python and JavaScript."""


def placed_prefix(name: str, step: int, kind: PlacedKind, attempt: int) -> str:
    """How the ids of one attempt's nodes begin. name: of Loop Close (`placed_name`)."""
    return f"{name}.s{step}{kind}{attempt}."


def placed_name(node_id: str) -> str:
    """A user's node id as part of a placed one. A colon would make ComfyUI read a subgraph's path in it."""
    return node_id.replace("%", "%25").replace(":", "%3A")


def placed_where(node_id: str) -> tuple[int, int] | None:
    """Step and attempt of a node that a loop placed; None for any other node."""
    found = re.search(PLACED_ID, node_id)
    return (int(found[1]), int(found[2])) if found else None


# Choices, defaults and limits

OnExhausted = Literal["last", "best", "first", "stop"]
ReferencePolicy = Literal["previous", "first", "pinned"]
Gate = Literal["off", "stop_after_step", "stop_on_reject"]

T_MAX: Final = 3
"""Generator calls a step may take."""
PAPER_T_MAX: Final = 5
"""The paper's best (table 5): the default of data construction and benchmarks."""
T_MAX_LIMIT: Final = 50
"""The largest T_max that Loop Close offers."""
MAX_STEPS: Final = 20
"""Steps that a planner may write unless it is told otherwise."""
MAX_STEPS_LIMIT: Final = 100
MAX_ATTEMPTS: Final = 300
"""Bound on steps x T_max of one run: deeper loops would meet ComfyUI's own recursion limits."""
MAX_TOKENS: Final = 2048
"""Longest reply of an agent, in tokens. A plan needs about 150 a step."""
TEMPERATURE: Final = 0.0
MAX_STRICTNESS: Final = 20.0
"""The largest strictness, and the smallest with a minus: log-odds of a critic's verdict, which after a thought are far
from 0 (docs/measurements.md)."""
MAX_MEGAPIXELS: Final = 1.0
"""Of each image that an agent is shown."""
MAX_SEED: Final = 2**64 - 1
"""The largest seed that a node takes; the least is 0."""
VERSION: Final = "0.1.0"
"""Of this pack, as in pyproject.toml."""
OLDEST_COMFYUI: Final = "0.30.0"
"""The ComfyUI that pyproject.toml asks for (requires-comfyui)."""
COMFYUI_ADDRESS: Final = "http://127.0.0.1:8188"
PACKAGED_CLIP: Final = "qwen3vl_8b_fp8_scaled.safetensors"
"""The text encoder that a wrapped workflow loads as its agent unless it is told otherwise."""
PACKAGED_CLIP_URL: Final = f"https://huggingface.co/Comfy-Org/Qwen3-VL/resolve/main/text_encoders/{PACKAGED_CLIP}"


def javascript() -> str:
    """The text of `js/contract.mjs`."""
    values = {
        "PREFIX": PREFIX,
        "NODE_IDS": NODE_IDS._asdict(),
        "LOOP_OPEN_OUTPUTS": LOOP_OPEN_OUTPUTS,
        "OPENING": OPENING,
        "EVENT_TYPE": EVENT_TYPE,
        "EVENTS": {name: name for name in get_args(Event)},
        "WRITING": get_args(Writing),
        "PLACED_ID": PLACED_ID,
        "GATES": get_args(Gate),
        "T_MAX": T_MAX,
        "T_MAX_LIMIT": T_MAX_LIMIT,
        "MAX_STEPS": MAX_STEPS,
        "MAX_MEGAPIXELS": MAX_MEGAPIXELS,
        "CHECK_RESULT": CHECK_RESULT,
        "PICTURE_RESULT": PICTURE_RESULT,
        "PACKAGED_CLIP": PACKAGED_CLIP,
        "PACKAGED_CLIP_URL": PACKAGED_CLIP_URL,
    }
    head = "// Made from interleave_thinker/contract.py, which says what each means. Do not edit: see there.\n"
    return head + "".join(f"export const {name} = {json.dumps(value, indent=2)};\n" for name, value in values.items())


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(javascript(), encoding="utf-8")
