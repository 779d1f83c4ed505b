"""The loop against the paper: one test for each thing that must hold. See docs and loop/state.py for departures."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from interleave_thinker.errors import ConfigError, PlanError
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.loop.state import LoopSettings, LoopState, advance, begin, choose, stop
from interleave_thinker.loop.trajectory import Attempt, Judgment
from interleave_thinker.storage.images import image_key

YES = '<answer>{"previous_step_success": true, "refine_prompt": ""}</answer>'
NO = '<answer>{"previous_step_success": false, "refine_prompt": "try again"}</answer>'
WHITE = (255, 255, 255)


def drawn(*prompts: str | None) -> Plan:
    """A step for each prompt; None is a step of text only."""
    return Plan(tuple(PlanStep(i, auxiliary_text=f"text {i}", prompt=p) for i, p in enumerate(prompts, 1)))


def made(state: LoopState, accepted: bool | None = None, refined: str = "") -> Attempt:
    """The outcome of what the state asks for; accepted None is an attempt that nobody judged."""
    judgment = None if accepted is None else Judgment(accepted, refined)
    key = f"image{state.step}.{state.attempt}"
    return Attempt(state.step, state.attempt, state.prompt, state.seed, state.reference_key, key, judgment)


def played(state: LoopState, verdicts: str) -> LoopState:
    """y: accepted, n: rejected, -: not judged."""
    for verdict in verdicts:
        state = advance(state, made(state, {"y": True, "n": False, "-": None}[verdict]))
    return state


def chosen(state: LoopState) -> list[tuple[int, bool]]:
    return [(r.chosen, r.accepted) for r in state.results]


# --- parity with the paper, through the real driver --------------------------------------------------


def test_a_retry_starts_from_the_steps_reference_and_never_from_the_failed_attempt(studio: Any) -> None:
    run = studio.run(drawn("a", "b"), [YES, NO, NO, YES], t_max=4)
    first = image_key(run.session.image(run.document.images[0].image_key))
    assert run.prompts == ["a", "b", "try again", "try again"]
    assert [[image_key(i) for i in r.references] for r in run.painter.requests] == [[], [first], [first], [first]]


def test_a_retry_of_a_first_step_from_text_is_from_text_again(studio: Any) -> None:
    run = studio.run(drawn("a"), [NO, YES])
    assert [r.references for r in run.painter.requests] == [(), ()]


def test_the_critic_sees_white_where_there_is_no_reference_and_the_generator_never_does(studio: Any) -> None:
    run = studio.run(drawn("a", "b"), [NO, YES, YES])
    before = [was.getpixel((0, 0)) for was, _ in run.judged]
    assert before[:2] == [WHITE, WHITE] and before[2] != WHITE
    assert [was.size for was, _ in run.judged] == [now.size for _, now in run.judged]
    assert [len(r.references) for r in run.painter.requests] == [0, 0, 1]
    assert all(i.getpixel((0, 0)) != WHITE for r in run.painter.requests for i in r.references)


def test_a_users_picture_is_what_the_first_step_edits_and_what_the_critic_compares_with(studio: Any) -> None:
    keys = studio.keep("red", "blue")
    run = studio.run(drawn("a"), user_images=keys)
    (request,) = run.painter.requests
    assert [i.getpixel((0, 0)) for i in request.references] == [(0, 0, 255)]
    assert request.size == (20, 10), "the user's aspect ratio stays"
    assert run.judged[0][0].getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("t_max", [1, 3, 5])
def test_t_max_counts_generator_calls_of_a_step(studio: Any, t_max: int) -> None:
    run = studio.run(drawn("a", "b"), [NO], t_max=t_max)
    assert len(run.painter.requests) == 2 * t_max
    assert [i.attempts for i in run.document.images] == [t_max, t_max]


def test_the_next_step_gets_its_own_plan_prompt_not_the_refined_one(studio: Any) -> None:
    assert studio.run(drawn("a", "b"), [NO, YES, YES]).prompts == ["a", "try again", "b"]


JUDGED = [
    ("last: what follows is the same", {"on_exhausted": "last"}, 2),
    ("first: accepted or not decides which goes on", {"on_exhausted": "first"}, 3),
    ("best: accepted or not decides whether to compare", {"on_exhausted": "best"}, 3),
    ("stop: accepted or not decides whether to stop", {"on_exhausted": "stop"}, 3),
    ("one attempt and first: the same picture anyway", {"on_exhausted": "first", "t_max": 1}, 0),
    ("one attempt and best: nothing to compare", {"on_exhausted": "best", "t_max": 1}, 0),
    ("one attempt and stop: it decides whether to stop", {"on_exhausted": "stop", "t_max": 1}, 1),
    ("a gate at rejections has to know of them", {"gate": "stop_on_reject", "t_max": 1}, 1),
    ("a gate after each step does not", {"gate": "stop_after_step", "t_max": 1}, 0),
]


@pytest.mark.parametrize(("why", "settings", "calls"), JUDGED, ids=[c[0] for c in JUDGED])
def test_the_critic_is_asked_exactly_where_its_verdict_can_matter(why: str, settings: Any, calls: int) -> None:
    state = begin(drawn("a", "b"), LoopSettings(**settings))
    asked = 0
    for _ in range(state.settings.t_max):
        asked += state.needs_judgment
        state = advance(state, made(state, False if state.needs_judgment else None))
    assert asked == calls


def test_a_gate_at_rejections_does_not_judge_the_very_last_attempt(studio: Any) -> None:
    state = begin(drawn("a", None), LoopSettings(1, gate="stop_on_reject"))
    assert not state.needs_judgment, "nothing comes after it that could be stopped"


def test_every_attempt_has_a_new_seed_also_when_the_prompt_did_not_change(studio: Any) -> None:
    same = '<answer>{"previous_step_success": false, "refine_prompt": "a"}</answer>'
    run = studio.run(drawn("a", "b"), [same], seed=7, t_max=3)
    assert run.seeds == [7, 8, 9, 1007, 1008, 1009]
    assert run.prompts[:3] == ["a", "a", "a"]
    assert len({a.image_key for a in run.session.attempts}) == 6


def test_seeds_stay_in_the_samplers_range() -> None:
    state = begin(drawn("a", "b"), LoopSettings(seed=2**64 - 1))
    assert played(state, "y").seed == 999


def test_steps_without_a_prompt_never_reach_the_generator(studio: Any) -> None:
    run = studio.run(drawn(None, "a", None, "b", None))
    assert run.prompts == ["a", "b"]
    assert [i.kind for i in run.document.items] == ["text", "text", "image", "text", "text", "image", "text"]


def test_a_plan_of_texts_only_makes_no_image_at_all(studio: Any) -> None:
    """Task A of the paper: the user's pictures are described, nothing is drawn."""
    run = studio.run(drawn(None, None), user_images=studio.keep("red"))
    assert (run.painter.requests, run.critic.calls, run.document.images) == ([], [], ())
    assert run.session.state.status == "done"
    assert [i.text for i in run.document.items] == ["text 1", "text 2"]
    assert [event for event, _ in run.events] == ["plan", "done"]


def test_without_a_critic_each_first_attempt_goes_on(studio: Any) -> None:
    run = studio.run(drawn("a", "b"), None, t_max=3)
    assert run.prompts == ["a", "b"] and all(i.accepted for i in run.document.images)


# --- what goes on when no attempt was accepted -------------------------------------------------------


def test_on_exhausted_last_goes_on_with_the_last_attempt_flagged() -> None:
    state = played(begin(drawn("a", "b"), LoopSettings(3)), "nn-y")
    assert chosen(state) == [(3, False), (1, True)]
    assert (state.results[0].image_key, state.results[0].exhausted) == ("image1.3", True)


def test_on_exhausted_first_goes_on_with_the_first_attempt_flagged() -> None:
    assert chosen(played(begin(drawn("a"), LoopSettings(3, "first")), "nnn")) == [(1, False)]


def test_on_exhausted_best_goes_on_with_what_is_named_among_all_and_beside_the_last(studio: Any) -> None:
    named = [f'<answer>{{"best": {n}}}</answer>' for n in (2, 1, 2)]
    run = studio.run(drawn("a"), [NO, NO, NO, *named], on_exhausted="best", t_max=3)
    assert chosen(run.session.state) == [(2, False)]
    shown = [len(call[-1].images) for call in run.critic.calls[3:]]
    assert shown == [4, 3, 3], "before and three attempts, then before and two, in both orders"


def test_on_exhausted_best_with_one_attempt_has_nothing_to_compare() -> None:
    assert chosen(played(begin(drawn("a"), LoopSettings(1, "best")), "-")) == [(1, False)]


def test_on_exhausted_stop_ends_the_run_with_everything_kept(studio: Any) -> None:
    run = studio.run(drawn("a", "b"), [NO], on_exhausted="stop", t_max=2)
    assert run.session.state.status == "stopped" and run.prompts == ["a", "try again"]
    assert "Step 1" in run.document.reason and "2" in run.document.reason
    assert [(i.kind, i.accepted) for i in run.document.items] == [("text", True), ("image", False)]


def test_on_exhausted_stop_does_not_stop_at_an_accepted_only_attempt(studio: Any) -> None:
    run = studio.run(drawn("a", "b"), [YES], on_exhausted="stop", t_max=1)
    assert run.session.state.status == "done" and run.prompts == ["a", "b"]


def test_an_acceptance_at_the_last_attempt_counts() -> None:
    for policy in ("first", "best", "stop"):
        state = played(begin(drawn("a"), LoopSettings(2, policy)), "ny")  # type: ignore[arg-type]
        assert chosen(state) == [(2, True)] and not state.results[0].exhausted


# --- what each step starts from ------------------------------------------------------------------------


def test_reference_previous_edits_the_last_chosen_picture_past_steps_of_text() -> None:
    state = played(begin(drawn("a", None, "b", "c"), LoopSettings(1)), "-")
    assert state.reference_key == "image1.1"
    assert played(state, "-").reference_key == "image3.1"


def test_reference_first_edits_the_first_picture_of_the_run() -> None:
    settings = LoopSettings(1, reference_policy="first")
    assert begin(drawn("a"), settings).reference_key is None
    assert played(begin(drawn("a", "b", "c"), settings), "--").reference_key == "image1.1"
    assert played(begin(drawn("a", "b", "c"), settings, ("u1", "u2")), "--").reference_key == "u1"


def test_reference_pinned_edits_the_users_last_picture_always() -> None:
    settings = LoopSettings(1, reference_policy="pinned")
    assert played(begin(drawn("a", "b"), settings, ("u1", "u2")), "-").reference_key == "u2"
    with pytest.raises(ConfigError, match="pinned"):
        begin(drawn("a"), settings)


# --- judgments that say little ------------------------------------------------------------------------


@pytest.mark.parametrize("refined", [None, "", "  ", "None", "..."])
def test_an_empty_refined_prompt_keeps_the_previous_prompt(studio: Any, refined: str | None) -> None:
    """The official demo passes the empty text to the generator; "..." is our form, copied."""
    empty = studio.no(refined)
    run = studio.run(drawn("a"), [NO, empty, YES], t_max=4)
    assert run.prompts == ["a", "try again", "try again"]


def test_an_unreadable_judgment_counts_as_a_rejection_that_keeps_prompt_and_raw_text(studio: Any) -> None:
    run = studio.run(drawn("a"), ["what a picture!", "I said: lovely", YES])
    assert run.prompts == ["a", "a"] and run.seeds == [0, 1]
    judgment = run.session.attempts[0].judgment
    assert judgment is not None and (judgment.parsed, judgment.accepted, judgment.raw) == (
        False,
        False,
        "I said: lovely",
    )


# --- a person's word -----------------------------------------------------------------------------------


def test_a_pick_overrides_the_critic_in_both_directions() -> None:
    settings = LoopSettings(3)
    assert chosen(played(begin(drawn("a"), settings, picks={1: 1}), "n")) == [(1, True)]
    state = played(begin(drawn("a"), settings, picks={1: 2}), "y")
    assert state.results == (), "the critic accepted the first, the person chose the second"
    assert chosen(played(state, "n")) == [(2, True)]


def test_a_picked_attempt_is_recorded_as_overridden_and_not_judged(studio: Any) -> None:
    run = studio.run(drawn("a"), [NO], picks={1: 2}, t_max=3)
    assert len(run.critic.calls) == 1, "the first attempt's refined prompt is needed, the second's verdict is not"
    assert [a.overridden for a in run.session.attempts] == [False, True]
    assert run.document.images[0].accepted


@pytest.mark.parametrize("picks", [{0: 1}, {2: 1}, {1: 0}, {1: 4}])
def test_a_pick_outside_of_the_plan_is_refused(picks: dict[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"accept_attempts .* the plan has 1 steps, and each has at most 3 attempts"):
        begin(drawn("a"), LoopSettings(3), picks=picks)


# --- the state as a value ------------------------------------------------------------------------------


def test_a_state_survives_json_at_every_point_of_a_run() -> None:
    state = begin(drawn("a", None, "b", "c"), LoopSettings(2, "best", seed=5), ("u",), {3: 2})
    for verdict in "nn.nny":
        copy = LoopState.from_dict(json.loads(json.dumps(state.to_dict())))
        assert copy == state and copy.seed == state.seed and copy.reference_key == state.reference_key
        state = choose(copy, 1) if verdict == "." else played(copy, verdict)
    assert state.status == "done" and LoopState.from_dict(state.to_dict()) == state


def test_advance_is_pure() -> None:
    state = begin(drawn("a"), LoopSettings())
    copy = dataclasses.replace(state)
    assert played(state, "n") == played(state, "n") and state == copy


def test_only_what_was_asked_for_is_taken() -> None:
    state = begin(drawn("a"), LoopSettings())
    with pytest.raises(ValueError):
        advance(state, dataclasses.replace(made(state), attempt=2))
    with pytest.raises(ValueError):
        advance(played(state, "y"), made(state))
    with pytest.raises(ValueError):
        choose(state, 1)
    comparing = played(begin(drawn("a"), LoopSettings(2, "best")), "nn")
    for number in (0, 3):
        with pytest.raises(ValueError):
            choose(comparing, number)


def test_a_stopped_run_keeps_its_results() -> None:
    state = stop(played(begin(drawn("a", "b"), LoopSettings()), "y"), "enough")
    assert (state.status, state.reason, state.finished, len(state.results)) == ("stopped", "enough", True, 1)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("t_max", {"t_max": 0}),
    ("t_max", {"t_max": 301}),
    ("on_exhausted", {"on_exhausted": "give up"}),
    ("reference_policy", {"reference_policy": "none"}),
    ("gate", {"gate": "open"}),
]


@pytest.mark.parametrize(("name", "settings"), REFUSED)
def test_settings_out_of_range_are_refused_by_name(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=name):
        LoopSettings(**settings)


def test_runs_that_would_outgrow_comfyui_are_refused() -> None:
    with pytest.raises(PlanError, match="no steps"):
        begin(Plan(()), LoopSettings())
    with pytest.raises(PlanError, match="exceed 300"):
        begin(drawn(*["p"] * 61), LoopSettings(5))
    begin(drawn(*["p"] * 60, *[None] * 40), LoopSettings(5))
