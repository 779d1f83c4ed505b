"""The pack is light to start, complete in the node list, and speaks V3 only."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from comfy_server import REPO
from inside import run_inside

from interleave_thinker import contract

USER_NODES = {
    "AgentFromCLIP",
    "LoadAgent",
    "AgentFromServer",
    "Planner",
    "PlanFromText",
    "LoopOpen",
    "CriticRefine",
    "Judgment",
    "LoopClose",
    "UnpackDocument",
    "SaveDocument",
    "GenerateOrEdit",
    "CheckAgent",
}


def test_importing_the_pack_is_quick_and_pulls_in_nothing_heavy():
    """The libraries of the agents and trainers come in when a node needs them; 0.3 s is the promise."""
    # Twice: the first import may compile, and the promise is about a start, not about an install.
    found = [run_inside("start_cost.py") for _ in range(2)]
    assert found[-1]["heavy"] == []
    print(f"import of the pack: {min(f['seconds'] for f in found):.3f} s")


def test_every_node_is_listed_with_help_tooltips_and_aliases(comfy):
    info = comfy.get("/object_info")
    ours = {k.removeprefix("InterleaveThinker"): v for k, v in info.items() if k.startswith("InterleaveThinker")}
    assert set(ours) >= USER_NODES
    for name in USER_NODES:
        entry = ours[name]
        assert entry["category"] == "InterleaveThinker"
        assert entry["description"]
        assert entry["search_aliases"], name
        assert all(entry["output_tooltips"]), name
        for group in ("required", "optional"):
            for key, value in entry["input"].get(group, {}).items():
                assert value[1].get("tooltip"), f"{name}.{key} has no tooltip"
        page = REPO / "js" / "docs" / f"InterleaveThinker{name}.md"
        assert page.read_text().startswith("# Interleave")


def test_the_nodes_are_those_of_the_contract(comfy):
    """Wrap, the command line and the browser name nodes and sockets by it."""
    info = comfy.get("/object_info")
    assert set(contract.NODE_IDS) <= set(info)
    assert info[contract.NODE_IDS.loop_open]["output_name"] == list(contract.LOOP_OPEN_OUTPUTS)
    for name, socket, value in (
        (contract.NODE_IDS.planner, "max_steps", contract.MAX_STEPS),
        (contract.NODE_IDS.loop_close, "t_max", contract.T_MAX),
        (contract.NODE_IDS.agent_from_clip, "max_tokens", contract.MAX_TOKENS),
    ):
        assert info[name]["input"]["required"][socket][1]["default"] == value


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_input_and_output_has_its_words_in_each_language(comfy, language: str) -> None:
    """A forgotten one falls back to its id, silently."""
    words = json.loads((REPO / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    for name in words:
        node = comfy.get("/object_info")[name]
        inputs = {i for group in ("required", "optional") for i in node["input"].get(group, {})}
        assert set(words[name]["inputs"]) == inputs, name
        assert len(words[name]["outputs"]) == len(node["output"]), name
    ours = {n for n in comfy.get("/object_info") if n.startswith("InterleaveThinker")}
    shown = {n for n in ours if not comfy.get("/object_info")[n].get("dev_only")}
    assert set(words) == shown


def test_internal_nodes_are_hidden_from_menus(comfy):
    info = comfy.get("/object_info")
    internal = {k for k, v in info.items() if k.startswith("InterleaveThinker") and v.get("dev_only")}
    assert {k.removeprefix("InterleaveThinker") for k in internal} == {
        "StepFeed",
        "KeepPicture",
        "RecallPicture",
        "KeepJudgment",
        "PassPicture",
        "NoteOutput",
        "NextAttempt",
        "CompareAttempts",
        "MeasurePicture",
    }


def test_the_page_loads_our_script_and_help(comfy):
    import urllib.request

    assert any(e.endswith("/error_toast.js") for e in comfy.get("/extensions"))
    for path in ("error_toast.js", "error_location.mjs", "docs/InterleaveThinkerLoopClose.md"):
        with urllib.request.urlopen(f"{comfy.url}/extensions/interleave-thinker/{path}", timeout=30) as reply:
            assert reply.status == 200


def test_a_comfyui_that_is_too_old_is_told_so():
    """What ComfyUI prints beside the pack's name when it cannot be imported."""
    code = (
        "import sys, types, importlib.util as u\n"
        "sys.modules['comfyui_version'] = types.SimpleNamespace(__version__='0.3.40')\n"
        f"s = u.spec_from_file_location('pack', {str(REPO / '__init__.py')!r}, "
        f"submodule_search_locations=[{str(REPO)!r}])\n"
        "m = u.module_from_spec(s); sys.modules['pack'] = m; s.loader.exec_module(m)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert "InterleaveThinker needs ComfyUI 0.26.0 or newer; this is 0.3.40" in done.stderr
