"""Whether a workflow's own text encoder can plan and judge, by the file that it is loaded from.

Several image models carry a whole chat model with eyes as their text encoder or prompt writer: a Qwen3-VL, a Qwen3.5
or a Gemma 4. As the agent it costs no second model. The file's name decides; nothing is opened.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .links import body_of, downstream, is_link, typed_value, upstream

Family = Literal["Qwen3-VL", "Qwen3.5", "Gemma 4"]

SIZES: Mapping[Family, tuple[str, ...]] = {
    "Qwen3-VL": ("4b", "8b"),
    "Qwen3.5": ("0.8b", "2b", "4b", "9b", "27b"),
    "Gemma 4": ("e2b", "e4b", "12b", "31b"),
}
"""What ComfyUI 0.30 and 0.33 load whole, with eyes and language head, from one file."""
EYELESS_TYPES = ("flux", "flux2")
"""Types of Load CLIP that load a Qwen3-VL without its eyes. Those of a Qwen3.5 or a Gemma 4 change nothing."""
ADDED_TYPE = "qwen_image"
"""Type of the Load CLIP that wrap adds for a second model."""
LONGEST_SHOWN = 120
"""Characters of a file's name that a reason shows."""
_FAMILIES: tuple[tuple[Family, re.Pattern[str]], ...] = (
    ("Qwen3-VL", re.compile(r"qwen[-_.]?3[-_.]?vl", re.IGNORECASE)),
    ("Qwen3.5", re.compile(r"qwen[-_.]?3[-_.]?5(?![\db])", re.IGNORECASE)),
    ("Gemma 4", re.compile(r"(?<![a-z\d])gemma[-_.]?4(?![\db])", re.IGNORECASE)),
)
_SIZE = re.compile(r"(?<![a-z\d.])(0[-_.]?8b|e?\d+(?:\.\d+)?b)(?![a-z\d])", re.IGNORECASE)
_HEADLESS = re.compile(r"qwen[-_.]?2[-_.]?5[-_.]?vl", re.IGNORECASE)
_REWRITER = re.compile(
    r"prompt[-_.]?(upsampl|enhanc|rewrit|refin|expan)|(?<![a-z\d])pe(?![a-z\d])", re.IGNORECASE | re.ASCII
)
_FOR_VIDEO = re.compile(r"(?<![a-z\d])(proj|ltx)", re.IGNORECASE)
_SCORERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("an embedding model", re.compile(r"(?<![a-z])embed(s|d?ings?|ders?)?(?![a-z])", re.IGNORECASE)),
    ("a reranker", re.compile(r"(?<![a-z])re[-_.]?rank(ers?|ing)?(?![a-z])", re.IGNORECASE)),
    ("a reward model", re.compile(r"(?<![a-z])(rewards?|p?rm)(?![a-z])", re.IGNORECASE)),
    ("a guard model", re.compile(r"guard(ian)?(?![a-z])|(?<![a-z])(shield|moderat(ion|or))(?![a-z])", re.IGNORECASE)),
    ("a retriever", re.compile(r"(?<![a-z])col(pali|qwen|gemma)|(?<![a-z])retriev", re.IGNORECASE)),
    (
        "a part of a model",
        re.compile(
            r"(?<![a-z])(mmproj|pruned|lora|adapter|vision[-_.]?(only|tower|encoder)|text[-_.]?only)(?![a-z])"
            r"|(?<![a-z])text(?![a-z]|[-_.]?enc)",
            re.IGNORECASE,
        ),
    ),
    ("a classifier", re.compile(r"(?<![a-z])classifi(er|cation)(?![a-z])", re.IGNORECASE)),
)
"""What else is made of these families, by what such files are called."""
_TUNED = re.compile(r"joy[-_.]?image|(?<![a-z\d])edit(?![a-z\d])", re.IGNORECASE)


@dataclass(frozen=True)
class AgentClip:
    """node: the Load CLIP whose model can be the agent, "" where none can; then why_not says why, as the end of a
    sentence. loras: files that the workflow puts on that CLIP for the generator; the agent does without. note: what
    speaks against it, as a sentence.
    """

    node: str = ""
    file: str = ""
    why_not: str = ""
    loras: tuple[str, ...] = ()
    note: str = ""


def find_agent_clip(workflow: Mapping[str, Any], *outputs: str, among: Collection[str] | None = None) -> AgentClip:
    """The Load CLIP nearest to the results whose model can be the agent: the generator's, or a prompt enhancer's.

    Of other loaders it is not known which output is the CLIP. among: ids of the loaders that count; default: all.
    """
    reasons = []
    for node_id in upstream(workflow, *outputs):
        inputs = workflow[node_id]["inputs"]
        if not is_clip_loader(workflow[node_id]) or (among is not None and node_id not in among):
            continue
        typed = [typed_value(workflow, v) for n, v in sorted(inputs.items()) if n.startswith("clip_name")]
        files = [file for file in typed if isinstance(file, str) and file.strip().lower() not in ("", "none")]
        kind = typed_value(workflow, inputs.get("type", ""))
        lacks = [why_no_agent(file, str(kind)) for file in files]
        reasons.append(next(filter(None, lacks), "") or _why_unclear(workflow, node_id, typed, files, kind))
        if files and not reasons[-1]:
            loras = tuple(dict.fromkeys(f for o in outputs for f in _loras(workflow, o, node_id)))
            on_cpu = ["It runs on the CPU, as its Load CLIP says, and writes slowly."] if _on_cpu(inputs) else []
            return AgentClip(node_id, files[0], loras=loras, note=" ".join([*filter(None, [_note(files[0])]), *on_cpu]))
    if reason := next(filter(None, reasons), ""):
        return AgentClip(why_not=reason)
    if any(map(is_clip_loader, workflow.values())):
        return AgentClip(why_not="no Load CLIP of the workflow is in use for this picture")
    return AgentClip(why_not="the workflow has no Load CLIP of its own")


def _why_unclear(
    workflow: Mapping[str, Any], node_id: str, typed: Sequence[object], files: Sequence[str], kind: object
) -> str:
    """Why it cannot be said whether a loader's CLIP can be the agent; "" where it can."""
    if None in typed:
        return "the file of its Load CLIP is chosen by another node"
    if len(files) > 1:
        return f"its Load CLIP joins {len(files)} text encoders"
    if kind is None:
        return "the type of its Load CLIP is chosen by another node"
    links = [
        (name, value[1])
        for node in workflow.values()
        for name, value in node["inputs"].items()
        if is_link(value) and str(value[0]) == node_id
    ]
    clips = {slot for name, slot in links if "clip" in name.lower()} or {0}
    return "" if 0 in clips else "the CLIP is not the first output of its loader"


def _on_cpu(inputs: Mapping[str, Any]) -> bool:
    return inputs.get("device") == "cpu"


def is_clip_loader(node: Mapping[str, Any]) -> bool:
    """Whether a node is a Load CLIP of ComfyUI or another pack."""
    return "cliploader" in str(node["class_type"]).lower()


def chat_model(file: str) -> tuple[Family, str] | None:
    """Family and size ("" where the name has none) of the model in a file, if its name is that of one that chats and
    sees.
    """
    name = _base(file)
    family = next((family for family, pattern in _FAMILIES if pattern.search(name)), None)
    if family is None:
        return None
    sizes = ["0.8b" if size[0] == "0" else size.lower() for size in _SIZE.findall(name)]
    unknown = [size for size in sizes if size not in SIZES[family]]
    return family, (unknown or sizes or [""])[0]


def why_no_agent(file: str, kind: str) -> str:
    """What the model of a file lacks, loaded by Load CLIP with a type; "" for one that sees and writes."""
    full, found = _base(file), chat_model(file)
    name = " ".join(full.split())[:LONGEST_SHOWN]
    if _HEADLESS.search(full):
        return f"{name} is a Qwen2.5-VL, which has no language head in ComfyUI"
    if found is None:
        return f"{name} is not known to see pictures and to write"
    family, size = found
    if (family, size) == ("Qwen3-VL", "32b"):
        return f"{name} is an encoder without its last layers"
    if size and size not in SIZES[family]:
        return f"{name} is a {family} of {size.upper()[:20]}, which ComfyUI does not load"
    if full.lower().endswith(".gguf"):
        return f"{name} is loaded by nodes that do not write text"
    if _REWRITER.search(full):
        return f"{name} is trained to rewrite prompts, not to plan and judge"
    if kinds := [what for what, pattern in _SCORERS if pattern.search(full)]:
        return f"{name} is {kinds[0]}, which writes no plans"
    if family == "Gemma 4" and _FOR_VIDEO.search(full):
        return f"{name} is made for LTX, which loads it without its eyes"
    if family == "Qwen3-VL" and kind in EYELESS_TYPES:
        return f"{name} is loaded with type {kind}, which leaves its eyes out"
    return ""


def installed_agent(files: Sequence[str]) -> str:
    """The first of these files that can be an agent in Load CLIP; "" where none can.

    One that is tuned for pictures comes last, and a Qwen3-VL before other families.
    """
    able = [file for file in files if not why_no_agent(file, ADDED_TYPE)]
    return min(able, key=lambda file: (bool(_note(file)), list(SIZES).index(_family(file))), default="")


def _note(file: str) -> str:
    tuned = "It was tuned for the prompts of an image editor and may plan worse than the plain model."
    return tuned if _TUNED.search(_base(file)) else ""


def _family(file: str) -> Family:
    found = chat_model(file)
    assert found is not None
    return found[0]


def _base(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2]


def _loras(workflow: Mapping[str, Any], output: str, loader: str) -> tuple[str, ...]:
    """Files that nodes put on the CLIP between its loader and the result."""
    behind = downstream(workflow, [loader], through="clip") & body_of(workflow, output)
    inputs = [item for node_id in sorted(behind) for item in workflow[node_id]["inputs"].items()]
    return tuple(dict.fromkeys(v for n, v in inputs if "lora" in n and isinstance(v, str) and "." in v))
