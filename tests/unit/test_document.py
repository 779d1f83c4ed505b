"""Documents: what was made, in order, and texts of models that stay texts in every reader."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt

from interleave_thinker.loop.document import Document, DocumentItem, compose, escape_markdown, to_html, to_markdown
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
    return Document(items, Trajectory(Plan(())), "run", title, "stopped", reason)


def html_of(document: Document) -> str:
    return to_html(document, lambda item: b"png")


def markdown_of(document: Document) -> str:
    return to_markdown(document, lambda item: f"image_{item.step:02d}.png")


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
    assert re.findall(r"<p>|<figure", page) == ["<p>", "<figure", "<p>", "<figure"]
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


def test_a_run_that_was_stopped_says_why() -> None:
    stopped = compose(Trajectory(plan("one"), (), (), "stopped"), reason="Step 1 was never accepted")
    done = compose(Trajectory(plan("one"), (), ()))
    for written in (html_of, markdown_of):
        assert "Step 1 was never accepted" in written(stopped) and "stopped:" not in written(done)


def test_the_page_stands_alone() -> None:
    page = html_of(told("text"))
    assert "default-src 'none'" in page and "script-src" not in page
    assert not re.search(r"https?://|//", re.sub(r"data:image/png;base64,[\w+/=]*", "", page))
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
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "br":
            self.tags.append((tag, tuple(name for name, _ in attrs)))
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


@pytest.mark.parametrize("text", INJECTIONS)
def test_html_has_no_tag_or_attribute_of_a_text(text: str) -> None:
    plainly = Elements(html_of(told("x", title="x", reason="x")))
    page = html_of(told(text, title=text or "x", reason=text))
    found = Elements(page)
    assert found.tags == plainly.tags and found.values == plainly.values and found.odd == []
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
    assert {t.type for t in inline} <= {"text", "softbreak"}
    assert squeezed("".join(t.content for t in inline)) == squeezed(text)


@pytest.mark.parametrize("reader", READERS, ids=["commonmark", "with tables and strikethrough"])
@pytest.mark.parametrize("text", INJECTIONS)
def test_markdown_documents_have_only_our_own_structure(text: str, reader: MarkdownIt) -> None:
    document = told(text, title=text or "x", reason="r")
    blocks, inline = tokens(reader, markdown_of(document))
    assert blocks <= STRUCTURE | {"heading_open", "heading_close"}
    assert {t.type for t in inline} <= {"text", "softbreak", "em_open", "em_close", "image"}
    pictures = [t for t in inline if t.type == "image"]
    assert [t.attrs["src"] for t in pictures] == ["image_01.png"]
    assert {c.type for t in pictures for c in t.children or []} <= {"text"}


def test_captions_and_titles_are_one_line() -> None:
    text = markdown_of(told("a\n\n# b", title="c\n\n# d"))
    assert "# c \\# d\n" in text and "![a \\# b](image_01.png)" in text


def test_paragraphs_of_a_text_stay_paragraphs() -> None:
    assert escape_markdown("one\n\ntwo") == "one\n\ntwo"
    assert "one<br>\n<br>\ntwo" in html_of(told("one\n\ntwo"))
