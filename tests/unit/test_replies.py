"""The parser against what models really write. Unreadable text is data: nothing may ever raise."""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from typing import Any

import pytest

from interleave_thinker.loop.plan import text_or_none
from interleave_thinker.reading.replies import MAX_REPLY, ReplyReader, answer_part, read_or_repair, read_reply

YES = {"previous_step_success": True, "refine_prompt": "a cat"}

READABLE = [
    ("the wire format", '<think>t</think><answer>{"previous_step_success": true, "refine_prompt": "a cat"}</answer>', YES),
    ("a Python literal", "<answer>{'previous_step_success': True, 'refine_prompt': 'a cat'}</answer>", YES),
    ("JSON words in Python quotes", "<answer>{'previous_step_success': true, 'refine_prompt': 'a cat'}</answer>", YES),
    ("Python words in JSON quotes", '<answer>{"previous_step_success": True, "refine_prompt": "a cat"}</answer>', YES),
    ("None of Python", "<answer>{'a': None, 'b': 1}</answer>", {"a": None, "b": 1}),
    ("null of JSON in Python quotes", "<answer>{'a': null, 'b': 'null'}</answer>", {"a": None, "b": "null"}),
    ("words inside of texts stay", "<answer>{'a': 'true or null', 'b': true}</answer>", {"a": "true or null", "b": True}),
    ("an apostrophe in double quotes", '''<answer>{'a': "the cat's hat", 'b': None}</answer>''', {"a": "the cat's hat", "b": None}),
    ("an apostrophe in JSON", '<answer>{"a": "the cat\'s hat"}</answer>', {"a": "the cat's hat"}),
    ("an escaped apostrophe", r"<answer>{'a': 'the cat\'s hat'}</answer>", {"a": "the cat's hat"}),
    ("an apostrophe that ends its own quotes", "<answer>{'a': 'don't move', 'b': True}</answer>", {"a": "don't move", "b": True}),
    ("double quotes in single ones", """<answer>{'a': 'it says "hi"'}</answer>""", {"a": 'it says "hi"'}),
    ("a newline inside a JSON text", '<answer>{"a": "one\ntwo"}</answer>', {"a": "one\ntwo"}),
    ("a code fence", '<answer>```json\n{"a": 1}\n```</answer>', {"a": 1}),
    ("a code fence and no tags", 'Sure!\n```json\n{"a": 1}\n```\nHope {this} helps', {"a": 1}),
    ("a fenced Python literal with braces behind it", "```python\n{'a': None}\n```\nor {b}", {"a": None}),
    ("a fence inside a text", '<answer>{"a": "run ```py\\nprint()``` now"}</answer>', {"a": "run ```py\nprint()``` now"}),
    ("a fence with an object inside a text", '<answer>{"a": "say ```{\\"b\\": 1}``` now"}</answer>', {"a": 'say ```{"b": 1}``` now'}),
    ("no answer tag", '<think>t</think>{"a": 1}', {"a": 1}),
    ("no think", '<answer>{"a": 1}</answer>', {"a": 1}),
    ("think opened by the chat template", 'hm</think>\n<answer>{"a": 1}</answer>', {"a": 1}),
    ("answer never closed", '<think>t</think><answer>{"a": 1}', {"a": 1}),
    ("text before and after", 'My verdict: {"a": 1}. I hope that helps.', {"a": 1}),
    ("text with braces after a literal", "My verdict: {'a': None}. See {x}.", {"a": None}),
    ("text with braces before", "As {you} asked: {'a': None}", {"a": None}),
    ("the form quoted in the reasoning", '<think>the form is <answer>{"a": 0}</answer></think><answer>{"a": 1}</answer>', {"a": 1}),
    ("the answer before the reasoning", '<answer>{"a": 1}</answer><think>that was it</think>', {"a": 1}),
    ("unknown keys are kept for the caller", '{"a": 1, "zzz": [1, {"y": null}]}', {"a": 1, "zzz": [1, {"y": None}]}),
    ("keys that are no texts", "{1: 'x', None: 'y'}", {"1": "x", "None": "y"}),
    ("curly quotes", "{“a”: “a cat”, “b”: 1}", {"a": "a cat", "b": 1}),
    ("full-width punctuation", "｛“a”：“一只猫，在垫子上”，“b”：［1，2］｝", {"a": "一只猫，在垫子上", "b": [1, 2]}),
    ("quotes inside quotes", '<answer>{"a": "say "hi" to it", "b": 1}</answer>', {"a": 'say "hi" to it', "b": 1}),
    ("quotes and commas inside quotes", '{"a": "signs "OPEN", "CLOSED"", "b": 1}', {"a": 'signs "OPEN", "CLOSED"', "b": 1}),
    ("quotes inside a quoted item", '{"a": ["say "hi", loud", "b"]}', {"a": ['say "hi", loud', "b"]}),
    ("keys without quotes", "<answer>{a: false, b: 'a cat', c: 1}</answer>", {"a": False, "b": "a cat", "c": 1}),
    ("a missing comma", '{"a": 1 "b": "x" "c": 2}', {"a": 1, "b": "x", "c": 2}),
    ("a missing comma between objects", '{"l": [{"a": 1} {"a": 2}]}', {"l": [{"a": 1}, {"a": 2}]}),
    ("commas too many", '{"a": [1, 2,], "b": 3,}', {"a": [1, 2], "b": 3}),
    ("remarks behind values", '{"a": 1, // one\n "b": 2}', {"a": 1, "b": 2}),
    ("three quotes", '{"a": """a cat"""}', {"a": "a cat"}),
    ("a quote lost to None", "{'l': [{'p': 'a' b', 'x': None}, {'p': 'b'}]}", {"l": [{"p": "a' b", "x": None}, {"p": "b"}]}),
    ("a thought of another dialect", '<thinking>{"a": 0}</thinking>{"a": 1}', {"a": 1}),
    ("a thought in brackets", '[THINK]{"a": 0}[/THINK]{"a": 1}', {"a": 1}),
    ("a thought in triangles", '◁think▷{"a": 0}◁/think▷{"a": 1}', {"a": 1}),
    ("a thought between special tokens", '<|begin_of_thought|>{"a": 0}<|end_of_thought|>{"a": 1}', {"a": 1}),
    ("a channel of thoughts", '<|channel|>analysis<|message|>{"a": 0}<|end|><|start|>assistant<|channel|>final<|message|>{"a": 1}<|return|>', {"a": 1}),
    ("a channel with one bar", '<|channel>thought\n{"a": 0}<channel|>{"a": 1}', {"a": 1}),
    ("a thought quoted in a thought", '<think>I write <think>x</think><answer>{"a": 0}</answer></think><answer>{"a": 1}</answer>', {"a": 1}),
    ("the tag twice", '<think>\n<think>{"a": 0}</think><answer>{"a": 1}</answer>', {"a": 1}),
    ("a quoted tag", 'I put it into "<answer>{"a": 0}</answer>". <answer>{"a": 1}</answer>', {"a": 1}),
    ("an answer that is announced", "<answer></answer> comes here: <answer>{'a': 1}</answer>", {"a": 1}),
    ("a thought that ends with a quoted word", '<think>the sign says "open"</think><answer>{"a": 1}</answer>', {"a": 1}),
    ("nothing after the answer is read", '<answer>{"a": 1}</answer><answer>{"a": 2}</answer>', {"a": 1}),
    ("braces of mathematics", "Since $\\frac{a}{b}$ and {1}: {'a': 1}", {"a": 1}),
    ("a brace inside a text does not end the object", '{"a": "}", "b": "{"}', {"a": "}", "b": "{"}),
]  # fmt: skip


@pytest.mark.parametrize(("why", "raw", "answer"), READABLE, ids=[c[0] for c in READABLE])
def test_untidy_replies_are_read(why: str, raw: str, answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_reply(raw).answer == answer
    monkeypatch.setitem(sys.modules, "json_repair", None)  # type: ignore[arg-type]
    assert read_reply(raw).answer == answer, "must not need json_repair, which ComfyUI does not install"


REPAIRED = [
    ("a colon too many", '{"a":: "a cat", "b": 2}', {"a": "a cat", "b": 2}),
    ("a sign between members", '{"a": 1, = 2, "b": 3}', None),
]


@pytest.mark.parametrize(("why", "raw", "some"), REPAIRED, ids=[c[0] for c in REPAIRED])
def test_what_is_broken_is_repaired_where_json_repair_is_there(
    why: str, raw: str, some: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_reply(raw, ["a"]).answer is None
    reply = read_or_repair(raw, ["a"])
    assert reply.answer is not None and not reply.exact and (some is None or reply.answer == some)
    assert read_or_repair(raw, ["other"]).answer is None, "only what holds a key of ours, in quotation marks"
    monkeypatch.setitem(sys.modules, "json_repair", None)  # type: ignore[arg-type]
    assert read_or_repair(raw, ["a"]).answer is None


HARD = [
    ("objects of one number", '{"a":: ' + "{1}" * 800 + "}"),
    ("mathematics", '{"a":: "' + r"\\frac{a}{b} \\left( \\{x\\} " * 90 + "}"),
    ("more than is tried", '{"a":: "' + "b" * 5_000 + '"}'),
]


@pytest.mark.parametrize(("why", "raw"), HARD, ids=[c[0] for c in HARD])
def test_json_repair_works_within_bounds(why: str, raw: str) -> None:
    """Alone it took five and nine seconds for such texts, and nobody could interrupt it."""
    begun = time.process_time()
    read_or_repair(raw, ["a"])
    assert time.process_time() - begun < 1
    assert sys.getprofile() is None


UNREADABLE = [
    ("nothing", ""),
    ("no object", "I would rather not."),
    ("an empty object", "<answer>{}</answer>"),
    ("half a first value: the caller must not take half a prompt for a prompt", '<answer>{"a": false, "b": "draw a re'),
    ("a list", "<answer>[1, 2]</answer>"),
    ("only brackets", "{[{[{["),
    ("null bytes", "\x00\x00{\x00"),
    ("only tags", "<think><answer></answer></think>"),
]


@pytest.mark.parametrize(("why", "raw"), UNREADABLE, ids=[c[0] for c in UNREADABLE])
def test_what_cannot_be_read_is_none_and_kept_as_it_was(why: str, raw: str) -> None:
    reply = read_reply(raw)
    assert (reply.answer, reply.raw) == (None, raw)


def test_code_in_a_reply_is_text_and_never_run() -> None:
    answer = read_reply("<answer>{'a': __import__('sys').exit(3)}</answer>").answer
    assert answer is None or "exit" in answer["a"]


def test_reasoning_is_the_think_block_however_it_is_marked() -> None:
    cases = {
        '<think> a\nb </think><answer>{"x": 1}</answer>': "a\nb",
        'a</think><answer>{"x": 1}</answer>': "a",
        '<think>a<answer>{"x": 1}</answer>': 'a<answer>{"x": 1}</answer>',
        "<think>a": "a",
        '{"x": 1}': "",
        '<|channel|>analysis<|message|>a<|end|>{"x": 1}': "a",
    }
    assert {raw: read_reply(raw).reasoning for raw in cases} == cases


THINKING = [
    "<think>hm",
    '<think>hm<answer>{"a": 1}</answer>',
    '<thinking>the form is {"a": 1}',
    '<|channel|>analysis<|message|>{"a": 1}',
    '{"a": 1}<think>or rather',
    '<think>so <reasoning>{"a": 1}</reasoning>',
]


@pytest.mark.parametrize("raw", THINKING)
def test_an_unclosed_thought_means_no_answer(raw: str) -> None:
    reply = read_reply(raw)
    assert (reply.found, reply.thinking, reply.problem) == ((), True, "it ended while thinking, before its answer.")


def test_a_thought_that_the_chat_template_opened() -> None:
    """Unmarked it is known by its end; marked from the beginning, what it quotes ends nothing either."""
    raw = 'the form is {"a": 0}</think>{"a": 1}'
    assert read_reply(raw).answer == ReplyReader(thinking=True).finish(raw).answer == {"a": 1}
    tagged = 'the form is <answer>{"a": 0}</answer></think><answer>{"a": 1}</answer>'
    assert ReplyReader(thinking=True).finish(tagged).answer == {"a": 1}


def test_what_is_not_written_to_its_end_is_told_from_what_is() -> None:
    whole = read_reply('<answer>{"l": [{"p": 1}]}')
    assert whole.answer == {"l": [{"p": 1}]} and whole.exact and whole.cut is None
    for raw in ('<answer>{"l": [{"p": 1}, {"p": "tw', "<answer>{'l': [{'p': 1}, {'p': 'don't", '{"l": [{"p": 1}'):
        cut = read_reply(raw)
        assert cut.answer is None and cut.cut is not None and cut.cut.value == {"l": [{"p": 1}]}


def test_answer_part_is_empty_while_the_agent_thinks() -> None:
    cases = {"<think>a": "", "<think>a</think>b": "b", "a</think>b": "b", "b": "b", "<think>a</think><think>c": ""}
    assert {text: answer_part(text) for text in cases} == cases


ABSENT = [None, "", "  \n", "None", "none", "null", " NULL ", "N/A", "\x00", "\ud800", 10**5000, [10**5000]]


def test_all_spellings_of_nothing_mean_absent() -> None:
    assert [text_or_none(v) for v in ABSENT] == [None] * len(ABSENT)


def test_other_types_become_text() -> None:
    cases: list[tuple[object, str]] = [
        (3, "3"),
        (True, "True"),
        (["a"], "['a']"),
        (" a ", "a"),
        ("Nonesuch", "Nonesuch"),
    ]
    assert [text_or_none(value) for value, _ in cases] == [text for _, text in cases]


def test_halves_of_surrogate_pairs_do_not_reach_files_tokenizers_or_terminals() -> None:
    answer = read_reply('{"a": "x\\ud83dy", "b": "\\ud83d\\ude00"}').answer
    assert answer is not None
    assert (text_or_none(answer["a"]), text_or_none(answer["b"])) == ("xy", "\U0001f600")


HOSTILE = [
    ("1 MB of words", "hello world " * 90_000),
    ("1 MB in an open text", '{"a":"' + "x" * 1_000_000),
    ("1 MB of JSON", json.dumps({"l": ["x" * 90] * 10_000})),
    ("more than is read", '{"a": "' + "x" * (MAX_REPLY + 10) + '"}'),
    ("braces", "{" * 1_000_000),
    ("nested objects", '{"a":' * 200_000),
    ("nested and closed", '{"a":' * 900 + "1" + "}" * 900),
    ("nested lists", '{"a":' + "[" * 500_000),
    ("signs", '{"a":' + "-" * 500_000 + "1}"),
    ("attributes", '{"a":' + "a." * 300_000 + "a}"),
    ("sums", '{"a":' + "1+" * 300_000 + "1}"),
    ("escaped quotes without an end: quadratic in a careless pattern", "{" + "\\'" * 400_000),
    ("quotes", "{" + "'" * 500_001 + "}"),
    ("a huge number as value", '{"a": 0x' + "f" * 100_000 + "}"),
    ("a huge number as key", "{0x" + "f" * 100_000 + ": 1}"),
    ("many objects", '{"a": "b", ' * 90_000),
    ("broken quotes, nested: json_repair alone takes minutes", '{"a": "b"c, ' * 10_000),
    ("many answers", "<answer>{" * 100_000),
    ("many thoughts", "<think>{</think>" * 60_000),
]


@pytest.mark.parametrize(("why", "raw"), HOSTILE, ids=[c[0] for c in HOSTILE])
def test_no_reply_makes_the_parser_raise_or_hang(why: str, raw: str) -> None:
    begun = time.process_time()
    assert read_reply(raw).raw == raw
    assert time.process_time() - begun < 5, "a minute of parsing would look like a frozen ComfyUI"


def test_random_bytes_and_random_cuts_never_raise() -> None:
    dice = random.Random(7)
    sound = "<think>a</think><answer>{'p': [{\"s\": None, 't': 'it\\'s'}, {'u': true}]}</answer>"
    for _ in range(600):
        noise = bytes(dice.randrange(256) for _ in range(dice.randrange(60))).decode("utf-8", "replace")
        at = dice.randrange(len(sound))
        for raw in (noise, sound[:at], sound[at:], sound[:at] + noise + sound[at:]):
            assert read_reply(raw).raw == raw


def test_a_backslash_in_a_text_does_not_warn_on_the_users_console() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_reply(r"<answer>{'a': '\d'}</answer>").answer == {"a": r"\d"}
