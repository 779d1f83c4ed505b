"""Official score files, ours and upstream's, into figures: the same arithmetic, and every failure counted."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from interleave_thinker.cli import main
from interleave_thinker.research.bench.base import BenchError
from interleave_thinker.research.bench.comm import CoMM
from interleave_thinker.research.bench.metric import Metric, difference, equal_weights, figure
from interleave_thinker.research.bench.rise import Rise
from interleave_thinker.research.bench.rise_scores import Marks
from interleave_thinker.research.bench.ueval import TASKS, UEval
from interleave_thinker.research.bench.viescore import VIEScore, correlation
from interleave_thinker.research.bench.wise import CATEGORIES, Wise, category_of, overall


def named(metrics: list[Metric]) -> dict[str, Metric]:
    return {m.name: m for m in metrics}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


# Metrics


def test_a_weighted_figure_is_the_weighted_mean_of_groups_and_lies_in_its_interval() -> None:
    values = {f"a{n}": n % 2 for n in range(40)} | {f"b{n}": 1.0 for n in range(10)}
    metric = Metric("m", values, 60, {i: i[0] for i in values}, {"a": 0.25, "b": 0.75})
    found = figure(metric)
    assert found.value == pytest.approx(0.25 * 0.5 + 0.75)
    assert metric.failed == 10 and found.items == 50
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        drawn = rng.normal(5.0, 2.0, 60)
        found = figure(Metric("m", {str(i): float(v) for i, v in enumerate(drawn)}, 60))
        hits += found.low is not None and found.high is not None and found.low <= 5.0 <= found.high
    assert 0.88 <= hits / 200 <= 1.0


def test_a_paired_difference_is_narrower_than_the_systems_apart() -> None:
    """Items differ much, systems little: that is why the same items are compared."""
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 10, 100)
    a = Metric("m", {str(i): float(h + 1 + rng.normal(0, 0.1)) for i, h in enumerate(hard)}, 100)
    b = Metric("m", {str(i): float(h) for i, h in enumerate(hard)} | {"only here": 1e6}, 101)
    apart = difference(a, b)
    assert apart.value == pytest.approx(1.0, abs=0.1) and apart.items == 100
    assert apart.low is not None and apart.low > 0.9
    assert figure(a).low < figure(b).value  # type: ignore[operator]


def test_an_empty_group_leaves_no_total_and_a_single_item_no_interval() -> None:
    assert figure(Metric("m", {"a": 1.0}, 2, {"a": "x"}, equal_weights(["x", "y"]))).value is None
    alone = figure(Metric("m", {"a": 1.0}, 1))
    assert (alone.value, alone.low) == (1.0, None)
    assert figure(Metric("m", {}, 5)).value is None


# UEval


def ueval_record(item: str, text: tuple[int, int] | None, image: tuple[int, int] | None, **more: Any) -> dict[str, Any]:
    def score(of: tuple[int, int] | None) -> dict[str, Any]:
        met, total = of or (0, 0)
        return {"met": met, "total": total, "rate": met / total if total else None}

    return {"id": item, "text_score": score(text), "image_score": score(image), **more}


def test_ueval_has_both_totals(tmp_path: Path) -> None:
    records = [ueval_record(f"{task}_{n}", (n, 4), (1, 2)) for n, task in enumerate(TASKS) if n < 5]
    records += [ueval_record(f"{t}_9", (1, 1), (0, 3)) for t in TASKS[5:]]
    path = write(tmp_path / "results.json", {"items": records, "summary": {}})
    found = named(UEval().aggregate([path]))
    texts = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    images = [0.5] * 5 + [0.0] * 3
    assert figure(found["text"]).value == pytest.approx(statistics.mean(texts))
    assert figure(found["pooled average"]).value == pytest.approx(
        (statistics.mean(texts) + statistics.mean(images)) / 2
    )
    items = [(t + i) / 2 for t, i in zip(texts, images, strict=True)]
    assert figure(found["task average"]).value == pytest.approx(statistics.mean(items))


def test_ueval_takes_tasks_from_the_data_where_upstreams_result_has_none(tmp_path: Path) -> None:
    records = [ueval_record(str(n), (n % 3, 2), (1, 2)) for n in range(16)]
    data = [{"id": n, "prompt": "?", "task_type": TASKS[n % 8]} for n in range(16)]
    path = write(tmp_path / "r.json", {"items": records})
    assert "task average" not in named(UEval().aggregate([path]))
    found = named(UEval(write(tmp_path / "data.json", data)).aggregate([path]))
    assert figure(found["task average"]).value is not None


def test_ueval_leaves_an_absent_modality_out_of_its_mean(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"items": [ueval_record("1", (1, 1), None), ueval_record("2", (0, 1), (1, 1))]})
    found = named(UEval().aggregate([path]))
    assert figure(found["image"]).value == 1.0 and found["image"].expected == 1
    assert figure(found["pooled average"]).value == pytest.approx((0.5 + 1.0) / 2)
    assert figure(found["items"]).value == pytest.approx((1.0 + 0.5) / 2)


def test_ueval_counts_an_item_whose_criteria_all_failed(tmp_path: Path) -> None:
    lost = ueval_record("2", None, (1, 1)) | {"text_score": {"met": 0, "total": 0, "rate": None, "failed": 3}}
    path = write(tmp_path / "r.json", {"items": [ueval_record("1", (1, 2), (1, 1)), lost]})
    found = named(UEval().aggregate([path]))
    assert found["text"].failed == 1 and figure(found["text"]).value == 0.5
    assert found["items"].failed == 1, "an item is not scored by half of what was asked"


@pytest.mark.parametrize("content", ["[]", "{}", '{"items": [1]}', "nonsense", '{"items": [{"id": 1}]}'])
def test_ueval_refuses_what_is_no_result_file(tmp_path: Path, content: str) -> None:
    with pytest.raises(BenchError, match=r"r\.json"):
        UEval().aggregate([write(tmp_path / "r.json", content)])


# WISE


def wise_lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(r) for r in rows)


def test_wise_legacy_is_the_weighted_mean_of_wiscores(tmp_path: Path) -> None:
    rows = [
        {"prompt_id": i, "Subcategory": "x", "consistency": i % 3, "realism": (i // 3) % 3, "aesthetic_quality": 1}
        for i in range(1, 1001)
    ]
    path = write(tmp_path / "scores.jsonl", wise_lines(rows))
    found = named(Wise().aggregate([path]))
    by_category: dict[str, list[float]] = {}
    for r in rows:
        value = (0.7 * r["consistency"] + 0.2 * r["realism"] + 0.1) / 2
        by_category.setdefault(category_of(r["prompt_id"], "legacy"), []).append(value)
    assert {c: len(v) for c, v in by_category.items()} == dict(
        zip(CATEGORIES, (400, 167, 133, 100, 100, 100), strict=True)
    )
    means = {c: statistics.mean(v) for c, v in by_category.items()}
    assert figure(found["overall"]).value == pytest.approx(overall(means, "legacy"))
    assert found["overall"].failed == 0


def test_wise_verified_is_the_share_of_right_pictures(tmp_path: Path) -> None:
    rows = [{"prompt_id": i, "Subcategory": "x", "score": float(i % 7 == 0)} for i in range(1, 1001)]
    found = named(Wise().aggregate([write(tmp_path / "s.jsonl", wise_lines(rows))]))
    assert figure(found["overall"]).value == pytest.approx(len(range(7, 1001, 7)) / 1000)


def test_wise_counts_upstreams_999_and_missing_prompts_as_failed(tmp_path: Path) -> None:
    rows = [
        {"prompt_id": i, "consistency": 2.0, "realism": 2.0, "aesthetic_quality": 2.0} for i in range(1, 1001) if i % 10
    ]
    rows[3] |= {"consistency": 999, "realism": 999, "aesthetic_quality": 999}
    rows[4] |= {"realism": 9}
    found = named(Wise().aggregate([write(tmp_path / "s.jsonl", wise_lines(rows))]))
    assert figure(found["overall"]).value == pytest.approx(1.0)
    assert found["overall"].failed == 100 + 2


def test_wise_refuses_mixed_protocols_and_files_without_marks(tmp_path: Path) -> None:
    mixed = [{"prompt_id": 1, "score": 1}, {"prompt_id": 2, "consistency": 1, "realism": 1, "aesthetic_quality": 1}]
    with pytest.raises(BenchError, match="mix"):
        Wise().aggregate([write(tmp_path / "a.jsonl", wise_lines(mixed))])
    with pytest.raises(BenchError, match="prompt_id"):
        Wise().aggregate([write(tmp_path / "b.jsonl", '{"id": 1, "score": 1}')])
    with pytest.raises(BenchError, match="consistency"):
        Wise().aggregate([write(tmp_path / "c.jsonl", '{"prompt_id": 1}')])


# RISE


def test_rise_scores_a_row_both_ways() -> None:
    plain = Marks("temporal", 3, 4, 5)
    assert plain.score() == pytest.approx(0.3 * 3 + 0.5 * 4 + 0.2 * 5)
    assert plain.score(upstream=True) == pytest.approx(0.8 * 4 + 0.2 * 5)
    assert Marks("causal", None, 4, 5, consistency_free=True).score() == pytest.approx(0.8 * 4 + 0.2 * 5)
    assert Marks("logical", 5, 1).score() == pytest.approx(max(1.0, (0.3 * 5 + 0.7) / 2))
    assert Marks("spatial", 5, 1, 5).score() == pytest.approx((0.3 * 5 + 0.5 + 0.2 * 5) / 2)
    assert Marks("temporal", 1, 1, 1).score() == 1.0


def judged(*marks: int | None) -> dict[str, Any]:
    return {f"judge{n}": None if m is None else f"**Final Score:** **{m}**" for n, m in enumerate(marks, 1)}


def test_rise_reads_upstreams_pickle_as_json(tmp_path: Path) -> None:
    rows = {
        "temporal_reasoning_1": judged(5, 5, 5),
        "temporal_reasoning_2": judged(None, 5, 5),  # free of the consistency mark
        "causal_reasoning_1": judged(5, 4, 5),
        "spatial_reasoning_1": judged(5, 5, 5) | {"judge2": "Failed to obtain answer via API. "},
        "logical_reasoning_1": judged(1, 1),
        "logical_reasoning_2": judged(1, 0),
    }
    found = named(Rise().aggregate([write(tmp_path / "m.json", rows)]))
    assert figure(found["accuracy"]).value == pytest.approx(3 / 5) and found["accuracy"].failed == 1
    assert figure(found["accuracy, failed as wrong"]).value == pytest.approx(3 / 6)
    assert figure(found["accuracy before 2026-04-13"]).value == pytest.approx(2 / 6)
    assert found["consistency"].expected == 5 and found["plausibility"].expected == 4
    whole = [5.0, 5.0, 0.3 * 5 + 0.5 * 4 + 0.2 * 5, 5.0, max(1.0, (0.3 * 5 + 0.7) / 2)]
    assert figure(found["score"]).value == pytest.approx(statistics.mean(25 * (s - 1) for s in whole))


@pytest.mark.parametrize("form", ["records", "columns", "csv"])
def test_rise_reads_upstreams_per_item_table(tmp_path: Path, form: str) -> None:
    nan = math.nan
    rows = [
        ("temporal_reasoning_1", "temporal_reasoning", "Life Progression", 5.0, 5.0, 5.0),
        ("causal_reasoning_1", "causal_reasoning", "State Transition", 5.0, nan, 5.0),
        ("causal_reasoning_2", "causal_reasoning", "State Transition", nan, nan, nan),
        ("logical_reasoning_1", "logical_reasoning", "Puzzle Solving", 1.0, 5.0, nan),
    ]
    names = ("index", "category", "subtask", "Reasoning", "ApprConsistency", "VisualPlausibility")
    records = [dict(zip(names, r, strict=True)) for r in rows]
    path = tmp_path / ("t.csv" if form == "csv" else "t.json")
    if form == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({k: "" if v != v else v for k, v in r.items()} for r in records)
    elif form == "records":
        write(path, records)
    else:
        write(path, {n: {str(i): r[n] for i, r in enumerate(records)} for n in names})
    found = named(Rise().aggregate([path]))
    assert figure(found["accuracy"]).value == pytest.approx(2 / 3) and found["accuracy"].failed == 1
    assert "accuracy by subtask" in found


def test_rise_never_opens_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(BenchError, match="run code"):
        Rise().aggregate([tmp_path / "m.pkl"])


# CoMM


def comm_sample(folder: Path, name: str, results: Any, file: str = "evaluation_results.json") -> None:
    write(folder / name / file, results)


def comm_results(mark: Any) -> dict[str, Any]:
    names = ("style_consistency", "entity_consistency", "trend_consistency", "overall_consistency")
    return {
        "coherence_score": dict.fromkeys(names, mark),
        "completeness": {"Score": mark, "Justification": "x"},
        "Image_Quality": {"Score": mark},
        "text fidelity to images": {"Score": mark},
    }


def test_comm_counts_a_sample_that_failed(tmp_path: Path) -> None:
    comm_sample(tmp_path, "a_task3", comm_results(8))
    comm_sample(tmp_path, "b_task3", comm_results(6) | {"completeness": {"Score": "NA"}})
    comm_sample(tmp_path, "c_task3", {"coherence_score": {}})
    (tmp_path / "d_task3").mkdir()  # judged never
    comm_sample(tmp_path, "e_task4", comm_results(9))
    found = named(CoMM().aggregate([tmp_path]))
    assert figure(found["task3 completeness (Comp)"]).value == 8.0 and found["task3 completeness (Comp)"].failed == 3
    assert figure(found["task3 style_consistency (Sty)"]).value == 7.0
    assert figure(found["task4 text fidelity to images (IRS)"]).value == 9.0


def test_comm_reads_task_1_and_2_in_their_own_forms(tmp_path: Path) -> None:
    one = {"Completeness": {"Score": 7}, "Text Fidelity to Image": {"overall_score": 5}}
    comm_sample(tmp_path, "a_task1", one, "completeness_and_text_fidelity.json")
    two = comm_results(6)
    two["image quality"] = two.pop("Image_Quality")
    del two["completeness"]
    comm_sample(tmp_path, "a_task2", two)
    found = named(CoMM().aggregate([tmp_path]))
    assert figure(found["task1 text fidelity to images"]).value == 5.0
    assert figure(found["task2 image quality"]).value == 6.0 and "task2 completeness" not in found


# VIEScore


def test_viescore_takes_the_least_mark_and_counts_upstreams_guesses(tmp_path: Path) -> None:
    sc = {
        "a": {"score": [8, 6], "reasoning": ""},
        "b": {"score": [10], "reasoning": ""},
        "c": {"score": [3, 3], "reasoning": "guess_if_cannot_parse | hm"},
        "d": {"score": ["x"], "reasoning": ""},
        "only here": {"score": [1], "reasoning": ""},
    }
    pq = {u: {"score": [4.9, 12], "reasoning": ""} for u in "abcd"}
    write(tmp_path / "t2i" / "SC.json", sc)
    write(tmp_path / "t2i" / "PQ.json", pq)
    found = named(VIEScore().aggregate([tmp_path]))
    assert found["SC"].values == {"a": 0.6, "b": 1.0} and found["SC"].failed == 2
    assert found["SC, upstream"].values == {"a": 0.6, "b": 1.0, "c": 0.3}
    assert found["PQ"].values == dict.fromkeys("abcd", 0.4), "4.9 is cut to 4, 12 clipped, as the paper's tables"
    assert found["O"].values["a"] == pytest.approx(math.sqrt(0.6 * 0.4))
    assert "population std 0.2000" in found["SC"].note and "the 1 replies" in found["SC, upstream"].note


def test_viescore_correlates_with_the_mean_of_raters(tmp_path: Path) -> None:
    uids = [f"s{n}" for n in range(6)]
    for model, order in (("A", [1, 2, 3, 4, 5, 6]), ("B", [6, 5, 4, 3, 1, 2])):
        for part in ("SC", "PQ"):
            write(
                tmp_path / "runs" / "T" / model / f"{part}.json",
                {u: {"score": [m]} for u, m in zip(uids, order, strict=True)},
            )
    cells = ["[0,0]", "[0,0.5]", "[0.5,0.5]", "[0.5,1]", "[1,1]", "[1, 1]"]
    ratings = "uid\tA\tB\n" + "".join(f"{u}\t{c}\t{c}\n" for u, c in zip(uids, cells, strict=True))
    raters = [write(tmp_path / "T" / f"rater{n}.tsv", ratings) for n in (1, 2, 3)]
    found = named(VIEScore(human=raters).aggregate([tmp_path / "runs"]))
    a, b = (figure(found[f"rho SC T/{m}"]) for m in "AB")
    assert a.value is not None and b.value is not None and a.value > 0.9 and b.value < -0.8
    assert a.low is not None and a.low <= a.value and a.items == 6
    task = figure(found["rho SC T"]).value
    assert task == pytest.approx(math.tanh((a.value + b.value) / 2))
    assert figure(found["rho SC"]).value == pytest.approx(math.tanh(task))


def test_viescores_correlation_is_spearmans_rho() -> None:
    rng = np.random.default_rng(5)
    x = {str(n): float(v) for n, v in enumerate(rng.integers(0, 5, 60))}
    y = {k: v + rng.normal() for k, v in x.items()}
    rho = float(spearmanr(list(x.values()), list(y.values())).statistic)
    found = correlation(x, y)
    assert found is not None and found.value == pytest.approx(rho)


def test_the_same_model_name_in_two_tasks_is_two_systems(tmp_path: Path) -> None:
    uids = [f"s{n}" for n in range(6)]
    cells = ["[0,0]", "[0,0.5]", "[0.5,0.5]", "[0.5,1]", "[1,1]", "[1,1]"]
    raters = []
    for task, order in (("T1", 1), ("T2", -1)):
        for part in ("SC", "PQ"):
            write(tmp_path / task / "M" / f"{part}.json", {u: {"score": [n]} for n, u in enumerate(uids)})
        ratings = "uid\tM\n" + "".join(f"{u}\t{c}\n" for u, c in zip(uids, cells[::order], strict=True))
        raters.append(write(tmp_path / "human" / task / "rater1.tsv", ratings))
    found = named(VIEScore(human=raters).aggregate([tmp_path / "T1", tmp_path / "T2"]))
    assert figure(found["rho SC T1/M"]).value > 0.9 and figure(found["rho SC T2/M"]).value < -0.9  # type: ignore[operator]
    other = write(tmp_path / "human" / "T1" / "r.tsv", "uid\tOther\ns0\t[1,1]\ns1\t[0,0]\n")
    with pytest.raises(BenchError, match="TASK/MODEL"):
        VIEScore(human=[other]).aggregate([tmp_path / "T1"])


# The command


def test_the_command_prints_the_table_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt_id": i, "score": i % 2} for i in range(1, 1001)]
    path = write(tmp_path / "scores.jsonl", wise_lines(rows))
    assert main(["bench", "wise", "aggregate", str(path), "--json", str(tmp_path / "out.json")]) == 0
    assert "| overall | 50.0% |" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["overall"]["value"] == pytest.approx(0.5)
    assert main(["bench", "wise", "aggregate", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bench", "table", "said"),
    [
        ("wise", "System,Culture (%),Time (%),Space ↑,Biology,Physics,Chemistry,Overall (%)\nX,50,50,50,50,50,50,51", "51.0 | legacy 50"),
        ("ueval", "Model,Space,Textbook,Diagram,Paper,Art,Life,Tech,Exercise,Avg.\nX,1,2,3,4,5,6,7,8,4.5", "4.5 | task average 4.5"),
        ("rise", "Model,Temporal (%),Causal (%),Spatial (%),Logical (%),**Overall (%)**\nX,50,50,50,50,50", "50.0 | accuracy 49.7222"),
    ],
)  # fmt: skip
def test_headers_of_published_tables_are_read(
    bench: str, table: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With units, arrows and stars."""
    path = write(tmp_path / "t.csv", table + "\n")
    assert main(["bench", bench, "totals", str(path)]) == 0
    assert f"| X | {said}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bench", "table", "why"),
    [
        ("wise", "m,Culture,Time,Space,Biology,Physics,Chemistry\nX,1,,1,1,1,1", "time is blank"),
        ("wise", "m,Culture,Space,Biology,Physics,Chemistry\nX,1,1,1,1,1", "no column time"),
        ("rise", "m,Temporal,Causal,Spatial,Logical\nX,1,2,3,n/a", "logical is 'n/a'"),
        ("ueval", "m,Space,Textbook\nX,1,2", "no column diagram"),
        ("comm", "m,style,entity,trend,completeness,image_quality\nX,1,2,3,4,5", "no column irs"),
        ("viescore", "m,a,b\nX,0.1,-", "blank: b"),
    ],
)
def test_a_total_that_cannot_be_computed_says_why(
    bench: str, table: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "t.csv", table + "\n")
    assert main(["bench", bench, "totals", str(path)]) == 0
    assert f"none ({why}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["wise", "totals", "EMPTY"], "holds no row"),
        (["viescore", "totals", "viescore"], "viescore-rho, viescore-rho-tasks"),
        (["viescore", "totals", "viescore-means"], "columns sc, pq or o"),
        (["viescore", "totals", "LARGE"], "from -1 to 1"),
    ],
)
def test_a_table_without_totals_is_refused_with_the_reason(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "EMPTY": write(tmp_path / "e.csv", "system,culture\n"),
        "LARGE": write(tmp_path / "l.csv", "system,a\nX,50\n"),
    }
    assert main(["bench", *(str(files.get(word, word)) for word in words)]) == 1
    assert said in capsys.readouterr().err


def test_totals_of_a_users_own_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "t.csv",
        "Model,Cultural,Time,Space,Biology,Physics,Chemistry,Overall\nX,0.44,.6,.67,.32,.5,.27,0.47\n",
    )
    assert main(["bench", "wise", "totals", str(path), "--protocol", "legacy"]) == 0
    assert "| X | 0.47 | legacy 0.47431 |" in capsys.readouterr().out


# Tables and files of others, of the kinds that were once believed


@pytest.mark.parametrize("no", ["False", "false", 0, "0", False, None, "", "no", "nan"])
def test_an_item_is_free_of_the_consistency_mark_only_where_it_says_so(tmp_path: Path, no: Any) -> None:
    marks = {"Reasoning": 5, "ApprConsistency": 1, "VisualPlausibility": 5, "category": "temporal"}
    rows = [
        {"index": "temporal_1", **marks, "consistency_free": no},
        {"index": "temporal_2", **marks, "consistency_free": 1},
    ]
    found = named(Rise().aggregate([write(tmp_path / "t.json", rows)]))
    assert found["accuracy"].values == {"temporal_1": 0.0, "temporal_2": 1.0} and found["consistency"].expected == 1


def test_a_row_that_is_there_twice_differently_is_refused(tmp_path: Path) -> None:
    head = "index,category,Reasoning,ApprConsistency,VisualPlausibility\n"
    path = write(tmp_path / "t.csv", f"{head}temporal_1,temporal,5,5,5\ntemporal_1,temporal,1,1,1\n")
    with pytest.raises(BenchError, match="temporal_1 twice"):
        Rise().aggregate([path])
    table = "-,Score-Percentage,Accuracy\nOverall,50,0.5\nOverall,20,0.2\n"
    with pytest.raises(BenchError, match="Overall twice"):
        Rise().aggregate([write(tmp_path / "s.csv", table)])
    with pytest.raises(BenchError, match="no number"):
        Rise().aggregate([write(tmp_path / "e.csv", "-,Score-Percentage,Accuracy\nOverall,,\n")])


@pytest.mark.parametrize("rate", [75, 1.7, float("nan"), "x", -0.1])
def test_a_rate_that_is_none_has_failed_and_is_counted(tmp_path: Path, rate: Any) -> None:
    good = {"id": "a", "text_score": {"met": 1, "total": 2, "rate": 0.5}}
    path = write(tmp_path / "r.json", {"items": [good, {"id": "b", "text_score": {"rate": rate}}]})
    assert named(UEval().aggregate([path]))["text"].counted == "1 of 2"


def test_a_rate_that_its_counts_contradict_is_said(tmp_path: Path) -> None:
    items = [{"id": "a", "text_score": {"met": 1, "total": 4, "rate": 1.0}}, {"id": "b", "text_score": {"rate": 0.3}}]
    assert "1 rates are not met / total" in named(UEval().aggregate([write(tmp_path / "r.json", items)]))["text"].note


def viescore_run(folder: Path, marks: dict[str, int]) -> Path:
    for part in ("SC", "PQ"):
        write(folder / "scores" / f"{part}.json", {u: {"score": [m]} for u, m in marks.items()})
    write(folder / "run.json", {})
    return folder


def test_a_run_folder_is_named_by_itself_beside_human_ratings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = viescore_run(tmp_path / "T" / "m1", {f"s{n}": n for n in range(6)})
    cells = ["[0,0]", "[0,0.5]", "[0.5,0.5]", "[0.5,1]", "[1,1]", "[1,1]"]
    human = write(tmp_path / "T" / "r.tsv", "uid\tm1\n" + "".join(f"s{n}\t{c}\n" for n, c in enumerate(cells)))
    assert main(["bench", "viescore", "aggregate", str(run), "--human", str(human), "--json", str(tmp_path / "o")]) == 0
    assert "| rho SC T/m1 | 0.9" in capsys.readouterr().out
    assert json.loads((tmp_path / "o").read_text())["rho SC T/m1"] | {"value": 0, "ci95": 0} == {
        "value": 0, "ci95": 0, "n": 6, "of": 6, "failed": 0, "note": "Spearman with human raters", "groups": {},
    }  # fmt: skip
    viescore_run(run, {f"s{n}": 5 for n in range(6)})
    assert main(["bench", "viescore", "aggregate", str(run), "--human", str(human)]) == 0
    assert "marks and ratings are not all equal" in capsys.readouterr().out
    other = write(tmp_path / "T" / "r2.tsv", "uid\tm2\ns0\t[1,1]\n")
    assert main(["bench", "viescore", "aggregate", str(run), "--human", str(other)]) == 1
    said = capsys.readouterr()
    assert "of T/m2, and not of T/m1" in said.err and "| SC | 0.5 |" in said.out


def test_data_that_the_scores_lack_has_failed_in_every_benchmark(tmp_path: Path) -> None:
    run = viescore_run(tmp_path / "T" / "m1", {"s0": 5})
    data = write(tmp_path / "d.json", [{"uid": f"s{n}", "prompt": "p"} for n in range(3)])
    assert named(VIEScore(data).aggregate([run / "scores"]))["SC"].counted == "1 of 3"
    write(tmp_path / "c" / "a_task4" / "evaluation_results.json", {"completeness": {"Score": 5}})
    documents = write(tmp_path / "c.json", [{"data_id": n, "title": "t", "step_info": []} for n in "ab"])
    assert (
        named(CoMM(documents, tasks=[4]).aggregate([tmp_path / "c"]))["task4 completeness (Comp)"].counted == "1 of 2"
    )


def test_score_files_that_share_no_item_are_refused(tmp_path: Path) -> None:
    for part, uid in (("SC", "a"), ("PQ", "b")):
        write(tmp_path / f"{part}.json", {uid: {"score": [1]}})
    with pytest.raises(BenchError, match="share no uid"):
        VIEScore().aggregate([tmp_path])


TOTALS = {
    "a count is no correlation": ("viescore", "system,sc,pq,o,n\nX,.4,.3,.35,150", "none (n is 150; rank correlations"),
    "a rho of 1.3": ("viescore", "system,a,b\nX,.4,1.3", "none (b is 1.3; rank correlations"),
    "shares": ("rise", "system,temporal,causal,spatial,logical,overall\nX,.34,.40,.35,.20,.32", "0.32"),
    "shares or percent": ("rise", "system,temporal,causal,spatial,logical\nX,.34,.40,.35,.20", "may be shares"),
    "out of range": ("rise", "system,temporal,causal,spatial,logical\nX,500,-40,35,20", "temporal is 500"),
    "no category": ("wise", "system,culture,time,space,biology,physics,chemistry,Time per image\n" + "X" + ",.5" * 6 + ",12",
                    "legacy 0.5, verified 0.5"),
    "two of one": ("wise", "system,culture,cultural,time,space,biology,physics,chemistry\nX" + ",.5" * 7, "2 columns of culture"),
    "both totals": ("ueval", "system,space,textbook,diagram,paper,art,life,tech,exercise,Text,Image,Average\nX"
                    + ",45" * 8 + ",1,3,45", "task average 45, pooled average 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOTALS)
def test_a_total_is_of_what_it_says_or_none(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench, table, said = TOTALS[name]
    assert main(["bench", bench, "totals", str(write(tmp_path / "t.csv", table + "\n"))]) == 0
    assert said in capsys.readouterr().out


def test_a_score_table_without_a_whole_category_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "t.csv", "-,Score-Origin,Accuracy\nTemp-Life Progression,3,0.5\n")
    assert main(["bench", "rise", "totals", str(path)]) == 1
    assert "temporal needs Temp-Life Progression" in capsys.readouterr().err
