"""`interleave-thinker ablate`: which parts of the method matter, on the tiny world."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...research.ablate.experiment import Experiment
from ...research.ablate.known import join, kept
from ...research.ablate.report import plot, summarised, table
from ...research.ablate.rows import chosen, trainings_for
from ..config_file import add_config, save_options
from ..options import add_json

PATHS = ("out", "base", "data")
"""Fields of `Experiment` that are folders, not settings."""


def add_commands(commands: Any) -> None:
    ablate = commands.add_parser(
        "ablate",
        help="train and measure the rows of the paper's Table 5 on the tiny world",
        description="Trains what each row needs, once a seed, measures it on held-out requests with the exact checker, "
        "and writes table.md, plot.png, plot.svg and figures.json. Whatever is finished is kept; the same command goes "
        "on with the rest.",
    )
    ablate.add_argument("--out", type=Path, required=True, help="folder of trainings, rows and report")
    ablate.add_argument("--base", type=Path, required=True, help="the model that trainings start from")
    ablate.add_argument("--data", type=Path, required=True, help="folder of an export, with unfiltered_sft.jsonl")
    ablate.add_argument("--seeds", default="0,1,2", help="separated by commas")
    ablate.add_argument("--rows", help="only these, separated by semicolons")
    for field in fields(Experiment):
        if field.name not in PATHS:
            ablate.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    add_json(ablate)
    ablate.add_argument(
        "--known", type=Path, nargs="+", default=[], help="figures.json of other runs, whose seeds join the report"
    )
    add_config(ablate)
    ablate.add_argument("--resume", action="store_true", help="go on in a folder that holds trainings")
    ablate.add_argument("--dry-run", action="store_true", help="say what would be trained and measured")
    ablate.set_defaults(do=_ablate)


def _ablate(options: argparse.Namespace) -> None:
    rows = chosen(options.rows)
    seeds = _seeds(options.seeds)
    experiment = Experiment(**{f.name: getattr(options, f.name) for f in fields(Experiment)})
    trainings = trainings_for(rows)
    sft = sum(t.kind == "sft" for t in trainings)
    rl = len(trainings) - sft
    print(
        f"{len(seeds)} seeds: {sft} SFT trainings of {options.sft_steps} steps, {rl} GRPO trainings of "
        f"{options.grpo_steps} steps and {len(rows)} rows of {options.requests} requests for each; at most "
        f"{len(seeds) * rl * options.grpo_steps * options.grpo_states * options.group} generator calls in training; "
        f"about {len(seeds) * len(trainings) * 0.15:.1f} GB"
    )
    if options.dry_run:
        return
    experiment.check(rows)
    settings = {f.name: getattr(experiment, f.name) for f in fields(Experiment) if f.name not in PATHS}
    join({row.name: dict.fromkeys(seeds) for row in rows}, options.known, settings)  # before hours are spent
    if (options.out / "ablate.config.yaml").is_file() and not options.resume:
        raise ConfigError(f"{options.out} holds an ablation. Give --resume to go on with it, or another folder.")
    options.out.mkdir(parents=True, exist_ok=True)
    save_options(options, options.out / "ablate.config.yaml")
    found = join(experiment.run(rows, seeds), options.known, settings)
    summary = {**summarised(found), "settings": settings, "measured": kept(found)}
    text = json.dumps(summary, indent=2) + "\n"
    for path in (options.out / "figures.json", options.json):
        if path:
            path.write_text(text, encoding="utf-8")
    (options.out / "table.md").write_text(table(summary) + "\n", encoding="utf-8")
    for kind in ("png", "svg"):
        plot(summary, options.out / f"plot.{kind}")
    print(table(summary))


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(s) for s in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds is {text!r}; write numbers, separated by commas.") from None
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds is {text!r}; a seed is there twice.")
    return seeds
