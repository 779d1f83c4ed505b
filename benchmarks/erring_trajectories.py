"""What filtering is worth where the teacher errs: trajectories whose critic overlooks mistakes and repeats prompts.

    python benchmarks/erring_trajectories.py REQUESTS/requests.jsonl OUT --dtype bfloat16
    interleave-thinker data from-runs OUT/runs --store OUT/store --out DATA
    interleave-thinker data score DATA --judge checker
    interleave-thinker data filter DATA --rl-share 0
    interleave-thinker data export DATA --format trl --on-accept empty --prompts CRITIC/prompts
    interleave-thinker data export DATA --format trl --source critic.jsonl --name unfiltered_sft --on-accept empty \\
      --prompts CRITIC/prompts
    interleave-thinker ablate --base BASE --data DATA --out ABLATION --seeds 0,1,2 --requests 60 --sft-steps 250 \\
      --generator-dtype bfloat16 --rows "SFT critic on right plans; critic on unfiltered data, right plans"

REQUESTS are of `data prompts --world tiny`. The critic is the ground truth, but for a share of the attempts that miss
by one thing, which it accepts, and a share of the other rejections, after which it asks for the same again; the runs go
on from there. Its verdicts are the labels; the checker's scores are for the filter alone, with its own thresholds.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from erring_teacher import overlooked, repeated

from interleave_thinker.agents.base import Agent, Completion, Message, OnText, Sampling
from interleave_thinker.files import hash_of
from interleave_thinker.research.data.records import RequestRecord, read_records
from interleave_thinker.research.data.trajectories import TrajectoryMaker, TrajectoryOptions, make_trajectories
from interleave_thinker.research.worker_pool import WorkerSpec
from interleave_thinker.resolve import GeneratorChoice
from interleave_thinker.storage.images import image_key
from interleave_thinker.tinyworld.scene import SIDE


@dataclass
class Erring:
    """A critic that errs, about the same question always in the same way."""

    critic: Agent
    overlook: float
    repeat: float
    seed: int
    name: str = "tiny oracle, erring"

    @property
    def prompts(self) -> str | None:
        return self.critic.prompts

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        completion = self.critic.complete(messages, sampling)
        question = "".join(part for part in messages[0].parts if isinstance(part, str))
        rng = random.Random(hash_of(str(self.seed), question, [image_key(i) for i in messages[0].images]))
        missed, again = overlooked(completion.text), repeated(completion.text, question)
        if missed is not None and rng.random() < self.overlook:
            return replace(completion, text=missed)
        if again is not None and rng.random() < self.repeat:
            return replace(completion, text=again)
        return completion


@dataclass(frozen=True)
class ErringTrajectoryOptions(TrajectoryOptions):
    overlook: float = 0.0
    repeat: float = 0.0

    def load(self, worker: WorkerSpec | None = None) -> TrajectoryMaker:
        maker = super().load(worker)
        return replace(maker, critic=Erring(maker.critic, self.overlook, self.repeat, self.seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--overlooked", type=float, default=0.6, help="share of the attempts that miss by one thing")
    parser.add_argument("--repeated", type=float, default=0.5, help="share of the other rejections")
    parser.add_argument("--limit", type=int, default=600, help="requests")
    parser.add_argument("--dtype", default="auto", help="of the generator")
    options = parser.parse_args()
    requests = list(read_records(options.requests, RequestRecord))[: options.limit]
    generator = GeneratorChoice("tiny", dtype=options.dtype)
    trajectories = ErringTrajectoryOptions(
        generator, "tiny:oracle", size=(SIDE, SIDE), overlook=options.overlooked, repeat=options.repeated
    )
    failed = make_trajectories(requests, options.requests.parent, options.out, trajectories, workers=24)
    verdicts = [
        json.loads(line)["judgment"]["accepted"]
        for log in options.out.glob("runs/*/trajectory.jsonl")
        for line in log.read_text(encoding="utf-8").splitlines()
    ]
    print(f"{len(requests) - failed} runs, {len(verdicts)} attempts, {sum(verdicts)} accepted")


if __name__ == "__main__":
    main()
