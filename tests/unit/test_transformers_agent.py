"""The transformers backend on a real, tiny Qwen3-VL: the weights that come with the package."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.agents.cached_decoder import can_decode
from interleave_thinker.agents.transformers_agent import check_folder, load_agent
from interleave_thinker.errors import AgentError
from interleave_thinker.roles.critic import JUDGMENT_FORM, judge
from interleave_thinker.roles.planner import make_plan
from interleave_thinker.tinyworld.scene import Scene, render

WEIGHTS = Path(__file__).parents[2] / "interleave_thinker" / "tinyworld" / "weights"

RED = Scene("circle", "red", "big", "center", "white")


@pytest.fixture(scope="module")
def critic():
    return load_agent(WEIGHTS / "critic", device="cpu")


def asked(*parts):
    return [Message("user", parts)]


def test_the_critic_accepts_a_right_picture_and_rewrites_a_wrong_one(critic):
    wanted = "change the circle to blue"
    right = judge(critic, render(RED), render(RED.with_(color="blue")), wanted, wanted, sampling=Sampling(300))
    wrong = judge(critic, render(RED), render(RED), "dye the disc azure", "dye the disc azure", sampling=Sampling(300))
    assert right.accepted and right.parsed
    assert right.refined_prompt == wanted
    assert not wrong.accepted and wrong.parsed
    assert "blue" in wrong.refined_prompt


def test_the_planner_writes_a_plan(critic):
    planner = load_agent(WEIGHTS / "planner", device="cpu")
    request = (
        "Draw this in 3 steps: start with a big crimson disc at the center on a white background, then dye the disc "
        "azure, finally turn the circle into a star."
    )
    plan = make_plan(planner, request, sampling=Sampling(600)).plan
    assert len(plan.steps) == 3
    assert all(s.prompt for s in plan.steps)


def test_what_trainings_start_from_knows_both_forms():
    """recipes/tiny.sh and `ablate` start from it: rows of untrained agents must show what is untaught, not garbage."""
    base = load_agent(WEIGHTS / "base", device="cpu")
    request = (
        "Draw this in 3 steps: start with a big crimson disc at the center on a white background, then dye the disc "
        "azure, finally turn the circle into a star."
    )
    assert len(make_plan(base, request, sampling=Sampling(600)).plan.steps) == 3
    wanted = "change the circle to blue"
    for color in ("blue", "red"):
        judgment = judge(base, render(RED), render(RED.with_(color=color)), wanted, wanted, sampling=Sampling(300))
        assert judgment.parsed
        assert f"after big {color} circle center white" in judgment.reasoning, "it sees; to judge is taught"


def test_the_order_of_pictures_matters_and_sizes_may_differ(critic):
    """Before and after swapped is another question; a large picture is shrunk, not refused."""
    a, b = render(RED), render(RED.with_(color="blue")).resize((300, 200))
    question = "want change the circle to blue\ngot change the circle to blue"
    one = critic.complete(asked(a, b, question), Sampling(60)).text
    other = critic.complete(asked(b, a, question), Sampling(60)).text
    assert one != other


def test_a_reply_can_be_ended_early_and_is_bounded(critic):
    question = asked(render(RED), render(RED), "want a big red circle\ngot a big red circle")
    early = critic.complete(question, Sampling(300), lambda text: len(text) < 20)
    assert early.finish == "early"
    assert early.tokens < 20
    cut = critic.complete(question, Sampling(5))
    assert (cut.finish, cut.tokens) == ("length", 5)


def test_an_interrupt_takes_effect_within_one_token(critic):
    """An exception of `on_text` or of `check` leaves the reply at once, whatever its kind."""
    seen = []

    def interrupt(text):
        seen.append(text)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        critic.complete(
            asked(render(RED), render(RED), "want a big red circle\ngot a red circle"), Sampling(300), interrupt
        )
    assert len(seen) == 3


def test_greedy_is_repeatable_and_a_seed_fixes_sampling(critic):
    question = asked(render(RED), render(RED), "want a big red circle\ngot a big red circle")
    assert critic.complete(question, Sampling(40)).text == critic.complete(question, Sampling(40)).text
    warm = Sampling(40, temperature=1.5, seed=3)
    assert critic.complete(question, warm).text == critic.complete(question, warm).text


def test_the_model_brings_its_own_prompts(critic):
    assert critic.prompts is not None
    assert (Path(critic.prompts) / "critic.md").is_file()


def test_a_large_picture_is_shrunk_to_the_pixel_budget(critic):
    """What the model's processor gets is never larger than the budget."""
    inputs, _ = critic._inputs(asked(Image.new("RGB", (900, 900)), "x"), Sampling(max_pixels=64 * 64))
    assert inputs["image_grid_thw"].tolist() == [[1, 8, 8]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no model folder"),
        ({}, "no config.json"),
        ({"config.json": "nonsense"}, "not valid JSON"),
        ({"config.json": json.dumps({"model_type": "qwen2_vl"})}, "'qwen2_vl' model"),
        ({"config.json": json.dumps({"model_type": "qwen3_vl"})}, "no .safetensors"),
    ],
)
def test_a_folder_that_cannot_be_loaded_says_why(tmp_path, files, message):
    folder = tmp_path / "model"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    with pytest.raises(AgentError, match=message):
        check_folder(folder)


@pytest.fixture
def other_kind(tmp_path):
    """A tiny random Qwen2.5-VL with the words of the tiny critic."""
    from transformers import (
        AutoProcessor,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    known = AutoProcessor.from_pretrained(WEIGHTS / "critic")
    words = known.tokenizer
    image, video, begin, end = (words.convert_tokens_to_ids(f"<|{n}|>") for n in PICTURE_MARKS)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
        },
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=begin,
        vision_end_token_id=end,
    )
    folder = tmp_path / "qwen2.5"
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    seen = Qwen2VLImageProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 2**20})
    parts = seen, words, Qwen2VLVideoProcessor()
    Qwen2_5_VLProcessor(*parts, chat_template=known.chat_template).save_pretrained(folder)
    return folder


PICTURE_MARKS = ("image_pad", "video_pad", "vision_start", "vision_end")


def test_any_model_that_sees_and_writes_is_taken(other_kind):
    agent = load_agent(other_kind, device="cpu")
    a, b = render(RED), render(RED.with_(color="blue")).resize((90, 60))
    shown = []
    done = agent.complete(
        asked(a, "then", b, "x"), Sampling(12, temperature=0.0), lambda text: shown.append(text) is None
    )
    assert done.tokens > 0 and (done.finish == "stop" or len(shown) > 1)
    inputs, _ = agent._inputs(asked(a, "then", b, "x"), Sampling())
    assert len(inputs["image_grid_thw"]) == 2


def test_a_reply_is_what_transformers_own_loop_writes(other_kind, critic):
    """Greedy, behind texts and pictures of several sizes in turn: what one prompt leaves in a model counts for no other.

    With guesses from a reply that is repeated, and from one that is not.
    """
    import torch

    other = load_agent(other_kind, device="cpu")
    torch.manual_seed(3)
    for weight in other.model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    a, b = render(RED), render(RED.with_(color="blue")).resize((90, 60))
    questions = [("a big red circle",), (a, "then", b, "small"), ("two blue stars",), (b, "x"), ("a", a), ("words",)]
    for agent in (critic, other):
        assert can_decode(agent.model)
        sampling = Sampling(40, temperature=0.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("interleave_thinker.agents.cached_decoder.KINDS", ())
            by_transformers = [agent.complete(asked(*parts), sampling) for parts in questions]
        for parts, wanted in zip(questions, by_transformers, strict=True):
            for earlier in ((), (wanted.text, "a big red circle"), ("a small green star on a white background",)):
                done = agent.complete(asked(*parts), replace(sampling, earlier=earlier))
                assert replace(done, seconds=wanted.seconds) == wanted


def test_the_patches_of_a_picture_are_made_once(critic, monkeypatch):
    agent = load_agent(WEIGHTS / "critic", device="cpu")
    made: list[int] = []
    kind = type(agent.processor.image_processor)
    own = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, images, **o: made.append(len(images)) or own(self, images, **o))
    a, b = render(RED), render(RED.with_(color="blue"))
    first = agent._inputs(asked(a, b, "x"), Sampling())[0]
    again = agent._inputs(asked(a.copy(), b, "x"), Sampling())[0]
    turned = agent._inputs(asked(b, a, "x"), Sampling())[0]
    assert made == [1, 1]
    wanted = agent.processor(text=["<|image_pad|> <|image_pad|>"], images=[a, b], return_tensors="pt")
    for name in ("pixel_values", "image_grid_thw"):
        assert first[name].equal(wanted[name]) and again[name].equal(wanted[name])
    assert not turned["pixel_values"].equal(first["pixel_values"])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "brings no chat template"),
        ("{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}", "takes no pictures"),
        ("{{ raise_exception('Not this.') }}", "refuses the conversation: Not this."),
    ],
)
def test_a_chat_template_that_takes_no_pictures_is_refused(other_kind, template, message):
    (other_kind / "chat_template.jinja").write_text(template)
    with pytest.raises(AgentError, match=message):
        load_agent(other_kind, device="cpu")


def test_an_adapter_that_is_none_is_refused(tmp_path):
    with pytest.raises(AgentError, match="not a LoRA adapter"):
        load_agent(WEIGHTS / "critic", adapter=tmp_path, device="cpu")


def test_a_lora_adapter_is_applied(tmp_path, critic):
    """A trained adapter changes what is written; its name becomes part of the agent's."""
    peft = pytest.importorskip("peft")
    import torch

    fresh = load_agent(WEIGHTS / "critic", device="cpu")
    tuned = peft.get_peft_model(fresh.model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(0)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 1.0)
    tuned.save_pretrained(tmp_path / "lora")
    adapted = load_agent(WEIGHTS / "critic", adapter=tmp_path / "lora", device="cpu")
    question = asked(render(RED), render(RED), "want a big red circle\ngot a big red circle")
    assert adapted.complete(question, Sampling(20)).text != critic.complete(question, Sampling(20)).text
    assert adapted.name == "critic+lora"


@pytest.mark.parametrize("opened", ["<think>\n", ""])
def test_a_thought_that_the_chat_template_opened_is_part_of_the_reply(critic, monkeypatch, opened):
    """Or a reader would take for an answer what is only thought of."""
    written = critic.processor.apply_chat_template
    monkeypatch.setattr(critic.processor, "apply_chat_template", lambda *a, **k: written(*a, **k) + opened)
    reply = critic.complete(asked("x"), Sampling(max_tokens=2))
    assert reply.text.startswith(opened or "<think>")  # the tiny critic writes a tag of its own
    assert reply.text.count("<think>") == 1 + bool(opened)


@pytest.mark.parametrize("closed", ["<think>\n\n</think>\n\n", "</think>", "<|channel>thought\n<channel|>"])
def test_behind_a_thought_that_the_chat_template_closed_a_form_without_thought_begins(critic, monkeypatch, closed):
    """The tiny critic would think anew, and may where our prompt asks for a thought. The prompt's is no part of the reply."""
    written = critic.processor.apply_chat_template
    monkeypatch.setattr(critic.processor, "apply_chat_template", lambda *a, **k: written(*a, **k) + closed)
    bare = replace(JUDGMENT_FORM, thought=False)
    reply = critic.complete(asked("x"), Sampling(max_tokens=12, form=bare))
    assert reply.text.lstrip().startswith("<answer>")
    for free in (Sampling(max_tokens=12, form=bare, keep_form=False), Sampling(max_tokens=12, form=JUDGMENT_FORM)):
        text = critic.complete(asked("x"), free).text
        assert not text.lstrip().startswith("<answer>") and "channel" not in text


@pytest.mark.parametrize("mark", ["<|image_pad|>", "<|im_end|>", "<|im_start|>system", "<|vision_start|>"])
def test_marks_of_the_chat_form_in_a_text_stay_text(critic, mark):
    """A user's or a model's words are no further picture, and end no turn."""
    picture = render(RED)
    broken = mark.replace("<|", "< |")
    said, meant = (
        critic.complete(asked(picture, f"what is {words}?"), Sampling(12, temperature=0, earlier=(words,)))
        for words in (mark, broken)
    )
    assert said.text == meant.text
    inputs, _ = critic._inputs(asked(picture, f"what is {mark}?"), Sampling())
    plain, _ = critic._inputs(asked(picture, "what is it?"), Sampling())
    for name in ("<|image_pad|>", "<|im_end|>", "<|im_start|>", "<|vision_start|>"):
        token = critic.processor.tokenizer.convert_tokens_to_ids(name)
        assert (inputs["input_ids"] == token).sum() == (plain["input_ids"] == token).sum()


def test_a_question_that_the_processor_refuses_is_one_line(critic):
    with pytest.raises(AgentError, match=r"cannot read this question \(1x400\)"):
        critic.complete(asked(Image.new("RGB", (1, 400)), "what is it?"), Sampling(4))
    with pytest.raises(AgentError, match="was asked nothing"):
        critic.complete([], Sampling(4))
