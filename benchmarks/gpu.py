"""Measure a token's time in ComfyUI's Qwen3-VL: our decoding, ComfyUI's forward and transformers' `generate`.

    python benchmarks/gpu.py [--shape small|4b|8b] [--json F]

With random weights. For a machine with a GPU; `--shape 8b` wants about 45 GB of it, because ours and the reference lie
there at once, and less than eight minutes. Without a GPU `--shape small` runs all of it on the CPU.

host: a token's time in 36 tiny layers, ours and of ComfyUI's forward. text: microseconds for a token's text in a reply
    of 4,000 tokens. speed: milliseconds for one token behind the prompt (`one`), without a CUDA graph, for nine at once
    (`several`, a token and eight guesses), and of the others; graph_warm_up_ms: to capture a graph; of_bound: the time
    in which a copy moves as many bytes as the weights have, against `one`; drafts_cost: `several` against `one`.
    memory: the most on the GPU. swap: until agent and a generator of --generator-gb are on the device again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "comfy"))

from inside import run_inside  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="What a token costs in ComfyUI's Qwen3-VL.")
    parser.add_argument("--shape", choices=("small", "4b", "8b"), default="8b")
    parser.add_argument("--side", type=int, help="of the two pictures; default: 1024, small: 128")
    parser.add_argument("--text", type=int, default=400, help="tokens of text beside them")
    parser.add_argument("--count", type=int, default=32, help="tokens that are timed")
    parser.add_argument("--generator-gb", type=float, help="default: 8, small: 0.1")
    parser.add_argument("--json", type=Path, metavar="F", help="write the numbers there")
    options = parser.parse_args()
    small = options.shape == "small"
    asked = [options.side or (128 if small else 1024), options.text, options.count]
    size = options.generator_gb if options.generator_gb is not None else 0.1 if small else 8
    found = run_inside("decode_shapes.py", options.shape, *map(str, asked), str(size), seconds=480)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
