"""What was made of a picture is kept by its content, and not without bound."""

from __future__ import annotations

import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from interleave_thinker.agents import openai_compatible
from interleave_thinker.agents.base import Message
from interleave_thinker.agents.kept_pictures import KeptPatches, KeptPictures, picture_key


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), max_size=60))
def test_the_newest_stay_as_far_as_they_fit(asked: list[tuple[int, int]]) -> None:
    kept: KeptPictures[bytes] = KeptPictures(50, len)
    sizes: dict[int, int] = {}
    recent: list[int] = []
    for key, size in asked:
        size = sizes.setdefault(key, size)
        assert kept.of(key, lambda size=size: bytes(size)) == bytes(size)
        recent = [key, *(k for k in recent if k != key)]
        room, stay = 50, []
        for known in recent:
            if sizes[known] > room:
                break
            room -= sizes[known]
            stay.append(known)
        recent = stay
        assert [k for k in sizes if kept.get(k) is not None] == [k for k in sizes if k in recent]
        for known in reversed(recent):  # looking made them newer, in another order
            kept.get(known)


def test_a_key_is_of_size_and_pixels() -> None:
    a = Image.new("RGB", (4, 6), "red")
    assert picture_key(a) == picture_key(a.copy())
    others = [Image.new("RGB", (6, 4), "red"), Image.new("RGB", (4, 6), "blue"), Image.new("L", (4, 6), 76)]
    assert len({picture_key(image) for image in (a, *others)}) == 4


def test_a_palette_is_part_of_a_picture() -> None:
    red, blue = (Image.new("P", (4, 6), 0) for _ in range(2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert red.tobytes() == blue.tobytes() and picture_key(red) != picture_key(blue)


def test_what_is_larger_than_the_room_pushes_nothing_out() -> None:
    kept: KeptPictures[bytes] = KeptPictures(50, len)
    kept.keep("small", bytes(30))
    kept.keep("large", bytes(51))
    assert kept.get("small") == bytes(30) and kept.get("large") is None


def test_agents_of_one_processor_may_ask_it_at_the_same_time() -> None:
    class Processor:
        image_processor: Any = "its own"

    processor, kept = Processor(), [KeptPatches(1000) for _ in range(4)]

    def use(patches: KeptPatches) -> None:
        for _ in range(50):
            with patches.used_by(processor):
                time.sleep(0.0001)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, kept))
    assert processor.image_processor == "its own"


def test_a_server_is_sent_a_picture_that_was_encoded_once(monkeypatch) -> None:
    encoded: list[tuple[int, int]] = []
    own = openai_compatible._new_data_url
    monkeypatch.setattr(openai_compatible, "_URLS", KeptPictures(2**20, len))
    monkeypatch.setattr(
        openai_compatible, "_new_data_url", lambda image, most: encoded.append(image.size) or own(image, most)
    )
    a, b = Image.effect_noise((40, 30), 50).convert("RGB"), Image.new("RGB", (20, 20), "red")
    for most in (10**6, 10**6, 300):
        sent = openai_compatible._message(Message("user", (a, "then", b.copy())), most)
        data = base64.b64decode(sent["content"][0]["image_url"]["url"].split(",")[1])
        shown = Image.open(io.BytesIO(data))
        assert shown.size == (40, 30) and shown.tobytes() == a.tobytes() if most > 300 else shown.width < 40
    assert encoded == [(40, 30), (20, 20), (40, 30), (20, 20)]
