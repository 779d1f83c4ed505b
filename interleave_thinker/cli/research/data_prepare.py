"""`interleave-thinker data score | filter | planner | export`: from records to what trainers read."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from ...files import write_atomically
from ...research.data.export import ExportOptions, Format, OnAccept
from ...research.data.filters import FilterOptions, Trend
from ...research.data.planner_lessons import Words
from ...research.data.records import DataError, Drops
from ...research.data.scoring import LabelBy
from ...resolve import AGENT_HELP, SCORER_HELP
from ...roles.prompt_files import check_prompt_folder
from ..config_file import add_config, save_options
from ..options import add_device, add_endpoints, add_json, add_seed, add_workers, model_folder
from .stage import add_stage_options, begin_stage, write_drops


def add_score(commands: Any) -> None:
    score = commands.add_parser(
        "score",
        help="SC and PQ for every attempt",
        description="VIEScore-style marks of 0 to 10 by a judge: DATA/critic.jsonl becomes DATA/scored.jsonl. What the "
        "judge could not score is left out and counted.",
    )
    score.add_argument("data", type=Path, help="folder of critic.jsonl")
    score.add_argument("--judge", required=True, help=SCORER_HELP)
    score.add_argument("--label-by", choices=get_args(LabelBy), default="critic", help="whose verdict is the label")
    score.add_argument("--min-semantics", type=float, default=8.0, help="with --label-by score: SC of a success")
    score.add_argument("--min-quality", type=float, default=6.0, help="with --label-by score: PQ of a success")
    add_workers(score, "attempts at a time (servers: more)")
    add_endpoints(score)
    add_stage_options(score, _score)


def _score(options: argparse.Namespace) -> None:
    from ...research.answer_file import AnswerFile
    from ...research.data.records import CRITIC_FILE, SCORED_FILE, CriticRecord, read_records, write_records
    from ...research.data.scoring import SCORED_DROPS, SCORES_FILE, LabelOptions, score_all
    from ...resolve import scorer_from

    records = list(read_records(options.data / CRITIC_FILE, CriticRecord))
    if not begin_stage(options, options.data / SCORED_FILE, f"{len(records)} attempts, {2 * len(records)} judge calls"):
        return
    scorer = scorer_from(options.judge, endpoints=options.endpoints)
    labels = LabelOptions(options.label_by, options.min_semantics, options.min_quality)

    def show(done: int) -> None:
        if done % 1000 == 0 or done == len(records):
            print(f"{done}/{len(records)} attempts", flush=True)

    log = AnswerFile(options.data / SCORES_FILE)
    scored, drops = score_all(records, options.data, scorer, labels, log, workers=options.workers, on_progress=show)
    write_records(options.data / SCORED_FILE, scored)
    write_drops(options.data / SCORED_DROPS, {"attempts": drops})


def add_agree(commands: Any) -> None:
    agree = commands.add_parser(
        "agree",
        help="how often a critic says what the labels say",
        description="Asks a critic about every attempt of DATA/scored.jsonl (or --source) and compares its verdict "
        "with the label. Use attempts that it was not trained on.",
    )
    agree.add_argument("data", type=Path, help="folder of scored.jsonl")
    agree.add_argument("--critic", required=True, help=AGENT_HELP)
    agree.add_argument(
        "--source", default="scored.jsonl", help="another file of attempts in DATA, such as critic.jsonl"
    )
    agree.add_argument("--limit", type=int, default=0, help="only the first so many attempts; 0: all")
    agree.add_argument("--max-tokens", type=int, default=4096, help="limit of a reply, thoughts included (4096)")
    agree.add_argument(
        "--verdicts", type=Path, help="file that keeps every verdict: none is asked for twice (DATA/verdicts.jsonl)"
    )
    add_workers(agree, "attempts at a time (servers: more)")
    add_endpoints(agree)
    add_device(agree)
    add_json(agree)
    add_config(agree)
    agree.add_argument("--dry-run", action="store_true", help="say what it would do and take, and do nothing")
    agree.set_defaults(do=_agree)


def _agree(options: argparse.Namespace) -> None:
    from ...research.data.records import CriticRecord, read_records

    if "/" in options.source or "\\" in options.source:
        raise DataError(f"--source is {options.source!r}; it must be the name of a file in {options.data}.")
    if options.limit < 0 or options.workers < 1 or options.max_tokens < 1:
        raise DataError(
            f"--limit is {options.limit}, --workers {options.workers} and --max-tokens {options.max_tokens}; "
            "at least 0, 1 and 1 are needed."
        )
    records = list(read_records(options.data / options.source, CriticRecord))[: options.limit or None]
    print(f"{len(records)} attempts, as many calls of the critic", flush=True)
    if options.dry_run:
        return
    from ...research.answer_file import AnswerFile
    from ...research.data.agreement import VERDICTS_FILE, agreement, table
    from ...resolve import agent_from

    def show(done: int) -> None:
        if done % 200 == 0 or done == len(records):
            print(f"{done}/{len(records)} attempts", flush=True)

    critic = agent_from(options.critic, endpoints=options.endpoints, device=options.device)
    figures = agreement(
        critic,
        records,
        options.data,
        workers=options.workers,
        max_tokens=options.max_tokens,
        verdicts=AnswerFile(options.verdicts or options.data / VERDICTS_FILE),
        on_progress=show,
    )
    print(table(figures))
    if options.json:
        write_atomically(options.json, (json.dumps(figures, indent=2) + "\n").encode())


def add_filter(commands: Any) -> None:
    keep = commands.add_parser(
        "filter",
        help="which attempts are learned from, and where",
        description="DATA/scored.jsonl becomes DATA/sft.jsonl and DATA/rl.jsonl, with a report of what each rule "
        "dropped. The paper names the rules and no thresholds. Without scored.jsonl the labels of DATA/critic.jsonl "
        "count alone: all goes to fine-tuning, and only --balance and --need-refined have an effect.",
    )
    keep.add_argument("data", type=Path, help="folder of scored.jsonl, or of critic.jsonl")
    default = FilterOptions()
    keep.add_argument("--trend", choices=get_args(Trend), default=default.trend, help="which steps fall")
    keep.add_argument("--min-slope", type=float, default=default.min_slope, help="points an attempt")
    keep.add_argument("--min-best", type=float, default=default.min_best, help="a step below it is persistently low")
    keep.add_argument("--truncate", action=argparse.BooleanOptionalAction, default=default.truncate)
    keep.add_argument(
        "--rl-share", type=float, default=default.rl_share, help="steps that vary most, for RL (paper: 1/3)"
    )
    keep.add_argument("--rl-variance", type=float, help="instead: the variance from which on a step goes to RL")
    keep.add_argument("--balance", type=float, default=default.balance, help="most of a label for each other; 0: off")
    keep.add_argument("--need-refined", action=argparse.BooleanOptionalAction, default=default.need_refined)
    add_seed(keep, default=default.seed)
    add_stage_options(keep, _filter)


def _filter(options: argparse.Namespace) -> None:
    from ...research.data.filters import filtered, filtered_by_label
    from ...research.data.records import CRITIC_FILE, SCORED_FILE, CriticRecord, read_records, write_records
    from ...research.data.scoring import check_scored

    chosen = FilterOptions(**{f.name: getattr(options, f.name) for f in fields(FilterOptions)})
    if not (options.data / SCORED_FILE).is_file() and (options.data / CRITIC_FILE).is_file():
        records = list(read_records(options.data / CRITIC_FILE, CriticRecord))
        mine = sum(record.labelled_by == "user" for record in records)
        takes = f"{len(records)} attempts, {mine} labelled by a person and {len(records) - mine} by the critic"
        if begin_stage(options, options.data / "sft.jsonl", f"{takes}. No scores: the labels count (see --help)"):
            sft, drops = filtered_by_label(records, chosen)
            write_records(options.data / "sft.jsonl", sft)
            write_records(options.data / "rl.jsonl", [])
            write_drops(options.data / "filter.drops.json", {"attempts": drops})
            print(f"{len(sft)} for fine-tuning")
        return
    if not (options.data / SCORED_FILE).is_file():
        raise DataError(
            f"{options.data} holds neither {SCORED_FILE} nor {CRITIC_FILE}. `data from-runs RUNS --out {options.data}` "
            f"writes {CRITIC_FILE}; `data score {options.data}` adds scores, for reinforcement learning."
        )
    records = list(read_records(options.data / SCORED_FILE, CriticRecord))
    if (options.data / CRITIC_FILE).is_file():
        check_scored(records, list(read_records(options.data / CRITIC_FILE, CriticRecord)), options.data)
    if not begin_stage(options, options.data / "sft.jsonl", f"{len(records)} scored attempts"):
        return
    sft, rl, drops = filtered(records, chosen)
    if not sft and not rl:
        why = "; ".join(f"{count} {reason}" for reason, count in drops.reasons.most_common()) or "there is none"
        raise DataError(
            f"No attempt is left to learn from: {why}. Make more runs, or loosen a rule: --trend off, --min-best 0, "
            "--balance 0, --no-need-refined."
        )
    write_records(options.data / "sft.jsonl", sft)
    write_records(options.data / "rl.jsonl", rl)
    write_drops(options.data / "filter.drops.json", {"attempts": drops})
    print(f"{len(sft)} for fine-tuning, {len(rl)} for reinforcement learning")


def add_planner(commands: Any) -> None:
    planner = commands.add_parser(
        "planner",
        help="lessons for the planner: plans whole and cut, and documents of others",
        description="DATA/planner.jsonl (and --corpus files) become DATA/plans.jsonl.",
    )
    planner.add_argument("data", type=Path, help="folder of planner.jsonl; with --corpus alone, of the corpus")
    planner.add_argument("--cuts", type=int, default=1, help="truncations of each plan, at random steps")
    planner.add_argument("--whole", action=argparse.BooleanOptionalAction, default=True, help="keep plans whole too")
    planner.add_argument("--corpus", type=Path, help="JSON lines {request, items: [{text, image}]} in DATA")
    planner.add_argument("--corpus-words", choices=get_args(Words), default="prompt", help="what their texts become")
    add_seed(planner)
    add_stage_options(planner, _planner)


def _planner(options: argparse.Namespace) -> None:
    from ...research.data.planner_lessons import PlannerOptions, from_corpus, planner_records
    from ...research.data.records import PLANNER_FILE, PlannerRecord, read_records, write_records

    own = options.data / PLANNER_FILE
    records = list(read_records(own, PlannerRecord)) if own.is_file() or not options.corpus else []
    drops: dict[str, Drops] = {}
    if options.corpus:
        if options.corpus.resolve().parent != options.data.resolve():
            raise DataError(f"Put {options.corpus} and its pictures into {options.data}: paths are relative to it.")
        others, drops["corpus"] = from_corpus(options.corpus, options.corpus_words)
        records += others
    if not begin_stage(options, options.data / "plans.jsonl", f"{len(records)} plans"):
        return
    lessons, drops["lessons"] = planner_records(records, PlannerOptions(options.whole, options.cuts, options.seed))
    write_records(options.data / "plans.jsonl", lessons)
    write_drops(options.data / "plans.drops.json", drops)


def add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="what trainers read",
        description="Writes into DATA: trl (critic_sft.jsonl, planner_sft.jsonl), sharegpt (the same as .json for "
        "LLaMA-Factory), rl (critic_rl.jsonl), compare (compare_sft.jsonl: attempts at one step side by side), easy "
        "and hard (whole documents as sequences).",
    )
    export.add_argument("data", type=Path, help="folder of sft.jsonl, rl.jsonl, plans.jsonl")
    export.add_argument("--format", action="append", choices=get_args(Format), required=True)
    export.add_argument(
        "--model",
        type=model_folder,
        help="the model that will learn, as `sft --model` names it: its own prompt texts are used, where it has some",
    )
    export.add_argument("--prompts", type=Path, help="folder of the prompt texts that the model is to know")
    export.add_argument("--on-accept", choices=get_args(OnAccept), default="repeat", help="refined prompt of a success")
    export.add_argument("--source", help="records for the critic instead of sft.jsonl, such as critic.jsonl")
    export.add_argument(
        "--name", help="with --source: the export's name instead of critic_sft; nothing else is written"
    )
    add_stage_options(export, _export)


def _prompts(options: argparse.Namespace) -> Path | None:
    """The prompt texts that the model is to know; None for ours.

    Raises:
        DataError: there is no such model folder.
    """
    given: Path | None = options.prompts
    if given is not None:
        check_prompt_folder(given)
    if given is not None or options.model is None:
        return given
    if not options.model.is_dir():
        raise DataError(f"There is no model folder {options.model}.")
    own = options.model / "prompts"
    return own if own.is_dir() else None


def _export(options: argparse.Namespace) -> None:
    from ...research.data.export_files import export_all

    if not options.data.is_dir():
        raise DataError(f"There is no folder {options.data}.")
    if options.dry_run:
        print(f"Would write {', '.join(options.format)} into {options.data}; no calls")
        return
    save_options(options, options.data / "export.config.yaml")
    if (options.source is None) != (options.name is None):
        raise DataError("--source and --name go together: other records under another name.")
    chosen = ExportOptions(_prompts(options), options.on_accept)
    for line in export_all(options.data, options.format, chosen, options.source, options.name):
        print(line)
