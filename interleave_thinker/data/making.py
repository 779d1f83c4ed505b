"""`interleave-thinker data prompts | trajectories | from-runs`: from nothing, or from runs, to records."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..agents.choose import HELP as AGENT_HELP
from ..errors import InterleaveError, PlanError
from ..generators.choose import DTYPES, LOCAL
from ..generators.choose import HELP as GENERATOR_HELP
from ..plan import Plan
from .prompts import DEFAULT_COUNT
from .records import DataError
from .stage import begin, common, report


def add_prompts(what: Any) -> None:
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
    common(prompts, _prompts)


def _prompts(options: argparse.Namespace) -> None:
    from .prompts import TAXONOMY, VOCABULARY_FILE, draw_requests, read_taxonomy, write_vocabularies
    from .records import REQUESTS_FILE, write_records
    from .requests import copied_pictures, tiny_requests

    if (options.world is None) == (options.agent is None):
        raise DataError("Give either --agent, who writes the vocabulary, or --world tiny.")
    if options.count < 1:
        raise DataError(f"--count is {options.count}; it must be at least 1.")
    if options.world:
        if not begin(options, options.out, f"{options.count} requests of the tiny world; no agent is asked"):
            return
        records = tiny_requests(options.count, options.seed, options.out)
    else:
        categories = read_taxonomy(options.taxonomy or TAXONOMY)
        domains = len({c.domain for c in categories})
        takes = f"{options.count} requests from {len(categories)} categories of {domains} domains; "
        if not begin(options, options.out, takes + f"{len(categories)} to {3 * len(categories)} agent calls"):
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


def add_trajectories(what: Any) -> None:
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
    make.add_argument("--ray", action="store_true", help="spread over the servers, GPUs or CPU workers with Ray")
    workers = "requests at a time (servers: more); with --ray and neither, so many workers on the CPU"
    make.add_argument("--workers", type=int, default=1, help=workers)
    make.add_argument("--t-max", type=int, default=5, help="generator calls a step may take")
    make.add_argument("--max-steps", type=int, default=10, help="steps that a planner's plan may have")
    make.add_argument("--size", help="WIDTHxHEIGHT of pictures made from text alone")
    make.add_argument("--temperature", type=float, default=0.0, help="of planner and critic; 0: greedy")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--limit", type=int, help="only the first N requests")
    make.add_argument("--endpoints", type=Path, help="file of chat endpoints (docs/agents-server.md)")
    make.add_argument("--device", help="cuda or cpu for local models")
    make.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="of a diffusers generator; auto: float32 on a CPU"
    )
    common(make, _trajectories)


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
    if not begin(options, options.out, takes):
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
        options.generator, options.workflow, options.edit_workflow, places, server, options.device, options.dtype
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


def add_from_runs(what: Any) -> None:
    runs = what.add_parser(
        "from-runs",
        help="records from the run folders of ComfyUI or the command line",
        description="Reads run folders (output/interleave of a ComfyUI) and writes critic.jsonl, planner.jsonl, "
        "drops.json and the pictures. What a person accepted or edited is labelled so.",
    )
    runs.add_argument("runs", type=Path, help="a folder of runs, such as ComfyUI/output/interleave")
    runs.add_argument("--out", type=Path, required=True, help="where the records go")
    runs.add_argument("--store", type=Path, help="attempt store (user/interleave_thinker/store): users' own pictures")
    common(runs, _from_runs)


def _from_runs(options: argparse.Namespace) -> None:
    from ..store import AttemptStore
    from .from_runs import from_runs, runs_below
    from .records import CRITIC_FILE, DROPS_FILE, PLANNER_FILE, write_records

    found = runs_below(options.runs)
    sizes = sum(p.stat().st_size for run in found for p in run.glob("attempts/*.png"))
    if not begin(options, options.out, f"{len(found)} runs, {sizes / 2**20:.1f} MB of pictures at most"):
        return
    store = AttemptStore(options.store) if options.store else None
    critic, planner, drops = from_runs(found, options.out, store)
    write_records(options.out / CRITIC_FILE, critic)
    write_records(options.out / PLANNER_FILE, planner)
    report(options.out / DROPS_FILE, drops)
    print(f"Wrote {options.out / CRITIC_FILE} and {options.out / PLANNER_FILE}")
