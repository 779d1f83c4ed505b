"""Stands in for the hosted teacher and judge of `recipes/8b.sh`: writes vocabulary and plans, criticises, gives marks.

Plans follow from the request, verdicts from the prompt that was used (three of four first attempts fail, the next one
does not), marks from the picture's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from zlib import crc32

from interleave_thinker.agents.base import Message
from interleave_thinker.agents.scripted import ScriptedAgent

COLORS, SHAPES, SIZES = ("red", "blue", "green", "yellow"), ("circle", "square", "star"), ("small", "big")


def teacher() -> ScriptedAgent:
    return ScriptedAgent([reply], name="teacher")


def reply(messages: Sequence[Message]) -> str:
    asked = "".join(part for message in messages for part in message.parts if isinstance(part, str))
    number = crc32(asked.encode())
    if "Write vocabulary" in asked:
        return _answer({kind: [f"a {kind} thing {n}" for n in range(12)] for kind in ("entities", "actions", "places")})
    if "execution_plan" in asked:
        return _answer(_plan(number))
    if '"score"' in asked:
        after = messages[-1].images[-1]
        marks = crc32(after.tobytes())
        return _answer({"score": [5 + marks % 6, 5 + marks // 6 % 6]})
    good = "sharp" in asked or number % 4 == 0
    return _answer({"previous_step_success": good, "refine_prompt": "" if good else f"a sharp picture {number % 7}"})


def _plan(number: int) -> dict[str, object]:
    color, shape, size = (of[number // 12 % len(of)] for of in (COLORS, SHAPES, SIZES))
    prompts = [f"a {size} {color} {shape} in the center on a white background", f"make the {shape} black"]
    steps = [
        {"step_number": n, "step_name": f"step {n}", "instruction": prompt, "prompt": prompt, "auxiliary_text": "said"}
        for n, prompt in enumerate(prompts, 1)
    ]
    return {"execution_plan": steps, "title": f"A {shape}", "lead": "It changes."}


def _answer(value: object) -> str:
    return f"<think>it follows from the words</think><answer>{json.dumps(value)}</answer>"
