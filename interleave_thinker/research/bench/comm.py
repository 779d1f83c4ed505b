"""CoMM: interleaved documents from pictures, texts, a beginning, or a title (tasks 1 to 4).

Facts: HKUST-LongGroup/CoMM @ 0da05d4; InterleaveThinker's tables use tasks 3 and 4. Marks are 0 to 10.
Task 1 takes one judge call, the others three: the whole document; what its pictures should show, from the
texts alone; and how far the pictures show it ("text fidelity to images", IRS).

Upstream lets failed samples drop out of the mean, counts "NA" as 0, and shows task 2's pictures in the call
that should not see them. Here failures are counted, "NA" is no mark, and the pictures are hidden.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from os.path import isfile
from pathlib import Path
from typing import Any

from PIL import Image

from ...agents.base import Part, Sampling
from ...files import is_below, write_atomically
from .base import (
    Ask,
    BenchError,
    Benchmark,
    Item,
    Output,
    Step,
    answer_object,
    dump,
    number_in,
    open_image,
    plain_name,
    read_json,
)
from .metric import Metric

SCORE_FILES = ("evaluation_results.json", "completeness_and_text_fidelity.json")
"""Of a sample; the second is task 1's."""
MAX_IMAGES = 10
EDGE = 512
JUDGE = Sampling(max_tokens=2048, temperature=1.0, max_pixels=EDGE * EDGE)
COHERENCE = ("style_consistency", "entity_consistency", "trend_consistency", "overall_consistency")
COLUMNS = {
    "style_consistency": "Sty",
    "entity_consistency": "Enti",
    "trend_consistency": "Tren",
    "completeness": "Comp",
    "image quality": "ImgQ",
    "text fidelity to images": "IRS",
}
"""Metric -> column of InterleaveThinker's Table 2."""
TABLE_COLUMNS = frozenset(
    ("style", "entity", "trend", "completeness", "image_quality", "irs", "sty", "enti", "tren", "comp", "imgq")
)
"""Names of those six columns in published tables."""
_KEYS = {
    "completeness": "completeness",
    "Completeness": "completeness",
    "Image_Quality": "image quality",
    "image quality": "image quality",
    "text fidelity to images": "text fidelity to images",
    "Text Fidelity to Image": "text fidelity to images",
}
_STEP = re.compile(r"\(\d+\)\s")
_TOKEN = "<IMAGE>"

_DOCUMENT = """You judge a document of texts and pictures. INPUT is what its author was given, OUTPUT what the author
wrote. Mark each of these from 0 to 10 (0-3 serious faults, 4-7 small ones, 8-10 good):
- style_consistency: do the output's pictures share one style?
- entity_consistency: do people and things stay the same from picture to picture?
- trend_consistency: do the pictures follow the course of the text?
- overall_consistency: taken together?
- completeness: does the output do all that the input asks for, to its end?
- image_quality: how clear and well made are the pictures?
Reply with one JSON object and nothing else:
{"style_consistency": n, "entity_consistency": n, "trend_consistency": n, "overall_consistency": n, "completeness": n,
"image_quality": n, "reason": "one sentence"}"""
_DESCRIBE = """The pictures of this document were taken out; <picture k> stands where picture k was. From the text
alone, say what each picture of the OUTPUT should show. Reply with one JSON object and nothing else:
{"pictures": ["what picture 1 should show", "what picture 2 should show", ...]}"""
_FIDELITY = """Each picture stands after a description of what it should show. Mark from 0 to 10 how far the pictures
show what they should, all together; a description without a picture, or a picture without a description, counts as 0.
Reply with one JSON object and nothing else: {"overall_score": n, "reason": "one sentence"}"""
_TEXTS = """Pictures were given, and each was to be put into words. Two marks from 0 to 10:
- completeness: is there a text for every picture, and do the texts tell the whole?
- fidelity: does each text say what its picture shows?
Reply with one JSON object and nothing else: {"completeness": n, "fidelity": n, "reason": "one sentence"}"""


class CoMM(Benchmark):
    """`data`: a split as .pth (loaded with weights only) or .json; `images`: the folder of its picture paths."""

    name = "comm"
    where = "https://huggingface.co/datasets/weisuxi/CoMM (test_data.pth; pictures by its datasets/download_images.py)"

    def __init__(self, data: Path | None = None, images: Path | None = None, tasks: Sequence[int] = (3, 4)):
        bad = [t for t in tasks if t not in (1, 2, 3, 4)]
        if bad:
            raise BenchError(f"CoMM has tasks 1 to 4, not {bad[0]}.")
        self.data, self.images, self.tasks = data, images, tuple(tasks)
        self.left_out = ""

    def items(self) -> list[Item]:
        if self.data is None:
            raise BenchError(f"CoMM needs its data: --data FILE, from {self.where}.")
        folder = self.images or self.data.parent
        items = []
        rows = _documents(self.data)
        for row in rows:
            for task in self.tasks:
                item = _item(row, task, folder)
                if item is not None:
                    items.append(item)
        left_out = len(rows) * len(self.tasks) - len(items)
        self.left_out = f"{left_out} of {len(rows) * len(self.tasks)} (document, task) pairs cannot be used: no title, "
        self.left_out += f"fewer than two steps, {MAX_IMAGES} pictures or more given, or pictures missing in {folder}"
        if not items:
            raise BenchError(f"{self.data}: {self.left_out}.")
        if not left_out:
            self.left_out = ""
        return items

    def census(self, items: Sequence[Item]) -> str:
        return self.left_out

    def judge_calls(self, item: Item) -> int:
        return 1 if item.group == "task1" else 3

    def save(self, outputs: Path, item: Item, output: Output) -> None:
        """results.json and pictures, numbered on after the given ones."""
        folder = outputs / item.id
        (folder / "origin").mkdir(parents=True, exist_ok=True)
        given = [f"input_{n}.jpg" for n in range(1, len(item.images) + 1)]
        for name, path in zip(given, item.images, strict=True):
            open_image(path).save(folder / "origin" / name)
        first = item.record.get("first_step", 1)
        text, names = "", list[str]()
        for number, step in enumerate(output.steps, first):
            text += f"({number}) {clean(step.text)} "
            if step.image is not None and len(given) + len(names) < MAX_IMAGES:
                names.append(f"predict_{len(given) + len(names) + 1}.jpg")
                step.image.convert("RGB").save(folder / names[-1], quality=95)
                text += f"{_TOKEN} "
        truth = [p for p in item.record.get("truth", []) if isfile(p)]
        kept = [f"output_gt_{len(given) + n}.jpg" for n in range(1, len(truth) + 1)]
        for name, path in zip(kept, truth, strict=True):
            open_image(Path(path)).save(folder / "origin" / name)
        results = {
            "model_input": item.record["model_input"],
            "model_output": text.strip(),
            "input_image_list": given,
            "output_gt_image_list": kept,
            "prediction_image_list": names,
        }
        write_atomically(folder / "results.json", dump(results))

    def has_output(self, outputs: Path, item: Item) -> bool:
        return (outputs / item.id / "results.json").is_file()

    def judge(self, outputs: Path, item: Item, ask: Ask) -> dict[str, Any]:
        if not self.has_output(outputs, item):
            return {}
        folder = outputs / item.id
        results = _results(folder / "results.json")
        given = _steps(str(results["model_input"]), _load(folder / "origin", results["input_image_list"]))
        made = _steps(str(results["model_output"]), _load(folder, results["prediction_image_list"]))
        if item.group == "task1":
            return _judge_texts(ask, given, made)
        if item.group == "task2":
            made = _texts_with_images(given, made)
        marks = ask(
            "document", [_DOCUMENT, "INPUT:", *_shown(given), "OUTPUT:", *_shown(made)], _document_marks, sampling=JUDGE
        )
        hidden = ["INPUT:", *_shown(given), "OUTPUT:", *_shown(made, hide=True)]
        count = sum(s.image is not None for s in made)
        described = ask("descriptions", [_DESCRIBE, *hidden], _descriptions, sampling=JUDGE)
        fidelity = None
        if described is not None:
            parts: list[Part] = [_FIDELITY]
            images = [s.image for s in made if s.image is not None]
            for number in range(max(count, len(described))):
                text = described[number] if number < len(described) else "(no description)"
                parts.append(f"Description {number + 1}: {text}")
                parts.append(images[number] if number < count else "(no picture)")
            fidelity = ask("fidelity", parts, _overall, sampling=JUDGE)
        return _record(item.group, marks, fidelity)

    def write_scores(self, folder: Path, verdicts: Mapping[str, dict[str, Any]], items: Sequence[Item]) -> Path:
        """evaluation_results.json in a folder a sample, as upstream; a sample with a failed mark keeps the others.

        Files of items that are not judged now go: they would be counted. The replies stay in the judge's log.
        """
        here = {item.id for item in items}
        for sample in _sample_folders(folder):
            if sample.parent == folder and sample.name not in here:
                for name in SCORE_FILES:
                    (sample / name).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # something else lies in it
                    sample.rmdir()
        for item in items:
            (folder / item.id).mkdir(parents=True, exist_ok=True)
            name = SCORE_FILES[item.group == "task1"]
            write_atomically(folder / item.id / name, dump(verdicts.get(item.id, {})))
        return folder

    def aggregate(self, paths: Sequence[Path]) -> list[Metric]:
        """From folders of sample folders; one set of metrics a task."""
        samples: dict[str, Path] = {}
        for folder in (f for path in paths for f in _sample_folders(path)):
            if samples.setdefault(folder.name, folder) != folder:
                raise BenchError(
                    f"{folder.name} is in {samples[folder.name]} and in {folder}; give one system's folder."
                )
        wanted = {i.id for i in self.items() if self.counts(i.id)} if self.data is not None else set()
        metrics: list[Metric] = []
        for task in ("task1", "task2", "task3", "task4"):
            mine = {n: _sample(f) for n, f in samples.items() if n.endswith(f"_{task}")}
            lacking = dict.fromkeys(sorted(n for n in wanted if n.endswith(f"_{task}") and n not in mine))
            if mine:
                mine |= lacking
                metrics += _metrics(task, mine)
        if not metrics:
            raise BenchError(f"{paths[0]} has no sample folders such as ID_task3 with judged results.")
        return metrics


def clean(text: str) -> str:
    """A step's text in the output's own form: without the marks that mean something there."""
    return re.sub(r"\s+", " ", re.sub(r"[\[\]<]|\(\d+\)\s", "", text)).strip()


def read_marks(results: Mapping[str, Any]) -> dict[str, float]:
    """The marks of one evaluation_results.json that are numbers from 0 to 10; the others are not there."""
    found: dict[str, float | None] = {}
    for key, value in results.items():
        if not isinstance(value, Mapping):
            continue
        if key == "coherence_score":
            found |= {name: number_in(value.get(name), 0, 10) for name in COHERENCE}
        elif key in _KEYS:
            found[_KEYS[key]] = number_in(value.get("Score", value.get("overall_score")), 0, 10)
    return {k: v for k, v in found.items() if v is not None}


def _metrics(task: str, samples: Mapping[str, Mapping[str, Any] | None]) -> list[Metric]:
    names = ["completeness", "text fidelity to images"]
    if task != "task1":
        names = [*COHERENCE, *(["completeness"] if task != "task2" else []), "image quality", "text fidelity to images"]
    marks = {n: read_marks(r or {}) for n, r in samples.items()}
    metrics = []
    for name in names:
        column = f" ({COLUMNS[name]})" if name in COLUMNS and task in ("task3", "task4") else ""
        values = {n: m[name] for n, m in marks.items() if name in m}
        metrics.append(Metric(f"{task} {name}{column}", values, len(samples)))
    return metrics


def _sample_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise BenchError(f"{path} is no folder of CoMM results.")
    folders = [path, *sorted(p for p in path.rglob("*") if p.is_dir())]
    return [f for f in folders if re.search(r"_task[1-4]$", f.name)]


def _sample(folder: Path) -> dict[str, Any] | None:
    for name in SCORE_FILES:
        path = folder / name
        if path.is_file():
            try:
                found = read_json(path)
            except BenchError:
                return None
            return dict(found) if isinstance(found, Mapping) else None
    return None


def _results(path: Path) -> dict[str, Any]:
    found = read_json(path)
    texts, lists = ("model_input", "model_output"), ("input_image_list", "prediction_image_list")
    whole = isinstance(found, Mapping) and all(isinstance(found.get(n), str) for n in texts)
    if not whole or not all(isinstance(found.get(n), list) for n in lists):
        raise BenchError(f"{path} lacks one of {', '.join((*texts, *lists))}.")
    return dict(found)


def _record(task: str, marks: Mapping[str, float] | None, fidelity: float | None) -> dict[str, Any]:
    record: dict[str, Any] = {"coherence_score": {n: marks[n] if marks else None for n in COHERENCE}}
    if task != "task2":
        record["completeness"] = {"Score": marks["completeness"] if marks else None}
    record["Image_Quality"] = {"Score": marks["image_quality"] if marks else None}
    record["text fidelity to images"] = {"Score": fidelity}
    return record


def _judge_texts(ask: Ask, given: Sequence[Step], made: Sequence[Step]) -> dict[str, Any]:
    parts: list[Part] = [_TEXTS]
    for number in range(max(len(given), len(made))):
        image = given[number].image if number < len(given) else None
        parts.append(image if image is not None else "(no picture)")
        parts.append(f"Text {number + 1}: {(made[number].text if number < len(made) else '') or '(none)'}")
    marks = ask("texts", parts, lambda raw: _marks(raw, ("completeness", "fidelity")), sampling=JUDGE)
    return {
        "Completeness": {"Score": marks["completeness"] if marks else None},
        "Text Fidelity to Image": {"overall_score": marks["fidelity"] if marks else None},
    }


def _document_marks(raw: str) -> dict[str, float] | None:
    return _marks(raw, (*COHERENCE, "completeness", "image_quality"))


def _marks(raw: str, names: Sequence[str]) -> dict[str, float] | None:
    answer = answer_object(raw)
    found = {n: number_in(answer.get(n), 0, 10) for n in names}
    return {n: v for n, v in found.items() if v is not None} if None not in found.values() else None


def _overall(raw: str) -> float | None:
    return number_in(answer_object(raw).get("overall_score"), 0, 10)


def _descriptions(raw: str) -> list[str] | None:
    found = answer_object(raw).get("pictures")
    if not isinstance(found, list) or not all(isinstance(t, str) for t in found):
        return None
    return [t[:2000] for t in found[:MAX_IMAGES]]


def _shown(steps: Sequence[Step], hide: bool = False) -> list[Part]:
    parts: list[Part] = []
    images = 0
    for number, step in enumerate(steps, 1):
        parts.append(f"({number}) {step.text}")
        if step.image is not None:
            images += 1
            parts.append(f"<picture {images}>" if hide else step.image)
    return parts


def _texts_with_images(given: Sequence[Step], made: Sequence[Step]) -> list[Step]:
    """Task 2: the texts are the input's, the pictures the output's."""
    images = [s.image for s in made if s.image is not None]
    return [Step(s.text, images[n] if n < len(images) else None) for n, s in enumerate(given)]


def _steps(text: str, images: Sequence[Image.Image]) -> list[Step]:
    """`(1) text <IMAGE> (2) ...` -> steps; each token takes the next picture."""
    left = list(images)
    pieces = _STEP.split(text)
    steps = []
    for number, piece in enumerate(pieces):
        tokens = piece.count(_TOKEN)
        words = re.sub(r"\s+", " ", piece.replace(_TOKEN, " ")).strip()
        if number == 0 and len(pieces) > 1 and not tokens and not words:
            continue
        taken = [left.pop(0) for _ in range(min(tokens, len(left)))]
        steps.append(Step(words, taken[0] if taken else None))
        steps += [Step("", image) for image in taken[1:]]
    return steps


def _load(folder: Path, names: Sequence[object]) -> list[Image.Image]:
    found = []
    for name in names:
        image = open_image(folder / plain_name(name, "picture"))
        image.thumbnail((EDGE, EDGE))
        found.append(image)
    return found


def _documents(path: Path) -> list[Mapping[str, Any]]:
    if path.suffix in (".pth", ".pt"):
        import torch

        try:
            rows: Any = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch names many reasons, all of which mean: not this file
            text = " ".join(str(error).split())[:200]
            raise BenchError(f"{path} cannot be loaded as plain data (weights only): {text}") from None
    else:
        rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) and "data_id" in r for r in rows) or not rows:
        raise BenchError(f"{path} must hold a list of documents with data_id and step_info.")
    return rows


def _item(row: Mapping[str, Any], task: int, folder: Path) -> Item | None:
    """The document as an item of this task, or None if the task cannot use it."""
    name = f"{plain_name(row['data_id'], 'data_id')}_task{task}"
    title = str(row.get("title") or "").strip()
    listed = row.get("step_info")
    steps = [_content(s, folder) for s in listed] if isinstance(listed, list) else []
    steps = [s for s in steps if s[0] or s[1]]
    images = [p for _, ps in steps for p in ps]
    about = f" about {title}" if title else ""
    record: dict[str, Any] = {"truth": [str(p) for p in images]}
    if task == 4:
        if not title:
            return None
        return Item(name, "task4", title, record=record | {"model_input": title})
    if len(steps) < 2 or not images:
        return None
    if task == 3:
        known = steps[: len(steps) // 2]
        shown = [p for _, ps in known for p in ps]
        if len(shown) >= MAX_IMAGES:
            return None
        body = "".join(f"({n}) {clean(t)} {_TOKEN * len(ps)}" for n, (t, ps) in enumerate(known, 1))
        start = f"Here are step-by-step instructions with images{about}: "
        end = " According to the above steps, can you generate the rest steps?"
        record |= {"first_step": len(known) + 1, "truth": [str(p) for _, ps in steps[len(known) :] for p in ps]}
    elif task == 2:
        shown = []
        body = "".join(f"({n}) {clean(t)} " for n, (t, _) in enumerate(steps, 1))
        start, end = f"Here are step-by-step instructions{about}: ", "Can you generate an image for each step?"
    else:
        shown = [ps[0] for _, ps in steps if ps][:MAX_IMAGES]
        body = "".join(f"({n}) {_TOKEN} " for n in range(1, len(shown) + 1))
        start = f"Here are step-by-step instructions images sequence{about}: "
        end = "According to the above images, can you generate text for each step?"
    record["model_input"] = f"{start}{body}{end}"
    if not all(isfile(p) for p in shown):
        return None
    request = record["model_input"].replace(_TOKEN, "<image>")
    return Item(name, f"task{task}", request, tuple(shown), record, "text" if task == 1 else "document")


def _content(step: object, folder: Path) -> tuple[str, list[Path]]:
    texts, images = [], []
    for part in step if isinstance(step, Sequence) and not isinstance(step, str) else []:
        if not isinstance(part, Mapping):
            continue
        if part.get("type") == "text":
            texts.append(str(part.get("content") or ""))
        elif part.get("type") == "image":
            path = folder / str(part.get("image_path") or part.get("content") or "")
            if is_below(folder, path):
                images.append(path)
    return " ".join(texts).strip(), images
