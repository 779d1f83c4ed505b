"""From requests to what trainers read, with real tiny models: nothing is lost unseen, and every row is what it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from interleave_thinker.agents.base import Completion
from interleave_thinker.cli import main
from interleave_thinker.errors import AgentError, GeneratorError
from interleave_thinker.loop.plan import Plan
from interleave_thinker.research.answer_file import AnswerFile
from interleave_thinker.research.data.agreement import agreement
from interleave_thinker.research.data.comparisons import TIE
from interleave_thinker.research.data.export import (
    WHITE,
    ExportOptions,
    critic_conversation,
    planner_conversation,
    sharegpt,
    trl,
)
from interleave_thinker.research.data.records import CriticRecord, DataError, PlannerRecord, read_records
from interleave_thinker.research.data.requests import tiny_requests
from interleave_thinker.research.data.schemas import SCHEMAS
from interleave_thinker.research.data.scoring import HOPELESS, LabelOptions, labelled, score_all
from interleave_thinker.research.data.trajectories import TrajectoryOptions, make_trajectories
from interleave_thinker.resolve import GeneratorChoice
from interleave_thinker.roles.scorer import AgentScorer, Score, ScoreError
from interleave_thinker.storage.images import open_rgb

REPO = Path(__file__).parents[2]
TINY_PROMPTS = REPO / "interleave_thinker" / "tinyworld" / "weights" / "critic" / "prompts"
OPTIONS = TrajectoryOptions(GeneratorChoice("tiny"), "tiny:oracle", t_max=3, size=(64, 64))
COUNT = 8


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All stages by the command line, as a recipe runs them."""
    root = tmp_path_factory.mktemp("data")
    requests, data = root / "requests", root / "data"
    for command in (
        f"prompts --world tiny --count {COUNT} --seed 5 --out {requests}",
        f"trajectories {requests}/requests.jsonl --critic tiny:oracle --generator tiny --t-max 3 --out {root}/made",
        f"from-runs {root}/made/runs --store {root}/made/store --out {data}",
        f"score {data} --judge checker --label-by score --min-semantics 10 --min-quality 5",
        f"filter {data} --rl-share 0.2 --balance 0",
        f"planner {data}",
        f"export {data} --format trl --format sharegpt --format rl --format compare --format easy --format hard --on-accept empty "
        f"--prompts {TINY_PROMPTS}",
    ):
        assert main(["data", *command.split()]) == 0
    return data


FILES = {
    "critic": ["critic.jsonl", "scored.jsonl", "sft.jsonl", "rl.jsonl"],
    "planner": ["planner.jsonl", "plans.jsonl"],
    "request": ["../requests/requests.jsonl"],
    "trl": ["critic_sft.jsonl", "planner_sft.jsonl", "compare_sft.jsonl"],
    "critic_rl": ["critic_rl.jsonl"],
    "sequence": ["sequences_easy.jsonl", "sequences_hard.jsonl"],
}


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in FILES.items() for n in names])
def test_each_row_fits_its_schema(folder, kind, name):
    rows = lines(folder / name)
    assert rows
    for row in rows:
        Draft202012Validator(SCHEMAS[kind]).validate(row)


@pytest.mark.parametrize("name", ["critic_sft", "planner_sft"])
def test_sharegpt_rows_fit_and_name_a_picture_for_each_mark(folder, name):
    info = json.loads((folder / "dataset_info.json").read_text())[name]
    rows = json.loads((folder / info["file_name"]).read_text())
    for row in rows:
        Draft202012Validator(SCHEMAS["sharegpt"]).validate(row)
        assert row["messages"][0]["content"].count("<image>") == len(row["images"])


def test_the_schemas_of_the_documentation_are_those_of_the_code():
    for name, schema in SCHEMAS.items():
        assert json.loads((REPO / "docs" / "schemas" / f"{name}.json").read_text()) == schema, "python -m ...: see docs"


@pytest.mark.parametrize("name", ["drops.json", "scored.drops.json", "filter.drops.json", "plans.drops.json"])
def test_every_report_adds_up(folder, name):
    for report in json.loads((folder / name).read_text()).values():
        assert report["seen"] == report["kept"] + sum(report["dropped"].values()) > 0


def test_the_parts_are_what_the_filter_kept(folder):
    kept = json.loads((folder / "filter.drops.json").read_text())["attempts"]["kept"]
    sft, rl = lines(folder / "sft.jsonl"), lines(folder / "rl.jsonl")
    assert len(sft) + len(rl) == kept
    assert not {r["group"] for r in sft} & {r["group"] for r in rl}
    assert len(lines(folder / "critic_sft.jsonl")) == len(sft) and len(lines(folder / "critic_rl.jsonl")) == len(rl)


def test_every_picture_that_is_named_is_there(folder):
    for name in ("critic_sft.jsonl", "planner_sft.jsonl", "compare_sft.jsonl", "sequences_hard.jsonl"):
        for row in lines(folder / name):
            assert all((folder / picture).is_file() for picture in row["images"])
    states = lines(folder / "critic_rl.jsonl")
    assert all((folder / s[key]).is_file() for s in states for key in ("origin_image_path", "edited_image_path"))
    assert any(s["origin_image_path"] == WHITE for s in states + [{"origin_image_path": WHITE}])


def test_a_record_that_is_read_back_renders_the_same_conversation(folder):
    options = ExportOptions(TINY_PROMPTS, "empty")
    for name, cls, talk, file in (
        ("sft.jsonl", CriticRecord, critic_conversation, "critic_sft.jsonl"),
        ("plans.jsonl", PlannerRecord, planner_conversation, "planner_sft.jsonl"),
    ):
        assert [trl(talk(r, options)) for r in read_records(folder / name, cls)] == lines(folder / file)


def test_the_critics_row_is_what_the_critic_is_asked_in_use(folder):
    """Two pictures and the prompt text, in the order of `judge`; the reply has the oracle's reason and verdict."""
    record = next(r for r in read_records(folder / "sft.jsonl", CriticRecord) if not r.success)
    row = trl(critic_conversation(record, ExportOptions(TINY_PROMPTS)))
    kinds = [part["type"] for part in row["prompt"][0]["content"]]
    assert kinds == ["image", "image", "text"]
    assert row["prompt"][0]["content"][2]["text"] == f"want {record.prompt}\ngot {record.used}"
    reply = row["completion"][0]["content"][0]["text"]
    assert record.reasoning in reply and json.dumps(record.refined) in reply and "false" in reply


def test_a_comparison_asks_as_in_use_and_wants_the_last_of_the_best_wherever_it_stands(folder):
    """Attempts come in any order: a trajectory ends with its success, and "the last" must not be the answer to all."""
    scored = {r.after: r for r in read_records(folder / "scored.jsonl", CriticRecord)}
    places = []
    for row in lines(folder / "compare_sft.jsonl"):
        *pictures, text = row["prompt"][0]["content"]
        assert {p["type"] for p in pictures} == {"image"} and 3 <= len(pictures) == len(row["images"]) <= 6
        tried = [scored[name] for name in row["images"][1:]]
        assert len({r.group for r in tried}) == 1 and text["text"] == f"best {tried[0].prompt}"
        reply = row["completion"][0]["content"][0]["text"]
        best = json.loads(re.search(r"<answer>(.*)</answer>", reply)[1])["best"]
        top = max(r.overall for r in tried)
        assert tried[best - 1].overall >= top - TIE and all(r.overall < top - TIE for r in tried[best:])
        assert all(r.reasoning in reply for r in tried)
        places.append(best == len(tried))
    assert 0 < sum(places) < len(places)


def test_the_refined_prompt_of_a_success_is_repeated_or_empty(folder):
    record = next(r for r in read_records(folder / "sft.jsonl", CriticRecord) if r.success)
    assert json.dumps(record.used) in critic_conversation(record, ExportOptions(TINY_PROMPTS)).reply
    assert '"refine_prompt": ""' in critic_conversation(record, ExportOptions(TINY_PROMPTS, "empty")).reply


def test_a_config_file_beside_the_output_gives_the_same_again(folder, capsys):
    before = (folder / "sft.jsonl").read_text()
    assert main(["data", "filter", str(folder), "--resume", "--config", str(folder / "filter.config.yaml")]) == 0
    assert (folder / "sft.jsonl").read_text() == before
    assert main(["data", "filter", str(folder), "--config", str(folder / "filter.config.yaml")]) == 1
    assert "--resume" in capsys.readouterr().err


class Judge:
    """A scripted judge; each reply in turn, the last for ever."""

    name, prompts = "scripted judge", None

    def __init__(self, *replies):
        self.replies, self.asked = list(replies), 0

    def complete(self, messages, sampling, on_text=None):
        self.asked += 1
        return Completion(self.replies[min(self.asked, len(self.replies)) - 1], "stop", 1)


GOOD = '<answer>{"score": [9, 7]}</answer>'


class TestScores:
    def records(self, folder, count=3):
        return list(read_records(folder / "critic.jsonl", CriticRecord))[:count]

    def test_the_least_of_two_marks_counts_and_overall_is_their_geometric_mean(self, folder, tmp_path):
        judge = Judge(GOOD, '<answer>{"score": [10, 4]}</answer>')
        scored, _ = score_all(
            self.records(folder, 1), folder, AgentScorer(judge), LabelOptions(), AnswerFile(tmp_path / "s")
        )
        assert (scored[0].semantics, scored[0].quality) == (7.0, 4.0)
        assert scored[0].overall == pytest.approx((7 * 4) ** 0.5)

    def test_a_reply_that_cannot_be_read_is_asked_again_and_never_guessed(self, folder, tmp_path):
        judge = Judge("good!", '{"score": [11, 2]}', GOOD)
        scored, _ = score_all(
            self.records(folder, 1), folder, AgentScorer(judge), LabelOptions(), AnswerFile(tmp_path / "s")
        )
        assert scored[0].semantics == 7.0 and judge.asked == 4

    def test_a_judge_that_always_fails_is_an_error_not_a_score(self, folder, tmp_path):
        with pytest.raises(AgentError, match="scored none of 3"):
            judge = AgentScorer(Judge("no idea"))
            score_all(self.records(folder), folder, judge, LabelOptions(), AnswerFile(tmp_path / "s"))

    def test_some_failures_are_dropped_and_counted(self, folder, tmp_path):
        judge = Judge(*["?"] * 3, GOOD)
        scored, drops = score_all(
            self.records(folder), folder, AgentScorer(judge), LabelOptions(), AnswerFile(tmp_path / "s")
        )
        assert len(scored) == 2 and drops.complete() and sum(drops.reasons.values()) == 1

    def test_one_refusal_costs_one_record_and_a_dead_judge_ends_it(self, folder, tmp_path):
        class Refusing(Judge):
            def complete(self, messages, sampling, on_text=None):
                self.asked += 1
                if self.asked in self.replies:
                    raise AgentError("content filter")
                return Completion(GOOD, "stop", 1)

        log = AnswerFile(tmp_path / "s")
        scored, drops = score_all(self.records(folder, 4), folder, AgentScorer(Refusing(1)), LabelOptions(), log)
        assert len(scored) == 3 and drops.reasons == {"content filter": 1}
        with pytest.raises(AgentError, match="content filter"):
            dead = AgentScorer(Refusing(*range(1, 1000)))
            score_all(self.records(folder, 20), folder, dead, LabelOptions(), AnswerFile(tmp_path / "t"))
        assert dead.agent.asked <= 11

    def test_what_was_scored_is_not_asked_again(self, folder, tmp_path):
        judge = Judge(GOOD)
        for _ in range(2):
            log = AnswerFile(tmp_path / "s")
            score_all(self.records(folder), folder, AgentScorer(judge), LabelOptions(), log)
        assert judge.asked <= 6
        other = Judge(GOOD)
        other.state = "files of another time"
        score_all(self.records(folder), folder, AgentScorer(other), LabelOptions(), AnswerFile(tmp_path / "s"))
        assert other.asked == judge.asked
        log = AnswerFile(tmp_path / "s")
        with (tmp_path / "s").open("ab") as file:
            file.write(b'\n{"key": "x", "seman')  # killed while writing
        assert len(AnswerFile(tmp_path / "s").known) == len(log.known)

    def test_missing_and_corrupt_pictures_are_counted(self, folder, tmp_path):
        (tmp_path / "bad.png").write_bytes(b"\x89PNG not really")
        one = self.records(folder, 1)[0]
        for number, (name, reason) in enumerate((("none.png", "missing"), ("bad.png", "cannot be read"))):
            broken = one.__class__(**{**vars(one), "id": f"b{number}", "before": None, "after": name})
            with pytest.raises(AgentError, match=reason):
                score_all([broken], tmp_path, AgentScorer(Judge(GOOD)), LabelOptions(), AnswerFile(tmp_path / "s"))

    def test_scores_may_give_the_label_but_never_against_a_person(self, folder):
        one = next(r for r in self.records(folder, 20) if r.success)
        options = LabelOptions("score", 8, 6)
        low = labelled(one, Score(3, 9), options)
        assert (low.success, low.refined, low.reasoning, low.labelled_by) == (False, "", "", "judge")
        assert labelled(one, Score(3, 9), LabelOptions()).success
        theirs = one.__class__(**{**vars(one), "labelled_by": "user"})
        assert labelled(theirs, Score(0, 0), options).success

    @pytest.mark.parametrize("value", [-1, 10.1, float("nan")])
    def test_a_score_outside_its_range_cannot_be_made(self, value):
        with pytest.raises(ValueError, match="between 0 and 10"):
            Score(value, 5)

    def test_the_checkers_marks_are_exact(self):
        from interleave_thinker.tinyworld.oracle import CheckerScorer
        from interleave_thinker.tinyworld.scene import Scene, render

        red = Scene("circle", "red", "big", "center", "white")
        blue = render(red.with_(color="blue"))
        score = CheckerScorer().score
        assert score(render(red), blue, "change the circle to blue").semantics == 10
        assert score(render(red), render(red), "change the circle to blue").semantics == 0
        both = render(red.with_(color="blue", background="green"))
        assert score(render(red), both, "change the circle to blue").semantics == 7.5, "one of four that had to stay"
        assert score(None, blue, "a big red circle in the center on a white background").semantics == 8
        with pytest.raises(ScoreError):
            score(None, blue, "make it nicer")


class TestAgreement:
    """How often a critic says what the labels say."""

    ACCEPTS = '<answer>{"previous_step_success": true, "refine_prompt": ""}</answer>'

    def records(self, folder):
        return list(read_records(folder / "scored.jsonl", CriticRecord))

    def test_one_that_accepts_all_is_right_half_the_time_whatever_the_shares(self, folder):
        records = self.records(folder)
        right = sum(r.success for r in records)
        assert 0 < right < len(records)
        found = agreement(Judge(self.ACCEPTS), records, folder)["kinds"]
        assert found["all"]["balanced_accuracy"] == 0.5
        assert found["all"]["right_accepted"] == [right, right]
        assert found["all"]["wrong_rejected"] == [0, len(records) - right]
        for two in (("drawn", "edited"), ("first", "later")):
            assert sum(found[kind]["right_accepted"][1] for kind in two if kind in found) == right

    def test_what_cannot_be_read_is_a_wrong_verdict_and_counted(self, folder):
        records = [r for r in self.records(folder) if not r.success]
        found = agreement(Judge("no idea"), records, folder)
        assert found["unreadable"] == found["attempts"] == len(records)
        assert found["kinds"]["all"]["wrong_rejected"] == [0, len(records)]
        assert found["kinds"]["all"]["balanced_accuracy"] is None, "there is no right one"

    def test_a_lost_picture_is_left_out_and_counted(self, folder):
        records = self.records(folder)
        lost = replace(records[0], after="images/none.png")
        found = agreement(Judge(self.ACCEPTS), [lost, *records[1:]], folder)
        assert found["left_out"] == {"a picture is missing": 1} and found["attempts"] == len(records) - 1
        with pytest.raises(DataError, match="No attempt"):
            agreement(Judge(self.ACCEPTS), [lost], folder)

    def test_one_refusal_costs_one_attempt_and_a_critic_that_always_refuses_is_not_asked_for_ever(self, folder):
        class Moody(Judge):
            def __init__(self, refuses):
                super().__init__(TestAgreement.ACCEPTS)
                self.refuses = refuses

            def complete(self, messages, sampling, on_text=None):
                said = super().complete(messages, sampling, on_text)
                if self.refuses(self.asked):
                    raise AgentError("503 too many requests")
                return said

        records = self.records(folder)
        found = agreement(Moody(lambda asked: asked == 2), records, folder)
        assert found["left_out"] == {"503 too many requests": 1} and found["attempts"] == len(records) - 1
        never = Moody(lambda asked: True)
        with pytest.raises(AgentError, match="503"):
            agreement(never, records * 3, folder)
        assert never.asked == HOPELESS

    def test_the_command_asks_a_real_critic_and_writes_the_figures(self, folder, tmp_path, capsys):
        out = tmp_path / "agree.json"
        assert main(["data", "agree", str(folder), "--critic", "tiny:oracle", "--json", str(out)]) == 0
        figures = json.loads(out.read_text(encoding="utf-8"))
        assert figures["kinds"]["all"]["balanced_accuracy"] > 0.95, "the oracle knows what the checker knows"
        assert "| all |" in capsys.readouterr().out

    def test_a_verdict_is_asked_for_once_of_each_critic(self, folder, tmp_path):
        records = self.records(folder)

        def asked(critic, **more):
            verdicts = AnswerFile(tmp_path / "verdicts.jsonl")
            return agreement(critic, records, folder, verdicts=verdicts, **more)

        first, again, other = Judge(self.ACCEPTS), Judge(self.ACCEPTS), Judge(self.ACCEPTS)
        other.name = "another"
        retrained = Judge(self.ACCEPTS)
        retrained.state = "files of another time"
        figures = asked(first)
        assert asked(again) == figures and again.asked == 0
        assert first.asked == len({(r.before, r.after, r.prompt, r.used) for r in records}) > 1
        assert asked(other) == figures and other.asked == first.asked
        assert asked(retrained) == figures and retrained.asked == first.asked, "all results are folders called `model`"
        assert asked(again, max_tokens=8) == figures and again.asked == first.asked

    def test_one_that_was_stopped_goes_on_where_it_was(self, folder, tmp_path):
        class Stopped(Judge):
            def complete(self, messages, sampling, on_text=None):
                if self.asked == 2:
                    raise KeyboardInterrupt
                return super().complete(messages, sampling, on_text)

        records, path = self.records(folder), tmp_path / "verdicts.jsonl"
        with pytest.raises(KeyboardInterrupt):
            agreement(Stopped(self.ACCEPTS), records, folder, verdicts=AnswerFile(path))
        with path.open("ab") as file:
            file.write(b'\n{"key": 1, "acc')
        whole, rest = Judge(self.ACCEPTS), Judge(self.ACCEPTS)
        figures = agreement(whole, records, folder)
        assert agreement(rest, records, folder, verdicts=AnswerFile(path)) == figures
        assert rest.asked == whole.asked - 2

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(st.dictionaries(st.sampled_from(["accepted", "parsed", "key"]), st.none() | st.booleans() | st.text()))
    def test_a_line_that_is_no_verdict_is_asked_for_again(self, folder, line):
        records = self.records(folder)[:1]
        made = AnswerFile(None)
        agreement(Judge(self.ACCEPTS), records, folder, verdicts=made)
        (key,) = made.known
        critic = Judge(self.ACCEPTS)
        found = agreement(critic, records, folder, verdicts=AnswerFile(None, {key: line}))
        whole = all(isinstance(line.get(name), bool) for name in ("accepted", "parsed"))
        assert critic.asked == (not whole) and found["attempts"] == 1

    def test_a_source_is_a_name_not_a_path(self, folder, capsys):
        assert main(["data", "agree", str(folder), "--critic", "tiny:oracle", "--source", "../x.jsonl"]) == 1
        assert "--source" in capsys.readouterr().err


class TestLessons:
    """Rows for the tiny critic from a data set's own attempts."""

    @pytest.fixture(scope="class")
    def rows(self, folder):
        assert main(f"tinyworld lessons {folder} --out {folder} --count 120 --seed 3".split()) == 0
        return lines(folder / "lesson_sft.jsonl")

    def test_each_is_a_row_that_sft_takes_and_tells_the_truth_of_its_pictures(self, rows, folder):
        from interleave_thinker.tinyworld import checker

        assert len(rows) == 120
        verdicts, as_seen = [], []
        for row in rows:
            Draft202012Validator(SCHEMAS["trl"]).validate(row)
            assert "lessons/" in row["images"][1]
            said = row["completion"][0]["content"][0]["text"]
            verdict = json.loads(re.search(r"<answer>(.*)</answer>", said)[1])["previous_step_success"]
            verdicts.append(verdict)
            want = row["prompt"][0]["content"][-1]["text"].split("\n")[0].removeprefix("want ")
            before, after = (open_rgb(folder / name) for name in row["images"])
            start = checker.read(before).scene if "before sheet" not in said else None
            if start is not None or "before sheet" in said:
                as_seen.append(checker.step_succeeded(want, before if start else None, after) is verdict)
        assert sum(as_seen) / len(as_seen) > 0.9, "what was there may be hard to read, moved by a pixel"
        assert 0.3 < sum(verdicts) / len(verdicts) < 0.7

    def test_sft_accepts_them(self, rows, folder, capsys):
        command = (
            f"sft critic --model {TINY_PROMPTS.parent} --data {folder}/lesson_sft.jsonl --out {folder}/x --dry-run"
        )
        assert main(command.split()) == 0
        assert "120 rows" in capsys.readouterr().out

    def test_a_broken_line_and_a_lost_picture_are_one_line(self, tmp_path, capsys):
        for text, told in (
            ("{", "Cannot read"),
            (
                '{"before": null, "after": "no.png", "prompt": "a big red circle at the center on a white background"}',
                "no.png",
            ),
        ):
            (tmp_path / "scored.jsonl").write_text(text + "\n")
            assert main(f"tinyworld lessons {tmp_path} --out {tmp_path}".split()) == 1
            assert told in capsys.readouterr().err

    def test_without_attempts_the_step_before_is_named(self, tmp_path, capsys):
        assert main(f"tinyworld lessons {tmp_path} --out {tmp_path}".split()) == 1
        assert "data score" in capsys.readouterr().err


class TestSequences:
    def test_easy_has_one_picture_a_step_and_hard_every_attempt(self, folder):
        easy, hard = lines(folder / "sequences_easy.jsonl"), lines(folder / "sequences_hard.jsonl")
        assert [r["id"] for r in easy] == [r["id"] for r in hard]
        assert sum(len(r["images"]) for r in hard) > sum(len(r["images"]) for r in easy)
        assert all("<critic>" not in r["messages"][1]["content"] for r in easy)

    @pytest.mark.parametrize("kind", ["easy", "hard"])
    def test_tags_are_well_formed(self, folder, kind):
        for row in lines(folder / f"sequences_{kind}.jsonl"):
            text = row["messages"][1]["content"]
            open_tags = []
            for close, name in re.findall(r"<(/?)(gthink|plan|image|info|critic|think)>", text):
                if close:
                    assert open_tags.pop() == name
                else:
                    open_tags.append(name)
            assert not open_tags
            made = text.count("<img_token>")
            assert made + row["messages"][0]["content"].count("<image>") == len(row["images"])


def test_a_text_that_says_image_is_no_picture_in_sharegpt():
    record = CriticRecord("r/1.1", "r/1", "", 1, 1, "", "draw <image>", "draw <image>", None, "a.png", True, "critic")
    row = sharegpt(critic_conversation(record, ExportOptions(TINY_PROMPTS)))
    assert row["messages"][0]["content"].count("<image>") == 2 == len(row["images"])


def test_a_plan_that_is_none_is_named(tmp_path, capsys):
    (tmp_path / "r.jsonl").write_text('{"id": "x", "request": "y", "plan": {"steps": []}}')
    line = f"data trajectories {tmp_path}/r.jsonl --critic tiny:oracle --generator tiny --out {tmp_path}/o"
    assert main(line.split()) == 1
    assert "request x" in capsys.readouterr().err


def test_a_folder_with_a_dot_in_its_name_is_a_folder(tmp_path):
    (tmp_path / "my.data").mkdir()
    assert main(f"data prompts --world tiny --count 1 --out {tmp_path}/my.data".split()) == 0
    assert (tmp_path / "my.data" / "prompts.config.yaml").is_file()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("score {0} --judge checker", "critic.jsonl"),
        ("filter {0}", "scored.jsonl"),
        ("planner {0}", "planner.jsonl"),
        ("export {0} --format rl", "rl.jsonl"),
        ("export {0} --format trl", "run `data filter"),
        ("export {0}/none --format trl", "no folder"),
        ("prompts --out {0}/x --count 0 --world tiny", "--count is 0"),
        ("prompts --out {0}/x", "--agent"),
        ("trajectories {0}/none.jsonl --critic tiny:oracle --generator tiny --out {0}/o", "none.jsonl"),
        ("trajectories {0}/none.jsonl --critic tiny --generator tiny --server a --server b --out {0}/o", "none.jsonl"),
    ],
)
def test_what_is_missing_is_named_in_one_line(tmp_path, capsys, command, told):
    assert main(["data", *command.format(tmp_path).split()]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and told in error and error.count("\n") == 1


def test_somebody_must_work(folder, capsys):
    assert main(f"data score {folder} --judge checker --resume --workers 0".split()) == 1
    assert "--workers is 0" in capsys.readouterr().err


def test_a_generator_error_is_a_counted_failure(tmp_path, monkeypatch):
    from interleave_thinker.generators import diffusers_generator

    def fails(self, request):
        raise GeneratorError("out of memory")

    monkeypatch.setattr(diffusers_generator.DiffusersGenerator, "generate", fails)
    requests = tiny_requests(2, 1, tmp_path)
    assert make_trajectories(requests, tmp_path, tmp_path / "out", OPTIONS) == sum(
        bool(Plan.from_dict(r.plan).image_steps) for r in requests
    )
