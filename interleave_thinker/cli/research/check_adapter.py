"""`interleave-thinker adapters check`: does an adapter answer as the full model?"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...contract import MAX_TOKENS
from ...errors import ConfigError
from ...files import files_state
from ...research.train.calls import Call, Role, read_calls, spread
from ...research.train.models import TrainError
from ...resolve import folder_and_adapter, local_agent
from ..config_file import add_config, save_options
from ..options import add_device, add_json, write_figures

if TYPE_CHECKING:
    from ...research.train.check_adapter import Side

ANSWERS, RECORDS = "answers.jsonl", "calls"
EXPORTS = (("critic.jsonl", "planner.jsonl"), ("critic_sft.jsonl", "planner_sft.jsonl"))
"""Files of calls in a folder of records; the first pair of which one is there."""


def add_check(commands: Any) -> None:
    """commands: the sub-commands of `adapters`."""
    check = commands.add_parser(
        "check",
        help="how often an adapter says what the full model says",
        description="Asks BASE+ADAPTER and TUNED, the full model, what was recorded, greedily, and says how often "
        "verdicts, plans and replies are equal, and how likely each thinks the other's words. One model is in "
        "memory at a time.",
    )
    check.add_argument("adapted", metavar="BASE+ADAPTER", help="a model folder, and an adapter's file or LoRA folder")
    check.add_argument("--against", required=True, metavar="TUNED", help="the full model's folder, or FOLDER+ADAPTER")
    check.add_argument(
        "--calls", type=Path, required=True, metavar="FILE|RUNS",
        help="a folder of runs, such as ComfyUI/output/interleave; or a file, or the folder, of `data from-runs` or "
        "`data export`",
    )  # fmt: skip
    check.add_argument("--store", type=Path, help="attempt store (user/interleave_thinker/store): users' own pictures")
    check.add_argument("--role", choices=["critic", "planner"], help="only calls of this role; default: all")
    check.add_argument("--limit", type=int, default=500, help="calls of each role, spread over all; 0: all of them")
    check.add_argument("--prompts", type=Path, help="folder of prompt texts for records; default: the full model's own")
    check.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help="of a reply")
    check.add_argument("--max-pixels", type=int, default=1024 * 1024, help="a larger picture is scaled down")
    check.add_argument(
        "--keep-form",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="hold replies to their form, as the loop does",
    )
    check.add_argument("--out", type=Path, help="folder that keeps every answer, so that --resume can go on")
    add_device(check)
    add_json(check)
    add_config(check)
    check.add_argument("--resume", action="store_true", help="go on with what --out has")
    check.add_argument("--dry-run", action="store_true", help="say what it would ask, and do nothing")
    check.set_defaults(do=_check)


def _check(options: argparse.Namespace) -> None:
    if options.limit < 0 or options.max_tokens < 1 or options.max_pixels < 1:
        raise ConfigError("--limit must be at least 0, --max-tokens and --max-pixels at least 1.")
    adapted, full = _named(options.adapted, "BASE+ADAPTER"), _named(options.against, "--against")
    if adapted[1] is None:
        raise ConfigError(f"{options.adapted!r} names no adapter. Write BASE+ADAPTER, such as base+critic.safetensors.")
    out: Path | None = options.out
    if out is not None and out.is_dir() and any(out.iterdir()) and not options.resume and not options.dry_run:
        raise TrainError(f"{out} is not empty. Give --resume to go on with it, or another folder.")
    from ...agents.transformers_agent import prompts_of

    prompts = str(options.prompts) if options.prompts else prompts_of(*full)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) if out is None or options.dry_run else out
        roles: tuple[Role, ...] = (options.role,) if options.role else ("critic", "planner", "other")
        calls = spread(read_calls(_files(options.calls, place / RECORDS, options.store), prompts, roles), options.limit)
        print(f"{len(calls)} calls ({_counted(calls)}), {2 * len(calls)} replies", flush=True)
        if options.dry_run:
            return
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            save_options(options, out / "check.config.yaml")
        from ...agents.base import Sampling
        from ...research.answer_file import AnswerFile
        from ...research.train.check_adapter import Check, table

        check = Check(
            calls,
            _side(*adapted, options.device),
            _side(*full, options.device),
            AnswerFile(out / ANSWERS if out is not None else None),
            Sampling(options.max_tokens, 0.0, max_pixels=options.max_pixels, keep_form=options.keep_form),
            prompts,
        )
        check.ask(lambda what, done: print(f"{what}: {done}/{len(calls)}", flush=True))
        figures = check.figures()
    print(table(figures))
    if options.json:
        write_figures(options.json, figures)


def _named(spec: str, option: str) -> tuple[Path, Path | None]:
    found = folder_and_adapter(spec)
    if found is None:
        raise ConfigError(f"{option}: {spec!r} is no model folder. Give a Hugging Face folder, or FOLDER+ADAPTER.")
    return found


def _files(calls: Path, records: Path, store: Path | None) -> list[Path]:
    """The files of calls; those of runs are written first, with their pictures, below `records`."""
    if not calls.is_dir():
        return [calls]
    if next(calls.rglob("run.json"), None) is None:
        for names in EXPORTS:
            if found := [calls / name for name in names if (calls / name).is_file()]:
                return found
        raise TrainError(
            f"{calls} holds no run folder, and none of {', '.join(name for names in EXPORTS for name in names)}."
        )
    from ...research.data.from_runs import from_runs, runs_below
    from ...research.data.records import CRITIC_FILE, PLANNER_FILE, write_records
    from ...storage.attempt_store import AttemptStore

    critic, planner, drops = from_runs(runs_below(calls), records, AttemptStore(store) if store else None)
    write_records(records / CRITIC_FILE, critic)
    write_records(records / PLANNER_FILE, planner)
    for name, of in drops.items():
        print("\n".join([f"{name}: {of.lines()[0]}", *of.lines()[1:]]))
    return [records / CRITIC_FILE, records / PLANNER_FILE]


def _side(folder: Path, adapter: Path | None, device: str | None) -> Side:
    from ...research.train.check_adapter import Side

    places = [folder] if adapter is None else [folder, adapter]
    name = "+".join(place.name for place in places)
    return Side(name, files_state(*places), lambda: local_agent(folder, adapter, device))


def _counted(calls: list[Call]) -> str:
    roles = [call.role for call in calls]
    return ", ".join(f"{roles.count(role)} {role}" for role in dict.fromkeys(roles))
