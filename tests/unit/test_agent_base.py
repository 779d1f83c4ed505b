"""What every backend shares: the stream that stops, the pixel budget, and the scripted agent itself."""

from __future__ import annotations

import pytest
from PIL import Image

from interleave_thinker.agents.base import Message, Sampling, TextStream, shrink
from interleave_thinker.agents.scripted import ScriptedAgent

SIZES = [
    ("fits: the very same picture", (10, 10), 100, (10, 10)),
    ("never scaled up", (3, 2), 10_000, (3, 2)),
    ("halved", (200, 100), 5_000, (100, 50)),
    ("a strip stays inside the budget", (100_000, 1), 1_000, (1_000, 1)),
    ("a column too", (1, 100_000), 1_000, (1, 1_000)),
    ("a budget of one pixel", (50, 40), 1, (1, 1)),
]


@pytest.mark.parametrize(("why", "size", "budget", "expected"), SIZES, ids=[c[0] for c in SIZES])
def test_shrink_keeps_to_the_pixel_budget(
    why: str, size: tuple[int, int], budget: int, expected: tuple[int, int]
) -> None:
    image = Image.new("RGB", size)
    small = shrink(image, budget)
    assert small.width * small.height <= max(budget, 1)
    assert abs(small.width - expected[0]) <= 1 and abs(small.height - expected[1]) <= 1
    assert (small is image) == (size == expected)


def test_a_stream_says_how_it_ended() -> None:
    stream = TextStream(lambda text: len(text) < 4)
    assert stream.push("ab") and not stream.push("cd")
    early = stream.completion(cut_off=True)
    assert (early.text, early.finish, early.tokens) == ("abcd", "early", 2)
    assert TextStream(None).completion(cut_off=True).finish == "length"
    assert TextStream(None).completion(cut_off=False).finish == "stop"


def test_the_scripted_agent_replies_in_order_and_repeats_the_last() -> None:
    agent = ScriptedAgent(["one", lambda messages: f"{len(messages)} messages"])
    ask = [Message("user", ("hi",))]
    assert [agent.complete(ask * n, Sampling()).text for n in (1, 2, 3)] == ["one", "2 messages", "3 messages"]
    assert agent.complete(ask, Sampling(max_tokens=1)).finish == "length"


def test_half_a_character_in_a_text_reaches_no_tokenizer() -> None:
    """JSON can hold a lone surrogate; tokenizers and UTF-8 take none."""
    assert Message("user", ("a \ud83d b", "whole \U0001f600")).texts == ("a ? b", "whole \U0001f600")


def test_pictures_of_a_message_in_order() -> None:
    red, blue = Image.new("RGB", (1, 1)), Image.new("RGB", (2, 2))
    assert Message("user", (red, "and", blue)).images == (red, blue)
