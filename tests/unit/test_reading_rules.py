"""Rules of reading that hold for any text, tried with hypothesis.

    INTERLEAVE_EXAMPLES=200000 pytest tests/unit/test_reading_rules.py -n 2 [--hypothesis-seed=N]

`reference` is a second reader of verdicts: slow, strict and obvious. It knows JSON only, so it never reads more than
the product's reader does; an acceptance that it does not find is a wrong one.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from interleave_thinker.errors import PlanError
from interleave_thinker.loop.plan import Plan, PlanStep, checked
from interleave_thinker.reading.judgments import judgment_reader, judgment_reading, read_judgment
from interleave_thinker.reading.plan_text import plan_as_typed, plan_from_text, plan_reader, plan_reading
from interleave_thinker.reading.replies import read_reply
from interleave_thinker.roles.asking import Watch

EXAMPLES = int(os.environ.get("INTERLEAVE_EXAMPLES", 300))
RULES = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

PROMPTS = ["a red cat", 'a sign "open"', "", "写着“开门”的木牌", "it's {red|blue}, one, two", "a <think> bubble", "..."]


def judged(accepted: bool, prompt: str, key: str = "previous_step_success") -> str:
    return json.dumps({key: accepted, "refine_prompt": prompt}, ensure_ascii=False)


OBJECTS = st.builds(
    judged, st.booleans(), st.sampled_from(PROMPTS), st.sampled_from(["previous_step_success", "success"])
)
FORM = '{"previous_step_success": true or false, "refine_prompt": "..."}'
OTHERS = st.sampled_from(
    [
        '{"checks": [{"name": "colour", "success": true}], "note": "x"}',
        '{"checks": {"success": true}, "previous_step_success": false, "refine_prompt": "a red cat"}',
        FORM,
        '{"previous_step_success": "true/false"}',
        '{"observation": "the cat is blue"}',
        '[{"success": true}, {"success": false}]',
        "{}",
        "{you}",
        r"$\frac{a}{b}$",
    ]
)
TAGS = st.sampled_from(
    ["<think>", "</think>", "<thinking>", "</thinking>", "<answer>", "</answer>", "[THINK]", "[/THINK]", "<b>"]
    + ["<|channel|>analysis<|message|>", "<|end|>", "<|channel|>final<|message|>"]
)
WORDS = st.sampled_from(["It is blue. ", "say ", "`", '"', "'", "```json\n", "\n```\n", " ", "“", "(", "so: "])
PIECES = st.lists(st.one_of(OBJECTS, OTHERS, TAGS, WORDS), max_size=12).map("".join)
NOISE = st.text(alphabet="{}[]<>/\"'\\:,“”：，｛｝ \nabtrue1|think", max_size=60)
REPLIES = st.one_of(PIECES, st.tuples(PIECES, st.integers(0, 200)).map(lambda p: p[0][: p[1]]))
ANYTHING = st.one_of(REPLIES, NOISE, st.tuples(PIECES, NOISE, PIECES).map("".join), st.text(max_size=80))


# --- the reference --------------------------------------------------------------------------------------------------

OPENS = {"<think>": "think", "<thinking>": "thinking", "[THINK]": "think"}
CLOSES = {"</think>": "think", "</thinking>": "thinking", "[/THINK]": "think"}
HARMONY = ["<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|end|>"]


def strict(text: str, at: int) -> tuple[list[tuple[str, Any]], bool, int]:
    """Members of the JSON object at `at`, whether it is whole, and where it ends (or breaks)."""
    members: list[tuple[str, Any]] = []
    decoder = json.JSONDecoder(strict=False)
    place = at + 1
    space = re.compile(r"\s*")

    def skip(i: int) -> int:
        return space.match(text, i).end()  # type: ignore[union-attr]

    place = skip(place)
    if text[place : place + 1] == "}":
        return members, True, place + 1
    while True:
        try:
            key, place = decoder.raw_decode(text, skip(place))
            if not isinstance(key, str) or text[(place := skip(place))] != ":":
                return members, False, place
            value, place = decoder.raw_decode(text, skip(place + 1))
            end = text[(place := skip(place))]
        except (ValueError, IndexError):
            return members, False, place
        if end not in ",}":
            return members, False, place
        members.append((key, value))
        place += 1
        if end == "}":
            return members, True, place


def quoted(text: str, at: int) -> bool:
    before = text[:at]
    return before.endswith("“") or bool(re.search(r"""(?:\A|[\s(\[{:：,，–—-])["'`]\Z""", before))


def verdict(members: list[tuple[str, Any]]) -> tuple[bool, bool | None]:
    """Whether there is a verdict key at the top level, and the first one's value."""
    for key, value in members:
        if key in ("previous_step_success", "success"):
            return True, value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value))
    return False, None


def reference(text: str) -> bool | None:
    """True where the rules allow an acceptance."""
    thoughts: list[str] = []
    opened = 0
    found: list[bool | None] = []
    committed = seen = poisoned = False
    at = 0
    while at < len(text):
        tag = next((t for t in [*OPENS, *CLOSES, *HARMONY, "<answer>", "</answer>"] if text.startswith(t, at)), None)
        if tag and not quoted(text, at):
            end = at + len(tag)
            if tag in HARMONY:
                if "channel" in thoughts:
                    del thoughts[thoughts.index("channel") :]
                if "analysis" in tag:
                    thoughts.append("channel")
                    opened = end
                elif "final" in tag and not thoughts:
                    found.clear()
                    poisoned = False
            elif tag in OPENS:
                if not thoughts or len(thoughts) > 1 or text[opened:at].strip():
                    opened = opened if thoughts else end
                    thoughts.append(OPENS[tag])
            elif tag in CLOSES:
                if thoughts:
                    name = CLOSES[tag]
                    last = len(thoughts) - 1 - thoughts[::-1].index(name) if name in thoughts else len(thoughts) - 1
                    del thoughts[last:]
                elif not (committed and seen):
                    found.clear()
                    poisoned = False
                    committed = False
            elif not thoughts and tag == "<answer>":
                if not committed:
                    found.clear()
                    poisoned = False
                committed, seen = True, False
            elif not thoughts and committed:
                if seen:
                    return None
                committed = False
            at = end
        elif not thoughts and text[at] == "[" and re.match(r"\[\s*[{\[\"']", text[at:]):
            try:
                value, at = json.JSONDecoder(strict=False).raw_decode(text, at)
                members = list(value[0].items()) if len(value) == 1 and isinstance(value[0], dict) else []
                found += [v] if (v := verdict(members)[1]) is not None and not committed else []
                if committed and verdict(members)[0]:
                    return verdict(members)[1]
                seen = True
            except ValueError:
                at += 1
        elif not thoughts and text.startswith(FORM, at):
            if committed:
                return None
            found.append(None)
            at += len(FORM)
        elif not thoughts and text[at] == "{":
            members, whole, end = strict(text, at)
            has, value = verdict(members)
            if committed:
                seen = True
                if has:
                    return value
            elif not whole and re.match(r'\{\s*"', text[at:]):
                poisoned = True  # cut off, or broken: what follows may lie inside of it
            elif has and whole:
                prompt = str(dict(members).get("refine_prompt"))
                found.append(None if prompt == "..." else value)
            at = max(end, at + 1)
        else:
            at += 1
    if thoughts or committed or poisoned or not found or None in found[-1:]:
        return None
    said = {v for v in found if v is not None}
    return said.pop() if len(said) == 1 else None


# --- the rules --------------------------------------------------------------------------------------------------------


@RULES
@given(REPLIES)
@example('{"success": false}<think><|channel|>final<|message|></think>{"success": true, "refine_prompt": "a red cat"}')
@example(
    'A perfect one: {"previous_step_success": true}. {"previous_step_success": false, "refine_prompt": "a red cat"}'
)
def test_nothing_is_accepted_but_by_the_rules(text: str) -> None:
    if read_judgment(text).accepted:
        assert reference(text) is True


@RULES
@given(OBJECTS, st.sampled_from(["{}", "<answer>{}</answer>", "<think>t</think>{}", "```json\n{}\n```", "So: {} ."]))
def test_a_plain_judgment_is_read_as_it_was_written(body: str, form: str) -> None:
    wanted = json.loads(body)
    judgment = read_judgment(form.replace("{}", body))
    accepted = wanted.get("previous_step_success", wanted.get("success"))
    if wanted["refine_prompt"] != "...":
        assert judgment.parsed and judgment.accepted == accepted
        assert judgment.refined_prompt == wanted["refine_prompt"]


@RULES
@given(ANYTHING, st.lists(st.integers(0, 400), max_size=12))
def test_the_stream_decides_what_the_whole_text_decides(text: str, cuts: list[int]) -> None:
    whole = read_judgment(text)
    for ends in ([*sorted({c for c in cuts if c < len(text)}), len(text)], range(1, len(text) + 1)):
        reader = judgment_reader(until_accepted=True)
        stop = next((end for end in ends if reader.read(text[:end])), len(text))
        streamed = judgment_reading(text[:stop])[0]
        assert (streamed.accepted, streamed.parsed) == (whole.accepted, whole.parsed)
        if not whole.accepted:
            assert streamed.refined_prompt == whole.refined_prompt


@RULES
@given(ANYTHING, st.lists(st.integers(0, 400), max_size=12))
def test_a_plan_in_pieces_is_the_plan_as_a_whole(text: str, cuts: list[int]) -> None:
    reader = plan_reader()
    ends = [*sorted({c for c in cuts if c < len(text)}), len(text)]
    stop = next((end for end in ends if reader.read(text[:end])), len(text))
    assert plan_reading(text[:stop]).plan == plan_reading(text).plan


@RULES
@given(ANYTHING, st.integers(1, 7))
def test_each_character_is_looked_at_a_few_times_at_most(text: str, step: int) -> None:
    for reader in (judgment_reader(until_accepted=True), judgment_reader(), plan_reader()):
        for end in range(step, len(text) + step, step):
            reader.read(text[:end])
        reader.finish(text)
        assert reader.visited <= 4 * len(text)


HOSTILE = {
    "numbers in braces": "{1}" * 40_000,
    "mathematics": r"\frac{a}{b} \left( \{x\} " * 5_000,
    "quotes": '{"' * 60_000,
    "nested": '{"a":' * 25_000,
    "lists": "[{'" * 40_000,
    "tags": "<think>" * 18_000,
    "answers": "<answer>{" * 14_000,
    "blanks": "{a" + " " * 60_000 + "1." + " " * 60_000 + "x",
    "a plan that never ends": '{"execution_plan": [' + '{"prompt": "a cat"}, ' * 6_000,
    "broken, for json_repair": '{"execution_plan":: ' + "{1}" * 1_300 + "}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_interrupt_never_waits_long_for_a_reader(name: str, record_property: Any) -> None:
    """ComfyUI's interrupt is looked at with each piece of a reply, so each piece must be read quickly; and the end."""
    text = HOSTILE[name]
    slowest = 0.0
    for new, read in ((lambda: judgment_reader(until_accepted=True), judgment_reading), (plan_reader, plan_reading)):
        watch = Watch(new)
        for end in [*range(0, len(text), 400), len(text)]:
            begun = time.thread_time()
            watch(text[:end])
            slowest = max(slowest, time.thread_time() - begun)
        begun = time.thread_time()
        read(watch.read(text))
        slowest = max(slowest, time.thread_time() - begun)
    record_property("slowest_seconds", round(slowest, 3))
    assert slowest < 2, "0.5 s of the processor are promised; the margin is for slow machines"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_long_typed_plan_can_be_interrupted(name: str) -> None:
    looks: list[float] = [time.thread_time()]
    text = (HOSTILE[name] * 40)[:1_000_000]
    try:
        plan_as_typed(text, 100, lambda: looks.append(time.thread_time()))
    except PlanError:
        pass
    looks.append(time.thread_time())
    assert max(b - a for a, b in itertools.pairwise(looks)) < 2


TEXTS = st.text(min_size=1, max_size=40).map(str.strip).filter(bool)
STEPS = st.lists(
    st.builds(PlanStep, st.just(1), TEXTS, st.none() | TEXTS, TEXTS, st.none() | TEXTS), min_size=1, max_size=5
)


@RULES
@given(STEPS, TEXTS)
def test_a_plan_that_was_written_is_read_back(steps: list[PlanStep], request: str) -> None:
    try:
        plan = checked(Plan(tuple(steps), "", request))
    except PlanError:  # a text that is nothing when it is cleaned
        return
    plan = checked(plan)
    if "step_number" in plan.to_json().replace('"step_number":', ""):
        return
    try:
        plan_from_text(plan.to_json())
    except PlanError as error:  # a form, or a word for no picture: refused by name
        assert "the form was copied" in str(error) or "Write null" in str(error)
        return
    answer = f"<think>so</think><answer>{plan.to_json()}</answer>"
    assert plan_from_text(plan.to_json()).steps == plan.steps
    read = plan_reading(answer).plan
    assert read is not None and read.steps == plan.steps


@RULES
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_json_is_read_as_json(value: Any) -> None:
    for text in (json.dumps({"a": value}), json.dumps({"a": value}, ensure_ascii=False, indent=2)):
        try:
            wanted = json.loads(text)
        except ValueError:  # a number too long for Python
            return
        read = read_reply(text)
        if read.answer is not None:
            assert read.answer == wanted


def test_no_file_changes_how_often_the_tests_of_others_are_tried():
    """A profile that is loaded at import counts for all files that are collected with it."""
    assert settings.default == settings.get_profile("unit")
