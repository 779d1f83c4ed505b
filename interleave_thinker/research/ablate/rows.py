"""The rows of the paper's Table 5, and ours beside them, on the tiny world.

Each row names its planner, its critic and its settings. The paper's own numbers are for the comparison of signs. The
module knows nothing of how a model is trained or a row is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import ConfigError
from ..train.rewards import Part, Variant

BASE, ORACLE, NOBODY = "base", "oracle", ""


@dataclass(frozen=True)
class Training:
    """How a model is trained. start: the model that the training starts from. data: the file of its rows.

    reward, without: of GRPO.
    """

    name: str
    start: str
    kind: Literal["sft", "grpo"]
    data: str
    reward: Variant = "ours"
    without: tuple[Part, ...] = ()


TRAININGS = (
    Training("planner-sft", BASE, "sft", "planner_sft.jsonl"),
    Training("critic-sft", BASE, "sft", "critic_sft.jsonl"),
    Training("critic-unfiltered", BASE, "sft", "unfiltered_sft.jsonl"),
    Training("one-agent", BASE, "sft", "both_sft.jsonl"),
    Training("critic-rl", "critic-sft", "grpo", "critic_rl.jsonl"),
    Training("critic-rl-no-step", "critic-sft", "grpo", "critic_rl.jsonl", without=("step",)),
    Training("critic-rl-no-accuracy", "critic-sft", "grpo", "critic_rl.jsonl", without=("accuracy",)),
    Training("critic-rl-paper", "critic-sft", "grpo", "critic_rl.jsonl", reward="paper"),
    Training("critic-rl-code", "critic-sft", "grpo", "critic_rl.jsonl", reward="code"),
)


@dataclass(frozen=True)
class Row:
    """A row, with T_max 3 unless it is about T_max.

    planner, critic: names of trainings, BASE, ORACLE, or NOBODY. filter_only: the critic judges, but its prompt is
    not used: a retry differs by its seed alone. paper: the row's average in Table 5 (UEval, klein), where it has one;
    there all rows but those about T_max have T_max 5, so "GRPO, full" is that table's row of T_max 3.
    """

    name: str
    planner: str
    critic: str
    t_max: int = 3
    filter_only: bool = False
    paper: float | None = None


ROWS = (
    Row("raw generator", NOBODY, NOBODY, 1, paper=18.2),
    Row("zero-shot agents", BASE, BASE, paper=48.1),
    Row("+ planner SFT", "planner-sft", BASE, paper=60.5),
    Row("+ planner and critic SFT", "planner-sft", "critic-sft", paper=64.5),
    Row("GRPO without step reward", "planner-sft", "critic-rl-no-step", paper=65.2),
    Row("GRPO without accuracy reward", "planner-sft", "critic-rl-no-accuracy", paper=65.1),
    Row("GRPO, full", "planner-sft", "critic-rl", paper=65.3),
    Row("one agent for both", "one-agent", "one-agent", paper=54.5),
    Row("critic on unfiltered data", "planner-sft", "critic-unfiltered", paper=62.8),
    Row("full, T_max 1", "planner-sft", "critic-rl", 1, paper=60.2),
    Row("full, T_max 5", "planner-sft", "critic-rl", 5, paper=66.3),
    Row("critic as a filter only", "planner-sft", "critic-rl", filter_only=True),
    Row("oracle agents", ORACLE, ORACLE, paper=77.4),
    Row("GRPO, paper's reward", "planner-sft", "critic-rl-paper"),
    Row("GRPO, released reward", "planner-sft", "critic-rl-code"),
    Row("SFT critic on right plans", ORACLE, "critic-sft"),
    Row("GRPO critic on right plans", ORACLE, "critic-rl"),
    Row("GRPO without step reward, right plans", ORACLE, "critic-rl-no-step"),
    Row("GRPO without accuracy reward, right plans", ORACLE, "critic-rl-no-accuracy"),
    Row("critic on unfiltered data, right plans", ORACLE, "critic-unfiltered"),
    Row("one agent for both as critic, right plans", ORACLE, "one-agent"),
)


@dataclass(frozen=True)
class Comparison:
    """A claim of the paper: `better` is higher than `worse`. Reproduced is the sign of the difference.

    paper: the difference in Table 5, with its own T_max on both sides; None where the paper has no such row.
    """

    better: str
    worse: str
    claim: str
    paper: float | None = None


COMPARISONS = (
    Comparison("zero-shot agents", "raw generator", "untrained agents beat the bare generator", 29.9),
    Comparison("+ planner SFT", "zero-shot agents", "planner SFT helps", 12.4),
    Comparison("+ planner and critic SFT", "+ planner SFT", "critic SFT helps", 4.0),
    Comparison("GRPO, full", "+ planner and critic SFT", "GRPO helps further", 1.8),
    Comparison("GRPO, full", "GRPO without step reward", "the step reward helps", 1.1),
    Comparison("GRPO, full", "GRPO without accuracy reward", "the accuracy reward helps", 1.2),
    Comparison("GRPO, full", "one agent for both", "two agents beat one", 11.8),
    Comparison("+ planner and critic SFT", "critic on unfiltered data", "filtering helps", 1.7),
    Comparison("GRPO, full", "full, T_max 1", "three attempts beat one", 5.1),
    Comparison("full, T_max 5", "GRPO, full", "five attempts beat three", 1.0),
    Comparison("oracle agents", "GRPO, full", "there is room above", 11.1),
    Comparison("GRPO, full", "critic as a filter only", "refinement beats luck (not in the paper)"),
    Comparison("GRPO critic on right plans", "SFT critic on right plans", "GRPO helps the critic (not in the paper)"),
    Comparison(
        "GRPO critic on right plans",
        "GRPO without step reward, right plans",
        "the step reward helps the critic (not in the paper)",
    ),
    Comparison(
        "GRPO critic on right plans",
        "GRPO without accuracy reward, right plans",
        "the accuracy reward helps the critic (not in the paper)",
    ),
    Comparison(
        "GRPO without step reward, right plans",
        "SFT critic on right plans",
        "the accuracy reward alone helps the critic (not in the paper)",
    ),
    Comparison(
        "GRPO without accuracy reward, right plans",
        "SFT critic on right plans",
        "the step reward alone helps the critic (not in the paper)",
    ),
    Comparison(
        "SFT critic on right plans",
        "critic on unfiltered data, right plans",
        "filtering helps the critic (not in the paper)",
    ),
    Comparison(
        "SFT critic on right plans",
        "one agent for both as critic, right plans",
        "a critic of its own beats one agent (not in the paper)",
    ),
)


def chosen(names: str | None) -> tuple[Row, ...]:
    """The rows that are named, separated by semicolons; all without names.

    Raises:
        ConfigError: there is no such row.
    """
    if not names:
        return ROWS
    known = {row.name: row for row in ROWS}
    wanted = [n.strip() for n in names.split(";") if n.strip()]
    unknown = [n for n in wanted if n not in known]
    if unknown:
        raise ConfigError(f"There is no row {unknown[0]!r}; known are {'; '.join(known)}.")
    return tuple(known[n] for n in wanted)


def trainings_for(rows: tuple[Row, ...]) -> tuple[Training, ...]:
    """The trainings that these rows need; each comes after the one that it starts from."""
    wanted = {name for row in rows for name in (row.planner, row.critic)}
    wanted |= {t.start for t in TRAININGS if t.name in wanted}
    return tuple(t for t in TRAININGS if t.name in wanted)
