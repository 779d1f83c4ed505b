"""`recipes/8b.sh` from its first line to its last: real ComfyUI servers, Ray, DeepSpeed ZeRO-3 on two CPU processes.

Changed are sizes and machines: a checkpoint with the 8B's names and tiny dimensions, few requests, two steps, no vLLM.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from comfy_server import COMFYUI, REPO
from qwen_checkpoint import make_checkpoint, make_processor
from test_bench_comfy import plain

from interleave_thinker.agents.adapter_file import read_adapter

DEEPSPEED = ("deepspeed", "hjson", "ninja", "py-cpuinfo", "msgpack", "einops")
CHANGES = {
    "accelerate_8gpu.yaml": {"mixed_precision": "no", "num_processes": 2, "use_cpu": True},
    "sft_8b.yaml": {"steps": 2, "batch": 1, "accumulate": 1, "precision": "fp32"},
    "grpo_8b.yaml": {"steps": 2, "group": 2, "accumulate": 2, "precision": "fp32", "max-tokens": 8, "vllm": None}
    | {"vllm-memory": None, "vllm-context": None},
}


@pytest.fixture(scope="module")
def deepspeed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DeepSpeed in a folder of its own: installed beside the rest, it would be imported by every other test."""
    folder = tmp_path_factory.mktemp("deepspeed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *DEEPSPEED]
    subprocess.run(install, check=True, timeout=600)
    return folder


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """The recipes, with the changes; None leaves a line out."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "8b.sh").write_text((REPO / "recipes" / "8b.sh").read_text())
    for name, change in CHANGES.items():
        values = yaml.safe_load((REPO / "recipes" / name).read_text()) | change
        (folder / name).write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return folder


@pytest.mark.slow
def test_the_recipe_runs_as_it_is_written(tmp_path: Path, recipes: Path, deepspeed: Path, new_comfy) -> None:
    model = tmp_path / "Qwen3-VL-8B-Instruct"
    make_checkpoint(model, "40MB")
    make_processor(COMFYUI).save_pretrained(model)
    graphs = [tmp_path / "draw.json", tmp_path / "edit.json"]
    for file, edit in zip(graphs, (False, True), strict=True):
        file.write_text(json.dumps(plain(edit)))
    servers = [new_comfy(), new_comfy()]
    environment = {
        **os.environ,
        "MODEL": str(model),
        "TEACHER": "teacher:teacher",
        "JUDGE": "teacher:teacher",
        "COUNT": "24",
        "WORKFLOW": str(graphs[0]),
        "EDIT": str(graphs[1]),
        "SERVERS": " ".join(server.url for server in servers),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{REPO}:{Path(__file__).parent}:{deepspeed}",
    }
    out = tmp_path / "out"
    with (tmp_path / "log").open("w+") as log:
        line = ["bash", str(recipes / "8b.sh"), str(out)]
        done = subprocess.run(line, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=1500)
        log.seek(0)
        said = log.read()
    assert done.returncode == 0, said[-6000:]
    assert "ZeRO" in said or "deepspeed" in said.lower()
    tried = json.loads((out / "critic-rl" / "rollouts.json").read_text())
    assert tried["failed"] == tried["unscored"] == 0
    assert all((out / name).stat().st_size for name in ("planner.safetensors", "critic.safetensors"))
    for name in ("planner_lora", "critic_lora"):
        assert read_adapter(out / f"{name}.safetensors").pairs
