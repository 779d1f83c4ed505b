"""The quick PNG writer loses nothing and writes what every reader reads."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from interleave_thinker.storage.png import decode_png, encode_png


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 5), (64, 64), (333, 17), (400, 700)])
def test_pixels_come_back_exactly(size):
    """The last size is of several bands."""
    pixels = random.Random(1).randbytes(size[0] * size[1] * 3)
    image = Image.frombytes("RGB", size, pixels)
    with Image.open(io.BytesIO(encode_png(image))) as read:
        read.verify()
    with Image.open(io.BytesIO(encode_png(image))) as read:
        assert read.mode == "RGB"
        assert read.size == size
        assert read.tobytes() == pixels


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="RGBA"):
        encode_png(Image.new("RGBA", (2, 2)))


NOISE = Image.frombytes("RGB", (40, 30), random.Random(2).randbytes(3600))


def saved(image: Image.Image, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", **options)
    return data.getvalue()


def test_a_picture_of_ours_is_read_whatever_its_size(monkeypatch):
    """Pillow's limit is one number for all threads; it stays as it is."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encode_png(NOISE)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert decode_png(io.BytesIO(data)).tobytes() == NOISE.tobytes()
    assert Image.MAX_IMAGE_PIXELS == 100


def test_what_pillow_wrote_is_read_too_and_nothing_but_pixels():
    read = decode_png(io.BytesIO(saved(NOISE, transparency=(1, 2, 3))))
    assert (read.mode, read.tobytes(), read.info) == ("RGB", NOISE.tobytes(), {})


GOOD = encode_png(NOISE)
OTHER = {
    "empty": b"",
    "text": b"hello" * 20,
    "a JPEG's start": b"\xff\xd8" + GOOD[2:],
    "grey": saved(NOISE.convert("L")),
    "with alpha": saved(NOISE.convert("RGBA")),
    "with a palette": saved(NOISE.convert("P")),
    "16 bit": saved(Image.new("I;16", (4, 4))),
    "cut off": GOOD[:-1],
    "without its end": GOOD[:-12],
    "followed by something": GOOD + b"x",
    "a terapixel": GOOD[:16] + b"\x7f\xff\xff\xff" * 2 + GOOD[24:],
    "many pixels in few bytes": GOOD[:16] + b"\0\0\x7f\xff" * 2 + GOOD[24:],
    "few pixels in many bytes": saved(Image.new("RGB", (1, 1)))[:33] + bytes(2**21),
}


@pytest.mark.parametrize("data", OTHER.values(), ids=OTHER.keys())
def test_other_files_are_refused(data):
    with pytest.raises(ValueError):
        decode_png(io.BytesIO(data))


def test_a_flipped_bit_is_never_another_picture():
    for at in range(len(GOOD) * 8):
        if at % 7 == 0:
            data = bytearray(GOOD)
            data[at // 8] ^= 1 << at % 8
            with pytest.raises(ValueError):
                decode_png(io.BytesIO(data))
