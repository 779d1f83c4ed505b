"""Options of the commands whose generator calls can be spread over servers, GPUs or CPU workers with Ray."""

from __future__ import annotations

import argparse

from ...errors import ConfigError
from ...research.worker_pool import WorkerSpec


def add_ray_options(parser: argparse.ArgumentParser, gpu_users: str) -> None:
    """gpu_users: who gets a GPU of their own."""
    parser.add_argument("--gpus", type=int, default=0, help=f"with --ray: {gpu_users} with a GPU of their own")
    parser.add_argument("--ray", action="store_true", help="spread over the servers, GPUs or CPU workers with Ray")


def ray_workers(options: argparse.Namespace) -> list[WorkerSpec]:
    """One worker for each server and each GPU, or `--workers` of them on the CPU; none without `--ray`.

    Raises:
        ConfigError: without --ray there are several servers, or GPUs.
    """
    if not options.ray:
        if len(options.server) > 1 or options.gpus:
            raise ConfigError("Several servers or GPUs are spread over with --ray.")
        return []
    specs = [WorkerSpec(server=s) for s in options.server] + [WorkerSpec(gpu=True)] * options.gpus
    return specs or [WorkerSpec()] * options.workers
