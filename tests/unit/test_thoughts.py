"""What the tiny agents think is shown in sentences; what anybody else thinks is shown as it is."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from interleave_thinker.tinyworld.language import PLAIN_OF
from interleave_thinker.tinyworld.lessons import (
    PROMPTS,
    UNCLEAR,
    Case,
    compare_lesson,
    critic_lesson,
    planner_lesson,
    rendered_case,
)
from interleave_thinker.tinyworld.oracle import OracleCritic
from interleave_thinker.tinyworld.scene import ATTRIBUTES, COLORS, POSITIONS, SHAPES, SIZES
from interleave_thinker.tinyworld.thoughts import in_sentences

EXAMPLES = Path(__file__).parents[1] / "js" / "tiny_thoughts.json"
seeds = st.integers(0, 2**32)


def case_of(rng: random.Random) -> Case:
    """As lessons have it; now and then of a picture that shows nothing of this world, or where nothing was wanted."""
    case = rendered_case(rng)
    if rng.random() < 0.1:
        case = replace(case, after=None)
    if rng.random() < 0.1:
        case = replace(case, before=None, prompt="an empty white background")
    return case


def thought_of(reply: str) -> str:
    return str(re.match("<think>(.*)</think>", reply)[1])  # type: ignore[index]


def lesson_thoughts(rng: random.Random) -> list[str]:
    cases = [case_of(rng) for _ in range(3)]
    replies = [critic_lesson(case, PROMPTS).reply for case in cases]
    step = [replace(case, prompt=cases[0].prompt, before=cases[0].before) for case in cases]
    return list(map(thought_of, [*replies, compare_lesson(step, PROMPTS).reply, planner_lesson(rng, PROMPTS).reply]))


@given(seeds)
def test_every_thought_that_the_lessons_teach_becomes_sentences_without_shorthand(seed: int) -> None:
    for thought in lesson_thoughts(random.Random(seed)):
        told = in_sentences(thought)
        assert re.fullmatch(r"(?:(?:\d+: )?[A-Z][a-z ,]+(?:; [a-z ]+)*\.(?: |$))+", told), told
        assert not re.search(rf"\b(ok|bad|so|sheet|none|{UNCLEAR})\b| ;|\ba [aeiou]", told), told


@given(seeds)
def test_a_judgments_sentence_names_what_is_wrong_as_seen_and_as_wanted_and_else_only_the_shape(seed: int) -> None:
    case = rendered_case(random.Random(seed))
    assume(case.after is not None and case.after.present and case.wanted.present and not case.right)
    saw, wanted = in_sentences(thought_of(critic_lesson(case, PROMPTS).reply)).split("; wanted ")
    for name in ATTRIBUTES:
        seen, meant = getattr(case.after, name), getattr(case.wanted, name)
        if seen != meant:
            assert re.search(rf"\b{seen}\b", saw) and re.search(rf"\b{meant}\b", wanted)
    some = {*COLORS, *SIZES, *SHAPES, *POSITIONS}
    named = [word for word in re.findall(r"\w+", saw) if word in some]
    assert len(named) == case.misses + (case.after.shape == case.wanted.shape)


def test_the_sentence_is_one_that_a_person_would_say() -> None:
    told = "before sheet after medium {} circle center white wanted medium red circle center white so ok {} ok ok ok"
    assert in_sentences(told.format("black", "bad")) == "Saw a black circle; wanted a red one."
    whole = "a medium red circle at the center on a white background"
    assert in_sentences(told.format("red", "ok")) == f"Saw {whole}, as wanted."
    unclear = "before sheet after unclear wanted medium red circle center white so bad"
    assert in_sentences(unclear) == f"Could not tell what the picture shows; wanted {whole}."
    # What it says of a color and what it calls wrong are not the same: both are told.
    assert in_sentences(told.format("red", "bad")) == f"Saw {whole}; wanted {whole}; found the color wrong."


@given(
    st.text()
    | st.lists(st.sampled_from(sorted({*PLAIN_OF.values(), "before", "after", "so", "ok", ";", "1"}))).map(" ".join)
)
def test_any_other_text_is_shown_as_it_is(text: str) -> None:
    """Words of this world in another order are no thought of the tiny agents."""
    assume(not re.fullmatch(r"[0-9]+ \w+ \w+ \w+ \w+ \w+", " ".join(text.split())))
    assert in_sentences(text) == text
    assert in_sentences(OracleCritic.__doc__ or "") == OracleCritic.__doc__


@given(seeds, st.sampled_from(["{} ", " {}", "Well: {}", "{}, I think", "{} ok", "{} ; 4"]))
def test_a_thought_with_more_beside_it_is_shown_as_it_is(seed: int, form: str) -> None:
    for thought in lesson_thoughts(random.Random(seed)):
        text = form.format(thought)
        assert (in_sentences(text) == text) is (text.split() != thought.split())


def test_the_page_makes_the_same_sentences() -> None:
    """tests/js/tiny_thoughts.test.mjs compares js/tiny_thoughts.mjs with these."""
    thoughts = [t for seed in range(15) for t in lesson_thoughts(random.Random(seed))]
    scene = "big {} star left white"
    contradictions = [
        f"before {scene.format('red')} after {scene.format('red')} wanted {scene.format(color)} so {flags}"
        for color in ("red", "orange")
        for flags in ("ok ok ok ok ok", "bad ok ok ok bad", "bad", "ok ok", "ok bad ok ok ok")
    ]
    others = [
        "",
        "The disc is blue.",
        "before sheet after unclear wanted none white so ok",
        "1 none red ; two",
        "before",
    ]
    none = ["before none red after none red wanted none orange so ok bad", "1 none orange"]
    told = [[thought, in_sentences(thought)] for thought in [*thoughts, *contradictions, *others, *none]]
    if not EXAMPLES.exists():  # after a change that is meant: delete the file and run the test again
        EXAMPLES.write_text(json.dumps(told, indent=0) + "\n", encoding="utf-8")
    assert told == json.loads(EXAMPLES.read_text(encoding="utf-8"))
