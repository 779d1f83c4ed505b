"""Prompt texts are files: ours, those a model brings along, or the user's own.

One file a role and mode, `REQUIRED_SLOTS` below. Looked for in this order: the folder named explicitly, the
folder that came with the model (`Agent.prompts`), the user's prompt folder, ours.
`import_official` reads the texts that the released checkpoints were tuned on out of the user's own
clone of the official repository; they are not ours to ship.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError

HERE = Path(__file__).parent / "prompts"

REQUIRED_SLOTS = {
    "planner_text": ("text_input",),
    "planner_images": ("text_input",),
    "critic": ("original_instruction", "rewritten_prompt"),
    "compare": ("original_instruction",),
    "reask": ("problem",),
    "score_sc": ("original_instruction",),
    "score_pq": (),
}
"""Prompt file (without .md) -> the slots it must have. Texts of users and the official ones have these and no other:
a new slot must not be required."""

OFFICIAL = {
    "NARRATIVE_PROMPT_JSON": "planner_text",
    "GUIDANCE_GLOBAL_PROMPT_JSON": "planner_images",
    "Iterative_T2I_PROMPT_QWEN": "critic",
}
"""Constant in the official UEval/system.py -> our prompt file."""

MAX_BYTES = 200_000


def load_prompt(name: str, folders: Sequence[str | Path | None] = ()) -> str:
    """The text of prompt `name` from the first folder that has it, else ours.

    Raises:
        ConfigError: the file found lacks a slot, or is too large to be a prompt.
    """
    if name not in REQUIRED_SLOTS:
        raise ConfigError(f"There is no prompt named {name!r}; known names are {sorted(REQUIRED_SLOTS)}.")
    for folder in [*folders, HERE]:
        path = Path(folder) / f"{name}.md" if folder else None
        if path is not None and path.is_file():
            text = _read(path)
            _check_slots(path, name, text)
            return text
    raise ConfigError(f"{HERE / name}.md is missing; install the pack again.")


def check_prompt_folder(folder: Path) -> None:
    """Raises ConfigError where a folder holds no prompt text; with a wrong name ours would be used without a word."""
    if not any((folder / f"{name}.md").is_file() for name in REQUIRED_SLOTS):
        raise ConfigError(f"--prompts: {folder} holds no prompt text ({', '.join(f'{n}.md' for n in REQUIRED_SLOTS)}).")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes; that is no prompt.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; save it as UTF-8.") from None


def _check_slots(path: Path, name: str, text: str) -> None:
    missing = [slot for slot in REQUIRED_SLOTS[name] if "{" + slot + "}" not in text]
    if missing:
        raise ConfigError(f"{path} has no {{{missing[0]}}} for prompt {name!r}; write it where the text belongs.")


def fill(template: str, **values: str) -> str:
    """Put values into `{slot}`s in one pass: a slot name inside a value stays as it is."""
    out, rest = [], template
    while rest:
        found = [(rest.find("{" + k + "}"), k) for k in values if "{" + k + "}" in rest]
        if not found:
            break
        at, key = min(found)
        out += [rest[:at], values[key]]
        rest = rest[at + len(key) + 2 :]
    return "".join([*out, rest])


_SLOT = re.compile(r"\{[a-z_]+\}")


def is_filled(template: str, text: str) -> bool:
    """Whether `text` is the template with some values in its slots. Blanks do not count."""
    pieces = [_without_blanks(piece) for piece in _SLOT.split(template)]
    rest = _without_blanks(text)
    if not rest.startswith(pieces[0]):
        return False
    at = len(pieces[0])
    for piece in pieces[1:-1]:
        found = rest.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return len(pieces) == 1 or (rest.endswith(pieces[-1]) and len(rest) - len(pieces[-1]) >= at)


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def import_official(clone: Path, target: Path) -> list[Path]:
    """Copy the three prompt constants of the user's clone into the user's prompt folder.

    The file is parsed, never run. Returns the files written.

    Raises:
        ConfigError: there is no UEval/system.py below `clone`, a constant or a slot is missing in it, or
            `target` cannot be written.
    """
    source = clone / "UEval" / "system.py"
    if not source.is_file():
        raise ConfigError(f"{source} does not exist; name the folder of your clone of the repository.")
    try:
        tree = ast.parse(_read(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{source} is not readable as Python: {error}.") from None
    texts: dict[str, str] = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)):
            continue
        for name in (t.id for t in node.targets if isinstance(t, ast.Name)):
            if name in OFFICIAL and isinstance(node.value.value, str):
                texts[OFFICIAL[name]] = node.value.value
    missing = [constant for constant, name in OFFICIAL.items() if name not in texts]
    if missing:
        raise ConfigError(f"{source} has no text constant {missing[0]}.")
    for name, text in texts.items():
        _check_slots(source, name, text)
    written = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            path = target / f"{name}.md"
            path.write_text(text.strip() + "\n", encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise ConfigError(f"Cannot write to {target}: {error.strerror or error}.") from error
    return written
