"""One CLIP plans, judges and encodes the generator's prompts: a whole loop on a real server.

The CLIP is a small Qwen3-VL in ComfyUI's own class that has learned its replies (small_clip/learned.py), the generator the
tiny world's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "small_clip"))
from comfy_server import COMFYUI
from comfy_test_graphs import ONE_CLIP, install_newer_nodes
from inside import run_inside
from learned import FIRST, REFINED, ROLES, SECOND, make_small_base_and_agents, make_small_clip
from story import Agents, StoryRun, prepare, story, tell, workflow_of_one_clip

from interleave_thinker.cli import main

CLIP, GENERATOR, VAE = "Qwen3VLTEModel_", "Flux", "TAESD"
Tell = Callable[..., StoryRun]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_clip(tmp_path_factory.mktemp("checkpoint"), COMFYUI)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Tell:
    """Runs of the story, each on a fresh server and once."""
    known: dict[tuple[Agents, bool, bool], StoryRun] = {}

    def run(agents: Agents, form_known: bool = True, forget: bool = False) -> StoryRun:
        key = agents, form_known, forget
        if key not in known:
            base = tmp_path_factory.mktemp("comfy")
            prepare(base, clip)
            known[key] = tell(base, story(base, *key))
        return known[key]

    return run


def attempts(run: StoryRun) -> list[tuple[int, str, bool, bool]]:
    """step, prompt, accepted, whether the reply could be read"""
    found = run.ran.document["trajectory"]["attempts"]
    return [(a["step"], a["prompt"], a["judgment"]["accepted"], a["judgment"]["parsed"]) for a in found]


STORY = [(1, FIRST, False, True), (1, REFINED, True, True), (2, SECOND, True, True)]


def test_the_generators_own_clip_plans_judges_and_refines(told: Tell) -> None:
    assert attempts(told("shared")) == STORY


def test_it_is_loaded_once_and_lies_in_memory_once(told: Tell) -> None:
    shared, apart, alone = told("shared"), told("apart"), told("none")
    assert (shared.loads.count(CLIP), apart.loads.count(CLIP)) == (1, 2)
    assert shared.bytes == alone.bytes, "agents cost no weights"
    assert apart.bytes > 1.5 * shared.bytes


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Agents], StoryRun]:
    """Runs around a base that knows nothing, whose planner and critic were extracted as adapters."""
    files = tmp_path_factory.mktemp("fine_tunes")
    base = make_small_base_and_agents(files, COMFYUI)
    for role in ROLES:
        out = files / "loras" / f"{role}.safetensors"
        assert main(["adapters", "extract", str(base), str(files / out.name), "--rank", "128", "--out", str(out)]) == 0

    def run(agents: Agents) -> StoryRun:
        place = tmp_path_factory.mktemp("comfy")
        prepare(place, base)
        (place / "models" / "loras").symlink_to(files / "loras")
        return tell(place, story(place, agents))

    return run


@pytest.mark.slow
def test_planner_and_critic_are_two_adapters_of_the_clip_that_encodes(adapted: Callable[[Agents], StoryRun]) -> None:
    """The base alone can do nothing; its conditioning is bit-equal with and without them, and it is loaded once."""
    run, alone = adapted("adapted"), adapted("none")
    assert attempts(run) == STORY
    assert run.loads.count(CLIP) == 1 and run.bytes == alone.bytes
    assert run.encoded == alone.encoded and set(run.encoded) == {FIRST, REFINED, SECOND}


@pytest.mark.parametrize("name", [ONE_CLIP[0], pytest.param(ONE_CLIP[1], marks=pytest.mark.slow)])
def test_a_shipped_workflow_of_one_clip_runs_whole(name: str, clip: Path, tmp_path: Path) -> None:
    """Planner, critic and encoder are one model: the first attempt is rejected, the second drawn from what was asked."""
    prepare(tmp_path, clip)
    install_newer_nodes(tmp_path)
    run = tell(tmp_path, workflow_of_one_clip(tmp_path, name))
    assert attempts(run) == STORY
    assert run.loads.count(CLIP) == 1


def test_what_it_encodes_is_bit_equal_with_and_without_agents(told: Tell) -> None:
    shared, alone = told("shared"), told("none")
    assert shared.encoded == alone.encoded and set(shared.encoded) == {FIRST, REFINED, SECOND}
    assert all(len(hashes) == 1 for hashes in shared.encoded.values())
    first = [run.ran.document["trajectory"]["attempts"][0]["image_key"] for run in (shared, alone)]
    assert first[0] == first[1], "the same picture"


def test_a_clip_whose_chat_form_is_unknown_drives_the_loop_by_comfyuis_generate(told: Tell) -> None:
    assert attempts(told("shared", False)) == STORY


def test_each_attempt_says_which_models_were_loaded_for_it(told: Tell) -> None:
    """On a card that holds one model at a time each attempt loads all of them."""
    document = told("shared", True, True).ran.document
    assert [a["loads"] for a in document["trajectory"]["attempts"]] == [[GENERATOR, VAE, CLIP]] * 3
    (done,) = told("shared", True, True).ran.of("done")
    assert done["loads"] == {"count": 9, "again": 6}
    (calm,) = told("shared").ran.of("done")
    assert calm["loads"] == {"count": 2, "again": 0}, "the planner had loaded the CLIP"


def test_a_load_is_of_weights_that_were_not_in_memory() -> None:
    """New patches on weights that stay, as a node in the body may set them, move nothing."""
    assert run_inside("counted_loads.py") == {
        "nothing": [],
        "two": ["Draws", "Encodes"],
        "again, in memory": [],
        "other patches on the same weights": [],
        "other weights of the same class": ["Draws"],
        "both after they left": ["Encodes", "Draws"],
        "one that left again": ["Draws"],
        "where the log is silent": None,
    }
