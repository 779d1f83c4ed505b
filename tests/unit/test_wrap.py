"""A loop around a workflow that knows nothing of it, and off again without a trace."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleave_thinker.cli import main
from interleave_thinker.comfyui.agent_clip import find_agent_clip
from interleave_thinker.comfyui.client import WorkflowError
from interleave_thinker.comfyui.find_inputs import Candidates, WorkflowInputs, candidates, find_inputs
from interleave_thinker.comfyui.picture_sources import PictureSource
from interleave_thinker.comfyui.placeholders import placeholder_in, wrap_warnings
from interleave_thinker.comfyui.workflow_json import read_json, write_json
from interleave_thinker.comfyui.wrap import AgentChoice, loop_seed, unwrap, wrap

ROOT = Path(__file__).parents[2]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def sampler_graph() -> dict[str, Any]:
    """Text to image, with a negative prompt of its own and a title, as the editor exports it."""
    graph = {
        "4": node("CheckpointLoaderSimple", ckpt_name="x.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=512, batch_size=1),
        "6": node("CLIPTextEncode", clip=["4", 1], text="a red bicycle"),
        "7": node("CLIPTextEncode", clip=["4", 1], text="watermark"),
        "3": node(
            "KSampler", model=["4", 0], seed=42, steps=20, positive=["6", 0], negative=["7", 0], latent_image=["5", 0]
        ),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    }
    graph["6"]["_meta"] = {"title": "Positive"}
    return graph


def edit_graph() -> dict[str, Any]:
    """Qwen-Image-Edit's shape: the picture goes into the text encoder, the size and the latent."""
    return {
        "1": node("UNETLoader", unet_name="x"),
        "2": node("CLIPLoader", clip_name="x", type="qwen_image"),
        "3": node("VAELoader", vae_name="x"),
        "10": node("LoadImage", image="me.png"),
        "11": node("FluxKontextImageScale", image=["10", 0]),
        "12": node(
            "TextEncodeQwenImageEditPlus", clip=["2", 0], vae=["3", 0], image1=["11", 0], prompt="make it night"
        ),
        "13": node("TextEncodeQwenImageEditPlus", clip=["2", 0], vae=["3", 0], image1=["11", 0], prompt=""),
        "14": node("VAEEncode", pixels=["11", 0], vae=["3", 0]),
        "15": node("KSampler", model=["1", 0], seed=7, positive=["12", 0], negative=["13", 0], latent_image=["14", 0]),
        "16": node("VAEDecode", samples=["15", 0], vae=["3", 0]),
        "17": node("SaveImage", images=["16", 0], filename_prefix="x"),
        "18": node("PreviewImage", images=["10", 0]),
    }


def advanced_graph() -> dict[str, Any]:
    """Flux's shape: guider and noise instead of a KSampler, and the prompt in a primitive."""
    return {
        "1": node("UNETLoader", unet_name="x"),
        "2": node("DualCLIPLoader", clip_name1="a", clip_name2="b", type="flux"),
        "5": node("PrimitiveStringMultiline", value="a house"),
        "6": node("CLIPTextEncode", clip=["2", 0], text=["5", 0]),
        "7": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
        "8": node("BasicGuider", model=["1", 0], conditioning=["7", 0]),
        "9": node("RandomNoise", noise_seed=11),
        "10": node("KSamplerSelect", sampler_name="euler"),
        "11": node("SamplerCustomAdvanced", noise=["9", 0], guider=["8", 0], sampler=["10", 0], latent_image=["12", 0]),
        "12": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "13": node("VAELoader", vae_name="x"),
        "14": node("VAEDecode", samples=["11", 0], vae=["13", 0]),
        "15": node("SaveImage", images=["14", 0], filename_prefix="x"),
    }


def two_results() -> dict[str, Any]:
    """To be added to the first graph: a second, different picture of the same sampler."""
    return {"18": node("VAEDecodeTiled", samples=["3", 0], vae=["4", 2]), "19": node("SaveImage", images=["18", 0])}


def refiner_graph() -> dict[str, Any]:
    """SDXL's shape: a second sampler goes on from the first, with texts of its own and no noise of its own."""
    graph = sampler_graph()
    graph["12"] = node("CheckpointLoaderSimple", ckpt_name="refiner")
    graph["15"] = node("CLIPTextEncode", clip=["12", 1], text="a red bicycle, detailed")
    graph["16"] = node("CLIPTextEncode", clip=["12", 1], text="watermark")
    graph["11"] = node(
        "KSamplerAdvanced",
        model=["12", 0],
        add_noise="disable",
        noise_seed=0,
        positive=["15", 0],
        negative=["16", 0],
        latent_image=["3", 0],
    )
    graph["8"]["inputs"]["samples"] = ["11", 0]
    return graph


def enhanced_graph() -> dict[str, Any]:
    """A language model may rewrite the prompt first: its instructions are no prompt, nor is what frames it."""
    graph = sampler_graph()
    graph["20"] = node("PrimitiveStringMultiline", value="a red bicycle")
    graph["21"] = node("PrimitiveStringMultiline", value="You are an expert. Improve this: ")
    graph["22"] = node("StringConcatenate", string_a=["21", 0], string_b=["20", 0], delimiter="")
    graph["23"] = node("TextGenerate", clip=["4", 1], prompt=["22", 0], seed=3)
    graph["24"] = node("ComfySwitchNode", switch=True, on_false=["20", 0], on_true=["23", 0])
    graph["25"] = node("StringReplace", string="<p>{x}</p>", find="{x}", replace=["24", 0])
    graph["6"]["inputs"]["text"] = ["25", 0]
    return graph


def both_sides_graph() -> dict[str, Any]:
    """Positive and negative go through one node, as in image-to-video models, and the start picture too."""
    return {
        "1": node("UNETLoader", unet_name="x"),
        "2": node("CLIPLoader", clip_name="x"),
        "3": node("VAELoader", vae_name="x"),
        "4": node("LoadImage", image="me.png"),
        "5": node("CLIPTextEncode", clip=["2", 0], text="make it night"),
        "6": node("CLIPTextEncode", clip=["2", 0], text="blurry"),
        "7": node("WanImageToVideo", positive=["5", 0], negative=["6", 0], vae=["3", 0], start_image=["4", 0]),
        "8": node("KSampler", model=["1", 0], seed=9, positive=["7", 0], negative=["7", 1], latent_image=["7", 2]),
        "9": node("VAEDecode", samples=["8", 0], vae=["3", 0]),
        "10": node("SaveImageAdvanced", images=["9", 0]),
        "11": node("ImageCompare", image_a=["4", 0], image_b=["9", 0]),
    }


def control_graph() -> dict[str, Any]:
    """A picture that only gives edges or a size is not the picture that is edited."""
    graph = sampler_graph()
    graph["30"] = node("LoadImage", image="pose.png")
    graph["31"] = node("Canny", image=["30", 0], low_threshold=0.1)
    graph["32"] = node("ControlNetLoader", control_net_name="x")
    graph["33"] = node(
        "ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["32", 0], image=["31", 0]
    )
    graph["34"] = node("VAEEncode", pixels=["30", 0], vae=["4", 2])
    graph["3"]["inputs"] |= {"positive": ["33", 0], "negative": ["33", 1], "latent_image": ["34", 0], "denoise": 1}
    return graph


def two_encoders_graph() -> dict[str, Any]:
    """FLUX.1's encoder takes the prompt twice, in two lengths."""
    graph = sampler_graph()
    graph["6"] = node("CLIPTextEncodeFlux", clip=["4", 1], clip_l="bicycle", t5xxl="a red bicycle", guidance=3.5)
    graph["7"] = node("ConditioningZeroOut", conditioning=["6", 0])
    return graph


def switched_graph() -> dict[str, Any]:
    """A switch leaves the picture aside: the workflow is set to draw from text."""
    graph = edit_graph()
    graph["20"] = node("PrimitiveBoolean", value=False)
    graph["21"] = node("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    graph["22"] = node("ComfySwitchNode", switch=["20", 0], on_false=["21", 0], on_true=["14", 0])
    graph["15"]["inputs"]["latent_image"] = ["22", 0]
    for encoder in ("12", "13"):
        del graph[encoder]["inputs"]["image1"]
    return graph


SHAPES = {
    "switched off": (switched_graph, WorkflowInputs(("12", "prompt"), ("15", "seed"), None, "17")),
    "refiner": (refiner_graph, WorkflowInputs(("6", "text"), ("3", "seed"), None, "9", (("15", "text"),))),
    "enhancer": (enhanced_graph, WorkflowInputs(("20", "value"), ("3", "seed"), None, "9")),
    "both sides": (both_sides_graph, WorkflowInputs(("5", "text"), ("8", "seed"), ("4", "image"), "10")),
    "control": (control_graph, WorkflowInputs(("6", "text"), ("3", "seed"), None, "9")),
    "two encoders": (two_encoders_graph, WorkflowInputs(("6", "t5xxl"), ("3", "seed"), None, "9", (("6", "clip_l"),))),
    "text to image": (sampler_graph, WorkflowInputs(("6", "text"), ("3", "seed"), None, "9")),
    "edit": (edit_graph, WorkflowInputs(("12", "prompt"), ("15", "seed"), ("10", "image"), "17")),
    "guider": (advanced_graph, WorkflowInputs(("5", "value"), ("9", "noise_seed"), None, "15")),
}


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_places_are_found(name: str) -> None:
    make, places = SHAPES[name]
    assert find_inputs(make()) == places


@pytest.mark.parametrize("name", list(SHAPES))
def test_unwrapping_gives_the_workflow_back_exactly(name: str) -> None:
    make, places = SHAPES[name]
    before = make()
    wrapped = wrap(before, places, critic=AgentChoice("server", "judge"))
    assert before == make(), "the original was changed"
    assert unwrap(wrapped) == before


@pytest.mark.parametrize("name", list(SHAPES))
def test_nothing_else_in_the_graph_changes(name: str) -> None:
    make, places = SHAPES[name]
    before, wrapped = make(), wrap(make(), places)
    for node_id, was in before.items():
        now = copy.deepcopy(wrapped[node_id])
        if set(now.get("_meta", {})) == {"InterleaveThinker"}:  # where the words are kept that the loop replaces
            del now["_meta"]
        for field, value in now["inputs"].items():
            if value != was["inputs"][field]:
                assert value[0] == "interleave_open"
                now["inputs"][field] = was["inputs"][field]
        assert now == was


def test_the_loop_gets_what_the_graph_had() -> None:
    wrapped = wrap(edit_graph(), find_inputs(edit_graph()), t_max=4)
    assert wrapped["interleave_planner"]["inputs"]["request"] == "make it night"
    assert wrapped["interleave_open"]["inputs"]["seed"] == 7
    assert wrapped["interleave_open"]["inputs"]["images.image_0"] == ["10", 0]
    assert wrapped["11"]["inputs"]["image"] == ["interleave_open", 2]
    assert wrapped["18"]["inputs"]["images"] == ["10", 0], "a look at the user's own picture is no part of the body"
    assert wrapped["interleave_close"]["inputs"]["image"] == ["16", 0]
    assert wrapped["interleave_close"]["inputs"]["t_max"] == 4
    assert wrapped["interleave_critic"]["inputs"]["before"] == ["interleave_open", 2]


def test_without_a_reference_the_critic_is_shown_no_picture_before() -> None:
    """Each step is drawn anew: the last step's picture is not what this one started from."""
    wrapped = wrap(sampler_graph(), find_inputs(sampler_graph()))
    assert "before" not in wrapped["interleave_critic"]["inputs"]


def test_a_choice_among_selected_nodes() -> None:
    """Two pictures made side by side: a selection says which is meant; a subgraph stands for all inside."""
    graph = sampler_graph() | {
        "50:6": node("CLIPTextEncode", clip=["4", 1], text="a cat"),
        "50:3": node("KSampler", model=["4", 0], seed=1, positive=["50:6", 0], latent_image=["5", 0]),
        "50:8": node("VAEDecode", samples=["50:3", 0], vae=["4", 2]),
        "51": node("SaveImage", images=["50:8", 0]),
    }
    assert candidates(graph).outputs == ("9", "51") and not candidates(graph).prompts
    chosen = Candidates(("51",), ((("50:6", "text"),),), (("50:3", "seed"),), shows="images")
    assert candidates(graph, among={"50"}) == chosen
    assert candidates(graph, among={"3", "6", "9"}).prompts == ((("6", "text"),),)


def test_of_several_pictures_the_first_by_number_comes_first() -> None:
    graph = edit_graph()
    graph["40"] = node("LoadImage", image="cloth.png")
    graph["12"]["inputs"] = {"image2": ["40", 0]} | graph["12"]["inputs"]
    assert candidates(graph).images == (PictureSource("10", "image", 0), PictureSource("40", "image", 0))


def second_sampler(**inputs: Any) -> dict[str, Any]:
    """The first graph with a further sampler between it and the result."""
    graph = sampler_graph()
    graph["15"] = node("CLIPTextEncode", clip=["4", 1], text=inputs.pop("text"))
    graph["11"] = node(
        "KSampler", model=["4", 0], positive=["15", 0], negative=["7", 0], latent_image=["3", 0], **inputs
    )
    graph["8"]["inputs"]["samples"] = ["11", 0]
    return graph


def test_a_later_sampler_with_a_prompt_of_its_own_is_asked_about() -> None:
    """A detailer's or an edit's words are not the picture's; a second pass with the same words is."""
    found = candidates(second_sampler(text="make the sky red", seed=8, denoise=0.6))
    assert found.prompts == ((("15", "text"),), (("6", "text"),))
    found = candidates(second_sampler(text="a red bicycle", seed=8, denoise=0.6))
    assert found.prompts == ((("6", "text"), ("15", "text")),)
    assert found.seeds == (("3", "seed"), ("11", "seed"))


def test_every_samplers_seed_is_fed_or_a_run_could_not_be_resumed() -> None:
    """A second seed that the editor draws anew at each queue would make every queue another run."""
    graph = second_sampler(text="a red bicycle", seed=8)
    wrapped = wrap(graph, find_inputs(graph))
    assert wrapped["3"]["inputs"]["seed"] == wrapped["11"]["inputs"]["seed"] == ["interleave_open", 5]
    assert unwrap(wrapped) == graph


def test_a_seed_of_text_written_at_random_is_no_samplers() -> None:
    graph = sampler_graph()
    graph["20"] = node("DPRandomGenerator", text="a {red|blue} bicycle", seed=77)
    graph["6"]["inputs"]["text"] = ["20", 0]
    assert candidates(graph).seeds == (("3", "seed"),)


@pytest.mark.parametrize("latent", ["inpaint", "mask"])
def test_a_picture_that_is_painted_into_is_the_reference(latent: str) -> None:
    graph = sampler_graph()
    graph["30"] = node("LoadImage", image="me.png")
    if latent == "inpaint":
        graph["31"] = node("VAEEncodeForInpaint", pixels=["30", 0], mask=["30", 1], vae=["4", 2])
    else:
        graph["32"] = node("VAEEncode", pixels=["30", 0], vae=["4", 2])
        graph["31"] = node("SetLatentNoiseMask", samples=["32", 0], mask=["30", 1])
    graph["3"]["inputs"] |= {"latent_image": ["31", 0], "denoise": 1.0}
    assert find_inputs(graph).image == ("30", "image")


def test_what_comes_in_through_a_model_or_as_a_mask_is_not_edited() -> None:
    graph = sampler_graph()
    graph["30"] = node("LoadImage", image="style.png")
    graph["31"] = node("IPAdapter", model=["4", 0], ipadapter=["33", 0], image=["30", 0])
    graph["33"] = node("IPAdapterUnifiedLoader", preset="x")
    graph["34"] = node("LoadImageMask", image="mask.png", channel="alpha")
    graph["35"] = node("ConditioningSetMask", conditioning=["6", 0], mask=["34", 0])
    graph["3"]["inputs"] |= {"model": ["31", 0], "positive": ["35", 0]}
    assert find_inputs(graph).image is None


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("CLIPTextEncodeSD3", ("t5xxl", "clip_l", "clip_g")),
        ("CLIPTextEncodeHiDream", ("t5xxl", "llama", "clip_l", "clip_g")),
        ("CLIPTextEncodeHunyuanDiT", ("bert", "mt5xl")),
        ("CLIPTextEncodeLumina2", ("user_prompt",)),
    ],
)
def test_each_encoder_of_a_node_gets_the_prompt(kind: str, texts: tuple[str, ...]) -> None:
    graph = sampler_graph()
    graph["6"] = node(kind, clip=["4", 1], **{name: f"{name} words" for name in texts})
    places = find_inputs(graph)
    assert {places.prompt, *places.also} == {("6", name) for name in texts}


def test_adversarial_graphs_end() -> None:
    """Cycles and hundreds of outputs: the editor asks on the server's own thread."""
    cycle = sampler_graph()
    cycle["3"]["inputs"]["seed"] = ["3", 0]
    cycle["6"]["inputs"]["text"] = ["6", 0]
    assert candidates(cycle).seeds == () and candidates(cycle).prompts == ()
    many: dict[str, Any] = {"v0": node("VAEDecode", samples=["v0", 0])}
    for n in range(1, 600):
        many[f"v{n}"] = node("VAEDecode", samples=[f"v{n - 1}", 0])
        many[f"s{n}"] = node("SaveImage", images=[f"v{n}", 0])
    assert len(candidates(many).outputs) == 599


def test_a_second_encoders_own_words_come_back() -> None:
    wrapped = wrap(two_encoders_graph(), find_inputs(two_encoders_graph()))
    assert wrapped["6"]["inputs"]["clip_l"] == wrapped["6"]["inputs"]["t5xxl"] == ["interleave_open", 1]
    assert wrapped["interleave_planner"]["inputs"]["request"] == "a red bicycle"
    assert unwrap(wrapped) == two_encoders_graph()


def with_clip(file: str, kind: str = "qwen_image") -> dict[str, Any]:
    """Text to image with a text encoder of its own file."""
    graph = sampler_graph()
    graph["20"] = node("CLIPLoader", clip_name=file, type=kind, device="default")
    graph["6"]["inputs"]["clip"] = graph["7"]["inputs"]["clip"] = ["20", 0]
    return graph


@pytest.mark.parametrize(
    ("file", "kind", "why_not"),
    [
        ("qwen3vl_8b_int8_convrot.safetensors", "qwen_image", ""),
        ("qwen3vl_4b_bf16.safetensors", "flux3", ""),
        ("sub\\Qwen3-VL-8B-fp8.safetensors", "boogu", ""),
        ("qwen3.5_9b_w4a8_gptq.safetensors", "moss_image", ""),
        ("gemma4_e4b_it_fp8_scaled.safetensors", "stable_diffusion", ""),
        ("qwen3vl_4b_bf16.safetensors", "flux2", "leaves its eyes out"),
        ("qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors", "minimax", "without its last layers"),
        ("qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_image", "no language head"),
        ("qwen_3_8b.safetensors", "flux2", "not known to see"),
        ("t5xxl_fp16.safetensors", "sd3", "not known to see"),
    ],
)
def test_the_generators_own_clip_is_the_agent_where_it_can_be(
    file: str, kind: str, why_not: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second language model of 9 GB beside it would be for nothing. The command says which and why."""
    plain, looped, back = (tmp_path / f"{name}.json" for name in ("plain", "looped", "back"))
    plain.write_text(json.dumps(with_clip(file, kind)))
    assert main(["wrap", str(plain), "-o", str(looped)]) == 0
    said = capsys.readouterr().out
    wrapped = json.loads(looped.read_text())
    clip = wrapped["interleave_agent"]["inputs"]["clip"]
    assert clip == (["interleave_clip", 0] if why_not else ["20", 0])
    assert (why_not in said.splitlines()[1]) if why_not else ("own CLIP, node 20" in said)
    assert main(["unwrap", str(looped), "-o", str(back)]) == 0
    assert json.loads(back.read_text()) == with_clip(file, kind)


@pytest.mark.parametrize("on", [True, False])
def test_a_prompt_writer_is_the_agent_only_where_it_is_switched_on(on: bool) -> None:
    """A model that the workflow does not load would be a second one all the same."""
    graph = sampler_graph()
    graph["20"] = node("CLIPLoader", clip_name="gemma4_e4b_it_fp8_scaled.safetensors", type="stable_diffusion")
    graph["21"] = node("TextGenerate", clip=["20", 0], prompt="a fox")
    graph["22"] = node("ComfySwitchNode", switch=on, on_false="a fox", on_true=["21", 0])
    graph["6"]["inputs"]["text"] = ["22", 0]
    found = find_agent_clip(graph, next(i for i, n in graph.items() if n["class_type"] == "SaveImage"))
    assert found.node == ("20" if on else "")
    assert on or "in use for this picture" in found.why_not


def test_a_lora_on_the_agents_clip_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = with_clip("qwen3vl_8b_fp8_scaled.safetensors")
    graph["21"] = node("LoraLoader", model=["4", 0], clip=["20", 0], lora_name="style.safetensors", strength_clip=1.0)
    graph["6"]["inputs"]["clip"] = ["21", 1]
    (tmp_path / "plain.json").write_text(json.dumps(graph))
    assert main(["wrap", str(tmp_path / "plain.json"), "-o", str(tmp_path / "looped.json")]) == 0
    assert "style.safetensors is on it for the generator; the agent works without." in capsys.readouterr().out
    assert json.loads((tmp_path / "looped.json").read_text())["interleave_agent"]["inputs"]["clip"] == ["20", 0]


def test_an_agent_that_is_tuned_for_pictures_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.json").write_text(json.dumps(with_clip("qwen3vl_8b_joyimage_edit.safetensors")))
    assert main(["wrap", str(tmp_path / "plain.json"), "-o", str(tmp_path / "looped.json")]) == 0
    assert "(qwen3vl_8b_joyimage_edit.safetensors). It was tuned for" in capsys.readouterr().out


def test_wrapping_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrapped = wrap(sampler_graph(), find_inputs(sampler_graph()))
    with pytest.raises(WorkflowError, match="a loop already"):
        wrap(wrapped, find_inputs(sampler_graph()))
    assert main(["wrap", str(ROOT / "workflows/api/tiny_story.json"), "-o", str(tmp_path / "looped.json")]) == 1
    assert "a loop already" in capsys.readouterr().err


def test_a_node_id_that_is_taken_is_not_taken_again() -> None:
    graph = sampler_graph() | {"interleave_open": node("Note", text="mine")}
    wrapped = wrap(graph, find_inputs(graph))
    assert wrapped["interleave_open"]["class_type"] == "Note" and unwrap(wrapped) == graph


@pytest.mark.parametrize(
    "name",
    [
        "tiny_story",
        "flux2_klein_story",
        "flux3_klein_story",
        "qwen_image_2_1_story",
        "qwen_image_edit_2511_story",
        "nano_banana_pro_story",
    ],
)
def test_a_shipped_workflow_can_be_unwrapped_or_says_why_not(name: str) -> None:
    """Ours use more of the loop (has_reference drives a switch): taking it off would lose what that decides."""
    workflow = json.loads((ROOT / "workflows/api" / f"{name}.json").read_text())
    try:
        assert not any(n["class_type"].startswith("InterleaveThinker") for n in unwrap(workflow).values())
    except WorkflowError as error:
        assert "connected to a node of the loop" in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.pop("6"), "No text that could be the prompt was found in the workflow. Name it with --prompt"),
        (lambda g: g.pop("9"), "picture output"),
        (lambda g: g.update(two_results()), "more than one picture output: 9, 19"),
    ],
)
def test_what_is_missing_or_not_clear_is_named(change: Any, message: str) -> None:
    graph = sampler_graph()
    change(graph)
    with pytest.raises(WorkflowError, match=message):
        find_inputs(graph)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, looped, back = (tmp_path / f"{n}.json" for n in ("plain", "looped", "back"))
    plain.write_text(json.dumps(edit_graph()))
    assert main(["wrap", str(plain), "-o", str(looped), "--agent", "server:local"]) == 0
    assert "Prompt 12.prompt, seed 15.seed, reference 10.image, result of node 17." in capsys.readouterr().out
    assert json.loads(looped.read_text())["interleave_agent"]["inputs"]["endpoint"] == "local"
    assert main(["unwrap", str(looped), "-o", str(back)]) == 0
    assert json.loads(back.read_text()) == edit_graph()
    assert main(["wrap", str(plain), "-o", str(looped), "--agent", "gpt"]) == 1
    assert "clip:FILE" in capsys.readouterr().err
    assert main(["unwrap", str(plain), "-o", str(back)]) == 1
    assert "no loops" in capsys.readouterr().err


def seeded_graph(seed: Any, **meta: Any) -> tuple[dict[str, Any], WorkflowInputs]:
    """The sampler's seed comes from a node of its own; a further sampler has the same one typed."""
    graph = second_sampler(text="a red bicycle", seed=seed)
    graph["40"] = {**node("PrimitiveInt", value=seed), **meta}
    graph["3"]["inputs"]["seed"] = ["40", 0]
    return graph, WorkflowInputs(("6", "text"), ("40", "value"), None, "9", (("15", "text"),), (("11", "seed"),))


def read_back(graph: dict[str, Any]) -> dict[str, Any]:
    """As a command reads what another wrote."""
    found: dict[str, Any] = read_json(write_json(graph))
    return found


SEEDS = (
    st.integers()
    | st.integers(-(2**70), 2**70)
    | st.integers(0, 2**64).map(str)
    | st.floats()
    | st.sampled_from(["%seed%", "{{seed}}", "", "-1", " 42 ", "42.0", "1e3", "inf", "9" * 5000, True, None, [], {}])
    | st.text(max_size=5)
)


@given(seed=SEEDS, meta=st.sampled_from([{}, {"_meta": {}}, {"_meta": None}, {"_meta": {"title": "Seed"}}]))
def test_any_seed_makes_a_valid_loop_and_comes_back_exactly(seed: Any, meta: dict[str, Any]) -> None:
    graph, found = seeded_graph(seed, **meta)
    wrapped = wrap(graph, found)
    given_seeds = [wrapped[i]["inputs"]["seed"] for i in ("interleave_open", "interleave_planner")]
    assert given_seeds == [loop_seed(seed) or 0] * 2 and all(type(s) is int and 0 <= s < 2**64 for s in given_seeds)
    assert wrapped["40"]["inputs"]["value"] == wrapped["11"]["inputs"]["seed"] == ["interleave_open", 5]
    assert write_json(unwrap(read_back(wrapped))) == write_json(graph)


@pytest.mark.parametrize(
    ("typed", "seed"),
    [(42, 42), ("42", 42), (42.0, 42), (" 42.0 ", 42), (2**64 - 1, 2**64 - 1)]
    + [(bad, None) for bad in (-1, "-1", 2**64, "%seed%", "", None, True, [], float("nan"), float("inf"))],
)
def test_a_seed_is_read_as_comfyui_reads_it(typed: Any, seed: int | None) -> None:
    assert loop_seed(typed) == seed


def test_a_link_whose_id_is_a_number_comes_back_as_one() -> None:
    graph = edit_graph()
    graph["11"]["inputs"]["image"] = [10, 0]
    assert write_json(unwrap(read_back(wrap(graph, SHAPES["edit"][1])))) == write_json(graph)


def test_a_prompt_that_is_connected_comes_back_and_a_number_is_refused() -> None:
    graph = advanced_graph()
    found = WorkflowInputs(("6", "text"), ("9", "noise_seed"), None, "15")
    assert unwrap(wrap(graph, found)) == graph
    with pytest.raises(WorkflowError, match=r"7\.guidance is 3\.5, which is no text"):
        wrap(graph, WorkflowInputs(("7", "guidance"), None, None, "15"))


def test_a_picture_that_nothing_else_reads_is_not_taken_for_a_part_of_the_loop() -> None:
    graph = edit_graph() | {"30": node("LoadImage", image="other.png")}
    assert unwrap(wrap(graph, WorkflowInputs(("12", "prompt"), ("15", "seed"), ("30", "image"), "17"))) == graph


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_file_comes_back_to_the_byte(tmp_path: Path, end: str) -> None:
    """Numbers as JavaScript writes them, which Python would write otherwise; half an emoji; the end of the file."""
    text = json.dumps(sampler_graph(), indent=2, ensure_ascii=False)
    for written in ("1e-7", "1E5", "0.10", "8.0", "1e400", "18446744073709552000", "-0.0", '"\\ud83d"', "[]", "{}"):
        plain, looped, back = (tmp_path / f"{n}.json" for n in ("plain", "looped", "back"))
        plain.write_bytes((text.replace('"steps": 20', f'"steps": {written}') + end).encode())
        assert main(["wrap", str(plain), "-o", str(looped)]) == main(["unwrap", str(looped), "-o", str(back)]) == 0
        assert back.read_bytes() == plain.read_bytes()


PLACEHOLDERS = ("%prompt%", "{{seed}}", "{{ inputs.prompt }}", "$PROMPT$", "${seed}", "<<prompt>>", "<%= seed %>", "[prompt]",
                "{prompt}", "$seed", "%%seed%%", "[[subject]]", "__PROMPT__", "##SEED##", "YOUR_PROMPT_HERE", "@prompt@")  # fmt: skip
NO_PLACEHOLDERS = ("", "a red bicycle", "50% off, 20% on", "{red|blue} bicycle", "__animals__", "<lora:x:1>", "(cat:1.2)",
                   "[blurry], (seed)", "((masterpiece))", "a seed sprouts", "42", "-" * 100_000)  # fmt: skip


def test_placeholders_are_told_from_words() -> None:
    assert [t for t in PLACEHOLDERS if placeholder_in(t) != t] == []
    assert [t for t in NO_PLACEHOLDERS if placeholder_in(t) is not None] == []
    assert placeholder_in("a photo of %subject%, sharp") == "%subject%"


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
def test_placeholders_are_warned_of(placeholder: str) -> None:
    graph, found = seeded_graph(placeholder)
    graph["6"]["inputs"]["text"] = graph["5"]["inputs"]["width"] = graph["9"]["inputs"]["filename_prefix"] = placeholder
    held = [w for w in wrap_warnings(graph, found) if "holds the placeholder " + json.dumps(placeholder) in w]
    assert [w.split()[0] for w in held] == ["6.text", "40.value", "11.seed", "5.width"]
    assert "which is no number. The loop's seed is 0" in held[1] and "The loop's seed goes there" in held[2]


def test_of_a_plain_workflow_nothing_is_warned_of() -> None:
    assert [wrap_warnings(make(), found) for make, found in SHAPES.values()] == [[]] * len(SHAPES)
    graph, found = seeded_graph("42")
    assert wrap_warnings(graph, found) == []
    graph, found = seeded_graph(-1)
    assert "40.value is -1, which is no seed from 0 to 18446744073709551615" in wrap_warnings(graph, found)[0]


def test_the_command_says_what_it_left_out_and_what_is_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = sampler_graph()
    graph["6"]["inputs"]["text"] = "%prompt%"
    plain, looped = tmp_path / "plain.json", tmp_path / "looped.json"
    plain.write_bytes(json.dumps({"client_id": "me", "prompt": {**graph, "_comment": "x"}}).encode("utf-16"))
    assert main(["wrap", str(plain), "-o", str(looped)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith('Note: Took the workflow under "prompt"') and said[1].endswith("no node: _comment.")
    assert said[4].startswith('Warning: 6.text holds the placeholder "%prompt%".') and len(said) == 6
    assert unwrap(json.loads(looped.read_text("utf-8"))) == graph
