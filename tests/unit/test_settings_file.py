"""--config: what a file says is what the command line would say, and the command line still wins."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from interleave_thinker.cli.config_file import add_config, read_options, save_options, with_config
from interleave_thinker.errors import ConfigError


def parser():
    top = argparse.ArgumentParser()
    commands = top.add_subparsers(dest="command")
    one = commands.add_parser("one")
    one.add_argument("place", type=Path)
    one.add_argument("--count", type=int, default=1)
    one.add_argument("--name", action="append", default=[])
    one.add_argument("--loud", action="store_true")
    one.add_argument("--cut", action=argparse.BooleanOptionalAction, default=True)
    one.add_argument("--dry-run", action="store_true")
    add_config(one)
    commands.add_parser("other").add_argument("rest", nargs="*")
    return top


def parsed(tmp_path, text, *more):
    (tmp_path / "c.yaml").write_text(text)
    top = parser()
    return top.parse_args(with_config(top, ["one", "here", *more, "--config", str(tmp_path / "c.yaml")]))


def test_a_file_gives_options_and_the_command_line_wins(tmp_path):
    found = parsed(tmp_path, "count: 3\nloud: true\nname: [a, b c]\ncut: false\n")
    assert (found.count, found.loud, found.name, found.cut, found.place) == (3, True, ["a", "b c"], False, Path("here"))
    assert parsed(tmp_path, "count: 3\n", "--count", "5").count == 5


def test_a_list_that_is_typed_replaces_that_of_the_file(tmp_path):
    assert parsed(tmp_path, "name: [a, b]\n", "--name", "c").name == ["c"]
    assert parsed(tmp_path, "name: [a, b]\n", "--name=c").name == ["c"]


def test_what_is_saved_gives_the_same_options_again(tmp_path):
    found = parsed(tmp_path, "count: 7\nname: [x]\ncut: false\n")
    save_options(found, tmp_path / "saved.yaml")
    top = parser()
    again = top.parse_args(with_config(top, ["one", "here", "--config", str(tmp_path / "saved.yaml")]))
    assert {**vars(again), "config": None} == {**vars(found), "config": None}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cuont: 3", "cuont"),
        ("loud: maybe", "true or false"),
        ("count: {a: 1}", "plain value"),
        ("count: null", "plain value"),
        ("- count", "a line `name: value` each"),
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        parsed(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_options(tmp_path / "none.yaml")


def test_a_command_without_the_option_keeps_its_words():
    top = parser()
    assert with_config(top, ["other", "--config", "x"]) == ["other", "--config", "x"]
