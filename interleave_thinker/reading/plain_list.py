"""Read a plain list of prompts, as people type it and chat models write it.

Marks begin a step: `1.`, `1)`, `1、`, `(1)`, `①`, `Step 1:`, `[Shot 1]`, `Scene 2`, `第1步`, `1단계`, any word with a
number that counts up, bullets. Lines are a list only if the numbers run on; of two kinds of marks the finer one
counts. Without marks each line is a step. What introduces or closes a list, fences and headings are never steps.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PlanError
from ..loop.plan import Plan, PlanStep

MAX_LINES = 5_000
"""Lines of a plain list; a plan has a hundred steps at most."""
MAX_MARK = 120
"""Characters at the beginning of a line in which a mark is looked for."""
HIGHEST_FIRST = 9
"""Numbers without a word may begin after 1, where a list goes on; higher ones are years, days or centuries."""
_LABELS = (
    "step|shot|scene|frame|panel|page|image|picture|part|prompt|schritt|szene|bild|[ée]tape|sc[èe]ne|plan|paso|escena"
    "|imagen|toma|passo|cena|imagem|шаг|сцена|кадр|ステップ|シーン|カット|場面|手順|コマ|단계|장면|컷|步骤|步驟|镜头|鏡頭|分镜"
    "|分鏡|场景|場景|画面|图片|图"
)
_ZH_DIGITS = {c: i for i, c in enumerate("〇一二三四五六七八九")}
_ZH_UNIT = "[步幕镜鏡张張格场場页頁集话話回个個章]"
_WORDS = {w: i for i, w in enumerate("one two three four five six seven eight nine ten eleven twelve".split(), 1)}
_NUMBER = r"\#?(?P<number>\d{1,3}|[①-⑳❶-❿]|[一二三四五六七八九十]{1,3})"
_WORD_NUMBER = rf"(?:{_NUMBER}|(?P<word>{'|'.join(_WORDS)})\b)"
_FRONT = r"(?:[>\U0001f300-\U0001faff✅▶➡️]{1,3}\s*)?(?:\#{1,6}\s+|[-*•]\s+)?(?:\*\*|__|\*|_)?\s?"
_AFTER = r"(?:\s?(?:/|of)\s?\d{1,3})?(?:\s?[\[(（【][^\])）】]{0,30}[\])）】])?"
"""Behind a label's number: how many there are, or a remark in brackets."""
_STOP = r"(?:[.。．]?[):）\]】：、][:：]?(?!\d)|[.。．](?!\d)[)\-]?|[-–—=]*[>→](?=\s)|[-–—](?=\s))"
_END = rf"(?:\*\*|__|\*|_)?\s?{_STOP}(?:\*\*|__|\*|_)?\s*"
_LINE_END = r"(?:\*\*|__|\*|_)?\s*\Z"
_ENDS = rf"(?:{_END}|{_LINE_END})"
_ZH_END = rf"(?:图|画面|画|照片|镜头)?(?:，\s?|{_ENDS}|\s?(?=\S))"
_ANY_LABEL = r"(?P<label>[^\s\d\[\](){}<>|:：.,，。!?'\"]{1,24}(?:\s[^\W\d_]{2,20})?\.?)"
_MARKS = (
    ("label", re.compile(rf"{_FRONT}[\[【(（]?(?P<label>{_LABELS})[\s_]?{_WORD_NUMBER}{_AFTER}\s?{_ENDS}", re.I)),
    ("第", re.compile(rf"{_FRONT}[\[【(（]?第\s?{_NUMBER}\s?(?P<label>{_ZH_UNIT}){_ZH_END}")),
    ("label", re.compile(rf"{_FRONT}[\[【(（]?{_NUMBER}\s?(?P<label>단계|장면|컷|コマ目|枚目)\s?{_ENDS}")),
    ("number", re.compile(rf"{_FRONT}[\[【(（]{_NUMBER}[\]】)）]\s?(?:[.:：、]\s?)?(?P<label>)")),
    ("number", re.compile(rf"{_FRONT}(?:no\.?\s?|\#\s?)?(?P<number>\d{{1,3}})\\?(?P<label>){_END}", re.I)),
    ("number", re.compile(r"(?P<number>[①-⑳❶-❿⑴-⒇])\s?(?:[.:：、]\s?)?(?P<label>)")),
    ("number", re.compile(r"(?P<number>\d)\ufe0f?\u20e3\s?(?:[.:：、]\s?)?(?P<label>)")),
    ("zh number", re.compile(r"(?P<number>[一二三四五六七八九十]{1,3})[、.．：:]\s?(?P<label>)")),
    ("letter", re.compile(r"[(]?(?P<number>[a-zA-Z])[.)]\s(?P<label>)")),
    ("roman", re.compile(r"(?P<number>[IVX]{1,5})[.)]\s(?P<label>)")),
    ("word", re.compile(rf"{_FRONT}[\[【(（]?{_ANY_LABEL}[\s_]?{_NUMBER}{_AFTER}\s?{_ENDS}")),
)  # fmt: skip
_SURE = ("label", "第", "number")
"""Kinds whose numbers must run on; of the others a number may be a word's own."""
_ROMAN = {
    "I": 1,
    "II": 2,
    "III": 3,
    "IV": 4,
    "V": 5,
    "VI": 6,
    "VII": 7,
    "VIII": 8,
    "IX": 9,
    "X": 10,
    "XI": 11,
    "XII": 12,
}
_BULLET = re.compile(r"\s*(?:[-*+–—](?=\s)|[•·●▪◦‣・→✅])\s*(?:\[[ xX]\]\s)?")
_UNSEEN = re.compile(r"\A[\u200b\u2060\ufeff]+")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_IDLE = re.compile(r"\s*(?:#{1,6}\s.*|[-*_=]{3,}\s*)\Z")
_MARKUP = re.compile(
    r"</?(?:answer|think|tool_call)\b|<\||<function=|\[TOOL_CALLS\]|<eos>|</s>|&lt;/?\w"
    r"|^[ \t]{0,20}</?(?!lora\b|lyco\b|hypernet\b|embedding\b|wildcard)[a-z][\w-]*(?:\s[^>\n]*)?>",
    re.I | re.M,
)
_TABLE = re.compile(r"\|.*\||\|?\s?:?-{3,}:?\s?\|")
_PARTS = tuple(
    (name, re.compile(rf"\s*(?:\*\*)?(?:{words})\s?\d{{0,3}}(?:\*\*)?\s?[:：]\s?(?:\*\*)?\s?", re.I))
    for name, words in (
        ("prompt", "(?:image |visual )?prompt|提示词|提示詞|プロンプト"),
        ("auxiliary_text", "caption|narration|旁白|字幕"),
        ("left out", "negative prompt|反向提示词|负面提示词"),
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
    lines = [_UNSEEN.sub("", line) for line in text.splitlines()]
    if len(lines) > MAX_LINES:
        raise PlanError(f"The plan text has {len(lines)} lines; {MAX_LINES} are read.")
    found = _MARKUP.search(text)
    if found:
        raise PlanError(
            f"The plan text holds a tag ({found.group().strip()[:40]}) but no plan. Write one prompt a line."
        )
    if sum(bool(_TABLE.match(line.lstrip()[:MAX_MARK])) for line in lines) > 1:
        raise PlanError("The plan text looks like a table. Write one prompt a line, or JSON.")
    lines, blocks = _without_fences(lines)
    marks = _chosen(lines, [_numbered(line) for line in lines])
    if not any(marks):
        if len(blocks) > 1:
            steps = [" ".join(line.strip() for line in block if line.strip()) for block in blocks]
            return _plan([[s] for s in steps if s], [])
        lines = blocks[0] if blocks else lines
        marks = [_bullet(line) for line in lines]
    return _marked(lines, marks) if any(marks) else _unmarked(lines)


def _without_fences(text: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """All lines but fences, and the lines of each fenced block. A fence that is not closed ends with the text."""
    lines: list[str] = []
    blocks: list[list[str]] = []
    inside = False
    for line in text:
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
            groups = found.groupdict()
            name = f"{kind} {groups['label'].lower()}".strip()
            number = _WORDS[groups["word"].lower()] if groups.get("word") else _value(kind, groups["number"])
            return _Mark(name, number, len(line) - len(body), body[found.end() :])
    return None


def _bullet(line: str) -> _Mark | None:
    found = _BULLET.match(line)
    return _Mark("bullet", 0, len(line) - len(line.lstrip()), line[found.end() :]) if found else None


def _value(kind: str, number: str) -> int:
    if kind == "letter":
        return ord(number.lower()) - ord("a") + 1
    if kind == "roman":
        return _ROMAN.get(number, 0)
    if number[0] in "一二三四五六七八九十":
        tens, _, ones = number.rpartition("十")
        return (_ZH_DIGITS.get(tens, 1) * 10 if "十" in number else 0) + _ZH_DIGITS.get(ones, 0)
    if "❶" <= number <= "❿":
        return ord(number) - ord("❶") + 1
    return int(re.sub(r"\D", "", unicodedata.normalize("NFKC", number)) or 0)


def _chosen(lines: Sequence[str], marks: Sequence[_Mark | None]) -> list[_Mark | None]:
    """The marks of the list: those of the kind that runs on and has most of them.

    Raises:
        PlanError: numbers almost run on: a step may be missing.
    """
    kinds = Counter(m.kind for m in marks if m is not None)
    broken: list[int] = []
    for kind, _ in sorted(kinds.items(), key=lambda item: -item[1]):
        first = next(m for m in marks if m is not None and m.kind == kind)
        own = [m if m is not None and m.kind == kind and m.indent <= first.indent + 1 else None for m in marks]
        numbers = [m.number for m in own if m is not None]
        if _runs_on(kind, numbers, _is_alone(lines, own)):
            return [o or (_Mark("heading", 0, 0, "") if m is not None and not m.rest.strip() else None)
                    for o, m in zip(own, marks, strict=True)]  # fmt: skip
        sure = kind.startswith(_SURE) and len(numbers) > 1
        if sure and (numbers[0] in (0, 1) or not kind.startswith("number")):
            broken = broken or numbers
    if broken:
        shown = ", ".join(map(str, broken[:20]))
        raise PlanError(
            f"The plan's numbers do not run on: {shown}. Number the steps 1, 2, 3, or leave the numbers out."
        )
    return [None] * len(marks)


def _runs_on(kind: str, numbers: Sequence[int], alone: bool) -> bool:
    if set(numbers) == {1} and kind.startswith(("label", "第", "number")):
        return len(numbers) > 1 or alone or not kind.startswith("number")  # Markdown counts 1. 1. 1. by itself
    if list(numbers) != list(range(numbers[0], numbers[0] + len(numbers))) or len(numbers) < 2:
        return False
    return numbers[0] == 1 or (kind.startswith(_SURE) and numbers[0] <= HIGHEST_FIRST)


def _is_alone(lines: Sequence[str], own: Sequence[_Mark | None]) -> bool:
    """Whether no line that is not indented follows the only mark: then it is a list of one."""
    at = next(i for i, m in enumerate(own) if m is not None)
    return not any(line.strip() and line[:1].strip() for line in lines[at + 1 :])


def _marked(lines: Sequence[str], marks: Sequence[_Mark | None]) -> Plan:
    steps: list[list[str]] = []
    aside: list[str] = []
    gap = closing = False
    goes_on_behind_gap = False
    real = [i for i, m in enumerate(marks) if m is not None and m.kind != "heading"]
    deepest = min(m.indent for m in marks if m is not None and m.kind != "heading")
    for at, (line, mark) in enumerate(zip(lines, marks, strict=True)):
        if mark is not None and mark.kind == "heading":
            continue
        if mark is not None and mark.indent <= deepest + 1:
            steps.append([_balanced(mark.rest)])
            gap = False
        elif not line.strip():
            gap = True
        elif not steps:
            aside.append(line.strip())
        else:
            last = at > real[-1]
            indented = len(line) - len(line.lstrip()) > deepest
            closing = closing or (last and gap and not indented and not goes_on_behind_gap and any(steps[-1]))
            goes_on_behind_gap = goes_on_behind_gap or (gap and not last)
            bullet = _BULLET.match(line)
            (aside if closing else steps[-1]).append(line[bullet.end() if bullet else 0 :].strip())
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
    empty = next((s.prompt for s in made if not re.search(r"\w", s.prompt or "")), None)
    if empty is not None:
        raise PlanError(f"The plan text has a step without a word: {empty[:40]!r}. Write one prompt a line.")
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
