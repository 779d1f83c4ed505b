"""Names of a command line -> agents, generators and scorers. The only module that knows all of them.

    agent      tiny, tiny:oracle, a model folder, FOLDER+ADAPTER, endpoint:NAME, module:function
    generator  tiny, a diffusers folder, comfyui (the user's own workflow), module:function
    scorer     checker, module:function, or an agent as judge

`module:function` is code of the user's: the function takes nothing and returns an Agent, a Generator or a Scorer.
Everything heavy is imported by the function that needs it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agents.base import Agent
from .contract import COMFYUI_ADDRESS
from .errors import ConfigError
from .generators.base import Generator
from .roles.scorer import AgentScorer, Scorer

if TYPE_CHECKING:
    from .agents.transformers_agent import TransformersAgent
    from .generators.diffusers_generator import DiffusersGenerator

TINY = "tiny"
ORACLE = "tiny:oracle"
CHECKER = "checker"
COMFYUI = "comfyui"
ENDPOINT = "endpoint:"
ADAPTER_SIGN = "+"
AGENT_PARTS = ("name", "prompts", "complete")
AGENT_HELP = (
    "a model folder, FOLDER+ADAPTER (a LoRA folder or an adapter's .safetensors), endpoint:NAME (of --endpoints), tiny "
    "(the tiny world's own), tiny:oracle (its ground truth), or module:function (of your own)"
)
GENERATOR_HELP = (
    "a diffusers pipeline folder, tiny (the tiny world's own), comfyui (with --workflow), or module:function (of your "
    "own)"
)
SCORER_HELP = f"checker (the tiny world's), or {AGENT_HELP}"


# Agents


def agent_from(spec: str, *, role: str = "critic", endpoints: Path | None = None, device: str | None = None) -> Agent:
    """The agent that `spec` names. `role` says which of the tiny world's two agents `tiny` is.

    Raises:
        ConfigError: the endpoint, its file, the folder or the function does not exist.
        AgentError: the folder cannot be loaded.
    """
    if spec.startswith(ENDPOINT):
        return _endpoint_agent(spec[len(ENDPOINT) :], endpoints)
    if spec != ORACLE and (factory := _factory(spec)) is not None:
        agent: Agent = _fits(spec, factory(), "Agent", AGENT_PARTS)
        return agent
    if spec == TINY:
        from .tinyworld.convert import WEIGHTS

        return local_agent(WEIGHTS / ("planner" if role == "planner" else "critic"), None, device or "cpu")
    if spec == ORACLE:
        from .tinyworld.oracle import OracleCritic

        return OracleCritic()
    found = folder_and_adapter(spec)
    if found is None:
        raise ConfigError(f"{spec!r} is no model folder, and no endpoint (write endpoint:NAME). Give {AGENT_HELP}.")
    return local_agent(*found, device)


def folder_and_adapter(spec: str) -> tuple[Path, Path | None] | None:
    """What `FOLDER` or `FOLDER+ADAPTER` names, if there is such a folder; either may have a + in its name.

    Raises:
        ConfigError: the adapter does not exist.
    """
    if Path(spec).is_dir():
        return Path(spec), None
    cuts = [(Path(spec[:at]), spec[at + 1 :]) for at, sign in enumerate(spec) if sign == ADAPTER_SIGN and at]
    cuts = [(folder, adapter) for folder, adapter in cuts if folder.is_dir()]
    for folder, adapter in cuts:
        if adapter and Path(adapter).exists():
            return folder, Path(adapter)
    if cuts:
        raise ConfigError(
            f"There is no adapter {cuts[0][1]!r}. Give a LoRA folder or an adapter's .safetensors after {cuts[0][0]}+."
        )
    return None


def local_agent(folder: Path, adapter: Path | None, device: str | None) -> TransformersAgent:
    """A model of this process.

    Raises:
        AgentError: as `load_agent`.
    """
    from transformers.utils import logging

    from .agents.transformers_agent import load_agent

    logging.disable_progress_bar()  # of the weights' loading, between the lines of a command
    return load_agent(folder, adapter=adapter, device=device)


def _endpoint_agent(name: str, endpoints: Path | None) -> Agent:
    """What it needs beside the server is checked now and not at the first question, hours later.

    Raises:
        ConfigError: its file, its name in it, or the file of its key.
        AgentError: the package for chat servers is not installed.
    """
    from .agents.chat_connection import openai_package
    from .agents.endpoints import load_endpoints
    from .agents.openai_compatible import agent_for

    path = endpoints or Path.home() / ".config" / "interleave-thinker" / "endpoints.toml"
    known = load_endpoints(path)
    if name not in known:
        raise ConfigError(f"{path} has no endpoint {name!r}; it has {', '.join(known)}.")
    openai_package()
    known[name].key()
    return agent_for(known[name])


# Generators


@dataclass(frozen=True)
class GeneratorChoice:
    """What names a generator; plain values, so that it can be sent to another process.

    spec: see `GENERATOR_HELP`. workflow, edit_workflow: ComfyUI workflows in API format. workflow_inputs: where
    "prompt", "seed", "image" and "output" are in it, if that cannot be found. server: address of the ComfyUI.
    dtype: of a pipeline's weights in memory; "auto" is float32 on a CPU and bfloat16 elsewhere.
    """

    spec: str
    workflow: Path | None = None
    edit_workflow: Path | None = None
    workflow_inputs: Mapping[str, str | None] = field(default_factory=dict)
    server: str = COMFYUI_ADDRESS
    device: str | None = None
    dtype: str = "auto"

    def load(self) -> Generator:
        """The generator itself.

        Raises:
            ConfigError: a workflow is missing or has no input for the prompt, or the function does not exist.
            GeneratorError: the folder cannot be loaded.
        """
        if self.spec == COMFYUI:
            return self._comfyui()
        if (factory := _factory(self.spec)) is not None:
            generator: Generator = _fits(self.spec, factory(), "Generator", ("name", "generate"))
            return generator
        if self.spec == TINY:
            from .tinyworld.convert import WEIGHTS

            return load_pipeline(WEIGHTS / "generator", device="cpu", dtype=self.dtype)
        return load_pipeline(Path(self.spec), device=self.device, dtype=self.dtype)

    def _comfyui(self) -> Generator:
        from .comfyui.client import ComfyClient
        from .comfyui.find_inputs import find_inputs
        from .comfyui.workflow import load_workflow
        from .generators.comfyui_generator import ComfyGenerator

        if self.workflow is None:
            raise ConfigError("--generator comfyui needs --workflow FILE, your own text-to-image or edit workflow.")
        client = ComfyClient(self.server.rstrip("/"))
        draw = load_workflow(self.workflow, client=client)
        edit = load_workflow(self.edit_workflow, client=client) if self.edit_workflow else None
        return ComfyGenerator(
            client,
            (draw, find_inputs(draw, **self.workflow_inputs)),
            (edit, find_inputs(edit)) if edit is not None else None,
        )


def load_pipeline(folder: Path, *, dtype: str = "auto", device: str | None = None) -> DiffusersGenerator:
    """A diffusers pipeline folder; the tiny world's is of a class that diffusers does not know.

    Raises:
        GeneratorError: as `load_generator`.
    """
    from .generators.diffusers_generator import load_generator, pipeline_class

    known: Any = None
    if pipeline_class(folder) == "TinyKontextPipeline":
        from .tinyworld.pipeline import TinyKontextPipeline

        known = TinyKontextPipeline
    return load_generator(folder, dtype=dtype, device=device, pipeline=known)


# Scorers


def scorer_from(spec: str, endpoints: Path | None = None) -> Scorer:
    """`checker` is the tiny world's; everything else an agent as judge.

    Raises:
        ConfigError, AgentError: as `agent_from`.
    """
    if spec.split(":")[0] == TINY:
        raise ConfigError(
            f"--judge is {spec!r}, a critic that gives no marks. In the tiny world use {CHECKER}, its exact checker; "
            "elsewhere a model folder or endpoint:NAME."
        )
    if spec == CHECKER:
        from .tinyworld.oracle import CheckerScorer

        return CheckerScorer()
    if spec == ORACLE or spec.startswith(ENDPOINT):
        return AgentScorer(agent_from(spec, endpoints=endpoints))
    if (factory := _factory(spec)) is not None:
        made: Any = factory()
        return made if hasattr(made, "score") else AgentScorer(_fits(spec, made, "Scorer or Agent", AGENT_PARTS))
    return AgentScorer(agent_from(spec, endpoints=endpoints))


# Code of the user's

_MODULE_FUNCTION = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")


def _factory(spec: str) -> Callable[[], Any] | None:
    """The function that `module:function` names; None for any other name, also that of a folder.

    Raises:
        ConfigError: the module cannot be imported or has no such function.
    """
    found = _MODULE_FUNCTION.fullmatch(spec)
    if found is None or Path(spec).exists():
        return None
    try:
        function = getattr(importlib.import_module(found[1]), found[2])
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{spec!r}: {error}. Name a module that Python finds (PYTHONPATH) and a function in it, or a folder."
        ) from None
    if not callable(function):
        raise ConfigError(f"{spec!r} is no function.")
    return function  # type: ignore[no-any-return]


def _fits(spec: str, made: Any, what: str, needed: Sequence[str]) -> Any:
    """What the function returned, if it has what the protocol asks for."""
    missing = [name for name in needed if not hasattr(made, name)]
    if missing:
        raise ConfigError(f"{spec!r} returned a {type(made).__name__}, which is no {what}: it has no {missing[0]!r}.")
    return made
