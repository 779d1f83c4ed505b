"""What GRPO adds where the teacher of SFT overlooks mistakes: the data of another ablation, with such a teacher.

    python benchmarks/lenient_teacher.py DATA OUT [--share 0.6] [--seed 0]
    interleave-thinker ablate --base BASE --data OUT --out ABLATION --seeds 0 --requests 60 --sft-steps 250 \\
      --grpo-steps 60 --grpo-rate 5e-5 --rows "SFT critic on right plans; GRPO critic on right plans"

DATA is an export of the tiny world (`recipes/tiny.sh`), whose teacher is the ground truth and cannot err. In OUT the
critic's SFT rows are those of a teacher that overlooks a share of the attempts that miss by one thing: it says that it
sees what was wanted, and accepts. The rows for GRPO are as they were: its rewards come from the checker.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
from pathlib import Path

SFT = "critic_sft.jsonl"
THOUGHT = re.compile(r"<think>(?P<before>before .*?) after .*? wanted (?P<wanted>.*?) so (?P<told>.*?)</think>")


def lenient(reply: str) -> str | None:
    """The reply of one who did not see the one thing that differs; None where it is not one thing."""
    thought = THOUGHT.match(reply)
    told = thought["told"].split() if thought else []
    if thought is None or len(told) < 2 or told.count("bad") != 1:
        return None
    think = (
        f"{thought['before']} after {thought['wanted']} wanted {thought['wanted']} so {' '.join(['ok'] * len(told))}"
    )
    answer = json.dumps({"previous_step_success": True, "refine_prompt": ""})
    return f"<think>{think}</think><answer>{answer}</answer>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.6, help="of the attempts that miss by one thing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    shutil.copytree(options.data, options.out, ignore=shutil.ignore_patterns(SFT))
    rows = [json.loads(line) for line in (options.data / SFT).read_text(encoding="utf-8").splitlines()]
    could = did = 0
    for row in rows:
        said = row["completion"][0]["content"][0]
        other = lenient(said["text"])
        could += other is not None
        if other is not None and rng.random() < options.share:
            said["text"] = other
            did += 1
    (options.out / SFT).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} rows, {could} of attempts that miss by one thing, {did} of them overlooked")


if __name__ == "__main__":
    main()
