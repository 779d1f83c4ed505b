"""What a critic's response is worth, in the paper's variant, the released code's and ours (paper.md, section 7)."""

from __future__ import annotations

import json
import math
import re
from statistics import mean, stdev

import json_repair
import pytest
from grpo_advantages import advantages
from hypothesis import given, settings
from hypothesis import strategies as st

from interleave_thinker.research.train.rewards import (
    Outcome,
    Response,
    changed_share,
    gain,
    is_formatted,
    needs_image,
    next_prompt,
    read_response,
    reward,
)
from interleave_thinker.roles.scorer import Score

MIDDLE = Score(5.0, 5.0)
YES, NO = Response(True, True, "same"), Response(True, False, "another")
UNREAD = Response(False, None, "")


def value(variant, response, label, old=MIDDLE, new=None, **more):
    return reward(Outcome(response, label, "same", old, new), variant, **more)


def raw(verdict, prompt, think="because"):
    return f"<think>{think}</think><answer>{json.dumps({'previous_step_success': verdict, 'refine_prompt': prompt})}</answer>"


class TestCode:
    """The values that were worked out from the released reward."""

    def test_a_success_is_worth_little_more_when_it_is_recognised(self):
        assert value("code", YES, True) == pytest.approx(0.8, abs=1e-6)
        assert value("code", NO, True) == pytest.approx(0.7, abs=1e-6)

    def test_a_failure_by_what_the_refined_prompt_made(self):
        assert value("code", NO, False, new=MIDDLE) == pytest.approx(0.8, abs=1e-6), "recognised, no change"
        assert value("code", NO, False, Score(0, 0), Score(10, 10)) == pytest.approx(1.0, abs=1e-6), "the best"
        assert value("code", YES, False, Score(10, 10), Score(0, 0)) == pytest.approx(0.5, abs=1e-6), "the worst"

    def test_without_the_form_and_with_nothing_generated(self):
        assert value("code", UNREAD, False) == pytest.approx(0.2, abs=1e-6)

    def test_semantics_weigh_three_times_quality(self):
        better = value("code", NO, False, new=Score(7, 5)) - value("code", NO, False, new=MIDDLE)
        cleaner = value("code", NO, False, new=Score(5, 7)) - value("code", NO, False, new=MIDDLE)
        assert (better, cleaner) == (pytest.approx(0.03, abs=1e-6), pytest.approx(0.01, abs=1e-6))


class TestPaper:
    """R = 0.5 F + 0.5 (0.2 R_acc + 0.8 R_step), R_acc in {-1, 0}, R_step in points."""

    def test_accuracy_is_a_loss_of_a_tenth(self):
        assert value("paper", YES, True) == pytest.approx(0.5, abs=1e-6)
        assert value("paper", NO, True, new=MIDDLE) == pytest.approx(0.4, abs=1e-6)
        assert value("paper", UNREAD, True) == pytest.approx(-0.1, abs=1e-6)

    def test_the_step_is_not_normalised(self):
        old, new = Score(4, 9), Score(9, 9)
        assert value("paper", NO, False, old, new) == pytest.approx(0.5 + 0.4 * (9 - 6), abs=1e-6)
        assert value("paper", NO, False, Score(0, 0), Score(10, 10)) == pytest.approx(4.5, abs=1e-6)
        assert value("paper", NO, False, Score(10, 10), Score(0, 0)) == pytest.approx(-3.5, abs=1e-6)


class TestOurs:
    """What the paper's reward is weak at: both labels have one ceiling, and nothing is earned in vain."""

    def test_both_labels_can_earn_all(self):
        assert value("ours", YES, True) == pytest.approx(1.0)
        assert value("ours", NO, False, Score(2, 2), Score(10, 10)) == pytest.approx(1.0)

    def test_the_verdict_is_worth_half(self):
        assert value("ours", YES, True) - value("ours", YES, False) == pytest.approx(0.5 + 0.4)
        assert value("ours", NO, False, new=MIDDLE) > value("ours", YES, False) + 0.5

    def test_a_needless_rewrite_earns_nothing(self):
        assert value("ours", NO, True) == pytest.approx(0.1)

    def test_a_rewrite_in_vain_costs_by_its_words(self):
        kept = Response(True, False, "same")
        assert value("ours", NO, False, new=MIDDLE) < value("ours", kept, False, new=MIDDLE)
        assert value("ours", NO, False, new=Score(6, 6)) > value("ours", kept, False, new=MIDDLE)

    def test_nothing_without_the_form(self):
        assert value("ours", Response(False, True, "same"), True) == 0.0

    @pytest.mark.parametrize("old", [Score(0, 0), MIDDLE, Score(10, 10), Score(10, 0)])
    @pytest.mark.parametrize("new", [Score(0, 0), MIDDLE, Score(10, 10), None])
    @pytest.mark.parametrize("label", [True, False])
    @pytest.mark.parametrize("response", [YES, NO, UNREAD])
    def test_it_stays_between_0_and_1(self, response, label, new, old):
        assert 0.0 <= value("ours", response, label, old, new) <= 1.0


def test_a_part_can_be_left_out_of_each_variant():
    for variant in ("paper", "code", "ours"):
        parts = [
            value(variant, NO, False, new=Score(8, 8), without=[p for p in ("format", "accuracy", "step") if p != kept])
            for kept in ("format", "accuracy", "step")
        ]
        assert sum(parts) == pytest.approx(value(variant, NO, False, new=Score(8, 8)), abs=1e-9)


def test_only_what_can_matter_is_tried():
    """A generator call is dear: the code tries whatever failed, the paper each rejection, ours each right rejection."""
    cases = [(YES, True), (YES, False), (NO, True), (NO, False), (UNREAD, False)]
    assert [needs_image(r, label, "code") for r, label in cases] == [False, True, False, True, True]
    assert [needs_image(r, label, "paper") for r, label in cases] == [False, False, True, True, False]
    assert [needs_image(r, label, "ours") for r, label in cases] == [False, False, False, True, False]
    assert next_prompt(Response(True, False, ""), "the old one") == "the old one"


def test_gain_is_the_share_of_what_was_missing_or_there():
    assert gain(Score(5, 5), Score(10, 10)) == 1.0
    assert gain(Score(8, 8), Score(9, 9)) == pytest.approx(0.5)
    assert gain(Score(8, 8), Score(4, 4)) == pytest.approx(-0.5)
    assert gain(Score(10, 10), Score(10, 10)) == gain(Score(0, 0), Score(0, 0)) == 0.0


def test_changed_words_are_counted_with_their_number():
    assert changed_share("a red ball", "A red ball") == 0.0
    assert changed_share("a b", "c d") == 1.0
    assert changed_share("a a b", "a b") == pytest.approx(1 / 3)
    assert changed_share("", "") == 0.0


@pytest.mark.parametrize(
    ("text", "formatted"),
    [
        (raw(True, ""), True),
        (raw(False, "say <think> less"), False),
        ("  " + raw(False, "p") + "\n", True),
        (raw("true", "p"), False),
        (raw(True, None), False),
        (raw(True, "p").replace("<think>because</think>", ""), False),
        (raw(True, "p") + " and more", False),
        ("<think>a</think> chatter " + raw(True, "p").split("</think>")[1], False),
        (raw(True, "p").replace('"', "'").replace("true", "True"), False),
        ("", False),
        ("<answer>" * 3, False),
    ],
)
def test_the_form_is_exact(text, formatted):
    assert is_formatted(text) is formatted


class TestReleasedForms:
    """What the released reward makes of a reply, worked out from its code: a form that it pays must be paid here."""

    BARE = raw(False, "p").split("</think>")[1]

    @pytest.mark.parametrize(
        "text",
        [
            raw(False, "p"),
            BARE,
            raw(False, "p") + "<|im_end|>",
            raw(False, "p") + "\n\nThat is all.",
            raw(False, "p").replace("<answer>", "<answer>```json\n").replace("</answer>", "\n```</answer>"),
            "<think>a</think><answer>{'previous_step_success': False, 'refine_prompt': 'p'}</answer>",
            '<think>a</think> so <answer>{"previous_step_success": false, "refine_prompt": "p",}</answer>',
            '<think>a</think><answer>{"previous_step_success": false, "refine_prompt": "p"</answer>',
            '<think>a</think>\n< answer >\n{"previous_step_success": false, "refine_prompt": "p"}\n</ answer >',
            '<answer>{"previous_step_success": false, "refine_prompt": "p", "more": [1]}</answer>',
            '<answer>{previous_step_success: false, refine_prompt: "p"}</answer>',
            '```\n<answer>{"previous_step_success": false, "refine_prompt": "p" "more": 1}</answer>\n```',
        ],
    )
    def test_paid(self, text):
        assert read_response(text, "code") == Response(True, False, "p")

    @pytest.mark.parametrize(
        ("text", "response"),
        [
            ("", Response(False, None, "")),
            ('{"previous_step_success": false, "refine_prompt": "p"}', Response(False, None, "")),
            ("<answer>no idea</answer>", Response(False, None, "")),
            ('<answer>previous_step_success: false, refine_prompt: "p"</answer>', Response(False, None, "")),
            ('<answer>{"previous_step_success": false}</answer>', Response(False, False, "")),
            ('<answer>{"previous_step_success": "False", "refine_prompt": "p"}</answer>', Response(False, None, "p")),
            (BARE + "<think>later</think>", Response(False, False, "p")),
            (BARE.replace("</answer>", ""), Response(False, None, "")),
            ('<answer>[{"previous_step_success": 1}]</answer>', Response(False, None, "")),
            ('<answer>{"previous_step_success": 1, "refine_prompt": "p"}</answer>', Response(False, True, "p")),
        ],
    )
    def test_not_paid(self, text, response):
        assert read_response(text, "code") == response

    def test_the_other_rewards_want_the_exact_form(self):
        for text in (self.BARE, raw(False, "p") + "<|im_end|>"):
            assert not read_response(text, "paper").formatted and not read_response(text, "ours").formatted

    PIECES = ("<think>", "so", "</think>", "<answer>", "{", '"previous_step_success"', ": ", "false", ", ",
              '"refine_prompt"', ": ", '"a ball"', "}", "</answer>")  # fmt: skip
    OTHERS = (*PIECES, "previous_step_success", "'refine_prompt'", "True", "1", "'p'", "```json\n", "```", " so ", "\n",
              "<|im_end|>", "null", "[", "]", "// no", "")  # fmt: skip

    @given(st.lists(st.tuples(st.integers(0, 14), st.sampled_from(OTHERS), st.booleans()), max_size=4))
    @settings(max_examples=600, deadline=None)
    def test_whatever_the_released_rules_pay_is_paid(self, changes):
        """Its rules, applied with json_repair itself, to a right reply with pieces put in or replaced: the first answer,
        an object with a bool and a text, <think> not behind <answer>."""
        pieces = list(self.PIECES)
        for at, piece, replaces in changes:
            pieces[at : at + replaces] = [piece]
        text = "".join(pieces)
        found = re.search("<answer>(.*?)</answer>", re.sub(r"\s*([<>])\s*", r"\1", text), re.DOTALL)
        answer = json_repair.loads(found[1].strip()) if found else None
        whole = isinstance(answer, dict) and isinstance(answer.get("previous_step_success"), bool)
        whole = whole and isinstance(answer.get("refine_prompt"), str)
        assert read_response(text, "code").formatted == (whole and text.find("<think>") < text.find("<answer>"))

    def test_nothing_that_a_model_writes_breaks_it(self):
        for text in (
            "<answer>" * 5000,
            "<answer>" + "{" * 50_000 + "</answer>",
            "<answer>" + "[" * 9999 + '"refine_prompt":',
        ):
            assert read_response(text, "code").verdict is None


def test_a_verdict_is_read_as_in_use_though_the_form_is_not_kept():
    """The loop would accept this; so must the reward know it as an acceptance, only without the form's pay."""
    loose = read_response("Well: {'previous_step_success': True, 'refine_prompt': 'x'}")
    assert (loose.verdict, loose.formatted) == (True, False)
    assert read_response("no idea").verdict is None


def test_advantages_of_a_small_group_by_hand():
    """(r - mean) / (std + 1e-4): 1, 0, 0, 1 have mean 0.5 and deviation sqrt(1/3)."""
    found = advantages([1.0, 0.0, 0.0, 1.0])
    expected = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    assert found == pytest.approx([expected, -expected, -expected, expected], abs=1e-6)


def test_a_masked_response_counts_in_nothing():
    known = [0.9, 0.2, 0.4]
    found = advantages([0.9, None, 0.2, 0.4])
    assert found[1] == 0.0
    assert [found[0], *found[2:]] == pytest.approx([(r - mean(known)) / (stdev(known) + 1e-4) for r in known], abs=1e-6)
    assert advantages([None, 0.5]) == [0.0, 0.0]
