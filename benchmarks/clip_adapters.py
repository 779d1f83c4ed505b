"""Planner and critic as adapters of one CLIP in ComfyUI, against CLIPs that have the same pairs in their weights.

    python benchmarks/clip_adapters.py [--calls 50] [--json F]

The tiny world's adapters in ComfyUI's own Qwen3-VL, asked at temperature 0 what requests and attempts ask, in float32,
fp8 and int8. For each format and role, shares of the calls:

replies_equal, verdicts_equal: the adapter beside the base says what the merged model says, which is quantised after
    merging.
beside_as_float32, merged_as_float32: each of them says what the merged model in float32 says.
encoded_equal: whether the CLIP encoded the same, bit for bit, before, between and after the replies.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "comfy"))

from inside import run_inside  # noqa: E402

WEIGHTS = REPO / "interleave_thinker" / "tinyworld" / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(description="Adapters of one CLIP against merged models.")
    parser.add_argument("--calls", type=int, default=50, help="of each role")
    parser.add_argument("--json", type=Path, metavar="F", help="write the numbers there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = run_inside("recorded_adapters.py", str(WEIGHTS), work, str(options.calls), seconds=3600)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
