"""Judged answers that VIEScore released, through our aggregator, give the means that its notebook prints.

The files hold the scores of TIGER-AI-Lab/VIEScore `_answers/results_gemini_0shot` (MIT licence) without the
judge's words, but for upstream's mark of a guessed score; its tables count guesses.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from interleave_thinker.research.bench.metric import figure
from interleave_thinker.research.bench.totals import published_table
from interleave_thinker.research.bench.viescore import GUESS, VIEScore, find_folders

RELEASED = Path(__file__).parent / "viescore_gemini_0shot"
ROWS = {f"{r['task']}/{r['system']}": r for r in published_table("viescore-means")["rows"]}


@pytest.mark.parametrize("folder", find_folders(RELEASED), ids=lambda f: f.name)
def test_released_scores_give_the_printed_row(folder: Path) -> None:
    printed = ROWS["/".join(folder.parts[-2:])]
    metrics = {m.name: m for m in VIEScore().aggregate([folder])}
    assert metrics["SC"].expected == printed["n"]
    for part in ("SC", "PQ", "O"):
        metric = metrics.get(f"{part}, upstream", metrics[part])
        spread = re.search(r"population std ([\d.]+)", metric.note)
        assert figure(metric).value == pytest.approx(printed[f"{part.lower()}_mean"], abs=0.00006)
        assert spread and float(spread.group(1)) == pytest.approx(printed[f"{part.lower()}_std"], abs=0.00011)


def test_guesses_count_in_the_rows_of_upstream_alone(tmp_path: Path) -> None:
    """Upstream's correlations hold the marks that it guessed; ours leave them out, and both stand in the table."""
    raters = sorted((RELEASED / "human").rglob("*.tsv"))
    released = RELEASED / "ImagenHub_Text-Guided_IG" / "OpenJourney"
    folder = tmp_path / "ImagenHub_Text-Guided_IG" / "OpenJourney"
    folder.mkdir(parents=True)
    for part in ("SC", "PQ"):
        marks = json.loads((released / f"{part}.json").read_text())
        for number, uid in enumerate(marks):
            if part == "SC" and number % 3 == 0:
                marks[uid]["reasoning"] = f"{GUESS} | not a mark"
        (folder / f"{part}.json").write_text(json.dumps(marks))
    found = {m.name: figure(m) for m in VIEScore(human=raters).aggregate([folder])}
    whole = {m.name: figure(m) for m in VIEScore(human=raters).aggregate([released])}
    system = "ImagenHub_Text-Guided_IG/OpenJourney"
    assert not [name for name in whole if "upstream" in name], "nothing was guessed there"
    for part in ("SC", "PQ", "O"):
        for name in (f"rho {part} {system}", f"rho {part} ImagenHub_Text-Guided_IG", f"rho {part}"):
            assert found[f"{name}, upstream"].value == whole[name].value
    assert found[f"rho PQ {system}"].value == whole[f"rho PQ {system}"].value
    assert found[f"rho SC {system}"].value != whole[f"rho SC {system}"].value
    assert found[f"rho SC {system}"].items < whole[f"rho SC {system}"].items


def test_every_printed_row_is_compared() -> None:
    assert {"/".join(f.parts[-2:]) for f in find_folders(RELEASED)} == set(ROWS)


def test_released_ratings_give_the_printed_correlations() -> None:
    """Spearman's rho with the mean of the three raters. O has ties that differ by rounding alone: 0.003 of play."""
    raters = sorted((RELEASED / "human").rglob("*.tsv"))
    folder = RELEASED / "ImagenHub_Text-Guided_IG" / "OpenJourney"
    metrics = {m.name: m for m in VIEScore(human=raters).aggregate([folder])}
    rows = published_table("viescore-rho")["rows"]
    (printed,) = [r for r in rows if f"{r['task']}/{r['system']}" == "ImagenHub_Text-Guided_IG/OpenJourney"]
    for part, play in (("SC", 0.00006), ("PQ", 0.00006), ("O", 0.003)):
        found = figure(metrics[f"rho {part} ImagenHub_Text-Guided_IG/OpenJourney"])
        assert found.value == pytest.approx(printed[part.lower()], abs=play)
        assert found.low is not None and found.high is not None and found.low < found.value < found.high
