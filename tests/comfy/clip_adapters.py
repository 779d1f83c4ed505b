"""Run inside ComfyUI's folder by test_clip_adapters.py: planner and critic as two adapters of one CLIP.

A small Qwen3-VL with random weights; two adapters with random pairs for all its linear layers and its word embeddings;
the same pairs merged into the weights of two other CLIPs. Once more with a head that is tied to the word embeddings.
Prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import logging
import random
import sys
from pathlib import Path

REPO, WORK = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = sys.argv[:1]
from native_parity import comfy, encoded, load_agents  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import comfy.model_management as memory  # noqa: E402
import torch  # noqa: E402
from interleave_pack.interleave_thinker.agents import decoding  # noqa: E402
from interleave_pack.interleave_thinker.agents.adapter_file import (  # noqa: E402
    NOT_LINEAR,
    WORDS,
    BaseSample,
    Pair,
    hf_name,
    layer_of,
    read_adapter,
    sides,
    write_adapter,
)
from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_pack.interleave_thinker.errors import AgentError  # noqa: E402
from PIL import Image  # noqa: E402
from quantised_files import OPTIONS, loaded, quantised  # noqa: E402
from qwen_checkpoint import TEXT, make_checkpoint  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

CALLS, FEW, RANK, SHORT = 50, 8, 4, Sampling(max_tokens=8, temperature=0.0)
ROLES = ("planner", "critic")


lines: list[str] = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.INFO)


def calls() -> list[list[Message]]:
    """With no, one and two pictures, and words of any kind: random weights say something else to each."""
    draw = random.Random(3)
    found = []
    for number in range(CALLS):
        pictures = [
            Image.effect_noise((32 * draw.randint(1, 4), 32 * draw.randint(1, 4)), 90).convert("RGB")
            for _ in range(number % 3)
        ]
        words = " ".join(draw.choice(("red", "boat", "plan", "ein", "画", "3", "{", "judge")) for _ in range(9))
        found.append([Message("user", (*pictures, words))])
    return found


ASKED = calls()


def make_files(work: Path = WORK, tied: bool = False) -> None:
    """base, planner and critic as checkpoints, and both adapters."""
    model = make_checkpoint(work / "base", "1GB", tied)
    layers = {layer_of(n): n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    if tied:
        del layers["model.lm_head"]
    state = load_file(work / "base" / "model.safetensors")
    sample = BaseSample.of(layers, lambda layer: state[layers[layer] + ".weight"][0])
    for seed, role in enumerate(ROLES):
        draw = torch.Generator().manual_seed(seed)
        pairs, merged = {}, dict(state)
        for layer, name in (layers | {layer: hf_name(layer) for layer in NOT_LINEAR}).items():
            weight = state[name + ".weight"]
            up, down = (torch.randn(n, RANK, generator=draw) for n in sides(weight))
            up *= 0.3 * weight.norm() / (up @ down.T).norm()
            pairs[layer] = Pair(up, down.T.contiguous(), 2.0)
            merged[name + ".weight"] = weight + (2 * up @ down.T).view_as(weight)
        constants = {}
        for layer, name in layers.items():
            if name + ".bias" in state:
                constants[layer] = 0.3 * torch.randn(state[name + ".bias"].shape, generator=draw)
                merged[name + ".bias"] = state[name + ".bias"] + constants[layer]
        assert constants, "the vision tower's layers have biases"
        write_adapter(work / f"{role}.safetensors", pairs, constants, base="base", sample=sample)
        (work / role).mkdir()
        save_file(merged, work / role / "model.safetensors", metadata={"format": "pt"})


def agent_of(clip: comfy.sd.CLIP, role: str = "", work: Path = WORK) -> agents.NativeAgent:
    file = read_adapter(work / f"{role}.safetensors") if role else None
    return agents.NativeAgent.from_clip(clip, lambda: None, file)


def texts(agent: agents.NativeAgent, count: int = CALLS) -> list[str]:
    return [agent.complete(asked, SHORT).text for asked in ASKED[:count]]


def first_logits(agent: agents.NativeAgent) -> list[torch.Tensor]:
    """Of the first token of each reply."""
    seen: list[torch.Tensor] = []
    own, decoding.check_logits = decoding.check_logits, lambda logits, _: seen.append(logits[0].clone())
    for asked in ASKED[:FEW]:
        agent.complete(asked, Sampling(max_tokens=1, temperature=0.0))
    decoding.check_logits = own
    return seen


def apart(clip: comfy.sd.CLIP, agent: agents.NativeAgent, merged: agents.NativeAgent) -> list[float]:
    """How far the first logits with and without the adapter are from the merged model's, relative to the largest."""
    wanted = first_logits(merged)
    return [
        max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(first_logits(of), wanted, strict=True))
        for of in (agent, agent_of(clip))
    ]


def live() -> int:
    """Bytes of all tensors in memory, each storage once."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and not thing.is_meta:
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def hooks(clip: comfy.sd.CLIP) -> int:
    return sum(len(m._forward_hooks) for m in clip.cond_stage_model.modules())


def one_clip() -> dict[str, object]:
    merged = {role: texts(agent_of(loaded(WORK / role / "model.safetensors"))) for role in ROLES}
    empty = live()
    lines.clear()
    clip = loaded(WORK / "base" / "model.safetensors")
    patches = [str(clip.patcher.patches_uuid)]
    sizes = {"base": live() - empty}
    plain = agent_of(clip)
    found: dict[str, object] = {"base before": texts(plain, FEW)}
    coded = [encoded(clip)]
    before = live()
    adapted = {role: agent_of(clip, role) for role in ROLES}
    sizes["adapters"] = live() - before
    sizes["their pairs"] = sum(a.adapter.file.bytes for a in adapted.values())
    for role, agent in adapted.items():
        found[role] = [texts(agent), merged[role]]
        coded.append(encoded(clip))
        found[f"base after {role}"] = texts(plain, FEW)
    patches.append(str(clip.patcher.patches_uuid))
    found["encoded equal"] = all(len(c) > 1 and all(map(torch.equal, coded[0], c)) for c in coded)
    found["patches"] = [len(set(patches)), len(clip.patcher.patches)]
    del coded, merged
    switched = []
    for number in range(50):
        adapted[ROLES[number % 2]].complete(ASKED[1], SHORT)
        encoded(clip)
        if number in {1, 49}:
            switched.append(live())
    found["live after 2 and 50 switches"] = switched
    found["sizes"] = sizes
    found["checkpoint"] = (WORK / "base" / "model.safetensors").stat().st_size
    critic = adapted["critic"]
    wanted = texts(critic, FEW)
    critic._pictures = type(critic._pictures)()  # so that it looks again, and its eyes' pairs are moved too

    def stop(text: str) -> bool:
        added = [h for m in clip.cond_stage_model.modules() for h in m._forward_hooks.values()]
        found["hooks while it writes"] = len(added)
        found["taken"] = [sum(map(on_device, added)), critic.adapter.bytes_on(torch.float32)]
        raise KeyboardInterrupt

    try:
        critic.complete(ASKED[1], SHORT, stop)
    except KeyboardInterrupt:
        found["hooks after an interrupt"] = hooks(clip)
    found["base after an interrupt"] = texts(plain, FEW)
    rooms = []
    own = memory.load_models_gpu
    memory.load_models_gpu = lambda models, memory_required=0, **more: (
        rooms.append(memory_required),
        own(models, memory_required=memory_required, **more),
    )
    for agent in (plain, critic):
        agent.complete(ASKED[0], SHORT)
    memory.load_models_gpu = own
    found["more room"] = [rooms[-1] - rooms[0], critic.adapter.bytes_on(torch.float32)]
    own_start, agents.started_decoder = agents.started_decoder, lambda *_: None
    found["by generate"] = [texts(critic, FEW), wanted]
    agents.started_decoder = own_start
    found["loads of one CLIP"] = sum("Requested to load" in line for line in lines)
    return found


def on_device(hook: object) -> int:
    """Bytes of what a hook holds for a reply."""
    parts = [getattr(hook, name, None) for name in ("up", "down", "there")]
    return sum(part.nbytes for part in parts if part is not None)


def refused(clip: comfy.sd.CLIP, role: str) -> str:
    try:
        agent_of(clip, role)
    except AgentError as error:
        return str(error)
    return ""


def with_pair(weight: torch.Tensor, pair: Pair) -> torch.Tensor:
    return (weight.float() + (pair.scale * pair.up @ pair.down).view_as(weight)).detach()


def with_constants(state: dict[str, torch.Tensor], adapter: Path) -> dict[str, torch.Tensor]:
    for layer, added in read_adapter(adapter).constants.items():
        state[hf_name(layer) + ".bias"] += added
    return state


def quantised_bases() -> dict[str, object]:
    """What is said beside quantised weights, and by a float model that has their values and the pairs in its weights."""
    found = {}
    for kind in ("float8_e4m3fn", "int8_tensorwise"):
        clip = loaded(quantised(WORK / "base", kind))
        agent = agent_of(clip, "critic")
        held = agents.held_by(clip)
        state = with_constants(load_file(WORK / "base" / "model.safetensors"), WORK / "critic.safetensors")
        for layer, pair in read_adapter(WORK / "critic.safetensors").pairs.items():
            weight = held.transformer.get_submodule(layer).weight
            plain = weight.dequantize() if hasattr(weight, "layout_cls") else weight
            state[hf_name(layer) + ".weight"] = with_pair(plain, pair)
        folder = WORK / f"critic of {kind}"
        folder.mkdir()
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        merged = agent_of(loaded(folder / "model.safetensors"))
        found[kind] = {
            "adapted": texts(agent, FEW),
            "merged": texts(merged, FEW),
            "apart": apart(clip, agent, merged),
            "other base": refused(loaded(quantised(WORK / "critic", kind)), "critic"),
        }
    return found


def stock_texts(clip: comfy.sd.CLIP, file: Path) -> list[str]:
    """With the file in stock Load LoRA."""
    _, patched = comfy.sd.load_lora_for_models(None, clip, comfy.utils.load_torch_file(str(file)), 0, 1.0)
    return texts(agent_of(patched), FEW)


def tied_head() -> dict[str, object]:
    """The same where the head is the word embeddings: plain ones, and ones in fp8 and int8."""
    work = WORK / "tied"
    make_files(work, tied=True)
    OPTIONS["qwen3vl_8b_model_config"] |= {"lm_head": False}
    found: dict[str, object] = {}
    for kind in ("float32", "float8_e4m3fn", "int8_tensorwise"):
        plain = kind == "float32"
        clip = loaded(work / "base" / "model.safetensors" if plain else quantised(work / "base", kind, words=True))
        agent, bare = agent_of(clip, "critic", work), agent_of(clip)
        state = with_constants(load_file(work / "base" / "model.safetensors"), work / "critic.safetensors")
        for layer, pair in read_adapter(work / "critic.safetensors").pairs.items():
            weight = agents.held_by(clip).transformer.get_submodule(layer).weight
            values = weight.dequantize() if hasattr(weight, "layout_cls") else weight
            state[hf_name(layer) + ".weight"] = with_pair(values, pair)
        folder = work / f"critic of {kind}"
        folder.mkdir()
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        merged = agent_of(loaded(folder / "model.safetensors"))
        coded, patches, before = encoded(clip), clip.patcher.patches_uuid, texts(bare, FEW)
        adapted = texts(agent, FEW)
        own_start, agents.started_decoder = agents.started_decoder, lambda *_: None
        by_generate = texts(agent, 2)
        agents.started_decoder = own_start
        held = agents.held_by(clip)
        with agent.adapter.beside(held, torch.float32):
            held.transformer.logits(torch.ones(1, 1, TEXT["hidden_size"]))
            added = [h for m in clip.cond_stage_model.modules() for h in m._forward_hooks.values()]
            words = list(map(on_device, added))
        found[kind] = {
            "adapted": adapted,
            "merged": texts(merged, FEW),
            "apart": apart(clip, agent, merged),
            "by generate": by_generate,
            "base": [before, texts(bare, FEW)],
            "encoded equal": all(map(torch.equal, coded, encoded(clip))),
            "patches": [clip.patcher.patches_uuid == patches, len(clip.patcher.patches)],
            "left": hooks(clip) + ("logits" in vars(held.transformer)),
            "stock": stock_texts(clip, work / "critic.safetensors") if plain else [],
            "bytes of the words": [sum(words), read_adapter(work / "critic.safetensors").pairs[WORDS].bytes],
        }
    return found


def overflowing() -> list[str]:
    """What an agent says whose adapter leaves the numbers of float32: greedy, and drawn."""
    pairs = {
        layer: Pair(p.up * 1e30, p.down, p.scale)
        for layer, p in read_adapter(WORK / "critic.safetensors").pairs.items()
    }
    write_adapter(WORK / "huge.safetensors", pairs, base="base", sample=BaseSample({}))
    agent, said = agent_of(loaded(WORK / "base" / "model.safetensors"), "huge"), []
    for temperature in (0.0, 0.8):
        try:
            said.append(agent.complete(ASKED[1], Sampling(max_tokens=8, temperature=temperature)).text)
        except AgentError as error:
            said.append(str(error))
    return said


make_files()
found = one_clip()
found["other base"] = {
    "critic's weights": refused(loaded(WORK / "critic" / "model.safetensors"), "planner"),
    "base": refused(loaded(WORK / "base" / "model.safetensors"), "planner"),
}
found["formats"] = quantised_bases()
found["overflowing"] = overflowing()
found["tied"] = tied_head()
print("RESULT " + json.dumps(found))
