"""The form of a reply (`reply_form`), as fields of a request to a chat server.

- "structural_tag": what follows `</think><answer>` is an object of the form's schema (vLLM, SGLang). `<answer>` alone
  also stands in thoughts.
- "llama.cpp": a grammar in which the thought is free, and so is what follows the form. A thought without `<think>` has
  no `<answer>` in it: that one would be the reply's own.
- "json_schema": the whole reply is the object; there is no `<answer>`, and no thought unless the server sends it apart.
"""

from __future__ import annotations

import json
from typing import Any

from .reply_form import ANSWER, MAX_BLANKS, ReplyForm, atoms_of

FORM_FIELDS = ("response_format", "grammar")
"""Fields of a request that these are."""

ANSWER_AFTER = (f"</think>{ANSWER}", f"</think>\n{ANSWER}", f"</think>\n\n{ANSWER}")
"""Where a structure begins."""

_RULES = rf"""thought ::= "<think>" inside "</think>" | bare "</think>"
inside ::= ([^<] | open* ("<" [^</] | "</" [^<t] | "</t" [^<h]))* open*
open ::= "<" | "</" | "</t"
bare ::= ([^<] | begun* ("<" [^</a] | "</" [^<t] | "</t" [^<h] | "<a" [^<n] | "<an" [^<s]))* begun*
begun ::= open | "<a" | "<an"
blank ::= [ \t\r\n]{{0,{MAX_BLANKS}}}
free ::= [^\x00]*
"""


def form_fields(form: ReplyForm | None, way: str) -> dict[str, Any]:
    """What the request says of the form; nothing where this server is not to be asked, or the form has no schema."""
    if form is None or way == "none":
        return {}
    if way == "llama.cpp":
        return {"grammar": grammar_of(form)}
    if not form.schema:
        return {}
    schema = json.loads(form.schema)
    if way == "json_schema":
        named = {"name": form.key, "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    structures = [{"begin": begin, "schema": schema, "end": "</answer>"} for begin in ANSWER_AFTER]
    return {"response_format": {"type": "structural_tag", "structures": structures, "triggers": list(ANSWER_AFTER)}}


def grammar_of(form: ReplyForm) -> str:
    """As a GBNF grammar: an optional thought, the form as `place_in` takes it, and anything behind it.

    A thought that a chat template opened has no tag of its own here. One that never closes never meets the form.
    """
    atoms = []
    for atom in atoms_of(form):
        spellings = " | ".join(_quoted(spelling) for spelling in atom.spellings)
        atoms.append(f"blank ({spellings})" if len(atom.spellings) > 1 else f"blank {spellings}")
    return f"root ::= thought? {' '.join(atoms)} free\n{_RULES}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
