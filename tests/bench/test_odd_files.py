"""Score files in every form that upstream and its users write, several at once, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from interleave_thinker.cli import main
from interleave_thinker.files import is_below
from interleave_thinker.research.bench.base import BenchError, plain_name
from interleave_thinker.research.bench.comm import COHERENCE, CoMM
from interleave_thinker.research.bench.judging import Judge, ReplyLog, judge_all
from interleave_thinker.research.bench.metric import Metric, difference, figure
from interleave_thinker.research.bench.progress import Progress
from interleave_thinker.research.bench.rise import Rise
from interleave_thinker.research.bench.tiny import CheckerJudge
from interleave_thinker.research.bench.totals import published_table
from interleave_thinker.research.bench.ueval import UEval
from interleave_thinker.research.bench.viescore import VIEScore
from interleave_thinker.research.bench.wise import Wise


def named(metrics: list[Metric]) -> dict[str, Metric]:
    return {m.name: m for m in metrics}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def judged(*marks: int | None) -> dict[str, Any]:
    return {f"judge{n}": None if m is None else f"**Final Score:** **{m}**" for n, m in enumerate(marks, 1)}


def ueval_record(item: str, met: int, total: int) -> dict[str, Any]:
    score = {"met": met, "total": total, "rate": met / total}
    return {"id": item, "text_score": score, "image_score": {"met": 1, "total": 2, "rate": 0.5}}


# RISE


def test_a_failed_consistency_call_is_no_full_mark(tmp_path: Path) -> None:
    """An empty cell means "free of it" only where nothing else is known of the item."""
    row = {"temporal_reasoning_1": judged(None, 5, 5)}
    alone = named(Rise().aggregate([write(tmp_path / "a" / "m.json", row)]))
    assert figure(alone["accuracy"]).value == 1.0
    path = write(tmp_path / "b" / "judge.json", row)
    asked = {"category": "temporal", "subtask": None, "consistency_free": False}
    write(tmp_path / "b" / "asked.json", {"temporal_reasoning_1": asked, "temporal_reasoning_2": asked})
    known = named(Rise().aggregate([path]))
    assert figure(known["accuracy"]).value is None and known["accuracy"].failed == 2
    table = [{"index": "temporal_reasoning_1", "Reasoning": 5, "ApprConsistency": 7, "VisualPlausibility": 5}]
    odd = named(Rise().aggregate([write(tmp_path / "t.json", table)]))
    assert odd["accuracy"].failed == 1, "a mark out of range is no empty cell"


@pytest.mark.parametrize("form", ["rows", "index", "split", "lists", "columns"])
def test_rise_reads_a_pickle_in_every_form_that_pandas_writes(tmp_path: Path, form: str) -> None:
    rows = {"temporal_reasoning_1": judged(5, 5, 5), "causal_reasoning_2": judged(5, 4, 5)}
    columns = ["judge1", "judge2", "judge3"]
    forms: dict[str, Any] = {
        "rows": rows,
        "columns": {c: {i: r[c] for i, r in rows.items()} for c in columns},
        "index": {str(n): {"index": i, **r} for n, (i, r) in enumerate(rows.items())},
        "split": {"columns": ["index", *columns], "index": [0, 1], "data": [[i, *r.values()] for i, r in rows.items()]},
        "lists": {"index": list(rows), **{c: [r[c] for r in rows.values()] for c in columns}},
    }
    found = named(Rise().aggregate([write(tmp_path / "m.json", forms[form])]))
    assert figure(found["accuracy"]).value == 0.5 and found["accuracy"].expected == 2


def test_rise_reads_upstreams_summary_and_its_workbook(tmp_path: Path) -> None:
    rows = published_table("rise-bagel")["rows"]
    lines = ["-,Score-Origin,Score-Percentage,Accuracy"]
    lines += [
        f"{r['system']},{r['score_origin']},{r['score_percentage']},{'' if r['accuracy'] is None else r['accuracy']}"
        for r in rows
    ]
    found = named(Rise().aggregate([write(tmp_path / "M_judge.csv", "\n".join(lines))]))
    assert figure(found["Overall Accuracy"]).value == pytest.approx(0.061111)
    assert "from its subtask rows: 0.0611" in found["Overall Accuracy"].note
    book = openpyxl.Workbook()
    for line in (
        ["index", "category", "Reasoning", "ApprConsistency", "VisualPlausibility"],
        ["causal_reasoning_1", "causal_reasoning", 5, 5, 5],
        ["causal_reasoning_2", "causal_reasoning", 5, 1, 5],
    ):
        book.active.append(line)
    book.save(tmp_path / "M_judge.xlsx")
    assert figure(named(Rise().aggregate([tmp_path / "M_judge.xlsx"]))["accuracy"]).value == 0.5


def test_rises_table_shows_its_categories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {f"{c}_reasoning_1": judged(*(5,) * 3 if c != "logical" else (1, 1)) for c in ("temporal", "logical")}
    assert main(["bench", "rise", "aggregate", str(write(tmp_path / "m.json", rows))]) == 0
    said = capsys.readouterr().out
    assert "| &nbsp;&nbsp;temporal | 100.0% |" in said and "| &nbsp;&nbsp;logical | 100.0% |" in said


# Several files


def test_a_paired_pooled_average_ignores_what_only_one_system_has(tmp_path: Path) -> None:
    """Two equal systems; a judgment failed in one: the difference is 0, not a shift of weights."""
    whole = [ueval_record(str(n), n % 2, 1) for n in range(8)]
    lost = [dict(r) for r in whole]
    lost[1] |= {"text_score": {"met": 0, "total": 0, "rate": None, "failed": 1}}
    a = named(UEval().aggregate([write(tmp_path / "a.json", {"items": lost})]))["pooled average"]
    b = named(UEval().aggregate([write(tmp_path / "b.json", {"items": whole})]))["pooled average"]
    assert figure(a).value != pytest.approx(figure(b).value)
    assert difference(a, b).value == pytest.approx(0.0)


def test_two_systems_are_not_merged(tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"{n}.json", {"items": [ueval_record("1", n, 2)]}) for n in (0, 1))
    with pytest.raises(BenchError, match="judged twice"):
        UEval().aggregate([a, b])
    for model in "xy":
        write(tmp_path / "results" / model / "a_task3" / "evaluation_results.json", {})
    with pytest.raises(BenchError, match="one system's folder"):
        CoMM().aggregate([tmp_path / "results"])
    paths = [write(tmp_path / f"{s}.jsonl", {"prompt_id": 1, "score": s}) for s in (0, 1)]
    with pytest.raises(BenchError, match="in two files"):
        Wise().aggregate(paths)


def test_a_prompt_with_several_lines_in_one_file_is_said(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"prompt_id": i, "score": int(i > 1)}) for i in (1, *range(1, 1001)))
    (metric,) = Wise().aggregate([write(tmp_path / "s.jsonl", lines)])
    assert "1 prompts have several lines" in metric.note and metric.failed == 0


def test_items_that_the_score_file_lacks_have_failed(tmp_path: Path) -> None:
    data = write(tmp_path / "d.json", [{"id": n, "prompt": "?", "text_rubrics": ["a", "b"]} for n in range(10)])
    found = named(UEval(data).aggregate([write(tmp_path / "r.json", {"items": [ueval_record("0", 1, 2)]})]))
    assert found["text"].failed == 9 and "18 of 20 criteria" in found["text"].note


def test_wise_scores_of_the_other_protocol_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", {"prompt_id": 1, "score": 1})
    with pytest.raises(BenchError, match="verified scores, not legacy"):
        Wise(protocol="legacy").aggregate([path])
    prompts = [{"prompt_id": 530, "Prompt": "?", "Explanation": "!", "Category": "SPACE"}]
    with pytest.raises(BenchError, match="--protocol verified"):
        Wise([write(tmp_path / "p.json", prompts)]).items()


def test_comm_says_which_documents_it_cannot_use(tmp_path: Path) -> None:
    step = [{"type": "text", "content": "a"}, {"type": "image", "image_path": "gone.jpg"}]
    rows = [{"data_id": n, "title": "t", "step_info": s} for n, s in enumerate(([step, step], 5))]
    bench = CoMM(write(tmp_path / "c.json", rows))
    items = bench.items()
    assert [i.id for i in items] == ["0_task4", "1_task4"]
    assert "2 of 4 (document, task) pairs cannot be used" in bench.census(items)


# Files that are none

BROKEN = {
    "rise": ["3", '{"a": 1}', "{}", '{"index": {"0": "x"}, "category": "x"}', "index,category\n,\n", "[1]"],
    "wise": ["3", '{"prompt_id": 1' + "0" * 400 + ', "score": 1}', '["a"]', ""],
    "ueval": ["3", '{"items": 5}', '{"items": [{"id": 1, "text_score": {"rate": 1' + "0" * 400 + "}}]}"],
    "viescore": ["3", "[1]"],
}


@pytest.mark.parametrize(("name", "content"), [(n, c) for n, cs in BROKEN.items() for c in cs])
def test_a_broken_file_gets_one_line_and_no_number(
    name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / ("t.csv" if "index,category" in content else "SC.json"), content)
    write(tmp_path / "PQ.json", content)
    code = main(["bench", name, "aggregate", str(path)])
    said = capsys.readouterr()
    if code:
        assert said.err.startswith("Error: ") and said.err.count("\n") == 1
    else:
        assert "| text |  |" in said.out, "a rate that is no number gives no figure"


@pytest.mark.parametrize(
    "words",
    [
        ["rise", "aggregate", "none.csv"],
        ["viescore", "aggregate", "EMPTY"],
        ["comm", "aggregate", "none"],
        ["wise", "totals", "none.csv"],
        ["wise", "aggregate", "SCORES", "--json", "nowhere/x.json"],
        ["viescore", "aggregate", "PAIR", "--human", "none.tsv"],
    ],
)
def test_a_missing_file_is_named(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = write(tmp_path / "s.jsonl", {"prompt_id": 1, "score": 1})
    for part in ("SC", "PQ"):
        write(tmp_path / "pair" / f"{part}.json", {"a": {"score": [1]}})
    (tmp_path / "empty").mkdir()
    known = {"SCORES": str(scores), "PAIR": str(tmp_path / "pair"), "EMPTY": str(tmp_path / "empty")}
    assert main(["bench", *(known.get(w, w) for w in words)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and error.count("\n") == 1


def test_odd_viescore_records_fail_and_do_no_more(tmp_path: Path) -> None:
    odd: dict[str, Any] = {"a": [7], "b": "hm", "c": None, "d": {"score": [[8, 6]]}, "e": {"score": 7.5}}
    for part in ("SC", "PQ"):
        write(tmp_path / "T" / "M" / f"{part}.json", odd)
    found = named(VIEScore().aggregate([tmp_path / "T" / "M" / "SC.json", tmp_path / "T" / "M" / "PQ.json"]))
    assert found["SC"].values == {"e": 0.75} and found["SC"].failed == 4


def test_a_mark_of_comm_that_is_no_number_is_none(tmp_path: Path) -> None:
    marks = {"coherence_score": dict.fromkeys(COHERENCE, 8), "completeness": {"Score": float("nan")}}
    write(tmp_path / "a_task3" / "evaluation_results.json", marks)
    found = named(CoMM().aggregate([tmp_path]))
    assert figure(found["task3 completeness (Comp)"]).value is None


def test_gaps_in_a_users_table_give_no_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "t.csv", "Model,task,sc,pq,o\nX,T,N/A,0.5,0.4\n")
    assert main(["bench", "viescore", "totals", str(path)]) == 0
    assert "T pq" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png", "x" * 300 + ".png", "../x.png", "/etc/passwd"])
def test_a_name_that_no_picture_can_have_costs_its_item_alone(name: str, tmp_path: Path) -> None:
    rows = [{"id": n, "prompt": "draw", "text_rubrics": ["a"], "image_rubrics": ["b"]} for n in "ab"]
    bench = UEval(write(tmp_path / "d.json", rows))
    for item in bench.items():
        answer = {"id": item.id, "text_answer": "t", "image_answer": [name] if item.id == "a" else []}
        write(tmp_path / "outputs" / item.id / "answer.json", answer)
    asked = Judge(CheckerJudge(), ReplyLog(tmp_path / "judge.jsonl"))
    found = judge_all(bench, tmp_path / "outputs", bench.items(), asked, 1, Progress("judge", 2))
    assert set(found) == {"b"} and set(asked.broken) == {"a"}
    assert not is_below(tmp_path, tmp_path / name) or len(name) > 255


def test_an_id_is_as_long_as_a_file_name_may_be() -> None:
    assert plain_name("é" * 90, "uid") == "é" * 90
    for name in ("é" * 150, "a\tb", "\ufffd", "a\0"):
        with pytest.raises(BenchError, match="cannot be a file name"):
            plain_name(name, "uid")
