"""A run folder is believed no more than it should be: damaged files, outputs of others, changed outputs, broken items."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from interleave_thinker.cli import main
from interleave_thinker.research.bench.base import Output, Step, dump, read_json
from interleave_thinker.research.bench.tiny import CheckerJudge, TinyBench
from interleave_thinker.research.bench.ueval import UEval
from interleave_thinker.research.bench.wise import Wise

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ODD = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def output(color: str = "red") -> Output:
    return Output((Step("a circle", Image.new("RGB", (64, 64), color)),))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A judged run of the tiny benchmark, without its stages' notes."""
    bench, folder = TinyBench(4), tmp_path / "run"
    for item in bench.items():
        bench.save(folder / "outputs", item, output())
    bench.finish(folder / "outputs", bench.items())
    assert main(["bench", "tiny", "judge", "--requests", "4", "--out", str(folder)]) == 0
    return folder


def judge(run: Path, *more: str) -> int:
    return main(["bench", "tiny", "judge", "--requests", "4", "--out", str(run), *more])


def ueval_run(folder: Path, count: int = 4) -> list[str]:
    rows = [
        {"id": f"art_{n}", "prompt": f"draw {n}", "text_rubrics": ["a"], "image_rubrics": ["b"]} for n in range(count)
    ]
    data = folder / "data.json"
    data.write_text(json.dumps(rows))
    bench = UEval(data)
    for item in bench.items():
        bench.save(folder / "run" / "outputs", item, output())
    return ["--data", str(data), "--out", str(folder / "run")]


# Outputs


def test_outputs_of_others_stay(run: Path) -> None:
    """generate --limit 2 in a folder of 4 answers of another runner, which has no answer.json."""
    for path in run.rglob("answer.json"):
        path.unlink()
    bench = TinyBench(4)
    before = {entry["id"]: entry for entry in read_json(run / "outputs" / "outputs.json")}
    bench.save(run / "outputs", bench.items()[1], output("blue"))
    bench.finish(run / "outputs", bench.items()[:2])
    after = {entry["id"]: entry for entry in read_json(run / "outputs" / "outputs.json")}
    assert after == before and len(after) == 4


@pytest.mark.parametrize("text", ["{}", '{"id": 1, "text_ans', "[]", "", '{"text_answer": "  ", "image_answer": [""]}'])
def test_an_answer_that_holds_nothing_is_no_output(run: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One item is left out and made again; all of them are nothing to judge. No call is made for them."""
    answers = sorted(run.rglob("answer.json"))
    answers[0].write_text(text)
    (run / "outputs" / "outputs.json").unlink()
    capsys.readouterr()
    assert judge(run) == 0
    said = capsys.readouterr().out
    assert "No output: 1 of 4 items" in said and "3 of 3; no output: 1 of 4" in said
    bench = TinyBench(4)
    bench.finish(run / "outputs", bench.items())
    assert len(read_json(run / "outputs" / "outputs.json")) == 3
    for path in answers:
        path.write_text(text)
    (run / "outputs" / "outputs.json").unlink()
    assert judge(run) == 1 and "nothing to judge" in capsys.readouterr().err


def test_an_item_that_cannot_be_judged_is_counted_by_every_command(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for broken in (1, 4):
        for path in sorted(run.rglob("step1.png"))[:broken]:
            path.write_bytes(b"")
        capsys.readouterr()
        assert judge(run) == 0
        said = capsys.readouterr().out
        assert "could not be judged: Cannot read picture" in said
        for words in (["aggregate"], ["report"]):
            assert main(["bench", "tiny", *words, str(run)]) == 0
            said += capsys.readouterr().out
        counted = re.findall(r"^\| (?:text|image) \|.*?(\d) of (\d) \|", said, re.M)
        assert counted == [(str(4 - broken), "4")] * 6
        assert (broken < 4) != ("no figure: none of 4 could be judged" in said)


def test_a_judge_that_raises_costs_its_items_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    real, asked = CheckerJudge.complete, []

    def moody(self: CheckerJudge, *words: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            raise TypeError("no text")
        return real(self, *words)

    monkeypatch.setattr(CheckerJudge, "complete", moody)
    (run / "judge.jsonl").unlink()
    assert judge(run) == 0
    results = read_json(run / "scores" / "results.json")["items"]
    assert len(results) == 4 and sum(r["text_score"]["rate"] is None for r in results) == 1


# Calls


def test_what_is_announced_is_what_is_asked(
    tmp_path: Path, judge_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where replies are to be asked for again, and where pictures have changed."""
    words = ["bench", "ueval", "judge", *ueval_run(tmp_path), *judge_server.options]

    def announced_and_made(*more: str) -> tuple[int, int]:
        before = len(judge_server.asked)
        assert main([*words, *more]) == 0
        said = re.search(r"(\d+) judge calls", capsys.readouterr().out)
        return int(said[1]) if said else 0, len(judge_server.asked) - before

    assert announced_and_made() == (8, 8)
    assert announced_and_made() == (0, 0)
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "run" / "outputs" / "art_1" / "step1.png")
    assert announced_and_made() == (1, 1)
    judge_server.answer = lambda text: "hm"
    Image.new("RGB", (64, 64), "green").save(tmp_path / "run" / "outputs" / "art_2" / "step1.png")
    assert announced_and_made() == (1, 3), "an unreadable reply is asked for three times"
    assert announced_and_made() == (0, 0)
    assert announced_and_made("--retry-failed") == (1, 3)


def test_a_bound_holds_for_what_is_asked_again(
    tmp_path: Path, judge_server: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["bench", "ueval", "judge", *ueval_run(tmp_path), *judge_server.options]
    judge_server.answer = lambda text: "hm"
    assert main(words) == 0
    monkeypatch.setattr("interleave_thinker.research.bench.runner.ASK_ABOVE", 7)
    made = len(judge_server.asked)
    assert main([*words, "--retry-failed"]) == 1 and "--yes" in capsys.readouterr().err
    assert len(judge_server.asked) == made


def test_data_without_anything_to_judge_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ueval_run(tmp_path)
    rows = json.loads((tmp_path / "data.json").read_text())
    (tmp_path / "data.json").write_text(
        json.dumps([{**row, "text_rubrics": "[]", "image_rubrics": None} for row in rows])
    )
    assert (
        main(["bench", "ueval", "judge", *words, "--judge", "interleave_thinker.tinyworld.oracle:CheckerScorer"]) == 1
    )
    assert "4 of 4 items have neither text_rubrics nor image_rubrics" in (said := capsys.readouterr()).out + said.err


# Damaged files


@ODD
@given(JSON)
def test_a_damaged_file_of_a_run_is_one_line_or_nothing(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, odd: Any
) -> None:
    stages = ({"generate": odd}, {"judge": odd}, {"generate": {"options": {"requests": odd}, "system": odd}}, odd)
    damages: dict[str, list[Any]] = {
        "run.json": list(stages),
        "scores/coverage.json": [odd, {"judged": odd}, {"judged": [], "no_output": odd}],
        "generated.jsonl": [odd, {"id": "x", "generator_calls": odd, "seconds": odd}, {"id": odd}],
        "scores/results.json": [odd, {"items": odd}, {"items": [{"id": odd, "text_score": odd, "image_rate": odd}]}],
        "judge.jsonl": [odd, {"item": odd, "criterion": odd, "fingerprint": odd, "raw": odd}],
    }
    for name, values in damages.items():
        path = run / name
        before = path.read_bytes() if path.is_file() else None
        for value in values:
            path.write_bytes(json.dumps(value).encode())
            for words in (["aggregate", str(run)], ["report", str(run)], ["judge", "--out", str(run), "--dry-run"]):
                monkeypatch.setattr(
                    "interleave_thinker.research.bench.report._plot", lambda *_: None
                )  # it takes a second
                capsys.readouterr()
                code = main(["bench", "tiny", *words])
                said = capsys.readouterr().err
                assert code in (0, 1) and said.count("\n") <= 1 and (code == 0) == (not said), said
        path.unlink()
        if before is not None:
            path.write_bytes(before)


@ODD
@given(JSON)
def test_a_damaged_list_of_what_wise_asked_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: Any
) -> None:
    (tmp_path / "scores.jsonl").write_text('{"prompt_id": 1, "score": 1}\n')
    for value in (odd, {"asked": odd, "protocol": "verified"}, {"asked": [1], "protocol": odd}):
        (tmp_path / "asked.json").write_text(json.dumps(value))
        code = main(["bench", "wise", "aggregate", str(tmp_path / "scores.jsonl")])
        said = capsys.readouterr().err
        assert code in (0, 1) and said.count("\n") <= 1 and (code == 0) == (not said)


def test_a_run_of_another_benchmark_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in ("report", "aggregate"):
        assert main(["bench", "ueval", stage, str(run)]) == 1
        assert f"is a run of tiny. Use `bench tiny {stage}`" in capsys.readouterr().err


def test_scores_are_found_by_any_of_their_names(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sorted(run.rglob("answer.json"))[0].write_text("{}")
    (run / "outputs" / "outputs.json").unlink()
    assert judge(run) == 0
    tables = []
    for path in (run, run / "scores", run / "scores" / "results.json"):
        capsys.readouterr()
        assert main(["bench", "tiny", "aggregate", str(path)]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] == tables[2] and "no output: 1 of 4" in tables[0]


def test_the_same_data_under_another_name_is_the_same_data(tmp_path: Path, judge_server: Any) -> None:
    words = ueval_run(tmp_path)
    assert main(["bench", "ueval", "judge", *words, *judge_server.options]) == 0
    moved = (tmp_path / "data.json").rename(tmp_path / "moved.json")
    words[1] = str(moved)
    assert main(["bench", "ueval", "judge", *words, *judge_server.options]) == 0


# Data


@pytest.mark.parametrize("prompt", ["", "  ", float("nan"), ["x"], 5, None])
def test_a_prompt_is_a_text(tmp_path: Path, prompt: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "d.json"
    data.write_text(json.dumps([{"id": "a", "prompt": "x"}, {"id": "b", "prompt": prompt}]))
    assert main(["bench", "ueval", "generate", "--data", str(data), "--out", str(tmp_path / "r"), "--dry-run"]) == 1
    assert "record 2" in capsys.readouterr().err


def test_a_line_that_was_cut_off_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"id": "a", "prompt": "x"}\n{"id": "b", "prom')
    assert main(["bench", "ueval", "generate", "--data", str(data), "--out", str(tmp_path / "r"), "--dry-run"]) == 1
    assert "line 2" in capsys.readouterr().err
    data.write_text('{"id": "a", "prompt": "x"}\n')
    assert [item.id for item in UEval(data).items()] == ["a"]


@given(st.text(st.characters(codec=None, categories=None)))
def test_any_text_is_written_as_json_that_can_be_read(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Half characters come from models and from data; UTF-8 cannot hold them."""
    path = tmp_path_factory.mktemp("json") / "f.json"
    path.write_bytes(dump({"a": [text]}))
    found = read_json(path)["a"][0]
    assert found == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@pytest.mark.parametrize("words", [["--t-max", "-2"], ["--max-steps", "0"], ["--requests", "0"], ["--requests", "-3"]])
def test_a_number_that_means_nothing_is_refused_before_its_cost_is_told(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "tiny", "generate", "--out", str(tmp_path / "r"), *words]) == 1
    said = capsys.readouterr()
    assert words[1] in said.err and "calls" not in said.out and not (tmp_path / "r").exists()


def test_wise_counts_a_category_without_a_mark_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "w.json"
    rows = [{"prompt_id": n, "Prompt": "p", "Explanation": "e"} for n in (1, 2, 401)]
    data.write_text(json.dumps(rows))
    (tmp_path / "scores.jsonl").write_text('{"prompt_id": 1, "score": 1}\n{"prompt_id": 2, "score": 0}\n')
    assert main(["bench", "wise", "aggregate", str(tmp_path / "scores.jsonl"), "--data", str(data)]) == 0
    said = capsys.readouterr().out
    assert "no figure: nothing judged of TIME, SPACE" in said and "CULTURE | 50.0%" in said
    assert [item.id for item in Wise([data], "verified").items()] == ["1", "2", "401"]
