"""`interleave-thinker vram`: what is loaded, how large it is, and what a card can hold."""

from __future__ import annotations

import json
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleave_thinker.cli import main
from interleave_thinker.comfyui.agent_clip import find_agent_clip
from interleave_thinker.comfyui.client import WorkflowError
from interleave_thinker.comfyui.known_sizes import KNOWN_SIZES
from interleave_thinker.comfyui.memory import (
    CARDS,
    LEAST_WORKING,
    PIXELS,
    SHAPES,
    Needs,
    Phase,
    Scenario,
    Use,
    fit,
    needs_of,
    picture_pixels,
    shape_of,
    working_of,
)
from interleave_thinker.comfyui.model_files import (
    Model,
    ModelFile,
    SizeLookup,
    live_nodes,
    loaded_bytes,
    models_of,
    read_size,
    role_of,
    tensors,
)
from interleave_thinker.comfyui.workflow import checked_workflow
from interleave_thinker.contract import NODE_IDS, PACKAGED_CLIP, PACKAGED_CLIP_URL

ROOT = Path(__file__).parents[2]
GB = 10**9


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(*, clip: str = "te.safetensors", kind: str = "qwen_image") -> dict[str, Any]:
    return {
        "1": node("UNETLoader", unet_name="dm.safetensors", weight_dtype="default"),
        "2": node("CLIPLoader", clip_name=clip, type=kind, device="default"),
        "3": node("VAELoader", vae_name="vae.safetensors"),
        "4": node("CLIPTextEncode", clip=["2", 0], text="a cat"),
        "6": node("EmptyLatentImage", width=1024, height=1024, batch_size=1),
        "7": node("KSampler", model=["1", 0], seed=1, positive=["4", 0], latent_image=["6", 0]),
        "8": node("VAEDecode", samples=["7", 0], vae=["3", 0]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    }


def looped(*, agent_clip: str = "2", **named: str) -> dict[str, Any]:
    """The graph as the body of a loop, whose agent is made of the loader `agent_clip`."""
    loader = {"20": node("CLIPLoader", clip_name="qwen3vl_8b_x.safetensors", type="qwen_image", device="default")}
    return (
        graph(**named)
        | (loader if agent_clip == "20" else {})
        | {
            "21": node(NODE_IDS.agent_from_clip, clip=[agent_clip, 0], max_tokens=512, max_megapixels=0.5),
            "22": node(NODE_IDS.planner, agent=["21", 0], request="a cat"),
            "23": node(NODE_IDS.loop_open, plan=["22", 0], seed=0),
            "24": node(NODE_IDS.critic_refine, agent=["21", 0], after=["8", 0], prompt=["23", 1]),
            "25": node(NODE_IDS.loop_close, loop=["23", 0], image=["8", 0], judgment=["24", 0]),
            "26": node(NODE_IDS.save_document, document=["25", 0]),
        }
    )


def known(**sizes: int) -> SizeLookup:
    return SizeLookup(typed={f"{name}.safetensors": size for name, size in sizes.items()})


def safetensors_file(path: Path, **tensors_of: tuple[str, int]) -> Path:
    """A file whose header names tensors of these types and bytes; the weights themselves are left out."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (kind, size) in tensors_of.items():
        header[name] = {"dtype": kind, "shape": [size], "data_offsets": [at, at + size]}
        at += size
    data = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(data)) + data)
    return path


def roles(workflow: dict[str, Any], sizes: SizeLookup | None = None) -> dict[str, str]:
    return {m.name: m.role for m in models_of(workflow, sizes or SizeLookup())}


# What is loaded


@pytest.mark.parametrize(
    ("kind", "name", "role"),
    [
        ("UNETLoader", "unet_name", "diffusion model"),
        ("UnetLoaderGGUF", "unet_name", "diffusion model"),
        ("NunchakuFluxDiTLoader", "model_path", "other"),
        ("CheckpointLoaderSimple", "ckpt_name", "checkpoint"),
        ("DualCLIPLoader", "clip_name2", "text encoder"),
        ("CLIPVisionLoader", "clip_name", "vision encoder"),
        ("VAELoader", "vae_name", "VAE"),
        ("LoraLoader", "lora_name", "LoRA"),
        ("ControlNetLoader", "control_net_name", "control"),
        ("ModelPatchLoader", "name", "control"),
        ("UpscaleModelLoader", "model_name", "upscaler"),
        ("Efficient Loader", "vae_name", "VAE"),
        ("SomethingElse", "file", "other"),
    ],
)
def test_what_a_file_is_for(kind: str, name: str, role: str) -> None:
    assert role_of(kind, name) == role


def test_files_of_one_loader_are_one_model() -> None:
    workflow = graph()
    workflow["2"] = node("DualCLIPLoader", clip_name1="sub\\a.safetensors", clip_name2="b.gguf", type="flux")
    assert roles(workflow)["sub\\a.safetensors + b.gguf"] == "text encoder"


def test_loaders_of_equal_inputs_count_once_and_of_another_type_twice() -> None:
    workflow = graph()
    workflow["12"] = json.loads(json.dumps(workflow["2"]))
    workflow["14"] = node("CLIPTextEncode", clip=["12", 0], text="")
    workflow["7"]["inputs"]["negative"] = ["14", 0]
    models = models_of(workflow, SizeLookup())
    assert [m.nodes for m in models if m.role == "text encoder"] == [("2", "12")]
    workflow["12"]["inputs"]["type"] = "flux2"
    assert sum(m.role == "text encoder" for m in models_of(workflow, SizeLookup())) == 2


def test_what_a_switch_leaves_out_and_what_nothing_reads_is_not_loaded() -> None:
    workflow = graph()
    workflow["30"] = node("CLIPLoader", clip_name="enhancer.safetensors", type="qwen_image")
    workflow["31"] = node("TextGenerate", clip=["30", 0], prompt="a cat")
    workflow["32"] = node("ComfySwitchNode", switch=False, on_false="a cat", on_true=["31", 0])
    workflow["4"]["inputs"]["text"] = ["32", 0]
    workflow["33"] = node("UNETLoader", unet_name="leftover.safetensors")
    assert set(roles(workflow)) == {"dm.safetensors", "te.safetensors", "vae.safetensors"}
    workflow["32"]["inputs"]["switch"] = True
    assert "enhancer.safetensors" in roles(workflow)


def test_entries_that_are_off_are_not_loaded() -> None:
    workflow = graph()
    on, off = {"on": True, "lora": "on.safetensors"}, {"on": False, "lora": "off.safetensors"}
    workflow["1b"] = node("Power Lora Loader (rgthree)", model=["1", 0], lora_1=on, lora_2=off)
    workflow["7"]["inputs"]["model"] = ["1b", 0]
    found = roles(workflow)
    assert found["on.safetensors"] == "LoRA" and "off.safetensors" not in found


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [("9.4GB", 9_400_000_000), ("8 GiB", 8 * 2**30), ("340mb", 340_000_000), ("12", 12), (".5kB", 500)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1,5GB", "9 apples", "1e9", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(WorkflowError, match="is no size"):
        read_size(text)


def test_a_header_says_what_weights_take(tmp_path: Path) -> None:
    path = safetensors_file(
        tmp_path / "x.safetensors", a=("F32", 400), b=("BF16", 200), c=("F8_E4M3", 100), d=("I8", 10), e=("U8", 7)
    )
    assert tensors(path)["a"] == ("F32", 400)
    assert loaded_bytes(path) == 200 + 200 + 100 + 10 + 7
    assert loaded_bytes(path, "fp8_e4m3fn") == 100 + 100 + 100 + 10 + 7


@given(st.binary(max_size=200))
def test_any_file_has_a_size(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.safetensors")
        path.write_bytes(data)
        assert loaded_bytes(path) == len(data) or tensors(path)


@pytest.mark.parametrize("data", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9347\n"])
def test_a_file_that_was_not_fetched_has_no_known_size(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "dm.safetensors").write_bytes(data)
    found = SizeLookup([tmp_path]).file("dm.safetensors")
    assert found.bytes is None and "fetch it anew" in found.source


def test_a_text_encoder_on_the_cpu_takes_none_of_the_card() -> None:
    workflow = graph()
    workflow["2"]["inputs"]["device"] = "cpu"
    (encoder,) = [m for m in models_of(workflow, SizeLookup(typed={"te.safetensors": GB})) if m.role == "text encoder"]
    assert encoder.bytes == 0 and "on the CPU" in encoder.files[0].source


def test_sizes_of_own_files_come_before_the_table_and_typed_ones_before_both(tmp_path: Path) -> None:
    name = "qwen_3_4b.safetensors"
    assert SizeLookup().file(name).bytes == KNOWN_SIZES[name].bytes
    (tmp_path / "text_encoders").mkdir()
    (tmp_path / "text_encoders" / name).write_bytes(b"x" * 50)
    lookup = SizeLookup([tmp_path], {name: 7, "unused.gguf": 1})
    assert SizeLookup([tmp_path]).file(name).bytes == 50
    assert lookup.file(f"sub/{name}").bytes == 7
    assert lookup.unused() == ["unused.gguf"]


def test_a_name_with_a_folder_is_found_in_that_folder_only(tmp_path: Path) -> None:
    for folder, size in (("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.gguf").write_bytes(b"x" * size)
    lookup = SizeLookup([tmp_path])
    assert [lookup.file(n).bytes for n in ("a/x.gguf", "b\\x.gguf", "x.gguf", "c/x.gguf")] == [3, 5, 5, None]


def test_a_checkpoint_is_split_by_its_header(tmp_path: Path) -> None:
    safetensors_file(
        tmp_path / "checkpoints" / "x.safetensors",
        **{"model.diffusion_model.a": ("F16", 60), "conditioner.b": ("F16", 20), "first_stage_model.c": ("F32", 8)},
    )
    workflow = {
        "1": node("CheckpointLoaderSimple", ckpt_name="x.safetensors"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a"),
        "3": node("KSampler", model=["1", 0], positive=["2", 0]),
        "4": node("VAEDecode", samples=["3", 0], vae=["1", 2]),
        "5": node("SaveImage", images=["4", 0]),
    }
    found = {m.role: m.bytes for m in models_of(workflow, SizeLookup([tmp_path]))}
    assert found == {"diffusion model": 60, "text encoder": 20, "VAE": 4}
    whole = needs_of(workflow, known(x=100)).own
    assert [(p.word, p.weights) for p in whole.phases if p.word in ("encode", "sample", "decode")] == [
        ("encode", 100),
        ("sample", 100),
        ("decode", 100),
    ]


def test_a_folder_of_load_agent_counts_its_weights_once_and_says_its_shape(tmp_path: Path) -> None:
    folder = tmp_path / "VLM" / "mine"
    for part in ("model-1.safetensors", "model-2.safetensors"):
        safetensors_file(folder / part, a=("BF16", 30))
    (folder / "pytorch_model.bin").write_bytes(b"x" * 60)
    text = {
        "num_hidden_layers": 2,
        "num_key_value_heads": 3,
        "head_dim": 5,
        "hidden_size": 7,
        "intermediate_size": 11,
    }
    (folder / "config.json").write_text(json.dumps({"text_config": text}), encoding="utf-8")
    workflow = looped()
    workflow["21"] = node(NODE_IDS.load_agent, model="mine", adapter="none", max_tokens=64)
    (agent,) = needs_of(workflow, SizeLookup([tmp_path])).own.agents
    assert (agent.role, agent.bytes, shape_of(agent).cache_a_token) == ("agent", 60, 2 * 2 * 3 * 5 * 2)


# The agent


@pytest.mark.parametrize(
    ("name", "kind", "whole"),
    [
        ("qwen3vl_8b_int8_convrot.safetensors", "qwen_image", True),
        ("text/Qwen3-VL-4B_bf16.safetensors", "flux3", True),
        ("qwen3vl_8b_fp8_scaled.safetensors", "flux2", False),
        ("qwen3vl_4b.safetensors", "flux", False),
        ("qwen3vl_32b_minimax.safetensors", "minimax", False),
        ("qwen3vl_8b.gguf", "qwen_image", False),
        ("qwen3.5_9b_w4a8_gptq.safetensors", "moss_image", True),
        ("gemma4_e4b_it_fp8_scaled.safetensors", "stable_diffusion", True),
        ("qwen3.5_9b_flux3_prompt_upsampler_w4a8.safetensors", "flux3", False),
        ("qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_image", False),
        ("qwen_3_8b.safetensors", "flux2", False),
    ],
)
def test_which_text_encoder_can_be_the_agent(name: str, kind: str, whole: bool) -> None:
    assert (needs_of(graph(clip=name, kind=kind), SizeLookup()).shared is not None) is whole


def test_an_agent_beside_the_generator_and_one_shared_with_it() -> None:
    sizes = known(dm=4 * GB, qwen3vl_8b_y=9 * GB, vae=GB, qwen3vl_8b_x=10 * GB)
    clip = "qwen3vl_8b_y.safetensors"
    apart = needs_of(looped(agent_clip="20", clip=clip), sizes)
    assert [m.name for m in apart.own.agents] == ["qwen3vl_8b_x.safetensors"]
    assert apart.shared and sum(m.bytes for m in apart.shared.models) == 14 * GB
    assert sum(m.bytes for m in apart.own.models) == 24 * GB
    one = needs_of(looped(agent_clip="2", clip=clip), sizes)
    assert one.has_agent and one.shared == apart.shared
    assert one.shares and not apart.shares
    assert [m.name for m in one.own.agents] == ["qwen3vl_8b_fp8_scaled.safetensors"]


@given(
    st.sampled_from(
        ("CLIPLoader", "CLIPLoaderGGUF", "MultiGPUCLIPLoader", "DualCLIPLoader", "TextEncoderLoader", "LLM Loader",
         "Efficient Loader", "CheckpointLoaderSimple", "LTXAVTextEncoderLoader")
    ),
    st.sampled_from(("clip_name", "clip_name1", "text_encoder", "llm", "ckpt_name")),
    st.lists(
        st.sampled_from(("qwen3vl_8b_a.safetensors", "qwen_3_8b.safetensors", "qwen3.5_9b.safetensors", "t5.gguf")),
        min_size=1, max_size=2, unique=True,
    ),
)  # fmt: skip
def test_what_wrap_takes_for_the_agent_and_what_vram_counts_as_shared_are_one(
    loader: str, name: str, files: list[str]
) -> None:
    workflow = graph()
    more = {f"{name}_{n}": file for n, file in enumerate(files[1:])}
    workflow["2"] = node(loader, type="qwen_image", **{name: files[0]}, **more)
    needs, clip = needs_of(workflow, SizeLookup()), find_agent_clip(workflow, "9")
    assert ([m.nodes for m in needs.shared.agents] if needs.shared else []) == ([("2",)] if clip.node else [])


def test_of_two_text_encoders_the_nearest_to_the_picture_is_shared() -> None:
    """A prompt writer stands first in the file, and behind the generator's own encoder."""
    workflow = {"0": node("CLIPLoader", clip_name="qwen3.5_9b.safetensors", type="moss_image")}
    workflow |= graph(clip="qwen3vl_8b.safetensors")
    workflow["4"]["inputs"]["text"] = ["5", 0]
    workflow["5"] = node("TextGenerate", clip=["0", 0], prompt="a cat")
    shared = needs_of(workflow, SizeLookup()).shared
    assert find_agent_clip(workflow, "9").node == "2"
    assert shared and [m.name for m in shared.agents] == ["qwen3vl_8b.safetensors"]


def test_the_text_encoder_that_is_the_agent_already_is_the_shared_one() -> None:
    """Also where another one stands nearer to the picture."""
    workflow = looped(agent_clip="2", clip="qwen3vl_8b.safetensors")
    workflow["10"] = node("CLIPLoader", clip_name="qwen3.5_9b.safetensors", type="moss_image")
    workflow["11"] = node("CLIPTextEncode", clip=["10", 0], text="a cat")
    workflow["7"]["inputs"]["negative"] = ["11", 0]
    workflow["4"]["inputs"]["text"] = ["12", 0]
    workflow["12"] = node("PreviewAny", source=["13", 0])
    workflow["13"] = node("TextGenerate", clip=["2", 0], prompt="a cat")
    workflow["4"]["inputs"]["clip"] = ["10", 0]
    needs = needs_of(workflow, SizeLookup())
    assert needs.shares and needs.shared
    assert [m.name for m in needs.shared.agents] == ["qwen3vl_8b.safetensors"]


def test_adapters_of_the_own_clip_take_room_only_while_their_agent_writes() -> None:
    """The critic's is no second model, and no LoRA of the generator."""
    sizes = known(qwen3vl_8b=16 * GB, critic=GB, planner=2 * GB)
    workflow = looped(clip="qwen3vl_8b.safetensors")
    plain = needs_of(workflow, sizes)
    workflow["27"] = node(NODE_IDS.agent_from_clip, clip=["2", 0], adapter="it/critic.safetensors", max_tokens=512)
    workflow["27"]["inputs"]["max_megapixels"] = 0.5
    workflow["21"]["inputs"]["adapter"] = "planner.safetensors"
    workflow["24"]["inputs"]["agent"] = ["27", 0]
    needs = needs_of(workflow, sizes)
    assert roles(workflow, sizes)["it/critic.safetensors"] == "adapter"
    assert needs.shares and needs.shared and plain.shared
    for before, now in zip(plain.shared.phases, needs.shared.phases, strict=True):
        more = {"judge": GB, "plan": 2 * GB}.get(now.word, 0)
        assert (now.word, now.models, now.working) == (before.word, before.models, before.working + more)
    assert needs.own.agents == plain.own.agents
    workflow["27"]["inputs"]["adapter"] = "none"
    assert "adapter" not in {m.role for m in models_of(workflow, sizes) if m.name != "planner.safetensors"}


def test_a_loops_reference_makes_room_for_a_picture_that_is_edited() -> None:
    """The critic looks at it too; that costs the generator nothing."""

    def sampling(workflow: dict[str, Any]) -> int:
        return next(p.working for p in needs_of(workflow, known(dm=GB, vae=GB)).own.phases if p.word == "sample")

    drawn, edited = looped(), looped()
    drawn["24"]["inputs"]["before"] = ["23", 2]
    encoder = next(i for i, n in edited.items() if n["class_type"] == "CLIPTextEncode")
    edited[encoder]["inputs"]["images.image_1"] = ["23", 2]
    assert sampling(edited) == 2 * sampling(drawn)


def test_an_agents_settings_count() -> None:
    needs = needs_of(looped(agent_clip="20"), known(qwen3vl_8b_x=GB))
    judge = next(p for p in needs.own.phases if p.word == "judge")
    assert judge.working == working_of(SHAPES["Qwen3-VL", "8b"], Use(512, 0.5, 2))
    assert (
        working_of(SHAPES["Qwen3-VL", "8b"], Use(4096)) - working_of(SHAPES["Qwen3-VL", "8b"], Use(2048))
        == 2048 * 147_456
    )


def test_a_server_needs_no_memory_here() -> None:
    workflow = looped()
    workflow["21"] = node(NODE_IDS.agent_from_server, endpoint="x", max_tokens=64)
    own = needs_of(workflow, SizeLookup()).own
    assert own.agents == () and {p.word for p in own.phases} == {"encode", "sample", "decode"}


def test_only_the_critic_takes_part_in_every_attempt() -> None:
    critic, planner = (Model("agent", (ModelFile(n, 5 * GB, ""),)) for n in ("critic", "planner"))
    drawing = Model("diffusion model", (ModelFile("dm", 3 * GB, ""),))
    phases = (Phase("sample", (drawing,), 0), Phase("judge", (critic,), 0), Phase("plan", (planner,), 0))
    assert fit(Scenario((critic, planner), phases), 8, 2**33 - 8 * GB).verdict == "fits"


# A card


def phase(word: Any, name: str, size: int, working: int = 0) -> Phase:
    return Phase(word, (Model("other", (ModelFile(name, size, ""),)),), working)


def on_card(*phases: Phase, usable: int) -> Any:
    return fit(Scenario((), phases), 24, 24 * 2**30 - usable)


def test_what_fits_is_never_moved() -> None:
    assert on_card(phase("sample", "a", 4), phase("judge", "b", 5, 1), usable=10).verdict == "fits"
    swaps = on_card(phase("sample", "a", 4), phase("judge", "b", 5, 1), usable=9)
    assert (swaps.verdict, dict(swaps.moved)) == ("swaps", {"a": 1}), "no more leaves than is missing"


def test_two_models_that_exclude_each_other_change_places() -> None:
    found = on_card(phase("sample", "a", 6), phase("judge", "b", 6), usable=6)
    assert (found.verdict, dict(found.moved)) == ("swaps", {"a": 6, "b": 6})


def test_what_does_not_fit_beside_its_work_is_read_again_at_each_pass() -> None:
    found = on_card(phase("sample", "a", 4), phase("judge", "b", 12, 2), usable=10)
    assert found.verdict == "offloads"
    assert (dict(found.again), dict(found.moved)) == ({"judge": 4}, {"a": 4, "b": 2 + 4})


def test_an_unknown_size_is_no_reason_to_say_that_it_fits() -> None:
    needs = needs_of(graph(), known(dm=GB, vae=GB))
    assert needs.own.unknown == ["te.safetensors"]
    assert fit(needs.own, 24).verdict == "unknown"


sizes_of_models = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=5)


@given(sizes_of_models, st.integers(0, 120))
def test_it_fits_exactly_if_all_fits_at_once(models: list[tuple[int, int]], usable: int) -> None:
    phases = tuple(phase("judge", str(n), *sizes) for n, sizes in enumerate(models))
    found = on_card(*phases, usable=usable)
    assert (found.verdict == "fits") == (Scenario((), phases).all_at_once <= usable) or all(
        size == 0 for size, _ in models
    )
    assert (found.verdict == "offloads") == any(p.weights and p.together > usable for p in phases)
    for name, moved in found.moved.items():
        assert 0 < moved <= models[int(name)][0]


def test_the_phases_of_a_picture() -> None:
    needs = needs_of(graph(), known(dm=4 * GB, te=8 * GB, vae=GB))
    assert [(p.word, p.weights) for p in needs.own.phases[:3]] == [
        ("encode", 8 * GB),
        ("sample", 4 * GB),
        ("decode", GB),
    ]
    assert needs.pixels == PIXELS and all(p.working >= LEAST_WORKING for p in needs.own.phases)


def test_the_size_of_the_picture() -> None:
    workflow = graph()
    workflow["6"]["inputs"] |= {"width": ["50", 0], "height": 2048}
    workflow["50"] = node("PrimitiveInt", value=2048)
    assert picture_pixels(workflow, live_nodes(workflow)) == 2048 * 2048
    workflow["6"]["inputs"] |= {"width": ["51", 0], "height": ["51", 1]}
    workflow["51"] = node("ResolutionSelector", aspect_ratio="1:1", megapixels=2)
    assert picture_pixels(workflow, live_nodes(workflow)) == 2 * PIXELS


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["x.safetensors", "", "y/z.gguf", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["on", "a"]), inner),
    max_leaves=3,
)
links = st.tuples(st.sampled_from(["1", "2", "3", "4", "5"]), st.integers(0, 3)).map(list)
kinds = st.sampled_from(
    [*NODE_IDS, "UNETLoader", "CLIPLoader", "CheckpointLoaderSimple", "KSampler", "LoraLoader", "X"]
)
names = st.sampled_from(
    ["clip", "agent", "model", "width", "height", "clip_name", "type", "switch", "on_true", "max_tokens", "batch_size"]
)
nodes = st.builds(
    lambda kind, inputs: {"class_type": kind, "inputs": inputs},
    kinds,
    st.dictionaries(names, values | links, max_size=4),
)


@given(st.dictionaries(st.sampled_from(["1", "2", "3", "4"]), nodes, max_size=4))
def test_any_workflow_has_an_answer(workflow: dict[str, Any]) -> None:
    needs: Needs = needs_of(checked_workflow(workflow, "x"), SizeLookup())
    for scenario in filter(None, (needs.own, needs.shared)):
        for card in CARDS:
            assert fit(scenario, card).verdict in ("fits", "swaps", "offloads", "unknown")
        assert 0 <= scenario.peak <= scenario.all_at_once


# The command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["vram", *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def saved(folder: Path, workflow: dict[str, Any]) -> str:
    path = folder / "w.json"
    path.write_text(json.dumps(workflow), encoding="utf-8")
    return str(path)


def test_the_command_prints_tables_and_writes_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, {"prompt": graph(clip="qwen3vl_8b_int8_convrot.safetensors")})
    sizes = ["--size", "dm.safetensors=7.2GB", "--size", "vae.safetensors=0.7GB", "--size", "other.safetensors=1GB"]
    code, out, err = run(capsys, path, *sizes, "--json", str(tmp_path / "f.json"))
    assert (code, err) == (0, "")
    assert "dm.safetensors" in out and "fits, nothing moves" in out and "other.safetensors, which the workflow" in out
    facts = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert facts["shared_agent"]["cards"]["24"]["verdict"] == "fits"
    assert facts["own_agent"]["cards"]["24"]["verdict"] == "swaps"
    assert {m["role"] for m in facts["models"]} == {"diffusion model", "text encoder", "VAE"}
    assert facts["own_agent"]["at_once"] == max(p["weights"] + p["working"] for p in facts["own_agent"]["phases"])


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        (
            looped(agent_clip="2", clip="qwen3vl_8b.safetensors"),
            "a second model as agent, which this workflow does not",
        ),
        (looped(agent_clip="20", clip="qwen3vl_8b.safetensors"), "With an agent of its own (qwen3vl_8b_x"),
        (graph(clip="qwen3vl_8b.safetensors"), f"With an agent of its own ({PACKAGED_CLIP}"),
    ],
)
def test_a_second_model_that_the_workflow_does_without_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workflow: dict[str, Any], said: str
) -> None:
    code, out, _ = run(capsys, saved(tmp_path, workflow), "--json", str(tmp_path / "f.json"))
    assert code == 0 and said in out
    shares = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["shares_agent"]
    assert ("not used" in out) is shares is ("does not" in said)


def test_a_load_clip_of_the_workflow_can_be_named_as_the_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is loaded once: what the generator reads of it is what the agent reads."""
    path = saved(tmp_path, graph(clip="qwen3vl_8b_y.safetensors"))
    sizes = ["--size", "dm.safetensors=4GB", "--size", "vae.safetensors=1GB", "--size", "qwen3vl_8b_y.safetensors=9GB"]
    code, out, _ = run(capsys, path, *sizes, "--agent", "node:2", "--json", str(tmp_path / "f.json"))
    facts = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert code == 0 and "With node:2 as agent (qwen3vl_8b_y.safetensors)" in out
    assert facts["own_agent"] == facts["shared_agent"] and facts["own_agent"]["unknown"] == []


@pytest.mark.parametrize("named", ["1", "99", "30", "3", "../x"])
def test_a_node_that_loads_no_clip_for_this_workflow_is_refused_with_those_that_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    unused = {"30": node("CLIPLoader", clip_name="qwen3vl_4b.safetensors", type="qwen_image")}
    code, _, err = run(capsys, saved(tmp_path, graph() | unused), "--agent", f"node:{named}")
    assert code == 1 and f"node:{named} is no Load CLIP" in err and "it uses node:2." in err


def test_an_unknown_file_is_named_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, saved(tmp_path, graph()))
    assert code == 0 and "--size te.safetensors=9.4GB" in out and "not known" in out


def test_a_files_name_is_printed_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It comes from a workflow of somebody else's, and a terminal obeys escape sequences."""
    bad = "mine\x1b[2J\x9b1A\u202e" + "x" * 3000 + ".safetensors"
    workflow = graph()
    workflow["1"]["inputs"]["unet_name"] = bad
    _, out, err = run(capsys, saved(tmp_path, workflow))
    assert err == "" and "minexx" in out
    assert all(line.isprintable() and len(line) < 2100 for line in out.split("\n"))


def test_a_workflow_without_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, {"1": node("LoadImage", image="a.png"), "2": node("SaveImage", images=["1", 0])})
    code, out, _ = run(capsys, path, "--agent", "server:x")
    assert code == 0 and "loads no model file" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "x.safetensors"], "write it as NAME=9.4GB"),
        (["--size", "x.safetensors=big"], "'big' is no size"),
        (["--models", "nowhere"], "nowhere is no folder"),
        (["--megapixels", "0"], "--megapixels is 0"),
        (["--megapixels", "nan"], "--megapixels is nan"),
        (["--reserve", "x"], "'x' is no size"),
        (["--agent", "x"], "names no agent"),
        (["--json", "nowhere/f.json"], "Cannot write nowhere"),
    ],
)
def test_errors_name_the_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, _, err = run(capsys, saved(tmp_path, graph()), *arguments)
    assert code == 1 and said in err and err.count("\n") == 1


def test_the_table_in_the_docs_is_what_its_commands_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    commands = re.findall(r"^interleave-thinker vram ((?:benchmarks/vram|workflows/api)/.*)$", page, re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        path, *more = command.split()
        assert run(capsys, str(ROOT / path), *more, "--json", str(tmp_path / "f.json"))[0] == 0
        facts = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
        for who in ("shared_agent",) if facts["shares_agent"] else ("own_agent", "shared_agent"):
            if facts[who]:
                cells = " | ".join(facts[who]["cards"][str(card)]["text"] for card in CARDS)
                assert f"| {cells} |" in page, f"docs/memory.md, {path}, {who}: | {cells} |"


def test_the_docs_name_every_size_of_the_table() -> None:
    page = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    for name, size in KNOWN_SIZES.items():
        assert f"| `{name}` | {size.bytes / 1e9:.2f} | {size.read} | [page]({size.address}) |" in page


def test_each_model_file_has_one_address() -> None:
    """In the table of sizes, in what wrap offers for download, and in the shipped workflows."""
    assert KNOWN_SIZES[PACKAGED_CLIP].download == PACKAGED_CLIP_URL
    pattern = re.compile(r"https://huggingface\.co/[\w./-]+/resolve/[\w./-]+\.safetensors")
    shipped = [*(ROOT / "workflows").glob("*.json"), *(ROOT / "subgraphs").glob("*.json")]
    found = {url for path in shipped for url in pattern.findall(path.read_text(encoding="utf-8"))}
    known = {url for url in found if url.rpartition("/")[2] in KNOWN_SIZES}
    assert len(known) > 6
    assert {url: KNOWN_SIZES[url.rpartition("/")[2]].download for url in known} == {url: url for url in known}


def test_files_that_are_recommended_have_a_known_size() -> None:
    """So that `vram` can say whether they fit before anybody fetches them."""
    step = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line[:2] == "2.")
    memory = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    notes = [p.read_text(encoding="utf-8") for p in (ROOT / "workflows").glob("*.json")]
    named = {*re.findall(r"`([\w.-]+\.safetensors)`", step), *re.findall(r"clip:([\w.-]+\.safetensors)", memory)}
    named |= {name for note in notes for name in re.findall(r"Low on VRAM\?[^\[]*\[([\w.-]+)\]", note)}
    small = {name for name in named if "4b_fp8" in name}
    assert {PACKAGED_CLIP, *small} <= set(re.findall(r"`([\w.-]+\.safetensors)`", step))
    assert len(named) > 2 and named <= set(KNOWN_SIZES)
    assert small == {"qwen3vl_4b_fp8_scaled.safetensors"}, "one small file for all"
