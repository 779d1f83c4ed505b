"""An adapter out of two checkpoints, or out of a peft folder: what it holds, what is lost, and what is refused."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_adapters import WHOLE_CRITIC
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from interleave_thinker.agents.adapter_file import PREFIX, WORDS, hf_name, layer_of, read_adapter
from interleave_thinker.cli import main
from interleave_thinker.errors import AgentError
from interleave_thinker.research.train import checkpoint, extract, low_rank
from interleave_thinker.research.train.adapters import export_comfy
from interleave_thinker.research.train.checkpoint import Checkpoint
from interleave_thinker.research.train.models import ModelOptions, TrainError, lora
from interleave_thinker.research.train.peft_pairs import export_lora
from interleave_thinker.tinyworld.convert import WEIGHTS

FULL = 512
State = dict[str, torch.Tensor]


def small_model(seed: int = 0, *, tied: bool = False, width: int = 32) -> Qwen3VLForConditionalGeneration:
    """A Qwen3-VL with the tiny world's words, and eyes, that is made in a moment."""
    config = Qwen3VLConfig.from_pretrained(WEIGHTS / "base").to_dict()
    config["text_config"] |= {"hidden_size": width, "intermediate_size": 48, "num_hidden_layers": 2}
    config["text_config"] |= {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": tied}
    config["vision_config"] |= {"hidden_size": 32, "intermediate_size": 40, "depth": 3, "num_heads": 2}
    config["vision_config"]["out_hidden_size"] = width
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config | {"tie_word_embeddings": tied})).float().eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.2)
        elif "norm" in name and name.endswith("weight"):
            parameter.data.uniform_(0.5, 1.5)
    return model


def saved(model: Qwen3VLForConditionalGeneration, folder: Path, change: Callable[[str, torch.Tensor], None]) -> Path:
    """The model after `change` to its weights in place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            change(name, parameter)
    model.save_pretrained(folder)
    return folder


def is_linear(name: str) -> bool:
    return name.endswith("_proj.weight") or any(
        f"{w}.weight" in name for w in ("qkv", "attn.proj", "fc1", "fc2", "lm_head")
    )


def is_paired(name: str) -> bool:
    return is_linear(name) or name.endswith(("embed_tokens.weight", "pos_embed.weight", "patch_embed.proj.weight"))


def nudge(name: str, parameter: torch.Tensor) -> None:
    if is_paired(name):
        parameter += 0.05 * torch.randn_like(parameter)


def nothing(name: str, parameter: torch.Tensor) -> None:
    pass


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base, and the same with other linear layers and word embeddings."""
    folder = tmp_path_factory.mktemp("pair")
    return saved(small_model(), folder / "base", nothing), saved(small_model(), folder / "tuned", nudge)


@pytest.fixture(scope="module")
def question() -> dict[str, torch.Tensor]:
    processor = Qwen3VLProcessor.from_pretrained(WEIGHTS / "base")
    picture = Image.linear_gradient("L").convert("RGB").resize((64, 64))
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a big red circle"}]}]
    text = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return dict(processor(text=[text], images=[picture], return_tensors="pt"))


def logits(folder: Path, question: dict[str, torch.Tensor], state: State | None = None) -> torch.Tensor:
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    if state is not None:
        model.load_state_dict(state, strict=False)
    with torch.inference_mode():
        return model(**question).logits


def with_pairs(base: Path, file: Path) -> State:
    """The base's weights with the pairs and constants of a file added."""
    state, adapter = load_file(base / "model.safetensors"), read_adapter(file)
    for layer, found in adapter.pairs.items():
        name = f"{hf_name(layer)}.weight"
        more = found.scale * found.up.float() @ found.down.float()
        state[name] = state[name].float() + more.view_as(state[name])
    for layer, added in adapter.constants.items():
        state[f"{hf_name(layer)}.bias"] = state[f"{hf_name(layer)}.bias"].float() + added
    return state


def run(base: Path, tuned: Path, out: Path, **chosen: object) -> extract.Extraction:
    out.unlink(missing_ok=True)
    return extract.extract(Checkpoint.open(base), Checkpoint.open(tuned), out, **chosen)  # type: ignore[arg-type]


class Rows:
    """A matrix that is seen in blocks of a few rows."""

    def __init__(self, whole: torch.Tensor):
        self.whole, self.shape = whole, (whole.shape[0], whole.shape[1])

    def __iter__(self):
        for start in range(0, len(self.whole), 7):
            yield slice(start, start + 7), self.whole[start : start + 7]


class TestDecomposition:
    @given(
        rows=st.integers(20, 90), columns=st.integers(1, 20), own=st.integers(1, 20), seed=st.integers(0, 999),
        size=st.sampled_from([1e-4, 1.0, 1e3]),
    )  # fmt: skip
    @settings(deadline=None, max_examples=60)
    def test_a_rank_that_is_enough_loses_nothing_but_rounding(self, rows, columns, own, seed, size):
        random = torch.Generator().manual_seed(seed)
        whole = torch.randn(rows, own, generator=random) @ torch.randn(own, columns, generator=random) * size
        found = low_rank.decompose(Rows(whole), min(own, columns))
        left, right = found.halves(len(found.values), torch.float32)
        assert len(found.values) <= min(own, columns)
        assert low_rank.distance(Rows(whole), left, right) < 1e-4 * low_rank.norm(Rows(whole))
        assert math.isclose(low_rank.norm(Rows(whole)), float(whole.norm()), rel_tol=1e-5)

    @given(rank=st.integers(1, 30), decay=st.floats(0.3, 2.0), seed=st.integers(0, 99))
    @settings(deadline=None, max_examples=25)
    def test_a_rank_that_is_not_enough_loses_hardly_more_than_it_must(self, rank, decay, seed):
        """Against the exact decomposition, for spectra that fall slowly, as those of a training do."""
        random = torch.Generator().manual_seed(seed)
        u, _, v = torch.linalg.svd(torch.randn(300, 120, generator=random), full_matrices=False)
        values = torch.arange(1.0, 121) ** -decay
        whole = u * values @ v
        left, right = low_rank.decompose(Rows(whole), rank).halves(rank, torch.float32)
        least = float(values[rank:].square().sum().sqrt())
        assert low_rank.distance(Rows(whole), left, right) <= 1.02 * least + 1e-5

    def test_the_same_matrix_gives_the_same_pair(self):
        whole = torch.randn(200, 100, generator=torch.Generator().manual_seed(1))
        one, other = (low_rank.decompose(Rows(whole), 8).halves(8, torch.bfloat16) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class TestExact:
    @given(
        seed=st.integers(0, 99), tied=st.booleans(), width=st.sampled_from([16, 32, 48]),
        scales=st.tuples(st.floats(-3, -0.3), st.floats(0.3, 4)),
    )  # fmt: skip
    @settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_base_and_all_pairs_are_the_tuned_model(self, tmp_path_factory, question, seed, tied, width, scales):
        """Linear layers with their biases, embeddings of words, which may be the head too, of places and of patches, and
        each norm that layers behind it can take up, of the vision tower with its biases.
        """
        folder = tmp_path_factory.mktemp("exact")
        norms = (
            "layernorm.weight",
            "norm1.weight",
            "norm2.weight",
            "merger.norm.weight",
            "0.norm.weight",
            "1.norm.weight",
        )

        def change(name: str, parameter: torch.Tensor) -> None:
            nudge(name, parameter)
            if name.endswith(norms) or (name.endswith("language_model.norm.weight") and not tied):
                parameter *= torch.empty_like(parameter).uniform_(*scales).sign() * torch.rand_like(parameter).add(0.5)
            elif name.endswith("bias"):
                parameter += 0.3 * torch.randn_like(parameter)

        base = saved(small_model(seed, tied=tied, width=width), folder / "base", nothing)
        tuned = saved(small_model(seed, tied=tied, width=width), folder / "tuned", change)
        made = run(base, tuned, folder / "a.safetensors", rank=FULL, dtype="float32")
        assert made.dropped == () and len(made.folded) == 2 * 2 + 3 * 2 + 3 + (not tied)
        wanted = logits(tuned, question)
        found = logits(base, question, with_pairs(base, folder / "a.safetensors"))
        assert (found - wanted).abs().max() < 2e-3 * wanted.abs().max()
        assert (logits(base, question) - wanted).abs().max() > 0.1 * wanted.abs().max(), "the two differ"

    def test_a_layer_behind_a_norm_is_in_the_file_though_it_did_not_change_itself(self, pair, tmp_path):
        def change(name: str, parameter: torch.Tensor) -> None:
            if name.endswith("0.input_layernorm.weight"):
                parameter *= 2

        base, _ = pair
        made = run(base, saved(small_model(), tmp_path / "t", change), tmp_path / "a.safetensors", rank=FULL)
        layers = {f"model.layers.0.self_attn.{kind}_proj" for kind in "qkv"}
        assert {layer.layer for layer in made.layers} == set(read_adapter(tmp_path / "a.safetensors").pairs) == layers
        assert made.folded == ("model.layers.0.input_layernorm",)


class TestLost:
    @pytest.mark.parametrize("chosen", [{"rank": 3}, {"rank": 16, "dtype": "float16"}, {"error": 0.3}])
    def test_the_error_is_that_of_the_pairs_as_they_are_written(self, pair, tmp_path, chosen):
        base, tuned = pair
        made = run(base, tuned, tmp_path / "a.safetensors", **chosen)
        before, after = (load_file(folder / "model.safetensors") for folder in pair)
        lost = size = 0.0
        for layer in made.layers:
            found = read_adapter(tmp_path / "a.safetensors").pairs[layer.layer]
            name = f"{hf_name(layer.layer)}.weight"
            difference = (after[name].double() - before[name].double()).flatten(1)
            left = difference - found.scale * found.up.double() @ found.down.double()
            assert math.isclose(float(left.norm() / difference.norm()), layer.error, rel_tol=1e-3)
            assert (layer.rank, layer.shape) == (found.down.shape[0], tuple(difference.shape))
            lost, size = lost + float(left.norm()) ** 2, size + float(difference.norm()) ** 2
        assert math.isclose(math.sqrt(lost / size), made.error, rel_tol=1e-3)

    @given(error=st.floats(0.01, 0.95), dtype=st.sampled_from(["bfloat16", "float16", "float32"]))
    @settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_an_error_is_kept_with_the_least_rank(self, pair, tmp_path_factory, error, dtype):
        out = tmp_path_factory.mktemp("error") / "a.safetensors"
        made = run(*pair, out, error=error, dtype=dtype, max_rank=FULL)
        assert all(layer.error <= error for layer in made.layers)
        for layer in made.layers[::9]:
            if layer.rank > 1:
                difference = extract.Difference(*(Checkpoint.open(folder) for folder in pair), layer.layer)
                halves = low_rank.decompose(difference, FULL).halves(layer.rank - 1, getattr(torch, dtype))
                assert low_rank.distance(difference, *halves) > error * layer.size

    def test_an_error_that_takes_more_than_the_largest_rank_is_told(self, pair, tmp_path, capsys):
        base, tuned = pair
        line = f"adapters extract {base} {tuned} --error 0.05 --max-rank 4 --out {tmp_path}/a.safetensors"
        assert main(line.split()) == 0
        assert max(found.down.shape[0] for found in read_adapter(tmp_path / "a.safetensors").pairs.values()) == 4
        assert "layers are above 0.05: give a larger --max-rank" in capsys.readouterr().out

    def test_a_layer_that_is_read_in_blocks_gives_the_pair_of_one_that_is_held(self, tmp_path, monkeypatch):
        """Tall, wide and square ones, also behind a norm."""

        def change(name: str, parameter: torch.Tensor) -> None:
            words = "embed_tokens.weight"
            if name.endswith(("0.self_attn.k_proj.weight", "0.mlp.up_proj.weight", "0.linear_fc1.weight", words)):
                nudge(name, parameter)
            elif name.endswith("0.input_layernorm.weight"):
                parameter *= torch.linspace(0.5, 2, len(parameter))

        base = saved(small_model(width=40), tmp_path / "b", nothing)
        tuned = saved(small_model(width=40), tmp_path / "t", change)
        run(base, tuned, tmp_path / "held.safetensors", rank=5)
        monkeypatch.setattr(extract, "HELD", 100)
        monkeypatch.setattr(checkpoint, "BLOCK", 300)
        run(base, tuned, tmp_path / "read.safetensors", rank=5)
        held, read = (read_adapter(tmp_path / f"{name}.safetensors").pairs for name in ("held", "read"))
        assert held.keys() == read.keys()
        assert {pair.up.shape[0] - pair.down.shape[1] for pair in held.values()} == {-8, 0, 8, 24, 599}
        for layer, one in held.items():
            whole = one.up.float() @ one.down.float()
            difference = whole - read[layer].up.float() @ read[layer].down.float()
            assert float(difference.norm()) < 0.02 * float(whole.norm()), layer

    def test_what_no_pair_can_carry_is_counted_and_stays_out(self, tmp_path, capsys):
        changed = {
            "q_norm.weight": "norms of queries and keys",
            "language_model.norm.weight": "norm scales",
        }

        def change(name: str, parameter: torch.Tensor) -> None:
            nudge(name, parameter)
            if name.endswith(tuple(changed)):
                parameter += 0.1

        base = saved(small_model(tied=True), tmp_path / "b", nothing)
        tuned = saved(small_model(tied=True), tmp_path / "t", change)
        line = f"adapters extract {base} {tuned} --rank 4 --out {tmp_path}/a.safetensors --json {tmp_path}/a.json"
        assert main(line.split()) == 0
        told = json.loads((tmp_path / "a.json").read_text())
        before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
        assert [left["kind"] for left in told["dropped"]] == [k for k in extract.KINDS if k in changed.values()]
        out = capsys.readouterr().out
        for left in told["dropped"]:
            names = [
                name
                for name in before
                if name.endswith(tuple(e for e, kind in changed.items() if kind == left["kind"]))
            ]
            assert left["tensors"] == len(names) and left["parameters"] == sum(before[name].numel() for name in names)
            change_of, size = (
                math.sqrt(sum(float(t.double().square().sum()) for t in tensors))
                for tensors in ([after[n] - before[n] for n in names], [before[n] for n in names])
            )
            assert left["change"] is None if not size else math.isclose(left["change"], change_of / size, rel_tol=1e-4)
            assert f"left out: {left['kind']}, {left['parameters']} numbers" in out
            assert extract.KINDS[left["kind"]] in out, "and why"
        pairs = read_adapter(tmp_path / "a.safetensors").pairs
        assert {f"{hf_name(layer)}.weight" for layer in pairs} == {name for name in before if is_paired(name)}

    def test_pairs_of_linear_layers_alone_leave_the_rest_out_and_say_so(self, tmp_path, capsys):
        changed = {
            "qkv.bias": "biases", "norm1.bias": "norm biases", "norm1.weight": "norm scales",
            "pos_embed.weight": "position embeddings", "patch_embed.proj.weight": "patch embedding",
        }  # fmt: skip

        def change(name: str, parameter: torch.Tensor) -> None:
            if is_linear(name):
                nudge(name, parameter)
            elif name.endswith(tuple(changed)):
                parameter += 0.1

        base, tuned = saved(small_model(), tmp_path / "b", nothing), saved(small_model(), tmp_path / "t", change)
        line = f"adapters extract {base} {tuned} --rank 4 --linear-only --out {tmp_path}/a.safetensors"
        assert main(line.split()) == 0
        out = capsys.readouterr().out
        for kind in changed.values():
            assert f"left out: {kind}, " in out and extract.KINDS[kind] in out
        assert read_adapter(tmp_path / "a.safetensors").constants == {}

    def test_biases_alone_are_constants_without_a_pair(self, tmp_path):
        def change(name: str, parameter: torch.Tensor) -> None:
            if name.endswith("0.attn.qkv.bias"):
                parameter += 0.5

        base, tuned = saved(small_model(), tmp_path / "b", nothing), saved(small_model(), tmp_path / "t", change)
        made = run(base, tuned, tmp_path / "a.safetensors", rank=4)
        found = read_adapter(tmp_path / "a.safetensors")
        assert (made.layers, made.constants, made.error) == ((), ("visual.blocks.0.attn.qkv",), 0.0)
        assert not found.pairs and torch.equal(found.constants["visual.blocks.0.attn.qkv"], torch.full((96,), 0.5))

    @pytest.mark.parametrize(("tied", "kind"), [(False, "word embeddings"), (True, "tied head")])
    def test_linear_layers_alone_leave_the_word_embeddings_out_and_say_so(self, tmp_path, capsys, tied, kind):
        """Other programs put pairs beside linear layers alone."""
        base = saved(small_model(tied=tied), tmp_path / "b", nothing)
        tuned = saved(small_model(tied=tied), tmp_path / "t", nudge)
        line = f"adapters extract {base} {tuned} --rank 4 --linear-only --out {tmp_path}/a.safetensors"
        assert main(line.split()) == 0
        out = capsys.readouterr().out
        assert f"left out: {kind}, {639 * 32} numbers" in out and extract.KINDS[kind] in out
        assert WORDS not in read_adapter(tmp_path / "a.safetensors").pairs
        assert f"at most {extract.bytes_at(Checkpoint.open(base), 4, 2, True) / 1e6:.1f} MB" in out
        run(base, tuned, tmp_path / "whole.safetensors", rank=4)
        assert read_adapter(tmp_path / "whole.safetensors").pairs[WORDS].up.shape == (639, 4)

    @pytest.mark.parametrize(
        ("scale", "bias", "linear_only", "folds"),
        [
            ([2.0, 1.0], [0.0, 0.0], True, True), ([2.0, 1.0], [0.5, 0.5], False, True),
            ([2.0, 1.0], [0.5, 0.5], True, False), ([0.0, 1.0], [0.0, 0.0], False, False),
        ],
        ids=["no bias", "a bias", "a bias and no constants", "a zero in the base's scale"],
    )  # fmt: skip
    def test_a_norm_is_taken_up_only_where_that_is_exact(self, tmp_path, scale, bias, linear_only, folds):
        def begin(name: str, parameter: torch.Tensor) -> None:
            if "blocks.0.norm1" in name:
                values = scale if name.endswith("weight") else bias
                parameter[:] = torch.tensor(values).repeat(len(parameter) // 2)

        def change(name: str, parameter: torch.Tensor) -> None:
            begin(name, parameter)
            if is_linear(name):
                nudge(name, parameter)
            if name.endswith("blocks.0.norm1.weight"):
                parameter += 0.25

        base, tuned = saved(small_model(), tmp_path / "b", begin), saved(small_model(), tmp_path / "t", change)
        made = run(base, tuned, tmp_path / "a.safetensors", rank=4, linear_only=linear_only)
        assert made.folded == (("visual.blocks.0.norm1",) if folds else ())
        assert [left.kind for left in made.dropped] == ([] if folds else ["norm scales"])

    def test_a_bias_that_goes_with_its_scale_needs_no_constant(self, tmp_path):
        """W' diag(r) on g n + b is W' on r g n + r b."""

        def begin(name: str, parameter: torch.Tensor) -> None:
            if "blocks.0.norm1.bias" in name:
                parameter[:] = 0.5

        def change(name: str, parameter: torch.Tensor) -> None:
            begin(name, parameter)
            if "blocks.0.norm1" in name:
                parameter *= 2

        base, tuned = saved(small_model(), tmp_path / "b", begin), saved(small_model(), tmp_path / "t", change)
        made = run(base, tuned, tmp_path / "a.safetensors", rank=FULL, linear_only=True)
        assert made.folded == ("visual.blocks.0.norm1",) and made.dropped == ()


class TestFile:
    def test_a_folder_shards_and_one_file_for_load_clip_give_the_same_pairs(self, pair, tmp_path):
        base, tuned = pair
        small_model().save_pretrained(tmp_path / "shards", max_shard_size="100KB")
        assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
        export_comfy(tuned, tmp_path / "tuned.safetensors", "float32")
        run(base, tuned, tmp_path / "a.safetensors", rank=4)
        run(tmp_path / "shards", tmp_path / "tuned.safetensors", tmp_path / "b.safetensors", rank=4)
        one, other = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)

    def test_its_keys_are_comfyuis_and_its_numbers_of_the_chosen_kind(self, pair, tmp_path):
        for dtype in ("bfloat16", "float16", "float32"):
            made = run(*pair, tmp_path / "a.safetensors", rank=4, dtype=dtype)
            tensors = load_file(tmp_path / "a.safetensors")
            assert {t.dtype for key, t in tensors.items() if ".lora_" in key} == {getattr(torch, dtype)}
            assert made.bytes == sum(t.nbytes for key, t in tensors.items() if ".lora_" in key)
        expected = {
            layer_of(name.removesuffix(".weight"))
            for name in load_file(pair[0] / "model.safetensors")
            if is_paired(name)
        }
        parts = ("lora_up.weight", "lora_down.weight", "alpha")
        assert set(tensors) == {f"{PREFIX}{layer}.{part}" for layer in expected for part in parts}
        assert all(
            float(t) == len(tensors[key.replace("alpha", "lora_down.weight")])
            for key, t in tensors.items()
            if "alpha" in key
        )

    def test_it_knows_its_base(self, pair, tmp_path):
        run(*pair, tmp_path / "a.safetensors", rank=4)
        adapter = read_adapter(tmp_path / "a.safetensors")
        own, other = (Checkpoint.open(f) for f in (pair[0], saved(small_model(7), tmp_path / "other", nothing)))
        adapter.check_base(lambda layer: own.part(f"{layer}.weight", slice(0, 1)))
        with pytest.raises(AgentError, match="made for another model: base"):
            adapter.check_base(lambda layer: other.part(f"{layer}.weight", slice(0, 1)))

    def test_an_output_that_is_there_is_kept(self, pair, tmp_path, capsys):
        line = f"adapters extract {pair[0]} {pair[1]} --rank 2 --out {tmp_path}/a.safetensors".split()
        assert main([*line, "--dry-run"]) == 0 and list(tmp_path.iterdir()) == []
        promised = capsys.readouterr().out
        assert main(line) == 0
        first = (tmp_path / "a.safetensors").read_bytes()
        assert f"at most {extract.bytes_at(Checkpoint.open(pair[0]), 2, 2) / 1e6:.1f} MB" in promised
        assert main(line) == 1 and "is there already. Give another name" in capsys.readouterr().err
        assert main([*line, "--resume"]) == 0 and "is there already" in capsys.readouterr().out
        assert (tmp_path / "a.safetensors").read_bytes() == first
        assert main(["adapters", "extract", *map(str, pair), "--config", f"{tmp_path}/a.config.yaml", "--resume"]) == 0

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ("{b} {t} --rank 3", "choice of rank, number format and layers is 'rank 2, bfloat16, all layers"),
            (
                "{b} {t} --error 0.5",
                "and 'error 0.5, max-rank 256, bfloat16, all layers' is",
            ),
            (
                "{b} {t} --rank 2 --dtype float16",
                "and 'rank 2, float16, all layers' is wanted",
            ),
            ("{b} {t} --rank 2 --linear-only", "and 'rank 2, bfloat16, linear layers' is wanted"),
            ("{t} {b} --rank 2", "its base's fingerprint is"),
            ("{b} {d}/other --rank 2", "its fine-tune is 'tuned', and 'other' is wanted"),
            ("{b} {d}/tuned --rank 2", "its fine-tune's fingerprint is"),
        ],
    )
    def test_resume_takes_only_what_the_same_command_made(self, pair, tmp_path, capsys, words, told):
        """Else a fine-tune that was trained anew, or another rank, would seem to be extracted."""
        for name in ("other", "tuned"):
            saved(small_model(3), tmp_path / name, nothing)
        run(*pair, tmp_path / "a.safetensors", rank=2)
        first = (tmp_path / "a.safetensors").read_bytes()
        line = f"adapters extract {words} --resume --out {{d}}/a.safetensors"
        assert main(line.format(b=pair[0], t=pair[1], d=tmp_path).split()) == 1
        error = capsys.readouterr().err
        assert "is not the result of this command: " in error and told in error and "give another --out" in error
        assert (tmp_path / "a.safetensors").read_bytes() == first

    @pytest.mark.parametrize("content", [b"", b"x" * 99, None], ids=["empty", "no safetensors", "another safetensors"])
    def test_resume_takes_no_file_of_others(self, pair, tmp_path, capsys, content):
        file = tmp_path / "a.safetensors"
        file.write_bytes((pair[0] / "model.safetensors").read_bytes() if content is None else content)
        line = f"adapters extract {pair[0]} {pair[1]} --rank 2 --resume --out {file}"
        assert main(line.split()) == 1
        assert "Delete it, or give another --out" in capsys.readouterr().err

    def test_a_file_that_cannot_be_written_is_one_line(self, pair, tmp_path, capsys):
        (tmp_path / "file").write_text("x")
        line = f"adapters extract {pair[0]} {pair[1]} --rank 2 --out {tmp_path}/file/a.safetensors"
        assert main(line.split()) == 1
        assert capsys.readouterr().err.startswith(f"Error: Cannot write {tmp_path}/file/a.safetensors: ")
        before = os.umask(0o027)
        try:
            run(*pair, tmp_path / "b.safetensors", rank=2)
        finally:
            os.umask(before)
        assert (tmp_path / "b.safetensors").stat().st_mode & 0o777 == 0o640, "ComfyUI may run as another of the group"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b.safetensors", "file"]

    def test_a_half_written_file_of_another_process_is_left_alone(self, pair, tmp_path):
        """Both wrote `a.part`: one deleted or published what the other was writing."""
        for name in ("a.part", "a.safetensors.part"):
            (tmp_path / name).write_text("of the other")
        run(*pair, tmp_path / "a.safetensors", rank=2)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.part", "a.safetensors", "a.safetensors.part"]
        assert (tmp_path / "a.part").read_text() == "of the other"

    def test_an_interrupt_leaves_nothing_under_its_name(self, pair, tmp_path):
        def interrupt(layer: extract.Layer) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(*pair, tmp_path / "a.safetensors", rank=2, on_layer=interrupt)
        assert list(tmp_path.iterdir()) == []


class TestRefused:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ("{b} {t}", "either --rank or --error"),
            ("{b} {t} --rank 4 --error 0.1", "either --rank or --error"),
            ("{b} {t} --rank -1", "--rank is -1; it must be 1 or more"),
            ("{b} {t} --error 1.5", "--error is 1.5; it must lie between 0"),
            ("{b} {t} --error 0.1 --max-rank 0", "--max-rank is 0"),
            ("{b} {b} --rank 4", "hold the same weights"),
            ("{b} {d}/none --rank 4", "There is no folder or file"),
            ("{b} {d}/wide --rank 4", "in BASE (base) and 639 x 16 in TUNED (wide). Give the fine-tuned model"),
            (
                "{b} {d}/fewer --rank 4",
                "TUNED (fewer) has no model.layers.0.self_attn.k_proj.weight, which BASE (base) has. Give two whole checkpoints",
            ),
            ("{d}/fewer {b} --rank 4", "which TUNED (base) has. Give two whole checkpoints"),
            ("{b} {d}/eight.safetensors --rank 4", "eight is quantised"),
            ("{b} {d}/int8.safetensors --rank 4", "is I8. Give the bfloat16 files"),
            ("{b} {d}/other.safetensors --rank 4", "it is no Qwen3-VL"),
            ("{b} {d}/half.safetensors --rank 4", "cannot be read"),
            ("{b} {d}/text.txt --rank 4", "is no safetensors file"),
            ("{b} {d}/nan --rank 4", "not finite"),
            ("{b} {w} --rank 4", "TUNED (base) has no model.lm_head.weight, which BASE (base) has"),
        ],
    )
    def test_what_cannot_be_extracted_is_one_line(self, pair, wrong, tmp_path, capsys, words, told):
        words = words.format(b=pair[0], t=pair[1], d=wrong, w=WEIGHTS / "base")
        assert main(["adapters", "extract", *words.split(), "--out", f"{tmp_path}/a.safetensors"]) == 1
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and error[0].startswith("Error: ") and told in error[0]
        assert list(tmp_path.iterdir()) == []

    @pytest.fixture(scope="class")
    def wrong(self, pair, tmp_path_factory):
        folder = tmp_path_factory.mktemp("wrong")
        saved(small_model(width=16), folder / "wide", nothing)
        saved(small_model(), folder / "fewer", nothing)
        saved(small_model(), folder / "nan", nothing)
        state = load_file(pair[0] / "model.safetensors")
        name = next(name for name in state if "k_proj" in name)
        save_file({n: t for n, t in state.items() if n != name}, folder / "fewer" / "model.safetensors")
        save_file(state | {name: state[name] * math.nan}, folder / "nan" / "model.safetensors")
        save_file(state | {name: state[name].to(torch.float8_e4m3fn)}, folder / "eight.safetensors")
        save_file(state | {name: state[name].to(torch.int8)}, folder / "int8.safetensors")
        save_file({"model.layers.0.self_attn.q_proj.weight": torch.ones(2, 2)}, folder / "other.safetensors")
        (folder / "half.safetensors").write_bytes((folder / "eight.safetensors").read_bytes()[:5000])
        (folder / "text.txt").write_text("x")
        return folder


class TestPeft:
    TARGETS = ["q_proj", "down_proj", "qkv", "linear_fc2", "lm_head"]

    def trained(self, folder: Path, *, tied: bool = False, **config: object) -> Qwen3VLForConditionalGeneration:
        """A saved LoRA with random pairs; the model that it is on."""
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(4)
        adapted = get_peft_model(
            small_model(tied=tied), LoraConfig(**{"r": 4, "target_modules": self.TARGETS, **config})
        )
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name or "lora_embedding_A" in name:
                torch.nn.init.normal_(parameter, 0, 0.1)
        adapted.save_pretrained(folder)
        return adapted.eval()

    @pytest.mark.parametrize(
        "config",
        [
            {"lora_alpha": 16},
            {"lora_alpha": 16, "use_rslora": True},
            {"lora_alpha": 16, "alpha_pattern": {"layers.1.self_attn.q_proj": 64}, "rank_pattern": {"down_proj": 2}},
            {"lora_alpha": 16, "rank_pattern": {"embed_tokens": 2}, "target_modules": ["q_proj", "embed_tokens"]},
        ],
        ids=["alpha", "rank-stabilised", "patterns", "word embeddings"],
    )
    def test_the_file_writes_as_peft_does(self, pair, tmp_path, question, config):
        adapted = self.trained(tmp_path / "lora", **config)
        line = f"adapters export-comfy {pair[0]} --adapter {tmp_path}/lora --lora --dtype float32 --out {tmp_path}/a.safetensors"
        assert main(line.split()) == 0
        with torch.inference_mode():
            wanted = adapted(**question).logits
        found = logits(pair[0], question, with_pairs(pair[0], tmp_path / "a.safetensors"))
        assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
        assert (logits(pair[0], question) - wanted).abs().max() > 0.01 * wanted.abs().max()
        read_adapter(tmp_path / "a.safetensors").check_base(
            lambda layer: Checkpoint.open(pair[0]).part(f"{layer}.weight", slice(0, 1))
        )

    @pytest.mark.parametrize(
        ("config", "told"),
        [
            ({"use_dora": True}, "trained with use_dora"),
            ({"modules_to_save": ["embed_tokens"]}, "whole .modules_to_save."),
            ({"init_lora_weights": "pissa"}, "began with 'pissa'"),
        ],
    )
    def test_what_is_more_than_pairs_is_refused(self, pair, tmp_path, config, told):
        adapted = self.trained(tmp_path / "lora", **config)
        for name, parameter in adapted.named_parameters():
            if "modules_to_save" in name:
                parameter.data += 1
        adapted.save_pretrained(tmp_path / "lora")
        with pytest.raises(TrainError, match=told):
            export_lora(Checkpoint.open(pair[0]), tmp_path / "lora", tmp_path / "a.safetensors")
        assert not (tmp_path / "a.safetensors").exists()

    def test_words_that_peft_trained_for_reading_alone_are_refused_where_they_are_the_head_too(self, tmp_path):
        """In peft their pair does not count in a tied head; beside an agent it does."""
        self.trained(tmp_path / "lora", tied=True, target_modules=["q_proj", "embed_tokens"])
        base = Checkpoint.open(saved(small_model(tied=True), tmp_path / "b", nothing))
        with pytest.raises(TrainError, match="without embed_tokens in target_modules"):
            export_lora(base, tmp_path / "lora", tmp_path / "a.safetensors")

    def test_a_training_from_a_file_with_words_names_the_way_without_them(self, pair, tmp_path):
        run(*pair, tmp_path / "a.safetensors", rank=2)
        options = ModelOptions(pair[0], lora_rank=2, start_adapter=tmp_path / "a.safetensors")
        with pytest.raises(TrainError, match=r"a\.safetensors holds pairs of other than linear layers.*--linear-only"):
            lora(options)

    def test_biases_of_linear_layers_are_constants(self, pair, tmp_path):
        adapted = self.trained(tmp_path / "lora", bias="lora_only", target_modules=["qkv"])
        for name, parameter in adapted.named_parameters():
            if name.endswith(("qkv.bias", "qkv.base_layer.bias")):
                parameter.data += 1
        adapted.save_pretrained(tmp_path / "lora")
        assert export_lora(Checkpoint.open(pair[0]), tmp_path / "lora", tmp_path / "a.safetensors") == []
        found = read_adapter(tmp_path / "a.safetensors")
        assert found.pairs.keys() == found.constants.keys() and len(found.pairs) == 3
        assert all(torch.allclose(added, torch.ones(96)) for added in found.constants.values())

    def test_biases_of_other_layers_are_left_out_and_counted(self, pair, tmp_path):
        adapted = self.trained(tmp_path / "lora", bias="all", target_modules=["qkv"])
        for name, parameter in adapted.named_parameters():
            if name.endswith("norm1.bias"):
                parameter.data += 1
        adapted.save_pretrained(tmp_path / "lora")
        (warning,) = export_lora(Checkpoint.open(pair[0]), tmp_path / "lora", tmp_path / "a.safetensors")
        assert warning.startswith(f"{3 * 32} numbers of biases are left out")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda config: config | {"peft_type": "IA3"}, "of kind 'IA3'"),
            (lambda config: config | {"lora_alpha": "x"}, "lora_alpha is 'x'"),
            (lambda config: config | {"lora_alpha": 10**400}, "lora_alpha is 1000"),
            (lambda config: config | {"alpha_pattern": {"(": 3}}, "alpha_pattern"),
            (lambda config: config | {"alpha_pattern": [3]}, "alpha_pattern"),
            (lambda config: [], "of kind None"),
        ],
    )
    def test_a_config_that_is_not_a_loras_is_refused(self, pair, tmp_path, change, told):
        self.trained(tmp_path / "lora")
        file = tmp_path / "lora" / "adapter_config.json"
        file.write_text(json.dumps(change(json.loads(file.read_text()))))
        with pytest.raises(TrainError, match=told):
            export_lora(Checkpoint.open(pair[0]), tmp_path / "lora", tmp_path / "a.safetensors")

    @pytest.mark.parametrize(
        ("named", "warned"),
        [
            ("some/place/base/", False), ("C:\\models\\base", False), ("base", False), ("", False), (None, False),
            ("org/Other-8B", True), ("C:\\models\\Other-8B", True), ("base/Other-8B", True),
        ],
    )  # fmt: skip
    def test_a_base_of_another_name_is_warned_of(self, pair, tmp_path, capsys, named, warned):
        """Models of one size have equal shapes, and a peft folder says of its base only the name."""
        self.trained(tmp_path / "lora")
        file = tmp_path / "lora" / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": named}))
        line = f"adapters export-comfy {pair[0]} --adapter {tmp_path}/lora --lora --out {tmp_path}/a.safetensors"
        assert main(line.split()) == 0
        told = "Warning: The adapter was trained on Other-8B, and BASE is base."
        assert (told in capsys.readouterr().out) is warned

    @pytest.mark.parametrize(
        ("half", "changed", "told"),
        [
            ("A", lambda found: found[:0], "damaged"),
            ("A", lambda found: found[:2], "damaged"),
            ("A", lambda found: found * math.nan, "not finite"),
            ("B", lambda found: found[..., None], "damaged"),
            ("A", lambda found: found[0, 0], "damaged"),
        ],
    )
    def test_pairs_that_no_agent_would_take_are_refused(self, pair, tmp_path, half, changed, told):
        self.trained(tmp_path / "lora")
        file = tmp_path / "lora" / "adapter_model.safetensors"
        state = load_file(file)
        name = next(name for name in state if f"lora_{half}" in name)
        save_file(state | {name: changed(state[name]).clone()}, file)
        with pytest.raises(AgentError, match=told):
            export_lora(Checkpoint.open(pair[0]), tmp_path / "lora", tmp_path / "a.safetensors")
        assert not (tmp_path / "a.safetensors").exists()

    def test_an_adapter_of_another_model_is_refused(self, tmp_path):
        self.trained(tmp_path / "lora")
        base = Checkpoint.open(saved(small_model(width=16), tmp_path / "b", nothing))
        with pytest.raises(AgentError, match="does not fit this model"):
            export_lora(base, tmp_path / "lora", tmp_path / "a.safetensors")

    def test_a_file_without_an_adapter_is_refused(self, pair, capsys):
        assert main(f"adapters export-comfy {pair[0]} --lora --out a.safetensors".split()) == 1
        assert "name its folder with --adapter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "[" * 100_000),
        ("model.safetensors.index.json", "[1]"),
        ("model.safetensors.index.json", "[" * 100_000),
        ("model.safetensors.index.json", '{"weight_map": {"a": ["x"]}}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../model.safetensors", "b": ".."}}'),
    ],
)
def test_a_folder_with_a_damaged_json_file_is_refused(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / "config.json").write_bytes((WEIGHTS / "base" / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((WEIGHTS / "base" / "model.safetensors").read_bytes())
    (tmp_path / file).write_text(content)
    with pytest.raises((AgentError, TrainError), match=tmp_path.name):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("text", [None, [1], {}])
def test_a_config_that_says_nothing_of_the_head_is_read(tmp_path: Path, text: object) -> None:
    config = json.loads((WEIGHTS / "base" / "config.json").read_text())
    del config["tie_word_embeddings"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"text_config": text}))
    (tmp_path / "model.safetensors").write_bytes((WEIGHTS / "base" / "model.safetensors").read_bytes())
    assert Checkpoint.open(tmp_path).linear == Checkpoint.open(WEIGHTS / "base").linear


def checkpoints(tmp_path: Path, base: State, tuned: State) -> tuple[Checkpoint, Checkpoint]:
    """The tiny base with other tensors beside and instead of its own, twice."""
    own = load_file(WEIGHTS / "base" / "model.safetensors")
    for name, state in (("base", base), ("tuned", tuned)):
        save_file({**own, **state}, tmp_path / f"{name}.safetensors", metadata={"format": "pt"})
    return Checkpoint.open(tmp_path / "base.safetensors"), Checkpoint.open(tmp_path / "tuned.safetensors")


PROJECTION = "model.language_model.layers.0.self_attn.q_proj.weight"


def test_tensors_of_any_shape_are_counted(tmp_path: Path) -> None:
    """A checkpoint may hold single numbers and empty tensors."""
    base = {"a.number": torch.tensor(1.0), "a.none": torch.zeros(0, 4)}
    tuned = {"a.number": torch.tensor(2.0), "a.none": torch.zeros(0, 4)}
    shape = load_file(WEIGHTS / "base" / "model.safetensors")[PROJECTION].shape
    base[PROJECTION], tuned[PROJECTION] = torch.ones(shape), torch.zeros(shape)
    made = extract.extract(*checkpoints(tmp_path, base, tuned), tmp_path / "out.safetensors", rank=1)
    assert [(d.kind, d.tensors, d.parameters, d.change) for d in made.dropped] == [("others", 1, 1, 1.0)]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_a_difference_that_is_no_number_or_too_large_for_one_is_refused(tmp_path: Path, value: float) -> None:
    shape = load_file(WEIGHTS / "base" / "model.safetensors")[PROJECTION].shape
    base, tuned = checkpoints(tmp_path, {}, {PROJECTION: torch.full(shape, value)})
    with pytest.raises(TrainError, match=r"q_proj holds numbers that are not finite"):
        extract.extract(base, tuned, tmp_path / "out.safetensors", rank=1)


def test_the_critic_that_ships_is_what_the_command_makes_of_the_whole_one() -> None:
    models = Checkpoint.open(WEIGHTS / "base"), Checkpoint.open(WHOLE_CRITIC)
    extract.check_made(*models, WEIGHTS / "critic" / "adapter.safetensors", extract.asked(64, 0.0, 256, "bfloat16"))


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    layers: list[extract.Layer] = []
    base, tuned = Checkpoint.open(WEIGHTS / "base"), Checkpoint.open(WHOLE_CRITIC)
    with pytest.raises(TrainError, match="file"):
        extract.extract(base, tuned, tmp_path / "file" / "out.safetensors", rank=1, on_layer=layers.append)
    assert not layers
