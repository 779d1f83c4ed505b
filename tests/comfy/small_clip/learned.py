"""A small Qwen3-VL that has learned by heart how to plan one story and judge its attempts.

Random weights of the shapes of `qwen_checkpoint`, trained for about a minute on the replies below. It plans and judges
through the prompt texts of `PROMPTS`; what the pictures show does not matter to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from qwen_checkpoint import make_checkpoint, make_processor
from torch.nn.functional import cross_entropy, interpolate

REQUEST = "a ball and a boat"
FIRST, REFINED, SECOND = "a red ball", "a red ball on green grass", "a blue boat"
"""The first step's prompt, which the critic rejects; what it asks for instead; the second step's prompt."""

PROMPTS = {
    "planner_text.md": "plan {text_input}",
    "critic.md": "want {original_instruction}\ngot {rewritten_prompt}",
}
SIZE = 64
FILE = "small_qwen3vl.safetensors"
ROLES = ("planner", "critic")

_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


def _plan() -> str:
    steps = [
        {"step_number": n, "step_name": "", "instruction": p, "prompt": p, "auxiliary_text": p}
        for n, p in enumerate((FIRST, SECOND), 1)
    ]
    return "<think>ok</think><answer>" + json.dumps({"execution_plan": steps}) + "</answer>"


def _verdict(accepted: bool, refined: str) -> str:
    answer = {"previous_step_success": accepted, "refine_prompt": refined}
    return f"<think>ok</think><answer>{json.dumps(answer)}</answer>"


def lessons() -> list[tuple[str, str]]:
    """What is asked, a picture as its marks, and the reply."""
    judged = [(FIRST, FIRST, False, REFINED), (FIRST, REFINED, True, REFINED), (SECOND, SECOND, True, SECOND)]
    critic = [(f"want {want}\ngot {got}", _verdict(good, refined)) for want, got, good, refined in judged]
    planner = [(f"plan {REQUEST}", _plan())]
    return [*planner, *((_PICTURE * 2 + asked, reply) for asked, reply in critic)]


def plain_lessons() -> list[tuple[str, str]]:
    """The same as ComfyUI's own template puts it for a model whose chat form the pack does not know."""
    return [(asked.replace(_PICTURE * 2, _PICTURE * 2 + "[picture 1][picture 2]"), reply) for asked, reply in lessons()]


def _turns() -> Iterator[tuple[str, str, int]]:
    """(prompt as the model reads it, reply, pictures)."""
    for asked, reply in lessons():
        yield f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n", reply, asked.count(_PICTURE)
    for asked, reply in plain_lessons():
        opened = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        yield f"<|im_start|>user\n{asked}<|im_end|>\n{opened}", reply, asked.count(_PICTURE)


def _loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Of each token. logits: (tokens, tokens + others), each token's own word at its own place."""
    same = wanted[None] == wanted[:, None]
    logits[:, : len(wanted)].masked_fill_(same & ~torch.eye(len(wanted), dtype=torch.bool), float("-inf"))
    return cross_entropy(logits, torch.arange(len(wanted)), reduction="none")


def _pictures(count: int, random: torch.Generator) -> list[Image.Image]:
    """Of any colours, coarse or fine, flat or not; a quarter is plain white, as before a first step."""
    found = []
    for _ in range(count):
        cells = 2 ** int(torch.randint(1, 7, (1,), generator=random))
        contrast, light, white = torch.rand(3, generator=random)
        noise = torch.rand(1, 3, cells, cells, generator=random) * contrast + torch.rand(1, 3, 1, 1, generator=random)
        values = (interpolate(noise, SIZE) * 0.3 + light).clamp(0, 1) if white > 0.25 else torch.ones(1, 3, SIZE, SIZE)
        found.append(Image.fromarray((values[0].movedim(0, -1) * 255).byte().numpy()))
    return found


@dataclass
class Pupil:
    """The model in training. head: the weights of its language head, which stay."""

    model: Any
    processor: Any
    random: torch.Generator

    @property
    def head(self) -> torch.Tensor:
        weights: torch.Tensor = self.model.get_output_embeddings().weight
        return weights

    def heard(self, prompt: str, reply: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What it thinks before each token of the reply, and these tokens. count: pictures, which are drawn anew."""
        pictures = _pictures(count, self.random) or None
        whole = self.processor(text=[prompt + reply + "<|im_end|>"], images=pictures, return_tensors="pt")
        taught = len(self.processor.tokenizer(reply + "<|im_end|>")["input_ids"])
        return self.model.model(**whole).last_hidden_state[0, -taught - 1 : -1], whole["input_ids"][0, -taught:]

    def loss(self, turn: tuple[str, str, int], said: torch.Tensor) -> torch.Tensor:
        """Of each word, against words that replies have (`said`) and some of the others."""
        thought, wanted = self.heard(*turn)
        others = torch.cat([said, torch.randint(self.head.shape[0], (3000,), generator=self.random)])
        others = others[~torch.isin(others, wanted)]
        return _loss(thought @ self.head[torch.cat([wanted, others])].T, wanted)

    @torch.no_grad()
    def knows(self, turn: tuple[str, str, int]) -> bool:
        """Whether each word of the reply is the likeliest of all, whatever the pictures show."""
        asked = (self.heard(*turn) for _ in range(4))
        return all(bool(((thought @ self.head.T).argmax(-1) == wanted).all()) for thought, wanted in asked)


def make_small_clip(folder: Path, comfyui: Path) -> Path:
    """Train, and write one file for stock `comfy.sd.load_clip`; returns it."""
    pupil = _new_pupil(folder, comfyui)
    words = {id(words.weight) for words in (pupil.model.get_input_embeddings(), pupil.model.get_output_embeddings())}
    _teach(pupil, list(_turns()), [p for p in pupil.model.parameters() if id(p) not in words])
    return _saved(pupil, folder, FILE)


def make_small_base_and_agents(folder: Path, comfyui: Path) -> Path:
    """A base that knows nothing, and planner and critic as fine-tunes of its linear layers, each a file in `folder`."""
    pupil = _new_pupil(folder, comfyui)
    base = _saved(pupil, folder, FILE)
    start = {name: weight.clone() for name, weight in pupil.model.state_dict().items()}
    layers = [m for m in pupil.model.modules() if isinstance(m, torch.nn.Linear) and m is not pupil.model.lm_head]
    for role in ROLES:
        pupil.model.load_state_dict(start)
        turns = [turn for turn in _turns() if (turn[2] == 0) == (role == "planner")]
        _teach(pupil, turns, [layer.weight for layer in layers])
        _saved(pupil, folder, f"{role}.safetensors")
    return base


def _new_pupil(folder: Path, comfyui: Path) -> Pupil:
    pupil = Pupil(make_checkpoint(folder, "1GB"), make_processor(comfyui), torch.Generator().manual_seed(0))
    pupil.model.model.language_model.norm.weight.data.fill_(8.0)  # so that the likeliest word is clearly so
    return pupil


def _saved(pupil: Pupil, folder: Path, name: str) -> Path:
    pupil.model.save_pretrained(folder, max_shard_size="1GB")
    return (folder / "model.safetensors").rename(folder / name)


def _teach(pupil: Pupil, turns: list[tuple[str, str, int]], taught: list[torch.nn.Parameter], most: int = 600) -> None:
    """taught: the weights that learn; without those of words, which are nearly all and would take the time.

    Raises:
        RuntimeError: the replies were not learned in `most` rounds.
    """
    pupil.model.requires_grad_(False)
    for weight in taught:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(taught, lr=2e-3, weight_decay=0.0)
    said = torch.tensor(pupil.processor.tokenizer("".join(reply for _, reply, _ in turns))["input_ids"]).unique()
    for done in range(1, most + 1):
        worst = 0.0
        for turn in turns:
            loss = pupil.loss(turn, said)
            loss.mean().backward()
            worst = max(worst, float(loss.detach().max()))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if worst < 0.1 and done % 10 == 0 and all(map(pupil.knows, turns)):
            return
    raise RuntimeError(f"The small Qwen3-VL did not learn its replies; the worst word still costs {worst:.2f}.")
