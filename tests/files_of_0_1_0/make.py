"""How the files beside this script were made, by the commit that `made_by.txt` names.

    cd CLONE && .dev/venv/bin/python PATH/make.py OUT        CLONE: of that commit, after `python dev.py setup`

Runs in OUT, a new folder, with relative paths only. What is left out for its size: the pictures below data/images and
the stores of what the tiny generator made (`data from-runs` writes the former again), the pictures of older/ and lessons/,
bench/work, trained weights.

    driver/     run folders and store of the loop outside ComfyUI: `story` (a picture of the user's, attempts accepted,
                rejected and overridden, a comparison), its branch `story~2`, a run that a gate stopped
    older/      `story` and its store without digests, as versions before them wrote records
    requests/, words/, made/, data/, attempts/, lessons/    the stages of `data` and of `tinyworld`
    bench/      `bench tiny`: generate, judge, aggregate; ablate/: a row that needs no training
    comfy/      run folders and store of a ComfyUI server, and the graphs that made them
    editor/     workflows that the editor saves, and what it then queues: four of that commit's own (`workflows/`)
    options/    files for --config; wrapped.json: what `wrap` makes of plain.json
    command_line.json, object_info.json    every command with its options, every node with its sockets
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

CLONE = Path.cwd()
sys.path[:0] = [str(CLONE), str(CLONE / "tests" / "comfy"), str(CLONE / "tests" / "unit")]


def of(module: str) -> Any:
    """A module of the clone, under the name that it has there."""
    return import_module(f"interleave_thinker.{module}")


# What is imported, in one place and as text: these names are those of that commit and stay as they are.
branches, choose, loops, plans, store = map(of, ("branches", "agents.choose", "loop", "plan", "store"))
attempts, checker, language, scene = (of(f"tinyworld.{n}") for n in ("attempts", "checker", "language", "scene"))
driver, session, grpo_rows, vocabulary = map(of, ("driver", "session", "train.rows", "data.prompts"))
agents, scripted = of("agents.base"), of("agents.scripted")
main, WEIGHTS = of("cli").main, of("tinyworld.convert").WEIGHTS
PlanStep, Scene, render = plans.PlanStep, scene.Scene, scene.render
graphs, Comfy = import_module("comfy_test_graphs"), import_module("comfy_server").Comfy

WORDS = "one two three four five six seven eight nine ten eleven twelve".split()
TOLD = ("tooltip", "description", "output_tooltips", "search_aliases", "python_module")


def command(*words: str) -> None:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = main(words)
    print(" ".join(words), "->", code, told.getvalue()[-2000:])
    assert code == 0, words


# --- the loop outside ComfyUI ------------------------------------------------------------------------------


class Draughtsman:
    """Draws what a plain prompt says, as the tiny world's renderer does; rich words and stars it gets wrong."""

    name = "draughtsman"

    def generate(self, request: Any) -> Any:
        before = checker.read(request.references[0]).scene if request.references else None
        shown = language.picture_after(request.prompt, before)
        assert shown is not None
        if shown.shape == "star":
            shown = shown.with_(shape="square", color=list(scene.COLORS)[request.seed % 3])
        elif any(word in language.PLAIN_OF for word in request.prompt.split()):
            shown = shown.with_(background="black")
        return render(shown)


class Oracle:
    """The tiny world's ground truth as a critic, which of several attempts prefers the first."""

    def __init__(self) -> None:
        self.oracle = choose.agent_from("tiny:oracle")
        self.name, self.prompts = self.oracle.name, self.oracle.prompts
        self.first: bytes | None = None

    def complete(self, messages: Any, sampling: Any, on_text: Any = None) -> Any:
        images = [i.tobytes() for i in messages[-1].images]
        if len(images) == 2:
            return self.oracle.complete(messages, sampling, on_text)
        self.first = images[1] if len(images) > 3 else self.first
        return agents.Completion(json.dumps({"best": images.index(self.first or images[1])}), "stop")


def driven() -> None:
    given = Scene("circle", "red", "medium", "center", "white")
    story = [
        PlanStep(2, "color", "Make the circle blue.", "make the circle blue", "A blue circle."),
        PlanStep(3, "size", "Make the circle huge.", "make the circle huge", "It grows."),
        PlanStep(4, "tell", None, None, "A pause, without a picture: *of no kind*."),
        PlanStep(5, "shape", "Turn the circle into a star.", "turn the circle into a star", None),
        PlanStep(6, "background", "Dye it golden.", "dye the background golden", "Gold, <b>said</b> & done."),
    ]
    request = "Continue this picture: blue, huge, a star, golden."
    changed = [*story[:4], PlanStep(6, "position", "Move it.", "move the square to the left", "It moves.")]
    drawn = PlanStep(1, "draw", "A star.", "a small green circle at the top on a black background", "One.")
    best = {"on_exhausted": "best", "judge_all": True}
    for picks in ({}, {5: 1}):
        _drive(plans.Plan(tuple(story), "said", request), picks, (given,), "story", **best)
    folder = _drive(plans.Plan(tuple(changed), "said", request), {}, (given,), "story", **best)
    edited = [request, 12, 0, json.dumps({"execution_plan": []})]
    folder.write_workflow({"nodes": [{"type": "InterleaveThinkerPlanner", "widgets_values": edited}]})
    two = (drawn, PlanStep(2, "color", "Red.", "make the circle red", "Two."))
    _drive(plans.Plan(two, "", "Draw two pictures."), {}, (), "", gate="stop_after_step")
    _without_digests()


def _drive(plan: Any, picks: dict[int, int], given: tuple[Any, ...], name: str, **settings: Any) -> Any:
    kept, chosen = store.AttemptStore(Path("driver/store")), loops.LoopSettings(seed=40, **settings)
    pictures = tuple(kept.put_image(render(one)) for one in given)
    parts = driver.Loop(Draughtsman(), Oracle(), size=(64, 64))
    assert parts.judge is not None
    work = branches.Work(plan, chosen, pictures, parts.body.key, parts.judge.key, "31")
    folder = branches.open_run(Path("driver/runs"), work, name)
    origin = {"node": "31", "workflow": "of a test"}
    run = session.Session(
        loops.begin(plan, chosen, pictures, picks), kept, folder, parts.body, parts.judge, "A title", origin
    )
    driver.drive(run, parts)
    Path("driver/documents").mkdir(exist_ok=True)
    Path(f"driver/documents/{folder.name}.json").write_text(json.dumps(run.document().to_dict(), indent=1) + "\n")
    return folder


def _without_digests() -> None:
    for part in ("runs/story", "store"):
        shutil.copytree(f"driver/{part}", f"older/{part}", ignore=shutil.ignore_patterns("*.png", ".lock"))
    for path in Path("older").rglob("*.json*"):
        whole = path.name == "run.json"
        lines = [json.loads(path.read_text())] if whole else map(json.loads, path.read_text().splitlines())
        kept = [{k: v for k, v in line.items() if k not in _digest_of(path)} for line in lines]
        path.write_text(
            "\n".join(json.dumps(line, ensure_ascii=False, indent=1 if whole else None) for line in kept) + "\n"
        )


def _digest_of(path: Path) -> tuple[str, ...]:
    return ("digest", "kind", "key") if "store" in path.parts else ("digest",)


# --- data, training, benchmarks -------------------------------------------------------------------------------


def worked() -> None:
    Path("options").mkdir()
    Path("base").symlink_to(WEIGHTS / "base")
    command("data", "prompts", "--world", "tiny", "--count", "2", "--seed", "6", "--out", "requests")
    _vocabulary()
    command(
        "data", "trajectories", "requests/requests.jsonl", "--critic", "tiny:oracle", "--generator", "tiny",
        "--t-max", "3", "--seed", "1", "--out", "made",
    )  # fmt: skip
    Path("all").mkdir()
    for name in ("driver", "made"):
        shutil.copytree(f"{name}/runs", f"all/{name}")
    command("data", "from-runs", "all", "--store", "driver/store", "--out", "data")
    labels = ("--label-by", "score", "--min-semantics", "10", "--min-quality", "5")
    command("data", "score", "data", "--judge", "checker", *labels)
    command("data", "filter", "data", "--rl-share", "0.2")
    command("data", "planner", "data", "--cuts", "1")
    forms = [word for form in ("trl", "sharegpt", "rl", "compare", "easy", "hard") for word in ("--format", form)]
    command("data", "export", "data", *forms)
    _rows_of_grpo()
    command("data", "agree", "data", "--critic", "tiny:oracle", "--json", "data/agree.json")
    attempts.WALKERS, attempts.STEPS_OF_A_WALK, attempts.TRIES = 1, 2, (2,)
    command("tinyworld", "attempts", "--out", "attempts", "--count", "4", "--seed", "3")
    command("tinyworld", "lessons", "data", "attempts", "--out", "lessons", "--count", "6", "--compare", "2")
    requests = ("--requests", "2", "--request-seed", "5")
    command("bench", "tiny", "generate", "--t-max", "2", "--system", "full", *requests, "--out", "bench")
    command("bench", "tiny", "judge", *requests, "--out", "bench")
    command("bench", "tiny", "aggregate", "bench", *requests, "--json", "bench/figures.json")
    command("bench", "tiny", "report", "bench", *requests, "--out", "bench/report")
    measured = ("--rows", "raw generator", "--requests", "2", "--seeds", "0,1")
    command("ablate", "--out", "ablate", "--base", "base", "--data", "data", *measured)
    trained = ("--model", "no-model", "--data", "data", "--steps", "1", "--batch", "8")
    for words in (("sft", "critic"), ("grpo", "--generator", "tiny", "--judge", "checker", "--without", "step")):
        main([*words, *trained, "--out", "options"])  # keeps its options, then finds no model
    for name in ("sft_8b.yaml", "grpo_8b.yaml"):
        shutil.copy(CLONE / "recipes" / name, "options")
    for name in ("all", "data/images", "lessons/lessons", "made/store", "bench/work", "base", "ablate/seed0/runs"):
        path = Path(name)
        path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
    for plot in (*Path("ablate").glob("plot.*"), *Path("bench/report").glob("*.png")):
        plot.unlink()
    graph = import_module("test_wrap").sampler_graph()
    Path("plain.json").write_text(json.dumps(graph, indent=1) + "\n")
    command("wrap", "plain.json", "-o", "wrapped.json", "--agent", "server:mine", "--critic", "folder:tiny-critic")


def _rows_of_grpo() -> None:
    rows, _ = grpo_rows.states(Path("data/critic_rl.jsonl"), None)
    text = json.dumps(rows, indent=1).replace(f"{Path.cwd()}/", "")
    Path("data/states.json").write_text(text + "\n")


def _vocabulary() -> None:
    """Requests with an agent's words; the agent is not asked again for what vocabulary.jsonl holds."""
    category = {"name": "pots", "hint": "clay on a wheel"}
    templates = ["Show how to {action} {entity} in {n} pictures.", "{entity} and {entity2} in {place}."]
    domain = {"name": "craft", "title": "Craft", "categories": [category], "templates": templates}
    Path("options/taxonomy.json").write_text(json.dumps({"domains": [domain]}, indent=1) + "\n")
    words = {kind: [f"{kind} {word}" for word in WORDS] for kind in vocabulary.KINDS}
    load, choose.agent_from = choose.agent_from, lambda *_, **__: scripted.ScriptedAgent([json.dumps(words)])
    drawn = ("--taxonomy", "options/taxonomy.json", "--count", "4", "--seed", "2", "--out", "words")
    command("data", "prompts", "--agent", "scripted", *drawn)
    choose.agent_from = load


# --- ComfyUI --------------------------------------------------------------------------------------------------


def served() -> None:
    """Runs of a real server, and what it says of our nodes."""
    server = Comfy(Path("server").resolve()).start()
    made = {}
    try:
        for name, words, close in (
            ("told", 2, {}),
            ("told", 2, {"accept_attempts": "2:1"}),
            ("told", 3, {}),
            ("halted", 2, {"gate": "stop_after_step"}),
        ):
            graph = graphs.loop(graphs.plan_text(words), accept="b >= 2", size=16, seed=90, run_name=name, **close)
            graph["40"] = graphs.node("EmptyImage", width=16, height=16, batch_size=1, color=0xA05020)
            graph["2"]["inputs"]["images.image_0"] = ["40", 0]
            graph["1"] = graphs.ours("PlanFromText", text=graphs.plan_text(words), max_steps=100, title="Told")
            ran = server.run(graph)
            made[ran.folder.name] = {"graph": graph, "document": ran.document}
        info = server.get("/object_info")
    finally:
        server.stop()
    Path("comfy/user").mkdir(parents=True)
    Path("comfy/graphs.json").write_text(json.dumps(made, indent=1) + "\n")
    shutil.copytree("server/output/interleave", "comfy/output/interleave")
    shutil.copytree("server/user/interleave_thinker", "comfy/user/interleave_thinker")
    shutil.rmtree("server")
    kept = {name: without_texts(entry) for name, entry in sorted(info.items()) if name.startswith("InterleaveThinker")}
    Path("object_info.json").write_text(json.dumps(kept, indent=1) + "\n")


def without_texts(entry: Any) -> Any:
    """What is said of a node, without what only explains it."""
    if isinstance(entry, dict):
        return {k: without_texts(v) for k, v in entry.items() if k not in TOLD}
    return [without_texts(v) for v in entry] if isinstance(entry, list) else entry


# --- the command line -------------------------------------------------------------------------------------------


class _Parsed(Exception):
    def __init__(self, parser: argparse.ArgumentParser, found: argparse.Namespace | None):
        self.parser, self.found = parser, found


def spoken() -> None:
    """For every command: lines in which each of its options stands in each of its spellings, and what is read."""
    parse = argparse.ArgumentParser.parse_args

    def parser() -> argparse.ArgumentParser:
        def caught(self: argparse.ArgumentParser, *_: Any) -> Any:
            raise _Parsed(self, None)

        argparse.ArgumentParser.parse_args = caught  # type: ignore[assignment, method-assign]
        try:
            main([])
        except _Parsed as told:
            return told.parser
        finally:
            argparse.ArgumentParser.parse_args = parse  # type: ignore[method-assign]
        raise AssertionError

    found = []
    for path, command in _commands(parser()):
        actions = [a for a in command._actions if a.option_strings and a.dest not in ("help", "config")]
        places = [word for a in command._actions if not a.option_strings for word in _sample(a)]
        needed = [a.option_strings[0] for a in actions if a.required]
        lines = []
        for spelling in range(-1, max([len(a.option_strings) for a in actions] or [0])):
            line = list(places)
            for action in actions:
                if spelling < 0 and not action.required:
                    continue  # first of all only what is needed: the defaults
                strings = action.option_strings
                line += [strings[min(max(spelling, 0), len(strings) - 1)], *_sample(action)]
            read = parser().parse_args([*path, *line])
            lines.append({"words": line, "read": _plain({k: v for k, v in vars(read).items() if k in _dests(command)})})
        takes_config = any(a.dest == "config" for a in command._actions)
        found.append({"command": path, "places": places, "needed": needed, "config": takes_config, "lines": lines})
    Path("command_line.json").write_text(json.dumps(found, indent=1) + "\n")


def _commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Any:
    below = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    if below is None:
        yield list(path), parser
        return
    for name, command in below.choices.items():
        yield from _commands(command, (*path, name))


def _dests(command: argparse.ArgumentParser) -> set[str]:
    return {a.dest for a in command._actions} - {"help", "config"}


def _sample(action: argparse.Action) -> list[str]:
    if action.nargs == 0:
        return []
    if action.choices:
        return [list(action.choices)[-1]]
    value = {int: "3", float: "0.5"}.get(action.type, "some/where" if action.type is Path else "a,b")  # type: ignore[call-overload]
    return [value, "further"] if action.nargs == "+" else [value]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else value.as_posix()


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    os.chdir(out)
    Path("made_by.txt").write_text(commit)
    for part in (driven, worked, served, spoken):
        part()
    for leftover in (*Path().rglob(".lock"), *Path().rglob(".interleave_writing")):
        leftover.unlink()
