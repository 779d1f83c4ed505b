"""Which node of a workflow is what: the positive prompt, the seed, the reference picture, the result.

Works on API format, by following links, without knowing node packs. The editor asks the same functions through
the server, so that there is one choice. Where several are possible, a person chooses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .client import WorkflowError
from .links import InputRef, body_of, carries_picture, downstream, image_link, is_link, shown_input, upstream
from .picture_sources import PictureSource, picture_sources
from .prompt_texts import POSITIVE, has_positive, prompts, texts_beside, writes_text

SEED_INPUTS = ("noise_seed", "seed")
MOST_OUTPUTS = 50
"""With more output nodes than this, none is left out as a mere stage: a person has to choose the result anyway."""
NO_PICTURE = "none"
"""Given as the reference picture: the workflow draws from text, whatever pictures are in it."""

_ESTIMATES = re.compile(r"depth|normal.?map|preprocessor|estimat|segment")
"""Words in the class of a node that has a seed for what it sees in a picture."""
_T = TypeVar("_T")
_PICTURE_OUTPUTS = ("save", "preview", "send", "upload", "export", "output")
"""Words in the class of a node that shows a picture, those that keep it first."""


@dataclass(frozen=True)
class WorkflowInputs:
    """`image` and `seed` are None where the workflow has no such input. `output`: the node that shows the result.

    also: further places of the same prompt (a second encoder, a refiner). seeds: those of further samplers,
    which must not change between two queues of one run either. image_slot: the output of the node of `image` that
    gives the picture.
    """

    prompt: InputRef
    seed: InputRef | None
    image: InputRef | None
    output: str
    also: tuple[InputRef, ...] = ()
    seeds: tuple[InputRef, ...] = ()
    image_slot: int = 0


@dataclass(frozen=True)
class Candidates:
    """What each input could be, best first. prompts: each with the further places of the same prompt.
    seeds: all of the samplers', the first one's first. images: whether one that is not known is edited, a person
    has to say. shows: the input of the output node that takes the picture.

    With more than one output the rest is empty: it depends on which of them is meant.
    """

    outputs: tuple[str, ...]
    prompts: tuple[tuple[InputRef, ...], ...] = ()
    seeds: tuple[InputRef, ...] = ()
    images: tuple[PictureSource, ...] = ()
    shows: str = ""


def find_inputs(
    workflow: Mapping[str, Any],
    *,
    prompt: str | None = None,
    seed: str | None = None,
    image: str | None = None,
    output: str | None = None,
) -> WorkflowInputs:
    """The four; what is named ("NODE.input", "NODE" for the output, "none" for no picture) is taken as it is.

    Raises:
        WorkflowError: a named input does not exist or holds no text, or one that is not named is missing or not the
            only one.
    """
    found = candidates(workflow, output=output)
    result = _only("picture output", list(found.outputs), "NODE", "--output", list(found.outputs))
    named = _named_text(workflow, prompt) if prompt else None
    groups = [(named, *texts_beside(workflow, named))] if named else list(found.prompts)
    names = [f"{_name(group)} {_excerpt(workflow, group[0])}" for group in groups]
    first, *also = _only("text that could be the prompt", groups, "NODE.input", "--prompt", names)
    picture = _named_picture(workflow, image, found.images) if image else _one_picture(found.images)
    seeds = [_named_input(workflow, seed)] if seed else list(found.seeds)
    return WorkflowInputs(
        first,
        seeds[0] if seeds else None,
        (picture.node, picture.input) if picture else None,
        result,
        tuple(also),
        tuple(seeds[1:]),
        picture.slot if picture else 0,
    )


def candidates(
    workflow: Mapping[str, Any], *, output: str | None = None, among: Collection[str] | None = None
) -> Candidates:
    """What the inputs could be; with `among` (node ids; a subgraph's stands for all inside) only there.

    Raises:
        WorkflowError: `output` does not exist.
    """
    if output is not None and output not in workflow:
        raise WorkflowError(f"The workflow has no node {output}.")
    outputs = [output] if output is not None else _outputs(workflow, among)
    if len(outputs) != 1:
        return Candidates(tuple(outputs))
    body = list(upstream(workflow, outputs[0]))
    texts = [g for g in prompts(workflow, body, body_of(workflow, outputs[0])) if _chosen(g[0][0], among)]
    longest: dict[str, int] = {}
    for (node_id, name), *_ in texts:
        longest[node_id] = max(longest.get(node_id, 0), len(str(workflow[node_id]["inputs"][name])))
    texts.sort(key=lambda group: -longest[group[0][0]])  # what one node joins stays in its order
    told = {node_id for group in texts for node_id, _ in group}  # what makes a picture from the prompt is no source
    sources = picture_sources(workflow, outputs[0])
    images = [source for source in sources if _chosen(source.node, among) and source.node not in told]
    seeds = tuple(_seeds(workflow, body)[::-1])
    shows = shown_input(workflow, outputs[0]) or ""
    return Candidates(tuple(outputs), tuple(texts), seeds, tuple(images), shows)


def _outputs(workflow: Mapping[str, Any], among: Collection[str] | None) -> list[str]:
    """Nodes that show a picture: kept ones before previews, no picture twice, no stage on the way to another."""
    read = {str(v[0]) for node in workflow.values() for v in node["inputs"].values() if is_link(v)}
    shown: dict[str, list[Any]] = {}
    ends: dict[str, list[Any]] = {}
    for node_id, node in workflow.items():
        kind = str(node["class_type"]).lower()
        link = image_link(workflow, node_id)
        if link is None or not (_chosen(node_id, among) or _chosen(str(link[0]), among)):
            continue
        if any(word in kind for word in _PICTURE_OUTPUTS):
            shown[node_id] = link
        elif node_id not in read and "compar" not in kind:
            ends[node_id] = link
    kept = {i: v for i, v in shown.items() if "preview" not in str(workflow[i]["class_type"]).lower()}
    shown = _generated(workflow, kept) or _generated(workflow, shown) or kept or shown or ends
    first = {tuple(v): i for i, v in reversed(shown.items())}
    last = {i: v for i, v in shown.items() if first[tuple(v)] == i}
    if len(last) > MOST_OUTPUTS:
        return list(last)
    bodies = {j: body_of(workflow, str(link[0])) for j, link in last.items()}
    made_by = {i: _made_by(workflow, str(link[0])) for i, link in last.items()}
    on_the_way = {i for i in last for j in last if made_by[i] != made_by[j] and made_by[i] in bodies[j]}
    return [i for i in last if i not in on_the_way]


def _generated(workflow: Mapping[str, Any], shown: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Those whose picture a sampler made: a collage may be saved beside a generated picture that is only previewed."""
    made = downstream(workflow, [i for i in workflow if has_positive(workflow, i)])
    return {i: v for i, v in shown.items() if i in made}


def _made_by(workflow: Mapping[str, Any], node_id: str) -> str:
    """The node that made a picture: of one that decodes, the sampler before it."""
    seen: set[str] = set()
    while node_id in workflow and node_id not in seen:
        seen.add(node_id)
        before = workflow[node_id]["inputs"].get("samples")
        if not is_link(before):
            break
        node_id = str(before[0])
    return node_id


def _seeds(workflow: Mapping[str, Any], among: list[str]) -> list[InputRef]:
    """Whole numbers that are a sampler's seed, or that it comes from; the last is the first stage's."""
    refs: dict[InputRef, None] = {}
    for node_id in among:
        inputs, kind = workflow[node_id]["inputs"], str(workflow[node_id]["class_type"]).lower()
        samples = "noise_seed" in inputs or any(
            is_link(value) and (name in (*POSITIVE, "latent_image") or carries_picture(name))
            for name, value in inputs.items()
        )
        if (
            writes_text(workflow, node_id)
            or _ESTIMATES.search(kind)
            or not (samples or "noise" in kind or "sampl" in kind)
        ):
            continue  # a text that is written at random has a seed as well
        if inputs.get("add_noise") in (False, "disable"):
            continue
        for name in SEED_INPUTS:
            ref = _number_at(workflow, (node_id, name)) if name in inputs else None
            if ref is not None:
                refs[ref] = None
    return list(refs)


def _number_at(workflow: Mapping[str, Any], start: InputRef) -> InputRef | None:
    """Where a number, or a placeholder for one, is typed: there, or in the node that it comes from.

    Where it is computed, the sampler's own input: what comes in there gives way to the loop's seed.
    """
    ref, seen = start, set()
    while ref not in seen:
        seen.add(ref)
        inputs = workflow[ref[0]]["inputs"]
        value = inputs.get(ref[1])
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return start if ref != start and any(map(is_link, inputs.values())) else ref
        if not isinstance(value, list) or not is_link(value) or str(value[0]) not in workflow:
            return None if ref == start else start
        source = workflow[str(value[0])]["inputs"]
        names = [n for n in ("value", *SEED_INPUTS, "int", "number") if n in source]
        names = names or (list(source) if len(source) == 1 else [])
        if not names:
            return start
        ref = (str(value[0]), names[0])
    return None  # a circle


def _chosen(node_id: str, among: Collection[str] | None) -> bool:
    """Whether the node, or a subgraph that it is in, is among those."""
    parts = node_id.split(":")
    return among is None or any(":".join(parts[: n + 1]) in among for n in range(len(parts)))


def _named_input(workflow: Mapping[str, Any], text: str) -> InputRef:
    """NODE.input; a name of an input may have dots too, and so may a node's id."""
    for at in [i for i, sign in enumerate(text) if sign == "."]:
        node_id, name = text[:at], text[at + 1 :]
        if node_id in workflow and name in workflow[node_id]["inputs"]:
            return node_id, name
    raise WorkflowError(f"The workflow has no input {text}; write it as NODE.input, for example 6.text.")


def _named_text(workflow: Mapping[str, Any], text: str) -> InputRef:
    ref = _named_input(workflow, text)
    value = workflow[ref[0]]["inputs"][ref[1]]
    if is_link(value):
        raise WorkflowError(
            f"Nothing is typed in {text}: it comes from node {value[0]}. Name the input where it is typed."
        )
    if not isinstance(value, str):
        raise WorkflowError(f"{text} holds no text. Name the input where the prompt is typed.")
    return ref


def _named_picture(workflow: Mapping[str, Any], text: str, found: Collection[PictureSource]) -> PictureSource | None:
    """NODE.input, or NODE where nothing is typed in it."""
    if text == NO_PICTURE:
        return None
    node_id, name = (text, "") if text in workflow else _named_input(workflow, text)
    known = next((source for source in found if source.node == node_id), None)
    links = [i for node in workflow.values() for i in node["inputs"].items() if is_link(i[1])]
    slots = [value[1] for field, value in links if str(value[0]) == node_id and carries_picture(field)]
    return known or PictureSource(node_id, name, slots[0] if slots else 0)


def _one_picture(found: Collection[PictureSource]) -> PictureSource | None:
    if len(found) == 1 and not next(iter(found)).known:
        (source,) = found
        raise WorkflowError(
            f"Is the picture of node {source.node} edited? Say so with --image {_name(source)}, "
            f"or --image {NO_PICTURE} where each picture is drawn from text."
        )
    if not found:
        return None
    form = f"NODE.input or {NO_PICTURE}"
    return _only("picture that could be edited", list(found), form, "--image", [_name(source) for source in found])


def _only(what: str, found: Sequence[_T], form: str, option: str, names: Sequence[str]) -> _T:
    """The one that there is."""
    if not found:
        raise WorkflowError(f"No {what} was found in the workflow. Name it with {option}, as {form}.")
    if len(found) > 1:
        listed = ", ".join(names[:6])
        raise WorkflowError(f"The workflow has more than one {what}: {listed}. Name one with {option}, as {form}.")
    return found[0]


def _name(found: PictureSource | Sequence[InputRef]) -> str:
    if isinstance(found, PictureSource):
        return f"{found.node}.{found.input}" if found.input else found.node
    return ".".join(found[0])


def _excerpt(workflow: Mapping[str, Any], ref: InputRef) -> str:
    """What is typed there, in quotation marks."""
    text = " ".join(str(workflow[ref[0]]["inputs"][ref[1]]).split())
    return f'("{text[:37]}...")' if len(text) > 40 else f'("{text}")'
