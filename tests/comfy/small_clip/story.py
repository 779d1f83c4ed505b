"""A story whose planner, critic and text encoder are one CLIP, or two, or whose generator runs without agents."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from comfy_server import Comfy, Ran
from comfy_test_graphs import Graph, node, ours, shipped, tiny_story, with_tiny_nodes
from learned import FILE, FIRST, PROMPTS, REFINED, REQUEST, ROLES, SECOND
from qwen_checkpoint import TEXT
from safetensors.torch import load_file, save_file

GENERATOR = "small_kontext.safetensors"
Agents = Literal["shared", "adapted", "apart", "none"]


@dataclass(frozen=True)
class StoryRun:
    """bytes: of all parameters in the server's memory after it. encoded: hashes of the conditioning by prompt. loads:
    names of the models that the server's log says were loaded.
    """

    ran: Ran
    bytes: int
    encoded: dict[str, set[str]]
    loads: list[str]


def prepare(base: Path, clip_file: Path) -> None:
    """Put the small CLIP (twice), a generator that takes its width, the prompt texts and the nodes into a server's folder."""
    models = Comfy(base).comfyui / "models"
    own = base / "models"
    for name in ("vae", "text_encoders"):
        (own / name).mkdir(parents=True)
    (own / "vae" / "tiny_taef1.safetensors").symlink_to(models / "vae" / "tiny_taef1.safetensors")
    for name in (FILE, "copy_of_" + FILE):
        shutil.copyfile(clip_file, own / "text_encoders" / name)
    weights = load_file(models / "diffusion_models" / "tiny_kontext.safetensors")
    wide = weights["txt_in.weight"].shape[0]
    random = torch.Generator().manual_seed(0)
    weights["txt_in.weight"] = torch.randn(wide, TEXT["hidden_size"], generator=random) * 0.1
    (own / "diffusion_models").mkdir()
    save_file(weights, own / "diffusion_models" / GENERATOR)
    prompts = base / "user" / "interleave_thinker" / "prompts" / "small"
    prompts.mkdir(parents=True)
    for name, text in PROMPTS.items():
        (prompts / name).write_text(text)
    nodes = base / "custom_nodes"
    nodes.mkdir()
    (nodes / "small_clip_nodes.py").symlink_to(Path(__file__).with_name("small_clip_nodes.py"))


def story(base: Path, agents: Agents, known: bool = True, forget: bool = False) -> Graph:
    """The tiny story's graph around the small models. known: whether the pack knows the CLIP's chat form. forget: in
    each attempt all models leave memory, as on a card that holds one at a time.
    """
    graph = tiny_story()
    graph["11"] = node("LoadSmallClip", file=str(base / "models" / "text_encoders" / FILE), known=known)
    graph["19"] = node("NoteConditioning", conditioning=["20", 0], prompt=["4", 1], forget=forget)
    graph["22"]["inputs"]["conditioning"] = graph["23"]["inputs"]["on_false"] = ["19", 0]
    graph["10"]["inputs"]["unet_name"] = GENERATOR
    graph["26"]["inputs"]["steps"] = 2
    graph["31"]["inputs"]["t_max"] = 3
    del graph["1"], graph["2"]
    if agents == "none":
        plan = "\n".join(f"{n}. {prompt}" for n, prompt in enumerate((FIRST, REFINED, SECOND), 1))
        graph["3"] = ours("PlanFromText", text=plan, max_steps=10, title="")
        del graph["30"], graph["31"]["inputs"]["judgment"]
        return graph
    clip: Any = ["11", 0]
    if agents == "apart":
        file = base / "models" / "text_encoders" / ("copy_of_" + FILE)
        graph["13"], clip = node("LoadSmallClip", file=str(file), known=known), ["13", 0]
    agent = ours("AgentFromCLIP", clip=clip, max_tokens=256, temperature=0.0, max_megapixels=1.0, prompts="small")
    graph["1"] = agent
    graph["3"]["inputs"]["request"] = REQUEST
    graph["30"]["inputs"]["agent"] = ["1", 0]
    if agents == "adapted":
        graph["1"], graph["2"] = (deepcopy(agent) for _ in ROLES)
        for node_id, role in zip("12", ROLES, strict=True):
            graph[node_id]["inputs"]["adapter"] = f"{role}.safetensors"
        graph["30"]["inputs"]["agent"] = ["2", 0]
    return graph


def workflow_of_one_clip(base: Path, name: str) -> Graph:
    """A shipped workflow whose own CLIP plans and judges, around the small models."""
    graph = with_tiny_nodes(shipped(name))
    graph["1"] = node("LoadSmallClip", file=str(base / "models" / "text_encoders" / FILE), known=True)
    graph["2"]["inputs"] |= {"prompts": "small", "max_tokens": 256}
    graph["3"]["inputs"]["request"] = REQUEST
    graph["10"]["inputs"]["unet_name"] = GENERATOR
    graph["12"]["inputs"]["vae_name"] = "tiny_taef1.safetensors"
    return graph


def tell(base: Path, graph: Graph) -> StoryRun:
    """Run a graph on a fresh server in `base`, which `prepare` made."""
    server = Comfy(base, ("--disable-api-nodes",)).start()
    try:
        ran = server.run(graph)
        facts = server.get("/small_clip")
        loads = [line.split()[-1] for line in server.log().splitlines() if "Requested to load" in line]
    finally:
        server.stop()
    return StoryRun(ran, facts["bytes"], {p: set(h) for p, h in facts["encoded"].items()}, loads)
