"""`bench NAME agree`: how far judges agree on the same outputs, against figures that were worked out by hand."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from interleave_thinker.cli import main
from interleave_thinker.research.bench.agreement import agreements, cohens_kappa
from interleave_thinker.research.bench.base import BenchError
from interleave_thinker.research.bench.metric import Metric, figure
from interleave_thinker.research.bench.rise import Rise
from interleave_thinker.research.bench.ueval import UEval

RELEASED = Path(__file__).parent / "viescore_gemini_0shot"
SYSTEM = "ImagenHub_Text-Guided_IE/Pix2PixZero"


def metric(name: str, **values: float) -> Metric:
    return Metric(name, values, len(values))


def test_figures_by_hand() -> None:
    """Ten items: both say 1 to four, both 0 to three, ours alone 1 to two, theirs alone 1 to one. Equal 7 of 10; by
    chance 0.6 * 0.5 + 0.4 * 0.5 = 0.5; kappa (0.7 - 0.5) / 0.5 = 0.4."""
    ours = [1, 1, 1, 1, 0, 0, 0, 1, 1, 0]
    theirs = [1, 1, 1, 1, 0, 0, 0, 0, 0, 1]
    a, b = ({str(n): float(v) for n, v in enumerate(of)} for of in (ours, theirs))
    (found,) = agreements([metric("met", **a)], [metric("met", **b)])
    assert found.items == 10 and found.equal.value == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4) and found.difference.value == pytest.approx(0.1)
    assert found.rho is not None and found.rho.value == pytest.approx(spearmanr(ours, theirs).statistic)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=3, max_size=40))
def test_a_judge_agrees_with_itself_and_the_order_does_not_matter(pairs: list[tuple[int, int]]) -> None:
    a, b = ({str(n): float(p[k]) for n, p in enumerate(pairs)} for k in (0, 1))
    (itself,) = agreements([metric("m", **a)], [metric("m", **a)])
    assert itself.equal.value == 1 and itself.difference.value == 0
    (there,), (back,) = (
        agreements([metric("m", **a)], [metric("m", **b)]),
        agreements([metric("m", **b)], [metric("m", **a)]),
    )
    assert there.equal.value == back.equal.value and there.kappa == pytest.approx(back.kappa)
    assert there.difference.value == pytest.approx(-(back.difference.value or 0.0))
    assert (there.rho is None) == (back.rho is None)


def test_kappa_is_for_two_kinds_alone() -> None:
    assert cohens_kappa([1, 2, 3], [1, 2, 3]) is None and cohens_kappa([1, 1], [1, 1]) is None
    assert cohens_kappa([1, 0], [0, 1]) == pytest.approx(-1)


def test_only_items_of_both_count_and_none_is_an_error() -> None:
    (found,) = agreements([metric("m", a=1, b=0, c=1)], [metric("m", b=0, c=0, d=1)])
    assert (found.items, found.equal.value) == (2, 0.5)
    with pytest.raises(BenchError, match=r"'m' of 'a', the other 'm' of 'z'"):
        agreements([metric("m", a=1)], [metric("m", z=1)])


def test_systems_are_pooled_and_guesses_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Upstream's released answers with themselves: one line for SC, PQ and O each, over all systems."""
    out = tmp_path / "a.json"
    assert main(["bench", "viescore", "agree", str(RELEASED), "--with", str(RELEASED), "--json", str(out)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "viescore_gemini_0shot |" in line]
    assert [line.split("|")[1].strip() for line in lines] == ["SC", "PQ", "O"]
    (found,) = json.loads(out.read_text()).values()
    assert all(entry["equal"]["value"] == 1 and entry["spearman"]["value"] == pytest.approx(1) for entry in found)
    assert found[0]["items"] > 4000


def test_a_run_folder_is_compared_with_its_systems_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(RELEASED / SYSTEM, run / "scores")
    assert main(["bench", "viescore", "agree", str(run), "--with", str(RELEASED / SYSTEM)]) == 0
    assert "| SC | run | " in capsys.readouterr().out


def test_the_printed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/benchmarks.md: two judges beside each other. One gives a mark less in every second item."""
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"(?m)^interleave-thinker (bench viescore agree .*)$", page)
    monkeypatch.chdir(tmp_path)
    for place in ("runs/open_judge", "runs/hosted_judge", "released/results_gpt4o_0shot"):
        shutil.copytree(RELEASED / SYSTEM, Path(place) / SYSTEM)
    changed = 0
    for name in ("SC", "PQ"):
        file = Path("runs/open_judge") / SYSTEM / f"{name}.json"
        records: dict[str, Any] = json.loads(file.read_text())
        for record in list(records.values())[::2]:
            record["score"] = [max(0, int(mark) - 1) for mark in record["score"]]
            changed += 1
        file.write_text(json.dumps(records))
    assert changed > 50 and main(shlex.split(line)) == 0
    table = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in capsys.readouterr().out.splitlines()
        if "_judge |" in row
    ]
    equal = {(row[0], row[1]): float(row[3].rstrip("%")) for row in table}
    assert equal["SC", "hosted_judge"] == 100 and equal["SC", "open_judge"] < 95


def ueval_file(path: Path, *, lost: int | None = None) -> Path:
    """Eight items, judged alike but for one whose pictures one judge could not judge."""
    whole = {"met": 1, "total": 2, "rate": 0.5}
    items = [{"id": str(n), "text_score": whole, "image_score": whole} for n in range(8)]
    if lost is not None:
        items[lost] = {**items[lost], "image_score": {"met": 0, "total": 0, "rate": None, "failed": 2}}
    path.write_text(json.dumps({"items": items}))
    return path


def test_what_one_judge_could_not_judge_moves_no_other_item(tmp_path: Path) -> None:
    ours, theirs = (UEval().aggregate([ueval_file(tmp_path / f"{n}.json", lost=n)]) for n in (3, None))
    assert {a.metric: a.equal.value for a in agreements(ours, theirs)} == {
        "text": 1.0,
        "image": 1.0,
        "pooled average": 1.0,
        "items": 1.0,
    }


def test_a_failed_judgment_agrees_with_nothing(tmp_path: Path) -> None:
    """RISE's "failed as wrong" has a value for it, which no judge gave."""
    rows = {
        f"temporal_reasoning_{n}": {"category": "temporal", "judge1": "x", "judge2": "x", "judge3": "x"} for n in "123"
    }
    full = {i: {**row, **{f"judge{k}": "Final Score: 5" for k in "123"}} for i, row in rows.items()}
    metrics = []
    for name, of in (("a", rows), ("b", full)):
        (tmp_path / f"{name}.json").write_text(json.dumps(of))
        metrics.append(Rise().aggregate([tmp_path / f"{name}.json"]))
    with pytest.raises(BenchError, match="judged by both"):
        agreements(*metrics)
    (failed,) = (m for m in metrics[0] if m.name == "accuracy, failed as wrong")
    assert (failed.judged, failed.failed, failed.expected) == (0, 3, 3) and figure(failed).value == 0.0
