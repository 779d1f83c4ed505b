"""Run inside ComfyUI's folder by test_agents.py: a CLIP whose chat form the pack does not know, by `clip.generate` alone.

A tiny random Gemma 3 with eyes. Prints what was said of one, two and no pictures, and how often the text was shown.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

REPO = Path(sys.argv[1])
sys.argv = sys.argv[:1]
from native_parity import comfy, load_agents  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import comfy.text_encoders.llama as llama  # noqa: E402
import comfy.text_encoders.lumina2 as lumina2  # noqa: E402
import sentencepiece  # noqa: E402
import torch  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from PIL import Image  # noqa: E402

WORDS = 400
MARK = "<end_of_turn>"
"""Ends a turn where it stands in a text."""
TEXT = {
    "vocab_size": WORDS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
VISION = {
    "image_size": 224,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
}


def tokenizer_file() -> torch.Tensor:
    made = io.BytesIO()
    lines = [Path(__file__).read_text(encoding="utf-8")]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines[0].splitlines()),
        model_writer=made,
        vocab_size=WORDS,
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return torch.frombuffer(bytearray(made.getvalue()), dtype=torch.uint8)


def seeing_clip() -> comfy.sd.CLIP:
    class Target:
        clip = lumina2.te(model_type="gemma3_4b_vision")
        tokenizer = lumina2.NTokenizer
        params: dict[str, object] = {}

    known = llama.Gemma3_4B_Vision_Config
    known.vision_config = {**known.vision_config, **VISION}
    names = ("gemma3_4b", "gemma3_4b_vision")
    small = {f"{name}_model_config": {**TEXT, "num_key_value_heads": 1} for name in names}
    clip = comfy.sd.CLIP(Target, tokenizer_data={"spiece_model": tokenizer_file()}, model_options=small)
    torch.manual_seed(5)
    for name, parameter in clip.cond_stage_model.named_parameters():
        parameter.data.normal_(0, 0.02 if "embed_tokens" in name else 0.3)
    return clip


def main() -> None:
    clip = seeing_clip()
    agent = agents.NativeAgent.from_clip(clip, lambda: None)
    torch.manual_seed(0)
    first, second = (Image.effect_noise(size, 90).convert("RGB") for size in ((96, 64), (64, 160)))
    asked = {
        "none": ("Plan a story.",),
        "first": (first, "Judge it."),
        "second": (second, "Judge it."),
        "both": (first, second, "Judge it."),
        "swapped": (second, first, "Judge it."),
    }
    shown: list[str] = []
    drawn = Sampling(max_tokens=12, temperature=0.2, seed=3)
    found: dict[str, object] = {"name": agent.name}
    for name, parts in asked.items():
        shown.clear()
        done = agent.complete([Message("user", parts)], drawn, lambda text: shown.append(text) is None)
        found[name] = [done.text, done.tokens, len(shown)]
    found["again"] = agent.complete([Message("user", asked["both"])], drawn).text
    prompt = agent._plain_tokens([Message("system", ("Be brief.",)), Message("user", asked["both"])], Sampling())
    entries = [e[0] for e in next(iter(prompt.values()))[0]]
    found["pictures"] = [list(e["data"].shape) for e in entries if isinstance(e, dict)]
    inner = getattr(clip.tokenizer, clip.tokenizer.clip).tokenizer
    for name, text in (("quiet", "Say it."), ("loud", f"Say {MARK} and <think> aloud.")):
        tokens = agent._plain_tokens([Message("user", (text,))], Sampling())
        words = [e[0] for e in next(iter(tokens.values()))[0]]
        found[name] = [clip.decode([w for w in words if w < WORDS]), words.count(inner.special_tokens[MARK])]
    found["text"] = clip.decode([e for e in entries if isinstance(e, int) and e < WORDS])
    print("RESULT " + json.dumps(found))


main()
