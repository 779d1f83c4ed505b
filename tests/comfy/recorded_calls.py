"""Run inside ComfyUI's folder by benchmarks/agent_speed.py and test_decoding_comfy.py.

Arguments: repository, folder with base and agents, file of recorded calls, how many of them greedy and how many at
temperature 0.7. The calls of a run stand together: each may look into the replies of its run before it. Prints one JSON
object.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

REPO, WEIGHTS, CALLS, COUNT, SAMPLED = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:6])
sys.argv = sys.argv[:1]
from native_parity import comfy, load_agents  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import torch  # noqa: E402
from interleave_pack.interleave_thinker.agents.adapter_folder import whole_weights  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Sampling, chat_content  # noqa: E402
from interleave_pack.interleave_thinker.agents.cached_decoder import CachedDecoder  # noqa: E402
from interleave_pack.interleave_thinker.agents.drafts import Drafts  # noqa: E402
from interleave_pack.interleave_thinker.agents.transformers_agent import load_agent  # noqa: E402
from interleave_pack.interleave_thinker.reading.judgments import read_judgment  # noqa: E402
from interleave_pack.interleave_thinker.roles.critic import critic_turn, judge, white_canvas  # noqa: E402
from interleave_pack.nodes.comfy_internals.clips import TokenDecoder  # noqa: E402
from PIL import Image  # noqa: E402
from tiny_clip import fit_comfyui, tiny_clip  # noqa: E402

LENGTH = 160
PROMPTS = [str(WEIGHTS / "critic" / "prompts")]


def recorded() -> list[tuple[str, Any]]:
    """(run, what is asked) of each call, in the order in which the loop made them."""

    def opened(name: str) -> Image.Image | None:
        return Image.open(name).convert("RGB") if name else None

    records = json.loads(CALLS.read_text(encoding="utf-8"))
    return [(r["run"], (opened(r["before"]), opened(r["after"]), r["prompt"], r["used"])) for r in records]


class Reference:
    """Plain `generate` of the whole answer."""

    def __init__(self) -> None:
        agent = load_agent(WEIGHTS / "critic", dtype="float32", device="cpu")
        self.model, self.processor = agent.model, agent.processor

    def __call__(self, asked: Any, earlier: tuple[str, ...], seed: int) -> Any:
        before, after, prompt, used = asked
        content, images = chat_content(critic_turn(before or white_canvas(after.size), after, prompt, used, PROMPTS))
        turn = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        inputs = self.processor(text=[text], images=images, return_tensors="pt")
        with torch.inference_mode():
            ids = self.model.generate(**inputs, do_sample=False, max_new_tokens=LENGTH)
        reply = self.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return read_judgment(reply)


class Asked:
    def __init__(self, agent: Any, temperature: float = 0.0):
        self.agent, self.temperature = agent, temperature

    def __call__(self, asked: Any, earlier: tuple[str, ...], seed: int) -> Any:
        sampling = Sampling(LENGTH, temperature=self.temperature, seed=seed, earlier=earlier)
        return judge(self.agent, *asked, sampling=sampling, prompt_folders=PROMPTS)


class NoDrafts(Drafts):
    def guess(self, most: int = 0) -> list[int]:
        return []


class TokenByToken(agents.NativeAgent):  # type: ignore[misc, name-defined]
    def _drafts(self, *_: Any) -> Drafts:
        return NoDrafts()


def native(kind: Any, options: Any) -> Any:
    return kind.from_clip(tiny_clip(whole_weights(WEIGHTS / "critic"), options), lambda: None)


COUNTS: Counter[str] = Counter()


def count_work() -> None:
    """From now on COUNTS tells passes, tokens and pictures of both local agents."""

    def counted(kind: Any) -> None:
        read = kind.read

        def reading(self: Any, tokens: Any) -> Any:
            COUNTS["forwards"] += 1
            return read(self, tokens)

        kind.read = reading

    counted(TokenDecoder)
    counted(CachedDecoder)
    start, look = TokenDecoder.start, comfy.text_encoders.qwen3vl.Qwen3VLVisionModel.forward

    def starting(self: Any, *asked: Any) -> None:
        start(self, *asked)
        COUNTS["prefilled"] += self.past[0][2]

    def looking(self: Any, *seen: Any) -> Any:
        COUNTS["images"] += 1
        return look(self, *seen)

    TokenDecoder.start = starting  # type: ignore[method-assign]
    comfy.text_encoders.qwen3vl.Qwen3VLVisionModel.forward = looking


def ask(calls: list[tuple[str, Any]], sides: dict[str, Any]) -> tuple[dict[str, list[Any]], dict[str, Counter[str]]]:
    """What each side says to each call, and what that took."""
    said: dict[str, list[Any]] = {name: [] for name in sides}
    took: dict[str, Counter[str]] = {name: Counter() for name in sides}
    seconds: dict[str, float] = dict.fromkeys(sides, 0.0)
    for _, run in groupby(enumerate(calls), key=lambda entry: entry[1][0]):
        earlier: dict[str, tuple[str, ...]] = dict.fromkeys(sides, ())
        for number, (_, asked) in run:
            for name, side in sides.items():
                COUNTS.clear()
                began = time.process_time()
                found = side(asked, earlier[name], number)
                seconds[name] += time.process_time() - began
                took[name] += COUNTS
                said[name].append(found)
                earlier[name] = (found.raw, *earlier[name])
    for name in sides:
        took[name]["ms"] = round(1000 * seconds[name])
    return said, took


def verdict(judgment: Any) -> Any:
    return judgment.accepted, judgment.parsed, "" if judgment.accepted else judgment.refined_prompt


def same(said: list[Any], others: list[Any], of: Any) -> float:
    return sum(of(a) == of(b) for a, b in zip(said, others, strict=True)) / max(1, len(said))


def main() -> None:
    torch.set_num_threads(1)
    recorded_calls, options = recorded(), fit_comfyui(WEIGHTS / "base")
    calls = recorded_calls[:COUNT]
    sides: dict[str, Any] = {
        "reference": Reference(),
        "transformers": Asked(load_agent(WEIGHTS / "critic", dtype="float32", device="cpu")),
        "native": Asked(native(agents.NativeAgent, options)),
        "token by token": Asked(native(TokenByToken, options)),
    }
    for side in sides.values():  # what is made once
        side(calls[0][1], (), 0)
    count_work()
    said, took = ask(calls, sides)
    drawn = {name: Asked(side.agent, 0.7) for name, side in sides.items() if isinstance(side, Asked)}
    told, work = ask(recorded_calls[:SAMPLED], drawn)
    by_native, count = took["native"], max(1, len(calls))
    equal = {name: same(said[name], said["reference"], verdict) for name in sides}
    words = [sum(len(sides["native"].agent._known.tokens_of(j.raw)) for j in said["native"])]
    print(
        "RESULT "
        + json.dumps(
            {
                "calls": len(calls),
                "runs": len({run for run, _ in calls}),
                "equal": min(equal.values()),
                "equal_each": equal,
                "ratio_transformers": took["reference"]["ms"] / took["transformers"]["ms"],
                "ratio_native": took["reference"]["ms"] / by_native["ms"],
                "ratio_token_by_token": took["reference"]["ms"] / took["token by token"]["ms"],
                "forwards_share": by_native["forwards"] / took["token by token"]["forwards"],
                "images_per_call": by_native["images"] / count,
                "prefilled": by_native["prefilled"] / count,
                "decoded": sum(words) / count,
                "ms_a_call": {name: round(took[name]["ms"] / count, 1) for name in sides},
                "sampled": len(told["native"]),
                "same_tokens": same(told["native"], told["token by token"], lambda j: j.raw),
                "sampled_forwards_share": work["native"]["forwards"] / max(1, work["token by token"]["forwards"]),
                "sampled_verdicts_like_transformers": same(told["native"], told["transformers"], verdict),
            }
        )
    )


main()
