"""`interleave-thinker data prompts | trajectories | from-runs`: from nothing, or from runs, to records."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...contract import PAPER_T_MAX
from ...errors import InterleaveError, PlanError
from ...generators.diffusers_generator import DTYPES
from ...loop.plan import Plan
from ...research.data.records import DataError
from ...research.data.taxonomy_requests import DEFAULT_COUNT
from ...resolve import AGENT_HELP
from ..options import (
    add_device,
    add_endpoints,
    add_generator_options,
    add_max_steps,
    add_seed,
    add_size,
    add_t_max,
    add_workers,
    generator_choice,
    max_steps_of,
    size_for,
)
from .ray_options import add_ray_options, ray_workers
from .stage import add_stage_options, begin_stage, saved_options, write_drops

if TYPE_CHECKING:
    from ...research.data.trajectories import TrajectoryOptions


def add_prompts(commands: Any) -> None:
    prompts = commands.add_parser(
        "prompts",
        help="requests from a taxonomy and an agent's vocabulary",
        description="Domain, category, vocabulary, template, request. Writes requests.jsonl and vocabulary.jsonl.",
    )
    prompts.add_argument("--out", type=Path, required=True, help="folder of the requests")
    prompts.add_argument("--agent", help=f"who writes the vocabulary: {AGENT_HELP}")
    prompts.add_argument("--world", choices=["tiny"], help="draw from the tiny world, with right plans; needs no agent")
    prompts.add_argument("--count", type=int, default=DEFAULT_COUNT, help="requests (the paper: about 40,000)")
    add_seed(prompts)
    prompts.add_argument("--taxonomy", type=Path, help="domains, categories and templates of your own")
    prompts.add_argument("--images", type=Path, help="your pictures, named by what they show (a_red_fox.png); copied")
    add_endpoints(prompts)
    add_stage_options(prompts, _prompts)


def _prompts(options: argparse.Namespace) -> None:
    from ...research.data.records import REQUESTS_FILE, write_records
    from ...research.data.requests import copied_images, tiny_requests
    from ...research.data.taxonomy_requests import (
        TAXONOMY,
        VOCABULARY_FILE,
        draw_requests,
        read_taxonomy,
        write_vocabularies,
    )

    if (options.world is None) == (options.agent is None):
        raise DataError("Give either --agent, who writes the vocabulary, or --world tiny.")
    if options.count < 1:
        raise DataError(f"--count is {options.count}; it must be at least 1.")
    if options.world:
        if not begin_stage(options, options.out, f"{options.count} requests of the tiny world; no agent is asked"):
            return
        records = tiny_requests(options.count, options.seed, options.out)
    else:
        categories = read_taxonomy(options.taxonomy or TAXONOMY)
        domains = len({c.domain for c in categories})
        takes = f"{options.count} requests from {len(categories)} categories of {domains} domains; "
        if not begin_stage(options, options.out, takes + f"{len(categories)} to {3 * len(categories)} agent calls"):
            return
        from ...resolve import agent_from

        agent = agent_from(options.agent, role="planner", endpoints=options.endpoints)
        words = write_vocabularies(agent, categories, options.out / VOCABULARY_FILE, print)
        images = copied_images(options.images, options.out) if options.images else []
        records = draw_requests(categories, words, options.count, options.seed, images)
    write_records(options.out / REQUESTS_FILE, records)
    print(f"Wrote {len(records)} requests: {options.out / REQUESTS_FILE}")
    if len(records) < options.count:
        print(f"{options.count} were asked for; vocabulary and templates gave no more different ones.")


def add_trajectories(commands: Any) -> None:
    make = commands.add_parser(
        "trajectories",
        help="carry out requests: a run folder each",
        description="Planner, generator and critic over every request, every attempt judged. The same command goes "
        "on where it stopped.",
    )
    make.add_argument("requests", type=Path, help="requests.jsonl")
    make.add_argument("--out", type=Path, required=True, help="folder of runs and attempt store")
    make.add_argument("--planner", help=f"{AGENT_HELP}; without one, requests must bring plans")
    make.add_argument("--critic", required=True, help=AGENT_HELP)
    add_generator_options(make, required=True, several_servers=True, output_saved_as="output_input")
    make.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="of a diffusers generator; auto: float32 on a CPU"
    )
    add_ray_options(make, "workers")
    add_workers(make, "requests at a time (servers: more); with --ray and neither, so many workers on the CPU")
    add_t_max(make, PAPER_T_MAX)
    add_max_steps(make)
    add_size(make)
    make.add_argument("--temperature", type=float, default=0.0, help="of planner and critic; 0: greedy")
    add_seed(make)
    make.add_argument("--limit", type=int, help="only the first N requests")
    add_endpoints(make)
    add_device(make)
    add_stage_options(make, _trajectories)


def _trajectories(options: argparse.Namespace) -> None:
    from ...research.data.records import RequestRecord, read_records
    from ...research.data.trajectories import FAILURES, RUNS, STORE, is_done, make_trajectories

    requests = list(read_records(options.requests, RequestRecord))[: options.limit]
    for request in requests:
        try:
            Plan.from_dict(request.plan or {"execution_plan": []})
        except PlanError as error:
            raise DataError(f"{options.requests}, request {request.id}: {error}") from None
    if not requests:
        raise DataError(f"{options.requests} holds no requests.")
    saved = saved_options(options, options.out)
    options.max_steps = max_steps_of(options, saved.get("max-steps"))
    specs, chosen = ray_workers(options), _trajectory_options(options)
    left = [r for r in requests if not is_done(r, options.out)]
    steps = sum(len(r.plan["execution_plan"]) if r.plan else options.max_steps for r in left)
    calls = steps * options.t_max
    width, height = chosen.size or (1024, 1024)
    disk = 2 * calls * width * height * 1.5 / 2**30  # run folder and store; a PNG of noise is twice as large
    takes = (
        f"{len(requests)} requests, {len(left)} left; at most {calls} generator and {calls} critic calls, "
        f"{len([r for r in left if not r.plan])} plans, about {disk:.2g} GB"
    )
    if not begin_stage(options, options.out, takes):
        return
    done = 0

    def show(request: RequestRecord, error: Exception | None) -> None:
        nonlocal done
        done += 1
        if error is not None:
            print(f"{request.id} failed: {error}", flush=True)
        if done % 50 == 0 or done == len(left):
            print(f"{done}/{len(left)} requests", flush=True)

    failed = make_trajectories(
        requests,
        options.requests.parent,
        options.out,
        chosen,
        workers=options.workers,
        ray_workers=specs,
        on_result=show,
    )
    print(f"Runs: {options.out / RUNS}; attempt store: {options.out / STORE}")
    if failed:
        raise InterleaveError(
            f"{failed} requests failed ({options.out / FAILURES}); the same command tries them again."
        )


def _trajectory_options(options: argparse.Namespace) -> TrajectoryOptions:
    from ...research.data.trajectories import TrajectoryOptions

    return TrajectoryOptions(
        generator_choice(options),
        options.critic,
        options.planner,
        options.endpoints,
        options.device,
        options.t_max,
        options.max_steps,
        size_for(options.generator, options.size),
        temperature=options.temperature,
        seed=options.seed,
    )


def add_from_runs(commands: Any) -> None:
    runs = commands.add_parser(
        "from-runs",
        help="records from the run folders of ComfyUI or the command line",
        description="Reads run folders (output/interleave of a ComfyUI) and writes critic.jsonl, planner.jsonl, "
        "drops.json and the pictures. What a person accepted or edited is labelled so.",
    )
    runs.add_argument("runs", type=Path, help="a folder of runs, such as ComfyUI/output/interleave")
    runs.add_argument("--out", type=Path, required=True, help="where the records go")
    runs.add_argument("--store", type=Path, help="attempt store (user/interleave_thinker/store): users' own pictures")
    add_stage_options(runs, _from_runs)


def _from_runs(options: argparse.Namespace) -> None:
    from ...research.data.from_runs import from_runs, runs_below
    from ...research.data.records import CRITIC_FILE, DROPS_FILE, PLANNER_FILE, write_records
    from ...storage.attempt_store import AttemptStore

    found = runs_below(options.runs)
    sizes = sum(p.stat().st_size for run in found for p in run.glob("attempts/*.png"))
    if not begin_stage(options, options.out, f"{len(found)} runs, {sizes / 2**20:.1f} MB of pictures at most"):
        return
    store = AttemptStore(options.store) if options.store else None
    critic, planner, drops = from_runs(found, options.out, store)
    write_records(options.out / CRITIC_FILE, critic)
    write_records(options.out / PLANNER_FILE, planner)
    write_drops(options.out / DROPS_FILE, drops)
    print(f"Wrote {options.out / CRITIC_FILE} and {options.out / PLANNER_FILE}")
