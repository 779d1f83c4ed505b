"""Names of a command line -> agents, generators and scorers: code of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from interleave_thinker.errors import ConfigError, GeneratorError
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
