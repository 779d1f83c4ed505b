"""What GRPO and its rewards add where the teacher of SFT errs: the data of another ablation, with such a teacher.

    python benchmarks/erring_teacher.py DATA OUT [--overlooked 0.6] [--repeated 0.0] [--seed 0]
    interleave-thinker ablate --base BASE --data OUT --out ABLATION --seeds 0,1,2 --requests 60 --sft-steps 250 \\
      --grpo-steps 30 --grpo-rate 5e-5 --rows "SFT critic on right plans; GRPO critic on right plans; \\
      GRPO without step reward, right plans; GRPO without accuracy reward, right plans"

DATA is an export of the tiny world (`recipes/tiny.sh`), whose teacher is the ground truth and cannot err. In OUT the
critic's SFT rows are those of a teacher that overlooks a share of the attempts that miss by one thing (it says that it
sees what was wanted, and accepts), and that asks for the same prompt again after a share of those that it rejects. The
rows for GRPO are as they were: its rewards come from the checker and the generator.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

SFT = "critic_sft.jsonl"
THOUGHT = re.compile(r"<think>(?P<before>before .*?) after .*? wanted (?P<wanted>.*?) so (?P<told>.*?)</think>")
ANSWER = re.compile(r"<answer>(.*?)</answer>")
USED = re.compile(r"^got (.*)$", re.MULTILINE)


def overlooked(reply: str) -> str | None:
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


def repeated(reply: str, question: str) -> str | None:
    """The reply of one who asks for the same again; None for one that accepts."""
    found, used = ANSWER.search(reply), USED.search(question)
    answer = json.loads(found[1]) if found else {}
    if found is None or used is None or answer.get("previous_step_success") is not False:
        return None
    answer["refine_prompt"] = used[1]
    return f"{reply[: found.start()]}<answer>{json.dumps(answer)}</answer>"


def err(row: dict[str, Any], rng: random.Random, overlook: float, repeat: float) -> str:
    """Change a row in place; what was done: "overlooked", "repeated" or ""."""
    said = row["completion"][0]["content"][0]
    question = next(part["text"] for part in row["prompt"][0]["content"] if part["type"] == "text")
    missed, again = overlooked(said["text"]), repeated(said["text"], question)
    if missed is not None and rng.random() < overlook:
        said["text"] = missed
        return "overlooked"
    if repeat and again is not None and rng.random() < repeat:
        said["text"] = again
        return "repeated"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--overlooked", type=float, default=0.6, help="share of the attempts that miss by one thing")
    parser.add_argument("--repeated", type=float, default=0.0, help="share of the other rejections")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    shutil.copytree(options.data, options.out, ignore=shutil.ignore_patterns(SFT))
    rows = [json.loads(line) for line in (options.data / SFT).read_text(encoding="utf-8").splitlines()]
    done = [err(row, rng, options.overlooked, options.repeated) for row in rows]
    (options.out / SFT).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(
        f"{len(rows)} rows, {done.count('overlooked')} mistakes overlooked, {done.count('repeated')} prompts repeated"
    )


if __name__ == "__main__":
    main()
