"""`adapters check` on runs that the tiny world's own loop made, and the ways in which it is given calls."""

from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from tiny_adapters import WEIGHTS, WHOLE_CRITIC, critic_adapter, random_adapter

from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.cli import main
from interleave_thinker.errors import ConfigError
from interleave_thinker.reading.plan_text import read_plan
from interleave_thinker.research.intervals import interval_of_share
from interleave_thinker.research.train.calls import Call, read_calls, spread
from interleave_thinker.research.train.check_adapter import WANTED, advice, share_of
from interleave_thinker.research.train.models import TrainError
from interleave_thinker.resolve import agent_from, folder_and_adapter
from interleave_thinker.roles.critic import critic_turn, judge, white_canvas

BASE, CRITIC = WEIGHTS / "base", WHOLE_CRITIC


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of the tiny agents and generator, the records of them, and an adapter that is a little like the critic."""
    folder = tmp_path_factory.mktemp("made")
    lines = (
        f"data prompts --world tiny --count 5 --seed 3 --out {folder}/requests",
        f"data trajectories {folder}/requests/requests.jsonl --critic tiny --generator tiny --t-max 2 --workers 5 "
        f"--out {folder}/runs",
        f"data from-runs {folder}/runs --out {folder}/data",
        f"data planner {folder}/data --cuts 1",
        f"data export {folder}/data --format trl --source critic.jsonl --name critic_sft --on-accept empty",
    )
    for line in lines:
        assert main(line.split()) == 0, line
    critic_adapter(folder / "near.safetensors", 3)
    random_adapter(folder / "far.safetensors", 1)
    return folder


def check(made, *more, adapter="near", against=CRITIC, calls="runs"):
    spec = f"{BASE}+{made / adapter}.safetensors"
    return main(["adapters", "check", spec, "--against", str(against), "--calls", str(made / calls), *map(str, more)])


def asked_directly(agent, data):
    """The judgment of each record, asked for as the loop does, with what was asked."""
    found = []
    for line in (data / "critic.jsonl").read_text().splitlines():
        record = json.loads(line)
        before = Image.open(data / record["before"]).convert("RGB") if record["before"] else None
        after = Image.open(data / record["after"]).convert("RGB")
        judgment = judge(agent, before, after, record["prompt"], record["used"], sampling=Sampling())
        assert judgment.parsed
        before = before or white_canvas(after.size)
        turn = critic_turn(before, after, record["prompt"], record["used"], [agent.prompts])
        found.append((judgment, [Message("user", turn)]))
    return found


def test_the_figures_are_what_a_direct_count_gives(made, tmp_path, capsys):
    assert check(made, "--role", "critic", "--json", tmp_path / "f.json", "--max-tokens", 300) == 0
    found = json.loads((tmp_path / "f.json").read_text())["critic"]
    agents = {
        "adapter": load_agent(BASE, adapter=made / "near.safetensors", device="cpu"),
        "full": load_agent(CRITIC, device="cpu"),
    }
    told = {whose: asked_directly(agent, made / "data") for whose, agent in agents.items()}
    said = {whose: [judgment.accepted for judgment, _ in of] for whose, of in told.items()}
    pairs = list(zip(said["adapter"], said["full"], strict=True))
    same = sum(a == b for a, b in pairs)
    assert 0 < same < len(pairs) > 9, "verdicts of both kinds, or nothing is shown"
    assert (found["verdicts_equal"]["count"], found["verdicts_equal"]["of"]) == (same, len(pairs))
    names = {True: "accepted", False: "rejected"}
    for a in names:
        for b in names:
            assert found["verdicts"][names[a]][names[b]] == pairs.count((a, b))
    assert found["unreadable"] == {"adapter": 0, "full": 0}
    assert f"| verdicts equal | {same} of {len(pairs)} |" in capsys.readouterr().out
    for writer, other in (("adapter", "full"), ("full", "adapter")):
        replies = [(messages, judgment.raw) for judgment, messages in told[writer]]
        own, read = (
            [agents[whose].log_probability(m, raw, Sampling(), ended=False) for m, raw in replies]
            for whose in (writer, other)
        )
        tokens = sum(count for _, count in own)
        of = found["likelihood"][writer]
        assert of["tokens"] == tokens
        assert of["own"] == pytest.approx(sum(value for value, _ in own) / tokens)
        assert of["other"] == pytest.approx(sum(value for value, _ in read) / tokens)
        assert of["ratio"] == pytest.approx(math.exp(of["own"] - of["other"])) != 1


def test_a_model_agrees_with_itself_in_everything(made, tmp_path):
    """An adapter of which nothing is left, beside the weights that it is compared with."""
    random_adapter(tmp_path / "none.safetensors", 1, size=0.0)
    shutil.copy(tmp_path / "none.safetensors", made / "none.safetensors")
    assert check(made, "--limit", 3, "--json", tmp_path / "f.json", adapter="none", against=BASE) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    for role in ("critic", "planner"):
        shares = [of for of in figures[role].values() if isinstance(of, dict) and of.get("of")]
        assert len(shares) >= 2 and all(of["count"] == of["of"] for of in shares)
        assert [of["ratio"] for of in figures[role]["likelihood"].values()] == [pytest.approx(1.0)] * 2
    assert figures["critic"]["advice"] == "more_calls", "three calls say little, also if all of them are equal"


def test_unreadable_replies_are_counted_for_each_side(made, tmp_path, capsys):
    """So few tokens that no reply comes to its verdict: nothing is equal, and there is nothing to advise."""
    assert check(made, "--limit", 2, "--max-tokens", 4, "--json", tmp_path / "f.json") == 0
    found = json.loads((tmp_path / "f.json").read_text())
    for role, key in (("critic", "verdicts_equal"), ("planner", "steps_equal")):
        assert found[role]["unreadable"] == {"adapter": 2, "full": 2}
        assert found[role][key]["of"] == 0 and "advice" not in found[role]
    assert "Unreadable replies: 2 of the adapter's, 2 of the full model's." in capsys.readouterr().out


def test_a_check_that_was_stopped_goes_on_and_asks_nothing_twice(made, tmp_path, capsys, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert check(made, "--role", "critic", "--limit", 4, "--out", whole, "--json", tmp_path / "a.json") == 0
    shutil.copytree(whole, stopped)
    lines = (whole / "answers.jsonl").read_text().splitlines()
    half = len(lines) // 2
    (stopped / "answers.jsonl").write_text("\n".join(lines[:half]) + lines[half][:20])
    assert check(made, "--role", "critic", "--limit", 4, "--out", stopped) == 1, "another check's folder"
    assert "Give --resume" in capsys.readouterr().err
    again = ("--role", "critic", "--limit", 4, "--out", stopped, "--resume", "--json", tmp_path / "b.json")
    assert check(made, *again) == 0
    after = (stopped / "answers.jsonl").read_text().splitlines()
    assert after[: half - 1] == lines[: half - 1], "what was there stays"
    assert sorted(json.loads(line)["key"] for line in after[1:] if not line.endswith(lines[half][:20])) == sorted(
        json.loads(line)["key"] for line in lines[1:]
    )
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()

    def no_more(*_, **__):
        raise AssertionError("nothing is left to ask")

    monkeypatch.setattr("interleave_thinker.agents.transformers_agent.load_agent", no_more)
    assert check(made, *again) == 0


def test_a_record_and_the_row_exported_from_it_ask_the_same(made):
    """What an agent is asked in use, and what it is trained on: whichever file the calls are read from."""
    data = made / "data"
    of_records = read_calls([data / "critic.jsonl", data / "planner.jsonl"], None)
    of_rows = read_calls([data / "critic_sft.jsonl"], None)
    edits = {call.question for call in of_records if call.role == "critic" and len(call.pictures) == 2}
    assert edits and edits <= {call.question for call in of_rows}
    assert {call.role for call in of_rows} == {"critic"}
    assert {call.role for call in of_records} == {"critic", "planner"}
    for call in of_records:
        images = call.messages()[0].images
        assert [image.size for image in images] == [(64, 64)] * (2 if call.role == "critic" else len(images))


def test_rows_of_the_planner_are_known_by_their_reply(made):
    main(["data", "export", str(made / "data"), "--format", "trl"])
    calls = read_calls([made / "data" / "planner_sft.jsonl"], None)
    assert {call.role for call in calls} == {"planner"}
    whole = {call.question for call in read_calls([made / "data" / "planner.jsonl"], None)}
    assert whole & {call.question for call in calls}


def test_the_tiny_planner_is_asked_for_plans(made, tmp_path):
    """Against itself by way of the base's adapter: its own plans can be read, the far adapter's cannot."""
    planner = WEIGHTS / "planner"
    assert check(made, "--role", "planner", "--json", tmp_path / "f.json", "--limit", 3, adapter="far",
                 against=planner) == 0  # fmt: skip
    found = json.loads((tmp_path / "f.json").read_text())["planner"]
    agent = load_agent(planner, device="cpu")
    calls = spread(read_calls([made / "data" / "planner.jsonl"], agent.prompts), 3)
    texts = [agent.complete(call.messages(), Sampling()).text for call in calls]
    assert all(read_plan(text) is not None for text in texts)
    assert found["unreadable"] == {"adapter": 3, "full": 0}
    assert found["steps_equal"] == {**share_of([False] * 3)}
    assert found["advice"] == "higher_rank"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{base}", "--against", "{critic}", "--calls", "{made}/runs"], "names no adapter"),
        (["{base}+{made}/gone.safetensors", "--against", "{critic}", "--calls", "{made}/runs"], "There is no adapter"),
        (["{made}/nothing+x", "--against", "{critic}", "--calls", "{made}/runs"], "is no model folder"),
        (["{near}", "--against", "{made}/nothing", "--calls", "{made}/runs"], "--against"),
        (["{near}", "--against", "{critic}", "--calls", "{made}/nothing.jsonl"], "Cannot read"),
        (["{near}", "--against", "{critic}", "--calls", "{made}/runs/store"], "holds no run folder, and none of critic"),
        (["{near}", "--against", "{critic}", "--calls", "{made}/runs", "--limit", "-1"], "--limit must be"),
        (["{critic}+{made}/near.safetensors", "--against", "{critic}", "--calls", "{made}/runs"], "for another model"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_one_line(made, capsys, arguments, told):
    names = {"base": BASE, "critic": CRITIC, "made": made, "near": f"{BASE}+{made}/near.safetensors"}
    assert main(["adapters", "check", *(a.format(**names) for a in arguments)]) == 1
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and "Traceback" not in error


def test_calls_whose_pictures_are_missing_are_counted_and_none_at_all_is_an_error(made, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(made / "data", data)
    gone = read_calls([data / "critic.jsonl"], None)[-1].pictures[-1]
    before = len(read_calls([data / "critic.jsonl"], None))
    gone.unlink()
    assert len(read_calls([data / "critic.jsonl"], None)) < before
    shutil.rmtree(data / "images")
    with pytest.raises(TrainError, match=rf"No call to check with in .*\({before} left out: a picture is missing\)"):
        read_calls([data / "critic.jsonl"], None)
    with pytest.raises(TrainError, match=r"not asked for \(critic\)"):
        read_calls([made / "data" / "critic.jsonl"], None, ("planner",))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([], "must be an object"),
        ({}, "is no call"),
        ({"after": 3, "prompt": "a", "used": "a", "before": None}, "after is 3"),
        ({"after": "a", "prompt": None, "used": "a", "before": None}, "prompt is None"),
        ({"request": "a", "plan": {}, "images": "b"}, "images is 'b'"),
        ({"completion": 1}, "a row has the keys"),
        ({"edited_image_path": "a"}, "origin_prompt is None"),
        (
            {
                "prompt": [{"role": "tool", "content": [{"type": "text", "text": "x"}]}],
                "completion": [{"role": "assistant", "content": [{"type": "text", "text": "x"}]}],
                "images": [],
            },
            "role is 'tool'",
        ),
    ],
)
def test_a_line_that_is_no_call_is_named(tmp_path, row, told):
    (tmp_path / "calls.jsonl").write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(TrainError, match=r"line 2: .*") as error:
        read_calls([tmp_path / "calls.jsonl"], None)
    assert told in str(error.value)


def test_a_dry_run_counts_the_calls_and_writes_nothing(made, tmp_path, capsys):
    assert check(made, "--dry-run", "--out", tmp_path / "out", "--limit", 2) == 0
    assert "4 calls (2 critic, 2 planner), 8 replies" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@given(st.integers(0, 300), st.integers(0, 40))
def test_a_limit_takes_calls_from_the_first_to_the_last(many, limit):
    calls = [Call(str(n), "critic", ()) for n in range(many)]
    kept = [int(call.name) for call in spread(calls, limit)]
    assert len(kept) == min(many, limit or many) and kept == sorted(set(kept))
    gaps = {b - a for a, b in pairwise(kept)}
    assert not kept or (kept[0] == 0 and max(gaps, default=many) - min(gaps, default=many) <= 1)
    assert not kept or kept[-1] + -(-many // len(kept)) >= many, "to the last"


@given(st.integers(1, 5000), st.floats(0, 1))
@example(1145, 0.0)
def test_the_interval_of_a_share_is_wilsons(of, part):
    from scipy.stats import binomtest

    hits = round(of * part)
    low, high = interval_of_share(hits, of)
    wanted = binomtest(hits, of).proportion_ci(method="wilson")
    assert low == pytest.approx(wanted.low, abs=1e-6) and high == pytest.approx(wanted.high, abs=1e-6)
    assert 0 <= low <= hits / of <= high <= 1


@given(st.integers(1, 2000), st.data())
def test_more_equal_verdicts_never_make_the_advice_worse(of, data):
    hits = data.draw(st.integers(0, of))
    rank = ["higher_rank", "more_calls", "fit"]
    told = [rank.index(advice(share_of([True] * n + [False] * (of - n)))) for n in range(hits, min(of, hits + 3) + 1)]
    assert told == sorted(told)
    if hits / of < WANTED:
        assert told[0] < 2, "never fit below the line"


def test_a_command_line_names_a_folder_with_its_adapter(made, tmp_path, monkeypatch):
    """Also where names have a plus sign themselves."""
    odd = tmp_path / "a+b"
    odd.symlink_to(BASE)
    shutil.copy(made / "far.safetensors", tmp_path / "c+d.safetensors")
    spec = f"{odd}+{tmp_path}/c+d.safetensors"
    assert folder_and_adapter(spec) == (odd, tmp_path / "c+d.safetensors")
    assert folder_and_adapter(str(odd)) == (odd, None)
    assert folder_and_adapter("nothing+at all") is None
    with pytest.raises(ConfigError, match=r"no adapter 'gone\.safetensors'"):
        folder_and_adapter(f"{odd}+gone.safetensors")
    agent = agent_from(spec, device="cpu")
    assert agent.name == "a+b+c+d" and agent.adapter is not None
