"""Single-step GRPO of the critic with TRL's GRPOTrainer (paper, section 4.3).

Each offline state (I_{i-1}, I_i^t, p_i, r_i^t) gets G responses. Every refined prompt is tried once with the generator,
and the response is rewarded by the result (`rewards`). A response whose prompt could not be tried is masked, except by
the released code's reward, which pays it as no change.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from ...agents.adapter_folder import base_of
from ...agents.transformers_agent import special_marks
from ...errors import ConfigError
from ...files import write_atomically
from ...resolve import COMFYUI, GeneratorChoice
from ...roles.prompt_files import load_prompt
from ...roles.scorer import Score, Scorer, scorer_identity
from ..worker_pool import WorkerPool, WorkerSpec
from .models import (
    CHECKPOINTS,
    RunOptions,
    TrainError,
    check_numbers,
    check_package,
    extra_missing,
    is_main_process,
    learn_in_float32,
    load_model,
    lora,
    prompt_texts,
    run,
    save_result,
)
from .reward_cache import RewardCache, maker
from .rewards import Outcome, Part, Variant, needs_image, next_prompt, pays_without_score, read_response, reward
from .rollouts import Rollouts, SharedRollouts, Tally, build_generator, trial_of
from .rows import dataset, plain_rows, states

START, REWARDS = "start", "rewards"


@dataclass(frozen=True)
class GrpoOptions(RunOptions):
    """group: responses to a state (the paper: 8). batch: responses a device and pass; times accumulate and
    devices a multiple of group. kl: weight
    of the divergence from the start (paper 1e-3, code 0). clip_low, clip_high, clip_dual: as in the released code.
    max_tokens: of a response. without: parts of the reward to leave out. generator_seed: of every picture (the paper:
    0). ray_workers: Ray workers for the generator's calls. reward_cache: folder of scores that are kept, and used by
    other trainings as well; default: `rewards` beside the checkpoints. vllm: "colocate" or "server" (vLLM writes the
    responses), "" for the model itself. vllm_memory: share of a GPU that it takes. vllm_context: tokens of a question
    and its response. vllm_tensor_parallel: GPUs that share one copy of its model. vllm_server: address, in mode
    "server".
    """

    batch: int = 8
    accumulate: int = 16
    learning_rate: float = 2e-6
    weight_decay: float = 1e-2
    save_every: int = 50
    log_every: int = 1
    variant: Variant = "ours"
    without: tuple[Part, ...] = ()
    group: int = 8
    kl: float = 1e-3
    clip_low: float = 0.2
    clip_high: float = 0.3
    clip_dual: float = 3.0
    temperature: float = 1.0
    max_tokens: int = 4096
    generator_seed: int = 0
    workers: int = 8
    timeout: float = 120.0
    ray_workers: tuple[WorkerSpec, ...] = ()
    reward_cache: Path | None = None
    vllm: str = ""
    vllm_memory: float = 0.3
    vllm_context: int = 0
    vllm_tensor_parallel: int = 1
    vllm_server: str = ""
    generator: GeneratorChoice = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(
            self,
            kl=(0, 1e3),
            clip_low=(0, 1e3),
            clip_high=(0, 1e3),
            clip_dual=(0, 1e3),
            temperature=(0.01, 100),
            max_tokens=(1, 1e6),
            timeout=(0.001, 1e9),
        )
        if self.group < 2:
            raise ConfigError(f"group is {self.group}; advantages need at least 2 responses to a state.")
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; it must be more than 0.")
        if not 0 < self.vllm_memory < 1:
            raise ConfigError(f"vllm-memory is {self.vllm_memory}; it must be a share between 0 and 1.")
        if self.vllm_context and self.vllm_context <= self.max_tokens:
            raise ConfigError(
                f"vllm-context is {self.vllm_context}; it must hold a question and {self.max_tokens} tokens of reply."
            )
        if self.vllm_tensor_parallel < 1:
            raise ConfigError(f"vllm-tensor-parallel is {self.vllm_tensor_parallel}; it must be 1 or more.")
        if self.vllm_server and self.vllm != "server":
            raise ConfigError("vllm-server has a meaning with --vllm server alone.")

    def check_packages(self) -> None:
        super().check_packages()
        if self.vllm:
            check_package("vllm", f"--vllm {self.vllm}")

    def vllm_arguments(self) -> dict[str, Any]:
        """For TRL's GRPOConfig."""
        if not self.vllm:
            return {"use_vllm": False}
        return {
            "use_vllm": True,
            "vllm_mode": self.vllm,
            "vllm_gpu_memory_utilization": self.vllm_memory,
            "vllm_max_model_length": self.vllm_context or None,
            "vllm_tensor_parallel_size": self.vllm_tensor_parallel,
            "vllm_server_base_url": self.vllm_server or None,
        }


@dataclass
class CriticReward:
    """TRL's reward function: one value a response, None where it is masked."""

    rollouts: Rollouts | SharedRollouts
    variant: Variant
    without: Sequence[Part] = ()
    __name__: str = "critic"

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        state: Sequence[str],
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **_: Any,
    ) -> list[float | None]:
        known = [json.loads(text) for text in state]
        responses = [read_response(_text(c), self.variant) for c in completions]
        asked = [
            trial_of(s, next_prompt(r, s["used"])) if needs_image(r, s["success"], self.variant) else None
            for r, s in zip(responses, known, strict=True)
        ]
        scores = iter(self.rollouts.score([t for t in asked if t is not None]))
        values: list[float | None] = []
        for response, of, trial in zip(responses, known, asked, strict=True):
            new = next(scores) if trial is not None else None
            if trial is not None and new is None and not pays_without_score(self.variant):
                values.append(None)
                continue
            old = Score(float(of["semantics"]), float(of["quality"]))
            values.append(reward(Outcome(response, of["success"], of["used"], old, new), self.variant, self.without))
        log_metric("critic/formatted", mean(r.formatted for r in responses))
        log_metric("critic/right", mean(r.verdict is s["success"] for r, s in zip(responses, known, strict=True)))
        log_metric("critic/accepts", mean(r.verdict is True for r in responses))
        log_metric("critic/tried", mean(t is not None for t in asked))
        log_metric("critic/masked", mean(v is None for v in values))
        return values


def check_own_text(own: Path, given: Path | None) -> None:
    """Raises TrainError where the critic learned another prompt text than it is to be trained with now."""
    if given is None or not (own / "critic.md").is_file():
        return
    if load_prompt("critic", [own]).strip() != load_prompt("critic", [given]).strip():
        raise TrainError(
            f"The critic learned the prompt text {own / 'critic.md'}, and --prompts {given} holds another one. Leave "
            "--prompts out, or start from a critic that was trained with these texts."
        )


def trainer_arguments(options: GrpoOptions) -> Any:
    """TRL's GRPOConfig.

    Raises:
        TrainError: TRL is missing, or refuses the settings.
    """
    try:
        from trl import GRPOConfig
    except ImportError as error:
        raise extra_missing(error) from None
    try:
        return GRPOConfig(
            **options.arguments(),
            num_generations=options.group,
            max_completion_length=options.max_tokens,
            beta=options.kl,
            epsilon=options.clip_low,
            epsilon_high=options.clip_high,
            delta=options.clip_dual or None,
            loss_type="dapo",  # the mean over all tokens, as released
            scale_rewards="group",
            temperature=options.temperature,
            top_p=1.0,
            **options.vllm_arguments(),
        )
    except ValueError as error:
        raise TrainError(
            f"TRL refuses these settings: {error} The responses to a state are compared within a step, so batch x "
            f"accumulate x processes must be a multiple of group ({options.group})."
        ) from None


def train_critic(options: GrpoOptions, load_scorer: Callable[[], Scorer], log: Callable[[str], None] = print) -> Path:
    """Train and save; returns the folder of the result. See `models.run` for going on after a kill.

    load_scorer: called once in each process, when its device is known.

    Raises:
        TrainError: bad states, or a training that is there already.
        AgentError, GeneratorError: model or generator cannot be loaded.
    """
    options.check_packages()
    prompts = prompt_texts(options.base, options.prompts)
    check_own_text(options.base.model / "prompts", options.prompts)
    rows, dropped = states(options.data, prompts)
    log(f"{len(rows)} states" + "".join(f"; {n} left out: {why}" for why, n in dropped.items()))
    arguments = trainer_arguments(options)
    with ExitStack() as stack:
        rollouts, own = _rollouts(options, load_scorer, stack)  # a judge or server that is missing costs no loading
        folder, trainer = _train(options, arguments, rows, prompts, rollouts)
    _keep_tally(trainer, own, options.out, log)
    return folder


def too_few(states: int, in_a_step: int) -> str:
    """What is said where a pass over the states makes no step. in_a_step: states."""
    return (
        f"There are {states} states, and one step takes {in_a_step} (batch x accumulate x devices / group). Give a "
        "lower --accumulate, or more states."
    )


def _train(
    options: GrpoOptions,
    arguments: Any,
    rows: list[dict[str, Any]],
    prompts: Path | None,
    rollouts: Rollouts | SharedRollouts,
) -> tuple[Path, Any]:
    """The folder of the result, and the trainer.

    Raises:
        TrainError: the states are too few for one step.
    """
    from trl import GRPOTrainer

    in_a_step = options.batch * options.accumulate * arguments.world_size // options.group
    if len(rows) < in_a_step:
        raise TrainError(too_few(len(rows), in_a_step))
    model, processor = load_model(options.base, arguments)
    if options.kl and base_of(options.base.model) != options.base.model:
        # To measure the divergence, the trainer loads the start a second time, whole, from where its config says.
        model.save_pretrained(options.out / START)
        model.config._name_or_path = str(options.out / START)
    processor.tokenizer.padding_side = "left"  # the trainer pads token types as the tokenizer does, and prompts left
    try:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=CriticReward(rollouts, options.variant, options.without),
            args=arguments,
            train_dataset=dataset(plain_rows(rows, special_marks(processor.tokenizer))),
            processing_class=processor,
            peft_config=lora(options.base),
        )
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        if not options.vllm:
            raise
        where = f"The vLLM server {options.vllm_server}" if options.vllm_server else f"vLLM ({options.vllm})"
        raise TrainError(f"{where} cannot be used: {str(error).strip() or type(error).__name__}") from error
    learn_in_float32(trainer)
    run(trainer, options.out / CHECKPOINTS, options.resume)
    return save_result(trainer, processor, options.base, options.out, prompts), trainer


def _rollouts(
    options: GrpoOptions, load_scorer: Callable[[], Scorer], stack: ExitStack
) -> tuple[Rollouts | SharedRollouts, Rollouts | None]:
    """What tries and scores the prompts of this process, and the process's own part in it, which counts.

    Servers and Ray workers are there once, so the first process uses them for all. A generator in memory (a diffusers
    folder, the tiny world's) is there in each process.
    """
    shared = bool(options.ray_workers) or options.generator.spec == COMFYUI
    if shared and not is_main_process():
        return SharedRollouts(None), None
    pool = None
    if options.ray_workers:
        build = partial(build_generator, options.generator)
        pool = stack.enter_context(WorkerPool(build, options.ray_workers, timeout=options.timeout))
    scorer = load_scorer()
    folder = options.reward_cache or options.out / REWARDS
    own = Rollouts(
        None if pool else options.generator.load(),
        scorer,
        options.generator_seed,
        options.workers,
        options.timeout,
        pool,
        cache=RewardCache(folder, maker(options.generator, scorer_identity(scorer)), options.generator_seed),
    )
    return (SharedRollouts(own) if shared else own), own


def _keep_tally(trainer: Any, rollouts: Rollouts | None, out: Path, log: Callable[[str], None]) -> None:
    """rollouts.json: counts of the trials of all processes since this call began, by result."""
    from accelerate.utils import gather_object

    tallies = gather_object([vars(rollouts.tally if rollouts else Tally())])
    if not trainer.is_world_process_zero():
        return
    names = [name for name in tallies[0] if name != "reasons"]
    total: dict[str, Any] = {name: sum(t[name] for t in tallies) for name in names}
    reasons: Counter[str] = Counter()
    for tally in tallies:
        reasons.update(tally["reasons"])
    write_atomically(out / "rollouts.json", (json.dumps({**total, "reasons": reasons}, indent=2) + "\n").encode())
    log(", ".join(f"{count} {name}" for name, count in total.items()))


def _text(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
