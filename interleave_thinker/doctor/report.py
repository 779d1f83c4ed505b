"""The report for people: titled lines of plain text, for the terminal, the node and the sidebar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..printable import printable
from .advice import STORY_STEPS, Reader, advice_for, peaks_of, run_time, shown_name
from .facts import LONGEST

SHOWN = 3
"""Answers of an agent that are told one by one."""
LONGEST_LINE = 1000
"""Characters; a model's reply, a file's name and a server's error have no bound of their own."""
_EYES = {
    "sees": "it sees the pictures",
    "errs": "it sees the pictures, with one mistake",
    "guesses": "it often judges wrongly",
    "always accepts": "it accepts everything",
    "always rejects": "it rejects everything",
    "unreadable": "cannot be read",
    "unknown": "",
}


@dataclass(frozen=True)
class Section:
    """A title and its lines."""

    title: str
    lines: tuple[str, ...]


def report_of(facts: Mapping[str, Any], reader: Reader = "terminal") -> list[Section]:
    """The titled lines, free of control characters and of bounded length. The last section says what to change; one
    without lines is left out.

    facts: of `facts.facts_of`. reader: at a shell, or in ComfyUI's page.

    Raises:
        KeyError: `facts` lacks a key.
    """
    told = [Section("This machine", tuple(_machine(facts)))]
    told += [_agent(agent) for agent in facts["agents"]]
    told.append(Section("Pictures", tuple(_pictures(facts))))
    unmeasured = [*facts["problems"], *facts["notes"]]
    unmeasured += [_not_done(stage) for stage in facts["not_done"]]
    told.append(Section("Not measured, or to be known", tuple(unmeasured)))
    told.append(Section("A run", tuple(_run(facts))))
    told.append(Section("What to change", tuple(a.text for a in advice_for(facts, reader)) or (_nothing(facts),)))
    return [_printable(section) for section in told if section.lines]


def as_text(sections: list[Section]) -> str:
    return "\n\n".join("\n".join([s.title, *(f"  {line}" for line in s.lines)]) for s in sections)


def _printable(section: Section) -> Section:
    lines = tuple(printable(line, longest=LONGEST_LINE) for line in section.lines)
    return Section(printable(section.title, longest=LONGEST_LINE), lines)


def _nothing(facts: Mapping[str, Any]) -> str:
    """What is said where no rule says what to change."""
    if not (facts["agents"] or facts["pictures"]):
        return "Nothing was measured."
    return "Nothing. What was measured works" + ("; the rest is not known." if facts["not_done"] else ".")


def _machine(facts: Mapping[str, Any]) -> list[str]:
    versions = {"InterleaveThinker": facts["interleave_thinker"], **facts["versions"]}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    device = facts["device"]
    memory = ""
    if device["total"]:
        what = "memory" if device["type"] == "cpu" else "card memory"
        memory = f", {_gb(device['total'])} of {what}" + (f", {_gb(device['free'])} free" if device["free"] else "")
    taken = [p["bytes"] for p in peaks_of(facts) if p["of"] == "process"]
    most = [f"Memory at most: {_gb(max(taken))} of RAM, by the whole process since its start"] if taken else []
    kind = "Runs on the CPU" if device["type"] == "cpu" else device["name"]
    return [told, f"{kind}{memory}", *most]


def _agent(agent: Mapping[str, Any]) -> Section:
    answers = [a for a in agent["answers"] if not a["unfinished"]]
    lines = []
    speed, waits = agent["tokens_a_second"], [a["wait"] for a in answers[1:] or answers if a["wait"] is not None]
    if speed is not None:
        wait = f", the first one after {_seconds(sorted(waits)[len(waits) // 2])}" if waits else ""
        lines.append(f"Speed: {speed:.1f} tokens a second{wait}")
    durations = [("a judgment", agent["judgment_seconds"]), ("a plan of 3 pictures", agent["plan_seconds"])]
    lines += [f"Time: {name} takes {_seconds(s)}" for name, s in durations if s is not None]
    if answers:
        again = sum(a["tries"] > 1 and a["readable"] for a in answers)
        lines.append(
            f"Replies: {sum(a['readable'] for a in answers)} of {len(answers)} could be read"
            + (f", {again} of them only when asked again" if again else "")
        )
    for role, what in (("critic", "Judgments"), ("planner", "Plans")):
        of_role = [a for a in answers if a["role"] == role]
        if of_role:
            eyes = f": {_EYES[agent['verdict']]}" if role == "critic" and _EYES[agent["verdict"]] else ""
            lines.append(f"{what}: {sum(a['right'] for a in of_role)} of {len(of_role)} right{eyes}")
    unlike = [_unlike(a) for a in answers if not a["right"]]
    lines += unlike[:SHOWN]
    if len(unlike) > SHOWN:
        lines.append(f"  and {len(unlike) - SHOWN} more")
    lines += [
        f"Stopped in the middle of a reply, after {_seconds(a['seconds'])} and {a['tokens']} tokens: {a['question']}"
        for a in agent["answers"]
        if a["unfinished"]
    ]
    if agent["error"]:
        lines.append(f"Failed: {' '.join(agent['error'].split())[:LONGEST]}")
    if agent["skipped"]:
        lines.append(f"Not asked, because the time was over: {len(agent['skipped'])} questions")
    lines += _peak(agent)
    roles = " and ".join(agent["roles"])
    return Section(f"{roles[0].upper()}{roles[1:]}: {shown_name(agent['name'])}", tuple(lines))


def _unlike(answer: Mapping[str, Any]) -> str:
    """An answer that was not right, or not read."""
    if not answer["readable"]:
        return f"  shown {answer['question']}, it wrote: {' '.join(answer['reply'].split())[:120] or 'nothing'!r}"
    if answer["role"] == "critic":
        return f"  shown {answer['question']}: it should {answer['wanted']}, it said {answer['said']}"
    return f"  asked for {answer['wanted']}: it planned {answer['said']}"


def _pictures(facts: Mapping[str, Any]) -> list[str]:
    made = facts["pictures"]
    if not made:
        return []
    last = made[-1]
    size = f"{last['width']} x {last['height']}" + (f", {last['count']} at a time" if last["count"] > 1 else "")
    lines = [f"Size: {size}", f"The first: {_seconds(made[0]['seconds'])}, with loading the models"]
    if len(made) > 1:
        lines.append(f"The next: {_seconds(last['seconds'])}")
    return lines + _peak(last)


def _run(facts: Mapping[str, Any]) -> list[str]:
    time = run_time(facts)
    if time is None:
        return []
    how = "measured in turns, as in a loop" if facts["loop"] else "added up; in a loop it may be more"
    return [
        f"An attempt takes {_seconds(time.attempt)}: picture {_seconds(time.picture)}, judgment "
        f"{_seconds(time.judgment)} ({how})",
        f"A story of {STORY_STEPS} steps takes {_seconds(time.shortest)} if every first picture is accepted, at most "
        f"{_seconds(time.longest)} with T_max {time.t_max}",
    ]


def _peak(found: Mapping[str, Any]) -> list[str]:
    peak = found.get("peak")
    return [f"Memory at most: {_gb(peak['bytes'])} on the card"] if peak and peak["of"] == "card" else []


_WHY_NOT = {
    "time": "no time was left",
    "person": "the check was stopped before",
    "server": "ComfyUI ended before",
}


def _not_done(stage: Mapping[str, Any]) -> str:
    if stage["seconds"] is None:
        return f"{stage['label']}: {_WHY_NOT[stage['why']]}"
    who = " by a person" if stage["why"] == "person" else ""
    return f"{stage['label']}: stopped{who} after {_seconds(stage['seconds'])}"


def _seconds(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
