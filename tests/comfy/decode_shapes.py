"""Run inside ComfyUI's folder by benchmarks/gpu.py: what a token costs in a Qwen3-VL of a given shape, random weights.

Arguments: repository, shape, side of the two pictures, tokens of text, tokens that are timed, GB of the generator's
stand-in. On a GPU if there is one, in bfloat16; else on the CPU in float32. Prints a line for each part that is done,
and one JSON object of all.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

REPO, SHAPE, (SIDE, TEXT, COUNT) = Path(sys.argv[1]), sys.argv[2], map(int, sys.argv[3:6])
GENERATOR_GB = float(sys.argv[6])
GPU = torch.cuda.is_available()
sys.argv = sys.argv[:1] + ([] if GPU else ["--cpu", "--fp32-text-enc"])
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management as memory  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.text_encoders.llama as llama  # noqa: E402
import comfy.text_encoders.qwen3vl as native  # noqa: E402
from pack_inside import load_pack  # noqa: E402

load_pack(REPO)

from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_pack.interleave_thinker.agents.token_text import TokenText  # noqa: E402
from interleave_pack.nodes.comfy_internals import clips  # noqa: E402
from interleave_pack.nodes.comfy_internals.captured_pass import captured_pass  # noqa: E402
from interleave_pack.nodes.comfy_internals.layer_loop import LayerLoop  # noqa: E402
from interleave_pack.nodes.comfy_internals.seen_pictures import SeenPictures  # noqa: E402
from interleave_pack.nodes.native_agent import NativeAgent, _form_of  # noqa: E402
from PIL import Image  # noqa: E402
from qwen_checkpoint import make_processor  # noqa: E402
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration  # noqa: E402

DEVICE = torch.device("cuda" if GPU else "cpu")
DTYPE = torch.bfloat16 if GPU else torch.float32
LAYERS = 36
DRAFTS = 8
LONG = 4000
SHAPES: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "small": (
        {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
        {"hidden_size": 64, "intermediate_size": 96, "depth": 3, "deepstack_visual_indexes": [0, 1]},
    ),
    "4b": (
        {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
        {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24, "deepstack_visual_indexes": [5, 11, 17]},
    ),
    "8b": (
        {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
        {"hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "deepstack_visual_indexes": [8, 16, 24]},
    ),
}


def now() -> float:
    """Seconds: of the clock on a GPU, when all work is done; else of this process."""
    if GPU:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def milliseconds(work: Callable[[], Any]) -> float:
    began = now()
    work()
    return 1000 * (now() - began)


def alternating(works: dict[str, Callable[[], Any]], count: int) -> dict[str, float]:
    """Median milliseconds of each, one after the other in turn."""
    for work in works.values():
        for _ in range(3):
            work()
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(count):
        for name, work in works.items():
            spent[name].append(milliseconds(work))
    return {name: median(times) for name, times in spent.items()}


def host() -> dict[str, float]:
    """A token's time in 36 layers whose matrices are too small to count."""
    heads, width, room, begin = 4, 16, 600, 64
    sizes = {"hidden_size": heads * width, "intermediate_size": 128, "num_attention_heads": heads}
    config = llama.Qwen3VL_8BConfig(num_hidden_layers=LAYERS, num_key_value_heads=2, vocab_size=500, **sizes)
    config.head_dim = width
    model = llama.Llama2_(config, device=DEVICE, dtype=DTYPE, ops=comfy.ops.manual_cast)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    shape = (1, 2, room, width)
    past = [
        (torch.zeros(shape, device=DEVICE, dtype=DTYPE), torch.zeros(shape, device=DEVICE, dtype=DTYPE), 0)
    ] * LAYERS
    x = torch.randn(1, begin, heads * width, device=DEVICE, dtype=DTYPE)
    place = torch.tensor([[begin]], device=DEVICE)
    past = model.forward(None, embeds=x, past_key_values=past, position_ids=torch.arange(begin, device=DEVICE)[None])[2]
    loop = LayerLoop(model, past, begin, DTYPE)

    def ours() -> None:
        loop.read(x[:, :1])
        loop.forget(1)

    def comfyuis() -> None:
        model.forward(None, embeds=x[:, :1], past_key_values=past, position_ids=place)

    found = alternating({"ours_ms": ours, "comfyui_ms": comfyuis}, 40)
    return {**found, "of_comfyui": found["ours_ms"] / found["comfyui_ms"]}


def text(processor: Any) -> dict[str, float]:
    """Microseconds for each token of a long reply's text, at its beginning and at its end, and as it was before."""
    words = processor.tokenizer
    ids = words(" ".join(f"The {n}th boat is made of paper, not of wood." for n in range(600))).input_ids[:LONG]

    def decode(some: Any) -> str:
        return str(words.decode(list(some), skip_special_tokens=False))

    pieces, spent = TokenText(decode), []
    for token in ids:
        began = time.process_time()
        pieces.add(token)
        spent.append(1e6 * (time.process_time() - began))
    began = time.process_time()
    decode(ids)
    whole = 1e6 * (time.process_time() - began)
    return {
        "tokens": len(ids),
        "us_a_token": sum(spent) / len(ids),
        "us_first_500": sum(spent[:500]) / 500,
        "us_last_500": sum(spent[-500:]) / 500,
        "us_a_token_all_anew": whole,
    }


def make_models() -> tuple[Any, Any]:
    """transformers' model and ComfyUI's CLIP with the same random weights."""
    words, eyes = SHAPES[SHAPE]
    key_heads, width = (2, 16) if SHAPE == "small" else (8, 128)
    sections = [2, 3, 3] if SHAPE == "small" else [24, 20, 20]
    turning = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections, "mrope_interleaved": True}
    more = {"num_key_value_heads": key_heads, "head_dim": width, "vocab_size": 151936, "rope_parameters": turning}
    common = {"num_heads": 4 if SHAPE == "small" else 16, "patch_size": 16, "num_position_embeddings": 2304}
    tied = SHAPE == "4b"
    config = Qwen3VLConfig(
        text_config={**words, **more, "eos_token_id": 151645, "max_position_embeddings": 32768},
        vision_config={**eyes, **common, "out_hidden_size": words["hidden_size"]},
        tie_word_embeddings=tied,
    )
    torch.manual_seed(3)
    torch.set_default_dtype(DTYPE)
    with DEVICE:
        model = Qwen3VLForConditionalGeneration(config).eval()
    torch.set_default_dtype(torch.float32)
    kind = "4b" if tied else "8b"
    native.QWEN3VL_VISION[f"qwen3vl_{kind}"] = eyes
    native.QWEN3VL_VISION_COMMON = {**native.QWEN3VL_VISION_COMMON, "num_heads": common["num_heads"]}
    if SHAPE == "small":
        llama.Qwen3VL_8BConfig.head_dim, llama.Qwen3VL_8BConfig.rope_dims = width, sections
    options = {f"qwen3vl_{kind}_model_config": {**words, "num_key_value_heads": key_heads}}
    state = {name: weight.detach().to("cpu", copy=True) for name, weight in model.state_dict().items()}
    clip = comfy.sd.load_text_encoder_state_dicts(
        [state], clip_type=comfy.sd.CLIPType.QWEN_IMAGE, model_options=options
    )
    return model, clip


def question(noise: int) -> tuple[list[Message], list[Image.Image]]:
    pictures = [Image.effect_noise((SIDE, SIDE), 60 + noise + n).convert("RGB") for n in range(2)]
    return [Message("user", (*pictures, "paper boat " * (TEXT // 2)))], pictures


def speed(model: Any, clip: Any, processor: Any) -> dict[str, Any]:
    agent = NativeAgent.from_clip(clip, lambda: None)
    held = clips.held_by(clip)
    form = _form_of(held)
    assert held is not None and form is not None
    pictures, room = SeenPictures(), 4 * COUNT + 64
    opened: list[Any] = []

    def start(noise: int) -> None:
        for decoder in opened:
            decoder.close()
        row = form.row(held, question(noise)[0], Sampling())
        opened[:] = [clips.started_decoder(clip, row, room, 0, pictures)]

    found: dict[str, Any] = {"start_first_ms": milliseconds(lambda: start(0))}
    found["start_ms"] = median(milliseconds(lambda n=n: start(n)) for n in (10, 20, 30))
    found["start_known_pictures_ms"] = median(milliseconds(lambda: start(30)) for _ in range(3))
    decoder = opened[0]
    own, tokens = decoder.loop, list(range(1000, 1001 + DRAFTS))
    assert own is not None, "the layers are not called by our loop"
    found["prompt_tokens"] = decoder.past[0][2]

    def one() -> None:
        decoder.loop = own
        decoder.read(tokens[:1])
        decoder.forget(1)

    def without_graph() -> None:
        passes, decoder.passes = decoder.passes, -1
        one()
        decoder.passes = passes

    def several() -> None:
        decoder.loop = own
        decoder.read(tokens)
        decoder.forget(len(tokens))

    def comfyuis() -> None:
        decoder.loop = None
        decoder.read(tokens[:1])

    if GPU:
        x = torch.zeros(1, 1, held.config.hidden_size, device=DEVICE, dtype=DTYPE)
        found["graph_warm_up_ms"] = milliseconds(lambda: captured_pass(own, 1, x))
        found["graph"] = own.capturable
    works = {"one": one, "without_graph": without_graph, "several": several, "comfyui": comfyuis}
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "x " * TEXT}]}]
    asked = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[asked], images=question(0)[1], return_tensors="pt").to(DEVICE)

    def generate(length: int) -> None:
        model.generate(**inputs, do_sample=False, max_new_tokens=length, min_new_tokens=length)

    found |= {f"{name}_ms": ms for name, ms in alternating(works, COUNT).items()}
    generate(2)
    times = [(milliseconds(lambda: generate(1)), milliseconds(lambda: generate(1 + COUNT))) for _ in range(3)]
    found["generate_ms"] = median((long - short) / COUNT for short, long in times)
    found["generate_start_ms"] = median(short for short, _ in times)
    found["x_generate"] = found["generate_ms"] / found["one_ms"]
    found["x_comfyui"] = found["comfyui_ms"] / found["one_ms"]
    found["drafts_cost"] = found["several_ms"] / found["one_ms"]
    found |= bound(held, found["one_ms"])
    decoder.close()
    return {**found, "agent": agent.name}


def bound(held: Any, one_ms: float) -> dict[str, float]:
    """How near a token comes to the time in which its weights can be read, from a copy of as many bytes."""
    layers = held.transformer.model.layers
    head = held.transformer.model.embed_tokens.weight
    size = sum(weight.nbytes for weight in layers.parameters()) + head.nbytes
    block = torch.empty(min(size, 2**30), dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(block)
    ms = alternating({"copy": lambda: other.copy_(block)}, 10)["copy"]
    rate = 2 * block.nbytes / ms  # bytes a millisecond, read and written
    return {"weights_gb": size / 2**30, "copy_gb_a_second": rate / 2**30 * 1000, "of_bound": size / rate / one_ms}


def swap(clip: Any) -> dict[str, float]:
    """Milliseconds until agent and generator lie on the device again, each after the other had to leave."""
    side = 4096 if GPU else 256
    count = max(1, round(GENERATOR_GB * 2**30 / (side * side * DTYPE.itemsize)))
    stack = torch.nn.Sequential(*(torch.nn.Linear(side, side, bias=False, dtype=DTYPE) for _ in range(count)))
    generator = comfy.model_patcher.ModelPatcher(stack, memory.get_torch_device(), torch.device("cpu"))

    def anew(patcher: Any) -> float:
        memory.unload_all_models()
        return milliseconds(lambda: memory.load_models_gpu([patcher]))

    both = [(anew(clip.patcher), anew(generator)) for _ in range(3)]
    return {"agent_ms": median(a for a, _ in both), "generator_ms": median(b for _, b in both)}


def main() -> None:
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if GPU else "CPU",
        "shape": SHAPE,
        "dtype": str(DTYPE).removeprefix("torch."),
    }

    def done(name: str, part: dict[str, Any]) -> None:
        found[name] = part
        print(f"{name}: {json.dumps(part)}", flush=True)

    torch.set_num_threads(1)
    with torch.inference_mode():
        processor = make_processor(Path.cwd())
        done("host", host())
        done("text", text(processor))
        model, clip = make_models()
        done("speed", speed(model, clip, processor))
        if GPU:
            done("memory", {"peak_gb": torch.cuda.max_memory_allocated() / 2**30})
        del model
        done("swap", swap(clip))
    print("RESULT " + json.dumps(found))


main()
