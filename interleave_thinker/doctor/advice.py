"""What to change, by plain rules over what was measured (`facts.py`). Each says its number and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..contract import MAX_TOKENS, OLDEST_COMFYUI, PACKAGED_CLIP

SLOW_AGENT: Final = 5.0
"""Tokens a second; below it a card does not hold the whole model."""
SLOW_PICTURE: Final = 60.0
"""Seconds."""
FULL_CARD: Final = 0.93
"""Share of a card's memory."""
CHANGES_PLACES: Final = 1.5
"""An attempt in the loop takes so many times what picture and judgment take alone: models move in and out."""
LONG_RUN: Final = 3600.0
"""Seconds of a story, at most."""
STORY_STEPS: Final = 8
PLAN_TOKENS_A_STEP: Final = 150
"""What a planner writes for a step."""

_MEMORY = re.compile(r"out of memory|OutOfMemory|not enough memory|alloc", re.IGNORECASE)
_LACKS = re.compile(r"node [^.]*: \w+ is '.*', which this ComfyUI does not have|this ComfyUI lacks [^.]*")
OTHER_MODEL: Final = f"a whole Qwen3-VL instruct model, such as {PACKAGED_CLIP} in Load CLIP with type qwen_image"


ON_SERVER: Final = "server:"
"""How the names of agents begin that a server runs, on a machine of its own."""


@dataclass(frozen=True)
class Advice:
    """rule: its name, which stays. text: for people."""

    rule: str
    text: str


@dataclass(frozen=True)
class RunTime:
    """Seconds: of an attempt (picture and judgment), of the plan, and of a story of `STORY_STEPS` steps."""

    picture: float
    judgment: float
    plan: float
    t_max: int

    @property
    def attempt(self) -> float:
        return self.picture + self.judgment

    @property
    def shortest(self) -> float:
        """Every first attempt is accepted."""
        return self.plan + STORY_STEPS * self.attempt

    @property
    def longest(self) -> float:
        """Every step takes T_max attempts."""
        return self.plan + STORY_STEPS * self.t_max * self.attempt


def run_time(facts: Mapping[str, Any]) -> RunTime | None:
    """From an attempt in the loop where one was measured, else from picture and judgment alone; None without both."""
    picture, judgment = warm_picture(facts), _judgment(facts)
    if picture is None or judgment is None:
        return None
    loop = facts["loop"] or {"picture": picture, "critic": judgment}
    speed = next((a["tokens_a_second"] for a in facts["agents"] if "planner" in a["roles"]), None)
    plan = STORY_STEPS * PLAN_TOKENS_A_STEP / speed if speed else 0.0
    return RunTime(loop["picture"], loop["critic"], plan, facts["t_max"])


def shown_name(name: str) -> str:
    """An agent's name for people: of a CLIP its file, or what kind it is; of a server its name and the model."""
    kind, *parts = name.split(":")
    if kind == "clip" and len(parts) == 3:
        return parts[2] or parts[0]
    return " ".join(parts) if kind == "server" and parts else name


def warm_picture(facts: Mapping[str, Any]) -> float | None:
    """Seconds of the last picture of the generator alone; None without one."""
    return facts["pictures"][-1]["seconds"] if facts["pictures"] else None


def advice_for(facts: Mapping[str, Any]) -> list[Advice]:
    """What to change, the most pressing first; nothing where all is well."""
    found = [*_setup(facts)]
    for agent in facts["agents"]:
        found += _replies(agent, len(facts["agents"]) > 1)
    return [*found, *_speed(facts)]


def _setup(facts: Mapping[str, Any]) -> Iterator[Advice]:
    version = facts["versions"].get("ComfyUI")
    if version and _numbers(version) < _numbers(OLDEST_COMFYUI):
        yield Advice("old_comfyui", f"This ComfyUI is {version}; the pack needs {OLDEST_COMFYUI} or newer. Update it.")
    lacking = [m[0] for text in (*facts["problems"], *facts["notes"]) if (m := _LACKS.search(text))]
    if lacking:
        yield Advice(
            "lacking",
            f"Missing: {'; '.join(dict.fromkeys(lacking))}. Put the model file into its folder below ComfyUI/models, "
            "or choose another in the node; install the node pack that is missing.",
        )
    if any(_MEMORY.search(problem) for problem in facts["problems"]):
        yield Advice(
            "out_of_memory",
            "The memory was not enough. Take a smaller file of the model (fp8 or int8, or a 4B for the agent), draw "
            "smaller pictures, and close what else uses the card. `interleave-thinker vram WORKFLOW` says what fits.",
        )
    if facts["not_done"]:
        pictures = [s["seconds"] for s in facts["not_done"] if s["kind"] == "picture" and s["seconds"]]
        slow = f"A picture was not ready after {pictures[0]:.0f} s. " if pictures else ""
        yield Advice(
            "out_of_time",
            f"{slow}The time was over before all was measured. Give more: interleave-thinker doctor WORKFLOW "
            "--seconds 900.",
        )
    if not facts["has_agent"]:
        yield Advice(
            "no_agent",
            "There is no agent to ask. Add one: right-click the workflow, Wrap in Interleave Loop; or an agent node "
            f"(Agent from CLIP) with {OTHER_MODEL}.",
        )


def _replies(agent: Mapping[str, Any], named: bool) -> Iterator[Advice]:
    who = f"the {' and '.join(agent['roles'])} ({shown_name(agent['name'])})" if named else "the agent"
    who = who[0].upper() + who[1:]
    answers = [a for a in agent["answers"] if not a["unfinished"]]
    unread = [a for a in answers if not a["readable"]]
    cut = [a for a in answers if a["cut_off"]]
    if cut:
        limit = agent["max_tokens"]
        more = max(MAX_TOKENS, 2 * limit)
        yield Advice(
            "cut_off",
            f"{who} was cut off at max_tokens {limit} in {_of(cut, answers)}. Set max_tokens to {more} in its node. If "
            "it still does not end, the model repeats itself: take another one.",
        )
    if len(unread) > len(cut):
        yield Advice(
            "unreadable",
            f"{_of(unread, answers)} of {who[0].lower() + who[1:]} could not be read: it does not answer in the form "
            f"that is asked for. Take {_better(agent)}.",
        )
    critic = [a for a in answers if a["role"] == "critic" and a["readable"]]
    wrong = [a for a in critic if not a["right"]]
    if agent["verdict"] == "always accepts":
        yield Advice(
            "always_accepts",
            f"{who} accepted all of {_pictures(critic)}, {len(wrong)} of them plainly wrong: it does not see them, or "
            f"lets everything pass. No picture would be made again. Take {_better(agent)}.",
        )
    elif agent["verdict"] == "always rejects":
        yield Advice(
            "always_rejects",
            f"{who} rejected all of {_pictures(critic)}, {len(wrong)} of them plainly right: each step would use up "
            f"T_max. Take {_better(agent)}; a smaller T_max bounds the loss.",
        )
    elif agent["verdict"] == "guesses":
        yield Advice(
            "guesses",
            f"{who} judged {len(wrong)} of {_pictures(critic)} wrongly, which are easy ones; real pictures are harder. "
            f"Take {_better(agent)}.",
        )
    plans = [a for a in answers if a["role"] == "planner" and a["readable"] and not a["right"]]
    if plans:
        yield Advice(
            "wrong_plan",
            f"{who} planned {plans[0]['said']} where {plans[0]['wanted']} were asked for. Look at each plan before you "
            "run it (Plan only, Edit plan), or take a larger model.",
        )


def _speed(facts: Mapping[str, Any]) -> Iterator[Advice]:
    card = facts["device"]["type"] not in ("cpu", "unknown")
    for agent in facts["agents"]:
        speed = agent["tokens_a_second"]
        if speed is None or speed >= SLOW_AGENT or agent["name"].startswith(ON_SERVER):
            continue
        if card:
            yield Advice(
                "slow_agent",
                f"The agent writes {speed:.1f} tokens a second; a model that is whole on a card writes 15 or more. A "
                "part of it is in RAM. Take a smaller file (fp8, int8, a 4B), or the image model's own text encoder as "
                "agent where it is a Qwen3-VL. `interleave-thinker vram WORKFLOW` says what fits.",
            )
        else:
            yield Advice(
                "agent_on_cpu",
                f"The agent writes {speed:.1f} tokens a second, on the CPU. Use a graphics card (start ComfyUI without "
                "--cpu), a smaller model, or Agent from Server.",
            )
        break
    time = run_time(facts)
    alone = (warm_picture(facts) or 0.0) + (_judgment(facts) or 0.0)
    if time and facts["loop"] and time.attempt > CHANGES_PLACES * alone and time.attempt - alone > 2:
        yield Advice(
            "changes_places",
            f"Picture and judgment take {alone:.0f} s alone and {time.attempt:.0f} s in turns: the models change "
            "places on the card at each attempt. Let one model do both (the image model's own text encoder as agent, "
            "where it is a Qwen3-VL), take smaller files, or put the agent on a server.",
        )
    total = facts["device"]["total"]
    peaks = [p["bytes"] for p in peaks_of(facts) if p["of"] == "card"]
    if total and peaks and max(peaks) > FULL_CARD * total:
        yield Advice(
            "full_card",
            f"The card was full ({max(peaks) / 1e9:.1f} of {total / 1e9:.1f} GB). It works, but larger pictures or "
            "longer replies may be slow or fail.",
        )
    picture = warm_picture(facts)
    if picture is not None and picture > SLOW_PICTURE:
        yield Advice(
            "slow_picture",
            f"A picture takes {picture:.0f} s, and a step may need {facts['t_max']}. Take fewer sampling steps (a "
            "distilled model), smaller pictures, or a smaller file of the model.",
        )
    if time and time.longest > LONG_RUN:
        yield Advice(
            "long_run",
            f"A story of {STORY_STEPS} steps may take {time.longest / 3600:.1f} hours with T_max {facts['t_max']}. A "
            "smaller T_max bounds it; what is finished is kept when you stop.",
        )


def _judgment(facts: Mapping[str, Any]) -> float | None:
    found = (a["judgment_seconds"] for a in facts["agents"] if "critic" in a["roles"])
    return next((s for s in found if s is not None), None)


def peaks_of(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [found["peak"] for found in (*facts["agents"], *facts["pictures"]) if found.get("peak")]


def _better(agent: Mapping[str, Any]) -> str:
    """What to take in its place."""
    if "8b" in agent["name"].lower():
        return "a checkpoint that was trained for this (the paper's planner or critic), or a larger one on a server"
    return OTHER_MODEL


def _of(some: Sequence[object], every: Sequence[object]) -> str:
    return f"{len(some)} of {len(every)} replies"


def _pictures(answers: Sequence[object]) -> str:
    return f"{len(answers)} test pictures"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
