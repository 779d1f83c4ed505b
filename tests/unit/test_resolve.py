"""Names of a command line -> agents, generators and scorers: code of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from interleave_thinker.errors import AgentError, ConfigError, GeneratorError
from interleave_thinker.generators.base import GenerationRequest
from interleave_thinker.resolve import GeneratorChoice, agent_from, scorer_from
from interleave_thinker.roles.scorer import AgentScorer

MINE = """
from PIL import Image
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.roles.scorer import Score

class Grey:
    name = "grey"
    def generate(self, request):
        return Image.new("RGB", request.size or (8, 8), (128, 128, 128))

class Strict:
    name = "strict"
    def score(self, before, after, instruction):
        return Score(1, 1)

def agent():
    return ScriptedAgent(["yes"])

def nothing():
    return None

number = 7
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def test_a_function_of_the_users_makes_agent_generator_and_scorer() -> None:
    generator = GeneratorChoice("my_models:Grey").load()
    assert generator.name == "grey" and generator.generate(GenerationRequest("p", size=(4, 2))).size == (4, 2)
    assert agent_from("my_models:agent").name == agent_from("my_models:agent", role="planner").name
    scored = scorer_from("my_models:Strict").score(None, Image.new("RGB", (8, 8)), "a cat")
    assert scored.overall == 1
    assert isinstance(scorer_from("my_models:agent"), AgentScorer), "an agent is a judge"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("my_models:no_such", "no attribute 'no_such'"),
        ("my_models:number", "is no function"),
        ("my_models:nothing", "returned a NoneType, which is no Generator: it has no 'name'"),
        ("my_models:agent", "which is no Generator: it has no 'generate'"),
    ],
)
def test_what_cannot_be_had_is_an_error_that_names_it(spec: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        GeneratorChoice(spec).load()
    assert spec in str(error.value) and said in str(error.value)


def test_a_folder_with_a_colon_in_its_name_stays_a_folder(tmp_path: Path) -> None:
    Path("models:mine").mkdir()
    with pytest.raises(GeneratorError, match="no model_index"):
        GeneratorChoice("models:mine").load()


class TestEndpoints:
    """A judge behind a server is named as an agent is; what it lacks is said before anything else is loaded."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "endpoints.toml"
        path.write_text('[judge]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n')
        return path

    def test_a_judge_may_be_an_endpoint(self, file: Path) -> None:
        assert isinstance(scorer_from("endpoint:judge", endpoints=file), AgentScorer)

    def test_a_name_or_file_that_is_missing_is_said(self, file: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="has no endpoint 'other'; it has judge"):
            scorer_from("endpoint:other", endpoints=file)
        with pytest.raises(ConfigError, match=r"none\.toml"):
            agent_from("endpoint:judge", endpoints=tmp_path / "none.toml")

    def test_the_missing_package_is_said_at_once(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openai", None)
        with pytest.raises(AgentError, match=r"pip install 'interleave-thinker\[server\]'"):
            scorer_from("endpoint:judge", endpoints=file)

    def test_a_key_that_cannot_be_read_is_said_at_once(self, file: Path) -> None:
        file.write_text(file.read_text() + 'api_key_file = "key.txt"\n')
        with pytest.raises(ConfigError, match=r"key\.txt cannot be read"):
            agent_from("endpoint:judge", endpoints=file)
