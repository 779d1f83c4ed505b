"""`recipes/ueval_24gb.sh`: from requests to a report, with the tiny world's models in place of a GPU's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
JUDGE = """
import json
from interleave_thinker.agents.scripted import ScriptedAgent

def judge():
    return ScriptedAgent([lambda messages: json.dumps({"criteria_met": len(str(messages[-1].parts)) % 2 == 0})], name="j")
"""


@pytest.mark.parametrize("systems", ["full", pytest.param("no-critic full", marks=pytest.mark.slow)])
def test_it_ends_in_a_report(tmp_path: Path, systems: str) -> None:
    (tmp_path / "my_judge.py").write_text(JUDGE)
    records = [
        {
            "id": f"{task}_{n}",
            "task": task,
            "prompt": "Draw this in 2 steps: start with a big red circle at the center on a white background, then dye "
            "the circle blue.",
            "text_rubrics": ["it names a colour"],
            "image_rubrics": ["the circle is blue", "there is one circle"],
        }
        for n, task in enumerate(("art", "life", "space"))
    ]
    data = tmp_path / "ueval.jsonl"
    data.write_text("\n".join(map(json.dumps, records)) + "\n")
    environment = {
        **os.environ,
        "DATA": str(data),
        "PLANNER": "tiny",
        "CRITIC": "tiny",
        "GENERATOR": "tiny",
        "JUDGE": "my_judge:judge",
        "LIMIT": "2",
        "T_MAX": "2",
        "SYSTEMS": systems,
        "INTERLEAVE": f"{sys.executable} -m interleave_thinker.cli",
        "PYTHONPATH": f"{REPO}:{tmp_path}",
        "OMP_NUM_THREADS": "1",
    }
    out = tmp_path / "out"
    line = ["bash", str(REPO / "recipes" / "ueval_24gb.sh"), str(out)]
    for _ in systems.split():  # the second time there is nothing left to do
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if systems != "full":
        assert "0 calls, 6 recalled" in done.stdout
    report = json.loads((out / "report.json").read_text())
    assert list(report["systems"]) == systems.split()
    assert report["systems"]["full"]["pooled average"]["of"] == 2
