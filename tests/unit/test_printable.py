"""What others wrote is printed as text: nothing of it reaches the terminal as an order, and nothing is without end."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleave_thinker.printable import printable

SPIKED = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            ["\x1b[31m", "\x1b]0;title\x07", "\x1b[2J", "\x9b1A", "\r", "\n", "\x07", "\u202e", "\u2028", "\x1b"]
        ),
    )
).map("".join)
OBEYED = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@given(SPIKED, st.booleans(), st.one_of(st.none(), st.integers(0, 40)))
def test_no_text_has_the_terminal_do_anything(text: str, lines: bool, longest: int | None) -> None:
    shown = printable(text, lines=lines, longest=longest)
    left = [sign for sign in shown if unicodedata.category(sign) in ("Cc", "Cs") or sign in OBEYED]
    assert set(left) <= ({"\n"} if lines else set())
    assert longest is None or len(shown) <= longest
    assert printable(shown, lines=lines, longest=longest) == shown


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S"]), max_size=60))
def test_what_can_be_read_stays_as_it_is(text: str) -> None:
    """Words of every language, and their marks."""
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://bad\x07here\x1b]8;;\x07", "here"),
        ("one\r\ntwo\tthree", "one two three"),
        ("gpj\u202egnp.exe", "gpjgnp.exe"),
        ("\x1b]0;never ends", "]0;never ends"),
    ],
)
def test_a_sequence_goes_whole_and_a_line_end_becomes_a_space(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_cut_is_shown_and_lines_are_kept_where_they_are_wanted() -> None:
    assert printable("abcdefgh", longest=6) == "abc..." and printable("a\r\nb", lines=True) == "a\nb"
