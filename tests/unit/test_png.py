"""The quick PNG writer loses nothing and writes what every reader reads."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from interleave_thinker.png import encode_png


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
