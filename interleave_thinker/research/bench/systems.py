"""Systems under test: the whole loop, the loop with a part missing, or the generator alone.

    full        planner, generator, critic
    no-critic   planner and generator: the first attempt of each step goes on
    no-planner  the request as the only step, with the critic
    raw         the request as the prompt, one generator call

If the planner cannot write a plan, the item has failed: no other plan takes its place. All of them drive the product's
own `Session`. A ComfyUI workflow that has the loop in it is a system of its own (`WorkflowSystem`). The module knows
nothing of benchmarks' files or of judges.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image

from ...agents.base import Agent, Sampling
from ...comfyui.client import ComfyClient
from ...comfyui.workflow import prepare
from ...contract import MAX_STEPS
from ...driver import LoopModels, drive, start_run
from ...errors import GeneratorError
from ...files import hash_of, write_atomically
from ...generators.base import GenerationRequest, Generator
from ...loop.document import Document
from ...loop.plan import Plan, PlanStep
from ...loop.state import LoopSettings
from ...roles.planner import make_plan
from ...storage.attempt_store import AttemptStore
from ...storage.run_folder import RunFolder
from .base import BenchError, Item, Output, Step, open_image

Kind = Literal["full", "no-critic", "no-planner", "raw"]
KINDS: tuple[Kind, ...] = ("full", "no-critic", "no-planner", "raw")


class System(Protocol):
    @property
    def name(self) -> str:
        """Identifies it in records: kind, models and settings; no secrets, no paths."""
        ...

    def answer(self, item: Item, work: Path) -> Output:
        """The system's output for an item. work: folder of plans and attempts, from which it goes on after a crash.

        Raises:
            InterleaveError: it cannot; the message says why.
        """
        ...


@dataclass
class LoopSystem:
    """Any generator, with planner and critic where `kind` has them."""

    kind: Kind
    generator: Generator | None
    planner: Agent | None = None
    critic: Agent | None = None
    settings: LoopSettings = field(default_factory=LoopSettings)
    max_steps: int = MAX_STEPS
    size: tuple[int, int] | None = None
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.kind in ("full", "no-critic") and self.planner is None:
            raise BenchError(f"System {self.kind} needs --planner.")
        if self.kind in ("full", "no-planner") and self.critic is None:
            raise BenchError(f"System {self.kind} needs --critic.")

    @property
    def name(self) -> str:
        parts = [self.kind, self.generator.name if self.generator else "no generator"]
        if self.kind in ("full", "no-critic") and self.planner:
            parts.append(f"planner {self.planner.name}")
        if self.kind in ("full", "no-planner") and self.critic:
            parts.append(f"critic {self.critic.name}, T_max {self.settings.t_max}, {self.settings.on_exhausted}")
        size = f", {self.size[0]}x{self.size[1]}" if self.size else ""
        return "; ".join([*parts, f"at most {self.max_steps} steps, seed {self.settings.seed}{size}"])

    def answer(self, item: Item, work: Path) -> Output:
        begun = time.monotonic()
        if item.mode == "text" and self.kind in ("raw", "no-planner"):
            return Output(())  # a generator writes no text
        images = [open_image(p) for p in item.images]
        plan = self._plan(item, images, work)
        critic = self.critic if self.kind in ("full", "no-planner") else None
        loop = LoopModels(self.generator or _NoGenerator(), critic, self.sampling, self.size)
        folder = RunFolder(work / "runs", run_name(item))
        session = drive(start_run(plan, loop, self.settings, AttemptStore(work / "store"), folder, images), loop)
        return output_of(session.document(), session.image, time.monotonic() - begun)

    def _plan(self, item: Item, images: list[Image.Image], work: Path) -> Plan:
        """The item's plan, read from its file if there is one, so that no planner call is repeated."""
        request = item.request.replace("<image>", "").strip()
        if self.kind in ("raw", "no-planner"):
            return Plan((PlanStep(1, "", None, request),), request=request)
        assert self.planner is not None
        image_keys = [hash_of("picture", i.size, i.tobytes().hex()) for i in images]
        key = hash_of("plan", self.planner.name, item.request, image_keys, self.max_steps, str(self.sampling))
        path = work / "plans" / f"{key}.json"
        if path.is_file():
            return Plan.from_dict(json.loads(path.read_text(encoding="utf-8")))
        plan = make_plan(self.planner, item.request, images, max_steps=self.max_steps, sampling=self.sampling).plan
        write_atomically(path, json.dumps(plan.to_dict(), ensure_ascii=False).encode("utf-8", "surrogatepass"))
        return plan


class _NoGenerator:
    name = "none"

    def generate(self, request: GenerationRequest) -> Image.Image:
        raise GeneratorError("This plan makes pictures; give a generator (--generator).")


@dataclass
class WorkflowSystem:
    """A ComfyUI workflow (API format) with Planner, loop and Save Document in it, queued on a server."""

    client: ComfyClient
    workflow: dict[str, object]
    seed: int = 0
    t_max: int | None = None

    @property
    def name(self) -> str:
        return f"workflow {hash_of('workflow', self.workflow)[:12]}; seed {self.seed}; T_max {self.t_max or 'its own'}"

    def answer(self, item: Item, work: Path) -> Output:
        begun = time.monotonic()
        names = [self.client.upload(p) for p in item.images]
        prompt = prepare(self.workflow, request=item.request, images=names, seed=self.seed, t_max=self.t_max)
        outputs = self.client.run(prompt)
        for output in outputs.values():
            for saved in output.get("interleave_document", []):
                document = Document.from_dict(saved["document"])
                files = dict(zip((i.image_key for i in document.images), output["images"], strict=False))
                images = {key: self._fetch(file) for key, file in files.items()}
                return output_of(document, images.__getitem__, time.monotonic() - begun)
        raise BenchError("The workflow saved no document; add Interleave Save Document after Loop Close.")

    def _fetch(self, file: dict[str, str]) -> Image.Image:
        with Image.open(io.BytesIO(self.client.fetch(file))) as opened:
            image: Image.Image = opened.convert("RGB")
            return image


def output_of(document: Document, image: Callable[[str], Image.Image], seconds: float) -> Output:
    """A document's steps in order: text and picture of each."""
    texts = {i.step: i.text for i in document.items if i.kind == "text"}
    images = {i.step: image(i.image_key) for i in document.images}
    numbers = sorted(texts.keys() | images.keys())
    steps = tuple(Step(texts.get(n, ""), images.get(n)) for n in numbers)
    return Output(steps, len(document.trajectory.attempts), seconds)


def run_name(item: Item) -> str:
    return f"{''.join(c if c.isalnum() else '-' for c in item.id)[:60]}-{hash_of('item', item.id)[:8]}"


def most_calls(kind: str, item: Item, t_max: int, max_steps: int) -> int:
    """The most generator calls that a system of this kind can need for an item."""
    if item.mode == "text":
        return 0
    steps = 1 if kind in ("raw", "no-planner") else max_steps
    return steps * (t_max if kind in ("full", "no-planner", "workflow") else 1)
