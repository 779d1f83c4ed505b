"""The file of an adapter: what is written is read, another base is told apart, and what is no adapter is refused."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from interleave_thinker.agents.adapter_file import (
    PREFIX,
    TOLERANCES,
    WORDS,
    BaseSample,
    Bits,
    Pair,
    hf_name,
    layer_of,
    read_adapter,
    write_adapter,
)
from interleave_thinker.errors import AgentError
from interleave_thinker.tinyworld.convert import WEIGHTS

LAYERS = [f"model.layers.{n}.self_attn.{kind}_proj" for n in range(5) for kind in "qkvo"]


def rows(seed: int = 0, width: int = 96) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(width, generator=random) for layer in LAYERS}


def written(file: Path, base: dict[str, torch.Tensor], scale: float = 2.0) -> dict[str, Pair]:
    random = torch.Generator().manual_seed(9)
    made = {n: Pair(torch.randn(8, 3, generator=random), torch.randn(3, 96, generator=random), scale) for n in LAYERS}
    write_adapter(file, made, base="base", sample=BaseSample.of(base, base.__getitem__), notes={"rank": "3"})
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = written(tmp_path / "a.safetensors", rows())
    found = read_adapter(tmp_path / "a.safetensors")
    assert found.base == "base" and list(found.pairs) == sorted(LAYERS)
    for layer, pair in made.items():
        assert torch.equal(found.pairs[layer].up, pair.up) and torch.equal(found.pairs[layer].down, pair.down)
        assert found.pairs[layer].scale == 2.0
    assert found.bytes == sum(4 * (8 * 3 + 3 * 96) for _ in LAYERS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_base_is_known_in_every_float_format(tmp_path: Path, dtype: torch.dtype) -> None:
    base = rows()
    written(tmp_path / "a.safetensors", base)
    found = read_adapter(tmp_path / "a.safetensors")
    found.check_base(lambda layer: base[layer].to(dtype))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_the_base_is_known_in_eight_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    base = rows()
    written(tmp_path / "a.safetensors", base)
    found = read_adapter(tmp_path / "a.safetensors")
    scale = 4 / 127 if dtype == torch.int8 else 1.0
    found.check_base(lambda layer: (base[layer] / scale).round().to(dtype).float() * scale
                     if dtype == torch.int8 else base[layer].to(dtype).float(), 8)  # fmt: skip


@given(st.floats(0.01, 2.0), st.integers(0, 50))
def test_a_base_that_was_trained_on_is_another_base(change: float, seed: int) -> None:
    base = rows(seed)
    sample = BaseSample.of(base, base.__getitem__)
    other = {layer: row + change * rows(seed + 1)[layer] for layer, row in base.items()}
    distance = sample.distance(other.__getitem__)
    assert distance is not None and distance > 0.003
    assert distance == pytest.approx(change, rel=0.3)


@pytest.mark.parametrize(("change", "bits"), [(0.01, 16), (0.05, 16), (0.12, 8)])
def test_a_fine_tune_is_another_base_where_it_is_farther_than_rounding(
    tmp_path: Path, change: float, bits: Bits
) -> None:
    """In eight bits one of 5% is not told from the base: rounding alone may make as much."""
    base = rows()
    written(tmp_path / "a.safetensors", base)
    found = read_adapter(tmp_path / "a.safetensors")
    tuned = {layer: row + change * rows(1)[layer] for layer, row in base.items()}
    with pytest.raises(AgentError, match="another model"):
        found.check_base(tuned.__getitem__, bits)


def test_another_base_is_refused_by_name_and_fingerprint(tmp_path: Path) -> None:
    written(tmp_path / "a.safetensors", rows())
    found = read_adapter(tmp_path / "a.safetensors")
    assert found.sample is not None
    for bits in TOLERANCES:
        with pytest.raises(AgentError, match=f"made for another model: base .fingerprint {found.sample.fingerprint}"):
            found.check_base(rows(5).__getitem__, bits)
    with pytest.raises(AgentError, match="another model"):
        found.check_base(rows(0, 32).__getitem__, 8)
    found.check_base(lambda layer: None, 8)  # nothing can be read: its layers are checked all the same


def test_layers_that_do_not_fit_are_named(tmp_path: Path) -> None:
    written(tmp_path / "a.safetensors", rows())
    found = read_adapter(tmp_path / "a.safetensors")
    found.check_layers(lambda layer: (8, 96))
    with pytest.raises(AgentError, match=r"k_proj is 8 x 64, the adapter's 8 x 96"):
        found.check_layers(lambda layer: (8, 64))
    with pytest.raises(AgentError, match=r"has no layer model.layers.0.self_attn.k_proj"):
        found.check_layers(lambda layer: None)


PAIR = {f"{PREFIX}model.layers.0.self_attn.q_proj.lora_{half}.weight": torch.ones(2, 2) for half in ("up", "down")}
UP, DOWN = PAIR
ALPHA, CONSTANT = UP.replace("lora_up.weight", "alpha"), UP.replace("lora_up.weight", "diff_b")


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        ({}, {"format": "pt"}, "is empty"),
        ({"diffusion_model.blocks.0.lora_up.weight": torch.ones(2, 2)}, {}, "no adapter of an agent"),
        ({**PAIR, f"{PREFIX}model.norm.diff": torch.ones(2)}, {}, "model.norm.diff"),
        ({UP: torch.ones(2, 2)}, {}, "one half of its pair"),
        ({**PAIR, UP: torch.ones(2, 3)}, {}, "2 x 3 and 2 x 2"),
        ({**PAIR, UP: torch.ones(2, 2, 1)}, {}, "damaged"),
        ({**PAIR, UP: torch.full((2, 2), math.nan)}, {}, "not finite"),
        ({**PAIR, UP: torch.ones(2, 2, dtype=torch.int8)}, {}, "int8"),
        ({**PAIR, ALPHA: torch.tensor(math.inf)}, {}, "not finite"),
        (PAIR, {"base_sample": "{"}, "says of its base"),
        (PAIR, {"base_sample": '{"a": 3}'}, "says of its base"),
        ({**PAIR, ALPHA: torch.ones(2)}, {}, "alpha"),
        ({**PAIR, ALPHA: torch.ones(0)}, {}, "alpha"),
        ({**PAIR, ALPHA: torch.tensor(1j)}, {}, "alpha"),
        ({CONSTANT: torch.ones(2, 2)}, {}, "2 x 2 and no row of numbers"),
        ({**PAIR, CONSTANT: torch.tensor(1.0)}, {}, "no row of numbers"),
        ({**PAIR, CONSTANT: torch.full((2,), math.inf)}, {}, "not finite"),
        ({**PAIR, CONSTANT: torch.ones(2, dtype=torch.int8)}, {}, "int8"),
        ({f"{PREFIX}{WORDS}.diff_b": torch.ones(2)}, {}, "beside a layer that has a bias"),
        ({**PAIR, UP.replace("encoders.", "encoders.qwen3vl_8b."): torch.ones(2, 2)}, {}, "twice"),
    ],
)
def test_what_is_no_adapter_is_refused(tmp_path: Path, tensors: dict, metadata: dict, said: str) -> None:
    save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(AgentError, match=said):
        read_adapter(tmp_path / "x.safetensors")


NUMBERS = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.sampled_from([1e308, 1e39, -1e200]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*LAYERS, "x"]), inner, max_size=3),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(JSON, st.dictionaries(st.sampled_from([*LAYERS, "x"]), st.lists(NUMBERS, min_size=64, max_size=64))))
@example(LAYERS)
def test_whatever_a_file_says_of_its_base_is_read_or_refused(tmp_path: Path, said: Any) -> None:
    """Nothing in a file ends in an error of Python's."""
    save_file(PAIR, tmp_path / "x.safetensors", metadata={"base_sample": json.dumps(said)})
    with contextlib.suppress(AgentError):
        read_adapter(tmp_path / "x.safetensors").check_base(rows().get)


@pytest.mark.parametrize("said", ["[" * 100_000, '{"a":' * 100_000, '{"a": [1' + "0" * 400 + "]}"])
def test_a_sample_that_no_reader_takes_is_refused(tmp_path: Path, said: str) -> None:
    save_file(PAIR, tmp_path / "x.safetensors", metadata={"base_sample": said})
    with pytest.raises(AgentError, match="says of its base"):
        read_adapter(tmp_path / "x.safetensors")


def test_an_adapter_stays_as_it_was_read_when_its_file_is_written_over(tmp_path: Path) -> None:
    """A copy over the file, while ComfyUI runs, must not change what is in use, nor end the process."""
    file = tmp_path / "x.safetensors"
    save_file(PAIR, file)
    found = read_adapter(file)
    with file.open("r+b") as opened:
        opened.seek(-32, 2)
        opened.write(b"\0" * 32)
    for pair in found.pairs.values():
        assert torch.equal(pair.up, torch.ones(2, 2)) and torch.equal(pair.down, torch.ones(2, 2))


def test_what_a_refusal_quotes_of_a_file_is_short_and_printable(tmp_path: Path) -> None:
    layer = "x" * 100_000
    pair = {key.replace("model.layers.0.self_attn.q_proj", layer): tensor for key, tensor in PAIR.items()}
    sample = {"base_sample": json.dumps({LAYERS[0]: [1.0] * 64}), "base": "\x1b[31mred\n\u202e" + "z" * 1000}
    for tensors in (pair, dict(list(pair.items())[:1])):
        save_file(tensors, tmp_path / "x.safetensors", metadata=sample)
        with pytest.raises(AgentError) as refused:
            read_adapter(tmp_path / "x.safetensors").check_layers(lambda layer: None)
        assert len(str(refused.value)) < 400
    save_file(PAIR, tmp_path / "x.safetensors", metadata=sample)
    with pytest.raises(AgentError) as refused:
        read_adapter(tmp_path / "x.safetensors").check_base(rows().get)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 400


def test_a_base_of_any_name_is_written(tmp_path: Path) -> None:
    """A folder's name may hold bytes that are no text."""
    base = rows()
    write_adapter(
        tmp_path / "x.safetensors",
        {LAYERS[0]: Pair(torch.ones(2, 2), torch.ones(2, 2))},
        base="a\udcffb",
        sample=BaseSample.of(base, base.__getitem__),
        notes={"tuned": "a\udcffb"},
    )
    assert read_adapter(tmp_path / "x.safetensors").base == "ab"


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"{}", b"PK\3\4" + b"x" * 100])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(AgentError, match=r"x\.safetensors"):
        read_adapter(tmp_path / "x.safetensors")


def test_a_pair_without_alpha_is_taken_as_it_is(tmp_path: Path) -> None:
    save_file(PAIR, tmp_path / "x.safetensors")
    found = read_adapter(tmp_path / "x.safetensors")
    assert found.sample is None and [p.scale for p in found.pairs.values()] == [1.0]


def test_layers_have_one_name_in_all_checkpoints() -> None:
    names = [
        n.removesuffix(".weight") for n in load_file(WEIGHTS / "base" / "model.safetensors") if n.endswith(".weight")
    ]
    assert len({layer_of(n) for n in names}) == len(names) > 50
    for name in [*names, "lm_head"]:
        assert hf_name(layer_of(name)) == name
        assert layer_of(layer_of(name)) == layer_of(name)
