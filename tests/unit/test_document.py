"""Documents: what was made, in order, and texts of models that stay texts in every reader."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image

from interleave_thinker.errors import ConfigError
from interleave_thinker.export.markdown import escape_markdown, to_markdown
from interleave_thinker.export.page import LAYOUTS, Layout, PageOptions, to_html
from interleave_thinker.export.pictures import Picture
from interleave_thinker.export.word import to_docx
from interleave_thinker.loop.document import Document, DocumentItem, compose
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.loop.trajectory import Attempt, StepResult, Trajectory


def plan(*texts: str, prompt: str | None = "p") -> Plan:
    return Plan(tuple(PlanStep(i, auxiliary_text=t, prompt=prompt) for i, t in enumerate(texts, 1)))


def told(text: str, *, title: str = "t", reason: str = "r") -> Document:
    """A document in which every text that can come from outside is `text`."""
    items = (
        DocumentItem("text", 1, text),
        DocumentItem("image", 1, text, "ab", False, 2),
        DocumentItem("text", 2, text),
    )
    steps = (PlanStep(1, text, text, text, text), PlanStep(2, text, text, None, text))
    return Document(items, Trajectory(Plan(steps, request=text)), "run", title, "stopped", reason, lead=text)


def html_of(document: Document, layout: Layout = "story", details: bool = True) -> str:
    return to_html(document, lambda item: Picture(b"png", "png", 64, 64), PageOptions(layout, details))


def markdown_of(document: Document, details: bool = True) -> str:
    return to_markdown(document, lambda item: f"image_{item.step:02d}.png", details=details)


# --- what is in it --------------------------------------------------------------------------------------------


def test_text_and_picture_alternate_in_plan_order() -> None:
    results = (StepResult(1, 2, "aa"), StepResult(2, 1, "bb"))
    tried = tuple(Attempt(1, n, "p", 0, None, "aa") for n in (1, 2))
    document = compose(Trajectory(plan("one", "two"), tried, results), run="run")
    assert [(i.kind, i.text, i.image_key) for i in document.items] == [
        ("text", "one", ""),
        ("image", "p", "aa"),
        ("text", "two", ""),
        ("image", "p", "bb"),
    ]
    assert [i.attempts for i in document.images] == [2, 0]
    page, text = html_of(document), markdown_of(document)
    assert re.findall(r"<p |<figure", page) == ["<p ", "<figure", "<p ", "<figure"]
    assert re.findall(r"^(?:one|two|!\[p\]\(image_\d+\.png\))", text, re.M) == [
        "one",
        "![p](image_01.png)",
        "two",
        "![p](image_02.png)",
    ]


def test_a_step_without_any_text_gives_its_picture_only() -> None:
    document = compose(Trajectory(Plan((PlanStep(1, prompt="p"),)), (), (StepResult(1, 1, "aa"),)))
    assert [i.kind for i in document.items] == ["image"]


def test_a_document_of_texts_only_has_no_picture() -> None:
    """Task A: an answer about the user's pictures."""
    document = compose(Trajectory(plan("one", "two", prompt=None), (), (StepResult(1), StepResult(2))))
    assert document.images == () and [i.text for i in document.items] == ["one", "two"]
    assert "<img" not in html_of(document) and "![" not in markdown_of(document)


def test_steps_that_were_not_reached_are_not_in_it() -> None:
    document = compose(Trajectory(plan("one", "two"), (), (StepResult(1, 1, "aa"),), "stopped"), reason="enough")
    assert [i.step for i in document.items] == [1, 1]


def test_pictures_that_were_not_accepted_are_flagged() -> None:
    rejected = compose(Trajectory(plan("one"), (), (StepResult(1, 3, "aa", False, True),)))
    accepted = compose(Trajectory(plan("one"), (), (StepResult(1, 3, "aa"),)))
    for written in (html_of, markdown_of):
        assert "not accepted" in written(rejected) and "not accepted" not in written(accepted)
    assert 'class="rejected"' in html_of(rejected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_of_its_making_is_said_unless_it_is_asked_for(layout: Layout) -> None:
    """A reader wants the story; attempts, verdicts, prompts and the request are the maker's."""
    tried = (Attempt(1, 1, "the prompt that was used", 7, None, "aa"),)
    steps = (PlanStep(1, prompt="planned prompt", auxiliary_text="one"),)
    made = Trajectory(
        Plan(steps, "thoughts", "the whole request"), tried, (StepResult(1, 1, "aa", False, True),), "stopped"
    )
    document = compose(made, run="run", title="A title", reason="the reason")
    of_its_making = [
        "1 attempt",
        "not judged",
        "the prompt that was used",
        "the whole request",
        "the reason",
        'class="rejected"',
    ]
    plain, asked = html_of(document, layout, details=False), html_of(document, layout)
    assert [text for text in of_its_making if text in plain] == []
    assert [text for text in of_its_making if text not in asked] == []
    text = markdown_of(document, details=False)
    assert "not judged" not in text and "the reason" not in text and "thoughts" not in asked


def test_a_run_that_was_stopped_says_why() -> None:
    stopped = compose(Trajectory(plan("one"), (), (), "stopped"), reason="Step 1 was never accepted")
    done = compose(Trajectory(plan("one"), (), ()))
    for written in (html_of, markdown_of):
        assert "Step 1 was never accepted" in written(stopped) and "stopped:" not in written(done)


@pytest.mark.parametrize(("status", "reason"), [("running", ""), ("done", "r"), ("running", "r"), ("stopped", "")])
def test_only_a_run_that_was_stopped_for_a_reason_says_so(status: str, reason: str) -> None:
    """A run under way can be opened too: nobody stopped it."""
    document = replace(told("text", reason=reason), status=status)
    assert "stopped:" not in html_of(document) + markdown_of(document)
    docx = pytest.importorskip("docx")
    opened = docx.Document(
        io.BytesIO(to_docx(document, lambda item: Image.new("RGB", (8, 8)), PageOptions(details=True)))
    )
    assert not any("stopped" in p.text for p in opened.paragraphs)


def test_the_page_stands_alone() -> None:
    page = html_of(told("text"))
    assert "default-src 'none'" in page and "script-src" not in page
    assert not re.search(r"https?://|//|url\(|@import", re.sub(r"data:image/png;base64,[\w+/=]*", "", page))
    assert page.startswith("<!doctype html>") and '<meta charset="utf-8">' in page


# --- what must not get into it -----------------------------------------------------------------------------------

INJECTIONS = [
    "<script>alert(1)</script>",
    "</p></body></html><iframe src=//evil></iframe>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</title><script>1</script>",
    "</style><style>*{display:none}</style>",
    "<!-- comment -->",
    "<a href='javascript:1'>x</a>",
    "![x](file:///etc/passwd)",
    "[x](javascript:1)",
    "[x]: javascript:1\n\n[x]",
    "<javascript:1>",
    "<https://evil.example>",
    "https://evil.example www.evil.example a@evil.example",
    "`code` ``more``",
    "```\ncode\n```",
    "~~~\ncode\n~~~",
    "    indented code",
    "\tindented code",
    "text\n# heading",
    "text\n===",
    "text\n---",
    "* * *",
    "- a\n- b",
    "+ a",
    "1. a\n2. b",
    "1) a",
    "> quote",
    "|a|b|\n|-|-|\n|c|d|",
    "*a* **b** _c_ __d__ ~~e~~",
    "&lt;b&gt; &amp;amp; &#60;script&#62;",
    "back\\slash \\* \\\\",
    "line one\\\nline two",
    "line one  \nline two",
    "a\x00b <scr\x00ipt>",
    "{body} {title} {0}",
    "$x$ \\(y\\) [^1] :smile: ==m==",
    "a\r\n# b",
    "a\u2028# b",
    "a\x0b# b\x0c# c",
    "](image.png) ![",
    "*",
    "\\",
    "",
]


class Elements(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.odd: list[str] = []
        self.attributes: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs if name not in ("lang", "class"))))
        self.attributes.append((tag, attrs))
        self.values += [value or "" for name, value in attrs if name != "alt"]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.odd.append(data)

    def handle_pi(self, data: str) -> None:
        self.odd.append(data)

    def unknown_decl(self, data: str) -> None:
        self.odd.append(data)


def squeezed(text: str) -> str:
    return "".join(text.replace("\x00", "").split())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", INJECTIONS)
def test_html_has_no_tag_or_attribute_of_a_text(text: str, layout: Layout) -> None:
    """Texts may be set into paragraphs of their own, which are ours; nothing else comes of them."""
    plainly = Elements(html_of(told("x", title="x", reason="x"), layout))
    page = html_of(told(text, title=text or "x", reason=text), layout)
    found = Elements(page)
    ours = {(tag, names) for tag, names in plainly.tags}
    assert {t for t in found.tags if t[0] != "html"} <= {t for t in ours if t[0] != "html"} and found.odd == []
    assert [t for t in found.tags if t[0] not in ("p", "header", "h1", "span", "html")] == [
        t for t in plainly.tags if t[0] not in ("p", "header", "h1", "span", "html")
    ]
    languages = {"en", "ltr", "rtl"}
    assert set(found.values) - languages <= set(plainly.values) - languages | {"short"}
    assert "\x00" not in page
    assert squeezed(found.text).count(squeezed(text)) >= 5, (
        "title twice, two texts and the reason, as they were written"
    )


READERS = [MarkdownIt("commonmark"), MarkdownIt("js-default")]
STRUCTURE = {"paragraph_open", "paragraph_close", "inline"}


def tokens(reader: MarkdownIt, text: str) -> tuple[set[str], list[Any]]:
    blocks = reader.parse(text)
    return {b.type for b in blocks}, [child for b in blocks for child in b.children or []]


@pytest.mark.parametrize("reader", READERS, ids=["commonmark", "with tables and strikethrough"])
@pytest.mark.parametrize("text", INJECTIONS)
def test_markdown_shows_a_text_as_it_is(text: str, reader: MarkdownIt) -> None:
    blocks, inline = tokens(reader, escape_markdown(text))
    assert blocks <= STRUCTURE
    assert {t.type for t in inline} <= {"text", "hardbreak"}
    assert squeezed("".join(t.content for t in inline)) == squeezed(text)


@pytest.mark.parametrize("reader", READERS, ids=["commonmark", "with tables and strikethrough"])
@pytest.mark.parametrize("text", INJECTIONS)
def test_markdown_documents_have_only_our_own_structure(text: str, reader: MarkdownIt) -> None:
    document = told(text, title=text or "x", reason="r")
    blocks, inline = tokens(reader, markdown_of(document))
    assert blocks <= STRUCTURE | {"heading_open", "heading_close"}
    assert {t.type for t in inline} <= {"text", "hardbreak", "em_open", "em_close", "image"}
    pictures = [t for t in inline if t.type == "image"]
    assert [t.attrs["src"] for t in pictures] == ["image_01.png"]
    assert {c.type for t in pictures for c in t.children or []} <= {"text"}


def test_captions_and_titles_are_one_line() -> None:
    text = markdown_of(told("a\n\n# b", title="c\n\n# d"))
    assert "# c # d\n" in text and "![a # b](image_01.png)" in text


@pytest.mark.parametrize("title", ["C #", "#", "# a ##", "a \\#", "###"])
def test_a_title_keeps_its_last_marks(title: str) -> None:
    blocks = MarkdownIt("commonmark").parse(markdown_of(told("x", title=title)))
    assert blocks[0].type == "heading_open"
    assert "".join(t.content for t in blocks[1].children or []) == title


def test_paragraphs_of_a_text_stay_paragraphs() -> None:
    assert escape_markdown("one\n\ntwo") == "one\n\ntwo"
    page = html_of(told("one\n\ntwo\nthree"))
    assert '<p dir="auto">one</p>' in page and '<p dir="auto">two\nthree</p>' in page


@pytest.mark.parametrize("text", ["a verse\nand another\n\n- bread\n- salt", "one\r\ntwo\r\n\r\nthree", "ends\n"])
def test_lines_of_a_text_stay_lines(text: str) -> None:
    """A verse or a list of a model is read in the lines that it was written in, as on the page."""
    for reader in READERS:
        paragraphs = [b.children or [] for b in reader.parse(escape_markdown(text)) if b.type == "inline"]
        read = ["".join("\n" if c.type == "hardbreak" else c.content for c in inline) for inline in paragraphs]
        assert "\n\n".join(read) == text.replace("\r\n", "\n").strip()


READS_LIKE_TEXT = [
    "The fox (a red one) crosses the river: 3 lanterns, 2.5 m apart. Nice!",
    'It\'s 20% off - "really"? snake_case_names stay; 1.5 + 2 = 3.5, a/b, #1 of 3',
    "狐狸渡过了河，对岸亮起了灯笼。",
    "عبرت الثعلبة النهر.",
]


@pytest.mark.parametrize("text", READS_LIKE_TEXT)
def test_markdown_reads_like_text_where_nothing_is_markup(text: str) -> None:
    assert escape_markdown(text) == text


READER = MarkdownIt("gfm-like", {"linkify": False})
MARKS = st.text(alphabet=st.sampled_from(list("ab1 \n.*_`~#+-=>|[](){}!<>&;:/\\$@\"'^")), max_size=60)


@given(MARKS)
@settings(max_examples=600, deadline=None)
def test_any_text_is_shown_by_markdown_as_it_is(text: str) -> None:
    for reader in (*READERS, READER):
        blocks, inline = tokens(reader, escape_markdown(text))
        assert blocks <= STRUCTURE, escape_markdown(text)
        assert {t.type for t in inline} <= {"text", "hardbreak"}, escape_markdown(text)
        assert squeezed("".join(t.content for t in inline)) == squeezed(text)


# --- who reads it --------------------------------------------------------------------------------------------------


def test_language_and_direction_are_those_of_the_texts() -> None:
    arabic = told("عبرت الثعلبة النهر وأضاءت الفوانيس", title="الثعلبة", reason="")
    assert '<html lang="ar" dir="rtl">' in html_of(arabic, details=False)
    english = told("the fox is on the way to the river", title="The fox", reason="")
    assert '<html lang="en" dir="ltr">' in html_of(english, details=False)
    asked = to_html(english, lambda item: Picture(b"png", "png", 64, 64), PageOptions(language="en-GB"))
    assert '<html lang="en-GB"' in asked


@pytest.mark.parametrize("options", [{"layout": "poster"}, {"language": '" onload="x'}, {"language": "english please"}])
def test_what_is_no_layout_or_language_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"layout is 'poster'|language is"):
        PageOptions(**options)


def test_each_picture_has_a_text_in_its_place() -> None:
    page = Elements(html_of(told("a red fox"), details=False))
    assert next(dict(names) for tag, names in page.attributes if tag == "img")["alt"] == "a red fox"
