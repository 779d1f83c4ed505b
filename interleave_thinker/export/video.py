"""A slideshow as a video (.mp4): a picture after the other, the texts as subtitles, by PyAV."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from PIL import Image

from ..errors import ConfigError, RunError
from ..loop.document import Document, DocumentItem, one_line
from .page import sections_of
from .pictures import SMALL

WIDTH, HEIGHT = 1280, 720
RATE = 10
"""Frames a second."""
FADE = 0.5
SHORTEST, LONGEST, READ_A_SECOND = 3.0, 40.0, 15
"""Seconds of a picture; characters that are read in one."""
LONGEST_TEXT = 8_000
"""Characters of a subtitle; the format counts its bytes in 16 bits."""
SUBTITLE_CODEC = "mov_text"
_STYLES = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""What FFmpeg's encoder of subtitles wants to know before the first one; players choose the look."""

_MARKUP = str.maketrans("{}\\", "()/")


@dataclass(frozen=True)
class Slide:
    """seconds: how long it is seen, the change to the next one within."""

    frame: Image.Image
    text: str
    seconds: float


def to_video(document: Document, image: Callable[[DocumentItem], Image.Image]) -> bytes:
    """A whole .mp4 file: H.264, 1280 x 720, texts as a track of subtitles.

    Raises:
        ConfigError: PyAV is not installed, older than 16.1, or without an H.264 encoder.
        RunError: the document has no picture, or one is gone.
    """
    try:
        import av
    except ImportError:
        raise ConfigError("A slideshow needs PyAV: install it with `pip install av`.") from None
    slides = list(_slides(document, image))
    if not slides:
        raise RunError("The document has no picture, so there is nothing to show.")
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            _encode(container, slides)
    except (av.error.FFmpegError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"PyAV {av.__version__} cannot write the slideshow ({error}). It takes 16.1 or newer, with H.264."
        ) from error
    return buffer.getvalue()


def _slides(document: Document, image: Callable[[DocumentItem], Image.Image]) -> Iterator[Slide]:
    """Texts without a picture are said with the next one, those at the end with the last one once more."""
    texts, frame = [_sentence(one_line(document.title)), one_line(document.lead)], None
    for step in sections_of(document):
        texts.append(one_line(step.text))
        if step.picture is not None:
            frame = _fitted(image(step.picture))
            yield _slide(frame, texts)
            texts = []
    if frame is not None and any(texts):
        yield _slide(frame, texts)


def _sentence(title: str) -> str:
    """A title that is read on into the text behind it."""
    return title if not title or title[-1] in ".!?…。！？" else f"{title}."


def _slide(frame: Image.Image, texts: Iterable[str]) -> Slide:
    text = " ".join(filter(None, texts))
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    return Slide(frame, text, min(LONGEST, max(SHORTEST, len(text) / READ_A_SECOND)))


def _fitted(picture: Image.Image) -> Image.Image:
    """In the middle of a black frame."""
    scale = min(WIDTH / picture.width, HEIGHT / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    method = Image.Resampling.NEAREST if max(picture.size) <= SMALL else Image.Resampling.LANCZOS
    frame = Image.new("RGB", (WIDTH, HEIGHT), "black")
    frame.paste(picture.convert("RGB").resize(size, method), ((WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2))
    return frame


def _encode(container: Any, slides: list[Slide]) -> None:
    from av import VideoFrame

    stream = container.add_stream("libx264", rate=RATE)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.options = {"tune": "stillimage", "crf": "20"}
    words = container.add_stream(SUBTITLE_CODEC)
    words.codec_context.subtitle_header = _STYLES
    words.time_base = Fraction(1, 1000)
    for frame in _frames(slides):
        container.mux(stream.encode(VideoFrame.from_image(frame)))  # type: ignore[no-untyped-call]
    container.mux(stream.encode())
    start = 0.0
    for slide in slides:
        if slide.text:
            container.mux(_spoken(words, slide, start))
        start += slide.seconds


def _spoken(words: Any, slide: Slide, start: float) -> Any:
    from av.subtitles.subtitle import SubtitleSet

    said = slide.text.translate(_MARKUP)
    line = f"0,0,Default,,0,0,0,,{said}".encode("utf-8", "replace")
    packet = words.codec_context.encode_subtitle(
        SubtitleSet.create(text=line, start=0, end=int(slide.seconds * 1000), pts=int(start * 1_000_000))
    )
    packet.stream = words
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = int(start * 1000)
    packet.duration = int(slide.seconds * 1000)
    return packet


def _frames(slides: list[Slide]) -> Iterable[Image.Image]:
    """Each slide for its time, the last half second of it turning into the next one."""
    for slide, following in zip(slides, [*slides[1:], None], strict=True):
        count, fading = round(slide.seconds * RATE), round(FADE * RATE) if following else 0
        for _ in range(count - fading):
            yield slide.frame
        for i in range(1, fading + 1):
            assert following is not None
            yield Image.blend(slide.frame, following.frame, i / (fading + 1))
