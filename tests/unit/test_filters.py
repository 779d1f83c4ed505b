"""Which attempts are learned from: each rule drops what it says, counts it, and nothing is lost or doubled."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from interleave_thinker.errors import ConfigError
from interleave_thinker.research.data.filters import FilterOptions, filtered, slope
from interleave_thinker.research.data.records import CriticRecord

ALL = FilterOptions(trend="off", min_best=0.0, truncate=False, rl_share=0.0, balance=0.0, need_refined=False)


def step(name, *scores, success=None):
    """The attempts of one step with these overall scores; 8 and more are successes."""
    return [
        CriticRecord(
            f"{name}.{n}", name, "r", 1, n, "i", "p", "u", None, "a.png", score >= 8 if success is None else success,
            "checker", "" if score >= 8 else "better", "", score, score,
        )
        for n, score in enumerate(scores, 1)
    ]  # fmt: skip


def names(records):
    return [r.id for r in records]


def test_what_is_kept_and_what_is_dropped_add_up_to_what_came():
    rng = random.Random(4)
    records = [r for s in range(200) for r in step(f"s{s}", *[rng.uniform(0, 10) for _ in range(rng.randint(1, 5))])]
    records += [replace(records[0], id="x", group="x", semantics=None)]
    sft, rl, drops = filtered(records, FilterOptions())
    assert drops.complete() and drops.seen == len(records) and drops.kept == len(sft) + len(rl)
    assert len(drops.reasons) >= 4
    assert not set(names(sft)) & set(names(rl))
    for part in (sft, rl):
        assert abs(sum(r.success for r in part) - sum(not r.success for r in part)) == 0, "balanced"


def test_a_falling_step_teaches_nothing():
    sft, rl, drops = filtered([*step("up", 3, 6, 9), *step("down", 9, 6, 3)], replace(ALL, trend="slope"))
    assert names(sft + rl) == ["up.1", "up.2", "up.3"]
    assert drops.reasons == {"falling trend": 3}


def test_editthinkers_rule_asks_only_whether_a_later_attempt_is_as_good():
    records = [*step("dip", 6, 2, 7), *step("down", 7, 6, 5), *step("one", 6)]
    sft, _, _ = filtered(records, replace(ALL, trend="first"))
    assert {r.group for r in sft} == {"dip", "one"}


def test_a_step_that_stays_low_is_dropped_and_stable_high_is_kept():
    sft, _, drops = filtered([*step("low", 1, 2, 1), *step("high", 9, 9)], replace(ALL, min_best=5.0))
    assert {r.group for r in sft} == {"high"} and drops.reasons == {"persistently low": 3}


def test_attempts_after_the_best_are_cut_off():
    sft, _, _ = filtered(step("s", 3, 9, 4), replace(ALL, truncate=True))
    assert names(sft) == ["s.1", "s.2"]


def test_the_steps_that_vary_most_go_to_reinforcement_learning():
    records = [*step("flat", 9, 9), *step("some", 6, 8), *step("much", 1, 9), *step("one", 9)]
    sft, rl, _ = filtered(records, replace(ALL, rl_share=0.25))
    assert {r.group for r in rl} == {"much"}
    sft, rl, _ = filtered(records, replace(ALL, rl_variance=1.0))
    assert {r.group for r in rl} == {"some", "much"} and {r.group for r in sft} == {"flat", "one"}
    _, rl, _ = filtered(records, replace(ALL, rl_share=1.0))
    assert {r.group for r in rl} == {"some", "much"}, "what does not vary has no advantage to learn from"


def test_balance_drops_of_the_commoner_label_only_and_is_the_same_each_time():
    records = [r for n in range(30) for r in step(f"good{n}", 9)] + [r for n in range(5) for r in step(f"bad{n}", 2)]
    options = replace(ALL, balance=2.0)
    sft, _, drops = filtered(records, options)
    assert sum(r.success for r in sft) == 10 and sum(not r.success for r in sft) == 5
    assert drops.reasons == {"too many successes for fine-tuning": 20}
    assert names(filtered(records, options)[0]) == names(sft)


def test_a_failure_without_a_refined_prompt_is_not_taught():
    silent = [replace(r, refined="") for r in step("s", 2, 9)]
    sft, _, drops = filtered(silent, replace(ALL, need_refined=True))
    assert names(sft) == ["s.2"] and drops.reasons == {"a failure without a refined prompt": 1}


def test_the_slope_is_that_of_least_squares():
    assert slope([1, 2, 4]) == pytest.approx(1.5)
    assert slope([5]) == 0.0


def test_nothing_in_gives_nothing_out():
    assert filtered([], FilterOptions())[:2] == ([], [])


def test_a_threshold_out_of_range_is_named():
    with pytest.raises(ConfigError, match="rl_share is 2"):
        FilterOptions(rl_share=2)
