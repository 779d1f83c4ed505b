"""The three ways to an agent: ComfyUI's own CLIP, a Hugging Face folder, a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as memory
from comfy_api.latest import io

from ..interleave_thinker.agents.adapter_file import read_adapter
from ..interleave_thinker.agents.base import Agent, Sampling
from ..interleave_thinker.agents.endpoints import load_endpoints
from ..interleave_thinker.agents.openai_compatible import agent_for
from ..interleave_thinker.contract import MAX_MEGAPIXELS, MAX_TOKENS, TEMPERATURE
from ..interleave_thinker.errors import ConfigError
from ..interleave_thinker.files import files_state
from .events import check_interrupt
from .folders import (
    adapter_folders,
    agent_folders,
    lora_file,
    lora_files,
    model_folder,
    model_state,
    prompt_folders,
    shared_folder,
)
from .types import AGENT, dtype_input, schema
from .users import current_user

NO_ADAPTER = "none"


@dataclass(frozen=True)
class AgentValue:
    """What travels on an AGENT socket: the agent and how it is to write."""

    agent: Agent
    sampling: Sampling
    prompt_folders: tuple[str | None, ...]


def with_sampling(
    agent: Agent, max_tokens: int, temperature: float, megapixels: float, prompts: str = "", keep_form: bool = True
) -> AgentValue:
    """`prompts`: a folder below the user's prompt folder or the shared one, or nothing."""
    folders: list[str | None] = []
    if prompts.strip():
        name = prompts.strip()
        plain = not ("/" in name or "\\" in name or name.startswith("."))
        folders += [str(root / name) for root in prompt_folders() if plain and (root / name).is_dir()]
        if not folders:
            raise ConfigError(f"There is no prompt folder {name!r} in {prompt_folders()[0]}.")
    elif agent.prompts is None:
        folders += map(str, prompt_folders())
    sampling = Sampling(max_tokens, temperature, max_pixels=int(megapixels * 1024 * 1024), keep_form=keep_form)
    return AgentValue(agent, sampling, tuple(folders))


def sampling_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "max_tokens",
            default=MAX_TOKENS,
            min=16,
            max=32768,
            tooltip="Longest reply, in tokens. A plan needs about 150 a step.",
        ),
        io.Float.Input(
            "temperature",
            default=TEMPERATURE,
            min=0.0,
            max=2.0,
            step=0.05,
            advanced=True,
            tooltip="0 always writes the likeliest reply. The released checkpoints were run at 0.7.",
        ),
        io.Float.Input(
            "max_megapixels",
            default=MAX_MEGAPIXELS,
            min=0.003,
            max=12.0,
            step=0.001,
            advanced=True,
            tooltip="Larger pictures are scaled down before the agent sees them. 1.0 costs about 1000 tokens.",
        ),
        io.String.Input(
            "prompts",
            default="",
            optional=True,
            advanced=True,
            tooltip="Name of a folder with your own prompt texts in user/interleave_thinker/prompts.",
        ),
        io.Boolean.Input(
            "keep_form",
            default=True,
            optional=True,
            advanced=True,
            tooltip="Hold the answer to the form that the prompt shows: only its values are the agent's own. "
            "Off: the agent writes freely.",
        ),
    ]


def _agent_output() -> io.Output:
    return AGENT.Output("AGENT", "agent", tooltip="To Planner, Critic-Refine and Loop Close.")


def _prompts_state() -> str:
    """Differs between users: an agent of ComfyUI's cache holds the prompt folders of the user who made it."""
    return files_state(*prompt_folders()) + current_user()


class AgentFromClip(io.ComfyNode):
    """A CLIP that sees and writes, an image generator's own too; needs nothing installed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "AgentFromCLIP",
            display_name="Interleave Agent from CLIP",
            description="Use a CLIP that sees and writes as planner or critic, the image generator's own too: "
            "Qwen3-VL, Qwen3.5, Gemma 4.",
            search_aliases=["VLM", "Qwen3-VL", "LLM", "planner", "critic", "judge", "interleave agent"],
            inputs=[
                io.Clip.Input(
                    "clip",
                    tooltip="From Load CLIP: a Qwen3-VL (4B or 8B, any type but flux and flux2), Qwen3.5 or Gemma 4. "
                    "Another one that sees and writes shows its text only when the reply is whole.",
                ),
                *sampling_inputs(),
                io.Combo.Input(
                    "adapter",
                    options=[NO_ADAPTER, *lora_files()],
                    default=NO_ADAPTER,
                    optional=True,
                    tooltip="A planner or critic as a LoRA for this CLIP, from models/loras. It works while this agent "
                    "writes; what the CLIP encodes for the generator stays the same.",
                ),
            ],
            outputs=[_agent_output()],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter: Any = None, **_: Any) -> str:
        return _prompts_state() + "".join(model_state(adapter))

    @classmethod
    def execute(
        cls,
        clip: Any,
        max_tokens: int,
        temperature: float,
        max_megapixels: float,
        prompts: str = "",
        keep_form: bool = True,
        adapter: str = NO_ADAPTER,
    ) -> io.NodeOutput:
        from .native_agent import NativeAgent

        file = None if adapter == NO_ADAPTER else read_adapter(lora_file(adapter))
        agent = NativeAgent.from_clip(clip, check_interrupt, file)
        return io.NodeOutput(with_sampling(agent, max_tokens, temperature, max_megapixels, prompts, keep_form))


class LoadAgent(io.ComfyNode):
    """A Hugging Face folder through transformers, in ComfyUI's memory management."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadAgent",
            display_name="Interleave Load Agent",
            description="Load a Hugging Face folder with a model that sees and writes, such as Qwen3-VL, from "
            "models/VLM or models/LLM. Nothing is downloaded.",
            search_aliases=["VLM loader", "Qwen3-VL", "transformers", "LoRA", "InterleaveThinker", "interleave agent"],
            inputs=[
                io.Combo.Input("model", options=agent_folders(), tooltip="Folder below models/VLM or models/LLM."),
                io.Combo.Input(
                    "adapter",
                    options=[NO_ADAPTER, *adapter_folders()],
                    default=NO_ADAPTER,
                    tooltip="A LoRA adapter folder for this model (needs peft).",
                ),
                dtype_input("auto: as stored, float32 on a CPU."),
                *sampling_inputs(),
            ],
            outputs=[_agent_output()],
        )

    @classmethod
    def fingerprint_inputs(cls, model: Any = None, adapter: Any = None, **_: Any) -> str:
        folders = [model_folder(n) for n in (model, adapter) if n and n != NO_ADAPTER]
        return _prompts_state() + files_state(*folders)

    @classmethod
    def execute(
        cls,
        model: str,
        adapter: str,
        dtype: str,
        max_tokens: int,
        temperature: float,
        max_megapixels: float,
        prompts: str = "",
        keep_form: bool = True,
    ) -> io.NodeOutput:
        from .managed_agent import load_managed_agent

        folder = model_folder(model)
        lora = None if adapter == NO_ADAPTER else model_folder(adapter)
        agent = load_managed_agent(folder, lora, dtype, check_interrupt)
        return io.NodeOutput(with_sampling(agent, max_tokens, temperature, max_megapixels, prompts, keep_form))


def _endpoints_file() -> Path:
    """Shared by all users: the administrator's keys stand in it."""
    return shared_folder() / "endpoints.toml"


def _endpoint_names() -> list[str]:
    try:
        return sorted(load_endpoints(_endpoints_file()))
    except ConfigError:
        return []


def _clear_card() -> None:
    """ComfyUI's models wait in RAM while a server uses the card."""
    card = memory.get_torch_device()
    memory.free_memory(memory.get_total_memory(card), card)
    memory.soft_empty_cache()


class AgentFromServer(io.ComfyNode):
    """An OpenAI-compatible endpoint, picked by name: no address or key is in the workflow."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "AgentFromServer",
            display_name="Interleave Agent from Server",
            description="Use an OpenAI-compatible server (vLLM, SGLang, llama.cpp, Ollama, hosted). "
            "Addresses and keys live in user/interleave_thinker/endpoints.toml.",
            search_aliases=["OpenAI", "vLLM", "Ollama", "llama.cpp", "API", "VLM", "interleave agent"],
            inputs=[
                io.String.Input(
                    "endpoint",
                    default=next(iter(_endpoint_names()), "local"),
                    tooltip="Name of an entry in user/interleave_thinker/endpoints.toml.",
                ),
                *sampling_inputs(),
            ],
            outputs=[_agent_output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> str:
        return _prompts_state() + files_state(_endpoints_file())

    @classmethod
    def execute(
        cls,
        endpoint: str,
        max_tokens: int,
        temperature: float,
        max_megapixels: float,
        prompts: str = "",
        keep_form: bool = True,
    ) -> io.NodeOutput:
        endpoints = load_endpoints(_endpoints_file())
        if endpoint not in endpoints:
            raise ConfigError(
                f"There is no endpoint {endpoint!r} in {_endpoints_file()}; it names {sorted(endpoints) or 'none'}."
            )
        check: Callable[[], None] = check_interrupt
        agent = agent_for(endpoints[endpoint], check, _clear_card)
        return io.NodeOutput(with_sampling(agent, max_tokens, temperature, max_megapixels, prompts, keep_form))
