"""What is passed on: pictures that tell nothing of their maker, links that work, files that other programs open."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_documents import SAID, TITLES, drawn, made_document
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from interleave_thinker.cli import main
from interleave_thinker.driver import LoopModels, drive, start_run
from interleave_thinker.errors import ConfigError, RunError
from interleave_thinker.export.archive import file_stem, to_zip
from interleave_thinker.export.formats import FORMATS, export_run
from interleave_thinker.export.language import direction_of, is_language, language_of
from interleave_thinker.export.page import LAYOUTS, PageOptions, to_html
from interleave_thinker.export.pictures import bare, page_picture, with_workflow
from interleave_thinker.export.saved_run import read_document
from interleave_thinker.export.video import to_video
from interleave_thinker.export.word import to_docx
from interleave_thinker.loop.document import Document, compose
from interleave_thinker.loop.plan import Plan, PlanStep, short_title
from interleave_thinker.loop.state import LoopSettings
from interleave_thinker.loop.trajectory import Attempt, StepResult, Trajectory
from interleave_thinker.storage.attempt_store import AttemptStore
from interleave_thinker.storage.run_folder import RunFolder

SECRET = "workflow of its maker"


def told_on(form: str = "PNG") -> Image.Image:
    """A picture whose file says where it comes from, in each way that Pillow knows."""
    image = drawn(1, (320, 200))
    info = PngInfo()
    info.add_text("workflow", SECRET)
    info.add_itxt("prompt", SECRET)
    exif = Image.Exif()
    exif[0x010E] = SECRET
    buffer = io.BytesIO()
    options: dict[str, Any] = {"exif": exif, "icc_profile": SECRET.encode(), "comment": SECRET, "xmp": SECRET.encode()}
    image.save(buffer, form, **(options | {"pnginfo": info} if form == "PNG" else options))
    found = Image.open(io.BytesIO(buffer.getvalue()))
    assert SECRET.encode() in buffer.getvalue()
    return found


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
def test_a_bare_picture_holds_its_pixels_alone(source: str, form: Any) -> None:
    image = told_on(source)
    made = bare(image, form)
    found = Image.open(io.BytesIO(made.data))
    assert SECRET.encode() not in made.data and not found.getexif()
    assert not {"icc_profile", "exif", "xmp", "comment", "workflow", "prompt"} & set(found.info)
    if form == "PNG":
        assert found.convert("RGB").tobytes() == image.convert("RGB").tobytes()


@given(
    st.sampled_from(["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["PNG", "WEBP", "JPEG"]),
)
@settings(max_examples=60, deadline=None)
def test_pictures_of_any_mode_and_size_can_be_passed_on(mode: str, width: int, height: int, form: Any) -> None:
    made = bare(Image.new(mode, (width, height)), form)
    assert Image.open(io.BytesIO(made.data)).size == (width, height) == (made.width, made.height)


def test_small_pictures_are_stored_exactly_and_large_ones_small() -> None:
    shaded = Image.radial_gradient("L").resize((1024, 1024)).convert("RGB")
    small, large = page_picture(drawn(1, (64, 64))), page_picture(shaded)
    assert (small.kind, large.kind) == ("png", "webp") and small.is_small and not large.is_small
    assert len(large.data) * 3 < len(bare(shaded, "PNG").data)


@pytest.mark.parametrize("size", [(16_384, 1), (1, 16_384), (70_000, 1)])
def test_a_picture_longer_than_a_format_has_room_for_is_passed_on_as_png(size: tuple[int, int]) -> None:
    """ComfyUI makes pictures of 16,384 pixels; WebP ends one before."""
    document, _ = made_document(steps=1)
    image = Image.new("RGB", size)
    assert Image.open(io.BytesIO(page_picture(image).data)).size == size
    pytest.importorskip("docx")
    names = unzipped(to_docx(document, lambda item: image))
    assert any(name.startswith("word/media/") for name in names)


def test_a_picture_with_the_workflow_is_one_that_comfyui_opens() -> None:
    made = with_workflow(drawn(1, (64, 64)), {"nodes": []})
    assert json.loads(Image.open(io.BytesIO(made.data)).info["workflow"]) == {"nodes": []}


# --- the page ------------------------------------------------------------------------------------------------------


def test_a_page_to_pass_on_tells_nothing_of_its_maker() -> None:
    document, _ = made_document(steps=2)
    page = to_html(document, lambda item: page_picture(told_on()))
    assert SECRET not in page and "workflow" not in page and document.trajectory.plan.request not in page


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_has_every_text_and_picture_once_in_order(layout: Any) -> None:
    document, image = made_document(steps=4, size=(64, 64))
    page = to_html(document, lambda item: page_picture(image(item)), PageOptions(layout))
    texts = [page.index(SAID["en"].format(n)) for n in range(1, 5)]
    assert texts == sorted(texts) and page.count("<img ") == 4 and page.count("<section ") == 4
    assert page.count(TITLES["en"][0]) == 2 and page.count(TITLES["en"][1]) == 1
    assert all(re.findall(rf'alt="a fox and {n} lanterns"', page) for n in range(1, 5))
    assert ("Night 3" in page) == (layout in ("story", "guide"))


def test_a_guide_counts_as_the_plan_does() -> None:
    """A plan that continues the user's pictures does not begin at 1."""
    steps = tuple(PlanStep(n, "name", None, None, f"text {n}") for n in (4, 5))
    document, image = made_document(steps=1)
    made = replace(document.trajectory, plan=Plan(steps), attempts=(), results=(StepResult(1), StepResult(2)))
    page = to_html(compose(made), lambda item: page_picture(image(item)), PageOptions("guide"))
    assert re.findall(r'class="number">(\d+)<', page) == ["4", "5"]


@pytest.mark.parametrize(("name", "shown"), [("draw", False), ("Fold", True), ("fold the wings", True), ("折纸", True)])
def test_a_step_is_headed_by_its_name_but_not_by_a_mere_kind_of_step(name: str, shown: bool) -> None:
    document, image = made_document(steps=1, size=(16, 16))
    plan = document.trajectory.plan
    named = replace(plan, steps=(replace(plan.steps[0], step_name=name),))
    made = replace(document, trajectory=replace(document.trajectory, plan=named))
    for layout in ("story", "guide"):
        page = to_html(made, lambda item: page_picture(image(item)), PageOptions(layout))
        assert (f"{name}<" in page) == shown


# --- the ZIP file --------------------------------------------------------------------------------------------------


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_link_of_the_zip_leads_to_a_file_of_it(layout: Any) -> None:
    document, image = made_document(steps=3)
    files = unzipped(to_zip(document, image, PageOptions(layout)))
    root = "The-Fox-and-the-Lanterns/"
    assert all(name.startswith(root) for name in files)
    linked = re.findall(r"\]\((.*?)\)", files[root + "document.md"].decode())
    shown = re.findall(r'<img src="(.*?)"', files[root + "document.html"].decode())
    assert linked == shown == [f"images/0{n}.png" for n in (1, 2, 3)]
    for n, name in enumerate(linked, 1):
        assert Image.open(io.BytesIO(files[root + name])).tobytes() == drawn(n, (512, 512)).tobytes()


def test_the_zip_tells_of_its_maker_only_if_asked() -> None:
    document, _ = made_document(steps=2)
    plain = unzipped(to_zip(document, lambda item: told_on()))
    assert not any(SECRET.encode() in data for data in plain.values())
    assert not any(name.endswith("workflow.json") for name in plain)
    asked = unzipped(to_zip(document, lambda item: told_on(), workflow={"nodes": [SECRET]}))
    assert any(name.endswith("/workflow.json") for name in asked)
    assert all(
        SECRET in Image.open(io.BytesIO(data)).info["workflow"] for n, data in asked.items() if n.endswith("png")
    )


def test_the_same_document_makes_the_same_zip() -> None:
    document, image = made_document(steps=2)
    assert to_zip(document, image) == to_zip(document, image)


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_a_title_never_makes_a_path(title: str) -> None:
    document, _ = made_document(steps=0)
    stem = file_stem(replace(document, title=title))
    letters = "".join(c for c in stem if not unicodedata.category(c).startswith("M"))
    assert letters and re.fullmatch(r"[\w-]+", letters) and "_" not in stem and len(stem) <= 60


@pytest.mark.parametrize(
    ("title", "stem"),
    [
        ("हिन्दी की कहानी", "हिन्दी-की-कहानी"),
        ("สุนัขจิ้งจอกกับโคมไฟ", "สุนัขจิ้งจอกกับโคมไฟ"),
        ("Le café ❤️ d'Éloïse", "Le-café-d-Éloïse"),
        ("CON", "document-CON"),
        ("nul.", "document-nul"),
        ("🦊️", "document"),
    ],
)
def test_a_file_is_named_as_its_title_is_written_and_windows_takes_it(title: str, stem: str) -> None:
    document, _ = made_document(steps=0)
    assert file_stem(replace(document, title=title, run="")) == stem


# --- Word and video ------------------------------------------------------------------------------------------------


def test_a_word_file_opens_with_texts_pictures_and_their_descriptions() -> None:
    docx = pytest.importorskip("docx")
    document, image = made_document(steps=3)
    data = to_docx(document, image, PageOptions("guide"))
    opened = docx.Document(io.BytesIO(data))
    texts = [p.text for p in opened.paragraphs if p.text]
    assert texts[:3] == [*TITLES["en"], "1. Night 1"] and SAID["en"].format(3) in texts
    assert len(opened.inline_shapes) == 3
    described = [shape._inline.docPr.get("descr") for shape in opened.inline_shapes]
    assert described == [f"a fox and {n} lanterns" for n in (1, 2, 3)]
    said = next(p for p in opened.paragraphs if p.text == SAID["en"].format(2))
    assert said.paragraph_format.keep_with_next, "a picture stays with its text"
    assert opened.core_properties.author == "" and opened.core_properties.title == TITLES["en"][0]


def test_a_word_file_tells_nothing_of_its_maker() -> None:
    pytest.importorskip("docx")
    document, _ = made_document(steps=1)
    for data in unzipped(to_docx(document, lambda item: told_on())).values():
        assert SECRET.encode() not in data and b"python-docx" not in data


def test_a_shared_archive_does_not_tell_when_it_was_made() -> None:
    pytest.importorskip("docx")
    document, image = made_document(steps=1, size=(16, 16))
    for data in (to_docx(document, image), to_zip(document, image)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_right_to_left_texts_are_so_in_word() -> None:
    docx = pytest.importorskip("docx")
    document, image = made_document("ar", 1)
    opened = docx.Document(io.BytesIO(to_docx(document, image)))
    said = next(p for p in opened.paragraphs if p.text == SAID["ar"].format(1))
    assert said._p.pPr.find("{*}bidi") is not None and said.runs[0].font.rtl


@given(st.text(max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_text_makes_a_word_file_that_opens(text: str) -> None:
    docx = pytest.importorskip("docx")
    document, image = made_document(steps=1, size=(16, 16))
    texts = tuple(replace(item, text=text) for item in document.items)
    opened = docx.Document(io.BytesIO(to_docx(replace(document, items=texts, title=text, lead=text), image)))
    assert len(opened.inline_shapes) == 1


def test_a_long_title_stands_whole_in_a_word_file() -> None:
    """Word takes 255 characters of it in the file's properties; a person's title may be longer."""
    docx = pytest.importorskip("docx")
    document, image = made_document(steps=1, size=(16, 16))
    opened = docx.Document(io.BytesIO(to_docx(replace(document, title="long " * 2000), image)))
    assert opened.paragraphs[0].text.strip() == ("long " * 2000).strip()


@pytest.mark.parametrize("language", ["en", "ar", "zh"])
def test_a_video_shows_each_picture_with_its_text(language: str) -> None:
    av = pytest.importorskip("av")
    document, image = made_document(language, 3, (64, 64))
    with av.open(io.BytesIO(to_video(document, image))) as container:
        (video,), (words,) = container.streams.video, container.streams.subtitles
        frames = [frame.to_image() for frame in container.decode(video)]
        container.seek(0)
        said = [s.dialogue.decode() for packet in container.demux(words) if packet.size for s in packet.decode()]
    assert (frames[0].width, frames[0].height) == (1280, 720) and len(frames) >= 90
    assert [n for n in (1, 2, 3) if any(SAID[language].format(n) in text for text in said)] == [1, 2, 3]
    middle = [frame.getpixel((640, 360)) for frame in (frames[0], frames[-1])]
    wanted = [drawn(n, (64, 64)).getpixel((32, 32)) for n in (1, 3)]
    assert all(abs(a - b) < 24 for m, w in zip(middle, wanted, strict=True) for a, b in zip(m, w, strict=True))


def said_in(data: bytes) -> list[str]:
    """The subtitles of a video, in order."""
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(data)) as container:
        words = container.streams.subtitles[0]
        return [s.dialogue.decode() for packet in container.demux(words) if packet.size for s in packet.decode()]


def with_texts_around(before: tuple[str, ...], after: tuple[str, ...]) -> Document:
    """A document of one picture between texts."""
    planned = (*before, "the picture's", *after)
    steps = tuple(PlanStep(n, "", None, None, text) for n, text in enumerate(planned, 1))
    at = len(before)
    steps = (*steps[:at], replace(steps[at], prompt="a fox"), *steps[at + 1 :])
    results = tuple(StepResult(n, 1, "ab") if n == at + 1 else StepResult(n) for n in range(1, len(steps) + 1))
    return compose(Trajectory(Plan(steps), (Attempt(at + 1, 1, "a fox", 1, None, "ab"),), results))


def test_a_video_ends_with_the_texts_that_come_after_its_last_picture() -> None:
    data = to_video(with_texts_around((), ("They lived happily.", "The end.")), lambda item: drawn(1, (64, 64)))
    assert said_in(data) == ["the picture's", "They lived happily. The end."]


def test_texts_of_any_length_and_half_characters_make_a_video() -> None:
    """A subtitle's bytes are counted in 16 bits, and a typed text can hold half of a surrogate pair."""
    document = with_texts_around(("字" * 8000,) * 10, ("half \ud800 of a pair",))
    said = said_in(to_video(document, lambda item: drawn(1, (64, 64))))
    assert said[0].startswith("字" * 7000) and said[0].endswith("…") and said[-1] == "half ? of a pair"


def test_a_slide_is_seen_as_long_as_its_text_takes_to_read() -> None:
    av = pytest.importorskip("av")
    from dataclasses import replace

    document, image = made_document(steps=1, size=(16, 16))
    long = replace(
        document, title="", lead="", items=(replace(document.items[0], text="word " * 90), document.items[1])
    )
    with av.open(io.BytesIO(to_video(long, image))) as container:
        assert 450 / 15 - 1 < container.duration / 1e6 < 450 / 15 + 2


def test_a_document_without_pictures_is_no_video() -> None:
    document, image = made_document(steps=0)
    with pytest.raises(RunError, match="no picture"):
        to_video(document, image)


# --- saved runs ----------------------------------------------------------------------------------------------------


class Shapes:
    """Draws; its first attempt at a step is refused by the critic below."""

    name = "shapes"

    def generate(self, request: Any) -> Image.Image:
        return drawn(request.seed % 997, (64, 64))


def saved_run(folder: Path, t_max: int = 1) -> Path:
    plan = Plan((PlanStep(1, "One", None, "a fox", "first"), PlanStep(2, "Two", None, "a hen", "then")), "", "a tale")
    models = LoopModels(Shapes(), None)
    run = RunFolder(folder, "tale")
    session = start_run(plan, models, LoopSettings(t_max=t_max), AttemptStore(folder / "store"), run)
    drive(session, models)
    return run.path


def test_a_saved_run_gives_its_document(tmp_path: Path) -> None:
    folder = saved_run(tmp_path)
    document = read_document(folder)
    assert [(i.kind, i.text) for i in document.items] == [
        ("text", "first"), ("image", "a fox"), ("text", "then"), ("image", "a hen"),
    ]  # fmt: skip
    assert document.title == "a tale" and document.status == "done"


def test_a_run_that_was_killed_gives_what_is_finished(tmp_path: Path) -> None:
    folder = saved_run(tmp_path)
    state = json.loads((folder / "run.json").read_text())
    state["trajectory"] |= {"status": "running", "attempts": [], "results": []}
    del state["digest"]
    (folder / "run.json").write_text(json.dumps(state))
    lines = (folder / "trajectory.jsonl").read_text().splitlines()
    assert len(read_document(folder).images) == 2
    (folder / "trajectory.jsonl").write_text(lines[0] + "\n")
    assert [i.text for i in read_document(folder).items] == ["first", "a fox"]
    (folder / "trajectory.jsonl").write_text("")
    with pytest.raises(RunError, match="No step of run 'tale' is finished"):
        export_run(folder, "html")


@pytest.mark.parametrize(
    "edited",
    [
        {"results": [{"step": 99}]},
        {"results": [{"step": "one"}]},
        {"attempts": ["one"]},
        {"attempts": 1},
        {"plan": {"execution_plan": []}},
        {"plan": None},
    ],
)
def test_a_run_that_somebody_edited_is_refused_by_name(edited: dict[str, Any], tmp_path: Path) -> None:
    folder = saved_run(tmp_path)
    state = json.loads((folder / "run.json").read_text())
    del state["digest"]
    state["trajectory"] |= edited
    (folder / "run.json").write_text(json.dumps(state))
    with pytest.raises(RunError, match="record of run 'tale' cannot be read"):
        read_document(folder)


def test_a_step_that_is_no_number_in_the_trajectory_is_refused(tmp_path: Path) -> None:
    folder = saved_run(tmp_path)
    state = json.loads((folder / "run.json").read_text())
    del state["digest"]
    state["trajectory"] |= {"status": "running"}
    (folder / "run.json").write_text(json.dumps(state))
    lines = [json.loads(line) for line in (folder / "trajectory.jsonl").read_text().splitlines()]
    del lines[0]["digest"]
    lines[0]["step"] = "one"
    (folder / "trajectory.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(RunError, match="record of run 'tale' cannot be read"):
        read_document(folder)


def test_a_workflow_that_is_a_link_out_of_the_run_is_not_passed_on(tmp_path: Path) -> None:
    folder = saved_run(tmp_path)
    (tmp_path / "secret.json").write_text('{"nodes": ["secret"]}')
    (folder / "workflow.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(RunError, match="has no workflow"):
        export_run(folder, "zip", with_graph=True)


@pytest.mark.parametrize("form", FORMATS)
def test_the_command_writes_each_format(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved_run(tmp_path)
    out = tmp_path / f"mine.{form}"
    assert main(["export", str(folder), "--out", str(out), "--layout", "comic", "--title", "My tale"]) == 0
    assert out.stat().st_size > 500 and "Written" in capsys.readouterr().out
    if form == "html":
        assert "My tale" in out.read_text() and 'class="comic"' in out.read_text()
    assert main(["export", str(folder), "--out", str(tmp_path), "--format", form]) == 0
    assert (tmp_path / f"a-tale.{form}").is_file()
    assert main(["export", str(folder), "--out", str(tmp_path / "new"), "--format", form]) == 0
    assert (tmp_path / "new" / f"a-tale.{form}").is_file(), "a name without an ending is a folder's"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "x.pdf"], "does not say the format"),
        (["--out", "x.html", "--format", "zip"], "ends in .html, but --format is zip"),
        (["--out", "x.html", "--language", "plain English"], "language is 'plain English'"),
        (["--out", "x.zip", "--with-workflow"], "has no workflow"),
    ],
)
def test_what_cannot_be_made_is_said(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(folder), *words]) == 1
    assert said in capsys.readouterr().err and not list(tmp_path.glob("x.*"))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run"):
        export_run(tmp_path, "html")


def test_a_lost_picture_is_named_and_nothing_is_shown_in_its_place(tmp_path: Path) -> None:
    folder = saved_run(tmp_path)
    for file in (folder / "attempts").glob("*.png"):
        file.write_bytes(b"damaged")
    with pytest.raises(RunError, match="picture of step 1 is gone"):
        export_run(folder, "html")


# --- titles and languages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "title"),
    [
        ("Draw this in 4 steps: start with a medium crimson disc, then paint it azure.", "Draw this in 4 steps"),
        ("How to fold a paper boat", "How to fold a paper boat"),
        ("<image> Show what happens next. With captions.", "Show what happens next"),
        ("讲一个关于狐狸的故事，她跟着灯光回家。每一步都要有图。", "讲一个关于狐狸的故事，她跟着灯光回家"),
        ("word " * 40, "word " * 12 + "word…"),
        ("", ""),
    ],
)
def test_a_request_gives_a_title_of_a_few_words(request_: str, title: str) -> None:
    assert short_title(request_) == title


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_title_is_one_short_line(request_: str) -> None:
    title = short_title(request_)
    assert len(title) <= 66 and len(title.splitlines()) <= 1


@pytest.mark.parametrize("language", sorted(SAID))
def test_languages_are_told_by_their_texts(language: str) -> None:
    text = SAID[language].format(3)
    assert language_of(text) == language
    assert direction_of(text) == ("rtl" if language == "ar" else "ltr")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Der Fuchs geht über den Fluss und die Laternen sind an", "de"),
        ("Le renard traverse la rivière et les lanternes sont dans la nuit", "fr"),
        ("El zorro cruza el río y las linternas se encienden en la orilla", "es"),
        ("여우가 강을 건넜습니다", "ko"),
        ("Лиса перешла реку", "ru"),
        ("Лисиця перейшла річку і їла", "uk"),
        ("השועל חצה את הנהר", "he"),
        ("123 !!! 🦊", ""),
        ("Xyzzy plugh", ""),
        ("", ""),
    ],
)
def test_a_language_is_guessed_only_where_the_text_tells(text: str, language: str) -> None:
    assert language_of(text) == language


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_language_tag_or_none(text: str) -> None:
    language = language_of(text)
    assert language == "" or is_language(language)
    assert direction_of(text, language) in ("ltr", "rtl")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format is 'pdf'"):
        export_run(tmp_path, "pdf")
