"""Run inside ComfyUI's folder by test_agents.py: what the native agent asks ComfyUI's memory manager for, and gives back.

On a CPU nothing is freed for it; what it asks is compared with what it then takes. The same model in fp8, int8 and nvfp4 files
is asked too. Prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import sys
import weakref
from pathlib import Path

REPO, WORK = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = sys.argv[:1]
from native_parity import comfy, load_agents, native, native_clip  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import comfy.model_management as memory  # noqa: E402
import comfy.model_prefetch as prefetch  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from PIL import Image  # noqa: E402
from quantised_files import loaded, quantised  # noqa: E402
from qwen_checkpoint import make_checkpoint  # noqa: E402

noted: list[object] = []
caches: list[weakref.ref] = []
picture = Image.effect_noise((256, 288), 90).convert("RGB")
ASKED = [Message("user", (picture, "Judge it."))]
SHORT = Sampling(max_tokens=12)


def noting(owner: object, name: str, note: object) -> None:
    """Call ComfyUI's own function and note it."""
    own = getattr(owner, name)

    def called(*arguments: object, **options: object) -> object:
        result = own(*arguments, **options)
        noted.append(note(result, *arguments, **options))
        return result

    setattr(owner, name, called)


def cache_made(made: list, *_: object) -> list[object]:
    tensors = [part for layer in made for part in layer[:2]]
    if tensors[0].device.type != "meta":
        caches.extend(map(weakref.ref, tensors))
    return ["cache", tensors[0].device.type, sum(t.nbytes for t in tensors)]


def left() -> int:
    """Caches that are still in memory."""
    gc.collect()
    return sum(ref() is not None for ref in caches)


def asked_of_the_manager() -> dict[str, object]:
    clip = native_clip(WORK, comfy.sd.CLIPType.QWEN_IMAGE)
    agent = agents.NativeAgent.from_clip(clip, lambda: None)
    noting(memory, "load_models_gpu", lambda _, models, memory_required=0, **__: ["room", memory_required])
    noting(memory, "cuda_device_context", lambda _, device: ["device", str(device)])
    noting(prefetch, "cleanup_prefetch_queues", lambda _: ["let go"])
    noting(native.Qwen3VL, "init_kv_cache", cache_made)
    found: dict[str, object] = {}
    for name, asked, sampling in (
        ("short", [Message("user", ("Hi.",))], SHORT),
        ("long", [Message("user", ("Hi.",))], Sampling(max_tokens=2000)),
        ("seeing", ASKED, SHORT),
    ):
        noted.clear()
        agent.complete(asked, sampling, lambda text: len(text) < 40)
        found[name] = list(noted)
    found["left"] = left()

    def stop() -> None:
        if len(noted) > 2:
            raise KeyboardInterrupt

    noted.clear()
    agent.check = stop
    try:
        agent.complete(ASKED, SHORT)
    except KeyboardInterrupt as error:
        found["left after an interrupt"] = [left(), error.__traceback__ is not None]
    found["interrupted"] = list(noted)
    agent.check = lambda: None
    noted.clear()
    agents.started_decoder = lambda *_: None
    agent.complete(ASKED, SHORT)
    found["by generate"] = list(noted)
    return found


def in_other_formats() -> dict[str, object]:
    found = {}
    for kind in ("float8_e4m3fn", "int8_tensorwise", "nvfp4"):
        clip = loaded(quantised(WORK, kind))
        agent = agents.NativeAgent.from_clip(clip, lambda: None)
        written = [agent.complete(ASKED, SHORT).text for _ in range(2)]
        prompt = agents._QWEN.row(agents.held_by(clip), ASKED, SHORT)
        ids = clip.generate({"qwen3vl_8b": [prompt]}, do_sample=False, max_length=SHORT.max_tokens)
        layer = clip.cond_stage_model.qwen3vl_8b.transformer.model.layers[0].mlp.up_proj.weight
        found[kind] = [*written, clip.decode(ids, skip_special_tokens=False), type(layer).__name__]
    return found


make_checkpoint(WORK, "1GB")
found = {"formats": in_other_formats(), **asked_of_the_manager()}
print("RESULT " + json.dumps(found))
