"""Plans: liberal towards models, strict towards files, and never executed unchecked."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pytest

from interleave_thinker.contract import MAX_ATTEMPTS, MAX_STEPS_LIMIT
from interleave_thinker.errors import PlanError
from interleave_thinker.loop.plan import MAX_TEXT, Plan, PlanStep, checked
from interleave_thinker.reading.plan_text import plan_from_text, read_plan


def step(**fields: Any) -> dict[str, Any]:
    return {"step_number": 1, "step_name": "n", "instruction": "i", "prompt": "p", "auxiliary_text": None, **fields}


def reply(*steps: dict[str, Any]) -> str:
    return f"<think>r</think><answer>{json.dumps({'execution_plan': list(steps)})}</answer>"


def prompts(plan: Plan | None) -> list[str | None] | None:
    return None if plan is None else [s.prompt for s in plan.steps]


def drawn(*texts: str) -> Plan:
    return Plan(tuple(PlanStep(i, prompt=t) for i, t in enumerate(texts, 1)))


# --- reading what a planner wrote -----------------------------------------------------------------

OFFICIAL = """<think>Two stages.</think>
<answer>
{
   'execution_plan': [
      {'step_number': 1, 'step_name': 'Base', 'instruction': "Draw the cat's box.", 'prompt': 'a "plain" box', 'auxiliary_text': 'It's a box.'},
      {'step_number': 2, 'step_name': 'Cat', 'instruction': 'Add it.', 'prompt': "add the cat", 'auxiliary_text': None}
   ]
}
</answer>"""

READ = [
    ("the wire format", reply(step(prompt="a"), step(prompt="b")), ["a", "b"]),
    ("a Python literal with None", str({"execution_plan": [step(prompt="a"), step(prompt=None, auxiliary_text="t")]}), ["a", None]),
    ("'None' and 'null' as texts", reply(step(prompt="None"), step(prompt="null"), step(prompt="a")), [None, None, "a"]),
    ("a bare list under another name", json.dumps({"steps": [step(prompt="a")]}), ["a"]),
    ("no step_number, no name", json.dumps({"execution_plan": [{"prompt": "a"}]}), ["a"]),
    ("steps that are only prompts", json.dumps({"execution_plan": ["a", "b"]}), ["a", "b"]),
    ("unknown keys are dropped", reply(step(prompt="a", camera="wide")), ["a"]),
    ("wrong types become text", reply(step(prompt=7, instruction=["x"], step_number="one")), ["7"]),
    ("one object a step", '{"step_number": 1, "prompt": "a"}\n{"step_number": 2, "prompt": "b"}', ["a", "b"]),
    ("one object a step, in the answer", '<answer>{"prompt": "a"}\n{"prompt": "b"}</answer>', ["a", "b"]),
    ("a prompt of another near name", json.dumps({"steps": [{"Image Prompt": "a", "caption": "t"}]}), ["a"]),
    ("numbered steps", json.dumps({"step_1": {"prompt": "a"}, "step_2": {"prompt": "b", "caption": "t"}}), ["a", "b"]),
    ("numbered prompts and captions", json.dumps({"prompt1": "a", "caption1": "x", "prompt2": "b"}), ["a", "b"]),
    ("below another name", json.dumps({"result": {"steps": [{"prompt": "a"}]}}), ["a"]),
    ("a list below another name", json.dumps({"result": [{"prompt": "a"}]}), ["a"]),
    ("a tool call", json.dumps({"name": "plan", "arguments": {"steps": [{"prompt": "a"}]}}), ["a"]),
    ("a tool call with a text", json.dumps({"function": {"arguments": json.dumps({"steps": [{"prompt": "a"}]})}}), ["a"]),
    ("a prompt that is an object", json.dumps({"steps": [{"prompt": {"scene": "a", "n": None}}]}), ['{"scene": "a", "n": null}']),
    ("a text below a name", json.dumps({"content": json.dumps({"steps": ["a", "b"]})}), ["a", "b"]),
    ("a list in a list", '[[{"prompt": "a"}]]', ["a"]),
    ("JSON inside of a JSON text", '{\\"steps\\": [\\"a\\", \\"b\\"]}', ["a", "b"]),
    ("the list of steps, not that of pages", json.dumps({"pages": ["1"], "execution_plan": [{"prompt": "a"}]}), ["a"]),
    ("remarks of JavaScript", '{"steps": [{"prompt": "a" // first\n}, /* second */ {"prompt": "b"}]}', ["a", "b"]),
    ("the form before the plan", '{"steps": [{"prompt": "..."}]} as: {"steps": [{"prompt": "a"}]}', ["a"]),
    ("other things are numbered too", json.dumps([{"prompt": "a", "image1": "ref.png"}]), ["a"]),
    ("the same plan twice", (json.dumps({"steps": ["a", "b"]}) + "\n") * 2, ["a", "b"]),
    ("missing answer tags", json.dumps({"execution_plan": [step(prompt="a")]}), ["a"]),
    ("a fence", f"```json\n{json.dumps({'execution_plan': [step(prompt='a')]})}\n```", ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(("why", "raw", "expected"), READ, ids=[c[0] for c in READ])
def test_planner_replies_are_read_liberally(
    why: str, raw: str, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prompts(read_plan(raw)) == expected
    monkeypatch.setitem(sys.modules, "json_repair", None)  # type: ignore[arg-type]
    assert prompts(read_plan(raw)) == expected


UNREADABLE = [
    ("nothing", ""),
    ("no object", "First a cat, then a dog."),
    ("a plan of no steps", reply()),
    ("nulls everywhere", json.dumps({"execution_plan": None, "reasoning": None})),
    ("the plan is a text", json.dumps({"execution_plan": "a cat"})),
    ("a step is a number", json.dumps({"execution_plan": [1, 2]})),
    ("nested garbage", json.dumps({"execution_plan": [[[{"prompt": "a"}]]]})),
    ("another object", json.dumps({"previous_step_success": True})),
    ("cut off in the third step", reply(step(prompt="a"), step(prompt="b"), step(prompt="c"))[:-70]),
    ("the last brace is missing", '{"execution_plan": [{"prompt": "a"}, {"prompt": "b"}]'),
    ("the last brace is missing in the answer", '<answer>{"execution_plan": [{"prompt": "a"}]</answer>'),
    ("cut off in a second version", json.dumps({"steps": [{"prompt": "a"}]}) + ' Better: {"steps": [{"prompt": "b"}, {"pro'),
    ("one object a step, cut off", '{"prompt": "a"}\n{"prompt": "b"}\n{"pro'),
    ("a prompt of an unknown name", json.dumps({"execution_plan": [{"instruction": "i", "what_to_see": "a"}]})),
    ("no prompt in one of the steps", json.dumps({"execution_plan": [{"prompt": "a"}, {"instruction": "i"}]})),
    ("two plans that differ", json.dumps({"steps": ["a"]}) + " or " + json.dumps({"steps": ["b"]})),
    ("two steps in one object", '{"steps": [{"prompt": "a", "prompt": "b"}]}'),
    ("a plan in an unclosed thought", '<think>{"execution_plan": [{"prompt": "a"}]}'),
    ("a fence instead of the last brackets", '{"steps": [{"prompt": "a"}, {"prompt": "b"}\n```'),
    ("a bracket of the wrong kind", '{"steps": [{"prompt": "a"}, {"prompt": "b"}}'),
    ("words between the steps", '{"steps": [{"prompt": "a"} and {"prompt": "b"}]}'),
    ("a text that holds the next step", '{"steps": [{"prompt": "a}, {"prompt": "b"}]}'),
    ("a text that holds the next member", '{"steps": [{"prompt": "a, "caption": "x"}]}'),
    ("two lists of texts", json.dumps({"scenes": ["Dawn"], "image_prompts": ["a"]})),
    ("prompts in a prompt", json.dumps({"steps": [{"prompt": ["a", "b"]}]})),
    ("a truth value for a prompt", json.dumps({"steps": [{"prompt": False}]})),
    ("no picture, said in words", json.dumps({"steps": [{"prompt": "(no image)", "caption": "t"}]})),
    ("the form, copied", json.dumps({"steps": [{"prompt": "..."}]})),
    ("steps inside of a step", json.dumps({"prompt": "a", "steps": [{"prompt": "b"}]})),
    ("a second prompt in a step", json.dumps([{"prompt": "a", "prompt2": "b"}])),
    ("names in a sentence", 'Characters: ["Anna", "Bob"] in a wood'),
    ("numbers with a gap", json.dumps({"prompt1": "a", "prompt3": "b"})),
    ("cut off inside the first step", reply(step(prompt="a long picture"))[:120]),
    ("a repaired text that swallowed the next steps", reply(step(auxiliary_text="None}, {'step_number': 2, 'prompt': 'b'"))),
    ("the same in double quotes", reply(step(prompt='a"}, {"step_number": 2, "prompt": "b'))),
]  # fmt: skip


@pytest.mark.parametrize(("why", "raw"), UNREADABLE, ids=[c[0] for c in UNREADABLE])
def test_replies_without_usable_steps_are_none(why: str, raw: str) -> None:
    assert read_plan(raw) is None


def test_the_official_form_with_a_broken_apostrophe_keeps_every_step() -> None:
    """Lenient readers turn `None}, {'step_number'` into text there and lose the steps behind it."""
    plan = read_plan(OFFICIAL)
    assert plan is not None and len(plan.steps) == 2
    first, second = plan.steps
    assert (first.prompt, first.auxiliary_text) == ('a "plain" box', "It's a box.")
    assert (second.prompt, second.auxiliary_text) == ("add the cat", None)
    assert plan.reasoning == "Two stages."


def test_five_thousand_steps_are_read_and_then_refused() -> None:
    plan = read_plan(reply(*[step(prompt=f"p{i}") for i in range(5_000)]))
    assert plan is not None and len(plan.steps) == 5_000
    with pytest.raises(PlanError, match="5000 steps, max_steps is 100"):
        checked(plan)


def test_no_reply_makes_read_plan_raise() -> None:
    dice = random.Random(3)
    sound = reply(step(prompt="it's a"), step(prompt=None, auxiliary_text='b "c"'))
    for raw in (sound, sound.replace('"', "'").replace("null", "None")):
        for at in range(0, len(raw), 3):
            noise = "".join(dice.choice("{}[]'\",:\\ \n\x00aN1") for _ in range(6))
            read_plan(raw[:at])
            read_plan(raw[:at] + noise + raw[at:])
            read_plan(raw[:at] + raw[at + 5 :])
    for odd in (10**5000, [[[[]]]], {"a": {"b": 1}}, 1e999, True):
        raw = "{'execution_plan': [{'prompt': %s}]}" % (hex(odd) if type(odd) is int else odd)
        read_plan(raw)


def test_plan_json_edited_by_a_person_keeps_request_reasoning_and_first_number() -> None:
    """Plan from Text gets the Planner's plan_json: the title and the numbers of a continued sequence survive."""
    plan = Plan((PlanStep(3, prompt="a"), PlanStep(4, prompt="b")), "because", "go on")
    assert read_plan(plan.to_json()) == plan


# --- plans that somebody wrote -------------------------------------------------------------------

LISTS = [
    ("numbered", "1. a cat\n2. a dog\n3. both", ["a cat", "a dog", "both"]),
    ("numbered with brackets", "1) a cat\n2) a dog", ["a cat", "a dog"]),
    ("steps", "Step 1: a cat\nSTEP 2 - a dog\n**Step 3:** both", ["a cat", "a dog", "both"]),
    ("bulleted", "- a cat\n* a dog\n• both", ["a cat", "a dog", "both"]),
    ("plain lines", "a cat\n\n  a dog  \nboth", ["a cat", "a dog", "both"]),
    ("one line", "a cat", ["a cat"]),
    ("wrapped lines continue their step", "1. a cat\n   on a mat\n2. a dog", ["a cat on a mat", "a dog"]),
    ("bullets below numbers are details", "1. a cat\n   - black\n   - asleep\n2. a dog", ["a cat black asleep", "a dog"]),
    ("an introduction is no step", "Here are the steps:\n1. a cat\n2. a dog", ["a cat", "a dog"]),
    ("a number that belongs to the words", "3-legged stool\n2.5 m tall tree\n16:9 photo", ["3-legged stool", "2.5 m tall tree", "16:9 photo"]),
    ("empty points are passed over", "1.\n2. a dog", ["a dog"]),
    ("Windows line ends", "1. a cat\r\n2. a dog\r\n", ["a cat", "a dog"]),
    ("brackets and braces of prompt languages", "[masterpiece] a {red|blue} cat\n{a|b} dog", ["[masterpiece] a {red|blue} cat", "{a|b} dog"]),
    ("JSON in the paper's form", json.dumps({"execution_plan": [step(prompt="a cat")]}), ["a cat"]),
    ("a JSON list of steps", json.dumps([step(prompt="a cat"), step(prompt="a dog")]), ["a cat", "a dog"]),
    ("a JSON list of prompts", '["a cat", "a dog"]', ["a cat", "a dog"]),
    ("a fenced JSON list", f"```json\n{json.dumps([step(prompt='a cat')])}\n```", ["a cat"]),
    ("marks of other languages", "1、一只猫\n２．一只狗\n３）都在", ["一只猫", "一只狗", "都在"]),
    ("steps in Chinese", "第1步：一只猫\n第二步：一只狗\n第3步 都在", ["一只猫", "一只狗", "都在"]),
    ("shots in Chinese", "【镜头1】一只猫\n【镜头2】\n一只狗", ["一只猫", "一只狗"]),
    ("circled", "① a cat\n② a dog", ["a cat", "a dog"]),
    ("in brackets", "(1) a cat\n(2) a dog", ["a cat", "a dog"]),
    ("German", "Schritt 1: eine Katze\nSchritt 2: ein Hund", ["eine Katze", "ein Hund"]),
    ("French", "Étape 1 : un chat\nÉtape 2 : un chien", ["un chat", "un chien"]),
    ("Russian", "Шаг 1. кот\nШаг 2. пёс", ["кот", "пёс"]),
    ("Korean", "1단계: 고양이\n2단계: 개", ["고양이", "개"]),
    ("Japanese", "ステップ1：猫\nステップ2：犬", ["猫", "犬"]),
    ("scenes on lines of their own", "Scene 1\nA cat.\n\nScene 2\nA dog.", ["A cat.", "A dog."]),
    ("scenes as headings", "# My story\n## Scene 1: Dawn\nA cat.\n## Scene 2: Dusk\nA dog.", ["Dawn A cat.", "Dusk A dog."]),
    ("chatter around a list", "Here you are:\n1. a cat\n2. a dog\n\nLet me know if you like it!", ["a cat", "a dog"]),
    ("chatter around lines", "Here you are:\na cat\na dog", ["a cat", "a dog"]),
    ("chatter around a fence", "Here you are:\n```\na cat\na dog\n```\nEnjoy!", ["a cat", "a dog"]),
    ("a fence for each prompt", "First:\n```\na cat\n```\nThen:\n```\na dog\n```", ["a cat", "a dog"]),
    ("labelled shots with a fence each", "**Shot 1**\n```\na cat\n```\n**Shot 2**\n```\na dog\n```", ["a cat", "a dog"]),
    ("a thought before the list", "<think>hm 1. no</think>\n1. a cat\n2. a dog", ["a cat", "a dog"]),
    ("Prompt: and Caption:", "1. Dawn\n   Prompt: a cat\n   Caption: so it begins\n2. Dusk\n   Prompt: a dog", ["a cat", "a dog"]),
    ("numbers that Markdown would count", "1. a cat\n1. a dog", ["a cat", "a dog"]),
    ("years are no numbers", "1984: a street\n2001: a station", ["1984: a street", "2001: a station"]),
    ("numbers that do not run", "7: a lucky cat\n3: three dogs", ["7: a lucky cat", "3: three dogs"]),
    ("bold labels in the step", "1. Dawn\n   **Prompt:** a cat\n2. Dusk\n   **Prompt:** a dog", ["a cat", "a dog"]),
    ("dashes and stars in a prompt", "Scene 1\nA man – tall – walks, a * b\nScene 2\na dog", ["A man – tall – walks, a * b", "a dog"]),
    ("any word that counts", "Stap 1: a cat\nStap 2: a dog", ["a cat", "a dog"]),
    ("a word that counts on lines of its own", "Vignette 1\na cat\n\nVignette 2\na dog", ["a cat", "a dog"]),
    ("a script with signs above letters", "दृश्य 1: a cat\nदृश्य 2: a dog", ["a cat", "a dog"]),
    ("parts with steps", "Part 1\nStep 1: a cat\nStep 2: a dog\nPart 2\nStep 3: a cow", ["a cat", "a dog", "a cow"]),
    ("Chinese numerals", "一、一只猫\n二、一只狗", ["一只猫", "一只狗"]),
    ("numbers in words", "Step One: a cat\nStep Two: a dog", ["a cat", "a dog"]),
    ("letters", "a) a cat\nb) a dog", ["a cat", "a dog"]),
    ("how many there are", "Step 1/2: a cat\nStep 2/2: a dog", ["a cat", "a dog"]),
    ("a remark behind the number", "Shot 1 [wide]: a cat\nShot 2 (close): a dog", ["a cat", "a dog"]),
    ("boxes to tick", "- [ ] a cat\n- [x] a dog", ["a cat", "a dog"]),
    ("centuries", "12. Jahrhundert, eine Burg\n13. Jahrhundert, ein Dom", ["12. Jahrhundert, eine Burg", "13. Jahrhundert, ein Dom"]),
    ("a number of the first line's own", "1. FC Köln fans\na dog", ["1. FC Köln fans", "a dog"]),
    ("a scene named in the second line", "a cat\nScene 2: a dog", ["a cat", "Scene 2: a dog"]),
    ("a sign that no one sees", "\u200b1. a cat\n2. a dog", ["a cat", "a dog"]),
    ("a negative prompt", "1. a cat\nNegative prompt: blurry\n2. a dog", ["a cat", "a dog"]),
    ("a prompt with a LoRA and a wildcard", "<lora:elf:0.8>, {male|female} elf\n(a dwarf:1.2)", ["<lora:elf:0.8>, {male|female} elf", "(a dwarf:1.2)"]),
    ("a list in brackets at the beginning of a prompt", '["wide shot"] a cat\n["close"] a dog', ['["wide shot"] a cat', '["close"] a dog']),
    ("chatter around JSON", 'Here:\n```json\n[{"prompt": "a cat"}]\n```\nEnjoy!', ["a cat"]),
    ("a planner's raw reply", reply(step(prompt="a cat")), ["a cat"]),
]  # fmt: skip


@pytest.mark.parametrize(("why", "text", "expected"), LISTS, ids=[c[0] for c in LISTS])
def test_plans_from_text(why: str, text: str, expected: list[str]) -> None:
    assert prompts(checked(plan_from_text(text))) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", " \n ", '{"steps": 3}', '{"execution_plan": []}', '[{"prompt": ', "<answer>{oh no</answer>"),
        'Here:\n```json\n{"scenes": {"a": 1}}\n```',
        'Here:\n```json\n[{"prompt": "a cat"}, {"promp',
        "<think>1. a cat\n2. a dog",
        "<answer>1. a cat</answer>",
        "1. a cat\n2. a dog\n4. a cow",
        "Shot 1: a cat\nShot 3: a dog",
        "| step | prompt |\n|---|---|\n| 1 | a cat |",
        "```\n```",
        "<prompt>a cat</prompt>",
        "{",
        'Sure!\n```json\n[\n  {\n    "prom',
        "---|---\n1 | a cat\n---|---",
        "]",
        "# only a heading",
        "a cat\n" * 200_000,
    ],
)
def test_text_that_holds_no_plan_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        checked(plan_from_text(text))


# --- checking ----------------------------------------------------------------------------------

PREFIXED = [
    "Step 3: a cat",
    "step 12 - a cat",
    "**Step 3:** a cat",
    "**Step 3**: a cat",
    "STEP 1. a cat",
    "Step 2) a cat",
    "Step 3 – a cat",
]


@pytest.mark.parametrize("text", PREFIXED)
def test_step_prefixes_do_not_reach_the_generator(text: str) -> None:
    clean = checked(Plan((PlanStep(1, instruction=text, prompt=text),))).steps[0]
    assert (clean.prompt, clean.instruction) == ("a cat", "a cat")


@pytest.mark.parametrize("text", ["step 2.5 metres back", "a step 3: of stairs", "Stepping: a cat", "3: a cat"])
def test_words_that_only_look_like_a_prefix_stay(text: str) -> None:
    assert checked(drawn(text)).steps[0].prompt == text


def test_numbers_become_contiguous_and_continue_from_the_users_pictures() -> None:
    odd = Plan(tuple(PlanStep(n, prompt="p") for n in (7, 7, -1, 40)))
    assert [s.step_number for s in checked(odd).steps] == [1, 2, 3, 4]
    assert [s.step_number for s in checked(odd, first_number=3).steps] == [3, 4, 5, 6]


@pytest.mark.parametrize("empty", [None, "", "  ", "None", "null", "Step 3:", "\x00"])
def test_a_step_with_neither_prompt_nor_text_is_refused_by_its_number(empty: str | None) -> None:
    plan = Plan((PlanStep(1, prompt="a"), PlanStep(2, "name", empty, empty, None)))
    with pytest.raises(PlanError, match="Step 2 has neither"):
        checked(plan)


def test_blank_prompts_become_text_steps_so_that_none_of_them_reaches_a_generator() -> None:
    steps = tuple(PlanStep(i, prompt=p, auxiliary_text="t") for i, p in enumerate(["", " ", "None"], 1))
    assert checked(Plan(steps)).image_steps == 0


def test_bounds_on_steps_and_generator_calls() -> None:
    with pytest.raises(PlanError, match="no steps"):
        checked(Plan(()))
    assert len(checked(drawn(*"ab"), max_steps=2).steps) == 2
    with pytest.raises(PlanError, match="3 steps, max_steps is 2"):
        checked(drawn(*"abc"), max_steps=2)
    hundred = drawn(*["p"] * MAX_STEPS_LIMIT)
    checked(hundred, t_max=MAX_ATTEMPTS // MAX_STEPS_LIMIT)
    with pytest.raises(PlanError, match="exceed 300"):
        checked(hundred, t_max=MAX_ATTEMPTS // MAX_STEPS_LIMIT + 1)
    texts = Plan(tuple(PlanStep(i, auxiliary_text="t") for i in range(MAX_STEPS_LIMIT)))
    checked(texts, t_max=300)


def test_texts_are_bounded_and_free_of_null_bytes() -> None:
    clean = checked(Plan((PlanStep(1, prompt="a\x00" + "b" * 2 * MAX_TEXT),), "r" * 10**6, "q" * 10**6))
    assert clean.steps[0].prompt is not None
    assert len(clean.steps[0].prompt) < MAX_TEXT and "\x00" not in clean.steps[0].prompt
    assert len(clean.to_json()) < 100_000


def test_the_documents_text_is_the_auxiliary_text_or_else_the_instruction() -> None:
    assert PlanStep(1, instruction="i", auxiliary_text="a").text == "a"
    assert PlanStep(1, instruction="i").text == "i"
    assert PlanStep(1, prompt="p").text == ""


# --- files ---------------------------------------------------------------------------------------


def test_round_trip() -> None:
    plan = Plan((PlanStep(1, "n", "i", "p", "a"), PlanStep(2, auxiliary_text="é\u2028")), "r", "q")
    assert Plan.from_dict(plan.to_dict()) == plan
    assert Plan.from_dict(json.loads(plan.to_json())) == plan
    assert PlanStep.from_dict(plan.steps[0].to_dict()) == plan.steps[0]


STRICT: list[tuple[str, Any, str]] = [
    ("an unknown key of the plan", {"execution_plan": [], "author": 1}, "'author'"),
    ("an unknown key of a step", {"execution_plan": [step(camera="x")]}, "'camera'"),
    ("no steps", {"reasoning": "x"}, "execution_plan"),
    ("steps that are a text", {"execution_plan": "abc"}, "execution_plan"),
    ("a step that is a text", {"execution_plan": ["abc"]}, "must be an object"),
    ("a plan that is a list", [], "must be an object"),
    ("a number that is none", {"execution_plan": [step(step_number="1")]}, "step_number is '1'"),
    ("a number that is a boolean", {"execution_plan": [step(step_number=True)]}, "step_number is True"),
    ("a missing number", {"execution_plan": [{"prompt": "a"}]}, "step_number is None"),
    ("a prompt that is a list", {"execution_plan": [step(prompt=["a"])]}, "prompt of step 1"),
]


@pytest.mark.parametrize(("why", "data", "said"), STRICT, ids=[c[0] for c in STRICT])
def test_files_are_read_strictly_and_the_error_names_what_is_wrong(why: str, data: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        Plan.from_dict(data)


@pytest.mark.parametrize("copied", ["...", "…", "<title here: text>", 5, None, "  "])
def test_a_form_that_was_copied_is_no_title(copied: Any) -> None:
    """The prompt text shows the form of the answer with "..." in it; a weak planner leaves it so."""
    steps = [{"step_number": 1, "instruction": "a fox", "prompt": "a fox"}]
    plan = read_plan(json.dumps({"execution_plan": steps, "title": copied, "lead": copied}))
    assert plan is not None and (plan.title, plan.lead) == ("", "")
