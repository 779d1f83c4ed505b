"""Read a plain list of prompts, as people type it and chat models write it.

Marks begin a step: `1.`, `1)`, `1、`, `(1)`, `①`, `Step 1:`, `[Shot 1]`, `Scene 2`, `第1步`, `1단계`, bullets.
Lines are a numbered list only if the numbers run on. Without marks each line is a step. What introduces or closes a
list, fences and headings are never steps.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import PlanError
from .plan import Plan, PlanStep

MAX_LINES = 5_000
"""Lines of a plain list; a plan has a hundred steps at most."""
MAX_MARK = 120
"""Characters at the beginning of a line in which a mark is looked for."""
_LABELS = (
    "step|shot|scene|frame|panel|page|image|picture|part|prompt|schritt|szene|bild|[ée]tape|sc[èe]ne|plan|paso|escena"
    "|imagen|toma|passo|cena|imagem|шаг|сцена|кадр|ステップ|シーン|カット|場面|단계|장면|컷|步骤|步驟|镜头|鏡頭|分镜|分鏡"
    "|场景|場景|画面|图片|图"
)
_ZH_DIGITS = {c: i for i, c in enumerate("〇一二三四五六七八九")}
_NUMBER = r"(?P<number>\d{1,3}|[一二三四五六七八九十]{1,3})"
_DECORATION = r"(?:\#{1,6}\s+|[-*•]\s+)?(?:\*\*|__)?\s*"
_END = r"(?:\*\*|__)?\s*(?:[.。．):：、）\]】](?!\d)|[-–—](?=\s))\s*(?:\*\*|__)?\s*"
_LINE_END = r"(?:\*\*|__)?\s*\Z"
_ENDS = rf"(?:{_END}|{_LINE_END})"
_ZH_UNIT = "[步幕镜鏡张張格场場页頁集话話回]"
_MARKS = (
    ("label", re.compile(rf"{_DECORATION}[\[【(（]?(?P<label>{_LABELS})\s*{_NUMBER}\s*{_ENDS}", re.I)),
    ("第", re.compile(rf"{_DECORATION}[\[【(（]?第\s*{_NUMBER}\s*(?P<label>{_ZH_UNIT})\s*(?:{_ENDS}|(?=\S))")),
    ("label", re.compile(rf"{_DECORATION}[\[【(（]?{_NUMBER}\s*(?P<label>단계|장면|컷)\s*{_ENDS}")),
    ("number", re.compile(rf"{_DECORATION}[\[【(（]{_NUMBER}[\]】)）]\s*(?:[.:：、]\s*)?(?P<label>)")),
    ("number", re.compile(rf"{_DECORATION}(?P<number>\d{{1,3}})(?P<label>){_END}")),
    ("number", re.compile(r"(?P<number>[①-⑳])\s*(?P<label>)")),
    ("number", re.compile(r"(?P<number>\d)\ufe0f?\u20e3\s*(?P<label>)")),
)  # fmt: skip
_BULLET = re.compile(r"\s*[-*•·–]\s+")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_IDLE = re.compile(r"\s*(?:#{1,6}\s.*|[-*_=]{3,}\s*)\Z")
_MARKUP = re.compile(r"</?(?:answer|think|tool_call)\b|<\|", re.I)
_PARTS = tuple(
    (name, re.compile(rf"\s*(?:\*\*)?(?:{words})(?:\*\*)?\s*[:：]\s*(?:\*\*)?\s*", re.I))
    for name, words in (
        ("prompt", "(?:image |visual )?prompt|提示词|提示詞|プロンプト"),
        ("auxiliary_text", "caption|narration|旁白|字幕"),
    )
)


@dataclass(frozen=True)
class _Mark:
    kind: str
    number: int
    indent: int
    rest: str


def listed(text: str) -> Plan:
    """The steps of a plain list; lines before and behind it are the plan's `reasoning`.

    Raises:
        PlanError: there is no step, the numbers do not run on, or the text is a table or holds markup.
    """
    if _MARKUP.search(text):
        raise PlanError("The plan text holds tags of a model's reply but no plan. Write one prompt a line.")
    if text.count("\n") > MAX_LINES:
        raise PlanError(f"The plan text has {text.count(chr(10)) + 1} lines; {MAX_LINES} are read.")
    lines, blocks = _without_fences(text)
    if sum(line.lstrip().startswith("|") for line in lines) > 1:
        raise PlanError("The plan text looks like a table. Write one prompt a line, or JSON.")
    marks = [_numbered(line) for line in lines]
    first = next((m for m in marks if m is not None), None)
    marks = [m if m and first and m.kind == first.kind and m.indent <= first.indent + 1 else None for m in marks]
    if first is not None and not _runs_on([m for m in marks if m]):
        marks = [None] * len(lines)
    if not any(marks):
        if len(blocks) > 1:
            steps = [" ".join(line.strip() for line in block if line.strip()) for block in blocks]
            return _plan([[s] for s in steps if s], [])
        if blocks:
            lines = blocks[0]
            marks = [None] * len(lines)
        marks = [_bullet(line) for line in lines]
    if any(marks):
        return _marked(lines, marks)
    return _unmarked(lines)


def _without_fences(text: str) -> tuple[list[str], list[list[str]]]:
    """All lines but fences, and the lines of each fenced block. A fence that is not closed ends with the text."""
    lines: list[str] = []
    blocks: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if _FENCE.match(line):
            inside = not inside
            blocks += [[]] if inside else []
            continue
        if _IDLE.match(line) and _numbered(line) is None:
            line = ""
        lines.append(line)
        if inside:
            blocks[-1].append(line)
    return lines, [b for b in blocks if any(line.strip() for line in b)]


def _numbered(line: str) -> _Mark | None:
    body = line.lstrip()
    for kind, pattern in _MARKS:
        found = pattern.match(body[:MAX_MARK])
        if found:
            name = f"{kind} {found.group('label').lower()}"
            return _Mark(name, _value(found.group("number")), len(line) - len(body), body[found.end() :])
    return None


def _bullet(line: str) -> _Mark | None:
    found = _BULLET.match(line)
    return _Mark("bullet", 0, len(line) - len(line.lstrip()), line[found.end() :]) if found else None


def _value(number: str) -> int:
    if len(number) == 1 and "①" <= number <= "⑳":
        return ord(number) - ord("①") + 1
    if number[0] in "一二三四五六七八九十":
        tens, _, ones = number.rpartition("十")
        return (_ZH_DIGITS.get(tens, 1) * 10 if "十" in number else 0) + _ZH_DIGITS.get(ones, 0)
    return int(unicodedata.normalize("NFKC", number))


def _runs_on(marks: Sequence[_Mark]) -> bool:
    """Whether the numbers make a list. Raises PlanError where they almost do: a step may be missing."""
    numbers = [m.number for m in marks]
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return numbers[0] == 1 or len(numbers) > 1 or not marks[0].kind.startswith("number")
    if set(numbers) == {1}:
        return True  # Markdown numbers such a list by itself
    if numbers[0] in (0, 1) or not marks[0].kind.startswith("number"):
        shown = ", ".join(map(str, numbers[:20]))
        raise PlanError(
            f"The plan's numbers do not run on: {shown}. Number the steps 1, 2, 3, or leave the numbers out."
        )
    return False


def _marked(lines: Sequence[str], marks: Sequence[_Mark | None]) -> Plan:
    steps: list[list[str]] = []
    aside: list[str] = []
    gap = closing = False
    goes_on_behind_gap = False
    deepest = min(m.indent for m in marks if m)
    for at, (line, mark) in enumerate(zip(lines, marks, strict=True)):
        if mark is not None and mark.indent <= deepest + 1:
            steps.append([_balanced(mark.rest)])
            gap = False
        elif not line.strip():
            gap = True
        elif not steps:
            aside.append(line.strip())
        else:
            last = not any(marks[at:])
            indented = len(line) - len(line.lstrip()) > deepest
            closing = closing or (last and gap and not indented and not goes_on_behind_gap and any(steps[-1]))
            goes_on_behind_gap = goes_on_behind_gap or (gap and not last)
            (aside if closing else steps[-1]).append(_BULLET.sub("", line).strip())
    return _plan(steps, aside)


def _unmarked(lines: Sequence[str]) -> Plan:
    kept = [line.strip() for line in lines if line.strip()]
    aside = []
    while len(kept) > 1 and kept[0].endswith((":", "：")):
        aside.append(kept.pop(0))
    return _plan([[line] for line in kept], aside)


def _plan(steps: Sequence[Sequence[str]], aside: Sequence[str]) -> Plan:
    made: list[PlanStep] = []
    for parts in steps:
        step = _step(len(made) + 1, [p for p in parts if p.strip()])
        made += [step] if step else []
    if not made:
        raise PlanError("The plan text holds no step. Write one prompt a line.")
    return Plan(tuple(made), " ".join(aside))


def _step(number: int, lines: Sequence[str]) -> PlanStep | None:
    """Lines of one step; `Prompt:` and `Caption:` before a line say what it is."""
    named: dict[str, list[str]] = {"": []}
    current = ""
    for line in lines:
        for name, pattern in _PARTS:
            found = pattern.match(line)
            if found:
                current, line = name, line[found.end() :]
                break
        named.setdefault(current, []).append(line.strip())
    texts = {name: " ".join(p for p in parts if p) for name, parts in named.items()}
    prompt = texts.get("prompt") or texts[""]
    if not prompt:
        return None
    name = texts[""][:100] if texts.get("prompt") else ""
    return PlanStep(number, name, prompt, prompt, texts.get("auxiliary_text") or None)


def _balanced(rest: str) -> str:
    """Without the half of a pair of ** whose other half was the mark's."""
    if rest.count("**") % 2 == 0:
        return rest
    return rest.replace("**", "", 1) if rest.startswith("**") else "".join(rest.rsplit("**", 1))
