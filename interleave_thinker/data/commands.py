"""`interleave-thinker data ...`: from requests, or from runs that were made, to what trainers read.

prompts -> trajectories -> from-runs -> score -> filter | planner -> export
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from ..agents.choose import HELP as AGENT_HELP
from ..errors import InterleaveError, PlanError
from ..generators.choose import HELP as GENERATOR_HELP
from ..generators.choose import LOCAL
from ..plan import Plan
from ..settings_file import add_config, save_options
from ..store import write_atomically
from .export import ExportOptions, OnAccept
from .filters import FilterOptions, Trend
from .planning import Words
from .prompts import DEFAULT_COUNT
from .records import DataError, Drops
from .schemas import SCHEMAS
from .scoring import LabelBy


def add_commands(commands: Any) -> None:
    data = commands.add_parser("data", help="from requests or runs to records for training", description=__doc__)
    what = data.add_subparsers(dest="data_command", required=True)
    _add_prompts(what)
    _add_trajectories(what)
    _add_from_runs(what)
    _add_score(what)
    _add_filter(what)
    _add_planner(what)
    _add_export(what)
    shape = what.add_parser("schema", help="JSON Schema of a record")
    shape.add_argument("record", choices=sorted(SCHEMAS))
    shape.set_defaults(do=_schema)


def _common(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None]) -> None:
    add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on in, or write anew, what is there already")
    parser.add_argument("--dry-run", action="store_true", help="say what it would do and take, and do nothing")
    parser.set_defaults(do=lambda options: _guarded(work, options))


def _guarded(work: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    try:
        work(options)
    except OSError as error:
        place = error.filename or getattr(options, "out", None) or "a file"
        raise DataError(f"Cannot write {place}: {error.strerror or error}. What is finished is kept.") from None
    return 0


def _add_prompts(what: Any) -> None:
    prompts = what.add_parser(
        "prompts",
        help="requests from a taxonomy and an agent's vocabulary",
        description="Domain, category, vocabulary, template, request. Writes requests.jsonl and vocabulary.jsonl.",
    )
    prompts.add_argument("--out", type=Path, required=True, help="folder of the requests")
    prompts.add_argument("--agent", help=f"who writes the vocabulary: {AGENT_HELP}")
    prompts.add_argument("--world", choices=["tiny"], help="draw from the tiny world, with right plans; needs no agent")
    prompts.add_argument("--count", type=int, default=DEFAULT_COUNT, help="requests (the paper: about 40,000)")
    prompts.add_argument("--seed", type=int, default=0)
    prompts.add_argument("--taxonomy", type=Path, help="domains, categories and templates of your own")
    prompts.add_argument("--images", type=Path, help="your pictures, named by what they show (a_red_fox.png); copied")
    prompts.add_argument("--endpoints", type=Path, help="file of chat endpoints (docs/agents-server.md)")
    _common(prompts, _prompts)


def _prompts(options: argparse.Namespace) -> None:
    from .prompts import TAXONOMY, VOCABULARY_FILE, draw_requests, read_taxonomy, write_vocabularies
    from .records import REQUESTS_FILE, write_records
    from .requests import copied_pictures, tiny_requests

    if (options.world is None) == (options.agent is None):
        raise DataError("Give either --agent, who writes the vocabulary, or --world tiny.")
    if options.count < 1:
        raise DataError(f"--count is {options.count}; it must be at least 1.")
    if options.world:
        if not _begin(options, options.out, f"{options.count} requests of the tiny world; no agent is asked"):
            return
        records = tiny_requests(options.count, options.seed, options.out)
    else:
        categories = read_taxonomy(options.taxonomy or TAXONOMY)
        domains = len({c.domain for c in categories})
        takes = f"{options.count} requests from {len(categories)} categories of {domains} domains; "
        if not _begin(options, options.out, takes + f"{len(categories)} to {3 * len(categories)} agent calls"):
            return
        from ..agents.choose import agent_from

        agent = agent_from(options.agent, role="planner", endpoints=options.endpoints)
        words = write_vocabularies(agent, categories, options.out / VOCABULARY_FILE, print)
        pictures = copied_pictures(options.images, options.out) if options.images else []
        records = draw_requests(categories, words, options.count, options.seed, pictures)
    write_records(options.out / REQUESTS_FILE, records)
    print(f"Wrote {len(records)} requests: {options.out / REQUESTS_FILE}")
    if len(records) < options.count:
        print(f"{options.count} were asked for; vocabulary and templates gave no more different ones.")


def _add_trajectories(what: Any) -> None:
    make = what.add_parser(
        "trajectories",
        help="carry out requests: a run folder each",
        description="Planner, generator and critic over every request, every attempt judged. The same command goes "
        "on where it stopped.",
    )
    make.add_argument("requests", type=Path, help="requests.jsonl")
    make.add_argument("--out", type=Path, required=True, help="folder of runs and attempt store")
    make.add_argument("--planner", help=f"{AGENT_HELP}; without one, requests must bring plans")
    make.add_argument("--critic", required=True, help=AGENT_HELP)
    make.add_argument("--generator", required=True, help=GENERATOR_HELP)
    make.add_argument("--workflow", type=Path, help="ComfyUI workflow in API format")
    make.add_argument("--edit-workflow", type=Path, help="another one for steps that edit a picture")
    for name, of in (("prompt", "NODE.input"), ("seed", "NODE.input"), ("image", "NODE.input"), ("output", "NODE")):
        make.add_argument(f"--{name}-input", help=f"{of} of the workflow's {name}, where it is not found")
    make.add_argument("--server", action="append", default=[], help=f"ComfyUI's address, repeatable ({LOCAL})")
    make.add_argument("--gpus", type=int, default=0, help="with --ray: workers with a GPU of their own")
    make.add_argument("--ray", action="store_true", help="spread over the servers or GPUs with Ray")
    make.add_argument("--workers", type=int, default=1, help="requests at a time, without --ray (servers: more)")
    make.add_argument("--t-max", type=int, default=5, help="generator calls a step may take")
    make.add_argument("--max-steps", type=int, default=10, help="steps that a planner's plan may have")
    make.add_argument("--size", help="WIDTHxHEIGHT of pictures made from text alone")
    make.add_argument("--temperature", type=float, default=0.0, help="of planner and critic; 0: greedy")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--limit", type=int, help="only the first N requests")
    make.add_argument("--endpoints", type=Path, help="file of chat endpoints (docs/agents-server.md)")
    make.add_argument("--device", help="cuda or cpu for local models")
    _common(make, _trajectories)


def _trajectories(options: argparse.Namespace) -> None:
    from .records import RequestRecord, read_records
    from .trajectories import FAILURES, RUNS, STORE, is_done, make_all

    requests = list(read_records(options.requests, RequestRecord))[: options.limit]
    for request in requests:
        try:
            Plan.from_dict(request.plan or {"execution_plan": []})
        except PlanError as error:
            raise DataError(f"{options.requests}, request {request.id}: {error}") from None
    if not requests:
        raise DataError(f"{options.requests} holds no requests.")
    places, team = _places(options), _team(options)
    left = [r for r in requests if not is_done(r, options.out)]
    steps = sum(len(r.plan["execution_plan"]) if r.plan else options.max_steps for r in left)
    calls = steps * options.t_max
    width, height = team.size or (1024, 1024)
    disk = 2 * calls * width * height * 1.5 / 2**30  # run folder and store; a PNG of noise is twice as large
    takes = (
        f"{len(requests)} requests, {len(left)} left; at most {calls} generator and {calls} critic calls, "
        f"{len([r for r in left if not r.plan])} plans, about {disk:.2g} GB"
    )
    if not _begin(options, options.out, takes):
        return
    done = 0

    def said(request: RequestRecord, error: Exception | None) -> None:
        nonlocal done
        done += 1
        if error is not None:
            print(f"{request.id} failed: {error}", flush=True)
        if done % 50 == 0 or done == len(left):
            print(f"{done}/{len(left)} requests", flush=True)

    failed = make_all(
        requests, options.requests.parent, options.out, team, workers=options.workers, places=places, said=said
    )
    print(f"Runs: {options.out / RUNS}; attempt store: {options.out / STORE}")
    if failed:
        raise InterleaveError(
            f"{failed} requests failed ({options.out / FAILURES}); the same command tries them again."
        )


def _places(options: argparse.Namespace) -> list[Any]:
    from ..farm import Place

    if not options.ray:
        if len(options.server) > 1 or options.gpus:
            raise DataError("Several servers or GPUs are spread over with --ray.")
        return []
    places = [Place(server=s) for s in options.server] + [Place(gpu=True)] * options.gpus
    return places or [Place()] * options.workers


def _team(options: argparse.Namespace) -> Any:
    from ..generators.choose import GeneratorChoice, size_from
    from .trajectories import Team

    places = {name: getattr(options, f"{name}_input") for name in ("prompt", "seed", "image", "output")}
    server = options.server[0] if options.server else LOCAL
    generator = GeneratorChoice(
        options.generator, options.workflow, options.edit_workflow, places, server, options.device
    )
    return Team(
        generator,
        options.critic,
        options.planner,
        options.endpoints,
        options.device,
        options.t_max,
        options.max_steps,
        size_from(options.size) or ((64, 64) if options.generator == "tiny" else None),
        temperature=options.temperature,
        seed=options.seed,
    )


def _add_from_runs(what: Any) -> None:
    runs = what.add_parser(
        "from-runs",
        help="records from the run folders of ComfyUI or the command line",
        description="Reads run folders (output/interleave of a ComfyUI) and writes critic.jsonl, planner.jsonl, "
        "drops.json and the pictures. What a person accepted or edited is labelled so.",
    )
    runs.add_argument("runs", type=Path, help="a folder of runs, such as ComfyUI/output/interleave")
    runs.add_argument("--out", type=Path, required=True, help="where the records go")
    runs.add_argument("--store", type=Path, help="attempt store (user/interleave_thinker/store): users' own pictures")
    _common(runs, _from_runs)


def _from_runs(options: argparse.Namespace) -> None:
    from ..store import AttemptStore
    from .from_runs import from_runs, runs_below
    from .records import CRITIC_FILE, DROPS_FILE, PLANNER_FILE, write_records

    found = runs_below(options.runs)
    sizes = sum(p.stat().st_size for run in found for p in run.glob("attempts/*.png"))
    if not _begin(options, options.out, f"{len(found)} runs, {sizes / 2**20:.1f} MB of pictures at most"):
        return
    store = AttemptStore(options.store) if options.store else None
    critic, planner, drops = from_runs(found, options.out, store)
    write_records(options.out / CRITIC_FILE, critic)
    write_records(options.out / PLANNER_FILE, planner)
    _report(options.out / DROPS_FILE, drops)
    print(f"Wrote {options.out / CRITIC_FILE} and {options.out / PLANNER_FILE}")


def _add_score(what: Any) -> None:
    score = what.add_parser(
        "score",
        help="SC and PQ for every attempt",
        description="VIEScore-style marks of 0 to 10 by a judge: DATA/critic.jsonl becomes DATA/scored.jsonl. What the "
        "judge could not score is left out and counted.",
    )
    score.add_argument("data", type=Path, help="folder of critic.jsonl")
    score.add_argument("--judge", required=True, help=f"checker (the tiny world's), or {AGENT_HELP}")
    score.add_argument("--label-by", choices=get_args(LabelBy), default="critic", help="whose verdict is the label")
    score.add_argument("--min-semantics", type=float, default=8.0, help="with --label-by score: SC of a success")
    score.add_argument("--min-quality", type=float, default=6.0, help="with --label-by score: PQ of a success")
    score.add_argument("--workers", type=int, default=1, help="attempts at a time (servers: more)")
    score.add_argument("--endpoints", type=Path, help="file of chat endpoints (docs/agents-server.md)")
    _common(score, _score)


def _score(options: argparse.Namespace) -> None:
    from ..scores import scorer_from
    from .records import CRITIC_FILE, CriticRecord, read_records, write_records
    from .scoring import SCORES_FILE, LabelOptions, ScoreLog, score_all

    records = list(read_records(options.data / CRITIC_FILE, CriticRecord))
    if not _begin(options, options.data / "scored.jsonl", f"{len(records)} attempts, {2 * len(records)} judge calls"):
        return
    scorer = scorer_from(options.judge, endpoints=options.endpoints)
    labels = LabelOptions(options.label_by, options.min_semantics, options.min_quality)

    def said(done: int) -> None:
        if done % 1000 == 0 or done == len(records):
            print(f"{done}/{len(records)} attempts", flush=True)

    log = ScoreLog(options.data / SCORES_FILE)
    scored, drops = score_all(records, options.data, scorer, labels, log, workers=options.workers, said=said)
    write_records(options.data / "scored.jsonl", scored)
    _report(options.data / "scored.drops.json", {"attempts": drops})


def _add_filter(what: Any) -> None:
    keep = what.add_parser(
        "filter",
        help="which attempts are learned from, and where",
        description="DATA/scored.jsonl becomes DATA/sft.jsonl and DATA/rl.jsonl, with a report of what each rule "
        "dropped. The paper names the rules and no thresholds.",
    )
    keep.add_argument("data", type=Path, help="folder of scored.jsonl")
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
    keep.add_argument("--seed", type=int, default=default.seed)
    _common(keep, _filter)


def _filter(options: argparse.Namespace) -> None:
    from .filters import filtered
    from .records import CriticRecord, read_records, write_records

    records = list(read_records(options.data / "scored.jsonl", CriticRecord))
    if not _begin(options, options.data / "sft.jsonl", f"{len(records)} scored attempts"):
        return
    chosen = FilterOptions(**{f.name: getattr(options, f.name) for f in fields(FilterOptions)})
    sft, rl, drops = filtered(records, chosen)
    write_records(options.data / "sft.jsonl", sft)
    write_records(options.data / "rl.jsonl", rl)
    _report(options.data / "filter.drops.json", {"attempts": drops})
    print(f"{len(sft)} for fine-tuning, {len(rl)} for reinforcement learning")


def _add_planner(what: Any) -> None:
    planner = what.add_parser(
        "planner",
        help="lessons for the planner: plans whole and cut, and documents of others",
        description="DATA/planner.jsonl (and --corpus files) become DATA/plans.jsonl.",
    )
    planner.add_argument("data", type=Path, help="folder of planner.jsonl; with --corpus alone, of the corpus")
    planner.add_argument("--cuts", type=int, default=1, help="truncations of each plan, at random steps")
    planner.add_argument("--whole", action=argparse.BooleanOptionalAction, default=True, help="keep plans whole too")
    planner.add_argument("--corpus", type=Path, help="JSON lines {request, items: [{text, image}]} in DATA")
    planner.add_argument("--corpus-words", choices=get_args(Words), default="prompt", help="what their texts become")
    planner.add_argument("--seed", type=int, default=0)
    _common(planner, _planner)


def _planner(options: argparse.Namespace) -> None:
    from .planning import PlannerOptions, from_corpus, planner_records
    from .records import PLANNER_FILE, PlannerRecord, read_records, write_records

    own = options.data / PLANNER_FILE
    records = list(read_records(own, PlannerRecord)) if own.is_file() or not options.corpus else []
    drops: dict[str, Drops] = {}
    if options.corpus:
        if options.corpus.resolve().parent != options.data.resolve():
            raise DataError(f"Put {options.corpus} and its pictures into {options.data}: paths are relative to it.")
        others, drops["corpus"] = from_corpus(options.corpus, options.corpus_words)
        records += others
    if not _begin(options, options.data / "plans.jsonl", f"{len(records)} plans"):
        return
    lessons, drops["lessons"] = planner_records(records, PlannerOptions(options.whole, options.cuts, options.seed))
    write_records(options.data / "plans.jsonl", lessons)
    _report(options.data / "plans.drops.json", drops)


def _add_export(what: Any) -> None:
    export = what.add_parser(
        "export",
        help="what trainers read",
        description="Writes into DATA: trl (critic_sft.jsonl, planner_sft.jsonl), sharegpt (the same as .json for "
        "LLaMA-Factory), rl (critic_rl.jsonl), easy and hard (whole documents as sequences).",
    )
    export.add_argument("data", type=Path, help="folder of sft.jsonl, rl.jsonl, plans.jsonl")
    export.add_argument("--format", action="append", choices=["trl", "sharegpt", "rl", "easy", "hard"], required=True)
    export.add_argument("--prompts", type=Path, help="folder of the prompt texts that the model is to know")
    export.add_argument("--on-accept", choices=get_args(OnAccept), default="repeat", help="refined prompt of a success")
    export.add_argument("--source", help="records for the critic instead of sft.jsonl, such as critic.jsonl")
    export.add_argument(
        "--name", help="with --source: the export's name instead of critic_sft; nothing else is written"
    )
    _common(export, _export)


def _export(options: argparse.Namespace) -> None:
    from .exporting import export_all

    if not options.data.is_dir():
        raise DataError(f"There is no folder {options.data}.")
    if options.dry_run:
        print(f"Would write {', '.join(options.format)} into {options.data}; no calls")
        return
    save_options(options, options.data / "export.config.yaml")
    if (options.source is None) != (options.name is None):
        raise DataError("--source and --name go together: other records under another name.")
    chosen = ExportOptions(options.prompts, options.on_accept)
    for line in export_all(options.data, options.format, chosen, options.source, options.name):
        print(line)


def _schema(options: argparse.Namespace) -> int:
    print(json.dumps(SCHEMAS[options.record], indent=2))
    return 0


def _begin(options: argparse.Namespace, target: Path, takes: str) -> bool:
    """Say what it takes, refuse to write over what is there, keep the options. False for a dry run.

    target: the output's folder, or its .jsonl file.
    """
    print(takes, flush=True)
    if options.dry_run:
        return False
    is_file = target.suffix == ".jsonl"
    there = target.exists() if is_file else target.is_dir() and any(target.iterdir())
    if there and not options.resume:
        what = "is there already" if is_file else "is not empty"
        raise DataError(f"{target} {what}. Give --resume to go on or to write it anew, or another folder.")
    folder = target.parent if is_file else target
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, folder / f"{options.data_command}.config.yaml")
    return True


def _report(path: Path, drops: dict[str, Drops]) -> None:
    report = {name: of.to_dict() for name, of in drops.items()}
    write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())
    for name, of in drops.items():
        print("\n".join([f"{name}: {of.lines()[0]}", *of.lines()[1:]]))
