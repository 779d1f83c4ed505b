"""Endpoints come from the user's file; what is wrong in it is said with file and key, never a secret."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import pytest

from interleave_thinker.agents.endpoints import EXAMPLE, Endpoint, load_endpoints
from interleave_thinker.agents.openai_compatible import agent_for
from interleave_thinker.errors import ConfigError

SECRET = "sk-secret-0123456789"


def written(folder: Path, text: str, name: str = "endpoints.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, name: str = "endpoints.toml") -> str:
    path = written(folder, text, name)
    with pytest.raises(ConfigError) as caught:
        load_endpoints(path)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_the_example_that_errors_show_loads(tmp_path: Path) -> None:
    endpoints = load_endpoints(written(tmp_path, EXAMPLE))
    assert endpoints == {
        "local": Endpoint("local", "http://127.0.0.1:8000/v1", "Qwen/Qwen3-VL-8B-Instruct", timeout=120)
    }
    assert len(EXAMPLE.strip().splitlines()) == 4


def test_every_key_is_read_and_the_order_of_the_file_is_kept(tmp_path: Path) -> None:
    endpoints = load_endpoints(
        written(
            tmp_path,
            f"""
            [zoo]
            base_url = "https://host.example/v1/"
            model = "m"
            api_key = "{SECRET}"
            timeout = 7.5
            prompts = "texts"
            extra_body = {{ top_k = 20, chat_template_kwargs = {{ enable_thinking = false }} }}
            leave_out = ["top_p", "seed"]
            [alpha]
            base_url = "http://127.0.0.1:1/v1"
            model = "n"
            """,
        )
    )
    assert list(endpoints) == ["zoo", "alpha"]
    zoo = endpoints["zoo"]
    assert zoo.base_url == "https://host.example/v1"
    assert zoo.key() == SECRET and zoo.timeout == 7.5
    assert zoo.prompts == str(tmp_path.resolve() / "texts")
    assert zoo.extra_body == {"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}}
    assert zoo.leave_out == ("top_p", "seed") and endpoints["alpha"].leave_out == ()
    assert endpoints["alpha"].key() is None and endpoints["alpha"].timeout == 120


def test_json_holds_the_same_as_toml(tmp_path: Path) -> None:
    table = {"local": {"base_url": "http://h/v1", "model": "m"}}
    path = written(tmp_path, json.dumps(table), "endpoints.json")
    assert load_endpoints(path)["local"] == Endpoint("local", "http://h/v1", "m")


def test_json_beside_a_missing_toml_is_read(tmp_path: Path) -> None:
    written(tmp_path, '{"j": {"base_url": "http://h/v1", "model": "m"}}', "endpoints.json")
    assert list(load_endpoints(tmp_path / "endpoints.toml")) == ["j"]


def test_a_byte_order_mark_of_windows_editors_does_not_matter(tmp_path: Path) -> None:
    assert "local" in load_endpoints(written(tmp_path, "\ufeff" + EXAMPLE))


def test_missing_file_says_where_to_create_it_with_an_example(tmp_path: Path) -> None:
    path = tmp_path / "none" / "endpoints.toml"
    with pytest.raises(ConfigError) as caught:
        load_endpoints(path)
    assert str(path) in str(caught.value) and EXAMPLE in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_a_file_without_endpoints_is_refused_with_an_example(tmp_path: Path, text: str) -> None:
    assert EXAMPLE in refused(tmp_path, text)


def test_unknown_key_is_named_with_its_endpoint_and_the_known_ones(tmp_path: Path) -> None:
    message = refused(tmp_path, EXAMPLE + "temprature = 1\n")
    assert "'temprature'" in message and "[local]" in message and "base_url" in message


def test_a_key_outside_of_any_table_is_named(tmp_path: Path) -> None:
    assert "'api_key'" in refused(tmp_path, f'api_key = "{SECRET}"\n' + EXAMPLE)


@pytest.mark.parametrize("text", [f'[x\nkey = "{SECRET}"', f"[x]\napi_key = {SECRET}\n", "\x00"])
def test_broken_toml_names_the_file_and_never_repeats_its_text(tmp_path: Path, text: str) -> None:
    refused(tmp_path, text)


@pytest.mark.parametrize("text", [f'{{"x": "{SECRET}"', "[]", f'"{SECRET}"', "[" * 100_000])
def test_broken_json_names_the_file_and_never_repeats_its_text(tmp_path: Path, text: str) -> None:
    refused(tmp_path, text, "endpoints.json")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"endpoints\.toml"):
        load_endpoints(path)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/v1",
        "h:8000/v1",
        f"https://user:{SECRET}@h/v1",
        f"https://h/v1?key={SECRET}",
        "http:///v1",
        "http://h/v1/chat/completions",
        "",
    ],
)
def test_base_url_that_is_not_plain_http_is_refused_without_being_shown(tmp_path: Path, url: str) -> None:
    assert "base_url" in refused(tmp_path, f'[x]\nbase_url = "{url}"\nmodel = "m"')


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('base_url = "http://h/v1"', "model"),
        ('model = "m"', "base_url"),
        ('base_url = "http://h/v1"\nmodel = 5', "model"),
        ('base_url = "http://h/v1"\nmodel = " "', "model"),
        ('base_url = "http://h/v1"\nmodel = "m"\ntimeout = 0', "timeout"),
        ('base_url = "http://h/v1"\nmodel = "m"\ntimeout = nan', "timeout"),
        ('base_url = "http://h/v1"\nmodel = "m"\ntimeout = true', "timeout"),
        (f'base_url = "http://h/v1"\nmodel = "m"\ntimeout = "{SECRET}"', "timeout"),
        (f'base_url = "http://h/v1"\nmodel = "m"\ntimeout = {"9" * 400}', "timeout"),
        ('base_url = "http://h/v1"\nmodel = "m"\nprompts = 3', "prompts"),
        ('base_url = "http://h/v1"\nmodel = "m"\nextra_body = 3', "extra_body"),
        ('base_url = "http://h/v1"\nmodel = "m"\nextra_body = {stream = false}', "stream"),
        (f'base_url = "http://h/v1"\nmodel = "m"\napi_key = "{SECRET} {SECRET}"', "api_key"),
        (f'base_url = "http://h/v1"\nmodel = "m"\napi_key = "{SECRET}\\n"', "api_key"),
        (f'base_url = "http://h/v1"\nmodel = "m"\napi_key = "{SECRET}"\napi_key_file = "k"', "both"),
        ('base_url = "http://h/v1"\nmodel = "m"\napi_key = ""', "api_key"),
    ],
)
def test_a_wrong_or_missing_value_is_named_and_a_key_never_shown(tmp_path: Path, line: str, named: str) -> None:
    assert named in refused(tmp_path, f"[x]\n{line}\n")


@pytest.mark.parametrize("value", ['"vllm"', "true", '""', '["ollama"]', "{}"])
def test_a_server_that_cannot_free_its_memory_is_named_with_those_that_can(tmp_path: Path, value: str) -> None:
    message = refused(tmp_path, EXAMPLE + f"free_memory = {value}\n")
    assert "free_memory" in message and "'ollama' or 'llama.cpp'" in message


def test_to_free_memory_is_no_part_of_what_identifies_an_agent() -> None:
    """What was judged before the key was written stays known."""
    names = {agent_for(Endpoint("n", "http://h/v1", "m", free_memory=kind)).name for kind in (None, "ollama")}
    assert len(names) == 1


@pytest.mark.parametrize("value", ['"top_p"', "3", '["top_k"]', '["top_p", "messages"]', "[3]", "{}", '[["seed"]]'])
def test_a_wrong_name_in_leave_out_is_named_with_the_allowed_ones(tmp_path: Path, value: str) -> None:
    message = refused(tmp_path, EXAMPLE + f"leave_out = {value}\n")
    assert "leave_out" in message and "top_p" in message
    wrong = {
        '["top_p", "messages"]': "'messages'",
        '[["seed"]]': "['seed']",
        "[3]": "contain 3",
        '["top_k"]': "'top_k'",
    }
    assert wrong.get(value, "must be a list") in message


def test_key_file_beside_the_config_is_read_each_time(tmp_path: Path) -> None:
    path = written(tmp_path, EXAMPLE + 'api_key_file = "key.txt"\n')
    endpoint = load_endpoints(path)["local"]
    written(tmp_path, f"\ufeff{SECRET}\r\n", "key.txt")
    assert endpoint.key() == SECRET
    written(tmp_path, "sk-new", "key.txt")
    assert endpoint.key() == "sk-new"


@pytest.mark.parametrize("text", ["", f"key {SECRET}", f"{SECRET}\n{SECRET}"])
def test_key_file_without_one_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    endpoint = load_endpoints(written(tmp_path, EXAMPLE + 'api_key_file = "key.txt"\n'))["local"]
    written(tmp_path, text, "key.txt")
    with pytest.raises(ConfigError, match=r"key\.txt") as caught:
        agent_for(endpoint)
    assert SECRET not in str(caught.value)


def test_missing_key_file_is_named_when_the_agent_is_made_not_when_the_list_is_read(
    tmp_path: Path,
) -> None:
    endpoint = load_endpoints(written(tmp_path, EXAMPLE + 'api_key_file = "none.txt"\n'))["local"]
    with pytest.raises(ConfigError, match=r"'local'.*none\.txt"):
        agent_for(endpoint)


def test_the_key_is_in_no_repr(tmp_path: Path) -> None:
    endpoint = Endpoint("n", "http://h/v1", "m", api_key=SECRET, extra_body={"k": SECRET})
    agent = agent_for(endpoint)
    for shown in (repr(endpoint), str(endpoint), repr(agent), agent.name):
        assert SECRET not in shown
    assert "http" not in agent.name


def test_endpoints_are_values(tmp_path: Path) -> None:
    """Frozen, comparable, hashable, picklable."""
    endpoint = Endpoint("n", "http://h/v1", "m", extra_body={"top_k": 1}, leave_out=["seed"])
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint and hash(endpoint) == hash(endpoint)
    with pytest.raises(dataclasses.FrozenInstanceError):
        endpoint.model = "x"  # type: ignore[misc]


def test_agent_for_hands_on_endpoint_and_check() -> None:
    def check() -> None: ...

    endpoint = Endpoint("n", "http://h/v1", "m", prompts="/p")
    agent = agent_for(endpoint, check)
    assert agent.endpoint is endpoint and agent.check is check and agent.prompts == "/p"


def test_agent_name_tells_models_and_settings_apart_and_shows_no_folder() -> None:
    def name(model: str, **extra: int) -> str:
        return agent_for(Endpoint("n", "http://h/v1", model, extra_body=extra)).name

    assert "Qwen/Qwen3-VL-8B" in name("Qwen/Qwen3-VL-8B")
    assert len({name("m"), name("k"), name("m", top_k=1), name("m", top_k=2)}) == 4
    fewer = [agent_for(Endpoint("n", "http://h/v1", "m", leave_out=names)).name for names in ([], ["seed"], ["top_p"])]
    assert fewer[0] == name("m") and len({*fewer, name("m", top_k=1)}) == 4
    for model in ("/home/me/m.gguf", "C:\\me\\m.gguf", "../me/m.gguf"):
        assert name(model).endswith("m.gguf") and "me" not in name(model)
