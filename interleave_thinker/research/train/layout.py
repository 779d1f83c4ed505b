"""Memory that a training takes of each GPU, by arithmetic: for `--dry-run`, before anything is bought or loaded.

Sizes are those of bfloat16 training with Adam. Whole weights that are trained have a float32 master copy. With several
GPUs the recipe's ZeRO-3 keeps it, and shares weights, gradients and optimizer among the GPUs (Rajbhandari et al., arXiv
1910.02054). Measured nowhere yet: take a sum within a tenth of the limit as not fitting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .models import TrainError

GB = 10**9
OVERHEAD = 2.0
"""GB of CUDA's context and of libraries."""
QUESTION_TEXT = 500
"""Tokens of a critic's question beside its pictures."""
BYTES_IN_4_BITS = 0.516
"""Bytes of a weight in NF4 with its scales: half a byte, and 0.127 bits (arXiv 2305.14314, section 3)."""
PATCH = 32
"""Pixels of a side that make one token."""


@dataclass(frozen=True)
class Shape:
    """A Qwen3-VL's sizes. parameters: language model and vision tower together."""

    parameters: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    key_values: int
    """Numbers that the cache keeps of a token."""
    linear: int
    """Weights of the linear layers of the language model: what may lie in 4 bits."""
    adapted: int
    """Inputs and outputs of the linear layers of the language model, added up: what an adapter's rank multiplies."""

    @classmethod
    def of(cls, folder: Path) -> Shape:
        """Raises:
        TrainError: the folder has no config.json of a Qwen3-VL.
        """
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            return cls._of(config["text_config"], config["vision_config"], bool(config.get("tie_word_embeddings")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainError(f"{folder} has no config.json of a Qwen3-VL: {error}.") from None

    @classmethod
    def _of(cls, text: Mapping[str, Any], eyes: Mapping[str, Any], tied: bool) -> Shape:
        hidden, inner, layers, words = (
            int(text[name]) for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
        )
        width = int(text.get("head_dim") or hidden // text["num_attention_heads"])
        query, key = width * int(text["num_attention_heads"]), width * int(text["num_key_value_heads"])
        linears = [(hidden, query), (hidden, key), (hidden, key), (query, hidden)]
        linears += [(hidden, inner), (hidden, inner), (inner, hidden)]
        layer = sum(a * b for a, b in linears) + 2 * hidden + 2 * width
        seen, deep = int(eyes["hidden_size"]), int(eyes["depth"])
        joined = seen * int(eyes.get("spatial_merge_size", 2)) ** 2
        merger = joined * joined + joined * int(eyes["out_hidden_size"])
        tower = deep * (4 * seen * seen + 2 * seen * int(eyes["intermediate_size"]))
        tower += merger * (1 + len(eyes.get("deepstack_visual_indexes", ())))
        return cls(
            words * hidden * (1 if tied else 2) + layers * layer + tower,
            layers,
            hidden,
            inner,
            words,
            2 * layers * key,
            layers * sum(a * b for a, b in linears),
            layers * sum(a + b for a, b in linears),
        )


@dataclass(frozen=True)
class Asked:
    """What a training does.

    rows: at a time, on a GPU; written: of these, rows that are written at once where vLLM does not write. reply: tokens
    of the longest reply. all_logits: whether words are computed for the question too (TRL's SFTTrainer does, its
    GRPOTrainer does not). in_float32: whether frozen weights are. vllm_memory: 0 without vLLM beside the training.
    beside_gb: what another program takes.
    """

    rows: int
    reply: int
    max_pixels: int
    all_logits: bool = False
    lora_rank: int = 0
    quantized: bool = False
    checkpointing: bool = False
    written: int = 0
    reference: bool = False
    vllm_memory: float = 0.0
    vllm_context: int = 0
    vllm_tensor_parallel: int = 1
    beside_gb: float = 0.0
    in_float32: bool = False

    @property
    def question(self) -> int:
        return 2 * self.max_pixels // (PATCH * PATCH) + QUESTION_TEXT


@dataclass(frozen=True)
class Layout:
    """parts: (what, GB, by which arithmetic) on each GPU. problems: what will not fit, with what would help."""

    gpus: int
    gpu_gb: float
    parts: tuple[tuple[str, float, str], ...]
    problems: tuple[str, ...]

    @property
    def total(self) -> float:
        return sum(size for _, size, _ in self.parts)

    def lines(self) -> list[str]:
        """As Markdown."""
        kind = f"{self.gpus} GPU{'s' * (self.gpus > 1)} of {self.gpu_gb:g} GB"
        lines = [f"{kind}, on each:", "", "| | GB | |", "|---|---|---|"]
        lines += [f"| {what} | {size:.1f} | {why} |" for what, size, why in self.parts]
        lines.append(f"| **sum** | **{self.total:.1f}** | of {self.gpu_gb:g} |")
        return [*lines, "", *(f"Will not fit: {problem}" for problem in self.problems or ()), *self._verdict()]

    def _verdict(self) -> Sequence[str]:
        if self.problems:
            return ()
        return (
            ("Fits.",) if self.total < 0.9 * self.gpu_gb else ("Fits with less than a tenth to spare: try it first.",)
        )


def layout(shape: Shape, asked: Asked, gpus: int, gpu_gb: float) -> Layout:
    """What lies on each of so many GPUs."""
    parts: list[tuple[str, float, str]] = []

    def part(what: str, size: float, why: str) -> None:
        parts.append((what, size / GB, why))

    count, shared = shape.parameters, f" / {gpus}" if gpus > 1 else ""
    billions = f"{count / 1e9:.1f} B"
    if asked.quantized:  # on each GPU whole: such weights are not shared
        rest, packed = count - shape.linear, shape.linear * BYTES_IN_4_BITS
        part("weights in 4 bits", packed, f"{shape.linear / 1e9:.1f} B x {BYTES_IN_4_BITS} bytes")
        part("other weights", 2 * rest, f"{rest / 1e9:.1f} B x 2 bytes (words, head, vision)")
    else:
        each = 4 if asked.in_float32 and asked.lora_rank else 2
        part("weights", each * count / gpus, f"{billions} x {each} bytes{shared}")
    if asked.lora_rank:
        adapter = shape.adapted * asked.lora_rank
        part("adapter", 16 * adapter, f"{adapter / 1e6:.0f} M x 16 bytes (itself, gradient, Adam)")
    else:
        gradient = 2 if gpus > 1 else 4
        part("gradients", gradient * count / gpus, f"{billions} x {gradient} bytes{shared}")
        part("optimizer", 12 * count / gpus, f"{billions} x 12 bytes{shared} (float32 weights, Adam)")
        if asked.reference:
            start = 2 if gpus > 1 else 4
            part("start, for the KL", start * count / gpus, f"{billions} x {start} bytes{shared}")
    if gpus > 1:
        part("gathered layers", 4 * shape.vocabulary * shape.hidden, "two of the largest, 2 bytes each number")
    tokens = asked.question + asked.reply
    kept = shape.hidden if asked.checkpointing else 14 * shape.hidden + 4 * shape.inner
    inside = (10 * shape.hidden + 4 * shape.inner) * tokens * 2 * asked.rows
    rows = f"{asked.rows} row{'s' * (asked.rows > 1)}"
    part("activations", shape.layers * tokens * kept * 2 * asked.rows + inside, f"{rows} of {tokens} tokens")
    written = tokens if asked.all_logits else asked.reply
    logits = 6 * asked.rows * written * shape.vocabulary
    part("logits", logits, f"{rows} x {written} tokens x {shape.vocabulary} words x 6 bytes")
    if asked.written:
        cache = asked.written * tokens * shape.key_values * 2
        part(
            "cache while it writes", cache, f"{asked.written} replies x {tokens} tokens x {shape.key_values} x 2 bytes"
        )
    if asked.vllm_memory:
        part("vLLM", asked.vllm_memory * gpu_gb * GB, f"{asked.vllm_memory:g} of {gpu_gb:g} GB")
    if asked.beside_gb:
        part("another program", asked.beside_gb * GB, "--beside-gb")
    part("CUDA and libraries", OVERHEAD * GB, "")
    made = Layout(gpus, gpu_gb, tuple(parts), ())
    return Layout(gpus, gpu_gb, made.parts, tuple(_problems(shape, asked, made)))


def _problems(shape: Shape, asked: Asked, made: Layout) -> list[str]:
    problems = []
    if made.total > made.gpu_gb:
        what, size, _ = max((p for p in made.parts if p[0] != "CUDA and libraries"), key=lambda p: p[1])
        helps = "fewer rows a pass (--batch), fewer pixels (--max-pixels), shorter replies"
        helps += "" if asked.lora_rank else ", an adapter instead of all weights (--lora-rank 64)"
        helps += ", frozen weights in 4 bits (--quantize 4bit)" if asked.lora_rank and not asked.quantized else ""
        helps += "" if asked.checkpointing else ", --gradient-checkpointing"
        problems.append(
            f"{made.total:.0f} GB on a GPU of {made.gpu_gb:g}; most of it {what} ({size:.1f} GB). What helps: {helps}."
        )
    if asked.vllm_memory and made.gpus % asked.vllm_tensor_parallel:
        problems.append(
            f"--vllm-tensor-parallel is {asked.vllm_tensor_parallel}, which does not divide {made.gpus} GPU"
            f"{'s' * (made.gpus > 1)}."
        )
    if asked.vllm_memory:
        room = asked.vllm_memory * made.gpu_gb - 2 * shape.parameters / GB / asked.vllm_tensor_parallel - OVERHEAD
        need = asked.vllm_context * shape.key_values * 2 / GB / asked.vllm_tensor_parallel
        if not asked.vllm_context:
            problems.append("vLLM asks for a cache of the model's whole context. Give --vllm-context, such as 8192.")
        elif need > room:
            problems.append(
                f"vLLM has {max(room, 0):.1f} GB for its cache beside its weights, and one reply takes {need:.1f}. "
                "Give more with --vllm-memory, or share its model with --vllm-tensor-parallel."
            )
        if asked.vllm_context and asked.vllm_context < asked.question + asked.reply:
            problems.append(
                f"a question of {asked.question} tokens and a reply of {asked.reply} are longer than --vllm-context "
                f"{asked.vllm_context}. Give fewer pixels (--max-pixels) or a longer context."
            )
    return problems
