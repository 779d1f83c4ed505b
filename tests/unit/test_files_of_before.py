"""What version 0.1.0 wrote is read as that version read it: run folders, store, records, exports, logs, options.

The files, and the script that made them with that version, are in tests/files_of_0_1_0. They are never made anew: a
test that fails here says that somebody's own files of that time would be lost, asked for again or read otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from PIL import Image

from interleave_thinker.cli import main
from interleave_thinker.cli.options import max_steps_of
from interleave_thinker.cli.research.stage import saved_options
from interleave_thinker.contract import MAX_STEPS
from interleave_thinker.driver import LoopModels, drive
from interleave_thinker.export.page import to_html
from interleave_thinker.export.pictures import page_picture
from interleave_thinker.export.saved_run import pictures_of, read_document
from interleave_thinker.loop.document import Document, compose
from interleave_thinker.loop.state import LoopState, begin
from interleave_thinker.loop.trajectory import Trajectory
from interleave_thinker.research.bench.runner import begun_with
from interleave_thinker.research.train.rows import sft_rows, states
from interleave_thinker.session import Session
from interleave_thinker.storage.attempt_store import AttemptStore
from interleave_thinker.storage.branches import Work, open_run
from interleave_thinker.storage.run_folder import RunFolder, read_state, read_trajectory
from interleave_thinker.tinyworld.convert import WEIGHTS
from interleave_thinker.tinyworld.oracle import OracleCritic

FILES = Path(__file__).parents[1] / "files_of_0_1_0"
SPOKEN: list[dict[str, Any]] = json.loads((FILES / "command_line.json").read_text())
RUNS = ("story", "story~2")
HALTED = "draw-two-pictures-ea98ee35"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all files, and the folder of the process, as when they were made."""
    root = tmp_path / "files"
    shutil.copytree(FILES, root)
    monkeypatch.chdir(root)
    return root


def said(*words: str) -> str:
    """What a command prints."""
    told, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(wrong):
        code = main(words)
    assert code == 0, wrong.getvalue()
    return told.getvalue()


def bytes_below(*places: Path) -> dict[str, bytes]:
    found = (p for place in places for p in ([place] if place.is_file() else sorted(place.rglob("*"))))
    return {p.as_posix(): p.read_bytes() for p in found if p.is_file() and p.name != ".lock"}


# --- runs and store ------------------------------------------------------------------------------------------


class Nobody:
    """Generator or critic of the runs, by name; to ask it is an error."""

    def __init__(self, name: str, prompts: str | None = None):
        self.name, self.prompts = name, prompts

    def generate(self, request: Any) -> NoReturn:
        raise AssertionError(f"a picture was asked for: {request}")

    def complete(self, *asked: Any) -> NoReturn:
        raise AssertionError(f"the critic was asked: {asked}")


def loop_of_before() -> LoopModels:
    return LoopModels(Nobody("draughtsman"), Nobody(OracleCritic.name, OracleCritic.prompts), size=(64, 64))


def session(root: Path, state: LoopState, run_name: str) -> Session:
    """The run of a saved state from its beginning, as a new process opens it."""
    loop = loop_of_before()
    assert loop.judged_by is not None
    work = Work(state.plan, state.settings, state.user_images, loop.made_by.key, loop.judged_by.key, "31")
    folder = open_run(root / "runs", work, run_name)
    start = begin(state.plan, state.settings, state.user_images, state.picks)
    return Session(start, AttemptStore(root / "store"), folder, loop.made_by, loop.judged_by, "A title")


def saved_state(root: Path, run: str) -> LoopState:
    return LoopState.from_dict((read_state(root / "runs" / run) or {})["state"])


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """Without what says whether an attempt was made this time."""
    return json.loads(json.dumps(document).replace('"recalled": true', '"recalled": false'))


@pytest.fixture(params=["with digests", "without digests"])
def root(files: Path, request: pytest.FixtureRequest) -> Path:
    """Runs and store; without digests, `story` and the store as versions before them wrote records."""
    driver = files / "driver"
    if request.param == "without digests":
        shutil.copytree(files / "older", driver, dirs_exist_ok=True)
        story = [*(driver / "store").rglob("*.json"), *(driver / "runs" / "story").glob("*.json*")]
        assert story and not any('"digest"' in p.read_text() for p in story)
    return driver


@pytest.mark.parametrize("run", [*RUNS, HALTED])
def test_a_run_folder_is_read_whole(root: Path, run: str) -> None:
    path = root / "runs" / run
    state = read_state(path)
    assert state is not None
    lines = [json.loads(line) for line in (path / "trajectory.jsonl").read_text().splitlines()]
    told = [{k: v for k, v in line.items() if k != "digest"} for line in lines]
    assert [a.to_dict() for a in read_trajectory(path)] == told and told
    assert LoopState.from_dict(state["state"]).to_dict() == state["state"]
    trajectory = Trajectory.from_dict(state["trajectory"])
    assert trajectory.to_dict() == state["trajectory"]
    folder = RunFolder(root / "runs", run)
    assert all(folder.image(a) is not None for a in (*trajectory.attempts, *read_trajectory(path)))
    assert all(folder.find(key) is not None for key in state["state"]["user_images"])
    saved = json.loads((root / "documents" / f"{run}.json").read_text())
    reason = state["state"]["reason"]
    assert compose(trajectory, run=run, title=state["title"], reason=reason).to_dict() == saved
    assert Document.from_dict(saved).to_dict() == saved


def test_the_runs_hold_every_kind_of_outcome(files: Path) -> None:
    """What the other tests are worth."""
    state = saved_state(files / "driver", "story")
    attempts = read_trajectory(files / "driver" / "runs" / "story")
    assert {a.judgment.accepted for a in attempts if a.judgment} == {True, False}
    assert any(a.overridden for a in attempts) and state.picks and state.user_images
    assert [r.chosen for r in state.results] == [1, 2, 0, 1, 1]
    assert [r.exhausted for r in state.results] == [False, False, False, True, False]
    assert (files / "driver" / "runs" / "story" / "comparisons.jsonl").read_text().count("\n") == 1
    assert (read_state(files / "driver" / "runs" / "story~2") or {})["parent"] == "story"
    assert (read_state(files / "driver" / "runs" / HALTED) or {})["trajectory"]["status"] == "stopped"


@pytest.mark.parametrize("lost", ["nothing", "the store", "the pictures of the store", "the run folders"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_is_recalled_and_nobody_is_asked(root: Path, run: str, lost: str) -> None:
    state = saved_state(root, run)
    saved = json.loads((root / "documents" / f"{run}.json").read_text())
    folder, name = root / "runs" / run, run
    if lost == "the store":
        shutil.rmtree(root / "store")
    elif lost == "the pictures of the store":
        shutil.rmtree(root / "store" / "images")
    elif lost == "the run folders":
        shutil.rmtree(root / "runs")
        name = "story"
    lines = bytes_below(root / "runs")
    again = session(root, state, "story")
    assert again.folder.name == name, "the same work finds its folder"
    drive(again, loop_of_before())
    assert plain(again.document().to_dict()) == plain({**saved, "run": name})
    if lost != "the run folders":
        kept = {p: b for p, b in lines.items() if not p.endswith("/run.json")}
        assert {p: b for p, b in bytes_below(root / "runs").items() if p in kept} == kept
        assert {p.name for p in (folder / "attempts").iterdir()} == {Path(a.file).name for a in read_trajectory(folder)}


def test_a_branch_finds_its_ancestors(root: Path) -> None:
    """What only the run that it branched from still has."""
    state = saved_state(root, "story~2")
    shutil.rmtree(root / "store")
    shutil.rmtree(root / "runs" / "story~2" / "attempts")
    for name in ("trajectory.jsonl", "comparisons.jsonl"):
        (root / "runs" / "story~2" / name).unlink()
    again = session(root, state, "story")
    assert [f.name for f in again.folder.line] == ["story~2", "story"]
    again.start()
    assert again.advance_from_store() and (again.state.step, again.state.attempt) == (5, 1)


@pytest.mark.parametrize("lost", ["store", "runs"])
def test_a_run_that_a_gate_stopped_goes_on_behind_what_is_known(root: Path, lost: str) -> None:
    state = saved_state(root, HALTED)
    known = read_trajectory(root / "runs" / HALTED)
    shutil.rmtree(root / lost)
    again = session(root, state, "")
    assert again.folder.name == HALTED, "a run without a name is found by its work"
    again.start()
    if lost == "store":
        assert again.advance_from_store() and (again.state.step, again.state.attempt) == (2, 1)
    else:
        again.advance_from_store()
        assert again.state.status == "stopped", "the gate stops at what the folder has not seen"
    made = [(a.step, a.attempt, a.image_key, a.judgment) for a in again.attempts]
    assert made == [(a.step, a.attempt, a.image_key, a.judgment) for a in known]


@pytest.mark.parametrize("run", ["told", "told~2", "halted"])
def test_documents_of_comfyui_runs_come_out_the_same(files: Path, run: str) -> None:
    path = files / "comfy" / "output" / "interleave" / run
    state = read_state(path)
    assert state is not None
    trajectory = Trajectory.from_dict(state["trajectory"])
    document = compose(trajectory, run=run, title=state["title"], reason=state["state"]["reason"])
    found = read_document(path)
    assert found.items == document.items and (found.status, found.reason) == (document.status, document.reason)
    image = pictures_of(path, found)
    page = to_html(found, lambda item: page_picture(image(item)))
    assert page.count("<img ") == len(document.images) > 0
    for number, item in enumerate(document.images, 1):
        with Image.open(path / f"image_{number:02d}.png") as saved:
            assert image(item).tobytes() == saved.convert("RGB").tobytes()


# --- records, exports, logs: each stage goes on from the files of before ----------------------------------------

STAGES = {
    "from-runs": ("all", "critic.jsonl planner.jsonl drops.json"),
    "score": ("data", "scored.jsonl scores.jsonl scored.drops.json"),
    "filter": ("data", "sft.jsonl rl.jsonl filter.drops.json"),
    "planner": ("data", "plans.jsonl plans.drops.json"),
    "export": (
        "data",
        "critic_sft.jsonl planner_sft.jsonl critic_sft.json planner_sft.json dataset_info.json critic_rl.jsonl "
        "compare_sft.jsonl sequences_easy.jsonl sequences_hard.jsonl data/interleave/white.png",
    ),
}
"""Place and outputs of each stage."""


@pytest.fixture
def kept(files: Path) -> Path:
    """The data of before; in its place a copy with the pictures, which are taken from the run folders again."""
    kept = (files / "data").rename(files / "kept")
    for name in ("driver", "made"):
        shutil.copytree(files / name / "runs", files / "all" / name)
    said("data", "from-runs", "all", "--config", "kept/from-runs.config.yaml")
    (files / "data").rename(files / "taken")
    shutil.copytree(kept, files / "data")
    shutil.copytree(files / "taken" / "images", files / "data" / "images")
    return kept


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_writes_the_same_from_the_records_of_before(kept: Path, stage: str) -> None:
    place, outputs = STAGES[stage]
    for name in outputs.split():
        (Path("data") / name).unlink()
    said("data", stage, place, "--config", f"kept/{stage}.config.yaml", *(["--resume"] if stage != "export" else []))
    for name in (*outputs.split(), f"{stage}.config.yaml"):
        new, old = Path("data") / name, kept / name
        assert old.stat().st_size > 0
        if name.endswith(".png"):
            with Image.open(new) as one, Image.open(old) as other:
                assert (one.size, one.tobytes()) == (other.size, other.tobytes())
        else:
            assert as_before(new.read_text(encoding="utf-8")) == old.read_text(encoding="utf-8"), name


ASKED_SINCE = [
    "\n\nBehind the steps, for the reader: `title`, two to eight words that name the whole, and `lead`, one sentence that "
    "introduces it. Both in the language of the request.",
    ', "title": "...", "lead": "..."',
]
"""What the planner's prompt texts ask for since then."""


def as_before(exported: str) -> str:
    for text in ASKED_SINCE:
        exported = exported.replace(json.dumps(text)[1:-1], "")
    return exported


def test_scores_that_were_paid_for_are_not_asked_for_again(kept: Path) -> None:
    """There is nothing that could be judged: the pictures are gone."""
    shutil.rmtree("data/images")
    Path("data/scored.jsonl").unlink()
    said("data", "score", "data", "--config", "kept/score.config.yaml", "--resume")
    for name in ("scored.jsonl", "scores.jsonl"):
        assert (Path("data") / name).read_bytes() == (kept / name).read_bytes()


def test_requests_and_vocabularies_of_before(files: Path) -> None:
    """An agent that can say no words is enough, for all are known."""
    for folder, agent in (("requests", ()), ("words", ("--agent", "tiny:oracle"))):
        before = bytes_below(files / folder)
        said("data", "prompts", "--config", f"{folder}/prompts.config.yaml", *agent, "--resume")
        after = bytes_below(files / folder)
        assert {p for p in before if before[p] != after[p]} <= {f"{files}/words/prompts.config.yaml"}


def test_trajectories_that_were_made_are_not_made_again(files: Path) -> None:
    before = bytes_below(files / "made")
    words = ("requests/requests.jsonl", "--config", "made/trajectories.config.yaml", "--resume")
    assert "2 requests, 0 left" in said("data", "trajectories", *words)
    assert bytes_below(files / "made") == before


def test_attempts_and_records_become_the_same_lessons(kept: Path, files: Path) -> None:
    old = files / "lessons" / "lesson_sft.jsonl"
    assert "4 attempts" in said("tinyworld", "attempts", "--out", "attempts", "--count", "4", "--seed", "3")
    said("tinyworld", "lessons", "data", "attempts", "--out", "new", "--count", "6", "--compare", "2")
    assert Path("new/lesson_sft.jsonl").read_bytes() == old.read_bytes()


def test_a_critic_is_measured_on_the_records_of_before(kept: Path) -> None:
    said("data", "agree", "data", "--critic", "tiny:oracle", "--json", "new.json")
    assert Path("new.json").read_bytes() == (kept / "agree.json").read_bytes()


def test_trainings_read_the_exports_of_before(kept: Path, files: Path) -> None:
    for name in ("critic_sft", "planner_sft", "compare_sft"):
        lines = [json.loads(line) for line in (kept / f"{name}.jsonl").read_text().splitlines()]
        rows, dropped = sft_rows(Path(f"data/{name}.jsonl"))
        wanted = [{**line, "images": [str(files / "data" / i) for i in line["images"]]} for line in lines]
        assert rows == wanted and not dropped
    rows, dropped = states(Path("data/critic_rl.jsonl"), None)
    assert json.dumps(rows, indent=1).replace(f"{files}/", "") + "\n" == (kept / "states.json").read_text()
    assert not dropped
    for command, name in (("sft critic", "sft-critic"), ("grpo", "grpo")):
        shown = said(*command.split(), "--config", f"options/{name}.config.yaml", "--dry-run")
        export = kept / ("critic_sft.jsonl" if "sft" in name else "critic_rl.jsonl")
        assert shown.startswith(f"{export.read_text().count(chr(10))} ")


# --- benchmarks ---------------------------------------------------------------------------------------------------


def test_a_judge_is_not_asked_again_for_what_its_log_holds(files: Path) -> None:
    before = bytes_below(files / "bench")
    words = ("--requests", "2", "--request-seed", "5")
    assert "0 items" in said("bench", "tiny", "generate", "--t-max", "2", *words, "--out", "bench", "--dry-run")
    shutil.rmtree("bench/scores")
    calls = len((files / "bench" / "judge.jsonl").read_text().splitlines())
    assert f"0 calls, {calls} recalled" in said("bench", "tiny", "judge", *words, "--out", "bench")
    said("bench", "tiny", "aggregate", "bench", *words, "--json", "bench/figures.json")
    said("bench", "tiny", "report", "bench", *words, "--out", "bench/report")
    after = bytes_below(files / "bench")
    changed = {p for p in before if after.get(p) != before[p]}
    assert changed <= {f"{files}/bench/run.json"}, "which tells the versions of packages"


def test_rows_of_an_ablation_are_not_measured_again(files: Path) -> None:
    """The rows name the weights of the package's generator: with others they would rightly be measured anew."""
    Path("base").symlink_to(WEIGHTS / "base")
    before = bytes_below(files / "ablate")
    assert not re.search(r"^seed \d", said("ablate", "--config", "ablate/ablate.config.yaml", "--resume"), re.M)
    after = bytes_below(files / "ablate")
    assert {p: b for p, b in after.items() if p in before} == before


# --- the command line -----------------------------------------------------------------------------------------------


class Parsed(BaseException):
    pass


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a command line's options are read as; nothing is carried out."""
    parse = argparse.ArgumentParser.parse_args

    def caught(self: argparse.ArgumentParser, *arguments: Any) -> NoReturn:
        raise Parsed(parse(self, *arguments))

    def read(*words: str) -> dict[str, Any]:
        with pytest.raises(Parsed) as told, monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", caught)
            main(words)
        return {k: comparable(v) for k, v in vars(told.value.args[0]).items()}

    return read


def comparable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [comparable(v) for v in value]
    return value.as_posix() if isinstance(value, Path) else value


def test_the_frozen_command_line_is_whole() -> None:
    """What the next tests are worth."""
    assert (len(SPOKEN), sum(len(c["lines"]) for c in SPOKEN)) == (54, 111)
    assert {c["command"][0] for c in SPOKEN if c["config"]} == {"data", "sft", "grpo", "adapters", "ablate"}


@pytest.mark.parametrize("spoken", SPOKEN, ids=[" ".join(c["command"]) for c in SPOKEN])
def test_every_option_of_before_is_taken_in_each_of_its_spellings(
    read: Any, spoken: dict[str, Any], tmp_path: Path
) -> None:
    for line in spoken["lines"]:
        if not any(word.startswith("--max-steps") for word in line["words"]):
            line["read"].pop("max_steps", None)  # the one default that changed; a folder's run keeps its own
        found = read(*spoken["command"], *line["words"])
        assert {name: found.get(name) for name in line["read"]} == line["read"], line["words"]
        if spoken["config"]:
            from_a_file(read, spoken, line, tmp_path / "options.yaml")


def from_a_file(read: Any, spoken: dict[str, Any], line: dict[str, Any], file: Path) -> None:
    """The same options by --config, under names with dashes and with underscores."""
    options = {}
    words = line["words"][len(spoken["places"]) :]
    for at, word in enumerate(words):
        if word.startswith("-"):
            values = list(until_an_option(words[at + 1 :]))
            if len(values) > 1:
                continue  # several values after one option were never a matter for a file
            name = word.removeprefix("--")
            options[name.removeprefix("no-") if not values else name] = typed(values, not name.startswith("no-"))
    for spelled in (options, {name.replace("-", "_"): value for name, value in options.items()}):
        file.write_text(yaml.safe_dump(spelled))
        found = read(*spoken["command"], *spoken["places"], "--config", str(file))
        wanted = {n: v for n, v in line["read"].items() if not (isinstance(v, list) and v[1:] == ["further"])}
        assert {name: found.get(name) for name in wanted} == wanted, spelled


def until_an_option(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("-"):
            return
        yield word


def typed(values: Sequence[str], flag: bool) -> Any:
    """As a person writes it: numbers as numbers."""
    if not values:
        return flag
    return yaml.safe_load(values[0]) if re.fullmatch(r"[\d.]+", values[0]) else values[0]


CONFIGS = sorted(p.relative_to(FILES).as_posix() for p in FILES.rglob("*.config.yaml"))
PLACES = {"trajectories": "requests", "from-runs": "runs", "score": "data", "filter": "data", "planner": "data"}


@pytest.mark.parametrize("name", CONFIGS)
def test_options_that_were_kept_are_taken_back(read: Any, name: str) -> None:
    stem = Path(name).name.removesuffix(".config.yaml")
    told = yaml.safe_load((FILES / name).read_text())
    command = stem.split("-") if stem == "sft-critic" else [stem] if stem in ("grpo", "ablate") else ["data", stem]
    place = PLACES.get(stem, "data" if stem == "export" else None)
    found = read(*command, *([told[place]] if place else []), "--config", str(FILES / name))
    assert {option: found.get(option.replace("-", "_")) for option in told} == told


@pytest.mark.parametrize("name", ["sft_8b", "grpo_8b"])
def test_recipes_of_before_are_taken(read: Any, name: str) -> None:
    file = FILES / "options" / f"{name}.yaml"
    command = ["sft", "critic"] if name == "sft_8b" else ["grpo", "--generator", "tiny", "--judge", "checker"]
    found = read(*command, "--model", "m", "--data", "d", "--out", "o", "--config", str(file))
    told = yaml.safe_load(file.read_text())
    assert {option: found.get(option.replace("-", "_")) for option in told} == told


def test_a_workflow_is_wrapped_and_unwrapped_as_before(files: Path) -> None:
    said("wrap", "plain.json", "-o", "new.json", "--agent", "server:mine", "--critic", "folder:tiny-critic")
    assert Path("new.json").read_bytes() == Path("wrapped.json").read_bytes()
    said("unwrap", "wrapped.json", "-o", "off.json")
    assert json.loads(Path("off.json").read_text()) == json.loads(Path("plain.json").read_text())


def test_a_run_goes_on_with_the_limit_that_it_was_begun_with() -> None:
    """The default of --max-steps was 10: with 20 a benchmark's folder would be refused, and plans be made again."""
    bench = begun_with(FILES / "bench")
    made = saved_options(argparse.Namespace(data_command="trajectories"), FILES / "made")
    for begun in (bench["max_steps"], made["max-steps"]):
        assert begun == 10 and max_steps_of(argparse.Namespace(max_steps=None), begun) == 10
        assert max_steps_of(argparse.Namespace(max_steps=7), begun) == 7, "what is typed wins"
    assert max_steps_of(argparse.Namespace(max_steps=None), None) == MAX_STEPS
