"""What each benchmark's reply parser makes of real and hostile replies; each row says why.

None means: no verdict, to be counted as failed. No reply of any kind may raise, or become a number that
the judge did not write.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

import pytest

from interleave_thinker.research.bench import comm, ueval, viescore, wise
from interleave_thinker.research.bench import rise_scores as rise

UEVAL = [
    ('{"criteria_met": true}', True, "the plain form"),
    ('```json\n{"criteria_met": false, "explanation": "no sun"}\n```', False, "in a fence"),
    ('Sure! {"explanation": "a {b} c", "criteria_met": true} Done.', True, "prose around, braces inside a text"),
    ('{"criteria_met": "not sure"}', False, "not sure counts as not met, as upstream"),
    ('{"criteria_met": "Yes"}', True, "words that upstream takes"),
    ('{"criteria_met": "N"}', False, "words that upstream takes"),
    ('{"criteria_met": "\\\\alpha", "x": 1}', None, "another word is no verdict (upstream: not met)"),
    ('{"explanation": "looks fine"}', None, "no verdict at all (upstream: not met)"),
    ('{"criteria_met": null}', None, "null is no verdict (upstream: not met)"),
    ('{"criteria_met": 1}', True, "a number for a boolean (upstream: not met)"),
    ('{"criteria_met": 7}', None, "no boolean"),
    ('{"criteria_met": [true]}', None, "a list is no verdict"),
    ("criteria_met: true", None, "no object"),
    ("{'criteria_met': True}", True, "a Python literal"),
    ('<think>{"criteria_met": true}?</think>{"criteria_met": false}', False, "what is weighed while thinking is none"),
    ('{"criteria_met": tr', None, "cut off"),
    ("", None, "empty"),
    ('<think>{"criteria_met": true}? hmm', None, "it still thinks (cut off)"),
    ('<think>{"criteria_met": true}?</think> I cannot decide.', None, "nothing after thinking"),
    ('{"criteria_met": true, "explanation": "the pic', True, "cut off after the verdict"),
    ('{"criteria_met": true or false', None, "the form is repeated, cut off"),
    ("null", None, "JSON, but no object"),
    ('{"criteria_met": ' + "[" * 5000, None, "nested without end"),
]

WISE_LEGACY = [
    ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0), "the plain form"),
    (
        "**Consistency:** 2\n**Realism:** 1\n**Aesthetic Quality:** 2",
        (2, 1, 2),
        "bold with the colon inside (upstream: unread)",
    ),
    ("**Consistency**: 1\n**Realism**: 1\n**Aesthetic Quality**: 1", (1, 1, 1), "bold"),
    ("Consistency: **2**\nRealism: **0**\nAesthetic Quality: **1**", (2, 0, 1), "bold digits"),
    ("consistency 2 realism 1 aesthetic quality 1", (2, 1, 1), "one line, no colons, small letters"),
    ("Consistency (0-2): 1\nRealism (0-2): 2\nAesthetic Quality (0-2): 0", (1, 2, 0), "the range is repeated"),
    ("Consistency: 2/2\nRealism: 1/2\nAesthetic Quality: 1/2", (2, 1, 1), "of the full mark"),
    ("Consistency: 2/10\nRealism: 1/2\nAesthetic Quality: 1/2", None, "of another scale"),
    ("Consistency: 9\nRealism: 1\nAesthetic Quality: 1", None, "out of range (upstream: 9)"),
    ("Consistency: 12\nRealism: 1\nAesthetic Quality: 1", None, "out of range (upstream: 1)"),
    ("Consistency: 1.5\nRealism: 1\nAesthetic Quality: 1", None, "half a mark (upstream: 1)"),
    ("Consistency: 2\nRealism: 1", None, "one is missing (upstream: 999)"),
    ("Consistency: 2\nConsistency: 0\nRealism: 1\nAesthetic Quality: 1", None, "two answers (upstream: the last)"),
    ("Consistency: 2\nRealism: 1\nAesthetic Quality: 1\nConsistency: 2", (2, 1, 1), "said twice alike"),
    ("2\n1\n0", (2, 1, 0), "three bare lines, as upstream"),
    ("2\n1", None, "two bare lines"),
    ("2\n1\n3", None, "three lines, one out of range"),
    (
        "<think>Consistency: 0</think>Consistency: 2\nRealism: 2\nAesthetic Quality: 2",
        (2, 2, 2),
        "thinking is no answer",
    ),
    ("Inconsistency: 2\nRealism: 1\nAesthetic Quality: 1", None, "another word that ends alike"),
    ("I cannot judge this.", None, "refused"),
    ("Consistency: 0-2\nRealism: 0-2\nAesthetic Quality: 0-2", None, "the form is repeated"),
    ("Consistency: 2 out of 5\nRealism: 1\nAesthetic Quality: 1", None, "another scale, in words"),
    ("<think>Consistency: 2\nRealism: 1\nAesthetic Quality: 1", None, "it still thinks (cut off)"),
    ("", None, "empty"),
]

WISE_VERIFIED = [
    ("Score: 1", 1, "the plain form"),
    ("**Score**: 0", 0, "bold"),
    ("**Score:** 1", 1, "bold with the colon inside (upstream: unread)"),
    ("The dish is shown.\nScore: 1", 1, "after prose"),
    ("1", 1, "one bare line"),
    ("Score: 0 or Score: 1", None, "the form is repeated (upstream: 0)"),
    ("Score: 10", None, "no 0 or 1"),
    ("Score: 0.5", None, "half"),
    ("Score: 1/2", None, "another scale"),
    ("<think>Score: 0?</think>\nScore: 1", 1, "thinking is no answer"),
    ("0\n1", None, "two lines"),
    ("Score: 0-1", None, "the form is repeated"),
    ("Score: 0 or 1", None, "the form is repeated"),
    ("Score: 0|1", None, "the form is repeated"),
    ("Score: 1 out of 10", None, "another scale, in words"),
    ("Score: 1.", 1, "a full stop"),
    ("<think>If it shows mooncakes then Score: 1, let me check", None, "it still thinks (cut off)"),
    ("yes", None, "a word"),
    ("", None, "empty"),
]

RISE = [
    ("Good.\n\n**Final Score:** **4**", 4, "the plain form"),
    ("Final Score: 5", 5, "without stars"),
    ("**Final Score: 3**", 3, "stars around the line"),
    ("Final Score: 4/5", 4, "of the full mark"),
    ("Final Score: 4 out of 5", 4, "of the full mark, in words"),
    ("Final Score: 4/10", None, "another scale (upstream: 4)"),
    ("Final Score: 4.5", None, "half a mark (upstream: 4)"),
    ("Final Score: **1-5**", None, "the form is repeated (upstream: 1)"),
    ("Final Score: 7", None, "out of range (upstream: 7)"),
    ("Final Score: 0", None, "out of range"),
    ("Final Score: 2\n...\nFinal Score: 5", 5, "the last one counts (upstream: the first)"),
    ("Final Score: 5\n\n2. Also, the sky", 5, "a list goes on below (upstream: 5 and 2, and it dies)"),
    ("Final Scores: 4, 3", None, "two marks for one question (upstream: both)"),
    ("Final Score: four", None, "a word"),
    ("**Final Score:** **4**/10", None, "another scale, stars between"),
    ("**Final Score:** **4** out of **10**", None, "another scale, stars between"),
    ("**Final Score:** **4**/**5**", 4, "of the full mark, stars between"),
    ("Final Score: 3 or 4", None, "two answers"),
    ("Final Score: 3 to 4", None, "a range"),
    ("Final Score: 3~4", None, "a range"),
    ("Final Score: **1**-**5**", None, "the form is repeated, stars between"),
    ("Final Score: 4 1/2", None, "four and a half"),
    ("Final Score: 5\nBut the Final Score depends.", None, "the last one has no number"),
    ("<think>maybe Final Score: 5 but wait", None, "it still thinks (cut off)"),
    ("<think>Final Score: 1</think>Final Score: 5", 5, "thinking is no answer"),
    ("Failed to obtain answer via API. ", None, "upstream's mark of a failed call"),
    ("", None, "empty"),
    ("Final Score: " + "9" * 400, None, "a long number"),
]

VIESCORE = [
    ('{"score": [7, 8], "reasoning": "ok"}', [7, 8], "the plain form"),
    ('||V^=^V||\n{"score": [6, 5], "reasoning": "ok"}\n||V^=^V||', [6, 5], "between upstream's delimiters"),
    ('```json\n{"score": [7, 8]}\n```', [7, 8], "in a fence"),
    ("[3, 4]", [3, 4], "a bare list, as upstream"),
    ('{"score": ["7", "8"]}', [7, 8], "numbers as texts"),
    ('{"score": [7.5, 8]}', [7.5, 8], "a fraction"),
    ('{"score": [7]}', None, "one mark of two"),
    ('{"score": [7, 8, 9]}', None, "three of two (upstream: the least)"),
    ('{"score": 7}', None, "one mark of two"),
    ('{"score": [11, 3]}', None, "out of range (upstream: clipped later)"),
    ('{"score": [true, 3]}', None, "a boolean is no mark"),
    ('{"score": [null, 3]}', None, "null is no mark"),
    ("About 7 I would say", None, "no form (upstream: a random number from the second try on)"),
    ("", None, "empty"),
    ("7", None, "one number for two marks"),
    ('{"score": [7 8]}', None, "broken: not to be guessed"),
    ('{"score": ["1_0", 5]}', None, "Python's own way to write 10"),
    ('{"score": [1' + "0" * 400 + ", 5]}", None, "a number that no float holds"),
    ('<think>{"score": [9, 9]}</think>cannot', None, "nothing after thinking"),
    ("NaN", None, "no number"),
    ('{"score": [NaN, 5]}', None, "not a number"),
]

COMM = [
    ('{"overall_score": 7}', 7, "the plain form"),
    ('{"overall_score": "7.5"}', 7.5, "a number as text"),
    ('{"overall_score": "NA"}', None, "no mark (upstream: 0)"),
    ('{"overall_score": null}', None, "no mark (upstream: 0)"),
    ('{"overall_score": 12}', None, "out of range (upstream: 12)"),
    ('{"overall_score": [7]}', None, "a list"),
    ('{"overall_score": 7 8}', None, "broken: not to be guessed"),
    ('{"overall_score": 7 out of 20}', None, "broken: no scale of ours"),
    ("{'overall_score': 7}", 7, "a Python literal"),
    ("7", None, "no object"),
    ("", None, "empty"),
]


def marks(raw: str) -> tuple[int, ...] | None:
    found = wise.read_marks(raw)
    return tuple(found[n] for n in wise.MARKS) if found else None


def two_marks(raw: str) -> list[float] | None:
    return viescore.read_scores(raw, 2)


DOCUMENT = '{"style_consistency": 8, "entity_consistency": 7, "trend_consistency": 9, "overall_consistency": 8, %s}'
COMM_DOCUMENT = [
    (DOCUMENT % '"completeness": 6, "image_quality": 9', 6, "the plain form"),
    (DOCUMENT % '"completeness": 6', None, "one mark is missing"),
    (DOCUMENT % '"completeness": "NA", "image_quality": 9', None, "one is no mark"),
    ("{}", None, "nothing"),
]
COMM_DESCRIPTIONS = [
    ('{"pictures": ["a", "b"]}', ["a", "b"], "the plain form"),
    ('{"pictures": []}', [], "a document without pictures"),
    ('{"pictures": ["a", 2]}', None, "not a text"),
    ('{"pictures": "a"}', None, "no list"),
    ("a, b", None, "no object"),
]


def completeness(raw: str) -> float | None:
    found = comm._document_marks(raw)
    return found["completeness"] if found else None


CASES: list[tuple[str, Callable[[str], Any], list[tuple[str, Any, str]]]] = [
    ("ueval", ueval.read_verdict, UEVAL),
    ("wise-legacy", marks, WISE_LEGACY),
    ("wise-verified", wise.read_score, WISE_VERIFIED),
    ("rise", rise.read_final_score, RISE),
    ("viescore", two_marks, VIESCORE),
    ("comm", comm._overall, COMM),
    ("comm document", completeness, COMM_DOCUMENT),
    ("comm descriptions", comm._descriptions, COMM_DESCRIPTIONS),
]
ROWS = [(name, parse, *row) for name, parse, rows in CASES for row in rows]


@pytest.mark.parametrize(("name", "parse", "raw", "wanted", "why"), ROWS, ids=[f"{r[0]}: {r[4]}" for r in ROWS])
def test_a_reply_is_read_as_it_was_meant(name: str, parse: Any, raw: str, wanted: Any, why: str) -> None:
    found = parse(raw)
    assert found == wanted and type(found) in (type(wanted), float, int, list), why


@pytest.mark.parametrize(("name", "parse", "rows"), CASES, ids=[c[0] for c in CASES])
def test_no_reply_of_any_kind_raises(name: str, parse: Any, rows: Any) -> None:
    """Halves, joins and noise: all replies of all benchmarks, cut at random and mixed."""
    rng = random.Random(name)
    texts = [row[0] for _, _, others in CASES for row in others]
    alphabet = string.printable + "{}[]\"':,*<>/\\\x00\ud800é中🙂"
    for _ in range(400):
        a, b = rng.choice(texts)[:600], rng.choice(texts)[:600]
        noise = "".join(rng.choices(alphabet, k=rng.randrange(30)))
        parse(a[: rng.randrange(len(a) + 1)] + noise + b[rng.randrange(len(b) + 1) :])


@pytest.mark.parametrize("raw", ["Score: 1", '{"score": 1}', "Final Score: 1", "true", "0"])
def test_single_mark_of_viescore_needs_its_form(raw: str) -> None:
    assert viescore.read_scores(raw, 1) == ([1] if raw.startswith("{") else None)


def test_logical_items_of_rise_are_marked_0_or_1() -> None:
    assert [rise.read_final_score(f"Final Score: {n}", 0, 1) for n in ("0", "1", "2", "1/1", "1/5")] == [
        0,
        1,
        None,
        1,
        None,
    ]
