"""The agents inside ComfyUI: native decoding equals transformers', wrong models are named, VRAM is given back."""

from __future__ import annotations

import pytest
from comfy_server import REPO
from comfy_test_graphs import node, ours
from inside import run_inside

from interleave_thinker.comfyui.client import WorkflowError


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return run_inside("native_parity.py", str(tmp_path_factory.mktemp("checkpoint")))


@pytest.mark.parametrize("case", ["text", "one image", "two images of different sizes"])
def test_native_greedy_text_equals_transformers(native, case):
    ours_wrote, reference = native[case]
    assert ours_wrote == reference
    assert len(reference) > 20


def test_a_sharded_checkpoint_loads_when_its_shards_are_merged(native):
    assert native["shards"] > 1


def test_a_seed_fixes_what_is_sampled(native):
    assert native["seeded"][0] == native["seeded"][1]


def test_an_interrupt_takes_effect_at_the_next_token(native):
    """The third check raises, so no fourth token is begun."""
    assert native["interrupted after checks"] == 3


def test_a_clip_without_eyes_says_which_type_to_choose(native):
    assert "cannot see" in native["blind"]
    assert "qwen_image" in native["blind"]


def test_a_model_leaves_vram_when_comfyui_asks(tmp_path):
    found = run_inside("managed_memory.py", str(REPO / "interleave_thinker" / "tinyworld" / "weights" / "critic"))
    assert found["loaded after a reply"]
    assert not found["loaded after free_memory"]
    assert found["reply"] == found["reply after coming back"]
    assert found["unmanaged"] == ["written", "10 bytes free", "meta", "reply", "cpu"]


def asking(agent: dict) -> dict:
    return {
        "1": agent,
        "2": ours("Planner", agent=["1", 0], request="x", max_steps=4, seed=0, if_unreadable="error"),
        "3": node("PreviewAny", source=["2", 1]),
    }


SAMPLING = {"max_tokens": 64, "temperature": 0.0, "max_megapixels": 1.0, "prompts": ""}


def test_a_clip_that_is_no_vision_model_is_refused_on_the_node(comfy):
    graph = asking(ours("AgentFromCLIP", clip=["9", 0], **SAMPLING))
    graph["9"] = node("CLIPLoader", clip_name="tiny_clip_l.pt", type="stable_diffusion", device="default")
    with pytest.raises(WorkflowError, match=r"node 1 \(InterleaveThinkerAgentFromCLIP\): This CLIP .* cannot see"):
        comfy.run(graph)


BROKEN = {
    "another kind": ({"config.json": '{"model_type": "llama"}'}, "is a 'llama' model"),
    "no json": ({"config.json": "{"}, "not valid JSON"),
    "no weights": ({"config.json": '{"model_type": "qwen3_vl"}'}, "holds no .safetensors"),
    "half a download": (
        {
            "config.json": '{"model_type": "qwen3_vl"}',
            "model.safetensors.index.json": '{"weight_map": {"a": "model-1.safetensors"}}',
        },
        "lacks 1 of 1 weight files",
    ),
}


def test_wrong_model_folders_are_refused_with_the_reason(new_comfy, tmp_path):
    for name, (files, _) in BROKEN.items():
        folder = tmp_path / "comfy0" / "models" / "VLM" / name
        folder.mkdir(parents=True)
        for file, text in files.items():
            (folder / file).write_text(text)
    server = new_comfy()
    for name, (_, message) in BROKEN.items():
        with pytest.raises(WorkflowError, match=message):
            server.run(asking(ours("LoadAgent", model=name, adapter="none", dtype="auto", **SAMPLING)))


def test_a_missing_model_folder_is_refused_before_anything_runs(comfy):
    with pytest.raises(WorkflowError, match="not accept"):
        comfy.run(asking(ours("LoadAgent", model="nowhere", adapter="none", dtype="auto", **SAMPLING)))
