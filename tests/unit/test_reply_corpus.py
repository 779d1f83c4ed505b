"""Replies in the styles that judges write, built around a known verdict, so that the right reading is known.

What a style adds to the verdict is what led readers astray: drafts of the other verdict, checks, wrappers, forms,
thoughts. Of every reply that can be read the verdict must be read, and of a rejection the refined prompt, word by word.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from interleave_thinker.reading.judgments import judgment_reader, judgment_reading, read_judgment

PROMPTS = [
    "a red cat on a mat",
    'a shop sign that says "OPEN", in neon letters',
    "it's raining; the cat's hat is {red|blue}, <lora:rain:0.8>",
    "一只红色的猫，坐在垫子上",
    '木牌上写着"开门"二字，背景不变',
    "Eine rote Katze, die „Miau“ sagt, auf einer Matte",
    "Un chat rouge : l'horloge indique 3h, ne change rien d'autre",
    "Un gato rojo; mantén el fondo, ¡sin texto!",
    "赤い猫が「開店」と書かれた看板の横に座る",
    "keep everything; move the cat 20% left\nand make it larger",
    "a page of code: if (a[0] == {}) { return; }",
    "a poster with the words true and false, previous_step_success not mentioned",
]
SEEN = {
    "en": "The cat is blue, and the mat is missing.",
    "zh": "猫是蓝色的，垫子不见了。",
    "de": "Die Katze ist blau, die Matte fehlt.",
    "fr": "Le chat est bleu, et l'horloge manque.",
    "es": "El gato es azul y falta la alfombra.",
    "ja": "猫は青く、マットがありません。",
}


def written(accepted: bool, prompt: str) -> str:
    return json.dumps({"previous_step_success": accepted, "refine_prompt": prompt}, ensure_ascii=False)


def other(accepted: bool) -> str:
    return written(not accepted, "" if not accepted else "something else entirely")


FORM = '{"previous_step_success": true or false, "refine_prompt": "..."}'
Style = Callable[[bool, str, str], str]
READABLE: dict[str, Style] = {
    "the wire format": lambda a, p, s: f"<think>{s}</think><answer>{written(a, p)}</answer>",
    "Python": lambda a, p, s: f"<think>{s}</think><answer>{ {'previous_step_success': a, 'refine_prompt': p} }</answer>",
    "a bare object": lambda a, p, s: written(a, p),
    "chatter and a fence": lambda a, p, s: f"{s}\n```json\n{written(a, p)}\n```\nDone {{ok}}.",
    "a draft in a thought": lambda a, p, s: f"<think>{s} I could say {other(a)} but no.</think>{written(a, p)}",
    "a draft in a thought of another name": lambda a, p, s: f"<reasoning>{other(a)} {s}</reasoning>\n{written(a, p)}",
    "a tagged draft in a thought": lambda a, p, s: f"<think>The form: <answer>{other(a)}</answer>. {s}</think><answer>{written(a, p)}</answer>",
    "a whole reply quoted in a thought": lambda a, p, s: f"<think>Like <think>x</think><answer>{other(a)}</answer>? {s}</think><answer>{written(a, p)}</answer>",
    "a thought that the template opened": lambda a, p, s: f"{s} Perhaps {other(a)}?\n</think>\n\n{written(a, p)}",
    "brackets around thoughts": lambda a, p, s: f"[THINK]{s} {other(a)}[/THINK]{written(a, p)}",
    "harmony": lambda a, p, s: f"<|channel|>analysis<|message|>{s} {other(a)}<|end|><|start|>assistant<|channel|>final<|message|>{written(a, p)}<|return|>",
    "harmony that calls a tool": lambda a, p, s: f"<|channel|>analysis<|message|>{s}<|end|><|start|>assistant<|channel|>commentary to=functions.judge <|constrain|>json<|message|>{written(a, p)}<|call|>",
    "checks first": lambda a, p, s: f'<answer>{{"checks": {json.dumps([{"success": not a}, {"success": True}])}, "note": {json.dumps(s)}, {written(a, p)[1:]}</answer>',
    "checks first, no tags": lambda a, p, s: f'{{"checks": {json.dumps({"success": not a})}, {written(a, p)[1:]}',
    "an observation in an object of its own": lambda a, p, s: f"```json\n{json.dumps({'observation': s})}\n```\n```json\n{written(a, p)}\n```",
    "below another name": lambda a, p, s: json.dumps({"evaluation": json.loads(written(a, p)), "seen": s}),
    "a tool call": lambda a, p, s: f"<tool_call>\n{json.dumps({'name': 'judge', 'arguments': json.loads(written(a, p))})}\n</tool_call>",
    "a tool call with a text": lambda a, p, s: json.dumps({"tool": "judge", "arguments": written(a, p)}),
    "a list of one": lambda a, p, s: f"[{written(a, p)}]",
    "the form before the answer": lambda a, p, s: f"I fill in {FORM}. {s}\n{written(a, p)}",
    "the form quoted before the tagged answer": lambda a, p, s: f'I write "<answer>{FORM}</answer>". {s} <answer>{written(a, p)}</answer>',
    "a poem behind the answer": lambda a, p, s: f"<answer>{written(a, p)}</answer> Or was it {other(a)}? <answer>{other(a)}</answer>",
    "other keys": lambda a, p, s: json.dumps({"Success": a, "reason": s, "Refined Prompt": p}, ensure_ascii=False),
    "verdicts as texts": lambda a, p, s: json.dumps({"reasoning": s, "previous_step_success": str(a), "refine_prompt": p}),
    "an answer without its end": lambda a, p, s: f"<think>{s}</think><answer>{written(a, p)}",
    "a missing comma": lambda a, p, s: f"<answer>{written(a, p).replace(', ', ' ', 1)}</answer>",
    "full-width punctuation": lambda a, p, s: written(a, p).replace('": ', '"： ').replace(', "refine', '，"refine').replace("{", "｛", 1),
    "camel case": lambda a, p, s: json.dumps({"previousStepSuccess": a, "refinedPrompt": p, "reason": s}),
    "a call of a tool, with its wrappers": lambda a, p, s: json.dumps({"tool_calls": [{"function": {"arguments": written(a, p)}}]}),
    "a text below a name": lambda a, p, s: json.dumps({"role": "assistant", "content": written(a, p)}),
    "JSON inside of a JSON text": lambda a, p, s: json.dumps(written(a, p))[1:-1].replace("\\\\n", "\\n"),
    "the verdict below a name, the prompt beside": lambda a, p, s: json.dumps({"evaluation": {"previous_step_success": a}, "refine_prompt": p}),
    "remarks of JavaScript": lambda a, p, s: "{ // verdict\n" + written(a, p)[1:].replace(', "refine', ', // why\n "refine', 1),
    "a box": lambda a, p, s: f"<|begin_of_box|>{written(a, p)}<|end_of_box|>",
    "thoughts in a tag with a hyphen": lambda a, p, s: f"<inner-monologue>{other(a)}</inner-monologue>{written(a, p)}",
    "thoughts in full-width signs": lambda a, p, s: f"<｜begin▁of▁thinking｜>{other(a)}<｜end▁of▁thinking｜>{written(a, p)}",
    "thoughts in Chinese": lambda a, p, s: f"【思考】{other(a)}{s}【/思考】{written(a, p)}",
    "analysis without its tokens": lambda a, p, s: f"analysisWe look. {other(a)}assistantfinal{written(a, p)}",
    "the same twice": lambda a, p, s: f"{written(a, p)}\n{s}\n{written(a, p)}",
}  # fmt: skip
PLAIN: dict[str, Style] = {
    "curly quotes": lambda a, p, s: f"{{“previous_step_success”: {json.dumps(a)}, “refine_prompt”: “{p}”}}",
    "unescaped quotes": lambda a, p, s: (
        f'<answer>{{"previous_step_success": {json.dumps(a)}, "refine_prompt": "{p}"}}</answer>'
    ),
}
"""Styles that do not escape: of some prompts nobody could tell where they end."""
UNREADABLE: dict[str, Style] = {
    "cut off while thinking": lambda a, p, s: f"<think>The form is {written(True, p)} or with false. {s}",
    "cut off while thinking, tags quoted": lambda a, p, s: f"<think>I write <answer>{written(True, p)}</answer>? {s}",
    "cut off in a thought of another name": lambda a, p, s: f"<thinking>{written(True, p)} {s}",
    "cut off in a channel": lambda a, p, s: f"<|channel|>analysis<|message|>{written(True, p)} {s}",
    "only the form": lambda a, p, s: f"<answer>{FORM}</answer>",
    "only checks": lambda a, p, s: '{"checks": [{"name": "colour", "success": true}, {"name": "count", "success": true}]}',
    "one check below another name": lambda a, p, s: '<answer>{"colour": {"success": true}, "seen": "x"}</answer>',
    "a draft and the opposite": lambda a, p, s: f"A good one gets {written(True, '')}. {s} {written(False, p)}",
    "no verdict": lambda a, p, s: s,
    "a guess": lambda a, p, s: '{"previous_step_success": probably true, "refine_prompt": "x"}',
    "checks below the answer, cut off": lambda a, p, s: '<answer>{"evaluation": {"success": true, "refine_prompt": ""}, "previous_step_succ',
    "an envelope that worked, around a rejection": lambda a, p, s: json.dumps({"success": True, "data": json.loads(written(False, p))}),
    "what a tool was called with, and what it said": lambda a, p, s: json.dumps({"input": json.loads(written(True, "")), "output": json.loads(written(False, p))}),
    "an example beside the prompt": lambda a, p, s: json.dumps({"example": json.loads(written(True, "x")), "refine_prompt": "a"}),
    "both words": lambda a, p, s: '<answer>{"previous_step_success": true, false, "refine_prompt": "x"}</answer>',
    "a remark that says or": lambda a, p, s: '<answer>{"previous_step_success": true, // or false\n "refine_prompt": "x"}</answer>',
    "quoted in a sentence": lambda a, p, s: f"I would return `{written(True, '')}` if it were perfect. It is not.",
    "an observation of its own, cut off": lambda a, p, s: f"<observation>I answer {written(True, '')} or with false. Looking closely, the cat",
    "a reason that ends in a sentence": lambda a, p, s: f"The form is {written(True, '')} or with false. Looking closely, the cat is",
    "a key twice": lambda a, p, s: '{"previous_step_success": true, "note": "no", "previous_step_success": false}',
    "a tool's report": lambda a, p, s: '{"success": true, "message": "image loaded"}',
    "a remark of HTML": lambda a, p, s: f"<!-- {written(True, '')} --> It is blue.",
    "a fence of thoughts": lambda a, p, s: f"```thinking\n{written(True, '')}\n```\nIt is blue.",
    "checks that break off": lambda a, p, s: '<answer>{"checks": [{"name": "colour", "success": true}, ; {"success": true}</answer>',
}  # fmt: skip

LANGUAGES = list(SEEN)
CASES = [
    (style, accepted, prompt, SEEN[LANGUAGES[(at + len(style)) % len(LANGUAGES)]])
    for style in READABLE
    for at, prompt in enumerate(PROMPTS)
    for accepted in (True, False)
]


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 300 and len(READABLE) >= 12


@pytest.mark.parametrize("style", READABLE)
def test_the_verdict_and_the_refined_prompt_are_those_that_were_written(style: str) -> None:
    for _, accepted, prompt, seen in (c for c in CASES if c[0] == style):
        raw = READABLE[style](accepted, prompt, seen)
        judgment = read_judgment(raw)
        assert judgment.parsed and judgment.accepted == accepted, raw
        assert judgment.refined_prompt == prompt, raw
        reader = judgment_reader(until_accepted=True)
        end = next((i for i in range(1, len(raw) + 1) if reader.read(raw[:i])), len(raw))
        assert judgment_reading(raw[:end])[0].accepted == accepted, "the stream decides what the whole text decides"


@pytest.mark.parametrize("style", PLAIN)
def test_without_escapes_a_reply_is_read_or_asked_for_again(style: str) -> None:
    outcomes: Counter[str] = Counter()
    for prompt in PROMPTS:
        judgment = read_judgment(PLAIN[style](False, prompt, ""))
        assert not judgment.accepted
        if judgment.parsed:
            assert judgment.refined_prompt == prompt
        outcomes["read" if judgment.parsed else "asked again"] += 1
    assert outcomes["read"] >= len(PROMPTS) - 2, outcomes


@pytest.mark.parametrize("style", UNREADABLE)
def test_where_nobody_can_know_the_agent_is_asked_again(style: str) -> None:
    for prompt in PROMPTS:
        for seen in SEEN.values():
            raw = UNREADABLE[style](True, prompt, seen)
            judgment = read_judgment(raw)
            assert not judgment.parsed and not judgment.accepted and judgment.note, raw


LOST = {
    "broken behind the verdict": lambda p: f'<answer>{{"previous_step_success": false, refine_prompt": "{p}"}}</answer>',
    "a key that we do not know": lambda p: json.dumps({"previous_step_success": False, "my_prompt": p}),
    "swallowed by the reason": lambda p: f'{{"previous_step_success": false, "reason": "blue, "refine_prompt": "{p}"}}',
    "ended too early": lambda p: '{"previous_step_success": false, "refine_prompt": "a "}" key on a keyboard"}',
    "took in what follows": lambda p: '<answer>{"previous_step_success": false, "refine_prompt": "a cat"., "reason": "blue"}</answer>',
    "put together": lambda p: '{"previous_step_success": false, "refine_prompt": "a red " + "cat"}',
    "in words behind the object": lambda p: f'{{"previous_step_success": false}}\nRefined prompt: "{p}"',
}  # fmt: skip


@pytest.mark.parametrize("style", LOST)
def test_a_refined_prompt_is_read_word_by_word_or_asked_for_again(style: str) -> None:
    judgment = read_judgment(LOST[style]("a red cat"))
    assert (judgment.accepted, judgment.parsed, judgment.refined_prompt) == (False, False, ""), judgment
