"""The public surface: what people may build on. A name that goes away, or moves unseen, breaks their code."""

from __future__ import annotations

import ast
from pathlib import Path

import interleave_thinker


def test_every_public_name_is_there() -> None:
    assert sorted(interleave_thinker.__all__) == sorted(interleave_thinker._HOME_OF)
    for name in interleave_thinker.__all__:
        assert getattr(interleave_thinker, name).__doc__, f"{name} is public and says nothing of itself"


def test_type_checkers_see_what_is_imported_later() -> None:
    tree = ast.parse(Path(interleave_thinker.__file__).read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen == interleave_thinker._HOME_OF


def test_the_surface_is_what_it_was() -> None:
    """Pinned: adding a name is a decision, taking one away breaks somebody."""
    assert set(interleave_thinker.__all__) == set(
        "Agent AgentError Attempt AttemptStore Completion ConfigError Document GenerationRequest Generator "
        "GeneratorChoice GeneratorError InterleaveError Judgment LoopModels LoopSettings LoopState Message Plan "
        "PlanError PlanStep RunError RunFolder Sampling Score Scorer Session Trajectory advance agent_from begin "
        "PageOptions compose drive judge make_plan page_picture read_judgment read_plan scorer_from start_run to_html to_markdown".split()
    )
