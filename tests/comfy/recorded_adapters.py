"""The tiny world's planner and critic as adapters of one CLIP; run inside ComfyUI's folder.

By test_clip_adapters.py and benchmarks/clip_adapters.py.

Arguments: repository, folder with base and adapters, work folder. Calls of both roles are recorded from attempts of the
tiny generator and from requests; each is answered by the adapter beside the base, and by a CLIP with the pairs in its
weights, in float32, fp8 and int8. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPO, WEIGHTS, WORK, COUNT = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
sys.argv = sys.argv[:1]
from native_parity import comfy, encoded, load_agents  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import torch  # noqa: E402
from interleave_pack.interleave_thinker.agents.adapter_file import AdapterFile, hf_name, read_adapter  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_pack.interleave_thinker.reading.judgments import read_judgment  # noqa: E402
from interleave_pack.interleave_thinker.research.tinyworld import attempts  # noqa: E402
from interleave_pack.interleave_thinker.resolve import load_pipeline  # noqa: E402
from interleave_pack.interleave_thinker.roles.critic import critic_turn, white_canvas  # noqa: E402
from interleave_pack.interleave_thinker.roles.planner import planner_turn  # noqa: E402
from interleave_pack.interleave_thinker.tinyworld.requests import held_out  # noqa: E402
from PIL import Image  # noqa: E402
from quantised_files import quantised  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_clip import fit_comfyui, tiny_clip  # noqa: E402

ROLES = ("planner", "critic")
WHOLE, FORMATS = "float32", ("float8_e4m3fn", "int8_tensorwise")
LENGTH = {"planner": 700, "critic": 160}


def recorded() -> dict[str, list[list[Message]]]:
    prompts = {role: [str(WEIGHTS / role / "prompts")] for role in ROLES}
    plans = [planner_turn(r.text, r.images(), 10, prompts["planner"]) for r in held_out(COUNT, 5)]
    attempts.WALKERS = max(2, COUNT // 12)  # each walks until it has made a dozen attempts
    attempts.make_attempts(load_pipeline(WEIGHTS / "generator", device="cpu").pipeline, WORK / "attempts", COUNT, 5)
    lines = (WORK / "attempts" / "attempts.jsonl").read_text(encoding="utf-8").splitlines()[-COUNT:]
    judged = []
    for record in map(json.loads, lines):
        before, after = (
            Image.open(WORK / "attempts" / name).convert("RGB") if name else None
            for name in (record["before_image"], record["after_image"])
        )
        judged.append(
            critic_turn(before or white_canvas(after.size), after, record["prompt"], record["used"], prompts["critic"])
        )
    return {
        role: [[Message("user", turn)] for turn in turns] for role, turns in (("planner", plans), ("critic", judged))
    }


def adapter(role: str) -> AdapterFile:
    return read_adapter(WEIGHTS / role / "adapter.safetensors")


def merged(role: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The base's weights with the role's pairs and constants in them."""
    found = dict(state)
    for layer, added in adapter(role).constants.items():
        found[hf_name(layer) + ".bias"] = found[hf_name(layer) + ".bias"] + added
    for layer, pair in adapter(role).pairs.items():
        name = hf_name(layer) + ".weight"
        found[name] = found[name] + (pair.scale * pair.up.float() @ pair.down.float()).view_as(found[name])
    return found


def clip_in(kind: str, name: str, state: dict[str, torch.Tensor], options: dict[str, Any]) -> comfy.sd.CLIP:
    if kind == WHOLE:
        return tiny_clip(state, options)
    folder = WORK / name
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return tiny_clip(comfy.utils.load_torch_file(str(quantised(folder, kind))), options)


def replies(agent: agents.NativeAgent, role: str, calls: list[list[Message]]) -> list[str]:
    return [agent.complete(asked, Sampling(LENGTH[role], temperature=0.0)).text for asked in calls]


def verdicts(texts: list[str]) -> list[bool | None]:
    read = map(read_judgment, texts)
    return [j.accepted if j.parsed else None for j in read]


def share(a: list[Any], b: list[Any]) -> float:
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


def main() -> None:
    calls = recorded()
    options = fit_comfyui(WEIGHTS / "base")
    state = {name: weight.float() for name, weight in load_file(WEIGHTS / "base" / "model.safetensors").items()}
    said: dict[tuple[str, str, str], list[str]] = {}
    equal = True
    for kind in (WHOLE, *FORMATS):
        clip = clip_in(kind, "base", state, options)
        coded = [encoded(clip)]
        for role in ROLES:
            agent = agents.NativeAgent.from_clip(clip, lambda: None, adapter(role))
            said[kind, role, "beside"] = replies(agent, role, calls[role])
            coded.append(encoded(clip))
            whole = agents.NativeAgent.from_clip(clip_in(kind, role, merged(role, state), options), lambda: None)
            said[kind, role, "merged"] = replies(whole, role, calls[role])
        equal = equal and all(all(map(torch.equal, coded[0], c)) for c in coded)
    found: dict[str, Any] = {"calls": COUNT, "encoded_equal": equal}
    for kind in (WHOLE, *FORMATS):
        for role in ROLES:
            beside, whole, full = (
                said[key] for key in ((kind, role, "beside"), (kind, role, "merged"), (WHOLE, role, "merged"))
            )
            shares = {
                "replies_equal": share(beside, whole),
                "beside_as_float32": share(beside, full),
                "merged_as_float32": share(whole, full),
            }
            if role == "critic":
                shares["verdicts_equal"] = share(verdicts(beside), verdicts(whole))
                shares["verdicts_beside_as_float32"] = share(verdicts(beside), verdicts(full))
                shares["verdicts_merged_as_float32"] = share(verdicts(whole), verdicts(full))
            found[f"{kind} {role}"] = shares
    print("RESULT " + json.dumps(found))


main()
