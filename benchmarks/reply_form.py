"""Replies that keep their form: what changes for trained agents (nothing), and for weakly trained ones.

    python benchmarks/reply_form.py trained --calls 200
    python benchmarks/reply_form.py weak --steps 2 --calls 100 [--role planner]

trained: the tiny critic and planner of the package are asked with the form and without, greedy and sampled. weak: an
agent is trained for a few steps from the other one, which knows another form; counted are first replies that cannot be
read, with the form and without, for the same calls and seeds. Both also cut replies inside
their thought: none of these may become readable. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from interleave_thinker.agents.base import Completion, Message, Sampling
from interleave_thinker.agents.transformers_agent import TransformersAgent, load_agent
from interleave_thinker.reading.judgments import judgment_reader, judgment_reading
from interleave_thinker.reading.plan_text import plan_reader, plan_reading
from interleave_thinker.research.tinyworld.sft import Collator, Lessons
from interleave_thinker.research.tinyworld.vlm import save_agent
from interleave_thinker.roles.asking import Watch, in_form
from interleave_thinker.roles.critic import JUDGMENT_FORM, critic_turn, white_canvas
from interleave_thinker.roles.planner import PLAN_FORMS, planner_turn
from interleave_thinker.tinyworld.lessons import rendered_case
from interleave_thinker.tinyworld.requests import draw_request

WEIGHTS = Path(__file__).parents[1] / "interleave_thinker" / "tinyworld" / "weights"
START = {"critic": "planner", "planner": "critic"}
LONGEST = {"critic": 120, "planner": 600}
BATCH = 8


def calls(role: str, count: int, agent: TransformersAgent) -> Iterator[tuple[list[Message], Sampling]]:
    """The questions to the agent, each with its sampling and the form of its reply."""
    rng = random.Random(f"reply-form-{role}")
    for number in range(count):
        if role == "critic":
            case = rendered_case(rng)
            before = case.before_image or white_canvas(case.after_image.size)
            parts = critic_turn(before, case.after_image, case.prompt, case.used, [agent.prompts])
            name, forms = "critic", [JUDGMENT_FORM]
        else:
            request = draw_request(rng)
            images = request.images()
            parts = planner_turn(request.text, images, 12, [agent.prompts])
            name, forms = "planner_images" if images else "planner_text", list(PLAN_FORMS)
        sampling = Sampling(LONGEST[role], seed=number)
        yield [Message("user", parts)], in_form(sampling, forms, agent, name, [agent.prompts])


def asked(role: str, agent: TransformersAgent, messages: list[Message], sampling: Sampling) -> tuple[Completion, Any]:
    """A first reply, ended as the roles end it, and what was read: a verdict, a plan's steps, or None."""
    watch = Watch(lambda: judgment_reader(until_accepted=True) if role == "critic" else plan_reader())
    done = agent.complete(messages, sampling, watch)
    reply, cut = watch.read(done.text), done.finish == "length"
    if role == "critic":
        judgment = judgment_reading(reply, cut=cut)[0]
        return done, (judgment.accepted, judgment.refined_prompt) if judgment.parsed else None
    plan = plan_reading(reply, cut=cut).plan
    return done, plan.steps if plan is not None else None


def measure(role: str, agent: TransformersAgent, count: int, temperature: float) -> dict[str, Any]:
    same_texts = same_answers = 0
    unreadable = {True: 0, False: 0}
    for messages, sampling in calls(role, count, agent):
        found = {}
        for keep in (True, False):
            how = replace(sampling, temperature=temperature, keep_form=keep)
            done, answer = asked(role, agent, messages, how)
            found[keep] = done.text, answer
            unreadable[keep] += answer is None
        same_texts += found[True][0] == found[False][0]
        same_answers += found[True][1] == found[False][1]
    return {
        "calls": count,
        "temperature": temperature,
        "same texts": same_texts,
        "same answers": same_answers,
        "unreadable with the form": unreadable[True],
        "unreadable without": unreadable[False],
    }


def cut_thoughts(role: str, agent: TransformersAgent, count: int) -> dict[str, int]:
    """Replies of 4 to 40 tokens: how many ended inside their thought, and how many of these were read."""
    cut = read = 0
    for number, (messages, sampling) in enumerate(calls(role, count, agent)):
        done, answer = asked(role, agent, messages, replace(sampling, max_tokens=4 + number % 37))
        thinking = "</think>" not in done.text
        cut += thinking
        read += thinking and answer is not None
    return {"calls": count, "cut inside the thought": cut, "of these readable": read}


def weak_agent(role: str, steps: int, out: Path) -> TransformersAgent:
    """The other agent of the tiny world after `steps` batches of 8 lessons in this role."""
    start = load_agent(WEIGHTS / START[role], device="cpu")
    torch.manual_seed(0)
    model, collator = start.model.train(), Collator(start.processor)
    lessons = Lessons(role, steps * BATCH, 0, BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, betas=(0.9, 0.98))
    for step in range(steps):
        batch = collator([lessons[step * BATCH + n] for n in range(BATCH)])
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    save_agent(model, start.processor, out / role)
    return load_agent(out / role, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["trained", "weak"])
    parser.add_argument("--role", choices=["critic", "planner"], action="append")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--temperature", type=float, action="append")
    parser.add_argument("--out", type=Path, help="keep the weakly trained agent here")
    options = parser.parse_args()
    found: dict[str, Any] = {"what": options.what}
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        for role in options.role or ["critic", "planner"]:
            if options.what == "trained":
                agent = load_agent(WEIGHTS / role, device="cpu")
            else:
                agent = weak_agent(role, options.steps, out)
                found["steps"] = options.steps
            found[role] = [measure(role, agent, options.calls, t) for t in options.temperature or [0.0]]
            found[f"{role}, cut"] = cut_thoughts(role, agent, options.calls // 2)
            print(json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
