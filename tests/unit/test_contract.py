"""The contract between nodes, wrap and the browser: said once, and everybody's copy agrees with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleave_thinker import contract

ROOT = Path(__file__).parents[2]
JAVASCRIPT = sorted((ROOT / "js").glob("*.*js"))


def test_the_browsers_copy_is_the_one_that_python_would_write() -> None:
    path = ROOT / "js" / "contract.mjs"
    assert path.read_text(encoding="utf-8") == contract.javascript(), (
        "run: python -m interleave_thinker.contract js/contract.mjs"
    )


@pytest.mark.parametrize("path", [p for p in JAVASCRIPT if p.name != "contract.mjs"], ids=lambda p: p.name)
def test_javascript_reads_the_contract_and_says_nothing_of_it_again(path: Path) -> None:
    """A second copy would drift: `max_steps` once was 12, 20 and 10."""
    said = path.read_text(encoding="utf-8")
    own = {*contract.NODE_IDS, contract.EVENT_TYPE, contract.PACKAGED_CLIP}
    assert not {value for value in own if f'"{value}"' in said or f"`{value}`" in said}
    assert contract.PLACED_ID not in said and not re.search(r"max_steps: \d", said)


@pytest.mark.parametrize("path", sorted((ROOT / "interleave_thinker").rglob("*.py")), ids=lambda p: p.stem)
def test_python_reads_the_contract_and_says_nothing_of_it_again(path: Path) -> None:
    if path.name == "contract.py":
        return
    said = path.read_text(encoding="utf-8")
    assert not {value for value in contract.NODE_IDS if f'"{value}"' in said}
    assert contract.PLACED_ID not in said


@pytest.mark.parametrize("close_id", ["7", "50:11", "50:11:3"])
@pytest.mark.parametrize("kind", get_args(contract.PlacedKind))
def test_step_and_attempt_are_read_from_the_id_of_a_placed_node(close_id: str, kind: contract.PlacedKind) -> None:
    prefix = contract.placed_prefix(contract.placed_name(close_id), 12, kind, 3)
    assert contract.placed_where(f"{prefix}b16") == (12, 3) and ":" not in prefix
    assert contract.placed_where(close_id) is None


@given(st.text(":%_25A30", min_size=1, max_size=6), st.text(":%_25A30", min_size=1, max_size=6))
def test_two_nodes_never_have_one_name_in_a_copy(one: str, other: str) -> None:
    assert (contract.placed_name(one) == contract.placed_name(other)) == (one == other)
    assert ":" not in contract.placed_name(one)


def test_every_socket_of_loop_open_has_a_number() -> None:
    numbers = [contract.loop_open_output(name) for name in contract.LOOP_OPEN_OUTPUTS]
    assert numbers == list(range(8)), "saved workflows hold the numbers"
