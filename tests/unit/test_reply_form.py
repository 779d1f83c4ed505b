"""A decoder that is held to the form of a reply, on toy vocabularies and on the tiny agents."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chat_server import Reply, Server, ask
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from interleave_thinker.agents.base import Sampling
from interleave_thinker.agents.endpoints import Endpoint
from interleave_thinker.agents.reply_form import (
    MAX_BLANKS,
    UNWILLING,
    UNWILLING_IN_ALL,
    FormSteering,
    ReplyForm,
    Vocabulary,
    atoms_of,
    continuations,
    place_in,
)
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.agents.server_form import form_fields, grammar_of
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.errors import ConfigError
from interleave_thinker.reading.judgments import read_judgment
from interleave_thinker.roles.asking import in_form
from interleave_thinker.roles.critic import COMPARE_FORM, JUDGMENT_FORM, judge
from interleave_thinker.roles.planner import PLAN_FORMS, make_plan
from interleave_thinker.roles.prompt_files import load_prompt
from interleave_thinker.tinyworld.lessons import rendered_case

WEIGHTS = Path(__file__).parents[2] / "interleave_thinker" / "tinyworld" / "weights"
FORMS = [JUDGMENT_FORM, COMPARE_FORM, *PLAN_FORMS]
LETTERS = "".join(map(chr, range(32, 127))) + "\n\t"
PIECES = ["<think>", "</think>", "<answer>", '{"', '":', ' "', " true", " false", "true", '": ', "step", "_", "prompt"]
STOP = 0
TOYS = settings(deadline=None, max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])


class Toy:
    """A vocabulary: a stop token, every letter, and longer pieces."""

    def __init__(self, pieces: list[str]):
        self.words = ["<|end|>", *LETTERS, *dict.fromkeys(p for p in pieces if len(p) > 1)]
        self.ids = {word: i for i, word in enumerate(self.words)}
        self.vocabulary = Vocabulary(self.encode, lambda ids: "".join(self.words[i] for i in ids))

    def encode(self, text: str) -> list[int]:
        """The longest pieces first."""
        ids = []
        while text:
            word = max((w for w in self.words[1:] if text.startswith(w)), key=len)
            ids.append(self.ids[word])
            text = text[len(word) :]
        return ids

    def steering(self, form: ReplyForm = JUDGMENT_FORM, **more) -> FormSteering:
        return FormSteering(form, self.vocabulary, stops=[STOP], **more)

    def said(self, steering: FormSteering, text: str) -> None:
        for token in self.encode(text):
            steering.took(token)

    def written(self, steering: FormSteering, likes, most: int, start: str = "") -> str:
        """What a greedy decoder writes. likes: logits by the text so far. It ends at a stop token."""
        self.said(steering, start)
        text = start
        for _ in range(most):
            token = int(steering.steered(likes(text)).argmax())
            if token == STOP:
                break
            steering.took(token)
            text += self.words[token]
        return text


def chance(toy: Toy, seed: int):
    rng = torch.Generator().manual_seed(seed)
    return lambda text: torch.randn(len(toy.words), generator=rng)


def after(toy: Toy, *wanted: str):
    """Likes the next piece of the first text that begins as what is written does; else the stop token."""

    def likes(text: str) -> torch.Tensor:
        logits = torch.zeros(len(toy.words))
        goal = next((w for w in wanted if w.startswith(text) and w != text), None)
        logits[toy.encode(goal[len(text) :])[0] if goal else STOP] = 9.0
        return logits

    return likes


SPELLED = st.builds(
    lambda form, blanks, marks, big: "".join(
        next(blanks) + spell(atom, next(marks), next(big)) for atom in atoms_of(form)
    ),
    st.sampled_from(FORMS),
    st.lists(st.text(" \n\t", max_size=MAX_BLANKS), min_size=20, max_size=20).map(iter),
    st.lists(st.booleans(), min_size=20, max_size=20).map(iter),
    st.lists(st.integers(0, 3), min_size=20, max_size=20).map(iter),
)


def spell(atom, single: bool, number: int) -> str:
    return atom.spellings[number % len(atom.spellings) if any(atom.words) else single * (len(atom.spellings) - 1)]


@TOYS
@given(SPELLED, st.text(max_size=5))
def test_each_beginning_of_a_written_form_is_a_place_in_it_and_only_its_end_is_over(text, rest):
    shapes = [atoms_of(form) for form in FORMS]
    for end in range(len(text)):
        assert any((p := place_in(shape, text[:end])) is not None and not p.over for shape in shapes)
    assert any((p := place_in(shape, text + rest)) is not None and p.over for shape in shapes)


@TOYS
@given(st.sampled_from(FORMS), st.data())
def test_every_continuation_that_is_offered_ends_the_form(form, data):
    atoms = atoms_of(form)
    whole = data.draw(st.sampled_from(list(continuations(atoms, place_in(atoms, "")))))
    begun = whole[: data.draw(st.integers(0, len(whole) - 1))]
    rests = list(continuations(atoms, place_in(atoms, begun)))
    assert rests and all(place_in(atoms, begun + rest).over for rest in rests)


@settings(TOYS, max_examples=10)
@given(
    st.sampled_from(FORMS),
    st.lists(st.text(LETTERS, min_size=2, max_size=4), max_size=5),
    st.integers(0, 10**6),
    st.sampled_from(["<think>a</think>", "<think>a</think>\n\n<answer>", "<answer>", "b</think> <answer>"]),
)
def test_whatever_a_model_likes_its_answer_begins_with_the_form(form, pieces, seed, start):
    toy = Toy([*pieces, *PIECES])
    text = toy.written(toy.steering(form), chance(toy, seed), 90, start)
    begin = start.index("</think>") + 8 if "</think>" in start else 0
    place = place_in(atoms_of(form), text[begin:])
    assert place is not None and place.over


THOUGHTS = st.text("ab <>/\"'{}", max_size=30).map(lambda text: "<think>" + text.replace("</", "< /"))


@TOYS
@given(THOUGHTS, st.sampled_from(["", '"<answer>', "<answer>", '<answer>{"previous_step_success":', "</answer>"]))
def test_inside_a_thought_the_model_is_left_alone(thought, then):
    """Also where a draft of the answer stands in it, and where it stops: that reply stays unreadable."""
    toy = Toy(PIECES)
    steering = toy.steering(strictness=3.0)
    toy.said(steering, thought + then)
    logits = torch.randn(len(toy.words))
    assert steering.steered(logits) is logits
    assert steering.log_odds is None


@TOYS
@given(SPELLED, st.booleans())
def test_a_model_that_keeps_the_form_in_its_own_way_writes_what_it_would_have_written(text, tight):
    """Python's quotation marks, capitals and blanks are as good as JSON's."""
    toy = Toy([*PIECES, "{'", "':", " '", " True", ", '"] if tight else [])
    reply = f"<think>a</think>{text}1 b c"
    form = next(f for f in FORMS if (p := place_in(atoms_of(f), text)) is not None and p.over)
    closed = reply + '"}'
    free = toy.written(toy.steering(form, forced=False), after(toy, closed), len(closed))
    assert toy.written(toy.steering(form), after(toy, closed), len(closed))[: len(reply)] == free[: len(reply)] == reply


CLOSED = ["<think>\n\n</think>\n\n", "</think>", "[THINK][/THINK]", "<|channel>thought\n<channel|>"]


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("forced", [True, False])
def test_where_the_prompt_closed_the_thought_the_reply_begins_with_the_form(closed, forced):
    """As models are asked that would think before they write. The prompt's part is none of the reply."""
    toy = Toy(PIECES)
    text = toy.written(toy.steering(opened=closed, forced=forced), chance(toy, 1), 80)
    place = place_in(atoms_of(JUDGMENT_FORM), text)
    assert (place is not None and place.over) == forced


def test_a_reply_whose_prompt_has_no_thought_may_still_begin_one():
    toy = Toy(PIECES)
    text = "<think>It is well.</think>"
    assert toy.written(toy.steering(), after(toy, text), 30).startswith(text)


@TOYS
@given(st.integers(0, 99), st.integers(0, 3))
def test_a_reply_that_will_not_go_on_in_its_object_ends_after_few_tokens(seed, willing):
    """It is no use to make a model write what it has not got, up to max_tokens; here it never closes its object."""
    toy = Toy(PIECES)
    start = '<think>a</think><answer>{"previous_step_success": false, "refine_prompt": "'
    letters = random.Random(seed)
    count = itertools.count()

    def likes(text: str) -> torch.Tensor:
        logits = torch.zeros(len(toy.words))
        logits[STOP] = -9.0 if willing and next(count) % (willing + 1) == 0 else 9.0
        logits[toy.ids[letters.choice("abc")]] = 5.0
        return logits

    text = toy.written(toy.steering(), likes, 400, start)
    assert UNWILLING <= len(text) - len(start) <= UNWILLING_IN_ALL * (willing + 2)


def test_a_sampled_reply_may_take_each_token_that_stays_in_the_form():
    """Not the likeliest alone; none that decides the verdict where the likeliest does not, for it would go unshifted."""
    toy = Toy(PIECES)
    steering = toy.steering(strictness=2.0)
    toy.said(steering, '<think>a</think><answer>{"previous_step_success":')
    logits = torch.zeros(len(toy.words))
    liked = {" ": 9.0, "\n": 8.0, " true": 7.0, "x": 6.0, "\t": 5.0}
    for word, how in liked.items():
        logits[toy.ids[word]] = how
    kept = steering.steered(logits)
    assert {toy.words[i] for i in kept.isfinite().nonzero()[:, 0]} == {" ", "\n", "\t"}
    assert [float(kept[toy.ids[w]]) for w in (" ", "\n", "\t")] == [9.0, 8.0, 5.0]
    logits[0] = 20.0  # where it would leave the form, too
    assert {toy.words[i] for i in steering.steered(logits).isfinite().nonzero()[:, 0]} == {" "}


@pytest.mark.parametrize("beyond", [10**6, -1])
def test_a_stop_token_that_the_model_cannot_write_is_passed_over(beyond):
    """Tokenizers may know more tokens than the head of a model has rows."""
    toy = Toy(PIECES)
    steering = FormSteering(JUDGMENT_FORM, toy.vocabulary, stops=[STOP, beyond])
    toy.said(steering, '<think>a</think><answer>{"previous_step_success": true, "refine_prompt": "')
    kept = steering.steered(torch.zeros(len(toy.words)))
    assert kept.isneginf().nonzero().flatten().tolist() == [STOP]


def test_the_log_odds_of_an_earlier_draft_are_forgotten_where_the_answer_chooses_again():
    toy = Toy([])
    steering = toy.steering(forced=False)
    toy.said(steering, 'A draft: {"previous_step_success": ')
    logits = torch.zeros(len(toy.words))
    logits[toy.ids["t"]] = 3.0
    steering.steered(logits)
    assert steering.log_odds == pytest.approx(3.0)
    toy.said(steering, 'true}. <answer>{"previous_step_success":')
    assert steering.log_odds is None
    logits[toy.ids["f"]] = 4.0
    steering.steered(logits)
    assert steering.log_odds == pytest.approx(-1.0)


def test_a_reply_does_not_end_inside_its_object_and_ends_behind_it():
    toy = Toy(PIECES)
    start = '<think>a</think><answer>{"previous_step_success": false, "refine_prompt": "'

    def likes(text: str) -> torch.Tensor:
        logits = torch.zeros(len(toy.words))
        logits[STOP] = 9.0
        logits[toy.ids["}" if text.endswith('x"') else '"' if text.endswith("x") else "x"]] = 5.0
        return logits

    text = toy.written(toy.steering(), likes, 100, start)
    assert text == start + 'x"}'
    assert read_judgment(text).refined_prompt == "x"


def test_a_stop_token_beyond_the_models_own_ends_nothing():
    """A folder's tokenizer may have a padding token for which its model has no logit."""
    toy = Toy(PIECES)
    steering = FormSteering(JUDGMENT_FORM, toy.vocabulary, stops=[STOP, len(toy.words), -1])
    toy.said(steering, '<think>a</think><answer>{"previous_step_success": false, "refine_prompt": "')
    steered = steering.steered(torch.zeros(len(toy.words)))
    assert steered.isinf().nonzero().flatten().tolist() == [STOP]


def test_blanks_without_end_leave_the_form_and_are_ended():
    toy = Toy(PIECES)
    text = toy.written(toy.steering(), after(toy, "<answer>" + " " * 100), 120, "<answer>")
    assert text.startswith("<answer>" + " " * MAX_BLANKS + "{")


VERDICTS = [
    (["<answer>"], '<answer>{"previous_step_success":', True),
    (["<answer>", '{"previous_step_success": true', '{"previous_step_success": false, "r'], "<answer>", True),
    ([], '{"previous_step_success": ', False),
    ([], 'I judge: {"refine_prompt": "x", "previous_step_success":', False),
    ([" true", " false"], "<think>a</think>\n{'previous_step_success':", False),
]


@TOYS
@given(
    st.sampled_from(VERDICTS), st.floats(-6, 6, width=16), st.floats(-8, 8, width=16), st.booleans(), st.integers(0, 99)
)
def test_a_verdict_is_accepted_exactly_where_its_log_odds_exceed_the_strictness(case, odds, strictness, forced, seed):
    """Wherever the token of the verdict stands, and whether it is a letter or the object's whole beginning."""
    pieces, start, in_form_ = case
    if odds == strictness or (not in_form_ and not odds):
        return
    toy = Toy(pieces)
    steering = toy.steering(forced=forced, strictness=strictness)
    toy.said(steering, start)
    logits = torch.rand(len(toy.words), generator=torch.Generator().manual_seed(seed)) - 30.0
    wholes = [w for w in toy.words if "success" in w]
    yes, no = (
        [next(w for w in toy.words if w in p) for p in ((wholes[:1] or [" true"]), (wholes[1:] or [" false"]))]
        if len(pieces) > 1
        else ("t", "f")
    )
    logits[toy.ids[yes]], logits[toy.ids[no]] = odds, 0.0
    chosen = toy.words[int(steering.steered(logits).argmax())]
    assert steering.log_odds == pytest.approx(odds, abs=1e-4)
    assert chosen == (yes if odds > strictness else no)


@TOYS
@given(st.text(LETTERS, max_size=300), st.integers(0, 99))
def test_without_a_form_to_force_and_without_strictness_logits_stay_as_they_are(text, seed):
    toy = Toy(PIECES)
    steering = toy.steering(forced=False)
    toy.said(steering, text)
    logits = torch.randn(len(toy.words), generator=torch.Generator().manual_seed(seed))
    assert steering.steered(logits) is logits


def test_each_token_is_looked_at_a_bounded_number_of_times_however_long_the_reply():
    """Free text before and behind the form costs the same for each token."""
    toy = Toy(PIECES)
    decoded = 0

    def decode(ids):
        nonlocal decoded
        decoded += len(ids)
        return "".join(toy.words[i] for i in ids)

    per_token = []
    for length in (300, 2000):
        decoded = 0
        steering = FormSteering(JUDGMENT_FORM, Vocabulary(toy.encode, decode))
        toy.said(steering, "<think>" + "word " * length)
        per_token.append(decoded / (5 * length))
    assert per_token[1] == pytest.approx(per_token[0], rel=0.05)


def test_a_choice_of_which_one_word_begins_another_is_refused():
    with pytest.raises(ValueError, match="begins another"):
        ReplyForm(('{"a": ', ("yes", "yes, but")))


def test_keys_of_stored_replies_stay_as_they_were_before_there_were_forms():
    assert str(Sampling()) == (
        "Sampling(max_tokens=2048, temperature=0.0, top_p=0.8, top_k=20, seed=0, max_pixels=1048576)"
    )
    for other in (replace(Sampling(), keep_form=False), replace(Sampling(), strictness=1.0)):
        assert str(other) != str(Sampling()) and str(other).startswith("Sampling(max_tokens=")


# --- which form a prompt asks for


class Brings:
    """An agent by the folder with prompts that it brings."""

    def __init__(self, folder: Path | None):
        self.prompts = str(folder) if folder else None


def formed(name, forms, brought=None, own=None):
    agent = Brings(brought)
    return in_form(Sampling(), forms, agent, name, [own, agent.prompts]).form


def test_our_prompts_show_their_forms():
    assert formed("critic", [JUDGMENT_FORM]) == JUDGMENT_FORM
    assert formed("compare", [COMPARE_FORM]) == COMPARE_FORM
    for name in ("planner_text", "planner_images"):
        assert formed(name, PLAN_FORMS) == PLAN_FORMS[0]


@pytest.mark.parametrize(
    ("shown", "form"),
    [
        ("<answer>{'previous_step_success': True/False, 'refine_prompt': '...'}</answer>", JUDGMENT_FORM),
        ('{\n  "previous_step_success": bool,\n  "refine_prompt": str\n}', JUDGMENT_FORM),
        ('{"verdict": true or false, "refine_prompt": "..."}', None),
        ('{"refine_prompt": "...", "previous_step_success": true or false}', None),
        ("Say yes or no, then the prompt.", None),
    ],
)
def test_a_users_prompt_that_asks_for_another_form_is_not_held_to_ours(tmp_path, shown, form):
    (tmp_path / "critic.md").write_text("{original_instruction} {rewritten_prompt}\n" + shown)
    assert formed("critic", [JUDGMENT_FORM], own=tmp_path) == (form and replace(form, thought=False))


def test_prompts_that_came_with_a_model_and_show_no_form_stand_for_ours():
    folder = WEIGHTS / "critic" / "prompts"
    assert "previous" not in load_prompt("critic", [folder])
    assert formed("critic", [JUDGMENT_FORM], brought=folder) == JUDGMENT_FORM
    assert formed("critic", [JUDGMENT_FORM], own=folder) is None


def test_a_plan_whose_steps_begin_with_another_key_is_held_to_its_own_beginning(tmp_path):
    (tmp_path / "planner_text.md").write_text('{text_input} {"execution_plan": [{"prompt": "...", "step_number": 1}]}')
    assert formed("planner_text", PLAN_FORMS, own=tmp_path) == replace(PLAN_FORMS[1], thought=False)


# --- on the tiny agents


@pytest.fixture(scope="module")
def critic():
    return load_agent(WEIGHTS / "critic", device="cpu")


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_trained_critic_writes_the_same_with_the_form_and_without(critic, temperature):
    rng = random.Random(4)
    for number in range(4):
        case = rendered_case(rng)
        asked = (case.before_image, case.after_image, case.prompt, case.used)
        kept, free = (
            judge(critic, *asked, sampling=Sampling(300, temperature, seed=number, keep_form=keep))
            for keep in (True, False)
        )
        assert kept == free and kept.parsed


def test_a_trained_planner_writes_the_same_with_the_form_and_without():
    planner = load_agent(WEIGHTS / "planner", device="cpu")
    request = "Draw this in 2 steps: start with a big red circle at the center on a white background, then dye it blue."
    kept, free = (make_plan(planner, request, sampling=Sampling(400, keep_form=keep)) for keep in (True, False))
    assert kept == free


@pytest.mark.parametrize("keep", [True, False])
def test_strictness_turns_the_tiny_critics_verdict_at_its_log_odds(critic, keep):
    case = rendered_case(random.Random(4))
    asked = (case.before_image, case.after_image, case.prompt, case.used)
    seen: list[float | None] = []
    turn = in_form(Sampling(300, keep_form=keep), [JUDGMENT_FORM], critic, "critic", [critic.prompts])
    from interleave_thinker.agents.base import Message
    from interleave_thinker.roles.critic import critic_turn, white_canvas

    before = asked[0] or white_canvas(asked[1].size)
    message = [Message("user", critic_turn(before, *asked[1:], [critic.prompts]))]
    odds = critic.complete(message, turn).log_odds
    assert odds is not None
    for strictness in (odds - 0.5, odds + 0.5):
        done = critic.complete(message, replace(turn, strictness=strictness))
        seen.append(done.log_odds)
        assert read_judgment(done.text).accepted == (odds > strictness)
    assert seen == [odds, odds]


# --- servers


JUDGED = Sampling(form=JUDGMENT_FORM)


@pytest.mark.parametrize(
    ("way", "field"),
    [("structural_tag", "response_format"), ("json_schema", "response_format"), ("llama.cpp", "grammar")],
)
def test_a_server_is_asked_for_the_form_as_its_endpoint_says(server: Server, way: str, field: str) -> None:
    agent = server.agent(lambda r: r.say("ok"), reply_form=way)
    agent.complete([], JUDGED)
    assert server.bodies[0][field] == form_fields(JUDGMENT_FORM, way)[field]
    assert agent.name != server.agent(lambda r: r.say("ok")).name


@pytest.mark.parametrize(
    ("sampling", "more"),
    [
        (JUDGED, {}),
        (Sampling(), {"reply_form": "json_schema"}),
        (replace(JUDGED, keep_form=False), {"reply_form": "json_schema"}),
        (Sampling(form=PLAN_FORMS[1]), {"reply_form": "json_schema"}),
    ],
)
def test_without_a_form_or_a_word_in_the_endpoint_the_request_is_as_before(server: Server, sampling, more) -> None:
    server.agent(lambda r: r.say("ok"), **more).complete([], sampling)
    assert not {"response_format", "grammar"} & set(server.bodies[0])


def test_a_server_that_refuses_the_form_is_asked_without_it_and_not_again(server: Server, caplog) -> None:
    """The log says once what is missing from now on."""

    def refuse(r: Reply) -> None:
        if "response_format" in server.bodies[-1]:
            r.error(400, {"error": {"message": "Invalid specification.", "param": "response_format"}})
        else:
            r.say("ok")

    agent = server.agent(refuse, reply_form="structural_tag")
    assert [agent.complete([], JUDGED).text for _ in range(2)] == ["ok", "ok"]
    assert ["response_format" in body for body in server.bodies] == [True, False, False]
    (warned,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert repr(agent.endpoint.name) in warned and "response_format" in warned


def test_what_the_user_wrote_into_extra_body_wins(server: Server) -> None:
    server.agent(lambda r: r.say("ok"), reply_form="json_schema", extra_body={"response_format": {"type": "text"}})
    ask(server.agent(lambda r: r.say("ok"), reply_form="llama.cpp", extra_body={"grammar": "root ::= [a-z]"}))
    assert server.bodies[0]["grammar"] == "root ::= [a-z]"


def test_an_unknown_way_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="not 'xml'"):
        Endpoint("lab", "http://127.0.0.1:1/v1", "m", reply_form="xml")


GRAMMAR_THOUGHTS = ["<think>a < b, </b> is it?</think>", "so it is</think>", "<think>a <</think>", "a <<</</think>"]


def as_pattern(grammar: str) -> str:
    """A grammar without recursion as a regular expression."""
    rules = dict(line.split(" ::= ") for line in grammar.splitlines())
    token = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[a-z]+|\{[^}]*\}|\S')

    def pattern(name: str) -> str:
        out = ""
        for found in token.findall(rules[name]):
            if found[0] == '"':
                out += "(?:" + re.escape(re.sub(r"\\(.)", r"\1", found[1:-1])) + ")"
            else:
                out += f"(?:{pattern(found)})" if found[0].isalpha() else found
        return out

    return pattern("root")


@TOYS
@given(SPELLED, st.sampled_from(["", *GRAMMAR_THOUGHTS]))
def test_the_grammar_for_llama_cpp_takes_what_the_form_takes_and_no_other_beginning(text, thought):
    takes = [re.compile(as_pattern(grammar_of(form))) for form in FORMS]
    whole = thought + text + "1, anything}"
    assert any(one.fullmatch(whole) for one in takes)
    others = [whole.replace("<answer>", "", 1), whole.replace("{", "", 1), thought + "<think>" + text]
    for close in ("", "</think>"):  # what stands behind `<answer>` is no thought
        others.append('<answer>{"verdict": 1}' + close + text)
        others.append(thought + '<answer>{"verdict": 1}' + close + text)
    for other in others:
        assert not any(one.fullmatch(other) for one in takes)


@TOYS
@given(
    st.lists(st.sampled_from(["<", "</", "</t", "<a", "<an", "a", "/", "t", "h", "n", ">", "\n"]), max_size=8).map(
        "".join
    )
)
def test_the_grammar_for_llama_cpp_takes_any_thought_that_holds_no_tag_of_ours(thought):
    """Also one that ends with the beginning of a tag."""
    for opened, ours in (("<think>", ["</th"]), ("", ["</th", "<ans"])):
        if any(tag in thought for tag in ours):
            continue
        whole = f'{opened}{thought}</think><answer>{{"previous_step_success": true, "refine_prompt": "x"}}'
        assert re.fullmatch(as_pattern(grammar_of(JUDGMENT_FORM)), whole)


def test_a_structure_begins_only_where_a_thought_is_closed_before_it():
    """`<answer>` alone also stands in thoughts."""
    tag = form_fields(JUDGMENT_FORM, "structural_tag")["response_format"]
    begins = [structure["begin"] for structure in tag["structures"]]
    assert "</think><answer>" in begins and "</think>\n<answer>" in begins
    for begin in [*begins, *tag["triggers"]]:
        assert begin.startswith("</think>")
    assert all(any(begin.startswith(trigger) for trigger in tag["triggers"]) for begin in begins)


def test_all_schemas_are_of_objects_that_begin_with_the_form():
    for form in FORMS:
        for part in form_fields(form, "structural_tag").values():
            schema = part["structures"][0]["schema"]
            assert next(iter(schema["properties"])) == form.key and form.key in schema["required"]
    assert len(list(itertools.chain(*(form_fields(f, "json_schema") for f in FORMS)))) == 3


@pytest.mark.parametrize(
    ("before", "thought"), [("<think>why</think>", True), ("Give your reasons first: ", True), ("", False)]
)
def test_a_prompt_text_that_shows_no_thought_asks_for_the_form_at_once(tmp_path, before, thought):
    shown = before + '<answer>{"previous_step_success": true or false, "refine_prompt": "..."}</answer>'
    (tmp_path / "critic.md").write_text("want {original_instruction} got {rewritten_prompt} " + shown)
    agent = ScriptedAgent([])
    form = in_form(Sampling(), [JUDGMENT_FORM], agent, "critic", [tmp_path]).form
    assert form is not None and form.thought is thought


@pytest.mark.parametrize("forced", [True, False])
def test_a_form_without_thought_begins_with_the_reply(forced):
    """Only where it is forced."""
    toy = Toy(PIECES)
    text = toy.written(toy.steering(replace(JUDGMENT_FORM, thought=False), forced=forced), chance(toy, 1), 80)
    places = [place_in(shape, text) for shape in (atoms_of(JUDGMENT_FORM), atoms_of(JUDGMENT_FORM)[1:])]
    assert any(place is not None and place.over for place in places) is forced


@pytest.mark.parametrize("begin", ["<think>a</think>", "<think>a</think><answer>", "<think>a</think>\n<answer>{"])
def test_the_log_odds_of_the_verdict_stay_when_the_object_goes_on(begin):
    """The form may begin behind the thought or behind its tag: it is one form."""
    toy = Toy(PIECES)
    steering = toy.steering()
    toy.written(steering, chance(toy, 1), 120, begin)
    assert steering.log_odds is not None
