"""The pack's one route only lists; what a run holds is read through ComfyUI's own file route."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from comfy_test_graphs import loop, plan_text


def test_saved_runs_are_listed_and_can_be_read(comfy: Any) -> None:
    comfy.run(loop(plan_text(2), seed=8101, run_name="listed run"))
    comfy.run(loop(plan_text(1), seed=8102, run_name="later run"))
    (comfy.output / "interleave" / "no run").mkdir()
    listed = comfy.get("/interleave_thinker/runs")
    names = [entry["name"] for entry in listed]
    assert names.index("later run") < names.index("listed run") and "no run" not in names
    assert all(set(entry) == {"name", "title", "status", "origin"} for entry in listed)
    url = f"{comfy.url}/view?filename=trajectory.jsonl&subfolder=interleave/listed%20run&type=output"
    with urllib.request.urlopen(url) as reply:
        assert len([json.loads(line) for line in reply.read().splitlines()]) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_route_writes_nothing(comfy: Any, method: str) -> None:
    request = urllib.request.Request(f"{comfy.url}/interleave_thinker/runs", b"{}", method=method)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 405
