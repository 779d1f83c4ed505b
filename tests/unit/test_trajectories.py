"""Requests become run folders: what is finished is kept, what fails is counted, and many go side by side."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from interleave_thinker.agents.adapter_folder import ADAPTER_NAME
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.cli import main
from interleave_thinker.driver import LoopModels
from interleave_thinker.loop.plan import Plan
from interleave_thinker.research.data.records import DataError, write_records
from interleave_thinker.research.data.requests import tiny_requests
from interleave_thinker.research.data.trajectories import RUNS, TrajectoryOptions, is_done, make_trajectories
from interleave_thinker.resolve import GeneratorChoice
from interleave_thinker.tinyworld.convert import WEIGHTS

OPTIONS = TrajectoryOptions(GeneratorChoice("tiny"), "tiny:oracle", t_max=3, size=(64, 64))


def test_a_finished_run_is_passed_over_and_a_cut_one_goes_on(tmp_path):
    requests = tiny_requests(2, 9, tmp_path)
    chosen = TrajectoryOptions(GeneratorChoice("tiny"), "tiny:oracle", t_max=2, size=(64, 64))
    assert make_trajectories(requests, tmp_path, tmp_path / "out", chosen) == 0
    assert all(is_done(r, tmp_path / "out") for r in requests)
    pictures = {p: p.read_bytes() for p in (tmp_path / "out" / RUNS).rglob("*.png")}
    state = tmp_path / "out" / RUNS / requests[1].id / "run.json"
    state.write_text(state.read_text().replace('"status": "done"', '"status": "running"'))
    assert not is_done(requests[1], tmp_path / "out")
    seen = []
    make_trajectories(requests, tmp_path, tmp_path / "out", chosen, on_result=lambda r, e: seen.append((r.id, e)))
    assert seen == [(requests[1].id, None)]
    assert {p: p.read_bytes() for p in (tmp_path / "out" / RUNS).rglob("*.png")} == pictures


def test_one_failure_costs_one_request(tmp_path):
    requests = tiny_requests(3, 9, tmp_path)
    broken = requests[1].__class__(requests[1].id, "x", ("images/none.png",), requests[1].plan)
    said = []
    failed = make_trajectories(
        [requests[0], broken], tmp_path, tmp_path / "out", OPTIONS, on_result=lambda r, e: said.append(str(e or ""))
    )
    assert failed == 1 and sum("cannot be read" in s for s in said) == 1
    assert json.loads((tmp_path / "out" / "failures.jsonl").read_text())["id"] == broken.id


def test_a_picture_that_leads_out_of_the_folder_is_refused(tmp_path):
    (request,) = tiny_requests(1, 9, tmp_path)
    outside = request.__class__(request.id, "x", ("../secret.png",), request.plan)
    errors = []
    make_trajectories([outside], tmp_path, tmp_path / "out", OPTIONS, on_result=lambda r, e: errors.append(str(e)))
    assert "leads out of" in errors[0]


def test_two_requests_of_one_name_are_refused(tmp_path):
    (request,) = tiny_requests(1, 9, tmp_path)
    with pytest.raises(DataError, match="Two requests are named"):
        make_trajectories([request, request], tmp_path, tmp_path / "out", OPTIONS)


def test_another_request_under_the_same_id_is_not_done(tmp_path):
    (request,) = tiny_requests(1, 9, tmp_path)
    make_trajectories([request], tmp_path, tmp_path / "out", OPTIONS)
    other = request.__class__(**{**vars(request), "request": "Something else."})
    assert is_done(request, tmp_path / "out") and not is_done(other, tmp_path / "out")
    errors = []
    make_trajectories([other], tmp_path, tmp_path / "out", OPTIONS, on_result=lambda r, e: errors.append(str(e)))
    assert "another request" in errors[0]


def test_a_request_without_plan_needs_a_planner(tmp_path):
    (request,) = tiny_requests(1, 9, tmp_path)
    bare = request.__class__(request.id, request.request)
    errors = []
    make_trajectories([bare], tmp_path, tmp_path / "out", OPTIONS, on_result=lambda r, e: errors.append(str(e)))
    assert "--planner" in errors[0]


def test_a_dry_run_says_what_it_takes_and_writes_nothing(tmp_path, capsys):
    write_records(tmp_path / "requests.jsonl", tiny_requests(2, 9, tmp_path))
    command = f"trajectories {tmp_path}/requests.jsonl --critic tiny:oracle --generator tiny --out {tmp_path}/out"
    assert main(["data", *command.split(), "--dry-run"]) == 0
    assert re.search(r"2 requests, 2 left; at most \d+ generator", capsys.readouterr().out)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("judge_all", "judged"), [(True, 2), (False, 1)])
def test_the_last_attempt_is_judged_too(studio, judge_all, judged):
    """Where no attempt is accepted, the last one's verdict changes nothing in the loop, but it is a label."""
    no = '<think>no</think><answer>{"previous_step_success": false, "refine_prompt": "again"}</answer>'
    plan = Plan.from_dict({"execution_plan": [{"step_number": 1, "prompt": "p1"}]})
    run = studio.run(plan, [no], t_max=2, judge_all=judge_all)
    assert [a.judgment is not None for a in run.session.attempts].count(True) == judged


def test_requests_side_by_side_end_as_one_after_the_other(tmp_path):
    """One generator serves all of them, and none gets a picture of another."""
    requests = tiny_requests(6, 9, tmp_path)
    for workers, out in ((1, tmp_path / "one"), (6, tmp_path / "six")):
        assert make_trajectories(requests, tmp_path, out, OPTIONS, workers=workers) == 0
    alone, together = (
        {(p.parts[-3], p.stem.rpartition("_")[0]): p for p in (tmp_path / n / RUNS).rglob("*.png")}
        for n in ("one", "six")
    )
    assert alone.keys() == together.keys() and len(alone) > 10, "the same attempts; a key has the rounding of a batch"
    for name, path in alone.items():
        one, six = (np.asarray(Image.open(p), dtype=int) for p in (path, together[name]))
        assert np.abs(one - six).mean() < 1


def test_weights_that_were_written_anew_are_another_model(tmp_path):
    """Attempts are kept by model; a critic that was trained again into the same folder has said nothing yet."""
    base, agent = (shutil.copytree(WEIGHTS / name, tmp_path / name) for name in ("base", "planner"))
    generator = GeneratorChoice("tiny").load()
    keys = [LoopModels(generator, load_agent(agent)).judged_by, LoopModels(generator, load_agent(agent)).judged_by]
    for seconds, weights in ((1, agent / ADAPTER_NAME), (2, base / "model.safetensors")):
        later = time.time_ns() + seconds * 10**9
        os.utime(weights, ns=(later, later))
        keys.append(LoopModels(generator, load_agent(agent)).judged_by)
    assert keys[0] == keys[1] and len(set(keys)) == 3, "an adapter's, and those of the base that it is added to"
    assert LoopModels(generator).made_by != LoopModels(replace(generator, state="anew")).made_by
