"""One HTML page: to read on any screen, to print, to mail.

Texts come from models and are untrusted: the template escapes them, and the page forbids scripts and every outside
address. Nothing of how the document was made is in it unless it is asked for.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from unicodedata import east_asian_width

from ..errors import ConfigError
from ..loop.document import Document, DocumentItem, alt_of, one_line
from .language import Direction, direction_of, is_language, language_of
from .pictures import Picture

if TYPE_CHECKING:
    from jinja2 import Template

Layout = Literal["story", "guide", "comic", "slides"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
UNTITLED = "Untitled"
SHORT = 420
"""Characters of a text that is printed on one page with its picture; a wide one, as of Chinese, counts twice."""
_TEMPLATES = Path(__file__).with_name("templates")
_INLINE = "data:"
_BESIDE = "'self' file: data:"


@dataclass(frozen=True)
class PageOptions:
    """layout: text above pictures, a numbered guide, a comic's grid, or one step a screen. details: say also how it was
    made. language: a BCP 47 tag; "": told from the texts.

    Raises:
        ConfigError: there is no such layout, or it is no language tag.
    """

    layout: Layout = "story"
    details: bool = False
    language: str = ""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(f"layout is {self.layout!r}; choose one of {', '.join(LAYOUTS)}.")
        if self.language and not is_language(self.language):
            raise ConfigError(
                f"language is {self.language[:60]!r}; write a tag such as en, pt-BR or ar, or leave it empty."
            )


@dataclass(frozen=True)
class Shown:
    """A picture of a section. source: an address. remark: of its making, where that was asked for."""

    source: str
    alt: str
    width: int
    height: int
    is_small: bool
    accepted: bool
    remark: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class Section:
    """A step of the document."""

    number: int
    name: str
    paragraphs: tuple[str, ...]
    direction: Direction
    picture: Shown | None = None

    @property
    def is_short(self) -> bool:
        """Whether text and picture fit onto half a printed page. A longer text goes on over the page's end; its last
        lines stay with the picture."""
        wide = sum(east_asian_width(c) in "WF" for c in "".join(self.paragraphs))
        return wide + sum(map(len, self.paragraphs)) <= SHORT


def to_html(
    document: Document,
    picture: Callable[[DocumentItem], Picture],
    options: PageOptions | None = None,
    *,
    address: Callable[[DocumentItem], str] | None = None,
) -> str:
    """One page. address: where a picture lies beside the page; without it the pictures are inside.

    Raises:
        RunError: a picture is gone.
    """
    options = options or PageOptions()
    texts = "\n".join(_texts(document))
    language = options.language or language_of(texts)
    sections = [_shown(s, document, options, picture, address) for s in sections_of(document)]
    return _template().render(
        title=one_line(document.title) or document.run or UNTITLED,
        heading=one_line(document.title),
        lead=paragraphs_of(document.lead),
        language=language,
        direction=direction_of(texts, language),
        layout=options.layout,
        details=options.details,
        request=one_line(document.trajectory.plan.request) if options.details else "",
        stopped=document.stop if options.details else "",
        images=_BESIDE if address else _INLINE,
        sections=sections,
    )


@dataclass(frozen=True)
class Step:
    """What a document holds of one step. text: "" for a picture alone."""

    number: int
    name: str
    text: str
    picture: DocumentItem | None


def sections_of(document: Document) -> list[Step]:
    """The items by step, in order. number: of the plan, which goes on after the user's pictures."""
    steps = document.trajectory.plan.steps
    found: dict[int, Step] = {}
    for item in document.items:
        planned = steps[item.step - 1] if item.step <= len(steps) else None
        number = planned.step_number if planned else item.step
        step = found.setdefault(item.step, Step(number, planned.step_name if planned else "", "", None))
        found[item.step] = replace(step, text=item.text) if item.kind == "text" else replace(step, picture=item)
    return list(found.values())


def paragraphs_of(text: str) -> tuple[str, ...]:
    """Split at blank lines; without null bytes."""
    return tuple(part.strip() for part in re.split(r"\n\s*\n", text.replace("\x00", "")) if part.strip())


def heading_of(step: Step) -> str:
    """The step's name; "" for a mere kind of step, such as "draw", which says nothing to a reader."""
    name = one_line(step.name)
    return "" if name.islower() and " " not in name else name


def data_address(picture: Picture) -> str:
    return f"data:image/{picture.kind};base64,{base64.b64encode(picture.data).decode('ascii')}"


def remark_of(item: DocumentItem) -> str:
    """How a picture came about, for those who ask."""
    attempts = f"{item.attempts} attempt{'' if item.attempts == 1 else 's'}"
    return " · ".join(filter(None, (attempts, item.remark)))


def _shown(
    step: Step,
    document: Document,
    options: PageOptions,
    picture: Callable[[DocumentItem], Picture],
    address: Callable[[DocumentItem], str] | None,
) -> Section:
    paragraphs = paragraphs_of(step.text)
    name = heading_of(step)
    section = Section(step.number, name, paragraphs, direction_of(f"{name} {step.text}"))
    item = step.picture
    if item is None:
        return section
    made = picture(item)
    shown = Shown(
        address(item) if address else data_address(made),
        alt_of(item),
        made.width,
        made.height,
        made.is_small,
        item.accepted or not options.details,
    )
    if options.details:
        shown = replace(shown, remark=remark_of(item), prompt=_prompt(document, item))
    return replace(section, picture=shown)


def _prompt(document: Document, item: DocumentItem) -> str:
    """The prompt that made the picture."""
    tried = document.trajectory.attempts_of(item.step)
    made = next((a.prompt for a in tried if a.image_key == item.image_key), item.text)
    return one_line(made)


def _texts(document: Document) -> Iterable[str]:
    yield from (document.title, document.lead)
    yield from (item.text for item in document.items if item.kind == "text")


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["style"] = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    return made.get_template("page.html")
