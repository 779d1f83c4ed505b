"""Data and training against real ComfyUI: the user's own workflow as the generator, and the result given back."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from comfy_server import COMFYUI, Comfy
from inside import run_inside
from PIL import Image
from test_bench_comfy import plain

from interleave_thinker.agents.base import chat_content
from interleave_thinker.cli import main
from interleave_thinker.research.data.requests import tiny_requests
from interleave_thinker.research.data.trajectories import RUNS, TrajectoryOptions, is_done, make_trajectories
from interleave_thinker.research.worker_pool import WorkerSpec
from interleave_thinker.resolve import GeneratorChoice
from interleave_thinker.roles.critic import critic_turn
from interleave_thinker.storage.run_folder import read_trajectory

COUNT = 6


@pytest.fixture(scope="module")
def choice(tmp_path_factory) -> GeneratorChoice:
    folder = tmp_path_factory.mktemp("graphs")
    for name, edit in (("draw", False), ("edit", True)):
        (folder / f"{name}.json").write_text(json.dumps(plain(edit)))
    return GeneratorChoice("comfyui", folder / "draw.json", folder / "edit.json")


def attempts(out: Path) -> dict[str, list[tuple[int, int, str, str]]]:
    """By run: step, attempt, prompt and picture of each attempt."""
    return {
        run.name: [(a.step, a.attempt, a.prompt, a.image_key) for a in read_trajectory(run)]
        for run in sorted((out / RUNS).iterdir())
    }


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_run_loses_no_trajectory(
    tmp_path: Path, choice: GeneratorChoice, new_comfy
) -> None:
    """Two real servers under Ray, one SIGKILLed as soon as some requests are done: what comes out is what one server
    makes alone, every attempt once."""
    pytest.importorskip("ray")
    servers: list[Comfy] = [new_comfy(), new_comfy()]
    requests = [r for r in tiny_requests(3 * COUNT, 21, tmp_path) if r.category == "story"][:COUNT]
    chosen = TrajectoryOptions(choice, "tiny:oracle", t_max=2)
    done: list[str] = []

    def kill() -> None:
        while len(done) < 2:
            time.sleep(0.05)
        servers[1].kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    begun = time.monotonic()
    failed = make_trajectories(
        requests,
        tmp_path,
        tmp_path / "two",
        chosen,
        ray_workers=[WorkerSpec(server=s.url) for s in servers],
        on_result=lambda request, error: done.append(request.id),
    )
    two = time.monotonic() - begun
    killer.join(60)
    assert failed == 0 and sorted(done) == sorted(r.id for r in requests), "each once, none lost"
    assert all(is_done(r, tmp_path / "two") for r in requests)
    begun = time.monotonic()
    alone = TrajectoryOptions(
        GeneratorChoice("comfyui", choice.workflow, choice.edit_workflow, server=servers[0].url), "tiny:oracle", t_max=2
    )
    assert make_trajectories(requests, tmp_path, tmp_path / "one", alone) == 0
    print(f"two servers, one killed: {two:.1f} s; one server: {time.monotonic() - begun:.1f} s")
    assert attempts(tmp_path / "two") == attempts(tmp_path / "one")


@pytest.mark.slow
def test_an_8b_shaped_checkpoint_goes_all_the_way_to_load_clip(tmp_path: Path) -> None:
    """Real names, vocabulary and tokenizer, three shards: SFT (LoRA and full), GRPO, merge and export; then the same
    greedy tokens in ComfyUI's own loader and in transformers."""
    from qwen_checkpoint import make_checkpoint, make_processor

    base, data = tmp_path / "base", tmp_path / "data"
    make_checkpoint(base, "40MB")
    make_processor(COMFYUI).save_pretrained(base)
    assert len(list(base.glob("*.safetensors"))) == 3
    (data / "images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.effect_noise((64, 64), 80).convert("RGB").save(data / "images" / f"{name}.png")
    pictures = ["images/a.png", "images/b.png"]
    content, _ = chat_content(critic_turn(*map(Path, pictures), "a blue ball", "a ball"))
    reply = '<think>so</think><answer>{"previous_step_success": false, "refine_prompt": "a blue ball"}</answer>'
    row = {
        "prompt": [{"role": "user", "content": content}],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": reply}]}],
        "images": pictures,
    }
    state = {
        "origin_prompt": "a big red circle in the center on a white background",
        "rewritten_prompt": "",
        "origin_image_path": "data/interleave/white.png",
        "edited_image_path": pictures[1],
        "evaluation": {"semantics": 2, "quality": 5, "success": False},
    }
    (data / "critic_sft.jsonl").write_text((json.dumps(row) + "\n") * 4)
    (data / "critic_rl.jsonl").write_text((json.dumps(state) + "\n") * 2)
    train = f"--data {data} --steps 2 --precision fp32"
    for line in (
        f"sft critic --model {base} --out {tmp_path}/lora --lora-rank 4 --learning-rate 1e-2 --batch 2 {train}",
        f"adapters merge {base} {tmp_path}/lora/model --out {tmp_path}/merged --dtype float32",
        f"sft critic --model {tmp_path}/merged --out {tmp_path}/full --learning-rate 1e-3 --batch 2 {train}",
        f"grpo --model {tmp_path}/full/model --out {tmp_path}/rl --generator tiny --judge checker --group 2 --batch 2 "
        f"--accumulate 1 --max-tokens 8 {train}",
        f"adapters export-comfy {tmp_path}/rl/model --out {tmp_path}/critic.safetensors --dtype float32",
    ):
        assert main(line.split()) == 0, line
    native, reference = run_inside(
        "trained_parity.py", str(tmp_path / "rl" / "model"), str(tmp_path / "critic.safetensors")
    )
    assert native == reference and len(reference) > 10
    of_base = run_inside("trained_parity.py", str(base), str(tmp_path / "critic.safetensors"))
    assert of_base[1] != reference, "training changed what it says"
