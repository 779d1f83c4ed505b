"""Which node of a workflow is what: the positive prompt, the seed, the reference picture, the result.

Works on API format, by following links, without knowing node packs: a sampler is a node with links
`positive` and `model`, or one that a guider and noise come into. Candidates come best first; where
there are several, a person chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .comfy_client import WorkflowError

Place = tuple[str, str]
"""Node id and input name."""

TEXT_INPUTS = ("text", "prompt", "string", "value", "t5xxl", "clip_l", "text_g", "text_l")
SEED_INPUTS = ("seed", "noise_seed")
LOADERS = ("LoadImage",)
SAVERS = ("SaveImage", "PreviewImage")


@dataclass(frozen=True)
class Places:
    """`image` and `seed` are None where the workflow has no such place. `output`: the node that shows the result.

    also: further texts of the prompt's node that say the same (the two encoders of FLUX.1 and SDXL).
    """

    prompt: Place
    seed: Place | None
    image: Place | None
    output: str
    also: tuple[Place, ...] = ()


def find_places(
    workflow: Mapping[str, Any],
    *,
    prompt: str | None = None,
    seed: str | None = None,
    image: str | None = None,
    output: str | None = None,
) -> Places:
    """The four places; what is named ("NODE.input", or "NODE" for the output) is taken as it is.

    Raises:
        WorkflowError: a named place does not exist, or one that is not named is missing or not the only one.
    """
    outputs = [output] if output else [i for i, n in workflow.items() if n["class_type"] in SAVERS]
    if any(o not in workflow for o in outputs):
        raise WorkflowError(f"The workflow has no node {output}.")
    if len(outputs) > 1:
        saved = [o for o in outputs if workflow[o]["class_type"] == "SaveImage"]
        outputs = saved or outputs
    result = _only("picture output", outputs, "NODE")
    upstream = list(_upstream(workflow, result))
    texts = [_place(workflow, prompt)] if prompt else prompt_candidates(workflow, upstream)
    seeds = [_place(workflow, seed)] if seed else seed_candidates(workflow, upstream)
    images = [_place(workflow, image)] if image else image_candidates(workflow, upstream)
    chosen = _only("positive prompt", texts, "NODE.input")
    return Places(
        chosen,
        _only("seed", seeds, "NODE.input") if seeds else None,
        _only("reference picture", images, "NODE.input") if images else None,
        result,
        _alike(workflow, chosen),
    )


def _alike(workflow: Mapping[str, Any], place: Place) -> tuple[Place, ...]:
    """The other texts of this place's node.

    Raises:
        WorkflowError: they say something else; one prompt cannot stand for both.
    """
    node, name = place
    inputs = workflow[node]["inputs"]
    others = [n for n in TEXT_INPUTS if n != name and isinstance(inputs.get(n), str)]
    if any(inputs[n] != inputs[name] for n in others):
        raise WorkflowError(
            f"Node {node} has two prompts that differ, {name} and {others[0]}. Make them the same first."
        )
    return tuple((node, n) for n in others)


def prompt_candidates(workflow: Mapping[str, Any], among: list[str]) -> list[Place]:
    """Texts that a sampler's `positive` comes from, and not its `negative`."""
    wanted: dict[Place, None] = {}
    unwanted: set[Place] = set()
    sampled = False
    for node in among:
        for name, value in workflow[node]["inputs"].items():
            if is_link(value) and name in ("positive", "negative", "conditioning"):
                sampled = True
                found = [p for i in _upstream(workflow, str(value[0])) for p in _texts(workflow, i)]
                if name == "negative":
                    unwanted |= set(found)
                else:
                    wanted |= dict.fromkeys(found)
    if sampled:  # a negative that is made from the positive, as ConditioningZeroOut does, leaves nothing else
        return [p for p in wanted if p not in unwanted] or list(wanted)
    return [p for i in among for p in _texts(workflow, i)]


def seed_candidates(workflow: Mapping[str, Any], among: list[str]) -> list[Place]:
    """Whole numbers that are seeds, or that a seed comes from."""
    places: dict[Place, None] = {}
    for node in among:
        for name in SEED_INPUTS:
            value = workflow[node]["inputs"].get(name)
            place = (node, name)
            if is_link(value) and str(value[0]) in workflow:
                source = workflow[str(value[0])]["inputs"]
                place = (str(value[0]), next((n for n in ("value", *SEED_INPUTS) if n in source), ""))
                value = source.get(place[1])
            if isinstance(value, int) and not isinstance(value, bool):
                places[place] = None
    return list(places)


def image_candidates(workflow: Mapping[str, Any], among: list[str]) -> list[Place]:
    return [(i, "image") for i in among if workflow[i]["class_type"] in LOADERS]


def _texts(workflow: Mapping[str, Any], node: str) -> list[Place]:
    inputs = workflow[node]["inputs"]
    return [(node, n) for n in TEXT_INPUTS if isinstance(inputs.get(n), str)][:1]


def _upstream(workflow: Mapping[str, Any], node: str) -> Iterator[str]:
    """The node and everything it depends on, nearest first."""
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop(0)
        if current in seen or current not in workflow:
            continue
        seen.add(current)
        yield current
        waiting += [str(v[0]) for v in workflow[current]["inputs"].values() if is_link(v)]


def is_link(value: object) -> bool:
    """A link in API format: [node id, output number]."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    return isinstance(value[0], (str, int)) and isinstance(value[1], int)


def _place(workflow: Mapping[str, Any], text: str) -> Place:
    node, _, name = text.rpartition(".")
    if node not in workflow or name not in workflow[node]["inputs"]:
        raise WorkflowError(f"The workflow has no input {text}; write it as NODE.input, for example 6.text.")
    return node, name


def _only(what: str, found: list[Any], form: str) -> Any:
    if not found:
        raise WorkflowError(f"The workflow has no {what} that could be found. Name it, as {form}.")
    if len(found) > 1:
        names = ", ".join(".".join(f) if isinstance(f, tuple) else f for f in found[:6])
        raise WorkflowError(f"The workflow has more than one {what}: {names}. Name one of them, as {form}.")
    return found[0]
