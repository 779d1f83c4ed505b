"""What to change, by plain rules over what was measured (`facts.py`). Each says its number and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..comfyui.agent_clip import chat_model
from ..comfyui.known_sizes import KNOWN_SIZES
from ..comfyui.memory import RESERVE
from ..contract import MAX_TOKENS, OLDEST_COMFYUI, PACKAGED_CLIP
from .facts import COMFYUI_ENDED

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
SHOWN: Final = 300
"""Characters of a problem that an advice repeats."""

_MEMORY = re.compile(r"out of memory|OutOfMemory|not enough memory|alloc", re.IGNORECASE)
_LACKS = re.compile(
    r"node [^.:;]{1,100}: \w+ is ['\"].*?['\"], which this ComfyUI does not have|this ComfyUI lacks [^.]*"
)
AGENT_FILES: Final = (PACKAGED_CLIP, "qwen3vl_4b_fp8_scaled.safetensors")
"""What is named as an agent, the largest first: files of a whole Qwen3-VL, with a known size."""
ROOM: Final = 2_000_000_000
"""Bytes that an agent needs on a card beside its weights and what the desktop has (`RESERVE`)."""
LARGE_AGENT: Final = 8.0
"""Billions of parameters; no larger one is named for the reader's own card."""
SHARES: Final = "where it is a Qwen3-VL, a Qwen3.5 or a Gemma 4"

_LESS_MEMORY: Final = (
    "take a smaller file of the model (fp8 or int8, or a 4B for the agent), draw smaller pictures, and close what else "
    "uses the card"
)
SERVER_ENDED: Final = (
    f"ComfyUI ended. Look at the end of its log. If it is out of memory: {_LESS_MEMORY}. Then start it and check again."
)

Reader = Literal["terminal", "editor"]
"""Who reads: at a shell, or in ComfyUI's page (the sidebar, the node)."""

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


def advice_for(facts: Mapping[str, Any], reader: Reader = "terminal") -> list[Advice]:
    """What to change, the most pressing first; nothing where all is well. facts: of `facts.facts_of`."""
    found = [rule(facts, reader) for rule in _FIRST]
    several = len(facts["agents"]) > 1
    for agent in facts["agents"]:
        found += [rule(agent, _who(agent, several), facts) for rule in _OF_AGENT]
    found += [rule(facts, reader) for rule in _LAST]
    return [advice for advice in found if advice is not None]


# Of the whole check


def _old_comfyui(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    version = facts["versions"].get("ComfyUI")
    if not version or _numbers(version) >= _numbers(OLDEST_COMFYUI):
        return None
    return Advice("old_comfyui", f"This ComfyUI is {version}; the pack needs {OLDEST_COMFYUI} or newer. Update it.")


def _lacking(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    lacking = [found for text in (*facts["problems"], *facts["notes"]) for found in _LACKS.findall(text)]
    if not lacking:
        return None
    return Advice(
        "lacking",
        f"Missing: {'; '.join(dict.fromkeys(lacking))}. Put the model file into its folder below ComfyUI/models, or "
        "choose another in the node; install the node pack that is missing.",
    )


def _server_ended(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    if not any(COMFYUI_ENDED in problem for problem in facts["problems"]):
        return None
    return Advice("server_ended", SERVER_ENDED)


def _out_of_memory(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    if not any(_is_memory(problem) for problem in facts["problems"]):
        return None
    return Advice("out_of_memory", f"The memory was not enough. Less is needed so: {_LESS_MEMORY}.{_what_fits(reader)}")


def _failed(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    """What no other rule explains."""
    other = [p for p in facts["problems"] if not (_LACKS.search(p) or COMFYUI_ENDED in p or _is_memory(p))]
    if not other:
        return None
    told = other[0] if len(other[0]) <= SHOWN else other[0][:SHOWN] + "..."
    more = f" {len(other) - 1} more failed, see above." if len(other) > 1 else ""
    log = " ComfyUI's log says more." if facts["versions"].get("ComfyUI") else ""
    return Advice("failed", f"Mend first what failed: {told}{'' if told.endswith('.') else '.'}{more}{log}")


def _out_of_time(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    late = [stage for stage in facts["not_done"] if stage["why"] == "time"]
    if not late:
        return None
    pictures = [s["seconds"] for s in late if s["kind"] == "picture" and s["seconds"]]
    slow = f"A picture was not ready after {pictures[0]:.0f} s. " if pictures else ""
    more = (
        "Give more: interleave-thinker doctor WORKFLOW --seconds 900."
        if reader == "terminal"
        else "Check again: models that are loaded by now need not be loaded. If it is too slow again, take fewer "
        "sampling steps or smaller pictures."
    )
    return Advice("out_of_time", f"{slow}The time was over before all was measured. {more}")


def _no_agent(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    if facts["has_agent"]:
        return None
    return Advice(
        "no_agent",
        "There is no agent to ask. Add one: right-click the workflow, Wrap in Interleave Loop; or an agent node (Agent "
        f"from CLIP) with {_any_model(_card_bytes(facts))}.",
    )


# Of an agent


def _cut_off(agent: Mapping[str, Any], who: str, facts: Mapping[str, Any]) -> Advice | None:
    cut = _cut(agent)
    if not cut:
        return None
    limit = agent["max_tokens"]
    return Advice(
        "cut_off",
        f"{who} was cut off at max_tokens {limit} in {_of(cut, _answers(agent))}. Set max_tokens to "
        f"{max(MAX_TOKENS, 2 * limit)} in its node. If it still does not end, the model repeats itself: take another "
        "one.",
    )


def _unreadable(agent: Mapping[str, Any], who: str, facts: Mapping[str, Any]) -> Advice | None:
    unread = [a for a in _answers(agent) if not a["readable"]]
    if len(unread) <= len(_cut(agent)):
        return None
    return Advice(
        "unreadable",
        f"{_of(unread, _answers(agent))} of {who[0].lower() + who[1:]} could not be read: it does not answer in the "
        f"form that is asked for. Take {_better(agent, facts)}.",
    )


def _always_accepts(agent: Mapping[str, Any], who: str, facts: Mapping[str, Any]) -> Advice | None:
    if agent["verdict"] != "always accepts":
        return None
    read, wrong = _judgments(agent)
    return Advice(
        "always_accepts",
        f"{who} accepted all of {_pictures(read)}, {len(wrong)} of them plainly wrong: it does not see them, or lets "
        f"everything pass. No picture would be made again. Take {_better(agent, facts)}.",
    )


def _always_rejects(agent: Mapping[str, Any], who: str, facts: Mapping[str, Any]) -> Advice | None:
    if agent["verdict"] != "always rejects":
        return None
    read, wrong = _judgments(agent)
    return Advice(
        "always_rejects",
        f"{who} rejected all of {_pictures(read)}, {len(wrong)} of them plainly right: each step would use up T_max. "
        f"Take {_better(agent, facts)}; a smaller T_max bounds the loss.",
    )


def _guesses(agent: Mapping[str, Any], who: str, facts: Mapping[str, Any]) -> Advice | None:
    if agent["verdict"] != "guesses":
        return None
    read, wrong = _judgments(agent)
    return Advice(
        "guesses",
        f"{who} judged {len(wrong)} of {_pictures(read)} wrongly, which are easy ones; real pictures are harder. Take "
        f"{_better(agent, facts)}.",
    )


def _wrong_plan(agent: Mapping[str, Any], who: str, facts: Mapping[str, Any]) -> Advice | None:
    plans = [a for a in _answers(agent) if a["role"] == "planner" and a["readable"] and not a["right"]]
    if not plans:
        return None
    return Advice(
        "wrong_plan",
        f"{who} planned {plans[0]['said']} where {plans[0]['wanted']} were asked for. Look at each plan before you run "
        "it (Plan only, Edit plan), or take a larger model.",
    )


# Of speed and memory


def _slow_agent(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    if not _on_card(facts) or (speed := _slow_speed(facts)) is None:
        return None
    return Advice(
        "slow_agent",
        f"The agent writes {speed:.1f} tokens a second; a model that is whole on a card writes 15 or more. A part of "
        "it is in RAM. Take a smaller file (fp8, int8, a 4B), or the image model's own text encoder as agent "
        f"{SHARES}.{_what_fits(reader)}",
    )


def _agent_on_cpu(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    if _on_card(facts) or (speed := _slow_speed(facts)) is None:
        return None
    return Advice(
        "agent_on_cpu",
        f"The agent writes {speed:.1f} tokens a second, on the CPU. Use a graphics card (start ComfyUI without --cpu), "
        "a smaller model, or Agent from Server.",
    )


def _changes_places(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    time = run_time(facts)
    alone = (warm_picture(facts) or 0.0) + (_judgment(facts) or 0.0)
    if not (
        _on_card(facts)
        and time
        and facts["loop"]
        and time.attempt > CHANGES_PLACES * alone
        and time.attempt - alone > 2
    ):
        return None
    return Advice(
        "changes_places",
        f"Picture and judgment take {alone:.0f} s alone and {time.attempt:.0f} s in turns: the models change places "
        f"on the card at each attempt. Let one model do both (the image model's own text encoder as agent, {SHARES}), "
        "take smaller files, or put the agent on a server.",
    )


def _full_card(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    total = facts["device"]["total"]
    most = max((p["bytes"] for p in peaks_of(facts) if p["of"] == "card"), default=0)
    if not total or most <= FULL_CARD * total:
        return None
    return Advice(
        "full_card",
        f"The card was full ({most / 1e9:.1f} of {total / 1e9:.1f} GB). It works, but larger pictures or longer "
        "replies may be slow or fail.",
    )


def _slow_picture(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    picture = warm_picture(facts)
    if picture is None or picture <= SLOW_PICTURE:
        return None
    return Advice(
        "slow_picture",
        f"A picture takes {picture:.0f} s, and a step may need {facts['t_max']}. Take fewer sampling steps (a "
        "distilled model), smaller pictures, or a smaller file of the model.",
    )


def _long_run(facts: Mapping[str, Any], reader: Reader) -> Advice | None:
    time = run_time(facts)
    if not time or time.longest <= LONG_RUN:
        return None
    return Advice(
        "long_run",
        f"A story of {STORY_STEPS} steps may take {time.longest / 3600:.1f} hours with T_max {facts['t_max']}. A "
        "smaller T_max bounds it; what is finished is kept when you stop.",
    )


_Rule = Callable[[Mapping[str, Any], Reader], Advice | None]
_AgentRule = Callable[[Mapping[str, Any], str, Mapping[str, Any]], Advice | None]
_FIRST: Final[tuple[_Rule, ...]] = (
    _old_comfyui,
    _lacking,
    _server_ended,
    _out_of_memory,
    _failed,
    _out_of_time,
    _no_agent,
)
_OF_AGENT: Final[tuple[_AgentRule, ...]] = (
    _cut_off,
    _unreadable,
    _always_accepts,
    _always_rejects,
    _guesses,
    _wrong_plan,
)
_LAST: Final[tuple[_Rule, ...]] = (
    _slow_agent,
    _agent_on_cpu,
    _changes_places,
    _full_card,
    _slow_picture,
    _long_run,
)


# What the rules look at


def _answers(agent: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [a for a in agent["answers"] if not a["unfinished"]]


def _cut(agent: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [a for a in _answers(agent) if a["cut_off"]]


def _judgments(agent: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Those that were read, and the wrong ones of them."""
    read = [a for a in _answers(agent) if a["role"] == "critic" and a["readable"]]
    return read, [a for a in read if not a["right"]]


def _who(agent: Mapping[str, Any], named: bool) -> str:
    """The agent as the beginning of a sentence; named: there are others."""
    return f"The {' and '.join(agent['roles'])} ({shown_name(agent['name'])})" if named else "The agent"


def _on_card(facts: Mapping[str, Any]) -> bool:
    return facts["device"]["type"] not in ("cpu", "unknown")


def _card_bytes(facts: Mapping[str, Any]) -> int | None:
    """Memory of the card; None where there is none, or it is not known."""
    return facts["device"]["total"] if _on_card(facts) else None


def _slow_speed(facts: Mapping[str, Any]) -> float | None:
    """Tokens a second of the first agent that is slow and runs here."""
    here = (a["tokens_a_second"] for a in facts["agents"] if not a["name"].startswith(ON_SERVER))
    return next((speed for speed in here if speed is not None and speed < SLOW_AGENT), None)


def _is_memory(problem: str) -> bool:
    return COMFYUI_ENDED not in problem and bool(_MEMORY.search(problem))


def _judgment(facts: Mapping[str, Any]) -> float | None:
    found = (a["judgment_seconds"] for a in facts["agents"] if "critic" in a["roles"])
    return next((s for s in found if s is not None), None)


def peaks_of(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [found["peak"] for found in (*facts["agents"], *facts["pictures"]) if found.get("peak")]


# What to take


def _what_fits(reader: Reader) -> str:
    return " `interleave-thinker vram WORKFLOW` says what fits." if reader == "terminal" else ""


def _fitting(total: int | None, larger_than: float) -> str:
    """The largest file of `AGENT_FILES` that a card of `total` bytes holds; "" if it has no more than so many billions
    of parameters.
    """
    for file in AGENT_FILES:
        fits = total is not None and KNOWN_SIZES[file].bytes + RESERVE + ROOM <= total
        if fits and _billions(file) > larger_than:
            return file
    return ""


def _any_model(total: int | None) -> str:
    file = _fitting(total, 0.0)
    named = f", such as {file} in Load CLIP with type qwen_image" if file else ""
    return f"a whole Qwen3-VL, Qwen3.5 or Gemma 4 instruct model{named}"


def _better(agent: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """What to take in an agent's place: never a smaller model, nor one that the card does not hold."""
    if agent["name"].startswith(ON_SERVER):
        return "another model of the server's, a larger one that sees pictures"
    size = _billions(shown_name(agent["name"]))
    if size < LARGE_AGENT and (file := _fitting(_card_bytes(facts), size)):
        return f"a larger model, such as {file} (a whole Qwen3-VL instruct model) in Load CLIP with type qwen_image"
    return "a checkpoint that was trained for this (the paper's planner or critic), or a larger model on a server"


def _billions(name: str) -> float:
    """Billions of parameters of a chat model by its file's name; 0 where that does not tell."""
    found = chat_model(name)
    return float(found[1].lstrip("e").rstrip("b") or 0) if found else 0.0


def _of(some: Sequence[object], every: Sequence[object]) -> str:
    return f"{len(some)} of {len(every)} replies"


def _pictures(answers: Sequence[object]) -> str:
    return f"{len(answers)} test pictures"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
