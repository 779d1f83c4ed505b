"""Which typed text of a workflow is the prompt: what reaches a sampler's positive side as free text.

Free text is what a person may write as they like: not a choice, a file, a key or a pattern. On its way to the
sampler it may pass a language model. What only tells that model its task is no prompt, and what a node puts
around words that come in through a link is dressing. Where more than one text is left, a person chooses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .links import InputRef, carries_picture, is_link, live_inputs

POSITIVE = ("positive", "conditioning", "cond1")
NEGATIVE = re.compile(r"negative|(^|_)neg(_|$)|uncond", re.IGNORECASE)
"""Names of inputs for what the picture shall not show."""

_FREE = re.compile(
    r"text|prompt|string|positive|caption|description|wildcard"
    r"|^(replace|on_true|on_false|clip_[lg]|t5xxl|llama|bert|mt5xl|qwen25_7b)$",
    re.IGNORECASE,
)
"""Names of inputs for free text. The last ones are text encoders, by which core's nodes call their texts."""
_NOT_FREE = re.compile(
    r"system|instruct|template|f_string|format|expression|comparison|pattern|regex|find|delimiter|separator|json"
    r"|prefix|suffix|append|prepend|select|option|choice|menu|preset|category|method|mode|type|style|language|font"
    r"|file|folder|path|url|name|title|(^|_)key($|_)|code|encod|token|base64|model|checkpoint|lora|enhancer|weight|strength|(^|_)log(_|$)",
    re.IGNORECASE,
)
"""Names of inputs for tasks, patterns, pieces that are put around a text, choices, files and settings."""
_TASK = re.compile(r"system|instruct|task|question|role|persona|(^|_)sys_", re.IGNORECASE)
"""Names of inputs that tell a language model its task."""
_SHOWS_TEXT = re.compile(r"show|display|preview|debug", re.IGNORECASE)
"""Words in the class of a node that shows a text. What is typed in it is what it showed last."""
_TASK_TEXT = re.compile(
    r"\s*(you are|you're|your (task|job|role)|act as|as an? (expert|professional)|#+ *role|你是|<\|)", re.I
)
"""How texts begin that tell a language model its task."""
_WRITES = re.compile(
    r"textgenerate|llm|vlm|llava|gpt|ollama|enhanc|gemini|florence|caption|tagger|moondream|promptgen", re.IGNORECASE
)
_WRITES_WITH = ("max_tokens", "max_length", "max_new_tokens", "top_p")
_NO_WORDS = re.compile(
    r"^(model|clip|vae|latent|latent_image|samples|noise|sigmas|sampler|mask|control_net|lora_stack|width|height|seed|find|delimiter"
    r"|separator|key|\w*pattern)$"
)
"""Inputs through which no word of the prompt comes."""
_ENCODES = ("clip", "clip_name", "wildcard_text")
"""Inputs of a node whose texts are all one prompt: an encoder, or a wildcard beside what was drawn from it."""
_SILENCES = re.compile(r"zero_?out", re.IGNORECASE)
"""Words in the class of a node that lets no word through."""
_MASK = re.compile(r"mask|segs|bbox|alpha", re.IGNORECASE)
"""Names of inputs for a part of a picture: words that come in there say where, not what."""
_HOLDS_TEXT = re.compile(r"string|(?<!kon)text|prompt|primitive|multiline|value|constant", re.IGNORECASE)
"""Words in the class of a node whose one string is a text, whatever the input is called."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_LORA_TAG = re.compile(r"<lora:[^>]*>")


@dataclass(frozen=True)
class _Text:
    """A typed text on the way to a sampler. also: places of the same prompt for other encoders. is_box: the node is
    there for this text alone."""

    ref: InputRef
    value: str
    also: tuple[InputRef, ...] = ()
    is_box: bool = False

    @property
    def says_something(self) -> bool:
        return any(sign.isalpha() for sign in _LORA_TAG.sub("", self.value))

    @property
    def is_task(self) -> bool:
        return bool(_TASK_TEXT.match(self.value))


def prompts(
    workflow: Mapping[str, Any], body: Collection[str], everything: Collection[str]
) -> list[tuple[InputRef, ...]]:
    """What the prompt could be, each with the further places of the same prompt; the first stage's first.

    body: what the result depends on as the switches stand, nearest first. everything: with their other sides too.
    """
    samplers = [i for i in body if _is_sampler(workflow, i)] or [i for i in body if has_positive(workflow, i)]
    stages = [(i, texts) for i in samplers if (texts := _positive(workflow, i))]
    if not samplers:  # a node that makes the picture from the text itself
        shown = _beside_masks(workflow, body)
        stages = [("", _likely([t for i in shown for t in _typed(workflow, i, negative=False)]))]
    groups: list[list[_Text]] = []
    for sampler, texts in reversed(stages):  # the first stage is the farthest from the result
        alone = len(texts) == 1
        for text in texts:
            same = next((g for g in groups if _same(workflow, g[0], text, sampler if alone else "")), None)
            if same is None:
                groups.append([text])
            elif text.ref not in [t.ref for t in same]:
                same.append(text)
    against = {place for i in samplers for place in _negative_places(workflow, i)} - {
        place for group in groups for text in group for place in (text.ref, *text.also)
    }
    said: dict[str, list[InputRef]] = {}
    for node_id in everything:
        for text in _typed(workflow, node_id, negative=False, idle_too=True):
            if text.ref not in against:
                said.setdefault(text.value, []).append(text.ref)
    return [_places(group, said) for group in groups]


def _beside_masks(workflow: Mapping[str, Any], body: Collection[str]) -> list[str]:
    """The nodes that the result depends on otherwise than through a mask."""
    order = list(body)
    seen: dict[str, None] = {}
    waiting = order[:1]
    while waiting:
        node_id = waiting.pop(0)
        if node_id in seen or node_id not in workflow:
            continue
        seen[node_id] = None
        waiting += [str(v[0]) for n, v in live_inputs(workflow, node_id).items() if is_link(v) and not _MASK.search(n)]
    return list(seen)


def texts_beside(workflow: Mapping[str, Any], ref: InputRef) -> tuple[InputRef, ...]:
    """The other texts of the node that are the same prompt: for the second encoder of FLUX.1 and SDXL."""
    found = [t for t in _typed(workflow, ref[0], negative=bool(NEGATIVE.search(ref[1]))) if ref in (t.ref, *t.also)]
    return tuple(p for t in found for p in (t.ref, *t.also) if p != ref)


def _is_sampler(workflow: Mapping[str, Any], node_id: str) -> bool:
    """A sampler or guider: a model and a positive come in."""
    return is_link(workflow[node_id]["inputs"].get("model")) and has_positive(workflow, node_id)


def has_positive(workflow: Mapping[str, Any], node_id: str) -> bool:
    """Whether a node is told what the picture shall show."""
    return _positive_link(workflow, node_id) is not None


def _positive_link(workflow: Mapping[str, Any], node_id: str) -> list[Any] | None:
    inputs = workflow[node_id]["inputs"]
    return next((inputs[n] for n in POSITIVE if is_link(inputs.get(n))), None)


def _positive(workflow: Mapping[str, Any], sampler: str) -> list[_Text]:
    """The texts of a sampler's positive side, without what its negative side says too."""
    unwanted = _negative_places(workflow, sampler)
    found = _words(workflow, _positive_link(workflow, sampler), negative=False)
    # A negative that is made from the positive, as ConditioningZeroOut does, leaves nothing else.
    return _likely([t for t in found if t.ref not in unwanted] or found)


def _negative_places(workflow: Mapping[str, Any], sampler: str) -> set[InputRef]:
    """Where the texts of a sampler's negative side are typed."""
    links = [v for n, v in workflow[sampler]["inputs"].items() if NEGATIVE.search(n) and is_link(v)]
    return {text.ref for link in links for text in _words(workflow, link, negative=True)}


def _likely(texts: list[_Text]) -> list[_Text]:
    """Without what says nothing and what tells a language model its task, where anything else is left.

    An empty box stays: it is where a person types, and what stands beside it may be dressing.
    """
    said = [t for t in texts if t.says_something or t.is_box]
    said = said if any(t.says_something for t in said) else texts
    return [t for t in said if not t.is_task] or said


def _words(workflow: Mapping[str, Any], link: Any, *, negative: bool) -> list[_Text]:
    """The typed texts that come in through a link."""
    start = str(link[0])
    handed_on: dict[str, list[_Text]] = {}
    stack = [(start, False)]  # no recursion: workflows are deep, and may be circles
    while stack:
        node_id, came_back = stack.pop()
        if node_id not in workflow or (node_id in handed_on and not came_back):
            continue
        sources = _text_sources(workflow, node_id, negative)
        if came_back:
            came_in = {t.ref: t for source in sources for t in handed_on.get(source, [])}
            handed_on[node_id] = _handed_on(workflow, node_id, list(came_in.values()), negative)
            continue
        handed_on[node_id] = []  # what it is in a circle
        stack += [(node_id, True), *((source, False) for source in reversed(sources))]
    return handed_on.get(start, [])


def _text_sources(workflow: Mapping[str, Any], node_id: str, negative: bool) -> list[str]:
    """The nodes that words may come from."""
    if _SILENCES.search(str(workflow[node_id]["class_type"])):
        return []
    found: dict[str, None] = {}
    for name, value in _side(workflow, node_id, negative).items():
        if is_link(value) and not _NO_WORDS.match(name) and not carries_picture(name) and not _TASK.search(name):
            found[str(value[0])] = None
    return list(found)


def _handed_on(workflow: Mapping[str, Any], node_id: str, came_in: list[_Text], negative: bool) -> list[_Text]:
    """What a node makes of the texts that come in: where they say something, what is typed beside them is dressing."""
    if any(t.says_something and not t.is_task for t in came_in) or _describes_picture(workflow, node_id):
        return came_in
    return [*came_in, *_typed(workflow, node_id, negative=negative)]


def _describes_picture(workflow: Mapping[str, Any], node_id: str) -> bool:
    """Whether a model writes what it sees in a picture. What is typed in it is its task, unless that stands apart."""
    inputs = live_inputs(workflow, node_id)
    encodes = any(is_link(inputs.get(n)) for n in ("clip", "vae", "conditioning", "positive"))
    sees = any(is_link(v) and carries_picture(n) for n, v in inputs.items())
    has_task = any(re.search("system|instruct", n, re.I) and v for n, v in inputs.items())
    return sees and (writes_text(workflow, node_id) or not encodes) and not has_task


def writes_text(workflow: Mapping[str, Any], node_id: str) -> bool:
    """Whether the node is a language model."""
    node = workflow[node_id]
    return bool(_WRITES.search(str(node["class_type"]))) or any(n in node["inputs"] for n in _WRITES_WITH)


def _side(workflow: Mapping[str, Any], node_id: str, negative: bool, *, idle_too: bool = False) -> dict[str, Any]:
    """The inputs of one side, where a node has inputs for both. idle_too: with those that a switch leaves aside."""
    inputs = dict(workflow[node_id]["inputs"]) if idle_too else live_inputs(workflow, node_id)
    against = {name for name in inputs if NEGATIVE.search(name)}
    if not negative:
        return {name: value for name, value in inputs.items() if name not in against}
    return {name: inputs[name] for name in against} if against else inputs


def _typed(workflow: Mapping[str, Any], node_id: str, *, negative: bool, idle_too: bool = False) -> list[_Text]:
    """The free texts of a node. In an encoder they are one prompt; elsewhere each is one, for the node joins them."""
    inputs = _side(workflow, node_id, negative, idle_too=idle_too)
    if _SHOWS_TEXT.search(str(workflow[node_id]["class_type"])):
        return []
    strings = {n: v for n, v in inputs.items() if isinstance(v, str) and _may_be_free(n) and _is_text(v)}
    texts = {n: v for n, v in strings.items() if _FREE.search(n)}
    if not texts and not any(is_link(v) and _FREE.search(n) for n, v in inputs.items()):
        only = len(strings) == 1 and _HOLDS_TEXT.search(str(workflow[node_id]["class_type"]))
        texts = strings if only else {n: v for n, v in strings.items() if _is_sentence(v)}
    names = list(texts)
    if texts and any(n in workflow[node_id]["inputs"] for n in _ENCODES):
        first, *others = sorted(names, key=lambda n: -len(texts[n]))
        return [_Text((node_id, first), texts[first], tuple((node_id, n) for n in others))]
    alone = len(names) == 1 and _HOLDS_TEXT.search(str(workflow[node_id]["class_type"])) is not None
    return [_Text((node_id, name), texts[name], is_box=alone) for name in names]


def _may_be_free(name: str) -> bool:
    return not _NOT_FREE.search(name) and not carries_picture(name)


def _is_text(value: str) -> bool:
    return not value.strip() or any(sign.isalpha() for sign in value)


def _is_sentence(value: str) -> bool:
    """Words in a row, and no formula, list or mark-up."""
    return len(_WORD.findall(value)) >= 3 <= len(value.split()) and value.strip()[:1] not in tuple("{[<(^")


def _same(workflow: Mapping[str, Any], first: _Text, second: _Text, sampler: str) -> bool:
    """Whether a text is the first one's prompt: said again, or a later stage's that adds no noise of its own."""
    one, other = first.value.strip(), second.value.strip()
    if first.ref == second.ref or (one == other and one):
        return True
    if not sampler:
        return False
    if workflow[sampler]["inputs"].get("add_noise") in (False, "disable"):
        return True
    return bool(one and other) and (one in other or other in one)


def _places(group: list[_Text], said: Mapping[str, list[InputRef]]) -> tuple[InputRef, ...]:
    """The places of one prompt: those found, and others where the same words are typed, as behind a switch."""
    same = said.get(group[0].value, []) if group[0].says_something else []
    return tuple(dict.fromkeys([*(ref for text in group for ref in (text.ref, *text.also)), *same]))
