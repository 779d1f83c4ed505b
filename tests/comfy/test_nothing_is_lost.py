"""A run that was killed or interrupted goes on where it was, whatever ComfyUI's cache mode."""

from __future__ import annotations

import hashlib
import os
import shutil
import time

import pytest
from comfy_test_graphs import loop, numbers, tiny_story

from interleave_thinker.comfyui.client import WorkflowError

CACHES = [(), ("--cache-classic",), ("--cache-lru", "3"), ("--cache-none",)]
IDS = [options[0][2:] for options in CACHES[1:]]
STRENGTHS = [s / 20 for s in range(1, 13)]
ALL = [(s, a) for s in range(1, 13) for a in (1, 2)]


def story(last: float = STRENGTHS[-1]):
    return loop(numbers(*STRENGTHS[:-1], last), accept="b >= 2", size=64, seed=1, prompts_matter=True, preview=True)


def contents(ran):
    """Every picture and the documents, by name: what must be the same bit for bit."""
    files = [*ran.folder.glob("attempts/*.png"), *ran.folder.glob("image_*.png"), *ran.folder.glob("document.*")]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def verdicts(ran):
    return [
        (a["step"], a["attempt"], a["prompt"], a["seed"], a["image_key"], a["judgment"])
        for a in ran.document["trajectory"]["attempts"]
    ]


@pytest.mark.parametrize(
    "cache", [CACHES[0], *(pytest.param(c, marks=pytest.mark.slow) for c in CACHES[1:])], ids=["default", *IDS]
)
def test_killed_interrupted_and_edited_runs_redo_only_what_changed(new_comfy, cache):
    whole = new_comfy(*cache)
    reference = whole.run(story())
    assert reference.made == ALL
    whole.stop()

    server = new_comfy(*cache)

    heard = set()

    def kill_in_step_four(event, facts):
        if event == "judgment":
            heard.add((facts["step"], facts["attempt"]))
        if event == "attempt" and (facts["step"], facts["attempt"]) == (4, 1):
            server.kill()

    with pytest.raises(WorkflowError):
        server.run(story(), kill_in_step_four)
    assert heard >= {(1, 1), (1, 2), (2, 1), (2, 2)}
    server.start()

    def interrupt_at_the_first_attempt(event, facts):
        if event == "judgment":
            heard.add((facts["step"], facts["attempt"]))
        if event == "trying":
            server.post("/interrupt", {})

    with pytest.raises(WorkflowError, match=r"Interrupted at Step \d+, attempt"):
        server.run(story(), interrupt_at_the_first_attempt)
    resumed = server.run(story())
    assert resumed.made, "the interrupt ended the run"
    assert not heard & set(resumed.made), "what the user had heard of was kept by the kill and by the interrupt"
    assert contents(resumed) == contents(reference)
    assert verdicts(resumed) == verdicts(reference)

    edited = server.run(story(0.7))
    assert edited.made == [(12, 1), (12, 2)]
    back = server.run(story())
    assert back.made == []


def test_a_model_file_that_was_written_anew_makes_its_pictures_anew(new_comfy, request):
    """Whoever trains a model again under its old name must not be shown what the old one made."""
    server = new_comfy()
    models = server.base / "models" / "diffusion_models"
    other = models / "tiny_written_anew.safetensors"
    shutil.copy(models / "tiny_kontext.safetensors", other)
    request.addfinalizer(other.unlink)
    graph = tiny_story()
    graph["10"]["inputs"]["unet_name"] = other.name
    first = server.run(graph)
    made = []
    for age in (0, 5):
        server.stop()
        os.utime(other, ns=(time.time_ns(), other.stat().st_mtime_ns + age * 10**9))
        server.start()
        made.append(server.run(graph).made)
    assert made == [[], first.made] and first.made
