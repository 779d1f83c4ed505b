"""Which files of Load CLIP can be the agent: by family, size and what they are made for, however the file is called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleave_thinker.comfyui.agent_clip import SIZES, chat_model, find_agent_clip, installed_agent, why_no_agent
from interleave_thinker.comfyui.memory import SHAPES

SPELLINGS = {
    "Qwen3-VL": ("qwen3vl", "qwen3-vl", "qwen_3_vl", "qwen-3.vl"),
    "Qwen3.5": ("qwen3.5", "qwen35", "qwen_3.5", "qwen3_5", "qwen-3-5"),
    "Gemma 4": ("gemma4", "gemma-4", "gemma_4"),
}
FOLDERS = ("", "sub/", "a\\b\\", "gemma4/", "qwen3.5_9b_pe/")
SUFFIXES = (
    "", "_bf16", "_fp8_scaled", "-nvfp4", "_int8_convrot", "_w4a8_gptq", "_it", "-Instruct", "_abliterated",
    "_joyimage_edit", "_mxfp8",
)  # fmt: skip
TYPES = ("stable_diffusion", "qwen_image", "flux3", "moss_image", "ltxv", "lumina2", "a type of next year")


@st.composite
def names(draw: st.DrawFn, families: tuple[str, ...] = tuple(SPELLINGS), sizes: tuple[str, ...] = ()) -> str:
    family = draw(st.sampled_from(families))
    parts = [draw(st.sampled_from(SPELLINGS[family])), draw(st.sampled_from(sizes or SIZES[family]))]
    name = draw(st.sampled_from("-_")).join(parts) + draw(st.sampled_from(SUFFIXES)) + ".safetensors"
    return draw(st.sampled_from(FOLDERS)) + draw(st.sampled_from((name, name.upper(), name.title())))


@given(names(), st.sampled_from(TYPES))
def test_a_whole_model_of_each_family_is_taken_whatever_its_folder_case_and_weights(name: str, kind: str) -> None:
    assert why_no_agent(name, kind) == ""
    assert chat_model(name) in SHAPES, "what its memory depends on is known"


@given(names(), st.sampled_from(("flux", "flux2")))
def test_flux_types_cut_the_eyes_of_a_qwen3_vl_only(name: str, kind: str) -> None:
    family, _ = chat_model(name) or ("", "")
    assert ("eyes out" in why_no_agent(name, kind)) == (family == "Qwen3-VL")


@given(names(sizes=("1b", "3b", "26b-a4b", "30b_a3b", "35b-A3B", "122b", "235b", "397b-a17b")))
def test_a_size_that_comfyui_does_not_load_is_refused(name: str) -> None:
    assert "which ComfyUI does not load" in why_no_agent(name, "qwen_image")


@given(
    names(),
    st.sampled_from(("_prompt_upsampler", "-prompt-enhancer", "_PE_", "-pe-i2i", "_2.1_pe_t2i", "_promptrewriter")),
)
def test_a_model_that_was_trained_to_rewrite_prompts_is_no_agent(name: str, ending: str) -> None:
    stem, dot, suffix = name.rpartition(".")
    assert "trained to rewrite prompts" in why_no_agent(stem + ending + dot + suffix, "flux3")


OTHERS = {
    "an embedding model": ("-Embedding", "_embed", "_embedder", "-embeddings_v2", "_EMBEDDING_fp8"),
    "a reranker": ("-Reranker", "_rerank", "_re-ranker_bf16"),
    "a reward model": ("-Reward", "_rm", "-PRM", "_reward_v2"),
    "a guard model": ("-Guard", "_guardian", "_safeguard", "-shield", "_moderation"),
    "a classifier": ("-Classifier", "_classification"),
}


@given(names(), st.sampled_from([(kind, ending) for kind, endings in OTHERS.items() for ending in endings]))
def test_what_neither_plans_nor_judges_is_refused_by_its_kind(name: str, other: tuple[str, str]) -> None:
    kind, ending = other
    stem, dot, suffix = name.rpartition(".")
    assert kind in why_no_agent(stem + ending + dot + suffix, "qwen_image")


@pytest.mark.parametrize(
    "name", ["qwen3-vl-embedding-8b", "Qwen3-VL-Reranker-8B", "Qwen3-VL-8B-Reward", "gemma4_e4b_guard"]
)
def test_where_in_the_name_the_kind_stands_does_not_matter(name: str) -> None:
    assert why_no_agent(f"{name}.safetensors", "qwen_image")
    assert installed_agent([f"{name}.safetensors"]) == ""


@given(names(), st.sampled_from((".gguf", ".GGUF")))
def test_a_gguf_is_loaded_by_nodes_that_do_not_write(name: str, ending: str) -> None:
    assert "do not write text" in why_no_agent(name.rpartition(".")[0] + ending, "qwen_image")


@given(
    st.sampled_from(FOLDERS),
    st.sampled_from((
        "gemma_2_2b_it_elm", "gemma-3-12b-it", "gemma_3_4b_it", "gemma-7b", "gemma_4b", "t5gemma_b_b_ul2", "t5gemma4_4b",
        "qwen_3_4b", "qwen3_5b", "qwen3_8b", "qwen2.5_7b", "qwen3.8_27b_w4a8", "t5xxl", "clip_l", "umt5_xxl", "",
    )),
    st.sampled_from(SUFFIXES),
    st.sampled_from((*TYPES, "flux", "flux2")),
)  # fmt: skip
def test_other_encoders_are_not_taken(folder: str, name: str, suffix: str, kind: str) -> None:
    """Also those of a like name: Gemma 2 and 3, and a Qwen3 that only reads."""
    assert "not known to see pictures" in why_no_agent(f"{folder}{name}{suffix}.safetensors", kind)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gemma4-12b-with-proj-ltx-2.5-comfy-int8-convrot.safetensors", "made for LTX"),
        ("qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors", "without its last layers"),
        ("qwen_2.5_vl_7b_fp8_scaled.safetensors", "no language head"),
        ("qwen3vl_2b_bf16.safetensors", "a Qwen3-VL of 2B, which ComfyUI does not load"),
        ("qwen35_08b.safetensors", ""),
        ("Qwen3.5-0.8B.safetensors", ""),
        ("qwen3_5_0_8b.safetensors", ""),
        ("qwen3.5.safetensors", ""),
        ("gemma4_e4b_it_fp8_scaled.safetensors", ""),
        ("qwen3.5_9b_w4a8_gptq.safetensors", ""),
    ],
)
def test_names_of_official_files(name: str, why: str) -> None:
    reason = why_no_agent(name, "stable_diffusion")
    assert (why in reason) if why else not reason


@pytest.mark.parametrize(
    "name",
    [
        "colqwen3vl_4b",
        "mmproj-Qwen3-VL-8B",
        "qwen3vl_8b_vision_only",
        "qwen3vl_8b_text_only",
        "qwen3vl_8b_pruned_24layers",
        "qwen3vl-8b-lora",
        "qwen3.5_text_9b",
    ],
)
def test_a_part_of_a_model_and_one_that_retrieves_are_refused(name: str) -> None:
    assert why_no_agent(f"{name}.safetensors", "qwen_image")
    assert not why_no_agent("qwen3vl_8b_text_encoder.safetensors", "qwen_image")


GOOD = "qwen3vl_8b_fp8_scaled.safetensors"


def drawn_with(loader: dict[str, Any], slot: int = 0, **more: dict[str, Any]) -> dict[str, Any]:
    encode = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", slot], "text": "a boat"}}
    return {"1": loader, "2": encode, "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}, **more}


def load_clip(kind: str = "CLIPLoader", **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def test_what_another_node_types_into_a_loader_is_read() -> None:
    """A type behind a link can be one that drops the eyes; what cannot be read is not taken, and the reason is true."""
    typed = {"9": {"class_type": "PrimitiveString", "inputs": {"value": "flux2"}}}
    chosen = {"9": {"class_type": "SomeSwitch", "inputs": {"a": "x", "b": "y"}}}
    blind = find_agent_clip(drawn_with(load_clip(clip_name=GOOD, type=["9", 0]), **typed), "3")
    assert not blind.node and "type flux2" in blind.why_not
    unread = find_agent_clip(drawn_with(load_clip(clip_name=GOOD, type=["9", 0]), **chosen), "3")
    assert not unread.node and "type of its Load CLIP is chosen by another node" in unread.why_not
    named = {"9": {"class_type": "PrimitiveString", "inputs": {"value": GOOD}}}
    assert find_agent_clip(drawn_with(load_clip(clip_name=["9", 0], type="qwen_image"), **named), "3").file == GOOD
    hidden = find_agent_clip(drawn_with(load_clip(clip_name=["9", 0], type="qwen_image"), **chosen), "3")
    assert not hidden.node and "file of its Load CLIP is chosen by another node" in hidden.why_not


def test_a_loader_that_joins_encoders_is_not_taken() -> None:
    both = load_clip("DualCLIPLoader", clip_name1=GOOD, clip_name2=GOOD, type="qwen_image")
    assert "joins 2 text encoders" in find_agent_clip(drawn_with(both), "3").why_not
    one = load_clip("QuadCLIPLoader", clip_name1=GOOD, clip_name2="None", type="qwen_image")
    assert find_agent_clip(drawn_with(one), "3").file == GOOD


def test_a_clip_that_is_not_the_first_output_of_its_loader_is_not_taken() -> None:
    found = find_agent_clip(drawn_with(load_clip("MyCLIPLoaderAll", clip_name=GOOD, type="qwen_image"), slot=2), "3")
    assert not found.node and "not the first output" in found.why_not


def test_a_clip_on_the_cpu_is_taken_with_a_note() -> None:
    found = find_agent_clip(drawn_with(load_clip(clip_name=GOOD, type="qwen_image", device="cpu")), "3")
    assert found.node == "1" and "on the CPU" in found.note
    assert not find_agent_clip(drawn_with(load_clip(clip_name=GOOD, type="qwen_image", device="default")), "3").note


def test_the_second_model_is_a_qwen3_vl_that_is_installed_else_another_that_can() -> None:
    unable = ["clip_l.safetensors", "qwen3vl_32b_fp8.safetensors", "qwen_2.5_vl_7b.safetensors"]
    other, usual = "gemma4_e4b_it.safetensors", "vlm/qwen3vl_8b_fp8_scaled.safetensors"
    assert installed_agent([*unable, other, usual]) == usual
    assert installed_agent([*unable, other]) == other
    assert installed_agent(unable) == "" == installed_agent([])
    tuned = "qwen3vl_8b_joyimage_edit_int8_convrot.safetensors"
    assert installed_agent([tuned, other]) == other, "one that was tuned for pictures comes last"
    assert installed_agent([tuned]) == tuned


@pytest.mark.parametrize(
    "name", ["qwen3vl_8b_joyimage_edit_int8_convrot", "qwen3vl_8b_fp8_scaled", "qwen3.5_9b_edited"]
)
def test_an_agent_that_is_tuned_for_pictures_is_taken_with_a_note(name: str) -> None:
    workflow = {
        "1": {"class_type": "CLIPLoader", "inputs": {"clip_name": f"{name}.safetensors", "type": "qwen_image"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 0], "text": "a cat"}},
    }
    found = find_agent_clip(workflow, "2")
    assert found.node == "1" and ("may plan worse" in found.note) is ("joyimage" in name)


@given(
    st.text(max_size=300) | names().map(lambda name: name + "\n" * 9 + "9" * 500 + "b.safetensors"), st.text(max_size=9)
)
def test_a_reason_is_one_short_line_whatever_the_name(name: str, kind: str) -> None:
    reason = why_no_agent(name, kind)
    assert "\n" not in reason and len(reason) < 250
