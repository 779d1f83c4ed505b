"""An agent in this process: a Hugging Face folder with a model that sees and writes, through transformers.

Any size, sharded or not, with an optional adapter: a LoRA folder (peft), or a file as ComfyUI reads one
(`adapter_file`). transformers is imported when a model is loaded and not before. Nothing is ever downloaded.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

from ..errors import AgentError
from ..files import files_state
from .adapter_file import SUFFIXES, read_adapter
from .adapter_folder import base_of, load_weights, weight_files
from .base import Completion, Message, OnText, Sampling, TextStream, chat_content, check_logits, shrink
from .cached_decoder import CachedDecoder, can_decode
from .decoding import decode
from .drafts import MOST_REPLIES, Drafts, KnownTexts
from .kept_pictures import KeptPatches
from .model_adapter import ModelAdapter
from .reply_form import FormSteering, Vocabulary
from .token_text import TokenText

if TYPE_CHECKING:
    import torch

PATCH_BYTES = 256 * 2**20
"""Of the patches of pictures that are kept. One of a megapixel takes 25 MB."""
MODEL_TYPES = ("qwen3_vl",)
"""What can be trained. As an agent any model goes that transformers knows to see and write."""
_OPENED = re.compile(r"(?:<think(?:ing)?>|\[THINK\])\s*\Z", re.I)
_CLOSED = re.compile(
    r"(?:(?:<think(?:ing)?>|\[THINK\]|<\|channel>thought)\s*)?(?:</think(?:ing)?>|\[/THINK\]|<channel\|>)\s*\Z", re.I
)
"""A thought at the end of a prompt: left open, or closed for a model that is asked not to think."""


@dataclass
class TransformersAgent:
    """`model` and `processor` are ready to use; `on_device` is called before each reply and says where.

    name: folder name and adapter, for records and cache keys.
    """

    model: Any
    processor: Any
    name: str
    prompts: str | None = None
    on_device: Callable[[], torch.device] | None = None
    check: Callable[[], None] | None = field(default=None, repr=False)
    base: SharedBase | None = field(default=None, repr=False)
    adapter: str | ModelAdapter | None = None
    state: str = ""
    """Of the folders' files (`files.files_state`)."""
    shifts_verdicts: ClassVar[bool] = True

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        import torch

        device = self.on_device() if self.on_device else next(self.model.parameters()).device
        inputs, thought = self._inputs(messages, sampling)
        inputs = inputs.to(device)
        opened = _part_of_reply(thought)
        stream = TextStream(on_text)
        if opened:
            stream.push(opened, tokens=0)
        stops = _stop_ids(self.model, self.processor)
        steering = None
        if sampling.form is not None:
            steering = FormSteering(
                sampling.form,
                self._vocabulary,
                forced=sampling.keep_form,
                strictness=sampling.strictness,
                stops=stops,
                opened=thought if opened or not sampling.form.thought else "",
            )
        with self._as_role(), torch.inference_mode():
            if can_decode(self.model):
                return decode(
                    CachedDecoder(self.model, inputs, stops),
                    sampling,
                    stream,
                    self._text,
                    name=self.name,
                    steering=steering,
                    drafts=self._drafts(messages, sampling),
                    check=self.check or (lambda: None),
                )
            return self._generate(inputs, sampling, stream, stops, steering)

    def _generate(
        self, inputs: Any, sampling: Sampling, stream: TextStream, stops: set[int], steering: FormSteering | None
    ) -> Completion:
        """By transformers' own loop, which knows any model."""
        import torch

        watcher = _Watcher(self._text, stops, stream, self.check)
        options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if sampling.temperature > 0:
            torch.manual_seed(sampling.seed % 2**63)
            options = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
            }
        options["logits_processor"] = [self._checked]
        if steering is not None:
            options["logits_processor"] += [_Steered(steering, inputs["input_ids"].shape[1])]
        self.model.generate(
            **inputs,
            **options,
            max_new_tokens=sampling.max_tokens,
            streamer=watcher,
            stopping_criteria=[watcher.stopping],
        )
        return stream.completion(
            cut_off=watcher.count >= sampling.max_tokens and not watcher.ended,
            log_odds=steering.log_odds if steering is not None else None,
        )

    @cached_property
    def _patches(self) -> KeptPatches:
        return KeptPatches(PATCH_BYTES)

    def _drafts(self, messages: Sequence[Message], sampling: Sampling) -> Drafts:
        """What the reply may repeat: earlier replies, then the question itself."""
        question = "".join(text for message in messages for text in message.texts)
        return Drafts(self._known_texts([*sampling.earlier[:MOST_REPLIES], question]))

    @cached_property
    def _marks(self) -> re.Pattern[str] | None:
        return special_marks(self.processor.tokenizer)

    @cached_property
    def _known_texts(self) -> KnownTexts:
        words, marks = self.processor.tokenizer, self._marks  # not self: an agent that is not used any more is freed
        return KnownTexts(lambda text: words(without_marks(text, marks), add_special_tokens=False)["input_ids"])

    def _text(self, ids: Sequence[int]) -> str:
        decoded: str = self.processor.tokenizer.decode(list(ids), skip_special_tokens=False)
        return decoded

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        words = self.processor.tokenizer
        return Vocabulary(lambda text: words(text, add_special_tokens=False)["input_ids"], self._text)

    def log_probability(
        self, messages: Sequence[Message], reply: str, sampling: Sampling, *, ended: bool
    ) -> tuple[float, int]:
        """How likely the model thinks a reply of anyone's, at temperature 1: (sum of natural logarithms, tokens).

        ended: the end of the reply is one of its tokens.
        """
        import torch

        device = self.on_device() if self.on_device else next(self.model.parameters()).device
        inputs, thought = self._inputs(messages, sampling)
        opened = _part_of_reply(thought)
        tokenizer = self.processor.tokenizer
        wanted = tokenizer(reply.removeprefix(opened), add_special_tokens=False, return_tensors="pt").input_ids.long()
        if ended:
            wanted = torch.cat([wanted, torch.tensor([[tokenizer.eos_token_id]])], 1)
        count, asked = wanted.shape[1], inputs["input_ids"].shape
        if not count:
            return 0.0, 0
        for name, values in list(inputs.items()):
            if values.shape == asked:  # a value for each token
                more = {"input_ids": wanted, "attention_mask": torch.ones_like(wanted)}.get(name)
                more = torch.zeros_like(wanted) if more is None else more
                inputs[name] = torch.cat([values, more.to(values.dtype)], 1)
        with self._as_role(), torch.inference_mode():
            made = self.model(**inputs.to(device), use_cache=False, logits_to_keep=count + 1)
            logits = made.logits[0, -count - 1 : -1].float()
            found = logits.log_softmax(-1).gather(-1, wanted[0, :, None].to(logits.device))
        return float(found.double().sum()), count

    def _checked(self, _: Any, scores: Any) -> Any:
        """A logits processor that changes nothing."""
        check_logits(scores, self.name)
        return scores

    @contextmanager
    def _as_role(self) -> Iterator[None]:
        """While this lasts the shared base, if there is one, works with this agent's adapter, or with none."""
        if self.base is None:
            yield
            return
        with self.base.lock, self.base.using(self.adapter):
            yield

    def _inputs(self, messages: Sequence[Message], sampling: Sampling) -> tuple[Any, str]:
        """What the model is given, and the thought, open or closed, that its chat template ends with."""
        turns, images = [], []
        for message in messages:
            parts = [without_marks(part, self._marks) if isinstance(part, str) else part for part in message.parts]
            content, seen = chat_content(parts)
            images += [shrink(image.convert("RGB"), sampling.max_pixels) for image in seen]
            turns.append({"role": message.role, "content": content})
        if not turns:
            raise AgentError(f"{self.name} was asked nothing.")
        text = _chat_text(self.processor, turns)
        thought = _OPENED.search(text) or _CLOSED.search(text)
        try:
            with self._patches.used_by(self.processor) if can_decode(self.model) else nullcontext():
                inputs = self.processor(text=[text], images=images or None, return_tensors="pt")
        except ValueError as error:  # of a picture that is a line, for one
            sizes = ", ".join(f"{image.width}x{image.height}" for image in images) or "no picture"
            raise AgentError(f"{self.name} cannot read this question ({sizes}): {_short(error)}") from error
        return inputs, thought.group() if thought else ""


def special_marks(tokenizer: Any) -> re.Pattern[str] | None:
    """A pattern of the tokenizer's special tokens, such as `<|im_end|>`; None where it has none."""
    marks = {str(mark) for mark in getattr(tokenizer, "added_tokens_decoder", {}).values() if mark.special}
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True)))) if marks else None


def without_marks(text: str, marks: re.Pattern[str] | None) -> str:
    """Text that stays text: a mark in it, which a user or a model wrote, is no picture and no end of a turn."""
    return text if marks is None else marks.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


class SharedBase:
    """One set of weights for several agents: each has an adapter of its own, or none. Freed with the last of them."""

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor
        self.adapted: Any = None
        self.adapters: dict[tuple[Path, int], str] = {}
        self.beside: WeakValueDictionary[tuple[Path, int], ModelAdapter] = WeakValueDictionary()
        """Adapter files; each is freed with the last agent that has it."""
        self._named = itertools.count()
        self.patcher: Any = None
        """Whoever moves the model between devices may keep its means here, so that it is moved once."""
        self.lock = threading.RLock()

    def add(self, adapter: Path) -> str | ModelAdapter:
        """Put an adapter beside those that are there. Returns what `using` takes.

        adapter: a LoRA folder, or an adapter file.

        Raises:
            AgentError: it is no adapter, or one of another model, or peft is missing for a folder.
        """
        return self._add_file(adapter) if adapter.suffix in SUFFIXES else self._add_folder(adapter)

    def _add_file(self, file: Path) -> ModelAdapter:
        try:
            place = (file.resolve(), file.stat().st_mtime_ns)
        except OSError:
            raise AgentError(f"There is no adapter file {file.name}.") from None
        with self.lock:
            added = self.beside.get(place)
            if added is None:
                added = ModelAdapter(read_adapter(file), self.model, f"beside{next(self._named)}")
                self.beside[place] = added
        return added

    def _add_folder(self, folder: Path) -> str:
        config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
        if not config.is_file():
            raise AgentError(f"{folder.name} has no adapter_config.json; it is not a LoRA adapter folder.")
        if not weights.is_file():
            raise AgentError(f"{folder.name} has no adapter_model.safetensors; save the adapter again with peft.")
        place = (folder.resolve(), weights.stat().st_mtime_ns)
        if place in self.adapters:
            return self.adapters[place]
        try:
            from peft import PeftModel
        except ImportError as error:
            raise AgentError("A LoRA adapter needs peft: pip install peft.") from error
        self._check_fit(folder, weights)
        name = f"role{len(self.adapters)}"
        try:
            with self.lock:
                if self.adapted is None:
                    self.adapted = PeftModel.from_pretrained(self.model, folder, adapter_name=name).eval()
                else:
                    self.adapted.load_adapter(folder, adapter_name=name)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise AgentError(f"Adapter {folder.name} does not fit this model: {_short(error)}") from error
        self.adapters[place] = name
        return name

    def _check_fit(self, folder: Path, weights: Path) -> None:
        """Before anything is put into the weights that others work with: each layer is there, and of that width."""
        from safetensors import SafetensorError, safe_open

        layers = {n.replace(".base_layer", ""): m for n, m in self.model.named_modules()}
        try:
            with safe_open(weights, "pt") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        except (OSError, SafetensorError) as error:
            raise AgentError(f"Adapter {folder.name} cannot be read: {_short(error)}") from error
        for name, shape in shapes.items():
            path, _, kind = name.removeprefix("base_model.model.").partition(".lora_")
            layer = getattr(layers.get(path), "weight", None)
            if not kind:
                continue  # saved whole, not as an adapter: peft knows it
            side = 1 if kind.startswith("A") else 0
            if layer is None or layer.ndim != 2 or len(shape) != 2 or layer.shape[side] != shape[side]:
                raise AgentError(
                    f"Adapter {folder.name} does not fit this model: {path} is not there or of another size."
                )

    @contextmanager
    def using(self, adapter: str | ModelAdapter | None) -> Iterator[None]:
        """While this lasts the weights work with this adapter and no other."""
        if isinstance(adapter, str):
            self.adapted.set_adapter(adapter)
            yield
            return
        with ExitStack() as stack:
            if self.adapted is not None:
                stack.enter_context(self.adapted.disable_adapter())
            if adapter is not None:
                stack.enter_context(adapter.on())
            yield


_BASES: WeakValueDictionary[tuple[Path, int, str, str], SharedBase] = WeakValueDictionary()


class _Watcher:
    """Takes tokens from `generate` as they come, decodes them, and carries the caller's wish to stop.

    An exception of the caller leaves `generate` from inside `put`: an interrupt takes one token.
    """

    def __init__(
        self,
        text_of: Callable[[Sequence[int]], str],
        stops: set[int],
        stream: TextStream,
        check: Callable[[], None] | None,
    ):
        self.text, self.stops, self.stream, self.check = TokenText(text_of), stops, stream, check
        self.count = 0
        self.ended = False
        self.enough = False
        self.prompt_seen = False

    def put(self, value: Any) -> None:
        if self.check is not None:
            self.check()
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        for token in value.reshape(-1).tolist():
            self.count += 1
            if token in self.stops:
                self.ended = True
                continue
            piece = self.text.add(token)
            if not piece:
                self.stream.count()
            elif not self.stream.push(piece):
                self.enough = True

    def end(self) -> None:
        pass

    def stopping(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        return torch.full((input_ids.shape[0],), self.enough, dtype=torch.bool, device=input_ids.device)


class _Steered:
    """A logits processor: what `generate` asks before each token, in front of temperature and top_k."""

    def __init__(self, steering: FormSteering, prompt: int):
        self.steering, self.seen = steering, prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        for token in input_ids[0, self.seen :].tolist():
            self.steering.took(token)
        self.seen = input_ids.shape[1]
        return self.steering.steered(scores[0])[None]


def _part_of_reply(thought: str) -> str:
    """A thought that the prompt leaves open: the reply begins with its tag. A closed one is the prompt's alone."""
    return thought if _OPENED.fullmatch(thought) else ""


def _stop_ids(model: Any, processor: Any) -> set[int]:
    """Tokens that end a reply: the tokenizer's, and those that the model was published with (Gemma ends by another)."""
    published = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    published = published if isinstance(published, (list, tuple)) else [published]
    tokenizer = processor.tokenizer
    return {i for i in (tokenizer.eos_token_id, tokenizer.pad_token_id, *published) if i is not None}


def _chat_text(processor: Any, turns: list[dict[str, Any]]) -> str:
    """The turns in the model's own chat form.

    Raises:
        AgentError: its chat template does not take them.
    """
    from jinja2 import TemplateError

    try:
        text: str = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise AgentError(f"The chat template of this model refuses the conversation: {_short(error)}") from error
    return text


def _check_template(folder: Path, processor: Any) -> None:
    """Raises:
    AgentError: the folder brings no chat template, or one that leaves pictures out.
    """
    if not getattr(processor, "chat_template", None):
        raise AgentError(f"{folder.name} brings no chat template (chat_template.jinja); download it completely.")
    question: dict[str, Any] = {"type": "text", "text": "x"}
    with_picture, without = (
        _chat_text(processor, [{"role": "user", "content": content}])
        for content in ([{"type": "image"}, question], [question])
    )
    if with_picture == without:
        raise AgentError(f"The chat template of {folder.name} takes no pictures; an agent needs a model that sees.")


def _seeing_kinds() -> Collection[str]:
    """Kinds of models that transformers knows to see and write."""
    try:
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as known
    except ImportError:
        return MODEL_TYPES
    return tuple(known)


def check_folder(folder: Path, kinds: Callable[[], Collection[str]] = lambda: MODEL_TYPES) -> dict[str, Any]:
    """The model's config, if `folder` holds a model of one of these kinds that can be loaded.

    Raises:
        AgentError: no such folder, no config.json, another kind of model, or no or incomplete weights; of an adapter's
            folder (`adapter_folder`), those of its base.
    """
    if not folder.is_dir():
        raise AgentError(f"There is no model folder {folder.name!r}. Put a Qwen3-VL folder into models/VLM.")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError:
        raise AgentError(f"{folder.name} has no config.json; it is not a Hugging Face model folder.") from None
    except (ValueError, RecursionError) as error:
        raise AgentError(f"config.json of {folder.name} is not valid JSON: {error}.") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    taken = kinds()
    if kind not in taken:
        wanted = (
            "a model that sees and writes, such as Qwen3-VL" if len(taken) > 1 else f"Qwen3-VL ({', '.join(taken)})"
        )
        raise AgentError(f"{folder.name} is a {kind!r} model; what is needed here is {wanted}.")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise AgentError(f"{index.name} of {folder.name} is damaged: {error}.") from None
        missing = sorted(s for s in shards if not (folder / Path(str(s)).name).is_file())
        if missing:
            raise AgentError(f"{folder.name} lacks {len(missing)} of {len(shards)} weight files, e.g. {missing[0]}.")
    elif not any(folder.glob("*.safetensors")):
        raise AgentError(f"{folder.name} holds no .safetensors weights; download the model completely.")
    base = base_of(folder)
    if base != folder:
        check_folder(base, kinds)
    return dict(config)


def load_agent(
    folder: Path,
    *,
    adapter: Path | None = None,
    dtype: str = "auto",
    device: str | None = None,
) -> TransformersAgent:
    """Load a folder from disk; agents of the same folder share its weights.

    adapter: a LoRA folder of peft's, or an adapter file (.safetensors), which needs no peft.
    dtype: "auto" (as stored; float32 on a CPU), "bfloat16", "float16", "float32".

    Raises:
        AgentError: see `check_folder`; transformers or peft is missing or too old; the adapter does not fit; the
            model's chat template takes no pictures.
    """
    check_folder(folder, _seeing_kinds)
    try:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise AgentError(
            f"Load Agent needs transformers >= 4.57 ({error}). Update it with "
            "pip install -U 'transformers>=4.57', or use Agent from CLIP, which needs nothing."
        ) from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    written = max(path.stat().st_mtime_ns for path in weight_files(folder))
    key = (folder.resolve(), written, dtype, device)
    base = _BASES.get(key)
    if base is None:
        wanted: Any = getattr(torch, dtype) if dtype != "auto" else (torch.float32 if device == "cpu" else "auto")
        try:
            model = load_weights(AutoModelForImageTextToText, folder, wanted)
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise AgentError(f"{folder.name} cannot be loaded: {_short(error)}") from error
        _check_template(folder, processor)
        base = SharedBase(model.to(device).eval(), processor)
        _BASES[key] = base
    name, role = folder.name, None
    if adapter is not None:
        role = base.add(adapter)
        name += f"+{adapter.stem if adapter.suffix in SUFFIXES else adapter.name}"
    return TransformersAgent(
        base.model,
        base.processor,
        name,
        prompts_of(folder, adapter),
        base=base,
        adapter=role,
        state=files_state(*dict.fromkeys((folder, base_of(folder))), *([adapter] if adapter is not None else [])),
    )


def prompts_of(folder: Path, adapter: Path | None = None) -> str | None:
    """The folder of the prompt texts that a model, or a LoRA folder of it, was trained with; None if it has none."""
    found = (place / "prompts" for place in (adapter, folder) if place is not None)
    return next((str(prompts) for prompts in found if prompts.is_dir()), None)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] + ("..." if len(text) > 300 else "")
