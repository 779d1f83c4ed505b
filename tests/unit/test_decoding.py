"""The loop over a reply's tokens: guesses that are read along change no token, however wrong they are."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from interleave_thinker.agents.base import Sampling, TextStream
from interleave_thinker.agents.decoding import NEAR, decode
from interleave_thinker.agents.drafts import DRAFT, Drafts, KnownText, KnownTexts
from interleave_thinker.agents.picking import pick
from interleave_thinker.agents.reply_form import FormSteering, Vocabulary
from interleave_thinker.agents.token_text import TokenText
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.driver import LoopModels, drive
from interleave_thinker.errors import AgentError
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.roles.critic import JUDGMENT_FORM
from interleave_thinker.tinyworld.convert import WEIGHTS

WORDS = 9
STOP = 0
STEP = float(torch.finfo(torch.bfloat16).eps)


class Model:
    """Logits that hang on the last two tokens. In half precision many are tied, and several at once come out otherwise."""

    def __init__(self, seed: int, takes_several: bool, dtype: torch.dtype = torch.float32, level: float = 0.0):
        """level: about which the logits lie; the steps of a number format grow with it."""
        self.seed, self.takes_several, self.dtype, self.level = seed, takes_several, dtype, level
        self.stop_tokens = {STOP}
        self.known: list[int] = []
        self.reads: list[int] = []
        self.first = self._after([])[None]

    def _after(self, tokens: list[int]) -> torch.Tensor:
        draw = torch.Generator().manual_seed(hash((self.seed, *tokens[-2:])) % 2**31)
        logits = 3 * torch.randn(WORDS, generator=draw)
        return self.level + (logits.round() if self.dtype == torch.bfloat16 else logits)

    def read(self, tokens: list[int]) -> torch.Tensor:
        assert len(tokens) == 1 or self.takes_several
        self.reads.append(len(tokens))
        rows = []
        for token in tokens:
            self.known.append(token)
            rows.append(self._after(self.known))
        found = torch.stack(rows)
        if self.dtype == torch.bfloat16 and len(tokens) > 1:
            draw = torch.Generator().manual_seed(len(self.known))
            found = found + (torch.rand(found.shape, generator=draw) - 0.5) * NEAR * STEP * max(1, abs(self.level) - 9)
        return found

    def forget(self, count: int) -> None:
        assert 0 <= count <= len(self.known)
        del self.known[len(self.known) - count :]


def written(model: Model, sampling: Sampling, drafts: Drafts | None = None) -> list[int]:
    stream = TextStream(None)
    decode(model, sampling, stream, lambda ids: "".join(map(str, ids)), name="model", drafts=drafts)
    tokens = [int(digit) for digit in stream.text]
    before = tokens[:-1]  # behind the last token nothing is asked
    assert model.known[: len(before)] == before[: len(model.known)], "what counts as read is what was written"
    return tokens


TEXTS = st.lists(st.lists(st.integers(1, WORDS - 1), max_size=30), max_size=4)


@settings(deadline=None)
@given(
    seed=st.integers(0, 999), texts=TEXTS, temperature=st.sampled_from([0.0, 0.7, 2.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]), itself=st.booleans(), length=st.integers(1, 60),
    level=st.sampled_from([0.0, 30.0, -30.0]),
)  # fmt: skip
def test_guesses_change_no_token(seed, texts, temperature, dtype, itself, length, level) -> None:
    """Right ones, wrong ones and half right ones, drawn or greedy, also where near ties come out otherwise at once."""
    sampling = Sampling(length, temperature, seed=seed)
    wanted = written(Model(seed, False, dtype, level), sampling)
    if itself:
        texts = [*texts, wanted, [*wanted[: len(wanted) // 2], *reversed(wanted)]]
    model = Model(seed, True, dtype, level)
    assert written(model, sampling, Drafts([KnownText(text) for text in texts])) == wanted
    assert max(model.reads, default=1) <= DRAFT + 1
    assert len(model.known) <= length, "no more is read than the cache has room for"


PIECES = (
    "<answer>", "{", '"previous_step_success"', ":", " ", "true", "false", ",", '"refine_prompt"', '"', "x", "}",
    "</answer>", "<think>", "</think>", "a", "",
)  # fmt: skip
NEXT = {
    "<answer>": "{", "{": '"previous_step_success"', '"previous_step_success"': ":", 'success": ': "false", "true": ",",
    "false": ",", ",": '"refine_prompt"', '"refine_prompt"': ":", 'prompt":': '"', 'prompt":"': "x", "x": '"',
    'x"': "}", "}": "</answer>", "</think>": "<answer>", "think>a": "</think>", "<think>": "a",
}  # fmt: skip


class TiedCritic:
    """It writes one judgment. Before the verdict a blank leads `true` by a step; several at once come out otherwise."""

    dtype = torch.bfloat16
    stop_tokens = (len(PIECES) - 1,)

    def __init__(self, takes_several: bool):
        self.takes_several, self.text = takes_several, [""]
        self.first = self._row(False)[None]

    def _row(self, several: bool) -> torch.Tensor:
        row, text = torch.zeros(len(PIECES)), "".join(self.text)
        if text.endswith('success":'):
            row[[PIECES.index(word) for word in (" ", "true", "false")]] = torch.tensor(
                [20.0, 19.875 + several / 4, 10]
            )
        else:
            ends = [end for end in NEXT if text.endswith(end)]
            row[PIECES.index(NEXT[max(ends, key=len)] if ends else "" if text else "<think>")] = 20
        return row.bfloat16()

    def read(self, tokens: list[int]) -> torch.Tensor:
        rows = []
        for token in tokens:
            self.text.append(PIECES[token])
            rows.append(self._row(len(tokens) > 1))
        return torch.stack(rows)

    def forget(self, count: int) -> None:
        del self.text[len(self.text) - count :]


def pieces_of(text: str) -> list[int]:
    found = []
    while text:
        piece = max((p for p in PIECES if p and text.startswith(p)), key=len, default="")
        if not piece:
            return [0, 0]
        found.append(PIECES.index(piece))
        text = text[len(piece) :]
    return found


def test_guesses_change_no_verdict_that_hangs_on_a_near_tie() -> None:
    """The form decides by the likeliest token what may follow, and then leaves no rival to doubt about."""

    def judged(takes_several: bool, drafts: Drafts | None = None) -> Any:
        text_of = lambda ids: "".join(PIECES[token] for token in ids)  # noqa: E731
        steering = FormSteering(JUDGMENT_FORM, Vocabulary(pieces_of, text_of), stops=TiedCritic.stop_tokens)
        critic, sampling = TiedCritic(takes_several), Sampling(40, temperature=0)
        return decode(critic, sampling, TextStream(None), text_of, name="c", steering=steering, drafts=drafts)

    alone = judged(False)
    assert '": false' in alone.text
    guessed = judged(True, Drafts([KnownText(pieces_of(alone.text))]))
    assert (guessed.text, guessed.log_odds) == (alone.text, alone.log_odds)


@pytest.mark.parametrize("text", ["猫🙂画像 and more", "ﷺ🙂‍↔️", "plain"])
def test_all_tokens_are_counted_and_none_is_lost(text: str) -> None:
    """Also those of which several make one character, and a reply that is cut off inside one."""
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "generator/tokenizer")
    ids = tokenizer(text, add_special_tokens=False).input_ids
    stop = tokenizer.eos_token_id

    class Scripted(Model):
        def _after(self, tokens: list[int]) -> torch.Tensor:
            row = torch.zeros(len(tokenizer))
            row[[*ids, stop][len(tokens)]] = 9
            return row

    for length in range(1, len(ids) + 2):
        model = Scripted(0, True)
        model.stop_tokens = {stop}
        made = decode(
            model, Sampling(length, 0.0), TextStream(None), lambda some: tokenizer.decode(list(some)), name="m"
        )
        assert made.tokens == min(length, len(ids))
        assert made.text == tokenizer.decode(ids[:length])


def test_a_reply_that_repeats_an_earlier_one_takes_a_fraction_of_the_passes() -> None:
    seed = next(s for s in range(999) if len(written(Model(s, False), Sampling(80, 0.7, seed=s))) == 80)
    sampling = Sampling(80, 0.7, seed=seed)
    wanted = written(Model(seed, False), sampling)
    model = Model(seed, True)
    assert written(model, sampling, Drafts([KnownText(wanted)])) == wanted
    assert len(model.reads) < 80 / 4


def test_of_several_texts_the_first_counts_and_of_equal_runs_the_last() -> None:
    drafts = Drafts([KnownText([1, 2, 3, 4, 1, 2, 5, 6]), KnownText([1, 2, 7, 8, 9, 2, 3])])
    assert drafts.guess() == []
    for token in (1, 2):
        drafts.took(token)
    assert drafts.guess() == [5, 6] and drafts.guess(1) == [5] and drafts.guess(0) == []
    for token in (9, 2):
        drafts.took(token)
    assert drafts.guess() == [3]


def test_texts_are_read_once_and_not_all_are_kept() -> None:
    asked: list[str] = []

    def tokens_of(text: str) -> list[int]:
        asked.append(text)
        return list(text.encode())

    known = KnownTexts(tokens_of, most=3)
    known(["a b c", "d e f"])
    assert [text.tokens for text in known(["d e f", "a b c"])] == [list(b"d e f"), list(b"a b c")]
    assert asked == ["a b c", "d e f"]
    known(["g", "h", "i"])
    known(["a b c"])
    assert asked == ["a b c", "d e f", "g", "h", "i", "a b c"]


def test_a_caller_ends_a_reply_and_an_exception_passes() -> None:
    stream = TextStream(lambda text: len(text) < 3)
    model = Model(1, True)
    model.stop_tokens = set()
    told = decode(model, Sampling(50), stream, lambda ids: "".join(map(str, ids)), name="model")
    assert told.finish == "early" and len(told.text) == 3

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(model, Sampling(50), TextStream(None), lambda ids: "", name="model", check=interrupt)


def test_logits_that_are_no_numbers_are_told_of_the_token_that_they_decide() -> None:
    """Behind a wrong guess they are of no account."""
    model = Model(3, True)
    model.first = torch.full((1, WORDS), float("nan"))
    with pytest.raises(AgentError, match="model computes no numbers"):
        decode(model, Sampling(5), TextStream(None), lambda ids: "", name="model")


class TestPick:
    def test_without_temperature_it_is_the_likeliest(self) -> None:
        logits = torch.tensor([1.0, 4.0, 2.5])
        assert pick(logits, Sampling(temperature=0.0), 3, doubt=1.4) == (1, False)
        assert pick(logits, Sampling(temperature=0.0), 3, doubt=1.6) == (1, True)
        assert pick(torch.tensor([1.0]), Sampling(temperature=0.0), 0, doubt=1.0) == (0, False)

    def test_it_hangs_on_seed_and_place_alone(self) -> None:
        logits = torch.randn(50, generator=torch.Generator().manual_seed(1))
        drawn = [[pick(logits, Sampling(temperature=1.0, seed=s), p)[0] for p in range(40)] for s in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]
        torch.manual_seed(5)
        assert pick(logits, Sampling(temperature=1.0, seed=1), 7)[0] == drawn[0][7]

    def test_each_token_is_drawn_as_often_as_it_is_likely(self) -> None:
        logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
        count = 6000
        drawn = Counter(pick(logits, Sampling(temperature=2.0, top_p=1.0), p)[0] for p in range(count))
        for token, chance in enumerate((logits / 2.0).softmax(-1).tolist()):
            assert drawn[token] / count == pytest.approx(chance, abs=4 * (chance / count) ** 0.5)

    def test_top_k_and_top_p_leave_the_rest_out(self) -> None:
        logits = torch.tensor([3.0, 2.9, 2.8, -5.0])
        assert {pick(logits, Sampling(temperature=5.0, top_k=2, top_p=1.0), p)[0] for p in range(200)} == {0, 1}
        assert {pick(logits, Sampling(temperature=1.0, top_p=0.0), p)[0] for p in range(50)} == {0}

    def test_no_top_k_leaves_nothing_out_and_the_least_temperature_is_greedy(self) -> None:
        logits = torch.zeros(30)
        assert len({pick(logits, Sampling(temperature=1.0, top_k=0, top_p=1.0), p)[0] for p in range(900)}) == 30
        many = torch.randn(5000, generator=torch.Generator().manual_seed(1))
        assert pick(many, Sampling(temperature=1.0, top_k=0, top_p=1.0), 3, doubt=0.01)[1] is True
        rising = torch.tensor([1.0, 4.0, 2.5])
        for temperature in (1e-45, 1e-30, 1e-7):
            assert pick(rising, Sampling(temperature=temperature), 3) == (1, False)


@pytest.fixture(scope="module", params=["base", "generator/tokenizer"])
def tokenizer(request: pytest.FixtureRequest):
    return AutoTokenizer.from_pretrained(WEIGHTS / request.param)


class TestText:
    @settings(deadline=None, max_examples=200)
    @given(text=st.text(max_size=60) | st.sampled_from(["a 画像 🙂‍↔️ ü ﷽", "  two  spaces\n\n", "\ufffd"]))
    def test_the_pieces_are_the_text(self, tokenizer, text) -> None:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        pieces = TokenText(lambda some: tokenizer.decode(list(some), skip_special_tokens=False))
        made = "".join(pieces.add(token) for token in ids)
        whole = tokenizer.decode(ids, skip_special_tokens=False)
        assert made == whole or (whole.endswith("\ufffd") and whole.startswith(made))
        assert made + pieces.rest() == whole and pieces.rest() == ""

    def test_no_more_is_decoded_than_the_last_pieces(self) -> None:
        """Else a long reply takes quadratic time."""
        lengths: list[int] = []

        def decode_some(ids) -> str:
            lengths.append(len(ids))
            return "".join(chr(97 + i % 26) for i in ids)

        pieces = TokenText(decode_some)
        rng = random.Random(1)
        ids = [rng.randrange(999) for _ in range(2000)]
        assert "".join(map(pieces.add, ids)) == "".join(chr(97 + i % 26) for i in ids)
        assert max(lengths) <= 3

    def test_bytes_that_never_become_a_character_do_not_grow_the_work(self) -> None:
        lengths: list[int] = []

        def decode_some(ids) -> str:
            lengths.append(len(ids))
            return "\ufffd" * len(ids)

        pieces = TokenText(decode_some)
        for token in range(500):
            pieces.add(token)
        assert max(lengths) <= 20


def test_a_run_that_was_killed_and_resumed_writes_the_same_tokens(studio: Any, painter: Any) -> None:
    """The tiny critic at temperature 0.7, in a loop whose pictures are all wrong."""
    plan = Plan(
        tuple(PlanStep(n, prompt=f"a big {color} circle") for n, color in enumerate(("red", "blue", "green"), 1))
    )
    agent = load_agent(WEIGHTS / "critic", device="cpu")

    def replies(root: Path, name: str, killed_at: int = 0) -> list[str]:
        run = dataclasses.replace(studio, root=root).prepare(
            plan, name=name, t_max=3, painter=painter(fails_at=killed_at)
        )
        with contextlib.suppress(KeyboardInterrupt):
            drive(run.session, LoopModels(run.painter, agent, sampling=Sampling(160, temperature=0.7)))
        return [attempt.judgment.raw for attempt in run.session.attempts if attempt.judgment is not None]

    whole = replies(studio.root / "whole", "run")
    assert len(whole) > 3
    begun = replies(studio.root / "killed", "run", killed_at=4)
    assert 0 < len(begun) < len(whole)
    assert replies(studio.root / "killed", "run") == whole
