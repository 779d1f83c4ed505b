"""Requests from a taxonomy, top-down (paper, section 4.1, stage 1).

Domain -> category -> a vocabulary that an agent writes for the category -> a template of the domain, filled from it.
Domains, categories and templates are `taxonomy.json`, or a file of the user's of the same shape. Vocabularies are
kept, a line a category, so that a run that was cut off asks only for the rest. The same seed, taxonomy and vocabulary
give the same requests.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...agents.base import Agent, Completion, Message, Sampling
from ...files import hash_of
from ...reading.replies import read_or_repair
from ...roles.asking import ask_anew, until_answered
from .records import DataError, RequestRecord

TAXONOMY = Path(__file__).parent / "taxonomy.json"
VOCABULARY_FILE = "vocabulary.jsonl"
DEFAULT_COUNT = 40_000
MARK = "<image>"
KINDS = ("entities", "actions", "places")
SLOTS = {"n", "action", "entity", "entity2", "place"}
WANTED = 40
"""Words of each kind that the agent is asked for."""
FEWEST = 5
"""With fewer usable ones the category is asked for again, and then given up."""
LONGEST = 120
TRIES = 3
IN_VAIN = 200
"""Draws in a row that gave nothing new, after which a category's vocabulary is exhausted."""

_ASK = """\
Write vocabulary for requests that ask for a series of pictures with text.
Field: {title}. Topic: {category} ({hint}).
Give {count} different items of each kind, concrete and easy to draw, nothing violent or indecent, no real names:
entities: noun phrases with an article, such as "a red fox"
actions: verb phrases in the bare form, such as "fold a paper crane"; each must change something visibly, step by step
places: noun phrases with an article, such as "a rainy harbour"
Reply in this form:
<answer>{{"entities": ["..."], "actions": ["..."], "places": ["..."]}}</answer>
"""


@dataclass(frozen=True)
class Category:
    domain: str
    title: str
    name: str
    hint: str
    templates: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """An agent's words for a category; bounded, cleaned, each text once."""

    category: str
    entities: tuple[str, ...]
    actions: tuple[str, ...]
    places: tuple[str, ...]


def read_taxonomy(path: Path = TAXONOMY) -> list[Category]:
    """All categories, in order.

    Raises:
        DataError: the file cannot be read, or says something that is no taxonomy; the message names what.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        domains = found["domains"]
        categories = [
            Category(d["name"], d["title"], c["name"], c["hint"], tuple(d["templates"]))
            for d in domains
            for c in d["categories"]
        ]
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no taxonomy: {error!r:.100}.") from None
    names = [c.name for c in categories]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: the category {name!r} is there twice.")
    for template in {t for c in categories for t in c.templates}:
        slots = {slot for _, slot, _, _ in string.Formatter().parse(template) if slot is not None}
        if slots - SLOTS or not slots & {"action", "entity"}:
            raise DataError(
                f"{path}: {template[:80]!r} needs {{action}} or {{entity}}, and no slots but {sorted(SLOTS)}."
            )
    return categories


def write_vocabularies(
    agent: Agent, categories: Sequence[Category], path: Path, log: Callable[[str], None] = lambda line: None
) -> list[Vocabulary]:
    """Ask for every category that the file lacks. Returns the usable vocabularies; `log` gets a line about each.

    Raises:
        AgentError: the agent cannot be used.
    """
    known = {v.category: v for v in read_vocabularies(path)} if path.is_file() else {}
    for category in categories:
        if category.name in known:
            continue
        found = _ask(agent, category)
        if found is None:
            log(f"{category.name}: no usable vocabulary in {TRIES} replies; left out")
            continue
        known[category.name] = found
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(asdict(found), ensure_ascii=False) + "\n")
        log(f"{category.name}: {len(found.entities)} entities, {len(found.actions)} actions")
    return [known[c.name] for c in categories if c.name in known]


def read_vocabularies(path: Path) -> Iterator[Vocabulary]:
    """Those of a file; a line cut off by a crash is passed over."""
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            entry = json.loads(line)
            yield Vocabulary(str(entry["category"]), *(tuple(map(str, entry[kind])) for kind in KINDS))
        except (ValueError, KeyError, TypeError):
            continue


def draw_requests(
    categories: Sequence[Category],
    vocabularies: Sequence[Vocabulary],
    count: int,
    seed: int,
    images: Sequence[str] = (),
) -> list[RequestRecord]:
    """Up to `count` different requests, evenly over categories. Fewer where vocabulary and templates are exhausted.

    pictures: names of the user's pictures, for templates that say <image>; without any, such templates are not used.
    Such a request names an image by its file's name.
    """
    rng = random.Random(f"requests-{seed}")
    words = {v.category: v for v in vocabularies}
    usable = [c for c in categories if c.name in words and _templates(c, images)]
    drawn: list[RequestRecord] = []
    seen: set[str] = set()
    while usable and len(drawn) < count:
        exhausted = set()
        for category in usable[: count - len(drawn)]:
            found = _new_request(category, words[category.name], images, seen, rng)
            if found is None:
                exhausted.add(category.name)
            else:
                name = f"{category.name}-{len(drawn):05d}-{hash_of('request', found.request, found.images)[:8]}"
                drawn.append(replace(found, id=name))
        usable = [c for c in usable if c.name not in exhausted]
    return drawn


def _new_request(
    category: Category, words: Vocabulary, images: Sequence[str], seen: set[str], rng: random.Random
) -> RequestRecord | None:
    """One whose text is not in `seen`, which it then is; None if none comes in `IN_VAIN` draws."""
    for _ in range(IN_VAIN):
        template = rng.choice(_templates(category, images))
        given = tuple(rng.sample(images, template.count(MARK)))
        text = _fill(template, words, [_shown(name) for name in given], rng)
        if _plain(text) not in seen:
            seen.add(_plain(text))
            return RequestRecord("", text, given, None, category.domain, category.name, template)
    return None


def _templates(category: Category, images: Sequence[str]) -> list[str]:
    return [t for t in category.templates if t.count(MARK) <= len(images)]


def _fill(template: str, words: Vocabulary, shown: Sequence[str], rng: random.Random) -> str:
    """shown: the contents of the request's images, which are its {entity} and {entity2}."""
    one, two = [*shown, *rng.sample(words.entities, 2)][:2]
    values: Mapping[str, object] = {
        "n": rng.randint(2, 8),
        "action": rng.choice(words.actions),
        "entity": one,
        "entity2": two,
        "place": rng.choice(words.places),
    }
    text = template.format_map(values)
    return text[:1].upper() + text[1:]


def _shown(image: str) -> str:
    """An image's content by its file's name: images/a_red_fox-2.png is "a red fox"."""
    return " ".join(re.sub(r"[^\w]|[\d_]", " ", Path(image).stem).split()) or "this"


def _ask(agent: Agent, category: Category) -> Vocabulary | None:
    asked = _ASK.format(title=category.title, category=category.name, hint=category.hint, count=WANTED)

    def read(text: str) -> Vocabulary | None:
        answer = read_or_repair(text, KINDS).answer or {}
        lists = [_usable(answer.get(kind)) for kind in KINDS]
        return Vocabulary(category.name, *lists) if all(len(words) >= FEWEST for words in lists) else None

    def ask(sampling: Sampling) -> Completion:
        return agent.complete([Message("user", (asked,))], sampling, until_answered(None, KINDS))

    return ask_anew(ask, read, Sampling(max_tokens=4096, temperature=0.7), TRIES).value


def _usable(found: Any) -> tuple[str, ...]:
    """Short texts of one line, each once. Braces would be slots, and <image> a picture."""
    texts = [" ".join(t.split()).strip(" .") for t in found if isinstance(t, str)] if isinstance(found, list) else []
    fit = [t for t in texts if t and len(t) <= LONGEST and not re.search(r"[{}<>\x00-\x1f]", t)]
    return tuple({_plain(t): t for t in fit}.values())


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
