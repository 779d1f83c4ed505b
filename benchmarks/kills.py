"""Kill ComfyUI again and again while two servers work at runs of the same names in one output folder.

    python benchmarks/kills.py [--kills 100] [--seed 1] [--json F]

Both servers share the output folder and an attempt store that holds a few pictures only. Each queues the same story
under the same run name; after a random time one of them, or both, get SIGKILL. Then they start again and go on, now and
then with a changed last step, which opens a branch. What is counted:

lost: attempts and judgments that a client was told of and that neither run folder nor store holds after the kill.
different: attempts of finished runs that are not those of an uninterrupted run, bit for bit, and files whose pixels are
    not those of their key.
most_in_store: pictures that the store held at a kill, at most.
made_again: pictures that were generated although the run's folder, or an ancestor's, held them when it was queued.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "tests" / "comfy")]

from comfy_server import Comfy, Ran  # noqa: E402
from comfy_test_graphs import loop, numbers  # noqa: E402

from interleave_thinker.errors import InterleaveError  # noqa: E402
from interleave_thinker.storage.images import is_image_of  # noqa: E402
from interleave_thinker.storage.run_folder import image_file, read_state, read_trajectory  # noqa: E402

STEPS = 10
SIZE = 96
LIMIT = 40_000
"""Bytes of the store, less than two pictures of 96 x 96 noisy pixels."""


def story(seed: int, name: str, last: int = 0) -> dict[str, Any]:
    """Two attempts a step; `last` changes the last step's prompt."""
    strengths = [s / 20 for s in range(1, STEPS)] + [0.9 - last / 100]
    return loop(numbers(*strengths), accept="b >= 2", size=SIZE, seed=seed, prompts_matter=True, run_name=name)


def outcome(trajectory: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The attempts without their times: the same in a killed run and in an uninterrupted one."""
    return [
        (a["step"], a["attempt"], a["prompt"], a["seed"], a["reference_key"], a["image_key"], json.dumps(a["judgment"]))
        for a in trajectory["attempts"]
    ]


def held(folder: Path) -> set[tuple[int, int, str, int]]:
    """Attempts of a run folder whose picture is there, with the right pixels."""
    attempts = read_trajectory(folder)
    return {(a.step, a.attempt, a.prompt, a.seed) for a in attempts if is_image_of(image_file(folder, a), a.image_key)}


def line(root: Path, name: str) -> list[Path]:
    """A run's folder and its ancestors'."""
    found: list[Path] = []
    while name and root / name not in found and (root / name).is_dir():
        found.append(root / name)
        name = str((read_state(root / name) or {}).get("parent") or "")
    return found


class Client:
    """Queues one story on one server in a thread. Records the events that the server sends."""

    def __init__(self, server: Comfy, graph: dict[str, Any], root: Path):
        self.server, self.graph, self.root = server, graph, root
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.run = ""
        self.before: set[tuple[int, int, str, int]] = set()
        self.ran: Ran | None = None
        self.known = {folder.name: held(folder) for folder in root.iterdir()} if root.is_dir() else {}
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self.ran = self.server.run(self.graph, self._hear)
        except (InterleaveError, OSError):
            pass  # killed
        except Exception as error:  # the connection broke in whatever way
            if type(error).__module__.split(".")[0] not in {"aiohttp", "urllib", "http", "json"}:
                raise

    def _hear(self, event: str, facts: dict[str, Any]) -> None:
        if event == "plan":
            self.run = str(facts["run"])
            family = [self.run, str(facts.get("parent") or "")]
            family += [f.name for f in line(self.root, family[1])]
            self.before = set().union(*(self.known.get(name, set()) for name in family))
        self.told.append((event, facts))

    def lost(self) -> int:
        """Attempts and judgments that were told and are in no file of the run."""
        kept = {(a.step, a.attempt): a for a in read_trajectory(self.root / self.run)} if self.run else {}
        count = 0
        for event, facts in self.told:
            if event == "attempt":
                name = Path(str(facts["file"])).name
                count += not (self.root / self.run / "attempts" / name).is_file()
            elif event == "judgment":
                attempt = kept.get((facts["step"], facts["attempt"]))
                said = attempt.judgment.to_dict() if attempt is not None and attempt.judgment is not None else None
                count += said != facts["judgment"] and not self._recallable(facts)
        return count

    def _recallable(self, facts: dict[str, Any]) -> bool:
        """The kill came between a judgment and its line in the folder: the store has it then."""
        records = (self.server.base / "user" / "interleave_thinker" / "store" / "judgments").glob("*.json")
        said = facts["judgment"]
        return any(json.loads(r.read_text()).get("judgment") == said for r in records)

    def made_again(self) -> int:
        made = [f for e, f in self.told if e == "attempt" and not f["recalled"]]
        return sum((f["step"], f["attempt"], f["prompt"], f["seed"]) in self.before for f in made)


def wrong_files(root: Path) -> int:
    """Pictures of the run folders that are not those of their records."""
    count = 0
    for folder in root.iterdir():
        for attempt in read_trajectory(folder):
            path = image_file(folder, attempt)
            count += path.is_file() and not is_image_of(path, attempt.image_key)
    return count


def measure(kills: int, seed: int, base: Path) -> dict[str, int]:
    dice = random.Random(seed)
    package = base / "custom_nodes" / "small_store"
    shutil.copytree(REPO / "benchmarks" / "small_store", package)
    (package / "limit").write_text(str(LIMIT))
    servers = [Comfy(base), Comfy(base)]
    root = base / "output" / "interleave"
    figures = {"kills": 0, "lost": 0, "different": 0, "made_again": 0, "finished": 0, "recalled": 0, "most_in_store": 0}
    number, last = 1, 0
    alone = Comfy(base / "alone")
    alone.base.mkdir()
    reference: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
    try:
        alone.start()
        for server in servers:
            server.start()
        while figures["kills"] < kills:
            graph = story(number, f"story {number}", last)
            if (number, last) not in reference:
                reference[number, last] = outcome(alone.run(graph).document["trajectory"])
            clients = [Client(server, graph, root) for server in servers]
            until = time.monotonic() + dice.uniform(0.2, 2.5)
            while time.monotonic() < until and any(c.thread.is_alive() for c in clients):
                time.sleep(0.02)
            victims = servers if dice.random() < 0.3 else [dice.choice(servers)]
            for server in victims:
                server.kill()
                figures["kills"] += 1
            finished = 0
            for client in clients:
                client.thread.join(120)
                figures["lost"] += client.lost()
                figures["made_again"] += client.made_again()
                figures["recalled"] += sum(1 for e, f in client.told if e == "attempt" and f["recalled"])
                if client.ran is not None:
                    finished += 1
                    figures["different"] += outcome(client.ran.document["trajectory"]) != reference[number, last]
            figures["different"] += wrong_files(root)
            stored = len(list((base / "user" / "interleave_thinker" / "store" / "images").glob("*.png")))
            figures["most_in_store"] = max(figures["most_in_store"], stored)
            figures["finished"] += finished
            for server in victims:
                server.start()
            if finished == 2 or dice.random() < 0.1:
                number, last = (number, last + 1) if last < 2 and dice.random() < 0.7 else (number + 1, 0)
            print(json.dumps(figures), flush=True)
    finally:
        for server in (alone, *servers):
            server.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the times and of who is killed")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.kills, options.seed, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if figures["lost"] or figures["different"] or figures["made_again"] else 0)


if __name__ == "__main__":
    main()
