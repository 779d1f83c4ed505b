"""Critic-Refine's strictness in a real ComfyUI: part of the judgment's key and of nothing else."""

from __future__ import annotations

import json

import pytest
from comfy_test_graphs import Graph, loop, ours, with_critic

from interleave_thinker.cli import main
from interleave_thinker.comfyui.client import WorkflowError

ROOM = 19.0
"""The critic's log-odds must leave room for a strictness that turns the verdict: the slider ends at 20."""


def judged(seed: int, **critic) -> Graph:
    """A loop with one step and one retry around noise, which the tiny critic judges."""
    text = "1. a small red circle at the center on a white background"
    graph = loop(text, seed=seed, size=64, t_max=2)
    graph["9"] = ours(
        "LoadAgent",
        model="tiny-critic",
        adapter="none",
        dtype="auto",
        max_tokens=512,
        temperature=0.0,
        max_megapixels=1.0,
    )
    return with_critic(graph, **critic)


def verdict(ran) -> tuple[bool, float, float]:
    """Of the first attempt in the run folder: accepted, log-odds, strictness."""
    line = json.loads((ran.folder / "trajectory.jsonl").read_text().splitlines()[0])
    judgment = line["judgment"]
    return judgment["accepted"], judgment["log_odds"], judgment.get("strictness", 0.0)


def test_another_strictness_judges_anew_keeps_pictures_and_0_recalls_what_was_before(comfy, tmp_path, capsys):
    plain = comfy.run(judged(7100))
    accepted, odds, shift = verdict(plain)
    assert shift == 0 and accepted == (odds > 0) and abs(odds) < ROOM
    turning = round(odds + (0.5 if accepted else -0.5), 1)

    turned = comfy.run(judged(7100, strictness=turning))
    assert turned.made[:1] != [(1, 1)] and "21" in turned.started, "the picture is recalled, the critic asked"
    assert verdict(turned) == (not accepted, odds, turning)
    assert turned.folder != plain.folder, "another critic makes another run"
    assert turned.of("done")[0]["verdicts"]["strictness"] == [turning, turning]

    for same in ({"strictness": 0.0}, {}):  # a prompt of before has no strictness
        again = comfy.run(judged(7100, **same))
        assert again.made == [] and "21" not in again.started
        assert verdict(again) == (accepted, odds, 0) and again.folder == plain.folder
        back = comfy.run(judged(7100, strictness=turning))
        assert back.made == [] and "21" not in back.started and back.folder == turned.folder

    comfy.run(judged(7100))
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(judged(7100)))
    assert main(["run", "--workflow", str(file), "--server", comfy.url, "--strictness", str(turning)]) == 0
    shown = capsys.readouterr().out
    assert f"The critic accepted {int(not accepted)} of 1 attempts (strictness {turning:g})." in shown


@pytest.mark.parametrize("value", [20.1, -21])
def test_a_strictness_beyond_the_slider_is_refused_before_anything_is_made(comfy, value):
    with pytest.raises(WorkflowError, match="strictness"):
        comfy.run(judged(7101, strictness=value))
