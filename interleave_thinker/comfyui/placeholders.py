"""What a script is to put in still stands in a workflow: "%prompt%", "{{seed}}", "$PROMPT$", "<<prompt>>"."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from ..contract import MAX_SEED
from .find_inputs import WorkflowInputs
from .links import InputRef
from .wrap import loop_seed

_WORD = r"[^\W\d][\w-]*"
_INSIDE = r"[^{}<>|\n]{1,80}"
_LONGEST = 100
_ANYWHERE = re.compile(
    rf"%%?[^\W\d][\w.:-]*%%?|\{{\{{{_INSIDE}\}}\}}|[$#]\{{{_INSIDE}\}}|\$\( *{_WORD} *\)"
    rf"|%\({_WORD}\)[sd]|<<{_INSIDE}>>|<%{_INSIDE}%>"
)
"""Marks that stand for nothing else, also in the middle of a text."""
_ALONE = re.compile(
    rf"\$+{_WORD}\$*|<{_WORD}>|\{{\w+(?::\w*)?\}}|\[\[{_WORD}\]\]|\{{%{_INSIDE}%\}}|@+{_WORD}@+|#+{_WORD}#+"
    r"|__[A-Z][A-Z_]*__"
    r"|[^\w\s]+[\w-]*(?i:prompt|seed)[\w-]*[^\w\s]+"
    r"|(?:[A-Z]+[ _-])*(?:PROMPT|SEED)(?:[ _-][A-Z]+)*"
)
"""Marks that a prompt can have for another reason: only where nothing else is in the text."""
_MARKS_OF_THEIR_OWN = ("filename", "prefix", "path", "find", "pattern", "format", "template")
"""Inputs in which ComfyUI or the node itself puts in what stands in such marks, as %date%."""


def placeholder_in(text: object) -> str | None:
    """The first placeholder in a text; None where it has none."""
    found = _ANYWHERE.search(text) if isinstance(text, str) else None
    return _whole_placeholder(text) or (found[0] if found else None)


def _whole_placeholder(text: object) -> str | None:
    """The text, if it is a placeholder and nothing else."""
    bare = text.strip() if isinstance(text, str) else ""
    return bare if len(bare) <= _LONGEST and (_ANYWHERE.fullmatch(bare) or _ALONE.fullmatch(bare)) else None


def wrap_warnings(workflow: Mapping[str, Any], found: WorkflowInputs) -> list[str]:
    """What wrapping this workflow as it is would leave to do by hand: placeholders, and seeds that are none."""
    warnings = []
    for ref in (found.prompt, *found.also):
        if (holds := placeholder_in(_value(workflow, ref))) is not None:
            warnings.append(
                f"{_named(ref)} holds the placeholder {_shown(holds)}. The Planner would take it for the request: put "
                "your words there, or run with --request."
            )
    for number, ref in enumerate((found.seed, *found.seeds) if found.seed else ()):
        if loop_seed(value := _value(workflow, ref)) is None:
            becomes = "The loop's seed goes there." if number else "The loop's seed is 0: set it, or run with --seed."
            warnings.append(f"{_named(ref)} {_no_seed(value)}. {becomes}")
    taken = {found.prompt, *found.also, *found.seeds, *((found.seed,) if found.seed else ())}
    return warnings + placeholder_warnings(workflow, taken)


def placeholder_warnings(workflow: Mapping[str, Any], but: Collection[InputRef] = ()) -> list[str]:
    """A line for each input that holds nothing but a placeholder; none for those of `but`."""
    return [
        f"{node_id}.{name} holds the placeholder {_shown(holds)}. Put a value there before you queue the workflow."
        for node_id, node in workflow.items()
        for name, value in node["inputs"].items()
        if (node_id, name) not in but
        and not any(word in name.lower() for word in _MARKS_OF_THEIR_OWN)
        and (holds := _whole_placeholder(value)) is not None
    ]


def _no_seed(value: object) -> str:
    if (holds := placeholder_in(value)) is not None:
        return f"holds the placeholder {_shown(holds)}, which is no number"
    return f"is {_shown(value)}, which is no seed from 0 to {MAX_SEED}"


def _value(workflow: Mapping[str, Any], ref: InputRef) -> object:
    return workflow[ref[0]]["inputs"][ref[1]]


def _named(ref: InputRef) -> str:
    return ".".join(ref)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:76]} ..."
