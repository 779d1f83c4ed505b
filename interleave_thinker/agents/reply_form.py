"""The form of a reply, and how a decoder is held to it token by token.

A form is what stands in the answer's object before its free text: `{"previous_step_success": true, "refine_prompt": "`.
Blanks between its parts, either kind of quotation mark and capitals of a word are the model's own choice: whatever a
model was trained to write stays as it is. Only where its likeliest token leaves the form, another one is taken.

Where the answer begins is what the reading says (`reading/replies.py`): behind the `<answer>` that counts, or behind a
closed thought, which may stand in the prompt. Inside a thought nothing is ever forced, and no thought is ever closed. A
reply with no thought before it is free up to its `<answer>`: a thought may still come. Behind the form the text is
free. A reply that would end inside its object goes on; one that keeps wanting to ends there, and is unreadable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ..reading.replies import ReplyReader, has_any

if TYPE_CHECKING:
    import torch

ANSWER = "<answer>"
MAX_BLANKS = 8
"""Blanks between two parts of a form; a model that goes on with blanks leaves the form."""
TAIL = 12
"""Tokens that are decoded again with each new one, so that characters of several tokens come out whole."""
UNWILLING = 8
"""Tokens in a row that a reply goes on inside its object where its end is the likeliest."""
UNWILLING_IN_ALL = 32
"""The same, of the whole reply."""
CHOICES = 20
"""Likeliest tokens of which those that stay in the form are kept, for sampling to choose from."""
LIKELIEST = 256
"""Tokens that are looked at where no token is known that goes on with the form."""
_BLANKS = " \t\r\n"
_ATOM = re.compile(r"\s*(<answer>|\"[^\"]*\"?|[^\s\"])")


@dataclass(frozen=True)
class ReplyForm:
    """What an answer's object begins with; free text follows.

    parts: a text is literal, JSON with `"` as its quotation mark; a tuple is a choice of two words, of which none
    begins another. strict_on: the word that `Sampling.strictness` makes less likely. thought: whether the prompt asks
    for a thought before the answer; without one the reply begins with the form. schema: the whole object as a JSON
    schema, for servers.

    Raises:
        ValueError: a word of a choice begins another one.
    """

    parts: tuple[str | tuple[str, ...], ...]
    strict_on: str = "true"
    thought: bool = True
    schema: str = ""

    def __post_init__(self) -> None:
        for part in self.parts:
            if isinstance(part, tuple) and any(a != b and b.startswith(a) for a in part for b in part):
                raise ValueError(f"Of the words {part} one begins another.")

    @property
    def key(self) -> str:
        """The first key of the object."""
        found = re.search(r'"([^"]*)"', next(p for p in self.parts if isinstance(p, str)))
        return found.group(1) if found else ""

    def shown_in(self, text: str) -> bool:
        """Whether a prompt shows this form, whatever it writes for values."""
        between = r"[^{}]{0,200}?"
        parts = (between if isinstance(p, tuple) else _pattern(p) for p in self.parts)
        return re.search("".join(parts), text) is not None

    @property
    def choice(self) -> tuple[str, ...]:
        """The words of its choice; empty where it has none."""
        return next((p for p in self.parts if isinstance(p, tuple)), ())


def _pattern(literal: str) -> str:
    """A literal with free blanks and either quotation mark; the mark that opens a value is left out."""
    atoms = [found.group(1) for found in _ATOM.finditer(literal)]
    return r"\s*".join(re.escape(atom).replace('"', "[\"']") for atom in atoms if atom != '"')


@dataclass(frozen=True)
class Atom:
    """A sign, a key with its quotation marks, or a word. spellings: all that may stand there, the usual one first."""

    spellings: tuple[str, ...]
    words: tuple[str, ...]
    """The word of a choice that each spelling means; empty texts elsewhere."""
    blank: str
    """Before it, as the form has it."""


@lru_cache(maxsize=64)
def atoms_of(form: ReplyForm) -> tuple[Atom, ...]:
    """The parts between which blanks may stand: `<answer>` first, then those of the object."""
    atoms = [Atom((ANSWER,), ("",), "")]
    blank = ""
    for part in form.parts:
        if isinstance(part, tuple):
            spelled = [(spelling, word) for word in part for spelling in dict.fromkeys((word, word.capitalize()))]
            atoms.append(Atom(tuple(s for s, _ in spelled), tuple(w for _, w in spelled), blank))
            blank = ""
            continue
        end = 0
        for found in _ATOM.finditer(part):
            text = found.group(1)
            spellings = tuple(dict.fromkeys((text, text.replace('"', "'"))))
            blank += part[end : found.start(1)]
            atoms.append(Atom(spellings, ("",) * len(spellings), blank))
            blank, end = "", found.end()
        blank = part[end:]
    return tuple(atoms)


@dataclass(frozen=True)
class Place:
    """How far a text has come in a form.

    atom: the one that is being written; begun: what is written of it; blanks: how many stand before it. word: the one
    of the choice that is certain by now. mark: the quotation mark in use, if there was one. over: all is written.
    """

    atom: int
    begun: str = ""
    blanks: int = 0
    word: str = ""
    mark: str = ""
    over: bool = False


def place_in(atoms: Sequence[Atom], text: str) -> Place | None:
    """How far `text` has come in the form; None where it has left the form. Text behind the form is not read."""
    at, word, mark = 0, "", ""
    for number, atom in enumerate(atoms):
        begin = at
        while at < len(text) and text[at] in _BLANKS:
            at += 1
        blanks = at - begin
        if blanks > MAX_BLANKS:
            return None
        rest = text[at:]
        whole = next((i for i, s in enumerate(atom.spellings) if rest.startswith(s)), None)
        if whole is None:
            begun = [i for i, s in enumerate(atom.spellings) if s.startswith(rest)]
            if not begun:
                return None
            words = {atom.words[i] for i in begun}
            word = words.pop() or word if len(words) == 1 else word
            mark = _mark(rest) or mark
            return Place(number, rest, blanks, word, mark)
        spelling = atom.spellings[whole]
        at += len(spelling)
        word = atom.words[whole] or word
        mark = _mark(spelling) or mark
    return Place(len(atoms), word=word, mark=mark, over=True)


def continuations(atoms: Sequence[Atom], place: Place) -> Iterator[str]:
    """All usual ways to write the rest of a form, up to its free text."""
    if place.over:
        return
    atom = atoms[place.atom]
    for spelling in atom.spellings:
        if spelling.startswith(place.begun):
            for rest in _rest(atoms, place.atom + 1, _mark(spelling) or place.mark):
                text = spelling[len(place.begun) :] + rest
                yield text
                if atom.blank and not place.begun and not place.blanks:
                    yield atom.blank + text


def _rest(atoms: Sequence[Atom], number: int, mark: str) -> Iterator[str]:
    if number == len(atoms):
        yield ""
        return
    atom = atoms[number]
    for spelling in atom.spellings:
        if mark in ("", _mark(spelling)) or len(atom.spellings) == 1 or any(atom.words):
            for rest in _rest(atoms, number + 1, _mark(spelling) or mark):
                yield atom.blank + spelling + rest


def _mark(text: str) -> str:
    """The quotation mark that a text begins with, or nothing."""
    return text[0] if text[:1] in ("'", '"') else ""


class Vocabulary:
    """Which single tokens write the beginning of a text. encode: a text's tokens, and nothing around them. decode: the
    text of tokens, marks of turns included."""

    def __init__(self, encode: Callable[[str], Sequence[int]], decode: Callable[[list[int]], str]):
        self.decode = decode
        self._encode = encode
        self._known: dict[str, int | None] = {}
        self._beginnings: dict[str, frozenset[int]] = {}

    def beginning(self, text: str) -> frozenset[int]:
        """Tokens that are exactly a beginning of `text`."""
        if text not in self._beginnings:
            self._beginnings[text] = frozenset(self._tokens_of(text))
        return self._beginnings[text]

    def _tokens_of(self, text: str) -> Iterator[int]:
        for end in range(1, len(text) + 1):
            begin = text[:end]
            if begin not in self._known:
                ids = list(self._encode(begin))
                exact = len(ids) == 1 and self.decode(ids) == begin
                self._known[begin] = ids[0] if exact else None
            token = self._known[begin]
            if token is not None:
                yield token


class FormSteering:
    """Holds the decoder of one reply to a form: `took` each token, `steered` the logits of the next.

    forced: whether tokens that leave the form are refused; without it the verdict is only looked for. strictness: what
    is taken from the logits of the form's strict word where the choice is made. stops: tokens that end a reply; inside
    the object they are refused, up to UNWILLING times in a row and UNWILLING_IN_ALL times in all where one of them is
    the likeliest. opened: a thought, open or closed, that stands before the first token.
    lead: by how much the likeliest token led, in `steered`'s last call, where the form hung on which one it is; else
        infinite.
    log_odds: of the strict word against the other one, by the likeliest token of each, in the model's own logits where
        the choice was made last; None before that, or where only one of them could be written.
    """

    def __init__(
        self,
        form: ReplyForm,
        vocabulary: Vocabulary,
        *,
        forced: bool = True,
        strictness: float = 0.0,
        stops: Collection[int] = (),
        opened: str = "",
    ):
        self.log_odds: float | None = None
        self.lead = math.inf
        self._form, self._vocabulary = form, vocabulary
        self._forced, self._strictness = forced, strictness
        self._atoms = atoms_of(form)
        self._reader = ReplyReader(has_any([form.key]))
        self._text = opened
        self._tail: list[int] = []
        self._tail_text = ""
        self._stops = list(stops)
        self._unwilling = self._unwilling_in_all = 0
        self._over = self._inside = False
        self._begin, self._tried = -1, -1
        self._shapes: tuple[Sequence[Atom], ...] = ()
        self._free = False  # what is followed now is not to be forced
        self._place: Place | None = None
        choice = next((i for i, a in enumerate(self._atoms) if any(a.words)), None)
        self._at_choice = self._atoms[choice:] if choice is not None else ()
        keys = [a for a in self._atoms[: choice or 0] if len(a.spellings[0]) > 1 and a.spellings[0] != ANSWER]
        key = re.escape(keys[-1].spellings[0][1:-1]) if keys else ""
        self._before_choice = re.compile(rf"[\"']{key}[\"']\s{{0,{MAX_BLANKS}}}:\s{{0,{MAX_BLANKS}}}\Z")
        self._longest = len(key) + 2 * MAX_BLANKS + 3
        self._look()

    def took(self, token: int) -> None:
        """The reply goes on with this token."""
        if self._over:
            return
        piece = self._piece(token)
        if piece is None:  # a part of a character
            return
        self._text += piece
        self._look()

    def steered(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of the next token, of shape (vocabulary,): as they are, or those that leave the form at -inf."""
        place, self.lead = self._place, math.inf
        if self._inside:
            logits = self._unended(logits)
        if self._over or place is None:
            return logits
        self._led_by(logits)
        forced = self._forced and not self._free
        best = int(logits.argmax())
        after = self._after(best)
        allowed: dict[int, Place] | None = None
        if after is None:
            if not forced:
                return logits
            allowed = self._allowed(logits)
            if not allowed:  # no token of this vocabulary goes on with the form
                self._stop_here()
                return logits
            tokens = list(allowed)
            self._led_by(logits[tokens])
            best = tokens[int(logits[tokens].argmax())]
            after = allowed[best]
        if not after.word or place.word:
            if not forced:
                return logits
            others = allowed or self._leading(logits.topk(min(CHOICES, logits.shape[-1])).indices.tolist())
            # A word of the choice is taken only where the likeliest token takes one: there strictness counts.
            return _only(logits, [token for token, p in {**others, best: after}.items() if p.word == after.word])
        allowed = {**(allowed or self._allowed(logits)), best: after}
        decided = {token: p.word for token, p in allowed.items() if p.word}
        return self._decided(logits, decided, forced)

    def _unended(self, logits: torch.Tensor) -> torch.Tensor:
        """Inside the object: without the tokens that end the reply, unless it was made to go on often enough."""
        stops = [token for token in self._stops if 0 <= token < logits.shape[-1]]
        if not stops:
            return logits
        others = logits.clone()
        others[stops] = float("-inf")
        self.lead = abs(float(logits[stops].max() - others.max()))
        if int(logits.argmax()) in stops:
            if self._unwilling == UNWILLING or self._unwilling_in_all == UNWILLING_IN_ALL:
                return logits
            self._unwilling += 1
            self._unwilling_in_all += 1
        else:
            self._unwilling = 0
        return others

    def _led_by(self, logits: torch.Tensor) -> None:
        best = logits.topk(min(2, len(logits))).values
        if len(best) == 2:
            self.lead = min(self.lead, float(best[0] - best[1]))

    def _decided(self, logits: torch.Tensor, words: dict[int, str], forced: bool) -> torch.Tensor:
        """The choice is made with the next token: one of `words`."""
        strict = [token for token, word in words.items() if word == self._form.strict_on]
        others = [token for token in words if token not in strict]
        self.log_odds = None
        if strict and others:
            self.log_odds = float(logits[strict].float().max() - logits[others].float().max())
        if not forced and not self._strictness:
            return logits
        chosen = _only(logits, list(words))
        if self._strictness:
            chosen[strict] -= self._strictness
        return chosen

    def _allowed(self, logits: torch.Tensor) -> dict[int, Place]:
        """Tokens that go on with the form, and where they lead."""
        tokens: set[int] = set()
        for shape in self._shapes:
            place = place_in(shape, self._text[self._begin :])
            for text in continuations(shape, place) if place is not None else ():
                tokens |= self._vocabulary.beginning(text)
        allowed = self._leading({token for token in tokens if token < logits.shape[-1]})
        if not allowed:
            allowed = self._leading(logits.topk(min(LIKELIEST, logits.shape[-1])).indices.tolist())
        return allowed

    def _leading(self, tokens: Iterable[int]) -> dict[int, Place]:
        return {token: place for token in tokens if (place := self._after(token)) is not None}

    def _after(self, token: int) -> Place | None:
        """Where the form stands behind this token; None where it leaves the form."""
        text = self._vocabulary.decode([*self._tail, token])
        piece = text[len(self._tail_text) :]
        if not piece or "\ufffd" in piece or not text.startswith(self._tail_text):
            return None
        return self._matched(self._text[self._begin :] + piece)

    def _matched(self, text: str) -> Place | None:
        return next((p for shape in self._shapes if (p := place_in(shape, text)) is not None), None)

    def _piece(self, token: int) -> str | None:
        self._tail.append(token)
        text = self._vocabulary.decode(self._tail)
        if text.endswith("\ufffd") and len(self._tail) < 2 * TAIL:
            return None
        piece = text[len(self._tail_text) :]
        self._tail_text = text
        if len(self._tail) >= 2 * TAIL:
            self._tail = self._tail[-TAIL:]
            self._tail_text = self._vocabulary.decode(self._tail)
        return piece

    def _look(self) -> None:
        """Where the reply stands now."""
        if self._inside:
            self._over = self._reader.read(self._text) or not self._reader.in_object
            self._inside = not self._over
            return
        if self._begin >= 0:
            self._follow()
        if self._begin < 0 and not (self._over or self._inside):
            self._reader.read(self._text)
            self._find()
            if self._begin >= 0:
                self._follow()

    def _find(self) -> None:
        """Where the answer begins, if it does; otherwise a choice outside of it."""
        reader = self._reader
        if (at := reader.answer_at) is not None and at > self._tried:
            self._begin, self._shapes, self._free = at, (self._atoms[1:],), False
        elif (at := reader.thought_over_at) is not None and at > self._tried:
            # Unless it is forced, an answer may do without its tag.
            shapes = (self._atoms,) if self._forced else (self._atoms, self._atoms[1:])
            self._begin, self._shapes, self._free = at, shapes, False
        elif not self._form.thought and self._tried < 0 and not self._text.strip():
            self._begin, self._shapes, self._free = len(self._text), (self._atoms, self._atoms[1:]), False
        elif self._at_choice and not reader.thinking and self._before_choice.search(self._text[-self._longest :]):
            self._begin, self._shapes, self._free = len(self._text.rstrip(_BLANKS)), (self._at_choice,), True
        elif reader.over:
            self._over = True
        if self._begin >= 0:
            self.log_odds = None  # of an earlier draft

    def _follow(self) -> None:
        self._place = self._matched(self._text[self._begin :])
        if self._place is None:
            self._stop_here()
        elif self._place.over:
            if not self._free:
                self._reader.read(self._text)
                self._inside = self._forced and self._reader.in_object
                self._over = not self._inside
            self._stop_here()

    def _stop_here(self) -> None:
        self._tried, self._begin, self._place = max(self._tried, self._begin), -1, None


def _only(logits: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    logits = logits.float()
    kept = logits.new_full(logits.shape, float("-inf"))
    kept[tokens] = logits[tokens]
    return kept
