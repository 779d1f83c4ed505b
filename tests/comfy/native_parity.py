"""Run inside ComfyUI's folder by test_agents.py: our native agent against transformers, token for token.

A tiny random Qwen3-VL with the real vocabulary is written as a Hugging Face checkpoint and loaded both
ways. Prints one JSON object with the greedy texts of each and the messages of the refused models.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

ARGUMENTS = sys.argv[1:]
sys.argv = sys.argv[:1] + ["--cpu", "--fp32-text-enc"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.sd  # noqa: E402
import comfy.text_encoders.qwen3vl as native  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from pack_inside import load_pack  # noqa: E402
from PIL import Image  # noqa: E402
from qwen_checkpoint import TEXT, VISION, make_checkpoint, make_processor  # noqa: E402


def load_agents(repository: Path):
    load_pack(repository)
    from interleave_pack.nodes import native_agent

    return native_agent


def native_clip(folder: Path, kind: comfy.sd.CLIPType) -> comfy.sd.CLIP:
    state = {}
    for shard in sorted(folder.glob("*.safetensors")):
        state.update(comfy.utils.load_torch_file(str(shard)))
    small = {k: v for k, v in TEXT.items() if k != "head_dim"}
    options = {f"{name}_model_config": small for name in ("qwen3vl_8b", "qwen3vl_4b", "qwen3_8b", "qwen3_4b")}
    return comfy.sd.load_text_encoder_state_dicts([state], clip_type=kind, model_options=options)


def encoded(clip: comfy.sd.CLIP) -> list[torch.Tensor]:
    """What an image model is given, with and without a picture."""
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for pictures in ([], [picture]):
        result = clip.encode_from_tokens_scheduled(clip.tokenize("a red ball " * 8, images=pictures))
        found += [v for v in (result[0][0], *result[0][1].values()) if torch.is_tensor(v)]
    return found


def main(repository: Path, work: Path) -> None:
    agents = load_agents(repository)
    from interleave_pack.interleave_thinker.agents.base import Message, Sampling
    from interleave_pack.interleave_thinker.agents.transformers_agent import TransformersAgent
    from interleave_pack.interleave_thinker.errors import AgentError

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage()) if "this ComfyUI has no" in record.msg else None
    logging.getLogger().addHandler(handler)
    native.QWEN3VL_VISION["qwen3vl_8b"] = VISION
    native.QWEN3VL_VISION_COMMON = {**native.QWEN3VL_VISION_COMMON, "num_heads": 4}
    model = make_checkpoint(work, "30MB")
    processor = make_processor(Path.cwd())
    reference = TransformersAgent(model, processor, "hf")
    clip = native_clip(work, comfy.sd.CLIPType.QWEN_IMAGE)
    agent = agents.NativeAgent.from_clip(clip, lambda: None)
    torch.manual_seed(0)
    first = Image.effect_noise((96, 64), 90).convert("RGB")
    second = Image.effect_noise((64, 160), 60).convert("RGB")
    cases = {
        "text": ("Plan a story about a paper boat.",),
        "one image": (first, "Describe it."),
        "two images of different sizes": ("Before: ", first, " after: ", second, " Judge (a:1.3) the change."),
    }
    found: dict[str, object] = {"shards": len(list(work.glob("*.safetensors")))}
    sampling = Sampling(max_tokens=24)
    for name, parts in cases.items():
        messages = [Message("user", parts)]
        found[name] = [a.complete(messages, sampling).text for a in (agent, reference)]
    sampled = Sampling(max_tokens=24, temperature=0.8, seed=4)
    found["seeded"] = [agent.complete([Message("user", ("x",))], sampled).text for _ in range(2)]
    calls = []

    def interrupt() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    agent.check = interrupt
    try:
        agent.complete([Message("user", ("x",))], sampling)
    except KeyboardInterrupt:
        found["interrupted after checks"] = len(calls)
    try:
        agents.NativeAgent(_Wordless(), "wordless", lambda: None).complete([Message("user", ("x",))], sampling)
    except AgentError as error:
        found["wordless"] = str(error)
    found["no clip"] = []
    for value in (None, "qwen3vl_8b", clip.cond_stage_model, _Wordless()):
        try:
            agents.NativeAgent.from_clip(value, lambda: None)
        except AgentError as error:
            found["no clip"].append(str(error))
    agent.check = lambda: None
    if not any("decoded token by token" in line for line in said):
        found["form"] = formed_replies(agents, agent)
        found["changed"] = changed_modules(agent)
    found["log"] = said
    print("RESULT " + json.dumps(found))


def changed_modules(agent) -> dict[str, list]:
    """What it writes where something was done to a product or a norm: as always, one token at a time by ComfyUI's own
    forward, and whether that is another text than without the change.
    """
    from interleave_pack.interleave_thinker.agents.base import Message, Sampling
    from interleave_pack.nodes.comfy_internals import captured_pass, clips

    layer = agent.clip.cond_stage_model.qwen3vl_8b.transformer.model.layers[1]
    modules = [layer.self_attn.v_proj, layer.mlp.down_proj]
    norm = layer.post_attention_layernorm

    def text() -> str:
        return agent.complete([Message("user", ("x x x x",))], Sampling(max_tokens=24, temperature=0.0)).text

    def patched(module) -> None:
        module.weight_function = [lambda weight: weight * -3]

    def hooked(module) -> None:
        module.hook = module.register_forward_hook(lambda _, __, made: made * -3)

    def asked_before(module) -> None:
        module.hook = module.register_forward_pre_hook(lambda _, given: (given[0] * -3,))

    def replaced(module) -> None:
        own = module.forward
        module.forward = lambda x: own(x) * -3

    def converted(module) -> None:
        module.weight.data = (module.weight.data * -3).to(torch.float16)

    plain, found = text(), {}
    for change in (patched, hooked, asked_before, replaced, converted):
        of = [
            *modules,
            *([norm] if change is not patched else []),
            *([layer.mlp] if change in (hooked, replaced) else []),
        ]
        for number, module in enumerate(of):
            kept = module.weight.data if hasattr(module, "weight") else None
            change(module)
            ours = text()
            own_loop, clips.TokenDecoder._own_loop = clips.TokenDecoder._own_loop, lambda _: None
            wanted = text()
            clips.TokenDecoder._own_loop = own_loop
            found[f"{change.__name__}, {number}: {type(module).__name__}"] = [ours, wanted, wanted != plain]
            if change is patched:
                module.weight_function = []
            vars(module).pop("forward", None)
            if "hook" in vars(module):
                vars(module).pop("hook").remove()
            if kept is not None:
                module.weight.data = kept
    found["and back"] = [text(), plain, True]
    own_capture, made = clips.captured_pass, []
    clips.captured_pass = lambda *of: made.append(of[1]) or captured_pass.FixedPass(*of)
    for earlier in ((), (plain,), (plain[: len(plain) // 2],)):
        sampling = Sampling(max_tokens=24, temperature=0.0, earlier=earlier)
        fixed = agent.complete([Message("user", ("x x x x",))], sampling).text
        found[f"in fixed memory, {len(earlier)} {len(earlier[0]) if earlier else 0}"] = [fixed, plain, True]
    clips.captured_pass = own_capture
    found["shapes"] = [sorted(set(made)), [1, 9], True]
    return found


def formed_replies(agents, agent) -> dict[str, list]:
    """What a random model writes behind a closed thought, a begun answer and an open thought, with the form and without.

    The first tokens are put into its mouth; all others are its own, or the form's.
    """
    from interleave_pack.interleave_thinker.agents import decoding
    from interleave_pack.interleave_thinker.agents.base import Message, Sampling
    from interleave_pack.interleave_thinker.roles.critic import JUDGMENT_FORM

    held = agents.held_by(agent.clip)
    chosen = decoding._chosen
    found = {}
    try:
        for begin in ("<think>a</think>", "<think>a</think>\n<answer>{'previous", "<think><answer>"):
            for how in ({}, {"strictness": 50.0}, {"strictness": -50.0}, {"keep_form": False}):
                ids = held.ids(begin)

                def begun(logits, sampling, place, *more, ids=ids):
                    if place < len(ids):
                        logits = logits.clone()
                        logits[ids[place]] = logits.max() + 100
                    return chosen(logits, sampling, place, *more)

                decoding._chosen = begun
                sampling = Sampling(max_tokens=40, form=JUDGMENT_FORM, **how)
                done = agent.complete([Message("user", ("x",))], sampling)
                found.setdefault(begin, []).append([done.text, done.log_odds])
    finally:
        decoding._chosen = chosen
    return found


class _Wordless:
    """A CLIP that can write in no way that we know."""

    def tokenize(self, text: str, images: list) -> dict:
        return {}


if __name__ == "__main__":
    main(*map(Path, ARGUMENTS))
