"""Published tables: their category numbers, put through our arithmetic, give their printed totals, row by row.

Rows that upstream itself prints differently stand in PRINTED_OTHERWISE with our value, so that a change
of either side is noticed.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from interleave_thinker.research.bench import rise_scores as rise
from interleave_thinker.research.bench import viescore, wise
from interleave_thinker.research.bench.totals import published, published_table, totals

PRINTED_OTHERWISE = {
    ("wise-verified", "DeepGen 1.0"): 0.5672,  # entered with two decimals
    ("wise-legacy", "BAGEL"): 0.501,
    ("wise-legacy", "OpenUni-B-512"): 0.4195,
    ("wise-legacy", "Qwen-Image"): 0.6276,
    ("paper-wise", "Qwen-Image"): 0.6276,
    ("paper-wise", "Hunyuan-Image-3.0"): 0.6006,
    ("ueval", "GPT-5-Thinking"): 66.4625,
    ("paper-ueval", "GPT-5-Thinking"): 66.4625,
    ("paper-ueval", "InterleaveThinker+FLUX.2-klein-9B"): 64.6625,  # prints the pooled average, 66.3
    ("paper-ueval", "InterleaveThinker+Qwen-Image-Edit"): 65.625,  # prints the pooled average, 67.2
    ("paper-ueval-ablation", "+ Planner-SFT"): 60.15,
    ("rise", "EMU2"): 0.5556,
    ("rise-before", "EMU2"): 0.5556,
}
HALF_A_UNIT = {
    "wise-verified": 0.00005,
    "wise-legacy": 0.005,
    "paper-wise": 0.005,
    "ueval": 0.05,
    "paper-ueval": 0.05,
    "paper-ueval-ablation": 0.05,
    "rise": 0.05,
    "rise-before": 0.05,
    "paper-rise": 0.05,
    "viescore-tasks-sc": 0.0001,  # the correlations themselves are rounded, too
    "viescore-tasks-sc-split": 0.0001,
}
COMPLETE = [
    (name, row)
    for name in HALF_A_UNIT
    for row in published_table(name)["rows"]
    if all(row[c] is not None for c in published_table(name)["columns"])
]


def total(name: str, row: dict[str, Any]) -> float:
    table = published_table(name)
    protocol = table.get("convention") if table["bench"] == "wise" else None
    (found,) = totals(table["bench"], [row], protocol)
    (value,) = found["computed"].values()
    assert found["printed"] == row[table["total"]]
    return value


@pytest.mark.parametrize(("name", "row"), COMPLETE, ids=[f"{n}-{r['system']}" for n, r in COMPLETE])
def test_a_row_gives_its_total(name: str, row: dict[str, Any]) -> None:
    computed, printed = total(name, row), row[published_table(name)["total"]]
    ours = PRINTED_OTHERWISE.get((name, row["system"]))
    slack = HALF_A_UNIT[name] * 1.02  # printed numbers are rounded in binary too
    if ours is None:
        assert computed == pytest.approx(printed, abs=slack)
    else:
        assert abs(computed - printed) > slack, "upstream prints it right; take it off the list"
        assert computed == pytest.approx(ours, abs=0.0006)


def test_every_table_is_covered_and_names_its_source() -> None:
    assert len(COMPLETE) > 150
    for table in published():
        assert table["source"] and table["rows"] and set(table["columns"]) <= set(table["rows"][0])
        assert "total" not in table or table["id"] in HALF_A_UNIT


@pytest.mark.parametrize("name", ["rise-bagel", "rise-bagel-cot"])
@pytest.mark.parametrize("column", ["score_origin", "score_percentage", "accuracy"])
def test_bagels_subtask_rows_give_its_category_overall_and_dimension_rows(name: str, column: str) -> None:
    rows = {r["system"]: r[column] for r in published_table(name)["rows"] if r[column] is not None}
    computed = rise.table_from_subtasks(rows)
    wanted = ["Temporal", "Causal", "Spatial", "Logical", "Overall"]
    if column != "accuracy":
        wanted += ["Overall_Reasoning", "Overall_ApprConsistency", "Overall_VisualPlausibility_total"]
    assert sorted(computed) == sorted(wanted)
    for row in wanted:
        assert computed[row] == pytest.approx(rows[row], abs=1e-4 if column == "score_percentage" else 2e-6), row


def test_bagels_percentages_are_those_of_its_scores() -> None:
    for row in published_table("rise-bagel")["rows"]:
        assert rise.percent(row["score_origin"]) == pytest.approx(row["score_percentage"], abs=3e-5)


def test_bagels_scores_prove_that_upstreams_code_never_counts_consistency() -> None:
    """With 0.3, 0.5 and 0.2 the sums of a subtask would be any multiple of 0.1; all are multiples of 0.2."""
    for name in ("rise-bagel", "rise-bagel-cot"):
        rows = {r["system"]: r["score_origin"] for r in published_table(name)["rows"]}
        for category in ("temporal", "causal", "spatial"):
            for subtask, count in zip(rise.SUBTASKS[category], rise.SUBTASK_COUNTS[category], strict=True):
                whole = rows[f"{rise.PREFIX[category]}-{subtask}"] * count
                assert whole / 0.2 == pytest.approx(round(whole / 0.2), abs=1e-3)


def test_subtasks_add_up_to_the_full_set() -> None:
    assert {c: sum(n) for c, n in rise.SUBTASK_COUNTS.items()} == rise.COUNTS
    assert sum(rise.COUNTS.values()) == 360
    assert sum(rise.DIMENSION_COUNTS["Consistency"]) == 353 and sum(rise.DIMENSION_COUNTS["Quality"]) == 275


@pytest.mark.parametrize("column", ["sc", "pq", "o"])
def test_viescores_correlations_average_to_its_printed_ones(column: str) -> None:
    """Per task over systems, then over tasks; printed correlations have four decimals."""
    printed = {r["system"]: r[column] for r in published_table("viescore-rho-tasks")["rows"]}
    found = {
        r["system"].removesuffix(f" {column}"): r["computed"]["tanh(mean rho)"]
        for r in totals("viescore", published_table("viescore-rho")["rows"])
        if r["system"].endswith(f" {column}")
    }
    assert found.pop("over 7 tasks") == pytest.approx(printed.pop("FINAL (7 tasks)"), abs=1.1e-4)
    assert sorted(found) == sorted(printed)
    for task, value in printed.items():
        assert found[task] == pytest.approx(value, abs=0.00006), task


def test_the_human_raters_row_is_the_average_of_the_human_correlations() -> None:
    rows = published_table("viescore-human-rho")["rows"]
    raters = next(r for r in published_table("viescore-tasks-sc")["rows"] if r["system"].startswith("Human"))
    for task in ("Text-Guided_IG", "Mask-Guided_IE", "Subject-Driven_IE", "Multi-Concept_IC"):
        found = viescore.fisher_average([r["sc"] for r in rows if r["task"] == f"ImagenHub_{task}"])
        assert found == pytest.approx(raters[task.lower().replace("-", "_")], abs=0.00006)


def test_viescores_means_are_possible_and_o_lies_below_both() -> None:
    """sqrt is concave: the mean of O cannot exceed sqrt(mean SC * mean PQ)."""
    for row in published_table("viescore-means")["rows"]:
        assert row["o_mean"] <= math.sqrt(row["sc_mean"] * row["pq_mean"]) + 1e-4


def test_comms_printed_8_6_is_the_mean_of_kleins_six_columns() -> None:
    row = next(r for r in published_table("paper-comm-task3")["rows"] if "klein" in r["system"])
    assert totals("comm", [row])[0]["computed"]["mean of six"] == pytest.approx(8.6)


def test_verified_totals_equal_the_share_of_right_pictures() -> None:
    """Where the categories print enough decimals to count them: 400 culture prompts and 120 of each other."""
    for row in published_table("wise-verified")["rows"]:
        parts = {c: row[c] for c in published_table("wise-verified")["columns"] if c != "overall"}
        if row["system"] == "DeepGen 1.0":
            continue  # entered with two decimals
        right = sum(round(v * (400 if c == "culture" else 120)) for c, v in parts.items())
        assert wise.overall(parts, "verified") == pytest.approx(right / 1000, abs=6e-5)


def test_a_row_with_a_gap_has_no_total() -> None:
    """A total of what is there would look like a total of all."""
    assert wise.overall({"culture": 0.5, "time": 0.5}, "legacy") is None
    assert rise.overall_accuracy({"temporal": 1.0}) is None
    (row,) = totals("ueval", [{"system": "x", "space": 50.0, "average": 50.0}])
    assert row["computed"] == {"task average": None}
