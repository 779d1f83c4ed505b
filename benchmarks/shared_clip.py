"""Compare one CLIP for encoder and agent with two: weights in memory and model loads, for the same story.

    python benchmarks/shared_clip.py [--json F]

Trains a small Qwen3-VL for about a minute until it can plan and judge one story, and runs that story on three fresh
ComfyUI servers on the CPU: with one CLIP for planner, critic and text encoder, with a second one for the agents as wrap
made it before, and without agents. The sizes are those of the small models; `interleave-thinker vram` does the
arithmetic for real ones.

weights_bytes_shared, weights_bytes_apart, weights_bytes_without_agents: all parameters in the server's memory after the
    run, each storage once.
loads_shared, loads_apart: times that ComfyUI's log says a CLIP was loaded.
conditioning_equal: whether what was encoded for each prompt is the same, bit for bit, with the agents on the same CLIP
    and without agents.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "tests" / "comfy"), str(REPO / "tests" / "comfy" / "small_clip")]

from comfy_server import COMFYUI  # noqa: E402
from learned import make_small_clip  # noqa: E402
from story import Agents, StoryRun, prepare, story, tell  # noqa: E402

CLIP = "Qwen3VLTEModel_"


def measure(work: Path) -> dict[str, Any]:
    clip = make_small_clip(work / "checkpoint", COMFYUI)

    def run(agents: Agents) -> StoryRun:
        base = work / agents
        base.mkdir()
        prepare(base, clip)
        return tell(base, story(base, agents))

    shared, apart, alone = run("shared"), run("apart"), run("none")
    return {
        "weights_bytes_shared": shared.bytes,
        "weights_bytes_apart": apart.bytes,
        "weights_bytes_without_agents": alone.bytes,
        "loads_shared": shared.loads.count(CLIP),
        "loads_apart": apart.loads.count(CLIP),
        "attempts": len(shared.ran.made),
        "conditioning_equal": bool(shared.encoded) and shared.encoded == alone.encoded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Weights in memory with a shared CLIP and with two.")
    parser.add_argument("--json", type=Path, metavar="F", help="write the numbers there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work))
    for name, value in found.items():
        print(f"{name:30} {value}")
    print(f"{'shared / apart':30} {found['weights_bytes_shared'] / found['weights_bytes_apart']:.3f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
