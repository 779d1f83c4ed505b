"""Prompt texts: the user's win, ours are complete, and the official ones are read without running anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from interleave_thinker.errors import ConfigError
from interleave_thinker.roles.prompt_files import HERE, MAX_BYTES, REQUIRED_SLOTS, fill, import_official, load_prompt

FILLED = [
    ("each slot", "{a} and {b}", {"a": "1", "b": "2"}, "1 and 2"),
    ("slots in another order than the values", "{b} {a}", {"a": "1", "b": "2"}, "2 1"),
    ("a slot twice", "{a}{a}", {"a": "1"}, "11"),
    ("a slot name inside a value stays: texts are no templates", "{a} {b}", {"a": "{b}", "b": "{a}"}, "{b} {a}"),
    ("a slot built by two values stays", "{{a}", {"a": "b}"}, "{b}"),
    ("other braces stay: prompts hold JSON", '{"x": {a}} {c}', {"a": "1"}, '{"x": 1} {c}'),
    ("format fields of Python are nothing", "{a!r} {0} {a.b} %s {a}", {"a": "1"}, "{a!r} {0} {a.b} %s 1"),
    ("empty values", "{a}", {"a": ""}, ""),
    ("no slots", "", {"a": "1"}, ""),
]


@pytest.mark.parametrize(("why", "template", "values", "out"), FILLED, ids=[c[0] for c in FILLED])
def test_fill_is_one_pass(why: str, template: str, values: dict[str, str], out: str) -> None:
    assert fill(template, **values) == out


@pytest.mark.parametrize("name", REQUIRED_SLOTS)
def test_every_role_has_a_text_of_ours_with_its_slots(name: str) -> None:
    text = load_prompt(name)
    assert all("{" + slot + "}" in text for slot in REQUIRED_SLOTS[name]) and len(text) < 5000


@pytest.mark.parametrize("name", ["planner_text", "planner_images", "critic", "compare"])
def test_our_texts_ask_for_the_form_that_our_parser_reads_first(name: str) -> None:
    assert "<answer>{" in load_prompt(name) and "}</answer>" in load_prompt(name)


def test_there_is_no_file_without_a_role() -> None:
    assert {p.stem for p in HERE.glob("*.md")} == set(REQUIRED_SLOTS)


def test_the_first_folder_that_has_the_file_wins(tmp_path: Path) -> None:
    mine, models = tmp_path / "mine", tmp_path / "models"
    for folder in (mine, models):
        folder.mkdir()
    (models / "reask.md").write_text("model's {problem}")
    assert load_prompt("reask", [str(mine), None, models]) == "model's {problem}"
    (mine / "reask.md").write_text("mine {problem}")
    assert load_prompt("reask", [str(mine), None, models]) == "mine {problem}"
    assert load_prompt("critic", [str(mine), None, models]) == load_prompt("critic")
    assert load_prompt("critic", [str(tmp_path / "no such folder")]) == load_prompt("critic")


BROKEN = [
    ("a missing slot", b"Judge {original_instruction}.", r"no \{rewritten_prompt\}"),
    ("too large", b"x" * (MAX_BYTES + 1), "larger than"),
    ("not UTF-8: Notepad's old default", "für {original_instruction} {rewritten_prompt}".encode("latin-1"), "UTF-8"),
]


@pytest.mark.parametrize(("why", "data", "said"), BROKEN, ids=[c[0] for c in BROKEN])
def test_a_users_file_that_cannot_be_used_is_an_error_that_names_it(
    tmp_path: Path, why: str, data: bytes, said: str
) -> None:
    (tmp_path / "critic.md").write_bytes(data)
    with pytest.raises(ConfigError, match=said) as caught:
        load_prompt("critic", [tmp_path])
    assert str(tmp_path / "critic.md") in str(caught.value)


def test_a_byte_order_mark_is_not_part_of_the_prompt(tmp_path: Path) -> None:
    (tmp_path / "reask.md").write_bytes(b"\xef\xbb\xbf{problem}")
    assert load_prompt("reask", [tmp_path]) == "{problem}"


def test_an_unknown_name_is_refused_even_where_a_file_has_it(tmp_path: Path) -> None:
    (tmp_path / "poem.md").write_text("x")
    with pytest.raises(ConfigError, match="poem"):
        load_prompt("poem", [tmp_path])


# --- the official texts ------------------------------------------------------------------------------------------

OFFICIAL = '''
import not_installed
raise SystemExit("this file was run")
NARRATIVE_PROMPT_JSON = """
Plan. Answer {'execution_plan': [...]}
{text_input}
"""
GUIDANCE_GLOBAL_PROMPT_JSON = (
    "Plan with pictures. "
    "Request: {text_input}"
)
OTHER = ITERATIVE = Iterative_T2I_PROMPT_QWEN = "Judge {original_instruction} " 'and {rewritten_prompt}'
'''


def clone(folder: Path, source: str | bytes) -> Path:
    (folder / "UEval").mkdir()
    data = source if isinstance(source, bytes) else source.encode("utf-8")
    (folder / "UEval" / "system.py").write_bytes(data)
    return folder


def test_official_prompts_are_read_out_of_a_clone_without_running_it(tmp_path: Path) -> None:
    target = tmp_path / "user" / "prompts"
    written = import_official(clone(tmp_path, OFFICIAL), target)
    assert sorted(p.name for p in written) == ["critic.md", "planner_images.md", "planner_text.md"]
    assert load_prompt("planner_text", [target]) == "Plan. Answer {'execution_plan': [...]}\n{text_input}\n"
    assert load_prompt("planner_images", [target]) == "Plan with pictures. Request: {text_input}\n"
    assert load_prompt("critic", [target]) == "Judge {original_instruction} and {rewritten_prompt}\n"
    assert load_prompt("reask", [target]) == load_prompt("reask"), "what they do not have stays ours"


UNUSABLE: list[tuple[str, str | bytes, str]] = [
    ("a constant is missing", OFFICIAL.replace("NARRATIVE_PROMPT_JSON", "X"), "NARRATIVE_PROMPT_JSON"),
    ("a constant is no text", OFFICIAL.replace('(\n    "Plan', '(1, "Plan'), "GUIDANCE_GLOBAL_PROMPT_JSON"),
    ("a slot has another name", OFFICIAL.replace("{rewritten_prompt}", "{p}"), "rewritten_prompt"),
    ("not Python", "NARRATIVE_PROMPT_JSON = (", "not readable as Python"),
    ("null bytes", "A = 1\x00", "not readable as Python"),
    ("not UTF-8", b"A = '\xff'", "UTF-8"),
]


@pytest.mark.parametrize(("why", "source", "said"), UNUSABLE, ids=[c[0] for c in UNUSABLE])
def test_an_unusable_clone_is_an_error_and_writes_nothing(
    tmp_path: Path, why: str, source: str | bytes, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        import_official(clone(tmp_path, source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_clone_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"system\.py does not exist"):
        import_official(tmp_path, tmp_path / "out")
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match=str(tmp_path / "out")):
        import_official(clone(tmp_path, OFFICIAL), tmp_path / "out")
