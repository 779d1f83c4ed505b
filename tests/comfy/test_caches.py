"""ComfyUI's own caches and the nodes that a loop places: short keys, no outputs of another prompt, nothing left."""

from __future__ import annotations

import pytest
from inside import run_inside

MODES = ["ram_pressure", "classic", "lru"]


@pytest.fixture(scope="module")
def found():
    """Fails if a long run ends in a RecursionError in classic mode: ComfyUI's thread for prompts would end with it."""
    return run_inside("short_keys.py")


@pytest.mark.parametrize("mode", MODES)
def test_comfyui_makes_no_keys_of_its_own_for_what_a_loop_places(found, mode):
    """They name all that is above a node, for each node: a third of what the loop cost, and more with longer bodies."""
    assert found["True"][mode]["signed"] == []


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_another_prompt_is_taken_for_the_loops(found, mode):
    """Ids come again with every prompt: 30.s1a1.b1 of this one must not get what that of the last one made."""
    assert not found["True"][mode]["found"] and not found["True"][mode]["found again"]


@pytest.mark.parametrize("mode", MODES)
def test_external_caches_are_not_asked_about_what_a_loop_places(found, mode):
    """A key means nothing in another process."""
    assert found["True"][mode]["told"] == []


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_of_what_is_over(found, mode):
    assert found["True"][mode]["left"] == 0


def test_left_alone_comfyui_makes_keys_finds_outputs_by_them_and_tells_other_caches(found):
    """Why the tests above can fail: this is what happens without the short keys."""
    assert "30.s1a1.b1" in found["False"]["ram_pressure"]["signed"]
    assert "30.s1a1.b1" in found["False"]["ram_pressure"]["told"]
