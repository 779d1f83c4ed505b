"""A run that is killed goes on where it was: nothing finished is done again, and the result is the same.

The judge fails, lies and breaks off; what it did not say is counted and is never a number.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interleave_thinker.agents.openai_compatible import ServerAgent
from interleave_thinker.cli import main
from interleave_thinker.research.bench.rise import Rise

COUNT = 30


def wise_run(folder: Path) -> tuple[list[str], Path]:
    """Prompts and pictures in WISE's layout, as another system may have left them."""
    rows = [{"Prompt": f"thing {n}", "Explanation": f"a thing {n}", "Subcategory": "x", "prompt_id": n} for n in ids()]
    data = folder / "wise.json"
    data.write_text(json.dumps(rows), encoding="utf-8")
    run = folder / "run"
    (run / "outputs").mkdir(parents=True)
    for n in ids():
        Image.new("RGB", (8, 8), (n % 256, 0, 0)).save(run / "outputs" / f"{n}.png")
    return ["bench", "wise", "judge", "--data", str(data), "--out", str(run)], run


def ids() -> list[int]:
    return [1 + n * 33 for n in range(COUNT)]


def until(done: Callable[[], bool], what: str) -> None:
    for _ in range(1200):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


def start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", "-m", "interleave_thinker.cli", *words], stdout=subprocess.DEVNULL)


def test_a_killed_judging_repeats_no_reply_and_ends_the_same(tmp_path: Path, judge_server: Any) -> None:
    words, run = wise_run(tmp_path)
    judge_server.delay = 0.1
    process = start([*words, *judge_server.options])
    until(lambda: len(judge_server.asked) >= 8, "eight questions")
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = (run / "judge.jsonl").read_bytes().count(b"\n")
    assert 0 < kept < COUNT
    with (run / "judge.jsonl").open("ab") as file:
        file.write(b'{"item": "34", "criterion": "ma')  # what a crash in mid-line leaves
    judge_server.delay, before = 0.0, len(judge_server.asked)
    assert main([*words, *judge_server.options]) == 0
    assert len(judge_server.asked) - before == COUNT - kept, "a reply that was on disk was asked for again"
    resumed = (run / "scores/scores.jsonl").read_bytes()
    (run / "judge.jsonl").unlink()
    assert main([*words, *judge_server.options]) == 0
    assert (run / "scores/scores.jsonl").read_bytes() == resumed


def test_a_killed_generation_keeps_its_attempts_and_ends_the_same(tmp_path: Path) -> None:
    words = ["bench", "tiny", "generate", "--requests", "3", "--request-seed", "2", "--t-max", "3"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    process = start([*words, "--out", str(run)])
    kept = run / "work" / "runs"
    until(lambda: len(list(kept.rglob("attempts/*.png"))) >= 4 or process.poll() is not None, "four attempts")
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = {p: p.stat().st_mtime_ns for p in (run / "work" / "plans").glob("*.json")}
    attempts = len((next(kept.iterdir()) / "trajectory.jsonl").read_bytes().splitlines())
    assert made and attempts >= 1
    for folder in (run, whole):
        assert main([*words, "--out", str(folder)]) == 0
    assert {p: p.stat().st_mtime_ns for p in made} == made, "a plan was made again"
    files = sorted(p.relative_to(whole / "outputs") for p in (whole / "outputs").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(run / "outputs") for p in (run / "outputs").rglob("*") if p.is_file())
    for file in files:
        assert (run / "outputs" / file).read_bytes() == (whole / "outputs" / file).read_bytes(), file
    first = json.loads((whole / "generated.jsonl").read_text().splitlines()[0])
    assert first["generator_calls"] >= attempts


def wise_marks(run: Path) -> dict[int, dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "scores/scores.jsonl").read_text().splitlines()]
    return {r["prompt_id"]: r for r in rows}


@pytest.mark.parametrize("kind", ["refuses", "babbles"])
def test_a_judge_that_fails_one_call_in_five_leaves_the_rest_as_it_is(
    kind: str, tmp_path: Path, judge_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words, run = wise_run(tmp_path)
    whole = judge_server.answer
    assert main([*words, *judge_server.options]) == 0
    right = wise_marks(run)
    (run / "judge.jsonl").unlink()

    def fails(text: str) -> bool:
        return int(re.search(r"thing (\d+)", text).group(1)) % 5 == 0  # type: ignore[union-attr]

    judge_server.answer = lambda text: whole(text) if not fails(text) else None if kind == "refuses" else "Well, well."
    capsys.readouterr()
    assert main([*words, *judge_server.options]) == 0
    said = capsys.readouterr().out
    lost = [n for n in ids() if n % 5 == 0]
    assert wise_marks(run) == {n: r for n, r in right.items() if n not in lost}
    assert f"| {COUNT - len(lost)} of {COUNT} |" in said
    count = {"refuses": f"{len(lost)} without any", "babbles": f"{len(lost)} criteria without a readable reply"}[kind]
    assert count in said, said

    judge_server.answer, before = whole, len(judge_server.asked)
    assert main([*words, *judge_server.options, *(["--retry-failed"] if kind == "babbles" else [])]) == 0
    assert len(judge_server.asked) - before == len(lost) and wise_marks(run) == right


def test_a_rise_item_whose_consistency_call_failed_is_not_passed(tmp_path: Path, judge_server: Any) -> None:
    """One call in five fails: accuracy is that of the items judged whole, and the others are counted."""
    folder = tmp_path / "run" / "outputs" / "images" / "causal_reasoning"
    folder.mkdir(parents=True)
    rows = []
    for n in range(10):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(folder / f"causal_reasoning_{n}.png")
        Image.new("RGB", (8, 8), (0, n, 0)).save(tmp_path / f"{n}.png")
        row = {"index": f"causal_reasoning_{n}", "category": "causal_reasoning", "instruction": f"thing {n}"}
        rows.append(row | {"image": f"{n}.png", "reference": "x"})
    data = tmp_path / "rise.json"
    data.write_text(json.dumps(rows), encoding="utf-8")

    def answer(text: str) -> str | None:
        lost = "has stayed as it was" in text and int(re.search(r"thing (\d+)", text).group(1)) % 5 == 0  # type: ignore[union-attr]
        return None if lost else "Final Score: 5"

    judge_server.answer = answer
    words = ["bench", "rise", "judge", "--data", str(data), "--out", str(tmp_path / "run"), *judge_server.options]
    assert main(words) == 0
    accuracy = next(m for m in Rise(data).aggregate([tmp_path / "run/scores/judge.json"]) if m.name == "accuracy")
    assert len(accuracy.values) == 8 and accuracy.failed == 2


def test_a_second_judge_is_asked_everything_and_the_first_nothing_again(
    tmp_path: Path, judge_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words, _ = wise_run(tmp_path)
    known = json.loads(judge_server.endpoints.read_text())
    judge_server.endpoints.write_text(json.dumps(known | {"other": known["judge"] | {"model": "other"}}))
    other = ["--judge", "endpoint:other", "--endpoints", str(judge_server.endpoints)]
    counts = []
    for options in (judge_server.options, other, judge_server.options, other):
        before = len(judge_server.asked)
        capsys.readouterr()
        assert main([*words, *options]) == 0
        counts.append(len(judge_server.asked) - before)
        assert f"{counts[-1]} judge calls" in (said := capsys.readouterr().out) or counts[-1] == 0, said
    assert counts == [COUNT, COUNT, 0, 0]


def test_a_picture_that_cannot_be_read_costs_its_own_item_only(
    tmp_path: Path, judge_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words, run = wise_run(tmp_path)
    (run / "outputs" / "34.png").write_bytes(b"no picture")
    assert main([*words, *judge_server.options]) == 0
    said = capsys.readouterr().out
    assert "34 could not be judged: Cannot read picture" in said and f"| {COUNT - 1} of {COUNT} |" in said


def test_a_run_goes_on_only_with_what_it_was_begun_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "tiny", "generate", "--requests", "1", "--system", "raw", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    for other in (["--request-seed", "2"], ["--size", "128x128"], ["--system", "no-critic"]):
        capsys.readouterr()
        assert main([*words, *other]) == 1
        assert "Choose another --out" in capsys.readouterr().err
    assert main(["bench", "tiny", "judge", "--requests", "2", "--out", str(tmp_path / "run")]) == 1
    assert main([*words, "--limit", "0"]) == 1


def test_an_unreadable_reply_is_asked_for_three_times_and_then_kept(tmp_path: Path, judge_server: Any) -> None:
    words, run = wise_run(tmp_path)
    judge_server.answer = lambda text: "no"
    assert main([*words, *judge_server.options, "--limit", "2"]) == 0
    assert len(judge_server.asked) == 6
    assert main([*words, *judge_server.options, "--limit", "2"]) == 0
    assert len(judge_server.asked) == 6, "a failed reply is final until --retry-failed"
    assert (run / "scores/scores.jsonl").read_text() == ""


def test_a_picture_that_changed_is_judged_anew(tmp_path: Path, judge_server: Any) -> None:
    words, run = wise_run(tmp_path)
    assert main([*words, *judge_server.options]) == 0
    Image.new("RGB", (8, 8), (0, 0, 255)).save(run / "outputs/34.png")
    assert main([*words, *judge_server.options]) == 0
    assert len(judge_server.asked) == COUNT + 1


def test_many_at_a_time_give_the_same_as_one(tmp_path: Path, judge_server: Any) -> None:
    words, run = wise_run(tmp_path)
    assert main([*words, *judge_server.options]) == 0
    scores = (run / "scores/scores.jsonl").read_bytes()
    (run / "judge.jsonl").unlink()
    judge_server.delay, begun = 0.5, time.monotonic()
    assert main([*words, *judge_server.options, "--concurrency", "10"]) == 0
    assert (run / "scores/scores.jsonl").read_bytes() == scores
    assert time.monotonic() - begun < COUNT * 0.5, "ten at a time took longer than one after another would"


def outputs_from_elsewhere(run: Path, *ids: object) -> None:
    """As upstream's runner writes them."""
    (run / "outputs").mkdir(parents=True)
    entries = [{"id": item, "text_answer": "a circle", "image_answer": []} for item in ids]
    (run / "outputs" / "outputs.json").write_text(json.dumps(entries), encoding="utf-8")


def test_a_costly_run_says_what_it_takes_and_waits_for_yes(
    tmp_path: Path, judge_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": n, "prompt": "?", "text_rubrics": ["a"] * 30, "image_rubrics": ["b"] * 30} for n in range(10)]
    data = tmp_path / "u.json"
    data.write_text(json.dumps(rows), encoding="utf-8")
    outputs_from_elsewhere(tmp_path / "run", *range(10))
    words = ["bench", "ueval", "judge", "--data", str(data), "--out", str(tmp_path / "run"), *judge_server.options]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "600 judge calls" in said.out and "--yes" in said.err and not judge_server.asked
    assert main([*words, "--dry-run"]) == 0 and not judge_server.asked
    assert main([*words, "--limit", "2", "--concurrency", "8"]) == 0 and len(judge_server.asked) == 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wise", "judge", "--judge", "tiny"], "WISE needs its prompts"),
        (["ueval", "judge", "--data", "DATA", "--judge", "tiny"], "knows the tiny world's pictures only"),
        (["ueval", "judge", "--data", "DATA", "--judge", "checker"], "Give a model folder or endpoint:NAME"),
        (["rise", "generate", "--data", "none.json", "--system", "raw"], "none.json"),
        (["ueval", "generate", "--data", "DATA", "--system", "full"], "needs --planner"),
        (["ueval", "generate", "--data", "DATA", "--planner", "nowhere"], "nowhere"),
        (["ueval", "judge", "--data", "DATA", "--judge", "endpoint:x", "--endpoints", "none.toml"], "none.toml"),
        (["ueval", "generate", "--data", "BAD"], "record 1 has no 'prompt'"),
        (["ueval", "generate", "--data", "TWICE", "--system", "raw", "--generator", "tiny"], "twice"),
        (["ueval", "generate", "--data", "PATH", "--system", "raw", "--generator", "tiny"], "plain ids"),
        (["comm", "generate", "--data", "DATA", "--tasks", "3,9"], "tasks 1 to 4"),
        (["ueval", "generate", "--data", "DATA", "--system", "workflow"], "--workflow"),
        (
            ["ueval", "generate", "--data", "DATA", "--system", "raw", "--generator", "tiny", "--size", "big"],
            "1024x1024",
        ),
        (
            ["ueval", "generate", "--data", "DATA", "--system", "raw", "--generator", "tiny", "--size", "1024x1024"],
            "at most 256x256",
        ),
    ],
)
def test_bad_input_gets_one_line_that_names_it(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "DATA": [{"id": "a", "prompt": "?"}],
        "BAD": [{"id": "a"}],
        "TWICE": [{"id": "a", "prompt": "?"}, {"id": "a", "prompt": "?"}],
        "PATH": [{"id": "../../a", "prompt": "?"}],
    }
    for name, rows in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    if words[1] == "judge":
        outputs_from_elsewhere(tmp_path / "run", "a")
    known = {name: str(tmp_path / f"{name}.json") for name in files}
    assert main(["bench", *(known.get(w, w) for w in words), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("Error: ") and error.count("\n") < 8 and "Traceback" not in error


def test_a_run_folder_of_another_benchmark_is_not_continued(tmp_path: Path, judge_server: Any) -> None:
    words, run = wise_run(tmp_path)
    (run / "run.json").write_text(json.dumps({"generate": {"bench": "rise", "system": "raw", "data": {}}}))
    data = words[4]
    generate = [
        "bench",
        "wise",
        "generate",
        "--data",
        data,
        "--out",
        str(run),
        "--system",
        "raw",
        "--generator",
        "tiny",
    ]
    assert main(generate) == 1


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CoMM comes as torch pickles: only plain data is loaded from them."""
    import os

    import torch

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save([Trap()], tmp_path / "bad.pth")
    words = ["--system", "raw", "--generator", "tiny", "--out", str(tmp_path / "run")]
    assert main(["bench", "comm", "generate", "--data", str(tmp_path / "bad.pth"), *words]) == 1
    assert "plain data" in capsys.readouterr().err and not (tmp_path / "ran").exists()
    document = {"data_id": "a", "title": "Draw a red circle", "step_info": [], "summary_info": []}
    torch.save([document], tmp_path / "good.pth")
    assert main(["bench", "comm", "generate", "--data", str(tmp_path / "good.pth"), *words]) == 0


def test_stages_take_over_what_a_run_was_generated_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--limit, --requests and --request-seed need not be said again, by judge, aggregate or report."""
    run = str(tmp_path / "run")
    made = ["--requests", "3", "--request-seed", "4", "--limit", "2", "--system", "raw"]
    assert main(["bench", "tiny", "generate", *made, "--out", run]) == 0
    capsys.readouterr()
    assert main(["bench", "tiny", "judge", "--out", run]) == 0
    said = capsys.readouterr().out
    assert "2 of 2" in said and "no output" not in said.lower()
    for words in (["aggregate", run], ["report", run]):
        assert main(["bench", "tiny", *words]) == 0
        assert "2 of 2" in capsys.readouterr().out
    assert main(["bench", "tiny", "judge", "--out", run, "--limit", "3"]) == 0
    assert "No output: 1 of 3 items" in capsys.readouterr().out


def test_a_run_that_was_not_judged_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["bench", "tiny", "generate", "--requests", "1", "--system", "raw", "--out", run]) == 0
    for stage in ("aggregate", "report"):
        capsys.readouterr()
        assert main(["bench", "tiny", stage, run]) == 1
        assert "was not judged yet" in capsys.readouterr().err


def test_the_tiny_worlds_own_models_need_no_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line of docs/benchmarks.md; a critic of somebody's server may cost, and is asked about."""
    words = ["bench", "tiny", "generate", "--system", "full", "--t-max", "5", "--out", str(tmp_path / "run")]
    assert main([*words, "--critic", "endpoint:paid"]) == 1
    assert "Add --yes" in capsys.readouterr().err
    assert main([*words, "--limit", "1"]) == 0 and "at most" in capsys.readouterr().out
    assert main([*words, "--requests", "16", "--dry-run"]) == 0


@pytest.mark.parametrize(("given", "limit"), [([], 4096), (["--max-tokens", "9000"], 9000)])
def test_a_judge_may_think_before_it_answers(
    given: list[str], limit: int, tmp_path: Path, judge_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as upstream lets it, or as an option says; a reply that is there counts under any limit."""
    asked: list[int] = []
    own = ServerAgent.complete

    def noted(agent: ServerAgent, messages: Any, sampling: Any, *more: Any) -> Any:
        asked.append(sampling.max_tokens)
        return own(agent, messages, sampling, *more)

    monkeypatch.setattr(ServerAgent, "complete", noted)
    words, _ = wise_run(tmp_path)
    assert main([*words, *judge_server.options, "--limit", "2", *given]) == 0
    assert asked == [limit] * 2
    assert main([*words, *judge_server.options, "--limit", "2", "--max-tokens", "77"]) == 0
    assert len(asked) == 2
