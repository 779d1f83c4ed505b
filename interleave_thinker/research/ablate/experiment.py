"""Train the models that the rows need and measure each row, once for each seed. Finished work is read from the disk."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...agents.base import Agent, Completion, Message, OnText, Sampling
from ...errors import ConfigError
from ...files import hash_of, write_atomically
from ...generators.diffusers_generator import DTYPES, DiffusersGenerator
from ...loop.plan import Plan
from ...loop.state import LoopSettings
from ...reading.judgments import read_judgment
from ...resolve import TINY, GeneratorChoice, agent_from, load_pipeline, scorer_from
from ...storage.attempt_store import AttemptStore
from ...tinyworld.requests import Request, held_out
from ..tinyworld.evaluate import Tally, balanced_accuracy, plan_of, row_without_planner, run_plans
from ..train.grpo import GrpoOptions, train_critic
from ..train.models import RESULT, ModelOptions, Precision
from ..train.sft import SftOptions, fine_tune
from .rows import BASE, NOBODY, ORACLE, Row, Training, trainings_for

Log = Callable[[str], None]
SFT_PRECISION: Precision = "bf16"


@dataclass(frozen=True)
class Experiment:
    """base: the model that all trainings start from. data: folder of `data export --format trl --format rl`.

    requests: held-out requests of a seed. sft_steps, grpo_steps: of each training. request_seed: added to the seed.
    generator_dtype: of the tiny generator, in GRPO and in the rows; "bfloat16" is quicker on CPUs that can.
    """

    out: Path
    base: Path
    data: Path
    requests: int = 100
    request_seed: int = 4000
    sft_steps: int = 800
    sft_batch: int = 32
    sft_rate: float = 5e-4
    grpo_steps: int = 60
    grpo_states: int = 8
    group: int = 8
    grpo_rate: float = 2e-5
    kl: float = 1e-3
    generator_dtype: str = "float32"

    def check(self, rows: tuple[Row, ...]) -> None:
        """Raises:
        ConfigError: data that a training needs is missing, or there is no such dtype.
        """
        if self.generator_dtype not in DTYPES:
            raise ConfigError(f"generator_dtype is {self.generator_dtype!r}; known are {', '.join(DTYPES)}.")
        for training in trainings_for(rows):
            if not (self.data / training.data).is_file():
                raise ConfigError(f"{self.data} lacks {training.data}, which {training.name} needs (docs/training.md).")

    def run(self, rows: tuple[Row, ...], seeds: Sequence[int], log: Log = print) -> dict[str, dict[int, Any]]:
        """Figures by row and seed; those on the disk are read from there."""
        found: dict[str, dict[int, Any]] = {row.name: {} for row in rows}
        for seed in seeds:
            for training in trainings_for(rows):
                self._train(training, seed, log)
            for row in rows:
                found[row.name][seed] = self._measured(row, seed, log)
        return found

    def model(self, name: str, seed: int) -> Path:
        return self.base if name == BASE else self.out / f"seed{seed}" / name / RESULT

    def _train(self, training: Training, seed: int, log: Log) -> None:
        out = self.out / f"seed{seed}" / training.name
        wanted = self._settings(training, seed)
        known = out / "training.json"
        if known.is_file():
            found = json.loads(known.read_text(encoding="utf-8"))
            if found["settings"] != wanted:
                raise ConfigError(f"{out} was trained with other settings or data. Give another --out, or delete it.")
            if found["finished"]:
                return
        write_atomically(known, json.dumps({"settings": wanted, "finished": False}, indent=1).encode())
        self._train_now(training, out, seed, log)
        write_atomically(known, json.dumps({"settings": wanted, "finished": True}, indent=1).encode())

    def _settings(self, training: Training, seed: int) -> dict[str, Any]:
        """All that a training's result depends on: settings, a hash of its rows, a hash of the weights at its start."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name.startswith(training.kind)}
        if training.kind == "sft":
            numbers["precision"] = SFT_PRECISION
        if training.kind == "grpo":
            numbers |= {"group": self.group, "kl": self.kl, **self._generator_settings()}
        rows = hash_of("rows", (self.data / training.data).read_text(encoding="utf-8"))
        return {**asdict(training), "without": list(training.without), **numbers, "seed": seed, "rows": rows,
                "start": self._weights_hash(training.start, seed)}  # fmt: skip

    def _generator_settings(self) -> dict[str, str]:
        return {"generator": _generator_hash(), "dtype": self.generator_dtype}

    def _weights_hash(self, name: str, seed: int) -> str:
        """A hash of a model's weights. It is in the agent's name, so that no model gets another one's judgments."""
        if name == ORACLE:
            return ORACLE
        return _hash_of_weights(self.model(name, seed))

    def _train_now(self, training: Training, out: Path, seed: int, log: Log) -> None:
        log(f"seed {seed}: training {training.name}")
        base = ModelOptions(self.model(training.start, seed), train_vision=True)
        if training.kind == "sft":
            fine_tune(
                SftOptions(
                    replace(base, precision=SFT_PRECISION), self.data / training.data, out, steps=self.sft_steps,
                    batch=self.sft_batch, learning_rate=self.sft_rate, weight_decay=0.01, save_every=200,
                    log_every=50, seed=seed, resume=True,
                ),
                log,
            )  # fmt: skip
            return
        train_critic(
            GrpoOptions(
                base, self.data / training.data, out, generator=GeneratorChoice(TINY, dtype=self.generator_dtype),
                variant=training.reward, without=training.without, group=self.group,
                batch=self.grpo_states * self.group, accumulate=1, steps=self.grpo_steps,
                learning_rate=self.grpo_rate, kl=self.kl, max_tokens=160, save_every=20, seed=seed, resume=True,
            ),
            lambda: scorer_from("checker"),
            log,
        )  # fmt: skip

    def _measured(self, row: Row, seed: int, log: Log) -> dict[str, Any]:
        path = self.out / f"seed{seed}" / "rows" / f"{''.join(c if c.isalnum() else '_' for c in row.name)}.json"
        agents = [self._weights_hash(name, seed) for name in (row.planner, row.critic) if name != NOBODY]
        settings = {
            "requests": self.requests, "request_seed": self.request_seed, "t_max": row.t_max, "agents": agents,
            **self._generator_settings(),
        }  # fmt: skip
        if path.is_file():
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if known["settings"] == settings:
                return known
        requests = held_out(self.requests, self.request_seed + seed)
        generator = _tiny_generator(self.generator_dtype)
        if row.planner == NOBODY:
            tally = row_without_planner(requests, generator)
            plans: Sequence[Plan | None] = []
        else:
            plans = self._plans(row.planner, requests, seed)
            critic = (
                agent_from("tiny:oracle") if row.critic == ORACLE else agent_from(str(self.model(row.critic, seed)))
            )
            judge: Agent = _Named(critic, f"{row.critic} {self._weights_hash(row.critic, seed)}")
            if row.filter_only:
                judge = _FilterOnly(judge)
            work = self.out / f"seed{seed}" / "runs"
            tally = run_plans(
                requests,
                plans,
                generator,
                judge,
                LoopSettings(t_max=row.t_max),
                AttemptStore(work / "store"),
                work / path.stem,
            )
        figures = {"settings": settings, **_figures(tally, plans)}
        write_atomically(path, (json.dumps(figures, indent=1) + "\n").encode())
        log(f"seed {seed}: {row.name}: {statistics.mean(tally.shares):.1%} of steps")
        return figures

    def _plans(self, planner: str, requests: Sequence[Request], seed: int) -> list[Plan | None]:
        if planner == ORACLE:
            return [replace(r.plan, request=r.text) for r in requests]
        by = self._weights_hash(planner, seed)
        path = self.out / f"seed{seed}" / "plans" / f"{planner}-{by}-{self.requests}-{self.request_seed}.json"
        if not path.is_file():
            agent = agent_from(str(self.model(planner, seed)))
            made = [plan_of(agent, r) for r in requests]
            write_atomically(path, json.dumps([p and p.to_dict() for p in made]).encode())
        return [p and Plan.from_dict(p) for p in json.loads(path.read_text(encoding="utf-8"))]


def _hash_of_weights(folder: Path) -> str:
    """A hash of all weights in or below a folder."""
    digest = hashlib.sha256()
    for shard in sorted(folder.rglob("*.safetensors")):
        digest.update(shard.read_bytes())
    return digest.hexdigest()[:16]


def _tiny_generator(dtype: str) -> DiffusersGenerator:
    from ...tinyworld.convert import WEIGHTS

    return load_pipeline(WEIGHTS / "generator", device="cpu", dtype=dtype)


def _generator_hash() -> str:
    """A hash of the package's tiny generator; another generator makes other images."""
    from ...tinyworld.convert import WEIGHTS

    return _hash_of_weights(WEIGHTS / "generator")


@dataclass
class _Named:
    """An agent under another name: judgments are kept by that name, and all trainings' folders have one name."""

    agent: Agent
    name: str

    @property
    def prompts(self) -> str | None:
        return self.agent.prompts

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        return self.agent.complete(messages, sampling, on_text)


@dataclass
class _FilterOnly:
    """A critic whose prompts are dropped, so that a retry differs by its seed alone."""

    agent: Agent

    @property
    def name(self) -> str:
        return f"{self.agent.name}, verdict only"

    @property
    def prompts(self) -> str | None:
        return self.agent.prompts

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        completion = self.agent.complete(messages, sampling)
        judgment = read_judgment(completion.text)
        if not judgment.parsed:
            return completion
        answer = json.dumps({"previous_step_success": judgment.accepted, "refine_prompt": ""})
        return replace(completion, text=f"<think>{judgment.reasoning}</think><answer>{answer}</answer>")


def _figures(tally: Tally, plans: Sequence[Plan | None]) -> Mapping[str, Any]:
    return {
        "shares": tally.shares,
        "plan_valid": statistics.mean(p is not None for p in plans) if plans else None,
        "attempts_per_step": statistics.mean(tally.attempts) if tally.attempts else None,
        "critic_balanced_accuracy": balanced_accuracy(list(tally.verdicts.values())) if tally.verdicts else None,
        "verdicts": len(tally.verdicts),
    }
