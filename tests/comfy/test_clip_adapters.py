"""Planner and critic as two adapters of one CLIP: beside its weights while they write, gone while it encodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inside import run_inside

from interleave_thinker.tinyworld.convert import WEIGHTS

ROLES = ("planner", "critic")


def assert_says_the_same(kind: str, found: dict[str, Any]) -> None:
    """Layers in int8 round what goes into them too, so there logits are near and replies need not be equal."""
    adapted, base = found["apart"]
    assert adapted < (0.05 if kind == "int8_tensorwise" else 1e-4) and base > 0.3
    assert kind == "int8_tensorwise" or found["adapted"] == found["merged"] != []


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_inside("clip_adapters.py", str(tmp_path_factory.mktemp("checkpoints")), seconds=600)


@pytest.mark.parametrize("role", ROLES)
def test_an_adapter_says_what_the_merged_model_says(found: dict[str, Any], role: str) -> None:
    """On fifty calls with no, one and two pictures, with random weights. Recorded calls: `recorded_adapters.py`."""
    adapted, merged = found[role]
    assert len(merged) == 50 and adapted == merged
    assert adapted[: len(found["base before"])] != found["base before"]


def test_the_base_says_the_same_before_between_and_after(found: dict[str, Any]) -> None:
    for when in ("after planner", "after critic", "after an interrupt"):
        assert found[f"base {when}"] == found["base before"]


def test_what_the_clip_encodes_is_bit_equal_before_between_and_after(found: dict[str, Any]) -> None:
    assert found["encoded equal"] is True


def test_switching_sets_no_patch_and_loads_nothing(found: dict[str, Any]) -> None:
    assert found["patches"] == [1, 0], "one patches_uuid, no patch"
    assert found["loads of one CLIP"] == 1


def test_in_memory_lie_the_base_and_the_pairs_once(found: dict[str, Any]) -> None:
    sizes = found["sizes"]
    assert sizes["adapters"] == pytest.approx(sizes["their pairs"], rel=0.01)
    assert sizes["base"] == pytest.approx(found["checkpoint"], rel=0.01)
    after_two, after_fifty = found["live after 2 and 50 switches"]
    assert after_fifty == after_two


def test_its_bytes_are_asked_of_the_memory_manager(found: dict[str, Any]) -> None:
    """As many as the copies of its pairs take while it writes."""
    more, told = found["more room"]
    assert found["taken"] == [more, told] and more > 0


def test_an_interrupt_takes_the_adapter_off(found: dict[str, Any]) -> None:
    assert found["hooks while it writes"] > 0
    assert found["hooks after an interrupt"] == 0


def test_it_counts_also_where_comfyui_writes_the_whole_reply(found: dict[str, Any]) -> None:
    said, wanted = found["by generate"]
    assert said == wanted


def test_another_base_is_refused(found: dict[str, Any]) -> None:
    assert "was made for another model: base (fingerprint" in found["other base"]["critic's weights"]
    assert found["other base"]["base"] == ""


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "int8_tensorwise"])
def test_beside_quantised_weights_the_pairs_are_added_unquantised(found: dict[str, Any], kind: str) -> None:
    """It says what a float model says that has the quantised values and the pairs in its weights."""
    formats = found["formats"][kind]
    assert_says_the_same(kind, formats)
    assert "was made for another model" in formats["other base"]


@pytest.mark.parametrize("kind", ["float32", "float8_e4m3fn", "int8_tensorwise"])
def test_the_pair_of_the_words_counts_in_a_head_that_is_tied_to_them(found: dict[str, Any], kind: str) -> None:
    """Whose weight the words are, plain or quantised, in our loop over the tokens and in ComfyUI's own."""
    tied = found["tied"][kind]
    assert_says_the_same(kind, tied)
    assert not set(tied["adapted"]) & set(tied["base"][0])
    assert tied["by generate"] == tied["adapted"][:2]


def test_stock_load_lora_means_the_same_by_the_pair_of_the_words(found: dict[str, Any]) -> None:
    """It patches the one weight that is looked up and is the head."""
    assert found["tied"]["float32"]["stock"] == found["tied"]["float32"]["merged"]


@pytest.mark.parametrize("kind", ["float32", "float8_e4m3fn", "int8_tensorwise"])
def test_nothing_of_it_is_left_on_a_model_with_a_tied_head(found: dict[str, Any], kind: str) -> None:
    tied = found["tied"][kind]
    assert tied["base"][0] == tied["base"][1] and tied["encoded equal"] is True
    assert tied["patches"] == [True, 0] and tied["left"] == 0


def test_words_that_are_looked_up_and_written_are_on_the_device_once(found: dict[str, Any]) -> None:
    taken, pair = found["tied"]["float32"]["bytes of the words"]
    assert taken == pair > 0


def test_an_adapter_that_computes_no_numbers_is_told(found: dict[str, Any]) -> None:
    """Else the reply is noise, or torch's own words."""
    assert len(found["overflowing"]) == 2
    assert all("huge.safetensors computes no numbers" in said for said in found["overflowing"])


@pytest.mark.slow
def test_the_tiny_worlds_adapters_say_what_the_merged_models_say(tmp_path: Path) -> None:
    """On recorded calls of both roles. The share in fp8 and int8 is measured: benchmarks/clip_adapters.py."""
    told = run_inside("recorded_adapters.py", str(WEIGHTS), str(tmp_path), "6", seconds=1200)
    assert told["encoded_equal"] is True
    assert [told[f"float32 {role}"]["replies_equal"] for role in ROLES] == [1.0, 1.0]
