"""How strictness moves the tiny critic's verdicts: what it accepts, and how much of that is right by the checker.

    python benchmarks/strictness.py --out DIR [--critic FOLDER] [--count 640] [--check 40] [--json F]

The tiny generator makes attempts at random stories, right ones and wrong ones. The tiny critic judges each at
strictness 0 and temperature 0, which tells the log-odds of its verdict. The thought before the verdict does not depend
on strictness, so that at strictness s it accepts what has more log-odds than s. For the first `--check` attempts this
is proved: they are judged at four strictnesses.

DIR keeps attempts and log-odds; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interleave_thinker.agents.base import Agent, Sampling
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.loop.trajectory import Judgment
from interleave_thinker.research.tinyworld.attempt_pool import AttemptPool
from interleave_thinker.research.tinyworld.attempts import make_attempts
from interleave_thinker.resolve import load_pipeline
from interleave_thinker.roles.critic import judge
from interleave_thinker.tinyworld.convert import WEIGHTS
from interleave_thinker.tinyworld.lessons import Case

STRICTNESS = (-20, -14, -13, -12, -11, -10, -8, -4, 0, 4, 8, 10, 11, 12, 13, 14, 20)
CHECKED = (-20, -12, 4, 12)
SEED = 22
"""Of the attempts; no training had it."""


def judged(critic: Agent, case: Case, strictness: float = 0.0) -> Judgment:
    images = case.before_image, case.after_image
    return judge(critic, *images, case.prompt, case.used, sampling=Sampling(512), strictness=strictness)


def log_odds(critic: Agent, cases: Sequence[Case], known: Path) -> list[float | None]:
    """Of each case's verdict; None where the reply cannot be read. known: those that an earlier call found."""
    lines = known.read_text().splitlines() if known.exists() else []
    with known.open("a") as log:
        for number, case in enumerate(cases[len(lines) :], len(lines) + 1):
            lines.append(json.dumps(judged(critic, case).log_odds))
            log.write(lines[-1] + "\n")
            log.flush()
            if number % 50 == 0:
                print(f"judged {number}/{len(cases)}", flush=True)
    return [json.loads(line) for line in lines[: len(cases)]]


def row(strictness: float, odds: Sequence[float], right: Sequence[bool]) -> dict[str, float]:
    """Shares in [0, 1]: of all attempts those accepted, of right ones those accepted, of wrong ones those rejected."""
    accepted = [o > strictness for o in odds]
    sides = [
        statistics.mean(a == truth for a, t in zip(accepted, right, strict=True) if t is truth)
        for truth in (True, False)
    ]
    return {
        "strictness": strictness,
        "accepted": statistics.mean(accepted),
        "right_accepted": sides[0],
        "wrong_rejected": sides[1],
        "balanced": statistics.mean(sides),
    }


def differences(critic: Agent, cases: Sequence[Case], odds: Sequence[float]) -> int:
    """How many verdicts are not those that the log-odds at strictness 0 tell."""
    return sum(
        judgment.accepted != (known > strictness) or judgment.log_odds != known
        for case, known in zip(cases, odds, strict=True)
        for strictness in CHECKED
        for judgment in [judged(critic, case, strictness)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The tiny critic's verdicts by strictness.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--critic", type=Path, default=WEIGHTS / "critic", metavar="FOLDER", help="another tiny one")
    parser.add_argument("--count", type=int, default=640, help="attempts")
    parser.add_argument("--check", type=int, default=40, help="attempts that are judged at other strictnesses too")
    parser.add_argument("--json", type=Path, metavar="F", help="write the numbers there")
    options = parser.parse_args()
    attempts = options.out / "attempts.jsonl"
    if not attempts.exists() or len(attempts.read_text().splitlines()) < options.count:
        make_attempts(load_pipeline(WEIGHTS / "generator", device="cpu").pipeline, options.out, options.count, SEED)
    pool = AttemptPool([options.out])
    cases = [pool.case(i) for i in range(options.count)]
    critic = load_agent(options.critic, device="cpu")
    found = log_odds(critic, cases, options.out / f"log_odds_{options.critic.name}.jsonl")
    read = [(case, known) for case, known in zip(cases, found, strict=True) if known is not None]
    right, odds = [case.right for case, _ in read], [known for _, known in read]
    rows = [row(s, odds, right) for s in STRICTNESS]
    checked = read[: options.check]
    figures: dict[str, Any] = {
        "attempts": len(read),
        "unreadable": len(cases) - len(read),
        "right": sum(right),
        "rows": rows,
        "never_rises": all(a["accepted"] >= b["accepted"] for a, b in itertools.pairwise(rows)),
        "checked": len(checked) * len(CHECKED),
        "different": differences(critic, [case for case, _ in checked], [known for _, known in checked]),
    }
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def table(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['attempts']} attempts, {figures['right']} of them right; {figures['unreadable']} unreadable replies",
        f"acceptance never rises with strictness: {figures['never_rises']}",
        f"{figures['different']} of {figures['checked']} verdicts differ from what the log-odds tell",
        "",
        "| strictness | accepted | right accepted | wrong rejected | balanced accuracy | |",
        "|---|---|---|---|---|---|",
    ]
    for r in figures["rows"]:
        shares = " | ".join(f"{r[name]:.1%}" for name in ("accepted", "right_accepted", "wrong_rejected", "balanced"))
        lines.append(f"| {r['strictness']:+d} | {shares} | {'█' * round(40 * r['accepted'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
