"""An adapter file beside the weights of a real, tiny Qwen3-VL in transformers."""

from __future__ import annotations

import gc
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_adapters import WEIGHTS, random_adapter

from interleave_thinker.agents.adapter_file import WORDS, BaseSample, hf_name, read_adapter, write_adapter
from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.errors import AgentError
from interleave_thinker.research.train.adapters import merge
from interleave_thinker.research.train.models import TrainError
from interleave_thinker.tinyworld.scene import Scene, render

BASE = WEIGHTS / "base"
RED = Scene("circle", "red", "big", "center", "white")
QUESTION = [Message("user", (render(RED), render(RED.with_(color="blue")), "want a big red circle\ngot a red circle"))]
SHORT = Sampling(40)


def said(agent):
    return agent.complete(QUESTION, SHORT).text


def hooks(model):
    return sum(len(layer._forward_hooks) for layer in model.modules())


def buffers(model):
    return {name for name, _ in model.named_buffers()}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_weights_that_compute_no_numbers_are_told(tmp_path, temperature):
    """Else the reply is noise, or torch's own words."""
    random_adapter(tmp_path / "a.safetensors", 1, scale=1e36)
    agent = load_agent(BASE, adapter=tmp_path / "a.safetensors", device="cpu")
    with pytest.raises(AgentError, match=r"base\+a computes no numbers"):
        agent.complete(QUESTION, Sampling(40, temperature))
    assert hooks(agent.model) == 0


@pytest.fixture
def files(tmp_path):
    """Two adapters of the tiny base."""
    for seed in (1, 2):
        random_adapter(tmp_path / f"{seed}.safetensors", seed)
    return [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    """The tiny base with a head of its own, which begins as its word embeddings."""
    folder = shutil.copytree(WEIGHTS / "base", tmp_path_factory.mktemp("untied") / "base")
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = state[f"{hf_name(WORDS)}.weight"].clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("head", ["tied", "of its own"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_file_beside_the_weights_says_what_the_merged_weights_say(tmp_path, untied, head, scale):
    """Where the head is tied to the word embeddings their pair counts in it too; elsewhere it does not."""
    base = BASE if head == "tied" else untied
    pairs = random_adapter(tmp_path / "a.safetensors", 3, scale=scale)
    adapted = load_agent(base, adapter=tmp_path / "a.safetensors", device="cpu")
    merged = load_agent(base, device="cpu", dtype="float32")
    assert merged.base is not adapted.base
    layers = dict(merged.model.named_modules())
    assert (layers["lm_head"].weight is layers[hf_name(WORDS)].weight) == (head == "tied")
    with torch.no_grad():
        for layer, pair in pairs.items():
            weight = layers[hf_name(layer)].weight
            weight += (scale * pair.up @ pair.down).view_as(weight)
        for layer, added in read_adapter(tmp_path / "a.safetensors").constants.items():
            layers[hf_name(layer)].bias += added
    text = said(merged)
    assert said(adapted) == text != said(load_agent(base, device="cpu"))
    one, two = (a.log_probability(QUESTION, text, SHORT, ended=False)[0] for a in (adapted, merged))
    assert one == pytest.approx(two, rel=1e-4)


def test_the_pair_of_the_words_counts_where_words_are_read_and_where_a_tied_head_writes(tmp_path, untied):
    """Alone in a file, so that no other pair hides it: each of the two places moves the logits as the weight would."""
    pair = random_adapter(tmp_path / "all.safetensors", 4, size=0.4)[WORDS]
    write_adapter(tmp_path / "a.safetensors", {WORDS: pair}, base="base", sample=BaseSample({}))
    found = []
    for base in (BASE, untied):
        adapted = load_agent(base, adapter=tmp_path / "a.safetensors", device="cpu")
        merged = load_agent(base, device="cpu", dtype="float32")
        before = said(load_agent(base, device="cpu"))
        one = adapted.log_probability(QUESTION, before, SHORT, ended=False)[0]
        with torch.no_grad():
            merged.model.get_submodule(hf_name(WORDS)).weight += pair.scale * pair.up @ pair.down
        assert one == pytest.approx(merged.log_probability(QUESTION, before, SHORT, ended=False)[0], rel=1e-4)
        found.append(one)
    assert found[0] != pytest.approx(found[1], rel=1e-2), "the head tells them apart"


def test_constants_alone_move_what_is_written_as_other_biases_would(tmp_path):
    random_adapter(tmp_path / "all.safetensors", 4, size=0.4)
    constants = read_adapter(tmp_path / "all.safetensors").constants
    write_adapter(tmp_path / "a.safetensors", {}, constants, base="base", sample=BaseSample({}))
    adapted = load_agent(BASE, adapter=tmp_path / "a.safetensors", device="cpu")
    merged = load_agent(BASE, device="cpu", dtype="float32")
    before = said(load_agent(BASE, device="cpu"))
    one = adapted.log_probability(QUESTION, before, SHORT, ended=False)[0]
    assert one != pytest.approx(merged.log_probability(QUESTION, before, SHORT, ended=False)[0], rel=1e-2)
    with torch.no_grad():
        for layer, added in constants.items():
            merged.model.get_submodule(hf_name(layer)).bias += added
    assert one == pytest.approx(merged.log_probability(QUESTION, before, SHORT, ended=False)[0], rel=1e-4)


def test_agents_of_one_base_do_not_notice_each_other(files):
    """Bit for bit, in any order and after fifty switches; nothing is left on the model between the replies."""
    bare = load_agent(BASE, device="cpu")
    before = said(bare), bare.log_probability(QUESTION, "<think>before", SHORT, ended=False)
    alone = []
    for file in files:
        alone.append(said(load_agent(BASE, adapter=file, device="cpu")))
        gc.collect()
    both = [load_agent(BASE, adapter=file, device="cpu") for file in files]
    assert both[0].base is both[1].base is bare.base
    assert len({*alone, before[0]}) == 3
    kept = buffers(bare.model)
    for n in range(50):
        assert bare.log_probability(QUESTION, "<think>before", SHORT, ended=False) == before[1]
        both[n % 2].log_probability(QUESTION, "<think>", SHORT, ended=False)
    for at in (0, 1, 0):
        assert said(both[at]) == alone[at]
        assert said(bare) == before[0]
    assert hooks(bare.model) == 0 and buffers(bare.model) == kept


def test_an_interrupt_takes_the_adapter_off(files):
    bare = load_agent(BASE, device="cpu")
    before = said(bare)
    adapted = load_agent(BASE, adapter=files[0], device="cpu")

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapted.complete(QUESTION, SHORT, interrupt)
    assert hooks(bare.model) == 0 and said(bare) == before


def test_the_pairs_move_with_the_model_and_are_no_part_of_what_is_saved(files):
    """Whoever moves the model between devices knows nothing of adapters."""
    bare = load_agent(BASE, device="cpu", dtype="float32")  # weights of their own, which are lost here
    names, kept = set(bare.model.state_dict()), buffers(bare.model)
    adapted = load_agent(BASE, adapter=files[0], device="cpu", dtype="float32")
    mine = buffers(bare.model) - kept
    assert len(mine) == 2 * len(adapted.adapter.paired) + len(adapted.adapter.moved)
    assert set(bare.model.state_dict()) == names
    assert {dict(bare.model.named_buffers())[name].dtype for name in mine} == {torch.float32}, "as the weights"
    bare.model.to(torch.bfloat16)
    assert {dict(bare.model.named_buffers())[name].dtype for name in mine} == {torch.bfloat16}
    assert said(adapted)
    bare.model.to("meta")
    assert all(dict(bare.model.named_buffers())[name].is_meta for name in mine)


def test_an_adapter_is_in_memory_once_and_leaves_with_its_last_agent(files):
    bare = load_agent(BASE, device="cpu")
    kept = buffers(bare.model)
    one, two = (load_agent(BASE, adapter=files[0], device="cpu") for _ in range(2))
    assert one.adapter is two.adapter
    del one
    gc.collect()
    assert buffers(bare.model) > kept
    del two
    gc.collect()
    assert buffers(bare.model) == kept
    assert said(load_agent(BASE, adapter=files[0], device="cpu")) != said(bare), "it can come back"


def spoil(file, change):
    tensors = load_file(file)
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    change(tensors, metadata)
    save_file(tensors, file, metadata=metadata)


KEY = "text_encoders.transformer.model.layers.4.mlp.down_proj"


def wider(tensors, _):
    tensors[f"{KEY}.lora_up.weight"] = torch.zeros(200, 4)


def elsewhere(tensors, _):
    for part in ("lora_up.weight", "lora_down.weight", "alpha"):
        tensors[f"{KEY.replace('.4.', '.9.')}.{part}"] = tensors.pop(f"{KEY}.{part}")


def halved(tensors, _):
    del tensors[f"{KEY}.lora_up.weight"]


def longer(tensors, _):
    tensors[f"{KEY}.diff_b"] = torch.zeros(200)


def moved_elsewhere(tensors, _):
    tensors[f"{KEY.replace('.4.', '.9.')}.diff_b"] = torch.zeros(192)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (wider, "layers.4.mlp.down_proj is 192 x 512"), (elsewhere, "no layer model.layers.9"), (halved, "not whole"),
        (longer, "layers.4.mlp.down_proj gives 192 numbers, and the adapter adds 200"),
        (moved_elsewhere, "no layer model.layers.9"),
    ],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_leaves_the_shared_base_as_it_was(files, change, told):
    """It is the last layer that does not fit: the ones before it must not have been touched."""
    bare = load_agent(BASE, device="cpu")
    before, kept = said(bare), buffers(bare.model)
    spoil(files[0], change)
    with pytest.raises(AgentError, match=told):
        load_agent(BASE, adapter=files[0], device="cpu")
    assert buffers(bare.model) == kept and hooks(bare.model) == 0 and said(bare) == before


@pytest.mark.parametrize("model", ["critic", "planner"])
def test_an_adapter_of_another_base_is_refused_by_its_name(files, model):
    """The layers fit; the weights are others."""
    with pytest.raises(AgentError, match="was made for another model: base"):
        load_agent(WEIGHTS / model, adapter=files[0], device="cpu")


def test_a_file_that_is_missing_or_no_adapter_is_refused(tmp_path):
    with pytest.raises(AgentError, match=r"no adapter file gone\.safetensors"):
        load_agent(BASE, adapter=tmp_path / "gone.safetensors", device="cpu")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(AgentError, match="cannot be read"):
        load_agent(BASE, adapter=tmp_path / "text.safetensors", device="cpu")
    with pytest.raises(AgentError, match="no adapter of an agent"):
        load_agent(BASE, adapter=BASE / "model.safetensors", device="cpu")


def test_merging_takes_a_lora_folder_and_says_so_of_a_file(files, tmp_path):
    with pytest.raises(TrainError, match=r"1\.safetensors is an adapter file"):
        merge(BASE, files[0], tmp_path / "merged")


def test_a_file_and_a_lora_folder_share_one_base(files, tmp_path):
    """peft puts modules of its own around the layers; each adapter still speaks as if it were alone."""
    peft = pytest.importorskip("peft")
    fresh = load_agent(BASE, device="cpu", dtype="float32")
    tuned = peft.get_peft_model(fresh.model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(0)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.5)
    tuned.save_pretrained(tmp_path / "lora")
    del fresh, tuned
    gc.collect()
    bare = load_agent(BASE, device="cpu")
    alone = {"bare": said(bare), "file": said(load_agent(BASE, adapter=files[0], device="cpu"))}
    folder = load_agent(BASE, adapter=tmp_path / "lora", device="cpu")
    alone["folder"] = said(folder)
    assert len(set(alone.values())) == 3
    after = load_agent(BASE, adapter=files[0], device="cpu")
    assert after.base is folder.base
    for _ in range(2):
        assert {"bare": said(bare), "file": said(after), "folder": said(folder)} == alone


@pytest.mark.parametrize("ended", [False, True])
def test_the_probability_of_a_reply_is_that_of_its_tokens_when_it_was_written(ended):
    """Read all at once or written one by one: the same numbers."""
    agent = load_agent(BASE, device="cpu")
    inputs, _ = agent._inputs(QUESTION, SHORT)
    written = agent.model.generate(
        **inputs, do_sample=False, max_new_tokens=300, output_logits=True, return_dict_in_generate=True
    )
    ids = written.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    assert ids[-1] == agent.processor.tokenizer.eos_token_id
    ids = ids if ended else ids[:-1]
    told = [row[0].float().log_softmax(-1)[token].item() for row, token in zip(written.logits, ids, strict=False)]
    text = agent.processor.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)
    found, tokens = agent.log_probability(QUESTION, text, SHORT, ended=ended)
    assert tokens == len(ids)
    assert found == pytest.approx(sum(told), abs=1e-3)


def test_the_probability_of_nothing_is_one():
    assert load_agent(BASE, device="cpu").log_probability(QUESTION, "", SHORT, ended=False) == (0.0, 0)
