"""Requests from a taxonomy: the vocabulary is an agent's, so it is cleaned, bounded, and asked for only once."""

from __future__ import annotations

import json

import pytest

from interleave_thinker.agents.base import Completion
from interleave_thinker.cli import main
from interleave_thinker.research.data.records import DataError
from interleave_thinker.research.data.taxonomy_requests import (
    Category,
    Vocabulary,
    draw_requests,
    read_taxonomy,
    read_vocabularies,
    write_vocabularies,
)


class Writer:
    """An agent that writes `count` items of each kind, and what else it is told to."""

    name, prompts = "writer", None

    def __init__(self, count=8, more=()):
        self.count, self.more, self.asked = count, list(more), []

    def complete(self, messages, sampling, on_text=None):
        self.asked.append(messages[0].parts[0])
        kinds = {
            k: [f"{k} {len(self.asked)} {i}" for i in range(self.count)] + self.more
            for k in ("entities", "actions", "places")
        }
        return Completion(f"<think>x</think><answer>{json.dumps(kinds)}</answer>", "stop", 1)


A = Category("d", "Title", "first", "a hint", ("Show how to {action}.", "Draw {entity} and {entity2} in {n} pictures."))
B = Category("d", "Title", "second", "a hint", ("Tell of {entity} at {place}.",))


def test_our_taxonomy_is_as_wide_as_the_papers():
    found = read_taxonomy()
    assert len({c.domain for c in found}) == 8
    assert len(found) >= 75
    assert len({t for c in found for t in c.templates}) > 100


def test_each_template_of_ours_can_be_filled():
    words = Vocabulary("", ("a fox", "a hen"), ("fold a crane",), ("a barn",))
    for category in read_taxonomy():
        named = Vocabulary(category.name, words.entities, words.actions, words.places)
        pictures = [f"{i}.png" for i in range(5)]
        for request in draw_requests([category], [named], 30, 0, pictures):
            assert "{" not in request.request and request.request.count("<image>") == len(request.images)


def test_a_category_is_asked_for_once_and_a_cut_off_line_again(tmp_path):
    path, agent = tmp_path / "v.jsonl", Writer()
    first = write_vocabularies(agent, [A], path)
    assert len(agent.asked) == 1 and "first" in agent.asked[0]
    with path.open("a") as file:
        file.write('{"category": "second", "entit')
    both = write_vocabularies(agent, [A, B], path)
    assert len(agent.asked) == 2 and both[0] == first[0] and both[1].category == "second"


def test_what_an_agent_writes_is_cleaned_and_bounded():
    evil = ["{n}", "<image>", "x" * 500, "", 7, None, "  Two   words. ", "two words", ["a"], "tab\x07"]
    agent = Writer(more=evil)
    from interleave_thinker.research.data.taxonomy_requests import _ask

    found = _ask(agent, A)
    assert [e for e in found.entities if not e.startswith("entities")] == ["two words"]


def test_an_agent_that_writes_nothing_useful_costs_its_category_only(tmp_path):
    said = []
    found = write_vocabularies(Writer(count=2), [A, B], tmp_path / "v.jsonl", said.append)
    assert found == [] and len(said) == 2 and all("left out" in line for line in said)


def test_requests_are_different_spread_evenly_and_the_same_for_a_seed(tmp_path):
    words = write_vocabularies(Writer(), [A, B], tmp_path / "v.jsonl")
    drawn = draw_requests([A, B], words, 60, 1)
    assert len(drawn) == 60 == len({r.request.lower() for r in drawn}) == len({r.id for r in drawn})
    assert sum(r.category == "first" for r in drawn) == 30
    assert drawn == draw_requests([A, B], list(read_vocabularies(tmp_path / "v.jsonl")), 60, 1)
    assert drawn != draw_requests([A, B], words, 60, 2)


def test_an_exhausted_vocabulary_ends_with_fewer(tmp_path):
    words = Vocabulary("second", ("a", "b"), ("c",), ("d",))
    assert len(draw_requests([B], [words], 1000, 0)) == 2


def test_templates_about_pictures_need_pictures():
    about = Category("d", "T", "second", "h", ("<image><image> Compare {entity}.",))
    words = Vocabulary("second", ("a", "b"), ("c",), ("d",))
    assert draw_requests([about], [words], 5, 0) == []
    (first, *_) = draw_requests([about], [words], 5, 0, ["images/a_red_fox-2.png", "images/a hen.png"])
    assert len(set(first.images)) == 2
    assert first.request.endswith(("Compare a red fox.", "Compare a hen.")), "what the picture shows, not any entity"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("domains"), "no taxonomy"),
        (lambda t: t["domains"][0]["templates"].append("Draw {thing}."), "thing"),
        (lambda t: t["domains"][0]["templates"].append("Draw."), "needs"),
        (lambda t: t["domains"].append(t["domains"][0]), "twice"),
    ],
)
def test_a_taxonomy_of_ones_own_is_checked(tmp_path, change, told):
    own = {
        "domains": [
            {"name": "d", "title": "T", "templates": ["Do {action}."], "categories": [{"name": "c", "hint": "h"}]}
        ]
    }
    path = tmp_path / "t.json"
    path.write_text(json.dumps(own))
    assert [c.name for c in read_taxonomy(path)] == ["c"]
    change(own)
    path.write_text(json.dumps(own))
    with pytest.raises(DataError, match=told):
        read_taxonomy(path)


def test_a_dry_run_counts_the_calls(tmp_path, capsys):
    assert main(["data", "prompts", "--agent", "tiny", "--out", str(tmp_path / "o"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "40000 requests" in out and "agent calls" in out and not (tmp_path / "o").exists()
