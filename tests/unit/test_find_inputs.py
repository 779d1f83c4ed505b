"""Wrap finds the prompt, the picture, the seed and the result by what they do, whatever packs the nodes come from.

Where two could be meant, a person is asked; nothing is guessed in silence.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleave_thinker.comfyui.client import WorkflowError
from interleave_thinker.comfyui.find_inputs import Candidates, candidates, find_inputs
from interleave_thinker.comfyui.wrap import unwrap, wrap

WORDS = "a red bicycle"


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(**nodes: dict[str, Any]) -> dict[str, Any]:
    """Text to image; `nodes` ("n20") are added or take the place of others."""
    plain = {
        "4": node("CheckpointLoaderSimple", ckpt_name="x.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=512, batch_size=1),
        "6": node("CLIPTextEncode", clip=["4", 1], text=WORDS),
        "7": node("CLIPTextEncode", clip=["4", 1], text="watermark"),
        "3": node(
            "KSampler",
            model=["4", 0],
            seed=42,
            denoise=1.0,
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    }
    return plain | {name.removeprefix("n"): made for name, made in nodes.items()}


def with_text_from(source: list[Any], **nodes: dict[str, Any]) -> dict[str, Any]:
    return graph(n6=node("CLIPTextEncode", clip=["4", 1], text=source), **nodes)


def texts(workflow: dict[str, Any]) -> list[set[str]]:
    """What a person would be asked to choose from; one entry: nothing is asked."""
    return [{".".join(place) for place in group} for group in candidates(workflow).prompts]


def pictures(workflow: dict[str, Any]) -> list[tuple[str, bool]]:
    """The pictures that may be the reference, and whether it is sure that they are edited."""
    return [(found.node, found.known) for found in candidates(workflow).images]


# The prompt


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("PrimitiveStringMultiline", "value"),
        ("CR Prompt Text", "prompt"),
        ("Text Multiline", "text"),
        ("easy positive", "positive"),
        ("String Literal", "string"),
        ("TextPlusPlus", "body"),
        ("Somebody's node", "description"),
    ],
)
@pytest.mark.parametrize("typed", [WORDS, "cat", "", "%prompt%", '{"high_level_description": "a cat"}', "自転車"])
def test_words_in_a_node_of_their_own_are_found(kind: str, name: str, typed: str) -> None:
    assert texts(with_text_from(["20", 0], n20=node(kind, **{name: typed}))) == [{f"20.{name}"}]


def test_a_loader_that_has_the_prompt_is_found() -> None:
    """Its negative, and the texts that name files, are none."""
    loader = node("Efficient Loader", ckpt_name="x.safetensors", lora_name="None", positive=WORDS, negative="watermark")
    workflow = graph(n4=loader)
    workflow["3"]["inputs"] |= {"positive": ["4", 1], "negative": ["4", 2]}
    assert texts(workflow) == [{"4.positive"}]


def test_a_loader_before_a_pipe_has_the_prompt() -> None:
    """Nothing goes into `positive` there; words about tokens and weights are no prompt."""
    loader = {
        "ckpt_name": "x.safetensors",
        "positive_token_normalization": "mean",
        "positive_weight_interpretation": "A1111",
    }
    workflow = {
        "1": node("easy fullLoader", **loader, positive=WORDS, negative="watermark", resolution="1024 x 1024"),
        "2": node("easy kSampler", pipe=["1", 0], image_output="Preview", seed=5),
        "3": node("SaveImage", images=["2", 1]),
    }
    assert texts(workflow) == [{"1.positive"}]
    assert candidates(workflow).seeds == (("2", "seed"),)
    assert pictures(workflow) == [], "a loader of models is no picture"
    workflow["1"]["inputs"] |= {"positive": ["4", 0], "negative": ["5", 0]}
    workflow |= {"4": node("ttN text", text=WORDS), "5": node("ttN text", text="blurry")}
    assert texts(workflow) == [{"4.text"}]


def test_what_says_nothing_is_not_taken_before_words() -> None:
    """an empty text of a LoRA loader is joined to a wildcard's words, which stand in two inputs."""
    nodes = {
        "n20": node("Lora Loader (any)", model=["4", 0], clip=["4", 1], text=""),
        "n21": node("ImpactWildcardProcessor", wildcard_text=WORDS, populated_text=WORDS, mode="populate", seed=1),
        "n22": node("StringConcatenate", string_a=["20", 2], string_b=["21", 0], delimiter=", "),
    }
    workflow = with_text_from(["22", 0], **nodes)
    assert texts(workflow) == [{"21.wildcard_text", "21.populated_text"}]
    workflow["20"]["inputs"]["text"] = "<lora:detail:0.8>, "
    assert texts(workflow) == [{"21.wildcard_text", "21.populated_text"}]
    workflow["21"]["inputs"] |= {"Select to add Wildcard": "Select the Wildcard to add to the text"}
    assert texts(workflow) == [{"21.wildcard_text", "21.populated_text"}]


@pytest.mark.parametrize("socket", ["custom_system_prompt", "system_prompt", "system_message", "instruction"])
@pytest.mark.parametrize("task", ["You are a professional prompt writer.", "Expand the user's words.", "# Rewrite"])
def test_a_language_models_task_is_no_prompt(socket: str, task: str) -> None:
    """whatever it says, by the input that it goes into."""
    nodes = {
        "n20": node("easy positive", positive=WORDS),
        "n21": node("Text Multiline", text=task),
        "n22": node("SomeVLMPromptEnhancer", prompt_text=["20", 0], **{socket: ["21", 0]}, max_tokens=256),
    }
    workflow = with_text_from(["22", 0], **nodes)
    assert texts(workflow) == [{"20.positive"}]
    workflow["22"]["inputs"] |= {"prompt_text": WORDS, socket: task}
    assert texts(workflow) == [{"22.prompt_text"}]


def test_what_a_model_is_asked_about_a_picture_is_no_prompt() -> None:
    """A captioner's question, and what it answered last, beside words of the user's."""
    nodes = {
        "n19": node("LoadImage", image="me.png"),
        "n20": node("QWenImage2Prompt", question="Describe the photo in detail", image=["19", 0]),
        "n21": node("ShowText|pysssss", text=["20", 0], text_0="A photo of a cat on a mat"),
        "n22": node("CR Prompt Text", prompt="oil painting"),
        "n23": node("StringConcatenate", string_a=["22", 0], string_b=["21", 0], delimiter=", "),
    }
    assert texts(with_text_from(["23", 0], **nodes)) == [{"22.prompt"}]
    assert texts(with_text_from(["21", 0], **nodes)) == []


@pytest.mark.parametrize("on", [True, False])
def test_an_enhancer_that_is_on_or_off(on: bool) -> None:
    """Qwen-Image-2.1's shape: the words are typed at the switch and, the same, at the enhancer."""
    nodes = {
        "n20": node("ComfySwitchNode", switch=on, on_false=WORDS, on_true=["21", 0]),
        "n21": node("TextGenerate", clip=["4", 1], prompt=WORDS, max_length=256, system_prompt=["22", 0]),
        "n22": node("PrimitiveStringMultiline", value="You rewrite prompts."),
        "n23": node("PreviewAny", source=["20", 0]),
    }
    workflow = with_text_from(["23", 0], **nodes)
    assert texts(workflow) == [{"20.on_false", "21.prompt"}], "the same words on both sides are one prompt"
    workflow["21"]["inputs"]["prompt"] = "something else"
    assert texts(workflow) == [{"21.prompt"} if on else {"20.on_false"}]


@pytest.mark.parametrize("switch", [False, ["30", 0]])
def test_a_switch_takes_the_side_that_it_is_set_to(switch: Any) -> None:
    nodes = {
        "n20": node("ComfySwitchNode", switch=switch, on_false=["21", 0], on_true=["22", 0]),
        "n21": node("PrimitiveString", value=WORDS),
        "n22": node("PrimitiveString", value="a blue car"),
        "n30": node("PrimitiveBoolean", value=False),
    }
    workflow = with_text_from(["20", 0], **nodes)
    assert texts(workflow) == [{"21.value"}]
    workflow["20"]["inputs"]["switch"] = ["31", 0]  # nobody knows
    workflow["31"] = node("Somebody's condition", a=1)
    assert texts(workflow) == [{"22.value"}, {"21.value"}] or texts(workflow) == [{"21.value"}, {"22.value"}]


def test_a_switch_behind_a_not_is_asked_about_and_a_soft_one_takes_what_there_is() -> None:
    nodes = {
        "n20": node("ComfySwitchNode", switch=["30", 0], on_false=["21", 0], on_true=["22", 0]),
        "n21": node("PrimitiveString", value=WORDS),
        "n22": node("PrimitiveString", value="a blue car"),
        "n30": node("ComfyNotNode", value=["31", 0]),
        "n31": node("PrimitiveBoolean", value=True),
    }
    assert len(texts(with_text_from(["20", 0], **nodes))) == 2
    soft = node("ComfySoftSwitchNode", switch=False, on_true=["22", 0])
    assert texts(with_text_from(["20", 0], **nodes | {"n20": soft})) == [{"22.value"}]


def test_a_pictures_name_and_a_negative_of_the_same_words_are_no_prompt() -> None:
    assert texts(with_text_from(["20", 0], n20=node("SDPromptReader", image="me.png"))) == []
    workflow = graph(n7=node("CLIPTextEncode", clip=["4", 1], text=WORDS))
    assert texts(workflow) == [{"6.text"}]


def test_a_style_that_is_joined_to_the_prompt_is_asked_about() -> None:
    """Both are typed, and neither node nor name says which is the subject."""
    joined = node("StringConcatenate", string_a="cat", string_b="sour gummy candy style, glossy eyes", delimiter=", ")
    assert texts(with_text_from(["20", 0], n20=joined)) == [{"20.string_a"}, {"20.string_b"}], (
        "in the order in which they are joined"
    )
    nodes = {
        "n20": node("StringConcatenate", string_a=["21", 0], string_b="gummy candy style", delimiter=", "),
        "n21": node("PrimitiveString", value="cat"),
    }
    assert texts(with_text_from(["20", 0], **nodes)) == [{"21.value"}], "what is typed beside linked words is dressing"


def test_a_chain_of_json_and_patterns_is_no_prompt() -> None:
    nodes = {
        "n20": node("PrimitiveStringMultiline", value=WORDS),
        "n21": node("StringReplace", string='{"prompt": "{x}"}', find="{x}", replace=["20", 0]),
        "n22": node("RegexReplace", string=["21", 0], regex_pattern="^```(?:json)?\\s*", replace="", count=1),
        "n23": node("JsonExtractString", json_string=["22", 0], key="prompt"),
        "n24": node("RegexExtract", string=["23", 0], regex_pattern="(.*)", mode="First Match", group_index=1),
        "n25": node("PreviewAny", source=["24", 0]),
    }
    assert texts(with_text_from(["25", 0], **nodes)) == [{"20.value"}]


def test_equal_words_on_several_paths_are_one_prompt() -> None:
    workflow = graph(
        n20=node("CLIPTextEncode", clip=["4", 1], text=WORDS),
        n21=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["20", 0]),
    )
    workflow["3"]["inputs"]["positive"] = ["21", 0]
    assert texts(workflow) == [{"6.text", "20.text"}]
    workflow["20"]["inputs"]["text"] = "a blue car in the background"
    assert len(texts(workflow)) == 2, "two texts for one picture: a person has to say"
    workflow["6"]["inputs"]["text"] = workflow["20"]["inputs"]["text"] = ""
    assert len(texts(workflow)) == 2, "two empty texts are not the same prompt"


def test_a_text_that_two_nodes_share_is_found_whichever_is_looked_at_first() -> None:
    nodes = {
        "n20": node("PrimitiveString", value=WORDS),
        "n21": node("StringTrim", string=["20", 0]),
        "n22": node("StringConcatenate", string_a=["20", 0], string_b=["21", 0], delimiter=" "),
    }
    assert texts(with_text_from(["22", 0], **nodes)) == [{"20.value"}]


@given(
    st.dictionaries(
        st.sampled_from([str(n) for n in range(8)]),
        st.dictionaries(
            st.sampled_from(
                ["positive", "negative", "model", "text", "images", "image", "latent_image", "switch", "seed"]
            ),
            st.one_of(
                st.tuples(st.sampled_from([str(n) for n in range(9)]), st.integers(0, 2)).map(list),
                st.text(max_size=8),
                st.integers(-1, 3),
                st.booleans(),
                st.none(),
                st.lists(st.integers(), max_size=3),
            ),
        ),
    )
)
def test_any_graph_has_an_answer(shapes: dict[str, dict[str, Any]]) -> None:
    """Circles, links to nowhere and values of any kind: it ends, and what it names is there."""
    workflow = {i: node(("KSampler", "SaveImage", "LoadImage")[int(i) % 3], **inputs) for i, inputs in shapes.items()}
    found: Candidates = candidates(workflow)
    assert all(isinstance(workflow[i]["inputs"][n], str) for group in found.prompts for i, n in group)
    assert all(n in workflow[i]["inputs"] for i, n in found.seeds)
    assert all(picture.node in workflow for picture in found.images)


def test_an_empty_box_is_where_a_person_types() -> None:
    """A heading is joined to it. Both are asked about; an empty text of another node, as a LoRA loader's, is not."""
    nodes = {
        "n20": node("PrimitiveStringMultiline", value=""),
        "n21": node("PrimitiveString", value="## Edition description"),
        "n22": node("StringConcatenate", string_a=["21", 0], string_b=["20", 0], delimiter=" "),
    }
    assert texts(with_text_from(["22", 0], **nodes)) == [{"21.value"}, {"20.value"}]


def test_words_that_are_zeroed_out_are_no_prompt() -> None:
    workflow = graph(n20=node("ConditioningZeroOut", conditioning=["6", 0]))
    workflow["3"]["inputs"]["positive"] = ["20", 0]
    assert texts(workflow) == []


def test_a_node_that_makes_the_picture_from_the_prompt_is_no_picture_source() -> None:
    workflow = {
        "1": node("FluxProUltraImageNode", prompt=WORDS, seed=5),
        "2": node("SaveImage", images=["1", 0]),
    }
    assert texts(workflow) == [{"1.prompt"}]
    assert pictures(workflow) == []


def test_words_that_find_a_region_are_no_prompt() -> None:
    """They say what a mask covers. There is no sampler here; the picture is made from the other text."""
    workflow = {
        "1": node("LoadImage", image="me.png"),
        "2": node("GroundingDinoSAMSegment", image=["1", 0], prompt="the dress, and the belt"),
        "3": node("TryOnGenerator", human_img=["1", 0], mask=["2", 1], prompt=WORDS, seed=5),
        "4": node("SaveImage", images=["3", 0]),
    }
    assert texts(workflow) == [{"3.prompt"}]
    assert candidates(workflow).seeds == (("3", "seed"),)
    assert pictures(workflow) == [("1", True)]


# The picture


@pytest.mark.parametrize(
    ("kind", "inputs", "known"),
    [
        ("LoadImage", {"image": "me.png"}, True),
        ("LoadImageFromBase64", {"data": ""}, True),
        ("ETN_LoadImageBase64", {"image": ""}, True),
        ("LoadImageFromURL", {"url": "https://example.org/me.png"}, True),
        ("Image Input Switch Loader", {"path": "me.png"}, True),
        ("Somebody's pictures", {"album": "holiday"}, False),
    ],
)
def test_a_picture_from_any_source_is_found(kind: str, inputs: dict[str, Any], known: bool) -> None:
    """Where the class does not say that it loads a picture, a person has to."""
    workflow = graph(n30=node(kind, **inputs), n31=node("VAEEncode", pixels=["30", 0], vae=["4", 2]))
    workflow["3"]["inputs"] |= {"latent_image": ["31", 0], "denoise": 0.6}
    assert pictures(workflow) == [("30", known)]
    if known:
        wrapped = wrap(workflow, find_inputs(workflow))
        assert wrapped["31"]["inputs"]["pixels"] == ["interleave_open", 2]
        assert unwrap(wrapped) == workflow
    else:
        with pytest.raises(WorkflowError, match=r"--image 30\.album, or --image none"):
            find_inputs(workflow)
        assert find_inputs(workflow, image="none").image is None
        assert find_inputs(workflow, image="30.album").image == ("30", "album")


def test_a_picture_at_another_output_keeps_its_output() -> None:
    workflow = graph(n30=node("Load Image Batch", path="x"), n31=node("VAEEncode", pixels=["30", 2], vae=["4", 2]))
    workflow["3"]["inputs"] |= {"latent_image": ["31", 0], "denoise": 0.6}
    wrapped = wrap(workflow, find_inputs(workflow))
    assert wrapped["interleave_open"]["inputs"]["images.image_0"] == ["30", 2]
    assert unwrap(wrapped) == workflow


def test_a_named_picture_is_taken_at_the_output_that_is_read() -> None:
    """One that would not be found by itself: only a ControlNet looks at it."""
    workflow = graph(
        n30=node("Load Image Batch", path="x"),
        n31=node("ControlNetApply", conditioning=["6", 0], control_net=["32", 0], image=["30", 2]),
        n32=node("ControlNetLoader", control_net_name="depth.safetensors"),
    )
    workflow["3"]["inputs"]["positive"] = ["31", 0]
    assert find_inputs(workflow).image is None
    wrapped = wrap(workflow, find_inputs(workflow, image="30.path"))
    assert wrapped["31"]["inputs"]["image"] == ["interleave_open", 2]
    assert wrapped["interleave_open"]["inputs"]["images.image_0"] == ["30", 2]
    assert unwrap(wrapped) == workflow


def test_through_nodes_that_hand_on_whatever_comes_in() -> None:
    workflow = graph(
        n30=node("LoadImage", image="me.png"),
        n31=node("ResizeImageMaskNode", input=["30", 0], resize_type="scale total pixels"),
        n32=node("ComfySwitchNode", switch=True, on_false=["30", 0], on_true=["31", 0]),
        n33=node("VAEEncode", pixels=["32", 0], vae=["4", 2]),
        n34=node("ReferenceLatent", conditioning=["6", 0], latent=["33", 0]),
    )
    workflow["3"]["inputs"]["positive"] = ["34", 0]
    assert pictures(workflow) == [("30", True)]


@pytest.mark.parametrize("name", ["default_value", "anything", "data", "src", "any_01"])
def test_through_a_node_with_one_input_whatever_it_is_called(name: str) -> None:
    """As deployment packs put one before each picture, so that a caller can give another."""
    workflow = graph(
        n30=node("LoadImage", image="me.png"),
        n31=node("ComfyUIDeployExternalImage", input_id="photo", **{name: ["30", 0]}),
        n32=node("VAEEncode", pixels=["31", 0], vae=["4", 2]),
    )
    workflow["3"]["inputs"] |= {"latent_image": ["32", 0], "denoise": 0.6}
    assert pictures(workflow) == [("30", True)]


def test_what_is_put_on_the_finished_picture_is_asked_about_and_a_face_is_not() -> None:
    """A watermark is drawn on the result; nothing edits it. It may as well be the picture that the result lies on."""
    workflow = graph(
        n30=node("LoadImage", image="logo.png"),
        n31=node("ImageCompositeMasked", destination=["8", 0], source=["30", 0], x=0, y=0),
        n9=node("SaveImage", images=["31", 0], filename_prefix="x"),
    )
    assert pictures(workflow) == [("30", False)]
    workflow["31"] = node("ReActorFaceSwap", input_image=["8", 0], source_image=["30", 0])
    assert pictures(workflow) == []


@pytest.mark.parametrize(
    "guide",
    [
        node("PhotoMakerEncode", photomaker=["32", 0], image=["30", 0], clip=["4", 1], text=WORDS),
        node("ControlNetApply", conditioning=["6", 0], control_net=["32", 0], image=["30", 0]),
        node("StyleModelApply", conditioning=["6", 0], style_model=["32", 0], clip_vision_output=["33", 0]),
        node("ApplyPulidFlux", conditioning=["6", 0], pulid_flux=["32", 0], image=["30", 0]),
        node("ApplyInstantID", conditioning=["6", 0], instantid=["32", 0], image=["30", 0]),
        node("unCLIPConditioning", conditioning=["6", 0], clip_vision_output=["33", 0]),
    ],
)
def test_a_picture_that_only_a_model_looks_at_is_not_edited(guide: dict[str, Any]) -> None:
    """a face, a pose or a style."""
    workflow = graph(
        n30=node("LoadImage", image="me.png"),
        n31=guide,
        n32=node("SomeModelLoader", name="x.bin"),
        n33=node("CLIPVisionEncode", clip_vision=["32", 0], image=["30", 0]),
    )
    workflow["3"]["inputs"]["positive"] = ["31", 0]
    assert pictures(workflow) == []


def test_a_face_through_the_model_is_no_reference_but_a_latent_is() -> None:
    workflow = graph(
        n30=node("LoadImage", image="me.png"),
        n31=node("IPAdapterFaceID", model=["4", 0], ipadapter=["33", 0], image=["30", 0]),
        n33=node("IPAdapterUnifiedLoader", preset="x"),
    )
    workflow["3"]["inputs"]["model"] = ["31", 0]
    assert pictures(workflow) == []
    workflow["31"] = node("ICLightApply", model=["4", 0], c_concat=["34", 0])
    workflow["34"] = node("VAEEncode", pixels=["30", 0], vae=["4", 2])
    assert pictures(workflow) == [("30", True)]


def test_a_picture_that_is_inpainted_by_a_controlnet_is_the_reference() -> None:
    workflow = graph(
        n30=node("LoadImage", image="me.png"),
        n31=node("InpaintPreprocessor", image=["30", 0], mask=["30", 1]),
        n32=node("ControlNetLoader", control_net_name="x.safetensors"),
        n33=node("ControlNetApply", conditioning=["6", 0], control_net=["32", 0], image=["31", 0]),
    )
    workflow["3"]["inputs"]["positive"] = ["33", 0]
    assert pictures(workflow) == [("30", True)]


def test_a_picture_that_a_model_patch_inpaints_is_the_reference() -> None:
    workflow = graph(
        n30=node("LoadImage", image="me.png"),
        n31=node("ModelPatchLoader", name="qwen_image_inpaint_diffsynth_controlnet.safetensors"),
        n32=node("QwenImageDiffsynthControlnet", model=["4", 0], model_patch=["31", 0], image=["30", 0]),
    )
    workflow["3"]["inputs"]["model"] = ["32", 0]
    assert pictures(workflow) == [("30", True)]
    workflow["31"]["inputs"]["name"] = "qwen_image_depth_diffsynth_controlnet.safetensors"
    assert pictures(workflow) == []


def test_a_picture_under_nothing_but_noise_is_asked_about() -> None:
    """Somebody wired image to image and left denoise at 1. As a guide's size it is none."""
    workflow = graph(n30=node("LoadImage", image="me.png"), n31=node("VAEEncode", pixels=["30", 0], vae=["4", 2]))
    workflow["3"]["inputs"]["latent_image"] = ["31", 0]
    assert pictures(workflow) == [("30", False)]
    workflow["3"]["inputs"] |= {"sigmas": ["32", 0]}
    del workflow["3"]["inputs"]["denoise"]
    workflow["32"] = node("BasicScheduler", scheduler="simple", steps=20, denoise=1.0)
    assert pictures(workflow) == [("30", False)], "by the scheduler's denoise"
    workflow["3"]["inputs"]["denoise"] = 0.6
    assert pictures(workflow) == [("30", True)]


def test_a_picture_that_is_made_from_a_mask_is_no_source() -> None:
    workflow = graph(
        n30=node("LoadImage", image="me.png"),
        n31=node("MaskToImage", mask=["30", 1]),
        n32=node("ImageComposite", image1=["30", 0], image2=["31", 0]),
        n33=node("VAEEncode", pixels=["32", 0], vae=["4", 2]),
    )
    workflow["3"]["inputs"] |= {"latent_image": ["33", 0], "denoise": 0.6}
    assert pictures(workflow) == [("30", True)]


@pytest.mark.parametrize("kind", ["EmptyImage", "SolidColor", "Image Blank", "PerlinNoise", "CreateGradient"])
def test_a_picture_that_a_node_draws_is_no_reference(kind: str) -> None:
    workflow = graph(n30=node(kind, width=64), n31=node("VAEEncode", pixels=["30", 0], vae=["4", 2]))
    workflow["3"]["inputs"] |= {"latent_image": ["31", 0], "denoise": 0.6}
    assert pictures(workflow) == []


# The seed and the result


@pytest.mark.parametrize("typed", [-1, "42", 42.0, "%seed%", 2**70])
def test_a_seed_of_any_form_is_found_and_comes_back(typed: Any) -> None:
    """what the loop's nodes would refuse is replaced by a seed that they take."""
    workflow = graph(n40=node("PrimitiveInt", value=typed))
    for place in (typed, ["40", 0]):
        workflow["3"]["inputs"]["seed"] = place
        found = find_inputs(workflow)
        assert found.seed == (("40", "value") if place == ["40", 0] else ("3", "seed"))
        wrapped = wrap(workflow, found)
        assert 0 <= wrapped["interleave_open"]["inputs"]["seed"] < 2**64
        assert type(wrapped["interleave_planner"]["inputs"]["seed"]) is int
        assert json.dumps(unwrap(wrapped)) == json.dumps(workflow)


@pytest.mark.parametrize(
    "formula",
    [node("SimpleMath+", value="a+1", a=["41", 0]), node("MathExpression|pysssss", expression="a+1", a=["41", 0])],
)
def test_a_seed_that_is_computed_gives_way_at_the_sampler(formula: dict[str, Any]) -> None:
    """The formula stays as it is; the loop takes the place of what comes out of it."""
    workflow = graph(n40=formula, n41=node("PrimitiveInt", value=5))
    workflow["3"]["inputs"]["seed"] = ["40", 0]
    found = find_inputs(workflow)
    assert found.seed == ("3", "seed")
    assert unwrap(wrap(workflow, found)) == workflow


def test_a_language_models_seed_is_no_samplers() -> None:
    nodes = {"n20": node("OneLLM", prompt=WORDS, seed=5, max_tokens=64, imagetype="photo")}
    assert candidates(with_text_from(["20", 0], **nodes)).seeds == (("3", "seed"),)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("SaveImage", "images"),
        ("SaveImageWebsocket", "images"),
        ("Image Save", "images"),
        ("ETN_SendImageWebSocket", "images"),
        ("easy imageSave", "images"),
        ("Image Saver", "input_image"),
        ("DiscordPost", "image"),
        ("PreviewImage", "images"),
    ],
)
def test_the_result_is_what_shows_it(kind: str, name: str) -> None:
    workflow = graph(n9=node(kind, **{name: ["8", 0]}), n10=node("Image Comparer (rgthree)", image_a=["8", 0]))
    found = candidates(workflow)
    assert (found.outputs, found.shows) == (("9",), name)
    assert unwrap(wrap(workflow, find_inputs(workflow))) == workflow


def test_a_stage_that_is_saved_too_is_not_the_result() -> None:
    """The draft before the second pass, decoded and saved beside it."""
    workflow = graph(
        n10=node("LatentUpscale", samples=["3", 0], width=1024),
        n11=node("KSampler", model=["4", 0], seed=1, denoise=0.5, positive=["6", 0], latent_image=["10", 0]),
        n12=node("VAEDecode", samples=["11", 0], vae=["4", 2]),
        n13=node("SaveImage", images=["12", 0]),
    )
    assert candidates(workflow).outputs == ("13",)


def test_a_saved_collage_does_not_hide_the_generated_preview() -> None:
    workflow = graph(
        n9=node("PreviewImage", images=["8", 0]),
        n30=node("LoadImage", image="me.png"),
        n31=node("SaveImage", images=["30", 0]),
    )
    assert candidates(workflow).outputs == ("9",)


@pytest.mark.parametrize(("place", "words"), [("6.clip", "comes from node 4"), ("3.seed", "no text")])
def test_a_named_prompt_that_is_no_text_is_refused(place: str, words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        find_inputs(graph(), prompt=place)
