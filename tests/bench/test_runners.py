"""Each benchmark from its official records to its official output layout and scores: tiny models generate,
a judge behind a real HTTP server answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interleave_thinker.cli import main
from interleave_thinker.cli.research.bench import _scores_of
from interleave_thinker.research.bench.base import Benchmark, Output, Step
from interleave_thinker.research.bench.comm import CoMM
from interleave_thinker.research.bench.metric import figure
from interleave_thinker.research.bench.rise import Rise
from interleave_thinker.research.bench.ueval import TASKS, UEval
from interleave_thinker.research.bench.viescore import VIEScore
from interleave_thinker.research.bench.wise import Wise
from interleave_thinker.tinyworld.requests import draw_request, held_out
from interleave_thinker.tinyworld.scene import Jitter, render

TINY = ["--planner", "tiny", "--critic", "tiny", "--generator", "tiny", "--t-max", "2"]


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def ueval_data(folder: Path) -> list[str]:
    rows = [
        {
            "id": n,
            "prompt": f"{request.text} Answer both visually and textually.",
            "task": TASKS[n % 8],
            "text_rubrics": ["It names the shape.", "It is in order."],
            "image_rubrics": [{"criterion": "The first picture shows the shape.", "tags": []}],
        }
        for n, request in enumerate(held_out(8, 11))
    ]
    return ["--data", str(write(folder / "ueval.json", rows))]


def wise_data(folder: Path) -> list[str]:
    rows = [
        {"Prompt": r.text, "Explanation": "its last picture", "Category": "x", "Subcategory": "y", "prompt_id": i}
        for r, i in zip(held_out(8, 12), (1, 2, 401, 568, 701, 801, 901, 1000), strict=True)
    ]
    return ["--data", str(write(folder / "wise.json", rows))]


def rise_data(folder: Path) -> list[str]:
    """Two of each category, with every kind of reference and flag that the records know."""
    rows = []
    for n, request in enumerate(held_out(8, 13, kind="continue")):
        category = ("temporal", "causal", "spatial", "logical")[n % 4] + "_reasoning"
        image = f"{category}_images/{n}.png"
        (folder / image).parent.mkdir(exist_ok=True)
        request.images()[0].save(folder / image)
        row: dict[str, Any] = {
            "index": f"{category}_{n}",
            "category": category,
            "instruction": request.text,
            "image": image,
        }
        second = n >= 4
        if category == "logical_reasoning":
            row |= {"reference_img": image} if second else {"reference_txt": "a circle"}
        elif category == "spatial_reasoning" and second:
            row |= {"reference_img": image}
        else:
            row |= {"reference": "the shape has changed"}
        if category == "temporal_reasoning" and second:
            row["consistency_free"] = True
        if category == "causal_reasoning" and second:
            row["reasoning_img"] = True
        rows.append(row | {"subtask": "Life Progression" if n == 0 else None})
    return ["--data", str(write(folder / "rise.json", rows))]


def comm_data(folder: Path) -> list[str]:
    rows = []
    for n, request in enumerate(held_out(6, 14)):
        steps = []
        for k, scene in enumerate(request.scenes):
            name = f"{n}_{k}.jpg"
            render(scene, Jitter()).save(folder / name)
            steps.append([{"type": "text", "content": "a step"}, {"type": "image", "url": "", "image_path": name}])
        rows.append(
            {"data_id": f"doc{n}", "dataset_type": "x", "title": request.text, "step_info": steps, "summary_info": []}
        )
    return ["--data", str(write(folder / "comm.json", rows)), "--tasks", "3,4"]


def viescore_data(folder: Path) -> list[str]:
    rows: list[dict[str, Any]] = []
    for n, request in enumerate(held_out(8, 15, kind="continue")):
        request.images()[0].save(folder / f"source{n}.png")
        rows.append({"uid": f"sample_{n}", "prompt": request.text, "image": f"source{n}.png"})
    return ["--data", str(write(folder / "vie.json", rows))]


MAKERS: dict[str, Callable[[Path], list[str]]] = {
    "ueval": ueval_data,
    "wise": wise_data,
    "rise": rise_data,
    "comm": comm_data,
    "viescore": viescore_data,
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


OPENED: dict[str, Callable[[Path], Benchmark]] = {
    "ueval": UEval,
    "wise": lambda data: Wise([data], None),
    "rise": lambda data: Rise(data, None),
    "comm": lambda data: CoMM(data, None, [3, 4]),
    "viescore": lambda data: VIEScore(data, []),
}


@pytest.mark.parametrize("outputs", ["no folder", "an empty folder", "outputs of other items"])
@pytest.mark.parametrize("name", MAKERS)
def test_a_judge_is_not_asked_where_there_is_nothing_to_judge(
    name: str, outputs: str, tmp_path: Path, run: Path, judge_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong --out costs nothing, and does not score 0."""
    data = MAKERS[name](tmp_path)
    if outputs != "no folder":
        (run / "outputs").mkdir(parents=True)
    if outputs == "outputs of other items":
        bench = OPENED[name](Path(data[1]))
        other = replace(bench.items()[0], id="999_task3" if name == "comm" else "999")
        bench.save(run / "outputs", other, Output((Step("a circle", Image.new("RGB", (64, 64))),)))
        bench.finish(run / "outputs", [other])
    assert main(["bench", name, "judge", *data, "--out", str(run), *judge_server.options]) == 1
    error = capsys.readouterr().err
    assert "nothing to judge" in error and "generate" in error and str(run) in error
    assert judge_server.asked == [] and not (run / "scores").exists()


@pytest.mark.parametrize("name", MAKERS)
def test_what_has_no_output_is_left_out_and_said_in_every_table(
    name: str, tmp_path: Path, run: Path, judge_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the tables of judge, aggregate and report count the same items, with the data and without."""
    data = MAKERS[name](tmp_path)
    bench = OPENED[name](Path(data[1]))
    items = bench.items()
    made = items[1:4]
    for item in made:
        bench.save(run / "outputs", item, Output((Step("a circle", Image.new("RGB", (64, 64), "red")),)))
    bench.finish(run / "outputs", items)
    assert main(["bench", name, "judge", *data, "--out", str(run), *judge_server.options]) == 0
    said = capsys.readouterr().out
    assert len(judge_server.asked) <= sum(map(bench.judge_calls, made))
    assert f"No output: {len(items) - 3} of {len(items)} items; they are left out." in said

    def rows(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("| ") and "&nbsp;" not in line]

    table = rows(said)
    counted = f"; no output: {len(items) - 3} of {len(items)}"
    assert len(table) > 1 and all(counted in row for row in table[1:])
    assert not any(re.search(r"\b(?:[4-9]|1\d) of \d+;", row) for row in table), "no more than three are counted"
    for more in ([], data):
        assert main(["bench", name, "aggregate", str(run), *more, "--json", str(tmp_path / "f.json")]) == 0
        assert rows(capsys.readouterr().out) == table
        found = json.loads((tmp_path / "f.json").read_text())
        assert {metric["no_output"] for metric in found.values()} == {len(items) - 3}
        assert main(["bench", name, "report", str(run), *more]) == 0
        assert rows((run / "report.md").read_text()) == table
        assert f",{len(items) - 3}\n" in (run / "report.csv").read_text()
        capsys.readouterr()


def test_the_tiny_generator_scales_a_large_reference(tmp_path: Path, run: Path) -> None:
    """At its own size an edit of a megapixel took twenty minutes."""
    data = viescore_data(tmp_path)
    row = json.loads(Path(data[1]).read_text())[0]
    Image.effect_noise((1024, 1024), 60).convert("RGB").save(tmp_path / row["image"])
    write(Path(data[1]), [row])
    generate("viescore", data, run, "--system", "raw", "--generator", "tiny")
    assert Image.open(run / "outputs" / f"{row['uid']}.png").size == (64, 64)


def generate(name: str, data: list[str], run: Path, *more: str) -> None:
    assert main(["bench", name, "generate", *data, "--out", str(run), *(more or TINY), "--yes"]) == 0


@pytest.mark.parametrize("name", ["ueval", *(pytest.param(n, marks=pytest.mark.slow) for n in MAKERS if n != "ueval")])
def test_a_benchmark_runs_from_records_to_its_table(
    name: str, tmp_path: Path, run: Path, judge_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = MAKERS[name](tmp_path)
    generate(name, data, run)
    made = re.search(r"(\d+) of (\d+) items have an output", said := capsys.readouterr().out)
    assert made and int(made.group(1)) >= 8 and (made.group(2) == "8" or name == "comm"), said
    assert main(["bench", name, "judge", *data, "--out", str(run), *judge_server.options]) == 0
    first, calls = capsys.readouterr().out, len(judge_server.asked)
    assert f"{calls} calls, 0 recalled; 0 criteria without a readable reply, 0 without any" in first
    CHECKS[name](run, judge_server)
    scores = {p: p.read_bytes() for p in (run / "scores").rglob("*") if p.is_file()}
    assert main(["bench", name, "judge", *data, "--out", str(run), *judge_server.options]) == 0
    assert len(judge_server.asked) == calls, "a reply that is there was asked for again"
    assert scores == {p: p.read_bytes() for p in (run / "scores").rglob("*") if p.is_file()}
    assert main(["bench", name, "report", str(run), *data]) == 0
    assert all((run / f"report.{kind}").stat().st_size for kind in ("json", "csv", "md", "png"))


def check_ueval(run: Path, server: Any) -> None:
    entries = json.loads((run / "outputs/outputs.json").read_text())
    assert [set(e) for e in entries] == [{"id", "text_answer", "image_answer"}] * 8
    for entry in entries:
        assert entry["text_answer"] and entry["image_answer"]
        for path in entry["image_answer"]:
            Image.open(run / "outputs" / path).verify()
    results = json.loads((run / "scores/results.json").read_text())
    assert results["summary"]["num_items"] == 8 and len(server.asked) == 8 * 3
    assert "both visually" not in json.dumps([json.loads(p.read_text()) for p in (run / "work/plans").iterdir()])
    shown = [n for text, n in zip(server.asked, server.pictures, strict=True) if "pictures stand above" in text]
    assert sorted(shown) == sorted(len(e["image_answer"]) for e in entries), "all pictures of an answer are shown"


def check_wise(run: Path, server: Any) -> None:
    ids = (1, 2, 401, 568, 701, 801, 901, 1000)
    assert sorted(int(p.stem) for p in (run / "outputs").glob("*.png")) == list(ids)
    rows = [json.loads(line) for line in (run / "scores/scores.jsonl").read_text().splitlines()]
    assert [set(r) for r in rows] == [{"prompt_id", "Subcategory", "consistency", "realism", "aesthetic_quality"}] * 8
    assert server.pictures == [1] * 8


def check_rise(run: Path, server: Any) -> None:
    names = sorted(p.relative_to(run / "outputs").as_posix() for p in (run / "outputs").rglob("*.png"))
    assert names[0] == "images/causal_reasoning/causal_reasoning_1.png" and len(names) == 8
    judged = json.loads((run / "scores/judge.json").read_text())
    assert judged["temporal_reasoning_4"]["judge1"] is None and "judge3" not in judged["logical_reasoning_3"]
    assert len(server.asked) == 3 * 5 + 2 + 2 * 2
    table = (run / "scores/judge.csv").read_text().splitlines()
    assert table[0] == "-,Score-Origin,Score-Percentage,Accuracy" and table[-1].startswith("Temp-Life Progression")
    overall = float(table[1].split(",")[3])
    (found,) = [m for m in Rise().aggregate([_scores_of(run)]) if m.name == "accuracy"]
    assert figure(found).value == pytest.approx(overall)


def check_comm(run: Path, server: Any) -> None:
    """The tiny planner has never met task 3's wording: what it cannot plan has failed and is counted, no more."""
    every = sorted(f"doc{n}_task{t}" for n in range(6) for t in (3, 4))
    samples = sorted(p.name for p in (run / "outputs").iterdir())
    assert set(samples) <= set(every) and {f"doc{n}_task4" for n in range(6)} <= set(samples)
    style = {m.name: m for m in CoMM().aggregate([run / "scores"])}["task3 style_consistency (Sty)"]
    assert style.failed == 12 - len(samples) and style.expected == 6
    for sample in samples:
        folder = run / "outputs" / sample
        results = json.loads((folder / "results.json").read_text())
        assert list(results) == [
            "model_input", "model_output", "input_image_list", "output_gt_image_list", "prediction_image_list",
        ]  # fmt: skip
        assert results["model_output"].count("<IMAGE>") == len(results["prediction_image_list"])
        assert all((folder / name).is_file() for name in results["prediction_image_list"])
        assert all(
            (folder / "origin" / n).is_file() for n in results["input_image_list"] + results["output_gt_image_list"]
        )
    third_name = next(n for n in samples if n.endswith("task3"))
    third = json.loads((run / "outputs" / third_name / "results.json").read_text())
    given = len(third["input_image_list"])
    assert given >= 1 and third["prediction_image_list"][0] == f"predict_{given + 1}.jpg"
    assert third["model_output"].startswith(f"({given + 1}) ")
    assert len(server.asked) == len(samples) * 3
    hidden = [n for text, n in zip(server.asked, server.pictures, strict=True) if '{"pictures"' in text]
    assert min(hidden) == 0 and max(hidden) <= given + 2, "the output's pictures are hidden in that call"


def check_viescore(run: Path, server: Any) -> None:
    for name in ("SC", "PQ"):
        marks = json.loads((run / f"scores/{name}.json").read_text())
        assert sorted(marks) == [f"sample_{n}" for n in range(8)] and all(len(m["score"]) == 2 for m in marks.values())
    assert sorted(server.pictures) == [1] * 8 + [2] * 8


CHECKS: dict[str, Callable[[Path, Any], None]] = {
    "ueval": check_ueval,
    "wise": check_wise,
    "rise": check_rise,
    "comm": check_comm,
    "viescore": check_viescore,
}


@pytest.mark.slow
def test_comm_tasks_1_and_2_have_outputs_and_scores(tmp_path: Path, run: Path, judge_server: Any) -> None:
    data = [*comm_data(tmp_path)[:2], "--tasks", "1,2"]
    main(["bench", "comm", "generate", *data, "--out", str(run), *TINY, "--yes"])
    assert main(["bench", "comm", "judge", *data, "--out", str(run), *judge_server.options]) == 0
    made = {folder.name for folder in (run / "outputs").iterdir() if (folder / "results.json").is_file()}
    for task, name in (("task1", "completeness_and_text_fidelity"), ("task2", "evaluation_results")):
        scored = {file.parent.name for file in (run / "scores").rglob(f"{name}.json")}
        assert scored == {item for item in made if item.endswith(task)} != set()


@pytest.mark.slow
def test_the_tiny_world_ranks_the_systems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain of acceptance: raw, planner only, planner and critic with each T_max, paired intervals."""
    runs = []
    requests = ["--requests", "5", "--request-seed", "5"]
    for name, options in {
        "raw": ["--system", "raw"],
        "planner": ["--system", "no-critic"],
        "t1": ["--t-max", "1"],
        "t3": ["--t-max", "3"],
        "t5": ["--t-max", "5"],
    }.items():
        run = tmp_path / name
        assert main(["bench", "tiny", "generate", *requests, "--out", str(run), *options]) == 0
        assert main(["bench", "tiny", "judge", *requests, "--out", str(run)]) == 0
        runs.append(run)
    assert main(["bench", "tiny", "report", *map(str, runs), *requests, "--out", str(tmp_path)]) == 0
    assert "minus the first" in capsys.readouterr().out
    found = json.loads((tmp_path / "report.json").read_text())["systems"]
    image = {name: found[name]["image"]["value"] for name in found}
    assert image["raw"] <= image["planner"] == image["t1"], "with one call a step the critic changes nothing"
    assert image["t5"] > image["t1"], "trying again must help"
    assert found["raw"]["text"]["value"] == 0.0 < found["t5"]["text"]["value"]


def test_a_request_of_the_world_is_found_again_by_its_seed() -> None:
    import random

    assert held_out(3, 5) == held_out(3, 5) != held_out(3, 6)
    assert draw_request(random.Random("held-out-5"), "story") == held_out(1, 5)[0]
