"""Critic-Refine, and judgments that come from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io

from ..interleave_thinker.contract import MAX_STRICTNESS
from ..interleave_thinker.loop.trajectory import Judgment
from ..interleave_thinker.roles.critic import judge
from .agents import AgentValue
from .events import show_text, text_below, text_watcher
from .images import one_image, to_images
from .running_loops import earlier_replies
from .types import AGENT, JUDGMENT, expect, schema, seed_input


def _judgment_outputs(refined_tooltip: str) -> list[io.Output]:
    return [
        JUDGMENT.Output("JUDGMENT", "judgment", tooltip="To Loop Close."),
        io.Boolean.Output("ACCEPTED", "accepted", tooltip="The verdict."),
        io.String.Output("REFINED_PROMPT", "refined_prompt", tooltip=refined_tooltip),
        io.String.Output("REASONING", "reasoning", tooltip="Why."),
    ]


class CriticRefine(io.ComfyNode):
    """Judges one attempt and rewrites its prompt (paper, section 3.3). In the loop or alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "CriticRefine",
            display_name="Interleave Critic-Refine",
            description="A vision-language model compares before and after with the prompt: accepts, or rejects "
            "with a refined prompt for the next attempt.",
            search_aliases=["InterleaveThinker", "critic", "judge", "VLM check", "refine prompt", "quality check"],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            has_intermediate_output=True,
            inputs=[
                AGENT.Input(
                    "agent",
                    tooltip="A Qwen3-VL, Qwen3.5 or Gemma 4; the paper's critic is a fine-tuned Qwen3-VL 8B.",
                ),
                io.Image.Input("after", tooltip="The attempt to judge. Of a batch, the first picture."),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    tooltip="What was wanted: Loop Open's instruction, or your own words.",
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    tooltip="The prompt the generator really got: Loop Open's prompt. Empty: the instruction.",
                ),
                seed_input(
                    "Matters where the agent's temperature is above 0.", control_after_generate=False, advanced=True
                ),
                io.Combo.Input(
                    "if_unreadable",
                    options=["retry", "accept"],
                    default="retry",
                    advanced=True,
                    tooltip="When two replies are no judgment: reject and keep the prompt, or accept.",
                ),
                io.Image.Input(
                    "before",
                    optional=True,
                    tooltip="The picture that was edited: Loop Open's reference. Nothing: made from text alone.",
                ),
                io.Float.Input(
                    "strictness",
                    default=0.0,
                    min=-MAX_STRICTNESS,
                    max=MAX_STRICTNESS,
                    step=0.1,
                    display_mode=io.NumberDisplay.slider,
                    optional=True,
                    advanced=True,
                    tooltip="Accept only if the log-odds of true exceed this. Above 0: stricter. Below 0: more "
                    "lenient. 0: as trained. Agent from Server gives no token probabilities: leave it at 0 there.",
                ),
            ],
            outputs=_judgment_outputs("What to try next; unchanged if accepted."),
        )

    @classmethod
    def execute(
        cls,
        agent: AgentValue,
        after: torch.Tensor,
        instruction: str,
        prompt: str,
        seed: int = 0,
        if_unreadable: str = "retry",
        before: torch.Tensor | None = None,
        strictness: float = 0.0,
    ) -> io.NodeOutput:
        chosen = expect(agent, AgentValue, "Critic-Refine's 'agent'")
        prompt = expect(prompt, str, "Critic-Refine's 'prompt'")
        instruction = expect(instruction, str, "Critic-Refine's 'instruction'")
        used = prompt.strip() or instruction
        references = to_images(before, "before")
        judgment = judge(
            chosen.agent,
            references[0] if references else None,
            one_image(after, "Critic-Refine: 'after'"),
            instruction.strip() or used,
            used,
            sampling=replace(chosen.sampling, seed=seed, earlier=earlier_replies(cls.hidden.unique_id)),
            prompt_folders=chosen.prompt_folders,
            on_unreadable="accept" if if_unreadable == "accept" else "retry",
            on_text=text_watcher(cls.hidden.unique_id, "Judging"),
            strictness=strictness,
        )
        return _judgment_result(judgment, used, cls.hidden)


class JudgmentNode(io.ComfyNode):
    """Any other judge closes the loop: another pack's model, a rule, a person."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Judgment",
            display_name="Interleave Judgment",
            description="Make a judgment from plain values, or from the text that any language model wrote.",
            search_aliases=["judgment", "verdict", "accept reject", "condition", "InterleaveThinker", "other judge"],
            has_intermediate_output=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                io.Boolean.Input(
                    "accepted", default=True, tooltip="The verdict, unless 'reply' is connected: link a rule here."
                ),
                io.String.Input(
                    "refined_prompt", default="", multiline=True, tooltip="What to try next; empty keeps the prompt."
                ),
                io.String.Input("reasoning", default="", multiline=True, advanced=True, tooltip="Why, for the record."),
                io.String.Input(
                    "reply",
                    optional=True,
                    force_input=True,
                    tooltip="A model's reply with previous_step_success and refine_prompt; read instead of the values.",
                ),
            ],
            outputs=_judgment_outputs("What to try next."),
        )

    @classmethod
    def execute(
        cls, accepted: bool, refined_prompt: str, reasoning: str = "", reply: str | None = None
    ) -> io.NodeOutput:
        from ..interleave_thinker.reading.judgments import read_judgment

        refined_prompt = expect(refined_prompt, str, "Judgment's 'refined_prompt'")
        reasoning = expect(reasoning, str, "Judgment's 'reasoning'")
        if reply is None:
            judgment = Judgment(bool(accepted), refined_prompt, reasoning)
        else:
            judgment = read_judgment(expect(reply, str, "Judgment's 'reply'"))
        return _judgment_result(judgment, refined_prompt, cls.hidden)


def _judgment_result(judgment: Judgment, prompt: str, hidden: Any) -> io.NodeOutput:
    refined = judgment.refined_prompt or prompt
    verdict = "accepted" if judgment.accepted else f"rejected. Next: {refined}"
    if judgment.note:
        verdict += f"\n(the reply: {judgment.note})"
    text = verdict if judgment.parsed or judgment.note else f"{verdict}\n(the reply could not be read)"
    show_text(text, hidden.unique_id)
    shown = text_below(text, hidden.extra_pnginfo)
    return io.NodeOutput(judgment, judgment.accepted, refined, judgment.reasoning, ui=shown)
