"""Whether an agent can be used, and how fast it is: the real planner's and critic's questions, with known answers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from ..agents.base import Agent, Completion, Message, OnText, Sampling
from ..errors import InterleaveError, PlanError
from ..roles.critic import judge
from ..roles.planner import make_plan
from .questions import CRITIC_QUESTIONS, PLAN_REQUEST, PLANNED_PICTURES, CriticQuestion

Role = Literal["planner", "critic"]
Verdict = Literal["sees", "errs", "guesses", "always accepts", "always rejects", "unreadable", "unknown"]

SECONDS: Final = 180.0
"""Time for all questions, unless it is told otherwise."""
PICTURE_SIDE: Final = 1024
"""Edge in pixels of the pictures that are shown: what most image models draw."""
SHOWN: Final = 300
"""Characters of a reply that are kept."""


@dataclass(frozen=True)
class Answer:
    """What came of one question.

    role: who was asked as. question: what was shown. wanted, said: the right answer and the agent's, for people.
    readable: the reply could be parsed. right: it is the wanted answer. Both are False if it could not be parsed.
    tries: replies that were written; 2 where the first could not be parsed. cut_off: the last reply ended at
    max_tokens. unfinished: it was stopped because the time was over. tokens: of all replies. seconds: from the question
    to the answer's end. wait: seconds to the first text of the first reply, None where none came. reply: the beginning
    of the last one, where none could be parsed.
    """

    role: Role
    question: str
    wanted: str
    said: str = ""
    readable: bool = False
    right: bool = False
    tries: int = 0
    cut_off: bool = False
    unfinished: bool = False
    tokens: int = 0
    seconds: float = 0.0
    wait: float | None = None
    reply: str = ""


@dataclass(frozen=True)
class AgentCheck:
    """All answers of an agent. error: why it could not be used, or not to the end, "" if it could; `answers` has what
    it said before. skipped: questions that were not put because the time was over. max_tokens, side: as asked with.
    writing: tokens and seconds over all replies, each counted from its first text.
    """

    name: str
    answers: tuple[Answer, ...] = ()
    error: str = ""
    skipped: tuple[str, ...] = ()
    max_tokens: int = 0
    side: int = PICTURE_SIDE
    writing: tuple[int, float] = (0, 0.0)

    def of(self, role: Role) -> list[Answer]:
        """Its answers in a role, those that were stopped left out."""
        return [a for a in self.answers if a.role == role and not a.unfinished]

    @property
    def tokens_a_second(self) -> float | None:
        """Tokens written a second, from the first text of each reply on; None where too few were written."""
        tokens, seconds = self.writing
        return tokens / seconds if tokens >= 5 and seconds > 0 else None

    @property
    def verdict(self) -> Verdict:
        """What the critic's answers say of its eyes.

        "sees": all right. "errs": one wrong. "guesses": more. "unknown": too few answers, or not asked as critic.
        """
        answers = self.of("critic")
        read = [a for a in answers if a.readable]
        if len(answers) >= 2 and not read:
            return "unreadable"
        wanted, said = {a.wanted for a in read}, {a.said for a in read}
        if len(wanted) < 2:
            return "unknown"
        if len(said) == 1:
            return "always accepts" if said == {ACCEPT} else "always rejects"
        wrong = sum(not a.right for a in read)
        return "sees" if wrong == 0 else "errs" if wrong == 1 and len(read) >= 5 else "guesses"

    def seconds_as(self, role: Role) -> float | None:
        """Median seconds of an answer in a role; the first question of all, which may load the model, only if there is
        no other. None without answers."""
        found = [a.seconds for a in self.of(role)]
        later = [a.seconds for a in self.answers[1:] if a.role == role and not a.unfinished]
        return statistics.median(later or found) if found else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `docs/doctor.md` names the keys."""
        speed = self.tokens_a_second
        return {
            "name": self.name,
            "error": self.error,
            "verdict": self.verdict,
            "judgment_seconds": self.seconds_as("critic"),
            "plan_seconds": self.seconds_as("planner"),
            "tokens_a_second": None if speed is None else round(speed, 2),
            "max_tokens": self.max_tokens,
            "side": self.side,
            "answers": [asdict(a) for a in self.answers],
            "skipped": list(self.skipped),
        }


ACCEPT: Final = "accept"
REJECT: Final = "reject"


class _OutOfTime(Exception):
    """Leaves an agent in the middle of a reply."""


@dataclass
class _Meter:
    """An Agent that hands on to another one and takes down when each reply was written."""

    agent: Agent
    ends_at: float
    watch: OnText | None
    clock: Callable[[], float]
    tries: int = 0
    tokens: int = 0
    wait: float | None = None
    last: Completion | None = None
    writing: list[tuple[int, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def prompts(self) -> str | None:
        return self.agent.prompts

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        begun, pieces = self.clock(), 0
        first: float | None = None

        def listen(text: str) -> bool:
            nonlocal pieces, first
            pieces += 1
            first = self.clock() if first is None else first
            more = self.watch is None or self.watch(text)
            if self.clock() > self.ends_at:
                raise _OutOfTime
            return (on_text is None or on_text(text)) and more

        tokens = 0
        try:
            completion = self.agent.complete(messages, sampling, listen)
            self.last, tokens = completion, completion.tokens
            return completion
        finally:
            tokens = tokens or pieces
            self.tries += 1
            self.tokens += tokens
            if first is not None:
                self.wait = first - begun if self.wait is None else self.wait
                # A reply that came in one piece was written while it was waited for.
                since, count = (begun, tokens) if pieces == 1 else (first, tokens - 1)
                self.writing.append((count, self.clock() - since))


def check_agent(
    agent: Agent,
    sampling: Sampling | None = None,
    *,
    roles: Sequence[Role] = ("planner", "critic"),
    prompt_folders: Sequence[str | None] = (),
    side: int = PICTURE_SIDE,
    seconds: float = SECONDS,
    most: int | None = None,
    on_question: Callable[[int, int], None] | None = None,
    on_text: OnText | None = None,
    failures: tuple[type[Exception], ...] = (InterleaveError,),
    clock: Callable[[], float] = time.monotonic,
) -> AgentCheck:
    """Put the built-in questions to an agent as the planner and the critic do, greedily.

    sampling: its max_tokens and max_pixels count. roles: whose questions. prompt_folders: where prompt texts are looked
    for, the first first; without them the agent's own, or the pack's. side: edge in pixels of the pictures shown.
    seconds: after it no question is put, and a reply under way is stopped at its next token. most: questions to put at
    most; the critic's go first where it is given. on_question: is told the number of the question, from 1, and how many
    there are. failures: errors that are a result (`AgentCheck.error`), such as an AgentError, or a ConfigError for a
    prompt text or a key; all others pass through, and so does what `on_text` raises.
    """
    asked = replace(sampling or Sampling(), temperature=0.0, seed=0)
    questions: list[CriticQuestion | None] = [*CRITIC_QUESTIONS] if "critic" in roles else []
    if "planner" in roles:
        questions.insert(len(questions) if most else 0, None)
    questions = questions[:most]
    ends_at = clock() + seconds
    answers: list[Answer] = []
    written: list[tuple[int, float]] = []
    error = ""
    for number, question in enumerate(questions, 1):
        if clock() > ends_at:
            break
        if on_question is not None:
            on_question(number, len(questions))
        meter = _Meter(agent, ends_at, on_text, clock)
        begun = clock()
        try:
            answer = (
                _plan_answer(meter, asked, prompt_folders)
                if question is None
                else _critic_answer(meter, question, asked, prompt_folders, side)
            )
        except _OutOfTime:
            answer = replace(_unanswered(question), unfinished=True)
        except failures as failed:
            error = str(failed) if isinstance(failed, InterleaveError) else f"{type(failed).__name__}: {failed}"
            break
        finally:
            written += meter.writing
        cut = meter.last is not None and meter.last.finish == "length"
        text = meter.last.text if meter.last and not answer.readable else ""
        answers.append(
            replace(
                answer,
                tries=meter.tries,
                cut_off=cut,
                tokens=meter.tokens,
                seconds=round(clock() - begun, 3),
                wait=None if meter.wait is None else round(meter.wait, 3),
                reply=text[:SHOWN],
            )
        )
    skipped = () if error else tuple(_unanswered(q).question for q in questions[len(answers) :])
    writing = (sum(t for t, _ in written), sum(s for _, s in written))
    return AgentCheck(agent.name, tuple(answers), error, skipped, asked.max_tokens, side, writing)


def _unanswered(question: CriticQuestion | None) -> Answer:
    if question is None:
        return Answer("planner", "a plan", f"{PLANNED_PICTURES} pictures")
    return Answer("critic", question.name, ACCEPT if question.accept else REJECT)


def _plan_answer(agent: Agent, sampling: Sampling, prompt_folders: Sequence[str | None]) -> Answer:
    answer = _unanswered(None)
    try:
        plan = make_plan(agent, PLAN_REQUEST, sampling=sampling, prompt_folders=prompt_folders).plan
    except PlanError:
        return answer
    count = plan.image_steps
    return replace(answer, said=f"{count} pictures", readable=True, right=count == PLANNED_PICTURES)


def _critic_answer(
    agent: Agent, question: CriticQuestion, sampling: Sampling, prompt_folders: Sequence[str | None], side: int
) -> Answer:
    answer = _unanswered(question)
    before, after = question.pictures(side)
    judgment = judge(
        agent,
        before,
        after,
        question.instruction,
        question.instruction,
        sampling=sampling,
        prompt_folders=prompt_folders,
    )
    if not judgment.parsed:
        return answer
    said = ACCEPT if judgment.accepted else REJECT
    return replace(answer, said=said, readable=True, right=judgment.accepted == question.accept)
