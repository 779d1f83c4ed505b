"""Which node of a workflow is what: the positive prompt, the seed, the reference picture, the result.

Works on API format, by following links, without knowing node packs: a sampler or guider is a node that a
`model` and a `positive` (or `conditioning`, `cond1`) come into. The editor asks the same functions through
the server, so that there is one choice. Where several are possible, a person chooses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .client import WorkflowError

InputRef = tuple[str, str]
"""Node id and input name."""

ENCODERS = ("t5xxl", "llama", "clip_l", "clip_g", "text_g", "text_l", "bert", "mt5xl", "qwen25_7b")
"""Texts of one node that are the same prompt, for several encoders."""
TEXT_INPUTS = ("text", "prompt", "user_prompt", "string", "value", *ENCODERS)
JOINED_TEXTS = ("string_a", "string_b")
SEED_INPUTS = ("noise_seed", "seed")
POSITIVE = ("positive", "conditioning", "cond1")
NEGATIVE = ("negative", "negative_conditioning", "uncond")
IMAGE_INPUTS = ("images", "image")
MOST_OUTPUTS = 50
"""With more output nodes than this, none is left out as a mere stage: a person has to choose the result anyway."""

_NOT_WORDS = frozenset({"model", "clip", "vae", "latent", "latent_image", "samples", "noise", "sigmas", "control_net"})
"""Inputs through which no word of the prompt comes."""
_JOINED = (*TEXT_INPUTS, *JOINED_TEXTS, "replace", "find", "regex_pattern")
"""A link into one of these says that the node puts texts together: what is typed beside it is dressing."""
_INSTRUCTIONS = ("you are a", "<|")
"""How texts begin that tell a language model its task, beside which the prompt stands."""
_ONLY_A_GUIDE = ("control_net", "model_patch", "clip_vision", "clip_vision_output", "style_model")
"""A node with one of these takes from a picture its edges, pose or style; it does not edit it."""
_MODELS = ("model", "clip", "vae", "source_image", "style_image", "face_image")
"""A picture that comes in through a model (IP-Adapter, LoRA) or as a face or a style is not edited."""
_TRACED = ("canny", "depth", "pose", "lineart", "scribble", "preprocessor", "getimagesize")


@dataclass(frozen=True)
class WorkflowInputs:
    """`image` and `seed` are None where the workflow has no such input. `output`: the node that shows the result.

    also: further texts that are the same prompt (a second encoder, a refiner). seeds: those of further samplers,
    which must not change between two queues of one run either.
    """

    prompt: InputRef
    seed: InputRef | None
    image: InputRef | None
    output: str
    also: tuple[InputRef, ...] = ()
    seeds: tuple[InputRef, ...] = ()


@dataclass(frozen=True)
class Candidates:
    """What each input could be, best first. prompts: each with the further texts that are the same prompt.
    seeds: all of the samplers', the first one's first.

    With more than one output the rest is empty: it depends on which of them is meant.
    """

    outputs: tuple[str, ...]
    prompts: tuple[tuple[InputRef, ...], ...] = ()
    seeds: tuple[InputRef, ...] = ()
    images: tuple[InputRef, ...] = ()


def find_inputs(
    workflow: Mapping[str, Any],
    *,
    prompt: str | None = None,
    seed: str | None = None,
    image: str | None = None,
    output: str | None = None,
) -> WorkflowInputs:
    """The four; what is named ("NODE.input", or "NODE" for the output) is taken as it is.

    Raises:
        WorkflowError: a named input does not exist, or one that is not named is missing or not the only one.
    """
    found = candidates(workflow, output=output)
    result = _only("picture output", list(found.outputs), "NODE")
    named = _named_input(workflow, prompt) if prompt else None
    prompts = [(named, *_beside(workflow, named))] if named else list(found.prompts)
    first, *also = _only("positive prompt", prompts, "NODE.input")
    images = [_named_input(workflow, image)] if image else list(found.images)
    seeds = [_named_input(workflow, seed)] if seed else list(found.seeds)
    return WorkflowInputs(
        first,
        seeds[0] if seeds else None,
        _only("reference picture", images, "NODE.input") if images else None,
        result,
        tuple(also),
        tuple(seeds[1:]),
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
    upstream = list(_upstream(workflow, outputs[0]))
    prompts = [g for g in _prompts(workflow, upstream) if _chosen(g[0][0], among)]
    prompts.sort(key=lambda group: -len(_value(workflow, group[0])))
    images = [i for i in _edited_images(workflow, outputs[0]) if _chosen(i, among)]
    seeds = _seeds(workflow, upstream)[::-1]
    return Candidates(tuple(outputs), tuple(prompts), tuple(seeds), tuple((i, "image") for i in images))


def image_link(workflow: Mapping[str, Any], output: str) -> list[Any] | None:
    """The link whose picture the output node shows; None where it shows none."""
    return next((list(v) for n, v in workflow[output]["inputs"].items() if is_link(v) and n in IMAGE_INPUTS), None)


def body_of(workflow: Mapping[str, Any], output: str) -> set[str]:
    """The nodes that the result depends on, or would if a switch were set otherwise; the output node left out."""
    return set(_upstream(workflow, output, both_sides=True)) - {output}


def is_link(value: object) -> bool:
    """A link in API format: [node id, output number]."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    return isinstance(value[0], (str, int)) and isinstance(value[1], int)


def _outputs(workflow: Mapping[str, Any], among: Collection[str] | None) -> list[str]:
    """Nodes that show a picture: saved ones before previews, no picture twice, no stage on the way to another."""
    shown: dict[str, list[Any]] = {}
    for node_id, node in workflow.items():
        kind = str(node["class_type"]).lower()
        link = image_link(workflow, node_id)
        if link is None or "image" not in kind or not any(word in kind for word in ("save", "preview")):
            continue
        if _chosen(node_id, among) or _chosen(str(link[0]), among):
            shown[node_id] = link
    saved = {i: v for i, v in shown.items() if "save" in str(workflow[i]["class_type"]).lower()}
    shown = saved or shown
    last = {i: v for n, (i, v) in enumerate(shown.items()) if v not in list(shown.values())[:n]}
    if len(last) > MOST_OUTPUTS:
        return list(last)
    bodies = {j: body_of(workflow, str(link[0])) for j, link in last.items()}
    on_the_way = {i for i in last for j in last if i != j and str(last[i][0]) in bodies[j]}
    return [i for i in last if i not in on_the_way]


def _prompts(workflow: Mapping[str, Any], among: list[str]) -> list[tuple[InputRef, ...]]:
    """Texts that a sampler's positive comes from. A sampler that goes on from another, as a refiner, has its prompt."""
    stages: list[tuple[str, list[InputRef]]] = []
    sampled = False
    for node_id in among:
        inputs = workflow[node_id]["inputs"]
        name = next((n for n in POSITIVE if is_link(inputs.get(n))), None)
        if name is None or not is_link(inputs.get("model")):
            continue
        sampled = True
        unwanted = {p for n in NEGATIVE if n in inputs for p, _ in _words(workflow, inputs[n], negative=True)}
        found = _words(workflow, inputs[name])
        direct = [p for p, generated in found if not generated] or [p for p, _ in found]
        # A negative that is made from the positive, as ConditioningZeroOut does, leaves nothing else.
        refs = _likely(workflow, [p for p in direct if p not in unwanted] or direct)
        if refs:  # not what a switch leaves aside
            stages.append((node_id, [p for p in refs if p[0] in among] or refs))
    if not sampled:
        texts = [p for i in among for p in _texts(workflow, i)]
        return _grouped(workflow, _likely(workflow, texts))
    if any(len(refs) > 1 for _, refs in stages):
        return _grouped(workflow, list(dict.fromkeys(p for _, refs in stages for p in refs)))
    groups: list[list[InputRef]] = []
    for node_id, (ref,) in reversed(stages):  # the first stage is the farthest from the result
        if ref in [p for g in groups for p in g]:
            continue
        same = next((g for g in groups if _same_prompt(workflow, g[0], ref, node_id)), None)
        if same is not None:
            same.append(ref)
        else:
            groups.append([ref])
    return [tuple(dict.fromkeys(q for p in g for q in (p, *_beside(workflow, p)))) for g in groups]


def _same_prompt(workflow: Mapping[str, Any], first: InputRef, second: InputRef, sampler: str) -> bool:
    """Whether a later stage's text is the first one's: said again, or of a sampler that adds no noise of its own."""
    if workflow[sampler]["inputs"].get("add_noise") in (False, "disable"):
        return True
    one, other = _value(workflow, first).strip(), _value(workflow, second).strip()
    return one in other or other in one


def _words(workflow: Mapping[str, Any], link: object, *, negative: bool = False) -> list[tuple[InputRef, bool]]:
    """The typed texts that come in through a conditioning link, nearest first; True: a language model rewrites it."""
    found: dict[InputRef, bool] = {}
    seen: set[tuple[str, bool]] = set()
    waiting = [(link, False)]
    while waiting:
        current, generated = waiting.pop(0)
        node_id = str(current[0]) if isinstance(current, list) and is_link(current) else ""
        if node_id not in workflow or (node_id, generated) in seen:
            continue
        seen.add((node_id, generated))
        inputs = workflow[node_id]["inputs"]
        for ref in _texts(workflow, node_id):
            found[ref] = found.get(ref, True) and generated
        writes = "textgenerate" in str(workflow[node_id]["class_type"]).lower() or "max_tokens" in inputs
        both = any(n in inputs for n in NEGATIVE) and "positive" in inputs
        for name, value in inputs.items():
            other_side = both and name in (("positive",) if negative else NEGATIVE)
            if is_link(value) and name not in _NOT_WORDS and not other_side:
                waiting.append((value, generated or writes))
    return list(found.items())


def _texts(workflow: Mapping[str, Any], node_id: str) -> list[InputRef]:
    """The node's first typed text, unless it only joins or changes what others say."""
    inputs = workflow[node_id]["inputs"]
    if any(is_link(inputs.get(n)) for n in _JOINED):
        return []
    typed = [(node_id, n) for n in TEXT_INPUTS if isinstance(inputs.get(n), str)][:1]
    pair = [(node_id, n) for n in JOINED_TEXTS if isinstance(inputs.get(n), str)]
    return typed or sorted(pair, key=lambda p: -len(_value(workflow, p)))[:1]


def _likely(workflow: Mapping[str, Any], refs: list[InputRef]) -> list[InputRef]:
    """Without what is empty, and without what tells a language model its task, where anything else is left."""
    said = [p for p in refs if _value(workflow, p).strip()] or refs
    return [p for p in said if not _value(workflow, p).strip().lower().startswith(_INSTRUCTIONS)] or said


def _grouped(workflow: Mapping[str, Any], refs: list[InputRef]) -> list[tuple[InputRef, ...]]:
    """WorkflowInputs that say the same are one prompt."""
    groups: dict[str, list[InputRef]] = {}
    for ref in refs:
        groups.setdefault(_value(workflow, ref), []).append(ref)
    return [tuple(dict.fromkeys(q for p in g for q in (p, *_beside(workflow, p)))) for g in groups.values()]


def _beside(workflow: Mapping[str, Any], ref: InputRef) -> list[InputRef]:
    """The other texts of the node: for the second encoder of FLUX.1 and SDXL."""
    inputs = workflow[ref[0]]["inputs"]
    if ref[1] in JOINED_TEXTS:
        return []
    return [(ref[0], n) for n in TEXT_INPUTS if n != ref[1] and isinstance(inputs.get(n), str)]


def _seeds(workflow: Mapping[str, Any], among: list[str]) -> list[InputRef]:
    """Whole numbers that are a sampler's seed, or that it comes from; the last is the first stage's."""
    refs: dict[InputRef, None] = {}
    for node_id in among:
        inputs = workflow[node_id]["inputs"]
        samples = "noise_seed" in inputs or any(n in inputs for n in (*POSITIVE, "latent_image", "images", "image"))
        if not samples and "noise" not in str(workflow[node_id]["class_type"]).lower():
            continue  # a text that is written at random has a seed as well
        if inputs.get("add_noise") in (False, "disable"):
            continue
        for name in SEED_INPUTS:
            ref = _number_at(workflow, (node_id, name)) if name in inputs else None
            if ref is not None:
                refs[ref] = None
    return list(refs)


def _number_at(workflow: Mapping[str, Any], ref: InputRef) -> InputRef | None:
    """Where the whole number of an input is typed: there, or in the node that it comes from."""
    seen: set[InputRef] = set()
    while ref not in seen:
        seen.add(ref)
        value = workflow[ref[0]]["inputs"].get(ref[1])
        if isinstance(value, int) and not isinstance(value, bool):
            return ref
        if not isinstance(value, list) or not is_link(value) or str(value[0]) not in workflow:
            return None
        source = workflow[str(value[0])]["inputs"]
        ref = (str(value[0]), next((n for n in ("value", *SEED_INPUTS) if n in source), ""))
    return None


def _edited_images(workflow: Mapping[str, Any], output: str) -> list[str]:
    """Loaders whose picture reaches the result other than as edges, style or size.

    "Image 1" comes before "image 2": by the numbers of the inputs, and of pictures in a row the one that is taken
    in first, which is the farthest.
    """
    found: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    waiting = [(output, 0)]
    while waiting:
        current, number = waiting.pop(0)
        if current in seen or current not in workflow:
            continue
        seen.add(current)
        inputs, kind = workflow[current]["inputs"], str(workflow[current]["class_type"]).lower()
        traced = any(n in inputs for n in _ONLY_A_GUIDE) or any(word in kind for word in _TRACED)
        for name, value in _in_use(workflow, current):
            if traced and (name in IMAGE_INPUTS or name in _ONLY_A_GUIDE):
                continue
            if name in _MODELS:
                continue
            if name == "latent_image" and inputs.get("denoise") == 1 and not _masked(workflow, str(value[0])):
                continue  # all noise: of the picture only its size is left
            source = str(value[0])
            digits = re.search(r"image_?(\d+)$", name)
            rank = max(number, int(digits.group(1)) if digits else 0)
            loader = str(workflow.get(source, {}).get("class_type", ""))
            loads = loader.startswith("LoadImage") and "Mask" not in loader
            if loads and value[1] == 0 and isinstance(workflow[source]["inputs"].get("image"), str):
                found.setdefault(source, (rank, -len(seen)))
            waiting.append((source, rank))
    return sorted(found, key=found.__getitem__)


def _masked(workflow: Mapping[str, Any], node_id: str) -> bool:
    """Whether a latent keeps a part of the picture behind a mask, as for inpainting."""
    return any("mask" in name for i in _upstream(workflow, node_id) for name, _ in _in_use(workflow, i))


def _in_use(workflow: Mapping[str, Any], node_id: str) -> list[tuple[str, list[Any]]]:
    """The links into a node; of a switch whose position is known, only the side that it takes."""
    inputs = workflow[node_id]["inputs"]
    position = inputs.get("switch")
    if isinstance(position, list) and is_link(position):
        position = workflow.get(str(position[0]), {}).get("inputs", {}).get("value")
    idle = {True: "on_false", False: "on_true"}.get(position) if isinstance(position, bool) else None
    return [(name, value) for name, value in inputs.items() if is_link(value) and name != idle]


def _upstream(workflow: Mapping[str, Any], node_id: str, *, both_sides: bool = False) -> Iterator[str]:
    """The node and everything it depends on, nearest first."""
    seen: set[str] = set()
    waiting = [node_id]
    while waiting:
        current = waiting.pop(0)
        if current in seen or current not in workflow:
            continue
        seen.add(current)
        yield current
        links = [v for v in workflow[current]["inputs"].values() if is_link(v)]
        waiting += [str(v[0]) for v in (links if both_sides else [v for _, v in _in_use(workflow, current)])]


def _chosen(node_id: str, among: Collection[str] | None) -> bool:
    """Whether the node, or a subgraph that it is in, is among those."""
    parts = node_id.split(":")
    return among is None or any(":".join(parts[: n + 1]) in among for n in range(len(parts)))


def _value(workflow: Mapping[str, Any], ref: InputRef) -> str:
    return str(workflow[ref[0]]["inputs"][ref[1]])


def _named_input(workflow: Mapping[str, Any], text: str) -> InputRef:
    node_id, _, name = text.rpartition(".")
    if node_id not in workflow or name not in workflow[node_id]["inputs"]:
        raise WorkflowError(f"The workflow has no input {text}; write it as NODE.input, for example 6.text.")
    return node_id, name


def _only(what: str, found: list[Any], form: str) -> Any:
    """The one that there is. A prompt is a group of refs, named by the first."""
    if not found:
        raise WorkflowError(f"The workflow has no {what} that could be found. Name it, as {form}.")
    if len(found) > 1:
        names = ", ".join(_name(f) for f in found[:6])
        raise WorkflowError(f"The workflow has more than one {what}: {names}. Name one of them, as {form}.")
    return found[0]


def _name(found: Any) -> str:
    if isinstance(found, str):
        return found
    return ".".join(found[0] if isinstance(found[0], tuple) else found)
