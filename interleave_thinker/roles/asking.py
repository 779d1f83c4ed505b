"""Asking an agent until its reply can be read.

`ask_twice` shows the agent its mistake (planner, critic). `ask_anew` puts the same question again with another seed
(scorers, benchmark judges, vocabulary for requests). A reply is ended as soon as its answer is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from ..agents.base import Agent, Completion, Message, OnText, Part, Sampling, kept_loaded
from ..agents.reply_form import ReplyForm
from ..reading.replies import Reply, ReplyReader, has_any
from .prompt_files import fill, load_prompt

T = TypeVar("T")
NO_OBJECT = "no JSON object of the expected form was found in it."
_THOUGHT = re.compile(r"think|thought|reason|explain|step by step|思|推理", re.I)
_ANY_FORM = re.compile(r"<answer>|\{\s*[\"']")


class Watch:
    """An `on_text` that reads along and ends a reply where nothing more is read; then `read` has what was read.

    A reply that begins anew, because a server was asked again, is read anew.
    """

    def __init__(self, reader: Callable[[], ReplyReader], on_text: OnText | None = None):
        self._new, self._on_text = reader, on_text
        self._reader, self._length = reader(), 0

    def __call__(self, text: str) -> bool:
        more = self._on_text(text) if self._on_text else True
        if len(text) < self._length:
            self._reader = self._new()
        self._length = len(text)
        return not self._reader.read(text) and more

    def read(self, text: str) -> Reply:
        """The whole reply, which is what was last heard of it."""
        return (self._reader if len(text) == self._length else self._new()).finish(text)


def until_answered(on_text: OnText | None, keys: Iterable[str] | None = None) -> Watch:
    """End a reply behind the object of its answer, which has one of `keys`."""
    return Watch(lambda: ReplyReader(has_any(keys)), on_text)


def in_form(
    sampling: Sampling, forms: Sequence[ReplyForm], agent: Agent, name: str, folders: Sequence[str | Path | None]
) -> Sampling:
    """`sampling` with the form that prompt `name` asks for: the first of `forms` that its text shows.

    A text that came with the model and shows no form at all asks for the first: the model was trained on it. Any
    other text may ask for keys of its own; then there is no form. A text that shows the form and speaks of no thought
    asks for the answer alone.
    """
    text = load_prompt(name, folders)
    form = next((form for form in forms if form.shown_in(text)), None)
    if form is None and agent.prompts is not None and not _ANY_FORM.search(text):
        form = forms[0] if text == load_prompt(name, [agent.prompts]) else None
    thought = form is not None and (not form.shown_in(text) or bool(_THOUGHT.search(text)))
    return replace(sampling, form=form and replace(form, thought=thought))


def ask_twice(
    agent: Agent,
    parts: Sequence[Part],
    take: Callable[[Completion, Reply], str | None],
    *,
    reader: Callable[[], ReplyReader],
    sampling: Sampling,
    prompt_folders: Sequence[str | Path | None] = (),
    on_text: OnText | None = None,
) -> None:
    """Ask, and ask once more where the reply cannot be used: the agent is shown its reply and the problem.

    take: keeps what it can use of a reply; returns the problem, or None if there is none.

    Raises:
        AgentError: the agent cannot be used.
    """
    messages = [Message("user", tuple(parts))]
    with kept_loaded(agent):
        for last in (False, True):
            watch = Watch(reader, on_text)
            completion = agent.complete(messages, sampling, watch)
            problem = take(completion, watch.read(completion.text))
            if problem is None or last:
                return
            reask = fill(load_prompt("reask", prompt_folders), problem=problem)
            messages += [Message("assistant", (completion.text,)), Message("user", (reask,))]
            sampling = replace(sampling, seed=sampling.seed + 1)


@dataclass(frozen=True)
class Asked(Generic[T]):
    """value: what was read, None if no reply could be read. completion: the last one. tries: how many there were."""

    value: T | None
    completion: Completion
    tries: int


def ask_anew(
    ask: Callable[[Sampling], Completion],
    read: Callable[[str], T | None],
    sampling: Sampling,
    tries: int,
    *,
    warmer: float = 0.0,
) -> Asked[T]:
    """Put a question up to `tries` times, with another seed each time, until `read` makes something of the reply.

    warmer: the least temperature from the second time on; a greedy agent would only repeat itself.
    """
    for again in range(tries):
        least = warmer if again else 0.0
        asked = replace(sampling, seed=sampling.seed + again, temperature=max(sampling.temperature, least))
        completion = ask(asked)
        value = read(completion.text)
        if value is not None:
            break
    return Asked(value, completion, again + 1)


def describe_unreadable(completion: Completion, problem: str = NO_OBJECT) -> str:
    """What was wrong with a reply, for the agent and the user."""
    if completion.finish == "length":
        read = problem[problem.find("What was read") :] if "What was read" in problem else ""
        return f"it was cut off after {completion.tokens} tokens (max_tokens). {read}".rstrip()
    if not completion.text.strip():
        return "it was empty."
    return problem
