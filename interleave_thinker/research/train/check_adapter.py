"""Does an adapter answer as the full model? Both are asked what was recorded, greedily, and compared.

One model is in memory at a time: the adapter replies, the full model replies and reads the adapter's replies, the
adapter reads the full model's. Every answer is kept in a file, by a key of everything that it hangs on, so that a
check that was stopped goes on.

A reply is held to its form and read as in the loop, and asked for once; the loop asks again where it is unreadable.
"""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ...agents.base import Sampling
from ...agents.transformers_agent import TransformersAgent
from ...errors import PlanError
from ...files import hash_of
from ...loop.plan import Plan, checked
from ...loop.trajectory import Judgment
from ...reading.judgments import judgment_reader, judgment_reading
from ...reading.plan_text import plan_reader, plan_reading
from ...reading.replies import ReplyReader
from ...roles.asking import Watch, in_form
from ...roles.critic import JUDGMENT_FORM
from ...roles.planner import PLAN_FORMS
from ..answer_file import AnswerFile
from ..intervals import interval_of_share
from .calls import Call, Role
from .models import TrainError

Verdict = Literal["accepted", "rejected", "unreadable"]
Advice = Literal["fit", "more_calls", "higher_rank"]
WANTED, CERTAIN = 0.98, 0.95
"""An adapter stands for the full model if so many verdicts, or numbers of steps, are equal: in the calls that were
asked, and at the lower end of the interval."""
READERS: dict[Role, Callable[[], ReplyReader]] = {
    "critic": lambda: judgment_reader(until_accepted=True),
    "planner": plan_reader,
    "other": lambda: ReplyReader(lambda value: True),
}


@dataclass(frozen=True)
class Side:
    """One of the two. state: changes with its files. load: brings it into memory."""

    name: str
    state: str
    load: Callable[[], TransformersAgent]


@dataclass(frozen=True)
class Written:
    """A reply. finish: as `Completion.finish`."""

    text: str
    finish: str

    @property
    def ended(self) -> bool:
        return self.finish == "stop"


@dataclass(frozen=True)
class Check:
    """A comparison: `adapted` stands for `full`.

    sampling: greedy; its max_tokens, max_pixels and keep_form count. prompts: folder of the prompt texts that both are
    asked with; None for ours.
    """

    calls: Sequence[Call]
    adapted: Side
    full: Side
    answers: AnswerFile
    sampling: Sampling
    prompts: str | None = None

    def ask(self, on_progress: Callable[[str, int], None] = lambda what, done: None) -> None:
        """Put all questions to both that were not put yet.

        on_progress: what is done, and for how many calls.

        Raises:
            AgentError: a model cannot be loaded, or the adapter is of another base.
            RunError: answers cannot be written.
            TrainError: a picture is gone.
        """
        both = (self.adapted, self.full)
        self._work(self.adapted, both[:1], f"{self.adapted.name} replies", on_progress)
        self._work(self.full, both, f"{self.full.name} replies, and reads the other's replies", on_progress)
        self._work(self.adapted, both, f"{self.adapted.name} reads the other's replies", on_progress)

    def _work(self, side: Side, writers: Sequence[Side], what: str, on_progress: Callable[[str, int], None]) -> None:
        """Have `side` reply to every call, and say how likely each writer's reply is."""
        agent: TransformersAgent | None = None
        asked = 0
        for number, call in enumerate(self.calls, 1):
            if self._is_done(call, side, writers):
                continue
            agent = agent or side.load()
            self._one(agent, call, side, writers)
            asked += 1
            if asked % 25 == 0 or number == len(self.calls):
                on_progress(what, number)
        if agent is not None:
            del agent
            _free()

    def _is_done(self, call: Call, side: Side, writers: Sequence[Side]) -> bool:
        known = self.answers.known
        return self._reply_key(call, side) in known and all(
            (written := self.reply(call, writer)) and self._likely_key(call, side, written) in known
            for writer in writers
        )

    def _one(self, agent: TransformersAgent, call: Call, side: Side, writers: Sequence[Side]) -> None:
        try:
            messages = call.messages()
        except OSError as error:
            raise TrainError(f"A picture of {call.name} is gone: {error}") from None
        about = {"call": call.name, "by": side.name}
        key = self._reply_key(call, side)
        if key not in self.answers.known:
            done = agent.complete(messages, self._sampling(agent, call), Watch(READERS[call.role]))
            self.answers.keep(key, **about, text=done.text, finish=done.finish)
        for writer in writers:
            written = self.reply(call, writer)
            key = self._likely_key(call, side, written)
            if key not in self.answers.known:
                found, tokens = agent.log_probability(messages, written.text, self.sampling, ended=written.ended)
                self.answers.keep(key, **about, log_probability=found, tokens=tokens)

    def _sampling(self, agent: TransformersAgent, call: Call) -> Sampling:
        """With the form that the prompt asks for, as in the loop."""
        if call.role == "other":
            return self.sampling
        if call.role == "critic":
            return in_form(self.sampling, [JUDGMENT_FORM], agent, "critic", [self.prompts])
        return in_form(
            self.sampling, PLAN_FORMS, agent, "planner_images" if call.pictures else "planner_text", [self.prompts]
        )

    def reply(self, call: Call, side: Side) -> Written:
        entry = self.answers.known[self._reply_key(call, side)]
        return Written(str(entry["text"]), str(entry["finish"]))

    def likely(self, call: Call, side: Side, writer: Side) -> tuple[float, int]:
        """The logarithm of the probability of `writer`'s reply to `side`, and its tokens."""
        entry = self.answers.known[self._likely_key(call, side, self.reply(call, writer))]
        return float(entry["log_probability"]), int(entry["tokens"])

    def _reply_key(self, call: Call, side: Side) -> str:
        how = (self.sampling.max_tokens, self.sampling.max_pixels, self.sampling.keep_form, self.prompts)
        return hash_of("reply", side.name, side.state, call.question, call.role, how)

    def _likely_key(self, call: Call, side: Side, written: Written) -> str:
        pixels = self.sampling.max_pixels
        return hash_of("likely", side.name, side.state, call.question, written.text, written.ended, pixels)

    def figures(self) -> dict[str, Any]:
        """What the answers say, by role; call `ask` before it. Shares are in [0, 1].

        Verdicts and plans are counted where the full model's reply could be read; an unreadable one of the adapter is
        not equal to it.
        """
        found: dict[str, Any] = {"adapter": self.adapted.name, "full": self.full.name, "calls": len(self.calls)}
        for role in get_args(Role):
            calls = [call for call in self.calls if call.role == role]
            if calls:
                found[role] = self._of_role(role, calls)
        return found

    def _of_role(self, role: Role, calls: Sequence[Call]) -> dict[str, Any]:
        pairs = [(self.reply(call, self.adapted), self.reply(call, self.full)) for call in calls]
        found: dict[str, Any] = {"calls": len(calls), "replies_equal": share_of(a.text == b.text for a, b in pairs)}
        if role == "critic":
            found |= _verdicts([(judgment_of(a), judgment_of(b)) for a, b in pairs])
        elif role == "planner":
            found |= _plans([(plan_of(a), plan_of(b)) for a, b in pairs])
        found["likelihood"] = {
            "adapter": self._likelihood(calls, self.adapted, self.full),
            "full": self._likelihood(calls, self.full, self.adapted),
        }
        deciding = found.get("verdicts_equal") or found.get("steps_equal")
        if deciding and deciding["of"]:
            found["advice"] = advice(deciding)
        return found

    def _likelihood(self, calls: Sequence[Call], writer: Side, other: Side) -> dict[str, Any]:
        """Of `writer`'s replies: the mean logarithm of a token's probability to itself and to the other.

        ratio: perplexity to the other, over that to itself; 1 where both think the same.
        """
        own = [self.likely(call, writer, writer) for call in calls]
        tokens = sum(count for _, count in own)
        if not tokens:
            return {"tokens": 0, "own": None, "other": None, "ratio": None}
        by_writer = sum(value for value, _ in own) / tokens
        by_other = sum(self.likely(call, other, writer)[0] for call in calls) / tokens
        ratio = math.exp(min(by_writer - by_other, 700.0))
        return {"tokens": tokens, "own": by_writer, "other": by_other, "ratio": ratio}


def judgment_of(written: Written) -> Judgment:
    """A critic's reply, read as the loop reads it."""
    reply = READERS["critic"]().finish(written.text)
    return judgment_reading(reply, cut=written.finish == "length")[0]


def plan_of(written: Written) -> Plan | None:
    """A planner's reply, read as the Planner reads it; None where it is no plan."""
    plan = plan_reading(plan_reader().finish(written.text), cut=written.finish == "length").plan
    try:
        return checked(plan) if plan is not None else None
    except PlanError:
        return None


def advice(equal: Mapping[str, Any]) -> Advice:
    """What a share, as `share_of` gives it, says of the adapter."""
    low, high = equal["ci95"]
    if equal["share"] >= WANTED and low >= CERTAIN:
        return "fit"
    return "more_calls" if high >= WANTED else "higher_rank"


def _verdicts(pairs: Sequence[tuple[Judgment, Judgment]]) -> dict[str, Any]:
    said = [(_verdict(a), _verdict(b)) for a, b in pairs]
    counted = Counter(said)
    prompts = [(a.refined_prompt, b.refined_prompt) for a, b in pairs if _verdict(a) == _verdict(b) == "rejected"]
    return {
        "verdicts_equal": share_of(a == b for a, b in said if b != "unreadable"),
        "verdicts": {
            of_adapter: {of_full: counted[of_adapter, of_full] for of_full in get_args(Verdict)}
            for of_adapter in get_args(Verdict)
        },
        "refined_prompts_equal": share_of(a == b for a, b in prompts),
        "unreadable": _unreadable([(a.parsed, b.parsed) for a, b in pairs]),
    }


def _plans(pairs: Sequence[tuple[Plan | None, Plan | None]]) -> dict[str, Any]:
    steps = [(a.steps if a is not None else (), b.steps) for a, b in pairs if b is not None]
    return {
        "steps_equal": share_of(len(a) == len(b) for a, b in steps),
        "prompts_equal": share_of([step.prompt for step in a] == [step.prompt for step in b] for a, b in steps),
        "plans_equal": share_of(a == b for a, b in steps),
        "unreadable": _unreadable([(a is not None, b is not None) for a, b in pairs]),
    }


def _unreadable(read: Sequence[tuple[bool, bool]]) -> dict[str, int]:
    return {"adapter": sum(not a for a, _ in read), "full": sum(not b for _, b in read)}


def _verdict(judgment: Judgment) -> Verdict:
    if not judgment.parsed:
        return "unreadable"
    return "accepted" if judgment.accepted else "rejected"


def share_of(hits: Iterable[bool]) -> dict[str, Any]:
    """count, of, share in [0, 1] and its 95% interval; the last two are None where `of` is 0."""
    found = list(hits)
    share = sum(found) / len(found) if found else None
    interval = list(interval_of_share(sum(found), len(found))) if found else None
    return {"count": sum(found), "of": len(found), "share": share, "ci95": interval}


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


WORDS: dict[Advice, str] = {
    "fit": f"The adapter stands for the full model: at least {WANTED:.0%} are equal.",
    "more_calls": f"Not decided: with so few calls it may be more or less than {WANTED:.0%}. Check with more calls.",
    "higher_rank": f"The adapter does not stand for the full model: less than {WANTED:.0%} are equal, not by chance. "
    "Use a higher rank, or train the adapter on.",
}
ROWS = {
    "verdicts_equal": "verdicts equal",
    "refined_prompts_equal": "refined prompts equal, where both reject",
    "steps_equal": "plans with equally many steps",
    "prompts_equal": "plans with the same prompts",
    "plans_equal": "plans equal in all texts",
    "replies_equal": "replies equal, letter by letter",
}


def table(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [f"{figures['calls']} calls. Adapter: {figures['adapter']}. Full: {figures['full']}."]
    for role in get_args(Role):
        if role in figures:
            lines += _lines(role, figures[role])
    return "\n".join(lines)


def _lines(role: Role, found: Mapping[str, Any]) -> list[str]:
    name = "other (neither a judgment nor a plan)" if role == "other" else role
    lines = ["", f"| {name}: {found['calls']} calls | equal | share | 95% interval |", "|---|---|---|---|"]
    for key, words in ROWS.items():
        equal = found.get(key)
        if equal and equal["of"]:
            low, high = equal["ci95"]
            share = f"{equal['share']:.1%} | {low:.1%} to {high:.1%}"
            lines.append(f"| {words} | {equal['count']} of {equal['of']} | {share} |")
    if "verdicts" in found:
        lines += ["", "| adapter: down, full: across | " + " | ".join(get_args(Verdict)) + " |", "|---|---|---|---|"]
        lines += [f"| {of} | {' | '.join(map(str, row.values()))} |" for of, row in found["verdicts"].items()]
    if "unreadable" in found:
        of_adapter, of_full = found["unreadable"].values()
        lines += ["", f"Unreadable replies: {of_adapter} of the adapter's, {of_full} of the full model's."]
    lines += ["", "| whose replies | tokens | mean log-probability to itself | to the other |", "|---|---|---|---|"]
    of = found["likelihood"]
    for whose, one in of.items():
        if one["tokens"]:
            lines.append(f"| {whose} | {one['tokens']} | {one['own']:.4f} | {one['other']:.4f} |")
    lines += ["", *(_surprise(whose, one["ratio"]) for whose, one in of.items() if one["tokens"])]
    return [*lines, "", WORDS[found["advice"]]] if "advice" in found else lines


def _surprise(whose: str, ratio: float) -> str:
    writer, other = ("adapter", "full model") if whose == "adapter" else ("full model", "adapter")
    return (
        f"To the {other} a token of the {writer}'s replies is {ratio:.3g} times as unlikely as to the {writer} itself "
        "(ratio of perplexities)."
    )
