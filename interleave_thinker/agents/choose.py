"""An agent from one word of a command line: `tiny`, a model folder, or an endpoint's name."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from .base import Agent

ENDPOINT = "endpoint:"
HELP = "a model folder, endpoint:NAME (of --endpoints), tiny (the tiny world's own), or tiny:oracle (its ground truth)"


def agent_from(spec: str, *, role: str = "critic", endpoints: Path | None = None, device: str | None = None) -> Agent:
    """The agent that `spec` names. `role` says which of the tiny world's two agents `tiny` is.

    Raises:
        ConfigError: the endpoint or its file does not exist.
        AgentError: the folder cannot be loaded.
    """
    if spec.startswith(ENDPOINT):
        from .endpoints import agent_for, load_endpoints

        path = endpoints or Path.home() / ".config" / "interleave-thinker" / "endpoints.toml"
        known = load_endpoints(path)
        name = spec[len(ENDPOINT) :]
        if name not in known:
            raise ConfigError(f"{path} has no endpoint {name!r}; it has {', '.join(known)}.")
        return agent_for(known[name])
    from transformers.utils import logging

    from .transformers_agent import load_agent

    logging.disable_progress_bar()  # of the weights' loading, between the lines of a command
    if spec == "tiny":
        from ..tinyworld.convert import WEIGHTS

        return load_agent(WEIGHTS / ("planner" if role == "planner" else "critic"), device=device or "cpu")
    if spec == "tiny:oracle":
        from ..tinyworld.oracle import OracleCritic

        return OracleCritic()
    folder = Path(spec)
    if not folder.is_dir():
        raise ConfigError(f"{spec!r} is no model folder, and no endpoint (write endpoint:NAME). Give {HELP}.")
    return load_agent(folder, device=device)
