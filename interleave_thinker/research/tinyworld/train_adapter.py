"""A tiny agent as a low-rank adapter of the base: pairs of matrices learn, beside linear layers and embeddings.

    interleave-thinker tinyworld train planner --start-from BASE --lora-rank 32 --out DIR
    interleave-thinker tinyworld train critic  --start-from BASE --lora-rank 64 --start-adapter FILE --teacher CRITIC \\
      --attempts A B --out DIR

Without a teacher the loss is that of `sft.py`. With one it is how far the adapter's token probabilities are from the
teacher's (Kullback-Leibler), so that the adapter learns also what its teacher gets wrong. An adapter that was extracted
as the difference of two checkpoints lacks what no pair can hold; trained on from there, it makes up for that. Constants
of such an adapter stay as they are.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils.data import Dataset
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor, Trainer, set_seed
from transformers.trainer_utils import get_last_checkpoint

from ...agents.adapter_file import (
    NOT_LINEAR,
    WORDS,
    AdapterFile,
    BaseSample,
    Pair,
    hf_name,
    layer_of,
    read_adapter,
    sides,
    write_adapter,
)
from ...agents.adapter_folder import ADAPTER_NAME, load_weights
from ...errors import AgentError
from ...tinyworld.lessons import Lesson
from .attempt_pool import AttemptPool
from .sft import COMPARE_EVERY, Collator, Lessons, training_arguments
from .vlm import save_prompts

PAIRED = r"(model\.language_model\.layers|model\.visual)\..*"
"""The linear layers that get a pair."""


@dataclass(frozen=True)
class AdapterOptions:
    """base: the model that the adapter is for. start: an adapter file to go on from, as `adapters extract` makes one.
    teacher: a model of the same vocabulary whose replies are learned; None for the ground truth. attempts, right_share:
    of a critic (`AttemptPool`). compare_every: of so many batches one has comparisons. on_cpu: changes how a model
    computes where there is no GPU.
    """

    role: str
    base: Path
    out: Path
    rank: int = 32
    steps: int = 600
    batch: int = 16
    learning_rate: float = 3e-3
    seed: int = 0
    start: Path | None = None
    teacher: Path | None = None
    attempts: Sequence[Path] = ()
    right_share: float = 0.5
    compare_every: int = COMPARE_EVERY
    on_cpu: Callable[[Any], None] = lambda model: None


def train_adapter(options: AdapterOptions) -> Path:
    """Train and save a folder `out / role` that `load_agent` takes as long as the base lies beside it.

    Raises:
        AgentError: a folder or the start cannot be loaded, or does not fit.
    """
    set_seed(options.seed)
    processor = Qwen3VLProcessor.from_pretrained(options.base)
    model, teacher = _loaded(options.base, options), None
    sample = base_sample(model)
    if options.teacher is not None:
        teacher = _loaded(options.teacher, options).eval().requires_grad_(False)
    pairs = add_low_rank(model, options.rank)
    start = read_adapter(options.start) if options.start is not None else None
    if start is not None:
        start_from(pairs, start)
        add_constants(model, start)
    pool = AttemptPool(options.attempts, options.right_share) if options.attempts else None
    count = options.steps * options.batch
    lessons: Dataset[Lesson] = Lessons(options.role, count, options.seed, options.batch, pool, options.compare_every)
    if options.role == "planner":  # plans differ much in length; judgments do not
        lessons = ByLength(lessons, count, options.batch, options.seed)
    work = options.out / f"{options.role}-checkpoints"
    trainer = AdapterTrainer(
        model=model,
        args=training_arguments(
            work,
            options.steps,
            options.batch,
            options.learning_rate,
            options.seed,
            warmup=30,
            weight_decay=0.0,
            bf16=torch.cuda.is_available(),
        ),
        train_dataset=lessons,
        data_collator=Collator(processor),
        teacher=teacher,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work)) if work.is_dir() else None)
    folder = options.out / options.role
    folder.mkdir(parents=True, exist_ok=True)
    for file in options.base.glob("*.json"):
        shutil.copy(file, folder / file.name)
    processor.save_pretrained(folder)
    save_prompts(folder)
    constants = start.constants if start is not None else None
    write_adapter(folder / ADAPTER_NAME, in_file(pairs), constants, base=options.base.name, sample=sample)
    return folder


def _loaded(folder: Path, options: AdapterOptions) -> Any:
    model = load_weights(Qwen3VLForConditionalGeneration, folder, torch.float32)
    model.config.use_cache = False
    if not torch.cuda.is_available():
        options.on_cpu(model)
    return model


def base_sample(model: Any) -> BaseSample:
    layers = {layer_of(n): m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n != "lm_head"}
    return BaseSample.of(layers, lambda layer: layers[layer].weight.detach()[0])


class LowRank(nn.Module):
    """A pair that is added to a layer's weight: weight + up @ down. It begins at zero.

    The sum is made once a step. For layers as narrow as these that costs less than two more products for each token.
    """

    def __init__(self, out: int, inner: int, rank: int):
        super().__init__()
        self.up = nn.Parameter(torch.zeros(out, rank))
        self.down = nn.Parameter(torch.randn(rank, inner) / inner**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


class TiedHead(nn.Module):
    """An output layer that is the word embeddings and their pair, without a weight that a checkpoint would repeat."""

    def __init__(self, words: nn.Module):
        super().__init__()
        self.words = (words,)  # no submodule

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, cast(Tensor, self.words[0].weight))


def add_low_rank(model: Any, rank: int) -> dict[str, LowRank]:
    """Freeze the model and give each layer a pair of rank `rank`, or of its smaller side. By layer's name."""
    model.requires_grad_(False)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and re.fullmatch(PAIRED, n)}
    layers |= {name: model.get_submodule(name) for name in map(hf_name, NOT_LINEAR)}
    pairs = {}
    for name, layer in layers.items():
        out, inner = sides(layer.weight)
        pairs[name] = LowRank(out, inner, min(rank, out, inner))
        parametrize.register_parametrization(layer, "weight", pairs[name])
    if model.config.tie_word_embeddings:
        model.lm_head = TiedHead(layers[hf_name(WORDS)])
    return pairs


def start_from(pairs: dict[str, LowRank], adapter: AdapterFile) -> None:
    """Put the file's pairs in; what a pair has room for beyond them begins at zero.

    Raises:
        AgentError: a pair is of another layer, or larger than the layer's.
    """
    for place, given in adapter.pairs.items():
        pair, rank = pairs.get(hf_name(place)), given.down.shape[0]
        if pair is None or rank > pair.down.shape[0]:
            raise AgentError(f"Adapter {adapter.name} has rank {rank} at {place}; train with that rank or more.")
        with torch.no_grad():
            pair.up.zero_()[:, :rank] = given.up * given.scale
            pair.down[:rank] = given.down


def add_constants(model: Any, adapter: AdapterFile) -> None:
    """Add them to the biases of the layers.

    Raises:
        AgentError: a layer is not there, or has no bias of that size.
    """
    for place, added in adapter.constants.items():
        bias = getattr(dict(model.named_modules()).get(hf_name(place)), "bias", None)
        if bias is None or bias.shape != added.shape:
            raise AgentError(f"Adapter {adapter.name} adds numbers to {place}, which has no such bias in this model.")
        with torch.no_grad():
            bias += added.to(bias)


def in_file(pairs: dict[str, LowRank]) -> dict[str, Pair]:
    """The pairs in bfloat16, by the layer's place in ComfyUI's model."""
    half = torch.bfloat16
    return {layer_of(n): Pair(p.up.detach().to(half), p.down.detach().to(half)) for n, p in pairs.items()}


class AdapterTrainer(Trainer):
    """Loss on the reply's tokens: against the reply itself, or against a teacher's probabilities."""

    def __init__(self, *args: Any, teacher: Any = None, **options: Any):
        super().__init__(*args, **options)
        self.teacher = teacher

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], **_: Any) -> Tensor:
        labels = inputs.pop("labels")[:, 1:]
        wanted = labels != -100
        logits = reply_logits(model, inputs, wanted)
        if self.teacher is None:
            return functional.cross_entropy(logits, labels[wanted])
        with torch.no_grad():
            known = torch.log_softmax(reply_logits(self.teacher, inputs, wanted), -1)
        return functional.kl_div(torch.log_softmax(logits, -1), known, log_target=True, reduction="batchmean")


def reply_logits(model: Any, inputs: dict[str, Tensor], wanted: Tensor) -> Tensor:
    """Logits (n, vocabulary) of the tokens that `wanted` (batch, tokens - 1) marks, each from the place before it."""
    hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
    logits: Tensor = model.lm_head(hidden[wanted])
    return logits


class ByLength(Dataset[Lesson]):
    """Lessons whose batches hold replies of about one length, so that little is padding; batches in random order.

    window: lessons that are sorted together.
    """

    def __init__(self, lessons: Dataset[Lesson], count: int, batch: int, seed: int, window: int = 512):
        self.lessons = lessons
        lengths = [len(lessons[i].reply) for i in range(count)]
        self.order: list[int] = []
        rng = random.Random(f"by-length-{seed}")
        for start in range(0, count, window):
            near = sorted(range(start, min(start + window, count)), key=lengths.__getitem__)
            batches = [near[i : i + batch] for i in range(0, len(near), batch)]
            rng.shuffle(batches)
            self.order += [i for b in batches for i in b]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Lesson:
        return self.lessons[self.order[index]]
