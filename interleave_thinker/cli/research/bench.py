"""`interleave-thinker bench NAME generate | judge | aggregate | report | agree | totals`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...contract import PAPER_T_MAX
from ...errors import ConfigError, InterleaveError
from ...resolve import AGENT_HELP, CHECKER, COMFYUI, TINY, agent_from
from ..options import (
    add_device,
    add_endpoints,
    add_generator_options,
    add_json,
    add_max_steps,
    add_seed,
    add_size,
    add_t_max,
    add_workers,
    generator_choice,
    max_steps_of,
    size_for,
)

if TYPE_CHECKING:
    from ...agents.base import Agent
    from ...generators.base import Generator
    from ...research.bench.base import Benchmark, Item
    from ...research.bench.metric import Metric
    from ...research.bench.systems import System


class UnsaidNumber(int):
    """A default, which a run folder's own value replaces."""


class UnsaidText(str):
    """The same for a text."""

    __slots__ = ()


MOST_REQUESTS = 10_000
JUDGES = "Give a model folder or endpoint:NAME."
NAMES = ("ueval", "comm", "wise", "rise", "viescore", "tiny")
KINDS = ("full", "no-critic", "no-planner", "raw", "workflow")
_ABOUT = {
    "ueval": "UEval: text and pictures, judged by rubrics",
    "comm": "CoMM: interleaved documents, tasks 1 to 4",
    "wise": "WISE: pictures that take world knowledge",
    "rise": "RISEBench: edits that take reasoning",
    "viescore": "VIEScore: consistency and quality of pictures",
    "tiny": "the tiny world, with its exact checker as the judge",
}


def add_commands(commands: Any) -> None:
    bench = commands.add_parser("bench", help="benchmarks: UEval, CoMM, WISE, RISE, VIEScore, and the tiny world's")
    names = bench.add_subparsers(dest="bench", required=True)
    for name in NAMES:
        stages = names.add_parser(name, help=_ABOUT[name], description=_ABOUT[name]).add_subparsers(
            dest="stage", required=True
        )
        _add_generate(stages, name)
        _add_judge(stages, name)
        _add_aggregate(stages, name)
        _add_report(stages, name)
        _add_agree(stages, name)
        if name != "tiny":
            _add_totals(stages, name)


def _add_data(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "tiny":
        parser.add_argument("--requests", type=int, default=UnsaidNumber(16), help="how many held-out requests (16)")
        parser.add_argument(
            "--request-seed", type=int, default=UnsaidNumber(0), help="the seed they are drawn from (0)"
        )
        return
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="the benchmark's official data file or files")
    if name in ("comm", "rise"):
        parser.add_argument("--images", type=Path, help="folder of the data's pictures (default: the data file's)")
    if name == "comm":
        parser.add_argument("--tasks", default=UnsaidText("3,4"), help="tasks, separated by commas (the paper: 3,4)")
    if name == "wise":
        parser.add_argument("--protocol", choices=["legacy", "verified"], help="which WISE (judging: default legacy)")
    if name == "viescore":
        parser.add_argument("--human", type=Path, nargs="+", default=[], help="raters' .tsv files, for correlations")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the run folder; the same command goes on in it")
    parser.add_argument("--limit", type=int, help="only the first N items (judge: as generate had it)")
    add_workers(parser, "items at a time (servers: more; local models: 1)", saved_as="concurrency")
    add_endpoints(parser)
    add_device(parser)
    parser.add_argument("--yes", action="store_true", help="start also where it takes more than 500 calls")
    parser.add_argument("--dry-run", action="store_true", help="only say what it would take")


def _add_generate(stages: Any, name: str) -> None:
    generate = stages.add_parser("generate", help="let a system answer every item")
    _add_data(generate, name)
    _add_common(generate)
    generate.add_argument("--system", choices=KINDS, default="full", help="the loop, parts of it, or a workflow")
    generate.add_argument("--planner", help=AGENT_HELP)
    generate.add_argument("--critic", help=AGENT_HELP)
    add_generator_options(generate, required=False, several_servers=False, output_saved_as="output_node")
    add_t_max(generate, PAPER_T_MAX)
    generate.add_argument("--on-exhausted", choices=["last", "best", "first"], default="last")
    add_max_steps(generate)
    add_seed(generate)
    add_size(generate)
    generate.set_defaults(do=_generate)


def _add_judge(stages: Any, name: str) -> None:
    judge = stages.add_parser("judge", help="ask the judge about every output")
    _add_data(judge, name)
    _add_common(judge)
    default = " (default: the world's exact checker)" if name == "tiny" else ""
    judge.add_argument("--judge", required=name != "tiny", help=f"{AGENT_HELP}{default}")
    judge.add_argument(
        "--max-tokens", type=int, default=4096, help="limit of a reply, thoughts included (default 4096, as upstream)"
    )
    judge.add_argument("--retry-failed", action="store_true", help="ask again where a reply could not be read")
    judge.set_defaults(do=_judge)


def _add_aggregate(stages: Any, name: str) -> None:
    aggregate = stages.add_parser("aggregate", help="score files, ours or upstream's, into a table")
    aggregate.add_argument("scores", type=Path, nargs="+", help="score files or folders, or a run folder")
    _add_data(aggregate, name)
    add_json(aggregate)
    aggregate.set_defaults(do=_aggregate)


def _add_report(stages: Any, name: str) -> None:
    report = stages.add_parser("report", help="one or more runs: table, paired differences, plot, CSV, JSON")
    report.add_argument("runs", type=Path, nargs="+", help="run folders; the first is what the others are compared to")
    _add_data(report, name)
    report.add_argument("--out", type=Path, help="folder of the report (default: the first run)")
    report.set_defaults(do=_report)


def _add_agree(stages: Any, name: str) -> None:
    agree = stages.add_parser(
        "agree",
        help="how far judges agree with another one on the same outputs",
        description="Compares judgments item by item: an open judge's and a hosted one's, say, each with upstream's "
        "released judgments of the same outputs.",
    )
    agree.add_argument("judged", type=Path, nargs="+", help="run folders or score files, one for each judge")
    agree.add_argument(
        "--with",
        dest="reference",
        type=Path,
        required=True,
        help="score file, score folder or run folder that they are compared with, such as upstream's released one",
    )
    _add_data(agree, name)
    add_json(agree)
    agree.set_defaults(do=_agree)


def _add_totals(stages: Any, name: str) -> None:
    totals = stages.add_parser("totals", help="a table of category numbers into totals, beside the printed ones")
    totals.add_argument("table", help="CSV or JSON file, or the name of a published table that comes with the package")
    if name == "wise":
        totals.add_argument("--protocol", choices=["legacy", "verified"], help="which weights (default: both)")
    totals.add_argument("--json", type=Path, help="write the totals here as well")
    totals.set_defaults(do=_totals)


def _take_over(options: argparse.Namespace, *runs: Path) -> None:
    """Options that are not given are those that the run folders were made with.

    Raises:
        ConfigError: they were made with different ones, or for another benchmark.
    """
    from ...research.bench.runner import made_for, remembered

    taken: dict[str, Any] = {}
    for run in runs:
        if (other := made_for(run)) not in (None, options.bench):
            raise ConfigError(f"{run} is a run of {other}. Use `bench {other} {options.stage}`, or another folder.")
        for name, value in remembered(run).items():
            if isinstance(getattr(options, name, 0), (UnsaidNumber, UnsaidText, type(None))):
                if taken.setdefault(name, value) != value:
                    raise ConfigError(
                        f"{run} was made with --{name.replace('_', '-')} {value}, and {runs[0]} with {taken[name]}; "
                        "they cannot be in one table."
                    )
    for name, value in taken.items():
        setattr(options, name, value)


def _bench(options: argparse.Namespace, *runs: Path) -> Benchmark:
    """runs: folders whose options count where the command gives none."""
    _take_over(options, *runs)
    name = options.bench
    if name == "tiny":
        from ...research.bench.tiny import TinyBench

        if not 1 <= options.requests <= MOST_REQUESTS:
            raise ConfigError(f"--requests is {options.requests}; it must be from 1 to {MOST_REQUESTS}.")
        return TinyBench(options.requests, options.request_seed)
    one = options.data[0] if options.data else None
    if len(options.data) > 1 and name != "wise":
        raise ConfigError(f"{name} takes one data file; {len(options.data)} are given.")
    if name == "ueval":
        from ...research.bench.ueval import UEval

        return UEval(one)
    if name == "comm":
        from ...research.bench.comm import CoMM

        try:
            tasks = [int(t) for t in options.tasks.split(",")]
        except ValueError:
            raise ConfigError(f"--tasks is {options.tasks!r}; write numbers such as 3,4.") from None
        return CoMM(one, options.images, tasks)
    if name == "wise":
        from ...research.bench.wise import Wise

        return Wise(options.data, options.protocol)
    if name == "rise":
        from ...research.bench.rise import Rise

        return Rise(one, options.images)
    from ...research.bench.viescore import VIEScore

    return VIEScore(one, options.human)


def _items(bench: Benchmark, options: argparse.Namespace) -> list[Item]:
    items = bench.items()
    ids = [i.id for i in items]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ConfigError(f"The data has the id {twice!r} twice.")
    census = bench.census(items)
    if census:
        print(f"Note: {census}.")
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit is {options.limit}; it must be 1 or more.")
    return items[: options.limit]


def _generate(options: argparse.Namespace) -> int:
    from ...loop.state import LoopSettings
    from ...research.bench import runner

    options.max_steps = max_steps_of(options, runner.begun_with(options.out).get("max_steps"))
    LoopSettings(t_max=options.t_max)
    bench = _bench(options, options.out)
    items = _items(bench, options)
    cost = runner.generation_cost(bench, options.out, items, options.system, options.t_max, options.max_steps)
    print(f"{options.bench} generate, {options.system}: {cost}.", flush=True)
    if options.dry_run:
        return 0
    cost.check(options.yes or _is_tiny(options))
    system = _system(options)
    facts = {"bench": options.bench, "system": system.name, "limit": options.limit, "items": len(items)}
    runner.describe(options.out, "generate", facts | _settings(options), _data(options))
    failed = runner.generate(bench, options.out, items, system, workers=options.concurrency)
    done = sum(bench.has_output(options.out / "outputs", i) for i in items)
    print(f"{done} of {len(items)} items have an output in {options.out / 'outputs'}.")
    for item, error in list(failed.items())[:5]:
        print(f"  {item}: {error}")
    if failed:
        print(f"{len(failed)} failed; the same command tries them again.")
    return 0 if done else 1


def _judge(options: argparse.Namespace) -> int:
    from ...agents.base import identity
    from ...research.bench import runner

    if options.max_tokens < 1:
        raise ConfigError(f"--max-tokens is {options.max_tokens}; it must be 1 or more.")
    if options.limit is None:
        options.limit = runner.generated_limit(options.out)
    bench = _bench(options, options.out)
    items = _items(bench, options)
    there = runner.with_output(bench, options.out, items)
    if len(there) < len(items):
        print(f"No output: {len(items) - len(there)} of {len(items)} items; they are left out.")
    agent = _judge_agent(options)
    cost = runner.judge_cost(bench, options.out, there, identity(agent), options.retry_failed)
    print(f"{options.bench} judge, {agent.name}: {cost}.", flush=True)
    if options.dry_run:
        return 0
    cost.check(options.yes or (options.bench == "tiny" and options.judge in (None, CHECKER)))
    facts = {"bench": options.bench, "judge": agent.name, "limit": options.limit, "items": len(items)}
    runner.describe(options.out, "judge", facts | _settings(options), _data(options))
    scores, asked = runner.judge(
        bench,
        options.out,
        items,
        agent,
        workers=options.concurrency,
        retry_failed=options.retry_failed,
        max_tokens=options.max_tokens,
    )
    print(
        f"{asked.calls} calls, {asked.recalled} recalled; {asked.unread} criteria without a readable reply, "
        f"{asked.failed} without any. Scores: {scores}"
    )
    if asked.failed:
        print(f"The same command asks for those {asked.failed} again. Last reason: {asked.last_error}")
    for item, reason in list(asked.broken.items())[:5]:
        print(f"  {item} could not be judged: {reason}")
    _print_table(bench, options, options.out)
    return 0


def _aggregate(options: argparse.Namespace) -> int:
    from ...research.bench.report import to_dict

    bench = _bench(options, *options.scores)
    metrics = _print_table(bench, options, *options.scores)
    if options.json:
        options.json.write_text(json.dumps(to_dict(metrics), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _report(options: argparse.Namespace) -> int:
    from ...research.bench.report import write_report
    from ...research.bench.runner import generated, made_by

    bench = _bench(options, *options.runs)
    systems: dict[str, Sequence[Metric]] = {}
    about: dict[str, Any] = {}
    for run in options.runs:
        own = run.resolve().name
        name = own if own not in systems else str(run)
        systems[name] = _metrics(bench, run)
        took = generated(run)
        system, judge = made_by(run)
        calls, failed = took["generator_calls"], len(took["failed"])
        about[name] = f"{system}; judge {judge}; {calls} generator calls, {failed} items failed"
    out = options.out or options.runs[0]
    for path in write_report(options.bench, systems, out, about):
        print(f"Wrote {path}")
    print((out / "report.md").read_text(encoding="utf-8"))
    return 0


def _agree(options: argparse.Namespace) -> int:
    from ...research.bench.agreement import agreements, table

    runs = [path for path in (*options.judged, options.reference) if path.is_dir()]
    bench = _bench(options, *runs)
    theirs = _metrics(bench, options.reference)
    judges = {}
    for path in options.judged:
        name = path.resolve().name
        judges[name if name not in judges else str(path)] = agreements(_metrics(bench, path), theirs, bench.pooled_as)
    print(f"Compared with {options.reference}:\n")
    print(table(judges, {bench.pooled_as(metric.name): metric.unit for metric in theirs}))
    if options.json:
        plain = {judge: [a.to_dict() for a in of] for judge, of in judges.items()}
        options.json.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _totals(options: argparse.Namespace) -> int:
    from ...research.bench import totals

    names = {t["id"] for t in totals.published()}
    shipped = options.table in names
    if not shipped and not Path(options.table).is_file():
        mine = ", ".join(t["id"] for t in totals.published() if t["bench"] == options.bench)
        raise ConfigError(f"There is no file {options.table}. Published tables of {options.bench}: {mine}.")
    rows = totals.published_table(options.table)["rows"] if shipped else totals.read_table(Path(options.table))
    found = totals.totals(options.bench, rows, getattr(options, "protocol", None))
    print("| system | printed | computed |\n|---|---|---|")
    for row in found:
        none = f"none ({row['why']})" if row.get("why") else "none"
        computed = ", ".join(f"{k} {none if v is None else f'{v:.6g}'}" for k, v in row["computed"].items())
        print(f"| {row['system']} | {'' if row['printed'] is None else row['printed']} | {computed} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _metrics(bench: Benchmark, *paths: Path) -> list[Metric]:
    """Of run folders or score files; of a run folder only the items that it judged count."""
    from ...research.bench.runner import coverage

    known = [found for path in paths if (found := coverage(path)) is not None]
    bench.only = frozenset(i for found in known for i in found.judged) if known else None
    scores = [_scores_of(path) for path in paths]
    absent = sum(len(found.no_output) for found in known), sum(found.items for found in known)
    return [replace(metric, absent=absent) for metric in bench.aggregate(scores)]


def _scores_of(path: Path) -> Path:
    """The score files of a run folder or of its folder of scores, or the path itself.

    Raises:
        ConfigError: the run was not judged yet.
    """
    from ...research.bench.runner import COVERAGE

    scores = path / "scores"
    if (path / COVERAGE).is_file():
        scores = path
    if not scores.is_dir():
        if (path / "run.json").is_file() and (path / "outputs").is_dir():
            raise ConfigError(
                f"{path} was not judged yet: there is no folder {scores}. Run `judge --out {path}` first."
            )
        return path
    for name in ("results.json", "scores.jsonl", "judge.json"):
        if (scores / name).is_file():
            return scores / name
    return scores


def _print_table(bench: Benchmark, options: argparse.Namespace, *paths: Path) -> list[Metric]:
    """Raises what `_metrics` does; human ratings of other systems cost their rows and no others."""
    from ...research.bench.report import to_markdown
    from ...research.bench.viescore import VIEScore

    try:
        metrics = _metrics(bench, *paths)
    except InterleaveError:
        if isinstance(bench, VIEScore) and bench.human:
            print(to_markdown(_metrics(VIEScore(bench.data), *paths)))
        raise
    print(to_markdown(metrics))
    return metrics


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """For run.json. `options` must be the same in every stage of a run; `settings` are for the record."""
    fixed = ("tasks", "protocol", "requests", "request_seed")
    agents = ("planner", "critic", "generator", "judge", "workflow", "edit_workflow")
    kept = (*agents, "t_max", "on_exhausted", "max_steps", "seed", "size", "images", "max_tokens")
    given = {n: getattr(options, n) for n in (*fixed, *kept) if getattr(options, n, None) is not None}
    plain = {n: v.name if isinstance(v, Path) else v for n, v in given.items()}
    return {
        "options": {n: v for n, v in plain.items() if n in fixed},
        "settings": {n: v for n, v in plain.items() if n in kept},
    }


def _data(options: argparse.Namespace) -> list[Path]:
    return list(getattr(options, "data", []))


def _is_tiny(options: argparse.Namespace) -> bool:
    """Whether the tiny world's own models do all of it: they are small, and cost nothing."""
    own = (None, TINY, CHECKER, f"{TINY}:oracle")
    agents = (options.planner, options.critic, options.generator)
    return options.bench == "tiny" and options.system != "workflow" and all(agent in own for agent in agents)


def _judge_agent(options: argparse.Namespace) -> Agent:
    if options.bench == "tiny" and options.judge in (None, CHECKER):
        from ...research.bench.tiny import CheckerJudge

        return CheckerJudge()
    if options.judge.split(":")[0] in (TINY, CHECKER):
        own = "Leave --judge out: the world's exact checker judges." if options.bench == "tiny" else JUDGES
        raise ConfigError(f"--judge is {options.judge!r}, which knows the tiny world's pictures only. {own}")
    return agent_from(options.judge, endpoints=options.endpoints, device=options.device)


def _system(options: argparse.Namespace) -> System:
    from ...agents.base import Sampling
    from ...comfyui.client import ComfyClient
    from ...comfyui.workflow import load_workflow
    from ...loop.state import LoopSettings
    from ...research.bench.systems import LoopSystem, WorkflowSystem

    if options.system == "workflow":
        if options.workflow is None:
            raise ConfigError("--system workflow needs --workflow FILE, a workflow with the loop in it.")
        client = ComfyClient(options.server.rstrip("/"))
        return WorkflowSystem(client, load_workflow(options.workflow, client=client), options.seed, options.t_max)
    tiny = options.bench == "tiny"
    planner = options.planner or (TINY if tiny else None)
    critic = options.critic or (TINY if tiny else None)
    agents: dict[str, Agent] = {}

    def agent(spec: str | None, role: str) -> Agent | None:
        if spec is None:
            return None
        key = f"{spec} {role if spec == 'tiny' else ''}"
        if key not in agents:
            agents[key] = agent_from(spec, role=role, endpoints=options.endpoints, device=options.device)
        return agents[key]

    size = size_for(options.generator or (TINY if tiny else None), options.size)
    return LoopSystem(
        options.system,
        _generator(options),
        agent(planner, "planner") if options.system in ("full", "no-critic") else None,
        agent(critic, "critic") if options.system in ("full", "no-planner") else None,
        LoopSettings(t_max=options.t_max, on_exhausted=options.on_exhausted, seed=options.seed),
        options.max_steps,
        size,
        Sampling(max_tokens=4096),
    )


def _generator(options: argparse.Namespace) -> Generator | None:
    spec = options.generator or (TINY if options.bench == "tiny" else COMFYUI if options.workflow else None)
    if spec is None:
        return None
    if spec == COMFYUI and options.size:
        raise ConfigError("--size is the workflow's own with --generator comfyui; set it there.")
    return generator_choice(options, spec).load()
