"""A model folder that holds an adapter in place of weights (`adapter_folder`), and the training that makes one."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from interleave_thinker.agents.adapter_file import (  # noqa: E402
    BaseSample,
    Pair,
    hf_name,
    layer_of,
    read_adapter,
    write_adapter,
)
from interleave_thinker.agents.adapter_folder import (  # noqa: E402
    ADAPTER_NAME,
    load_weights,
    weight_files,
    whole_weights,
)
from interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_thinker.agents.transformers_agent import check_folder, load_agent  # noqa: E402
from interleave_thinker.cli import main  # noqa: E402
from interleave_thinker.errors import AgentError  # noqa: E402
from interleave_thinker.research.train.adapters import export_comfy  # noqa: E402
from interleave_thinker.tinyworld.convert import WEIGHTS, make_whole  # noqa: E402

WORDS = "model.language_model.embed_tokens.weight"
KIND = transformers.Qwen3VLForConditionalGeneration
PICTURES = (Image.new("RGB", (64, 64), "white"), Image.linear_gradient("L").convert("RGB").resize((64, 64)))
ASKED = [Message("user", (*PICTURES, "want a red circle\ngot a red circle"))]


@pytest.fixture(scope="module")
def base():
    return load_file(WEIGHTS / "base" / "model.safetensors")


@pytest.fixture
def adapted(tmp_path, base):
    """(folder with an adapter of the tiny base, beside a copy of it; its pairs by name of the weight)."""
    shutil.copytree(WEIGHTS / "base", tmp_path / "base")
    folder = tmp_path / "mine"
    shutil.copytree(WEIGHTS / "base", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    chance = torch.Generator().manual_seed(1)
    paired = ("q_proj.weight", "down_proj.weight", "attn.qkv.weight", "embed_tokens.weight")
    names = [n for n in base if n.endswith(paired)]
    pairs = {
        n: Pair(
            torch.randn(base[n].shape[0], 4, generator=chance) * 0.1,
            torch.randn(4, base[n].shape[1], generator=chance) * 0.1,
            2.0,
        )
        for n in names
    }
    write(folder, pairs, base)
    return folder, pairs


def write(folder, pairs, base, name="base"):
    layers = {layer_of(n.removesuffix(".weight")): p for n, p in pairs.items()}
    sample = BaseSample.of(layers, lambda layer: base[f"{hf_name(layer)}.weight"][0])
    write_adapter(folder / ADAPTER_NAME, layers, base=name, sample=sample)


def test_the_model_is_the_base_with_the_pairs_in_its_weights(adapted, base):
    folder, pairs = adapted
    made = load_weights(KIND, folder, torch.float32).state_dict()
    assert len(pairs) > 10
    for name, weight in base.items():
        wanted = weight.float()
        if name in pairs:
            wanted = wanted + 2.0 * pairs[name].up @ pairs[name].down
        assert torch.allclose(made[name], wanted, atol=1e-6), name
        assert torch.allclose(whole_weights(folder)[name], wanted, atol=1e-6), name
    assert torch.equal(made["lm_head.weight"], made[WORDS]), "they are one weight, whose pair is in both"


def test_a_head_of_its_own_takes_nothing_from_the_pair_of_the_word_embeddings(adapted, tmp_path, base):
    folder, pairs = adapted
    for place in (tmp_path / "base", folder):
        config = json.loads((place / "config.json").read_text())
        config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
        (place / "config.json").write_text(json.dumps(config))
    save_file(base | {"lm_head.weight": base[WORDS].clone()}, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    made = load_weights(KIND, folder, torch.float32).state_dict()
    assert torch.equal(made["lm_head.weight"], base[WORDS].float())
    assert torch.allclose(made[WORDS], base[WORDS].float() + 2.0 * pairs[WORDS].up @ pairs[WORDS].down, atol=1e-6)


def test_it_is_an_agent_like_any_other_and_counts_the_weights_of_both_files(adapted, tmp_path):
    folder, _ = adapted
    agent, plain = load_agent(folder, device="cpu"), load_agent(tmp_path / "base", device="cpu")
    assert agent.name == "mine" and agent.prompts == str(folder / "prompts")
    assert agent.complete(ASKED, Sampling(12)).text != plain.complete(ASKED, Sampling(12)).text
    assert {f.parent.name for f in weight_files(folder)} == {"base", "mine"}
    assert load_agent(folder, device="cpu").model is agent.model, "loaded once"


def test_a_whole_copy_has_the_same_weights_and_needs_no_base(adapted, tmp_path):
    folder, _ = adapted
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "tiny-mine")
    make_whole(folder, copy)
    export_comfy(folder, tmp_path / "one.safetensors", "float32")
    wanted = load_weights(KIND, folder, torch.float32).state_dict()
    for found in (load_weights(KIND, copy, torch.float32).state_dict(), load_file(tmp_path / "one.safetensors")):
        assert len(found) > 100 and all(torch.equal(found[n], wanted[n]) for n in found)
    assert not (copy / ADAPTER_NAME).exists()


def test_a_folder_with_weights_of_its_own_is_installed_as_it_is(tmp_path):
    copy = shutil.copytree(WEIGHTS / "base", tmp_path / "copy")
    before = {f.name: f.read_bytes() for f in copy.iterdir() if f.is_file()}
    make_whole(WEIGHTS / "base", copy)
    assert {f.name: f.read_bytes() for f in copy.iterdir() if f.is_file()} == before


def test_another_base_is_refused(adapted, tmp_path, base):
    folder, _ = adapted
    save_file({n: t + 0.05 for n, t in base.items()}, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    with pytest.raises(AgentError, match="made for another model"):
        load_agent(folder, device="cpu")


@pytest.mark.parametrize("name", ["", "..", "../base", "/base", "nobody", "mine"])
def test_a_base_that_is_no_neighbour_with_weights_is_refused_and_named(adapted, base, name):
    """The name comes from a file of anyone's: it never leads out of the folder that the model lies in."""
    folder, pairs = adapted
    write(folder, pairs, base, name)
    with pytest.raises(AgentError, match="mine"):
        check_folder(folder)


class TestTraining:
    def train(self, role, out, *more):
        line = ["tinyworld", "train", role, "--start-from", str(WEIGHTS / "base"), "--out", str(out), "--batch", "2"]
        return main([*line, "--steps", "2", *map(str, more)])

    def test_an_adapter_is_made_beside_a_base_that_stays_as_it_was(self, tmp_path, base):
        assert self.train("planner", tmp_path / "a", "--lora-rank", 8) == 0
        made = read_adapter(tmp_path / "a" / "planner" / ADAPTER_NAME)
        assert made.base == "base" and {p.down.shape[0] for p in made.pairs.values()} == {8}
        assert any(p.up.abs().max() > 0 for p in made.pairs.values()), "it has learned"
        after = load_file(WEIGHTS / "base" / "model.safetensors")
        assert all(torch.equal(after[n], base[n]) for n in base)
        (tmp_path / "a" / "base").symlink_to(WEIGHTS / "base")
        assert load_agent(tmp_path / "a" / "planner", device="cpu").complete(ASKED, Sampling(4)).text

    def test_it_goes_on_from_an_adapter_of_a_lower_rank_as_that_one_ended(self, tmp_path):
        from interleave_thinker.research.tinyworld.train_adapter import add_low_rank, in_file, reply_logits, start_from

        assert self.train("planner", tmp_path / "a", "--lora-rank", 8) == 0
        start = read_adapter(tmp_path / "a" / "planner" / ADAPTER_NAME)
        model = load_weights(KIND, WEIGHTS / "base", torch.float32)
        pairs = add_low_rank(model, 16)
        start_from(pairs, start)
        (tmp_path / "a" / "base").symlink_to(WEIGHTS / "base")
        teacher = load_weights(KIND, tmp_path / "a" / "planner", torch.float32)
        inputs = {"input_ids": torch.arange(10, 30)[None], "attention_mask": torch.ones(1, 20, dtype=torch.long)}
        wanted = torch.ones(1, 19, dtype=torch.bool)
        with torch.no_grad():
            one, two = (reply_logits(m, inputs, wanted) for m in (model, teacher))
        assert torch.allclose(one, two, atol=1e-3)
        assert {p.up.shape[1] for p in in_file(pairs).values()} == {16}

    def test_constants_of_the_start_are_in_the_biases_and_stay(self, tmp_path, base):
        from interleave_thinker.agents.adapter_file import AdapterFile, hf_name
        from interleave_thinker.research.tinyworld.train_adapter import add_constants

        model = load_weights(KIND, WEIGHTS / "base", torch.float32)
        place = "visual.blocks.0.attn.qkv"
        bias = model.get_submodule(hf_name(place)).bias
        before = bias.detach().clone()
        add_constants(model, AdapterFile("a", {}, constants={place: torch.ones(len(bias))}))
        assert torch.equal(bias, before + 1)
        lacking = AdapterFile("a", {}, constants={"model.layers.0.mlp.up_proj": torch.ones(512)})
        with pytest.raises(AgentError, match="no such bias"):
            add_constants(model, lacking)

    def test_an_adapter_of_a_higher_rank_is_refused(self, tmp_path, capsys):
        assert self.train("planner", tmp_path / "a", "--lora-rank", 8) == 0
        start = tmp_path / "a" / "planner" / ADAPTER_NAME
        assert self.train("planner", tmp_path / "b", "--lora-rank", 4, "--start-adapter", start) == 1
        assert "train with that rank or more" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            (("--teacher", "x"), "give --lora-rank"),
            (("--lora-rank", "0"), "between 1 and 1024"),
            (("--lora-rank", "8", "--compare-every", "0"), "at least 1"),
        ],
    )
    def test_options_that_do_not_fit_are_named(self, tmp_path, capsys, more, told):
        assert self.train("planner", tmp_path / "a", *more) == 1
        assert told in capsys.readouterr().err
