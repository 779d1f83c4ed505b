"""What `adapters extract` keeps of a fine-tune by rank, and the memory and time that it takes for two 8B checkpoints.

    python benchmarks/adapter_extract.py verdicts OUT --critic FOLDER [--count 600] [--linear-only]
    python benchmarks/adapter_extract.py memory OUT [--rank 64] [--layers 36] [--linear-only]
    python benchmarks/adapter_extract.py sizes

verdicts: a tiny critic that was trained from the tiny base (recipes/tiny.sh: OUT/agents/critic) as an adapter of it; on
attempts that the loop makes with the full critic, how often the verdict is that critic's. The rows below "full" also
take over what an adapter cannot carry, to show where the rest lies.

memory: two checkpoints of random weights in the shapes of Qwen3-VL-8B, in shards of bfloat16; each linear layer of the
second and its word embeddings differ by a change of rank 32 and noise. They take 35 GB of disk and are deleted
afterwards. --layers makes fewer blocks of the language model; the largest layers are there all the same. Printed: the
extraction's own output, its peak of resident memory, and its seconds.

sizes: bytes of an adapter in bfloat16 by rank, from the shapes of Qwen3-VL 8B and 4B.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

RANKS = (8, 16, 32, 64, 128)
FULL = 512
"""No layer of the tiny models has a smaller side above it."""
SEED = 77
AT_A_TIME = 100
SHARD = 1 << 30
CHANGE_RANK = 32
WORDS = 151936


class Widths(NamedTuple):
    """Of a Qwen3-VL: language model and its feed-forward layers; vision tower, its feed-forward layers and blocks."""

    text: int
    wide: int
    seen: int
    seen_wide: int
    seen_blocks: int
    tied: bool


WIDTHS = {"8B": Widths(4096, 12288, 1152, 4304, 27, False), "4B": Widths(2560, 9728, 1024, 4096, 24, True)}
"""Both have 36 blocks of 32 heads, 8 of them for keys, of 128."""
PROBE = "import resource, sys; from interleave_thinker.cli import main; code = main(sys.argv[1:]); "
PROBE += "used = resource.getrusage(resource.RUSAGE_SELF); "
PROBE += "print(used.ru_maxrss, used.ru_utime, used.ru_stime); sys.exit(code)"
"""In a process of its own: ru_maxrss is in KiB on Linux."""


def verdicts(out: Path, count: int, folder: Path, linear_only: bool) -> None:
    from interleave_thinker.agents.adapter_file import hf_name, read_adapter
    from interleave_thinker.agents.adapter_folder import add_pairs, whole_weights
    from interleave_thinker.research.tinyworld.loop_attempts import _Critics, make_loop_attempts
    from interleave_thinker.research.train.checkpoint import Checkpoint
    from interleave_thinker.research.train.extract import extract
    from interleave_thinker.storage.images import open_rgb
    from interleave_thinker.tinyworld.convert import WEIGHTS
    from interleave_thinker.tinyworld.pipeline import TinyKontextPipeline

    pipeline = TinyKontextPipeline.from_pretrained(WEIGHTS / "generator")
    pipeline.set_progress_bar_config(disable=True)
    attempts = out / "attempts"
    make_loop_attempts(pipeline, folder, attempts, count, seed=SEED)
    lines = (attempts / "attempts.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    records = sorted(map(json.loads, lines), key=lambda record: record["before_image"] is None)
    calls = [
        (
            open_rgb(attempts / record["before_image"]) if record["before_image"] else None,
            open_rgb(attempts / record["after_image"]),
            record["prompt"],
            record["used"],
        )
        for record in records
    ]
    critic = _Critics(folder)

    def judge() -> list[bool]:
        return [j.accepted for i in range(0, count, AT_A_TIME) for j in critic(calls[i : i + AT_A_TIME])]

    wanted = judge()
    base, tuned = map(whole_weights, (WEIGHTS / "base", folder))
    print(f"{count} attempts, {sum(wanted)} accepted by the full critic", flush=True)

    def row(name: str, error: str, size: str, kept: Callable[[str], bool]) -> None:
        critic.model.load_state_dict(
            {n: tuned[n] if kept(n) else tensor for n, tensor in weights.items()}, strict=False
        )
        critic.model.tie_weights()
        same = sum(a == b for a, b in zip(judge(), wanted, strict=True)) / count
        print(f"| {name} | {error} | {size} | {same:.1%} | {math.sqrt(same * (1 - same) / count):.1%} |", flush=True)

    print("| rank | relative error | MB | verdicts as the full critic's | one standard error |\n|---|---|---|---|---|")
    weights = base
    row("none (the base)", "1", "0", lambda _: False)
    for rank in (*RANKS, FULL):
        file = out / f"rank{rank}.safetensors"
        file.unlink(missing_ok=True)
        models = map(Checkpoint.open, (WEIGHTS / "base", folder))
        made = extract(*models, file, rank=rank, linear_only=linear_only)
        weights = {name: tensor.clone() for name, tensor in base.items()}
        add_pairs(read_adapter(file), weights)
        name = "full" if rank == FULL else str(rank)
        row(name, f"{made.error:.3f}", f"{made.bytes / 1e6:.1f}", lambda _: False)
    carried = {f"{hf_name(layer.layer)}.weight" for layer in made.layers}
    carried |= {f"{hf_name(layer)}.bias" for layer in made.constants}
    folded = {f"{hf_name(norm)}.{part}" for norm in made.folded for part in ("weight", "bias")}
    left = [name for name in base if name not in carried | folded]
    row("full, and the vision tower's rest", "", "", lambda n: n in left and "visual" in n)
    if linear_only:
        row("full, and the word embeddings", "", "", lambda n: n in left and "embed_tokens" in n)
    row("full, and all that was dropped", "", "", lambda n: n in left)


def memory(out: Path, rank: int, layers: int, linear_only: bool) -> None:
    needed = 2 * 2 * sum(math.prod(shape) for shape in shapes(layers).values())
    if shutil.disk_usage(out.parent).free < needed + (3 << 30):
        sys.exit(f"{needed / 1e9:.0f} GB of disk are needed below {out.parent}; give another folder or fewer --layers.")
    folders = [out / "base", out / "tuned"]
    try:
        # In a process of its own too: the peak of a child counts what its parent had.
        subprocess.run([sys.executable, __file__, "make", str(out), "--layers", str(layers)], check=True)
        adapter = out / "difference.safetensors"
        adapter.unlink(missing_ok=True)
        words = ["adapters", "extract", *map(str, folders), "--rank", str(rank), "--out", str(adapter)]
        words += ["--linear-only"] * linear_only
        begun = time.monotonic()
        done = subprocess.run([sys.executable, "-c", PROBE, *words], check=True, capture_output=True, text=True)
        took = time.monotonic() - begun
        *told, last = done.stdout.splitlines()
        print("\n".join(told))
        kib, computing, system = map(float, last.split())
        print(
            f"{layers} blocks, rank {rank}: peak {kib * 1024 / 1e9:.2f} GB resident; {took:.0f} s, of which "
            f"{computing:.0f} s computing and {system:.0f} s in the system"
        )
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def shapes(layers: int = 36, model: str = "8B") -> dict[str, tuple[int, ...]]:
    """By Hugging Face's names, with so many blocks of the language model."""
    of = WIDTHS[model]
    text, vision = "model.language_model.", "model.visual."
    found: dict[str, tuple[int, ...]] = {} if of.tied else {"lm_head.weight": (WORDS, of.text)}
    found[f"{text}embed_tokens.weight"] = (WORDS, of.text)
    found[f"{text}norm.weight"] = (of.text,)
    for n in range(layers):
        block = f"{text}layers.{n}."
        for name, rows in {"q": 4096, "k": 1024, "v": 1024}.items():
            found[f"{block}self_attn.{name}_proj.weight"] = (rows, of.text)
        found[f"{block}self_attn.o_proj.weight"] = (of.text, 4096)
        found |= {f"{block}self_attn.{name}.weight": (128,) for name in ("q_norm", "k_norm")}
        found |= {f"{block}mlp.{name}_proj.weight": (of.wide, of.text) for name in ("gate", "up")}
        found[f"{block}mlp.down_proj.weight"] = (of.text, of.wide)
        found |= {f"{block}{name}_layernorm.weight": (of.text,) for name in ("input", "post_attention")}
    found[f"{vision}patch_embed.proj.weight"] = (of.seen, 3, 2, 16, 16)
    found[f"{vision}patch_embed.proj.bias"] = (of.seen,)
    found[f"{vision}pos_embed.weight"] = (2304, of.seen)
    linear: dict[str, tuple[int, int]] = {}
    for n in range(of.seen_blocks):
        block = f"{vision}blocks.{n}."
        linear |= {f"{block}attn.qkv": (3 * of.seen, of.seen), f"{block}attn.proj": (of.seen, of.seen)}
        linear |= {f"{block}mlp.linear_fc1": (of.seen_wide, of.seen), f"{block}mlp.linear_fc2": (of.seen, of.seen_wide)}
        found |= {f"{block}{norm}.{part}": (of.seen,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    joined = 4 * of.seen
    for merger, width in {"merger": of.seen, **{f"deepstack_merger_list.{n}": joined for n in range(3)}}.items():
        linear |= {f"{vision}{merger}.linear_fc1": (joined, joined), f"{vision}{merger}.linear_fc2": (of.text, joined)}
        found |= {f"{vision}{merger}.norm.{part}": (width,) for part in ("weight", "bias")}
    for name, (rows, columns) in linear.items():
        found |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    return found


def _of_language_model(name: str) -> bool:
    return "visual" not in name


def sizes() -> None:
    print("| rank | 8B | 8B, language model alone | 4B | 4B, language model alone | of it word embeddings |")
    print("|---|---|---|---|---|---|")
    for rank in (8, 16, 32, 64, 128, 256):
        cells, words = [], []
        for model in WIDTHS:
            paired = {n: (s[0], math.prod(s[1:])) for n, s in shapes(model=model).items() if len(s) > 1}
            size = {n: 2 * min(rank, *shape) * sum(shape) / 1e6 for n, shape in paired.items()}
            cells += [f"{sum(size[n] for n in size if kept(n)):.0f} MB" for kept in (bool, _of_language_model)]
            words.append(f"{sum(size[n] for n in size if 'embed_tokens' in n):.0f}")
        cells.append(f"{' and '.join(words)} MB")
        print(f"| {rank} | {' | '.join(cells)} |")


def make(out: Path, layers: int) -> None:
    """Two folders that differ in each tensor; random numbers are parts of one bank, which is quicker."""
    import torch

    random = torch.Generator().manual_seed(0)
    bank = torch.randn(1 << 26, generator=random)

    def draw(count: int) -> torch.Tensor:
        drawn = torch.empty(count)
        for start in range(0, count, len(bank) // 2):
            length = min(len(bank) // 2, count - start)
            at = int(torch.randint(len(bank) - length + 1, (1,), generator=random))
            drawn[start : start + length] = bank[at : at + length]
        return drawn

    def pairs() -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        for name, shape in shapes(layers).items():
            around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            before = (draw(math.prod(shape)).view(shape) * 0.02 + around).to(torch.bfloat16)
            if around or len(shape) != 2:
                yield name, before, before + (draw(math.prod(shape)).view(shape) * 0.004).to(torch.bfloat16)
                continue
            left, right = draw(shape[0] * CHANGE_RANK).view(-1, CHANGE_RANK), draw(shape[1] * CHANGE_RANK)
            after = draw(math.prod(shape)).view(shape).mul_(0.0005)
            after.addmm_(left, right.view(CHANGE_RANK, -1), alpha=0.002 / math.sqrt(CHANGE_RANK))
            yield name, before, after.add_(before).to(torch.bfloat16)

    sides = [_Shards(out / name) for name in ("base", "tuned")]
    for name, *both in pairs():
        for side, tensor in zip(sides, both, strict=True):
            side.add(name, tensor)
    for side in sides:
        side.close()


class _Shards:
    """A folder of weights, written a file at a time."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_vl", "tie_word_embeddings": False}))
        self.folder, self.held, self.places = folder, dict[str, "torch.Tensor"](), dict[str, str]()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        self.held[name] = tensor
        if sum(t.nbytes for t in self.held.values()) > SHARD:
            self._write()

    def _write(self) -> None:
        from safetensors.torch import save_file

        file = f"model-{len(set(self.places.values())) + 1:05d}.safetensors"
        save_file(self.held, self.folder / file, metadata={"format": "pt"})
        self.places |= dict.fromkeys(self.held, file)
        self.held = {}

    def close(self) -> None:
        if self.held:
            self._write()
        index = {"metadata": {}, "weight_map": self.places}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", choices=["verdicts", "memory", "sizes", "make"], help="make: the checkpoints of `memory`"
    )
    parser.add_argument("out", type=Path, nargs="?", help="a folder to work in")
    parser.add_argument("--critic", type=Path, help="verdicts: the whole critic")
    parser.add_argument("--count", type=int, default=600, help="attempts")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--linear-only", action="store_true", help="pairs of linear layers alone")
    options = parser.parse_args()
    if options.part == "sizes":
        return sizes()
    if options.out is None:
        parser.error("name a folder to work in")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part == "verdicts":
        if options.critic is None:
            parser.error("verdicts needs a whole critic: give its folder as --critic.")
        verdicts(options.out, options.count, options.critic, options.linear_only)
    elif options.part == "memory":
        memory(options.out, options.rank, options.layers, options.linear_only)
    else:
        make(options.out, options.layers)


if __name__ == "__main__":
    main()
