"""The command line: `parse` never fails on a reply, errors are one line, nothing heavy is loaded."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interleave_thinker import tinyworld
from interleave_thinker.cli import main, run
from interleave_thinker.cli.command_line import EXTRAS
from interleave_thinker.roles.critic import critic_turn
from interleave_thinker.roles.prompt_files import load_prompt

PLAN = '<think>r</think><answer>{"execution_plan": [{"step_number": 3, "prompt": "Step 3: a cat"}]}</answer>'
JUDGMENT = "<think>r</think><answer>{'previous_step_success': False, 'refine_prompt': 'it's red'}</answer>"


def parsed(kind: str, data: str | bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    file = folder / "reply.txt"
    file.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    assert main(["parse", kind, str(file)]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    found: dict[str, Any] = json.loads(out.out)
    return found


def test_parse_plan_shows_the_clean_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = parsed("plan", PLAN, tmp_path, capsys)
    assert (found["parsed"], found["valid"], found["problem"]) == (True, True, None)
    (step,) = found["plan"]["execution_plan"]
    assert (step["step_number"], step["prompt"]) == (3, "a cat")


def test_parse_plan_says_why_a_readable_plan_cannot_be_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [{"prompt": f"p{i}"} for i in range(10_000)]
    found = parsed("plan", json.dumps({"execution_plan": steps}), tmp_path, capsys)
    assert (found["parsed"], found["valid"]) == (True, False) and "10000 steps" in found["problem"]
    assert len(found["plan"]["execution_plan"]) == 10_000


def test_parse_judgment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = parsed("judgment", JUDGMENT, tmp_path, capsys)
    assert (found["parsed"], found["accepted"], found["refined_prompt"]) == (True, False, "it's red")
    assert found["raw"] == JUDGMENT


UNREADABLE = [
    ("nothing", b""),
    ("words", b"I would rather not."),
    ("random bytes", bytes(random.Random(1).randrange(256) for _ in range(5000))),
    ("null bytes", b"\x00" * 100),
    ("half a surrogate pair", '{"success": "\\ud800", "execution_plan": [{"prompt": "\\udfff"}]}'),
    ("1 MB", b"{[\"'" * 250_000),
    ("nulls", '{"execution_plan": [null], "previous_step_success": null}'),
    ("huge numbers", "{'execution_plan': [{'prompt': 0x" + "f" * 9000 + "}], 'success': 0x" + "f" * 9000 + "}"),
    ("nested", '{"execution_plan": ' + "[" * 5000),
    ("only tags", "<think></think><answer></answer>"),
]


@pytest.mark.parametrize(("why", "data"), UNREADABLE, ids=[c[0] for c in UNREADABLE])
@pytest.mark.parametrize("kind", ["plan", "judgment"])
def test_parse_never_fails_on_a_reply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, why: str, data: str | bytes
) -> None:
    found = parsed(kind, data, tmp_path, capsys)
    assert not found.get("valid") and not found.get("accepted")


def test_parse_never_fails_on_a_reply_cut_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for at in range(0, len(JUDGMENT), 5):
        parsed("judgment", JUDGMENT[:at], tmp_path, capsys)
        parsed("plan", PLAN[:at], tmp_path, capsys)


def test_a_terminal_that_lacks_a_character_is_no_reason_to_fail(tmp_path: Path) -> None:
    """As cp1252 of a Windows pipe. -X utf8=0 and an ASCII stdout stand in for it."""
    file = tmp_path / "reply.txt"
    file.write_text('{"success": false, "refine_prompt": "物語 🎉"}', encoding="utf-8")
    code = "import sys; sys.stdout.reconfigure(encoding='ascii', errors='strict')\n"
    code += f"from interleave_thinker.cli import main; sys.exit(main(['parse', 'judgment', {str(file)!r}]))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"") and b"refined_prompt" in done.stdout


def test_errors_are_one_line_that_names_the_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        (["parse", "plan", str(tmp_path / "missing.txt")], "missing.txt"),
        (["parse", "plan", str(tmp_path)], str(tmp_path)),
        (["prompts", "import", str(tmp_path), "--to", str(tmp_path / "out")], "system.py does not exist"),
        (["run", "--workflow", str(tmp_path / "missing.json")], "missing.json"),
    ]
    for arguments, said in cases:
        assert main(arguments) == 1
        out = capsys.readouterr()
        assert out.err.startswith("Error: ") and said in out.err and out.err.count("\n") == 1 and out.out == ""


def test_an_interrupt_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", interrupted)
    (tmp_path / "x").write_text("x")
    assert main(["parse", "plan", str(tmp_path / "x")]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2 and "usage: interleave-thinker" in capsys.readouterr().err


def test_prompts_import_copies_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "clone" / "UEval" / "system.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "raise SystemExit('run')\n"
        "NARRATIVE_PROMPT_JSON = 'plan {text_input}'\n"
        "GUIDANCE_GLOBAL_PROMPT_JSON = 'plan ' 'with {text_input}'\n"
        "Iterative_T2I_PROMPT_QWEN = 'judge {original_instruction} {rewritten_prompt}'\n"
    )
    clone = str(tmp_path / "clone")
    home, comfyui = tmp_path / "home", tmp_path / "ComfyUI"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    targets = [
        (["--to", str(tmp_path / "out")], tmp_path / "out"),
        (["--comfyui", str(comfyui)], comfyui / "user" / "interleave_thinker" / "prompts"),
        ([], home / ".config" / "interleave-thinker" / "prompts"),
    ]
    for options, target in targets:
        assert main(["prompts", "import", clone, *options]) == 0
        assert capsys.readouterr().out.count(f"Wrote {target}") == 3
        assert load_prompt("planner_images", [target]) == "plan with {text_input}\n"


def test_events_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    plan = {"execution_plan": [{"step_number": 1, "prompt": None, "auxiliary_text": None, "instruction": "look"}]}
    attempt = {
        "step": 1,
        "steps": 2,
        "attempt": 1,
        "t_max": 3,
        "seed": 7,
        "recalled": False,
        "seconds": 1.5,
        "prompt": "a cat",
    }
    unread = {"accepted": False, "parsed": False, "refined_prompt": "", "reasoning": ""}
    refused = {"accepted": False, "parsed": True, "refined_prompt": "a red cat", "reasoning": "too\nblue"}
    told: list[tuple[str, dict[str, Any], str]] = [
        ("planned", {"plan": plan}, "Plan:\n  1. look\n"),
        ("attempt", attempt, "Step 1/2, attempt 1/3 (seed 7, 1.50 s): a cat\n"),
        ("attempt", {**attempt, "recalled": True}, "Step 1/2, attempt 1/3 (seed 7, from cache): a cat\n"),
        ("judgment", {"judgment": refused, "prompt": "a cat"}, "  rejected; refined prompt: a red cat\n    too blue\n"),
        (
            "judgment",
            {"judgment": unread, "prompt": "a cat"},
            "  rejected (the critic's reply could not be read); refined prompt: a cat\n",
        ),
        ("judgment", {"judgment": {**unread, "accepted": True}, "prompt": "a cat"}, "  accepted\n"),
        ("chosen", {"accepted": False, "chosen": 2}, "  no attempt was accepted; attempt 2 goes on\n"),
        ("chosen", {"accepted": True, "chosen": 2}, ""),
        ("done", {"status": "stopped", "reason": "Stopped after step 1."}, "Stopped after step 1.\n"),
        ("done", {"status": "done", "reason": "", "verdicts": None}, ""),
        (
            "done",
            {"reason": "", "verdicts": {"accepted": 5, "judged": 8, "strictness": [0.0, 0.0]}},
            "The critic accepted 5 of 8 attempts.\n",
        ),
        (
            "done",
            {"reason": "", "verdicts": {"accepted": 0, "judged": 1, "strictness": [-0.5, -0.5]}},
            "The critic accepted 0 of 1 attempts (strictness -0.5).\n",
        ),
        (
            "done",
            {"reason": "", "verdicts": {"accepted": 1, "judged": 2, "strictness": [0.0, 2.0]}},
            "The critic accepted 1 of 2 attempts (strictness 0 to 2).\n",
        ),
        ("something new", {}, ""),
    ]
    for event, facts, line in told:
        run._print_event(event, facts)
        assert capsys.readouterr().out == line, event


def test_what_models_and_servers_wrote_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal obeys escape sequences: they clear it, rename it, fill the clipboard."""
    bad = "\x1b[2J\x1b]0;owned\x07red\u202e\x9b" + "x" * 5000 + "\ntwo"
    plan = {"execution_plan": [{"step_number": 1, "prompt": bad, "auxiliary_text": "", "instruction": ""}]}
    attempt = {"step": 1, "steps": 2, "attempt": 1, "t_max": 3, "seed": 7, "recalled": True, "prompt": bad}
    judgment = {"accepted": False, "parsed": False, "refined_prompt": bad, "reasoning": bad, "note": bad}
    events: list[tuple[str, dict[str, Any]]] = [
        ("planned", {"plan": plan}),
        ("warning", {"text": bad}),
        ("attempt", attempt),
        ("judgment", {"judgment": judgment, "prompt": bad}),
        ("done", {"reason": bad}),
    ]
    for event, facts in events:
        run._print_event(event, facts)
        lines = capsys.readouterr().out.split("\n")
        assert all(line.isprintable() and len(line) < 3000 for line in lines), event
        assert any("red" in line for line in lines) and len(lines) <= 3, event


@pytest.mark.parametrize("value", ["nan", "inf", "20.5", "-21", "strict", "1,5", ""])
def test_a_strictness_that_is_none_is_refused_before_a_server_is_asked(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--workflow", "x.json", f"--strictness={value}"])
    assert ended.value.code == 2 and f"{value!r} is no number from -20 to 20" in capsys.readouterr().err


def test_a_strictness_that_no_node_of_the_workflow_takes_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"1": {"class_type": "InterleaveThinkerLoopOpen", "inputs": {}}}')
    assert main(["run", "--workflow", str(file), "--strictness", "-2.5"]) == 1
    assert "no Critic-Refine" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["data", "bench"])
def test_the_registrys_archive_has_a_command_line_too(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It leaves out what only developers and trainers use (.comfyignore)."""
    monkeypatch.setitem(sys.modules, "interleave_thinker.cli.research", None)
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "wrap" in shown and f"    {part} " not in shown


def test_each_package_is_in_the_extra_that_is_named_for_it() -> None:
    """Also through other extras of ours and TRL's."""
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    named = {"docx": "python-docx", "deepspeed": "trl[deepspeed]", "vllm": "trl[vllm]"}
    named["bitsandbytes"] = "trl[quantization]"
    for package, extra in EXTRAS.items():
        assert any(line.startswith(named.get(package, package)) for line in extras[extra]), (package, extra)


WITHOUT = """
import importlib.util, sys
missing, real = sys.argv[1], importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] == missing else real(name, *rest)
sys.modules[missing] = None
from interleave_thinker.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("missing", "extra", "line"),
    [
        ("diffusers", "diffusers", "bench tiny generate --out out"),
        ("scipy", "bench", "bench viescore aggregate FOLDER"),
        ("trl", "train", "sft critic --model tiny --data DATA --out out"),
        ("torchvision", "transformers", "tinyworld eval --requests 1"),
        ("diffusers", "diffusers", "data trajectories REQUESTS --critic tiny:oracle --generator tiny --out out"),
    ],
)
def test_a_package_that_is_not_installed_is_one_line_with_its_extra(
    tmp_path: Path, missing: str, extra: str, line: str
) -> None:
    own = Path(tinyworld.__file__).parent / "weights" / "base" / "prompts"
    content = [{"type": "text", "text": critic_turn(0, 0, "a", "b", [own])[-1]}]
    row: dict[str, Any] = {"prompt": [{"role": "user", "content": content}], "images": []}
    row["completion"] = [{"role": "assistant", "content": [{"type": "text", "text": "x"}]}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["data", "prompts", "--world", "tiny", "--count", "1", "--out", str(tmp_path / "r")]) == 0
    places = {"DATA": tmp_path / "rows.jsonl", "REQUESTS": tmp_path / "r" / "requests.jsonl"}
    places["FOLDER"] = Path(__file__).parents[1] / "bench" / "viescore_gemini_0shot"
    words = [str(places.get(word, word)) for word in line.split()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = [sys.executable, "-c", WITHOUT, missing, *words]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert f"[{extra}]" in done.stderr.splitlines()[-1] and missing in done.stderr.splitlines()[-1]
