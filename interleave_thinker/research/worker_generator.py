"""A worker's generator: where the worker has a ComfyUI server, the generator is that ComfyUI."""

from __future__ import annotations

from dataclasses import replace

from ..comfyui.client import ComfyClient
from ..resolve import GeneratorChoice
from .worker_pool import WorkerLost, WorkerSpec


def generator_of(worker: WorkerSpec | None, choice: GeneratorChoice) -> GeneratorChoice:
    """The choice with the worker's server, if it has one."""
    return replace(choice, server=worker.server) if worker and worker.server else choice


def check_server(worker: WorkerSpec | None) -> None:
    """Called after an error of the generator.

    Raises:
        WorkerLost: the worker has a server, which does not answer any more.
    """
    if worker and worker.server and not ComfyClient(worker.server).answers():
        raise WorkerLost(f"{worker.server} does not answer") from None
