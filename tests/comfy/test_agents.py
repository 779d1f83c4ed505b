"""The agents inside ComfyUI: native decoding equals transformers', wrong models are named, VRAM is given back."""

from __future__ import annotations

import re

import pytest
from comfy_server import REPO
from comfy_test_graphs import node, ours
from inside import run_inside

from interleave_thinker.comfyui.client import WorkflowError
from interleave_thinker.comfyui.memory import LEAST_WORKING, PIXELS, PROMPT_TOKENS, SHAPES, Use, working_of


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


def test_behind_a_closed_thought_even_a_random_model_keeps_the_form(native):
    """In Python's spelling where it began so, and with the verdict that strictness leaves. Without the form it does not."""
    for begin, quote in (("<think>a</think>", '"'), ("<think>a</think>\n<answer>{'previous", "'")):
        kept, strict, lenient, free = native["form"][begin]
        form = rf"\s*<answer>\s*{{\s*{quote}previous_step_success{quote}\s*:\s*(\w+)\s*,\s*['\"]refine_prompt['\"]"
        said = [re.match(form, text.removeprefix("<think>a</think>"), re.I) for text, _ in (kept, strict, lenient)]
        assert all(said)
        assert [match.group(1).lower() for match in said[1:]] == ["false", "true"]
        assert kept[1] is not None and kept[1] == pytest.approx(strict[1], abs=1e-3)
        assert re.match(form, free[0].removeprefix("<think>a</think>"), re.I) is None


def test_inside_a_thought_a_random_model_writes_what_it_wrote_without_the_form(native):
    texts = [text for text, _ in native["form"]["<think><answer>"]]
    assert len(set(texts)) == 1 and "previous_step" not in texts[0]


def test_whatever_is_done_to_a_layer_counts_in_a_reply(native):
    """Patches, hooks, other number formats, replaced methods: though the layers are called several tokens at once.

    And in the fixed memory that a CUDA graph takes, though without a graph here.
    """
    assert len(native["changed"]) == 21
    for said, wanted, changed in native["changed"].values():
        assert said == wanted
        assert changed


def test_what_is_no_clip_is_refused_by_its_name(native):
    names = ("NoneType", "str", "Qwen3VLTEModel_", "_Wordless")
    assert [told.split(". ")[0] for told in native["no clip"]] == [
        f"This is no CLIP of ComfyUI, but {n}" for n in names
    ]


@pytest.fixture(scope="module")
def wrappers(tmp_path_factory):
    return run_inside("clip_wrappers.py", str(tmp_path_factory.mktemp("checkpoints")))


@pytest.fixture(scope="module")
def wrapped(wrappers):
    found = {name: told for name, told in wrappers.items() if isinstance(told, dict)}
    assert len({told["class"] for told in found.values()}) == 6  # of 30; the plain one serves both sizes
    return found


def test_whatever_wraps_a_qwen3vl_its_greedy_text_equals_transformers(wrapped):
    for told in wrapped.values():
        for ours_wrote, reference in told["texts"].values():
            assert ours_wrote == reference
            assert len(reference) > 20


def test_a_reply_leaves_no_trace_in_what_a_generators_clip_encodes(wrapped):
    """Bit for bit, with and without a picture; nor in the wrapper's options."""
    for told in wrapped.values():
        assert told["same conditioning"] and told["options untouched"] and told["same reply"]


def test_agents_of_before_keep_their_names(wrapped):
    """Stored judgments are found by them."""
    assert {told["name"] for told in wrapped.values()} == {"clip:qwen3vl_8b:64x2:", "clip:qwen3vl_4b:64x2:"}


def test_a_clip_is_refused_by_what_it_lacks(wrappers):
    for kind in ("FLUX qwen3vl_8b", "FLUX2 qwen3vl_8b", "FLUX qwen3vl_4b", "FLUX2 qwen3vl_4b"):
        assert "cannot see" in wrappers[kind] and "qwen_image" in wrappers[kind]
    for kind, lack in {"qwen2.5-vl-7b": "language head", "qwen3-vl-32b": "last layers"}.items():
        assert lack in wrappers[kind] and "cannot see" not in wrappers[kind]
        assert "Load CLIP of its own" in wrappers[kind]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in ("qwen35", "gemma4")])
def test_other_vlms_of_comfyui_write_what_transformers_writes(kind, tmp_path):
    """Greedy, with streaming, without a trace in what the CLIP encodes; text, one image, two of different sizes.

    Where our prompt asks for no thought, the reply begins with its form; where it asks for one, it is free to think.
    """
    found = run_inside("other_vlms.py", str(tmp_path), kind)
    assert found.pop("same conditioning")
    kept, free = (re.match(r"\s*<answer>\s*{\s*[\"']previous_step", text) for text in found.pop("form"))
    assert kept and not free
    assert not re.match(r"\s*<answer>", found.pop("thoughtful"))
    assert found.pop("types with a lack") == []  # so `why_no_agent` takes them with any type
    for ours_wrote, reference, shown in found.values():
        assert ours_wrote.strip() == reference.strip() and len(reference) > 20
        assert shown > 10
    assert len(found) == 3


def test_a_clip_of_an_unknown_chat_form_replies_by_comfyuis_own_generate():
    """A Gemma 3 with eyes: no text before the end, pictures of two sizes in their order."""
    found = run_inside("generate_only.py")
    replies = {name: told[0] for name, told in found.items() if name in ("none", "first", "second", "both", "swapped")}
    assert len(set(replies.values())) == 5 and all(replies.values())
    assert found["both"][1:] == [12, 1] and found["again"] == replies["both"]
    assert len(found["pictures"]) == 2 and found["pictures"][0] != found["pictures"][1]
    assert "Be brief." in found["text"] and "[picture 1][picture 2]Judge it." in found["text"]
    text, marks = found["loud"]
    assert "Say < end_of_turn> and <think> aloud." in text and marks == found["quiet"][1], "only the template's own"


@pytest.fixture(scope="module")
def managed(tmp_path_factory):
    model = REPO / "interleave_thinker" / "tinyworld" / "weights" / "critic"
    return run_inside("managed_memory.py", str(model), str(tmp_path_factory.mktemp("adapter")))


def test_a_model_leaves_vram_when_comfyui_asks(managed):
    found = managed
    assert found["loaded after a reply"]
    assert not found["loaded after free_memory"]
    assert found["reply"] == found["reply after coming back"]
    assert found["unmanaged"] == ["written", "10 bytes free", "meta", "reply", "cpu"]


def test_an_adapter_beside_load_agents_weights_is_counted_until_its_last_agent_is_gone(managed):
    found = managed
    beside, pairs = found["bytes beside"]
    assert found["one patcher"] and beside == pairs > 0, "the manager counts an adapter beside the weights"
    assert found["reply with an adapter"] != found["reply"] == found["reply after the adapter"]
    assert found["bytes left"] == 0, "and no longer when its last agent is gone"


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    return run_inside("native_memory.py", str(tmp_path_factory.mktemp("checkpoint")))


@pytest.mark.parametrize("case", ["short", "long", "seeing", "by generate"])
def test_the_native_agent_asks_for_its_cache_and_activations_before_it_takes_them(manager, case):
    """On ComfyUI's device, and what was captured for the reply is let go at its end."""
    noted = manager[case]
    room = next(told for told in noted if told[0] == "room")
    taken = next(told for told in noted if told[:2] == ["cache", "cpu"])
    assert noted.index(room) < noted.index(taken)
    assert room[1] > taken[2] > 0
    assert noted[0] == ["device", "cpu"] and noted[-1] == ["let go"]


@pytest.mark.parametrize(("tokens", "side"), [pytest.param(2048, 1024, marks=pytest.mark.slow), (512, 2048)])
def test_the_command_vram_counts_what_the_native_agent_asks_for(tokens, side):
    """Within half as much again: one goes by a file's name, the other by the model that is loaded."""
    rooms = run_inside("reply_rooms.py", str(tokens), str(PROMPT_TOKENS), str(side))
    use = Use(tokens, side * side / PIXELS, 2)
    counted = {f"{family} {size}": working_of(shape, use) for (family, size), shape in SHAPES.items()}
    assert {family for family, _ in SHAPES} == {name.rpartition(" ")[0] for name in rooms}
    for name, room in rooms.items():
        assert 1 / 1.5 < counted[name] / max(room, LEAST_WORKING) < 1.5, f"{name}: {counted[name]} {room}"


def test_a_longer_reply_asks_for_more(manager):
    rooms = [next(told[1] for told in manager[case] if told[0] == "room") for case in ("short", "long")]
    assert rooms[1] - rooms[0] >= (2000 - 12) * 2 * 2 * 128 * 4  # layers, keys and values, width, float32


def test_the_native_agent_gives_back_its_cache(manager):
    """Also while the exception of an interrupt is held."""
    assert manager["left"] == 0
    assert manager["left after an interrupt"] == [0, True]
    assert manager["interrupted"][-1] == ["let go"]


def test_a_model_in_fp8_int8_or_nvfp4_writes_what_comfyuis_generate_writes(manager):
    for first, second, generated, weight in manager["formats"].values():
        assert first == second == generated and len(first) > 10
        assert weight == "QuantizedTensor"


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
