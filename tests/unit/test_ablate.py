"""The ablation: every row is told, intervals are what they say, and what is finished is not done again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interleave_thinker.cli import main
from interleave_thinker.errors import ConfigError
from interleave_thinker.research.ablate.experiment import Experiment
from interleave_thinker.research.ablate.report import estimate, summarised, table
from interleave_thinker.research.ablate.rows import BASE, COMPARISONS, ORACLE, ROWS, TRAININGS, chosen, trainings_for

CRITIC = Path(__file__).parents[2] / "interleave_thinker" / "tinyworld" / "weights" / "critic"


def test_rows_comparisons_and_trainings_name_each_other():
    names = {row.name for row in ROWS}
    assert len(names) == len(ROWS)
    assert all({c.better, c.worse} <= names for c in COMPARISONS)
    known = {t.name for t in TRAININGS} | {BASE, ORACLE, ""}
    assert all({row.planner, row.critic} <= known for row in ROWS)
    assert {row.name for row in ROWS if row.paper is None} == {
        "critic as a filter only", "GRPO, paper's reward", "GRPO, released reward",
        "SFT critic on right plans", "GRPO critic on right plans", "GRPO without step reward, right plans",
        "GRPO without accuracy reward, right plans", "critic on unfiltered data, right plans",
        "one agent for both as critic, right plans",
    }  # fmt: skip


def test_each_start_is_trained_before_what_goes_on_from_it():
    order = [t.name for t in trainings_for(chosen(None))]
    assert len(order) == len(TRAININGS)
    for training in TRAININGS:
        assert training.start == BASE or order.index(training.start) < order.index(training.name)
    assert [t.name for t in trainings_for(chosen("GRPO, full"))] == ["planner-sft", "critic-sft", "critic-rl"]
    with pytest.raises(ConfigError, match="no row 'full'"):
        chosen("full")


def test_the_interval_covers_seeds_and_requests():
    assert estimate({0: [1.0, 1.0], 1: [1.0]}) == {"mean": 1.0, "ci95": [1.0, 1.0]}
    same = estimate({0: [0.0, 1.0] * 50})
    apart = estimate({0: [0.0] * 100, 1: [1.0] * 100})
    width = [e["ci95"][1] - e["ci95"][0] for e in (same, apart)]
    assert same["mean"] == apart["mean"] == 0.5 and width[1] > 3 * width[0], "seeds that disagree are uncertainty"


def figures(*shares):
    return {
        s: {"shares": list(v), "critic_balanced_accuracy": 0.9, "attempts_per_step": 1.5} for s, v in enumerate(shares)
    }


def test_a_sign_is_reproduced_opposite_or_not_decided():
    found = summarised(
        {
            "GRPO, full": figures([1.0] * 20, [1.0] * 20),
            "+ planner and critic SFT": figures([0.0] * 20, [0.1] * 20),
            "full, T_max 5": figures([0.5] * 20, [0.4] * 20),
            "full, T_max 1": figures([1.0] * 20, [1.0] * 20),
        }
    )
    signs = {c["claim"]: c["sign"] for c in found["comparisons"]}
    assert signs == {
        "GRPO helps further": "reproduced",
        "five attempts beat three": "the opposite",
        "three attempts beat one": "not decided",
    }
    told = table(found)
    assert all(name in told for name in found["rows"]) and all(c["claim"] in told for c in found["comparisons"])
    assert [c["paper"] for c in found["comparisons"]] == [1.8, 5.1, 1.0], "the paper's own T_max on both sides"


def test_rows_without_training_run_for_real_and_only_once(tmp_path, monkeypatch):
    """With the real tiny generator; the second call reads what the first found, but not with another generator."""
    experiment = Experiment(tmp_path / "out", CRITIC, tmp_path, requests=2)
    rows = chosen("raw generator; oracle agents")
    found = experiment.run(rows, [0], lambda line: None)
    assert found["oracle agents"][0]["plan_valid"] == 1.0 and len(found["raw generator"][0]["shares"]) == 2
    said = []
    assert experiment.run(rows, [0], said.append) == found and said == []
    monkeypatch.setattr("interleave_thinker.research.ablate.experiment._generator_hash", lambda: "another")
    experiment.run(rows, [0], said.append)
    assert len(said) == 2


def test_the_filter_row_keeps_no_refined_prompt_of_the_full_critic(tmp_path, monkeypatch):
    """Both rows work with one store and one critic; what is recalled must be each row's own."""
    from interleave_thinker.research.ablate import experiment as module

    row = chosen("raw generator")[0].__class__
    rows = (row("full", ORACLE, BASE, 2), row("filter", ORACLE, BASE, 2, filter_only=True))
    used = {}
    real = module.run_plans

    def watched(*asked):
        tally = real(*asked)
        folder = asked[-1]
        lines = [json.loads(line) for p in folder.rglob("trajectory.jsonl") for line in p.read_text().splitlines()]
        used[folder.name] = [(a["attempt"], a["prompt"]) for a in lines]
        return tally

    monkeypatch.setattr(module, "run_plans", watched)
    Experiment(tmp_path / "out", CRITIC, tmp_path, requests=4).run(rows, [0], lambda line: None)
    plans = {s.prompt for r in module.held_out(4, 4000) for s in r.plan.steps}
    assert {p for n, p in used["filter"] if n == 2} <= plans and any(n == 2 for n, _ in used["filter"])
    assert any(n == 2 and p not in plans for n, p in used["full"])


def test_missing_data_is_named_before_anything_is_trained(tmp_path, capsys):
    line = f"ablate --out {tmp_path}/o --base {CRITIC} --data {tmp_path} --seeds 0"
    assert main(line.split()) == 1
    assert "lacks planner_sft.jsonl" in capsys.readouterr().err and not (tmp_path / "o").exists()
    assert main([*line.split(), "--dry-run"]) == 0
    assert "5 GRPO trainings" in capsys.readouterr().out
    assert main([*line.split(), "--rows", "raw generator", "--generator-dtype", "fp8"]) == 1
    assert "generator_dtype is 'fp8'" in capsys.readouterr().err
    assert main(line.replace("--seeds 0", "--seeds 0,x").split()) == 1
    assert "--seeds" in capsys.readouterr().err


def test_the_command_writes_table_plot_and_figures(tmp_path):
    line = f"--out {tmp_path}/o --base {CRITIC} --data {tmp_path} --seeds 3 --requests 2 --json {tmp_path}/f.json"
    assert main(["ablate", *line.split(), "--rows", "raw generator"]) == 0
    assert {p.name for p in (tmp_path / "o").iterdir()} >= {"table.md", "plot.png", "plot.svg", "figures.json"}
    assert json.loads((tmp_path / "f.json").read_text())["rows"]["raw generator"]["by_seed"].keys() == {"3"}


def test_seeds_of_another_day_join_the_report_once_and_only_with_the_same_settings(tmp_path, capsys):
    def run(seed, out, *more):
        line = f"ablate --out {tmp_path}/{out} --base {CRITIC} --data {tmp_path} --seeds {seed} --requests 2"
        return main([*line.split(), "--rows", "raw generator", *more])

    known = str(tmp_path / "a" / "figures.json")
    assert run(3, "a") == 0 and run(4, "b") == 0
    assert run(4, "b", "--resume", "--known", known) == 0
    told = json.loads((tmp_path / "b" / "figures.json").read_text())
    assert told["rows"]["raw generator"]["by_seed"].keys() == {"3", "4"}
    shares = [f["shares"] for f in told["measured"]["raw generator"].values()]
    assert sorted(map(len, shares)) == [2, 2], "with what an interval over all seeds needs"
    capsys.readouterr()
    assert run(3, "c", "--known", known) == 1 and not (tmp_path / "c" / "seed3").exists(), "told before the work"
    assert "Seed 3 of 'raw generator'" in capsys.readouterr().err
    text = (tmp_path / "a" / "figures.json").read_text().replace('"requests": 2', '"requests": 3')
    (tmp_path / "a" / "figures.json").write_text(text)
    assert run(5, "d", "--known", known) == 1
    assert "requests 3 instead of 2" in capsys.readouterr().err
    assert run(5, "d", "--known", str(tmp_path / "none.json")) == 1
    assert "none.json" in capsys.readouterr().err
