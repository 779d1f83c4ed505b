"""The tiny world: its languages read back what they write, and its checker sees what was drawn."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from interleave_thinker.cli import main
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.reading.plan_text import read_plan
from interleave_thinker.research.tinyworld.evaluate import balanced_accuracy
from interleave_thinker.tinyworld import checker
from interleave_thinker.tinyworld.language import (
    SYNONYMS,
    Edit,
    Voice,
    random_edit,
    read_caption,
    read_edit,
    scene_after,
)
from interleave_thinker.tinyworld.lessons import compare_lesson, critic_lesson, plain_prompt, rendered_case
from interleave_thinker.tinyworld.requests import draw_request, held_out, plan_is_right
from interleave_thinker.tinyworld.scene import Jitter, Scene, random_scene, render

RED = Scene("circle", "red", "big", "left", "white")


@pytest.mark.parametrize("richness", [0.0, 0.3, 1.0])
def test_every_sentence_is_read_back(richness):
    rng = random.Random(1)
    voice = Voice(rng, richness)
    for _ in range(500):
        scene = random_scene(rng)
        edit = random_edit(scene, rng, removal=0.1)
        assert read_caption(voice.describe(scene)) == scene
        assert read_edit(voice.instruct(edit, scene)) == edit


def test_no_word_belongs_to_two_meanings():
    rich = [w for many in SYNONYMS.values() for w in many]
    assert len(rich) == len(set(rich))
    assert not set(rich) & set(SYNONYMS)


@pytest.mark.parametrize(
    "text",
    ["", "hello", "a red circle", "change the circle", "make the circle red and blue", "red", "<script>", "move it"],
)
def test_what_is_no_sentence_of_the_world_is_nothing(text):
    assert read_caption(text) is None
    assert scene_after(text, RED) is None


def test_the_checker_reads_nearly_every_drawing_exactly():
    """Its measured accuracy on rendered pictures; the documented figure is from 500 of another seed."""
    assert checker.measure(300, seed=7) >= 0.99


def test_the_checker_refuses_what_is_not_of_this_world():
    noise = Image.effect_noise((64, 64), 120).convert("RGB")
    assert checker.read(noise).scene is None
    assert checker.shows(Image.new("RGB", (64, 64), (247, 247, 247)), RED.with_(present=False))


def outline(corners: list[tuple[float, float]], radius: int = 95, blur: float = 1.0) -> Image.Image:
    """A polygon with the soft edge that a generator gives it; `radius` is 256 for one as wide as the picture."""
    large = Image.new("RGB", (512, 512), "white")
    ImageDraw.Draw(large).polygon([(256 + radius * x, 256 + radius * y) for x, y in corners], fill=(0, 160, 60))
    return large.resize((64, 64), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(blur))


@pytest.mark.parametrize(
    ("notch", "radius", "blur"), [(0.45, 95, 1.0), (0.55, 60, 1.0), (0.6, 75, 1.0), (0.55, 95, 1.5)]
)
def test_a_star_with_rounded_tips_is_a_star(notch, radius, blur):
    """Anybody sees one; the exact drawing alone overlaps less with it than a circle does."""
    angles = [(k, math.pi / 5 * k) for k in range(10)]
    corners = [((notch if k % 2 else 1) * math.sin(a), -(notch if k % 2 else 1) * math.cos(a)) for k, a in angles]
    found = checker.read(outline(corners, radius, blur)).scene
    assert found is not None and found.shape == "star"


@pytest.mark.parametrize(
    "corners",
    [
        [(0, -1), (0.8, -0.2), (0.8, 0.9), (-0.8, 0.9), (-0.8, -0.2)],  # a house
        [(math.sin(math.pi / 2.5 * k), -math.cos(math.pi / 2.5 * k)) for k in range(5)],  # a pentagon
        [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    ],
)
def test_what_has_no_notches_is_no_star(corners):
    found = checker.read(outline(corners)).scene
    assert found is None or found.shape != "star"


def test_step_succeeded_needs_the_whole_change_and_nothing_else():
    before = render(RED)
    assert checker.step_succeeded("dye the disc emerald", before, render(RED.with_(color="green")))
    assert not checker.step_succeeded("dye the disc emerald", before, before)
    damaged = RED.with_(color="green", background="black")
    assert not checker.step_succeeded("dye the disc emerald", before, render(damaged))
    assert not checker.step_succeeded("sing a song", before, before)


def test_every_drawn_request_has_a_right_plan_and_wrong_ones_are_seen():
    for request in held_out(150, seed=3, kind=None):
        assert plan_is_right(request, request.plan)
        assert not plan_is_right(request, Plan(request.plan.steps[:-1]))
    request = held_out(1, seed=4)[0]
    steps = list(request.plan.steps)
    steps[-1] = PlanStep(steps[-1].step_number, "", "x", "change the background to nothing", None)
    assert not plan_is_right(request, Plan(tuple(steps)))


def test_held_out_requests_are_a_function_of_the_seed_alone():
    assert [r.text for r in held_out(5, 1)] == [r.text for r in held_out(5, 1)]
    assert [r.text for r in held_out(5, 1)] != [r.text for r in held_out(5, 2)]


def test_all_three_kinds_of_request_occur():
    rng = random.Random(0)
    assert {draw_request(rng).kind for _ in range(100)} == {"story", "continue", "describe"}


def test_a_request_s_plan_survives_the_wire():
    request = held_out(1, seed=5)[0]
    body = json.dumps({"execution_plan": [s.to_dict() for s in request.plan.steps]})
    read = read_plan(f"<think>x</think><answer>{body}</answer>")
    assert read is not None
    assert read.steps == request.plan.steps


def test_a_critic_lesson_tells_the_truth():
    """The verdict is the checker's, and a rejected prompt is rewritten in the generator's words."""
    prompts = {"critic": "want {original_instruction}\ngot {rewritten_prompt}", "compare": "{original_instruction}"}
    rng = random.Random(2)
    for _ in range(100):
        case = rendered_case(rng)
        answer = json.loads(critic_lesson(case, prompts).reply.split("<answer>")[1].split("</answer>")[0])
        assert answer["previous_step_success"] is case.right
        if not case.right:
            refined = answer["refine_prompt"]
            assert refined != case.used
            reached = scene_after(refined, case.before)
            assert reached is not None and reached.shows_the_same_as(case.wanted)
            assert not {w for w in refined.split() if any(w in many for many in SYNONYMS.values())}


def test_a_comparison_lesson_prefers_the_closest():
    case = rendered_case(random.Random(3))
    wanted = case.wanted
    wrong = wanted.with_(position="top" if wanted.position != "top" else "left", present=True)
    cases = [
        type(case)(case.before, after, case.prompt, case.prompt, case.before_image, render(after))
        for after in (wrong, wanted)
    ]
    lesson = compare_lesson(cases, {"compare": "{original_instruction}"})
    assert lesson.reply.endswith('{"best": 2}</answer>')
    prompts = {"critic": "{original_instruction}{rewritten_prompt}"}
    judged = [critic_lesson(c, prompts).reply.split("</think>")[0].removeprefix("<think>") for c in cases]
    assert lesson.reply.startswith(f"<think>1 {judged[0]} ; 2 {judged[1]}</think>"), "what a judgment says of each"


def test_a_plain_prompt_is_not_the_one_just_used():
    first = plain_prompt("dye the disc emerald", "dye the disc emerald", RED)
    assert first == "change the circle to green"
    assert plain_prompt("dye the disc emerald", first, RED) != first


def test_balanced_accuracy_is_the_mean_of_both_sides():
    """Nine accepted rightly and one rejected wrongly... a judge that always accepts is at one half."""
    assert balanced_accuracy([(True, True)] * 9 + [(True, False)]) == 0.5
    assert balanced_accuracy([(True, True), (False, False)]) == 1.0


def test_edits_keep_the_shape_visible():
    rng = random.Random(4)
    for _ in range(300):
        scene = random_scene(rng)
        after = random_edit(scene, rng, removal=0.0).apply(scene)
        assert after.color != after.background
        assert not after.shows_the_same_as(scene)


def test_a_drawing_keeps_its_place_through_an_edit():
    """An edit must not move what it does not name: same jitter, same outline."""
    jitter = Jitter(0.02, -0.02, 1.05)
    a, b = render(RED, jitter), render(Edit("color", "green").apply(RED), jitter)
    assert checker.read(a).scene == RED
    assert checker.read(b).scene == RED.with_(color="green")


def test_the_mean_of_two_trainings(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for name, value in (("a", 1.0), ("b", 4.0)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((2, 3), value, dtype=torch.bfloat16)}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text(name)
        (tmp_path / name / "training_args.bin").write_text("a pickle of the trainer's")
    words = ["tinyworld", "average", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    mean = load_file(tmp_path / "out" / "model.safetensors")["w"]
    assert mean.dtype == torch.bfloat16 and bool((mean == 2.5).all())
    assert (tmp_path / "out" / "config.json").read_text() == "a"
    assert not (tmp_path / "out" / "training_args.bin").exists()
    save_file({"w": torch.zeros(3, 2)}, tmp_path / "b" / "model.safetensors")
    assert main(words) == 1 and main([*words[:3], "--out", str(tmp_path / "x")]) == 1
