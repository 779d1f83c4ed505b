"""Loading a model for a training, freezing parts of it, and saving it as a folder that Load Agent takes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ...agents.adapter_file import NOT_LINEAR, hf_name, read_adapter
from ...agents.adapter_folder import base_of, load_weights
from ...agents.transformers_agent import check_folder
from ...errors import ConfigError, InterleaveError
from ...files import write_atomically
from ...roles.prompt_files import check_prompt_folder

Precision = Literal["auto", "bf16", "fp32"]
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Layers of the language model that a LoRA adapter is put on."""
VISION_LINEAR = ("qkv", "proj", "linear_fc1", "linear_fc2")
"""Those of the vision tower and its projector, with `train_vision`."""
RESULT, CHECKPOINTS = "model", "checkpoints"
PATIENCE = 6 * 3600
"""Seconds that processes wait for each other: for the first one's pictures, in GRPO."""


class TrainError(InterleaveError):
    """A training that cannot start or go on; the message says what to change."""


def extra_missing(error: ImportError) -> TrainError:
    return TrainError(f"Training needs the extra 'train': pip install 'interleave-thinker[train]' ({error}).")


EXTRAS = {"deepspeed": "deepspeed", "vllm": "vllm", "bitsandbytes": "quantization"}
"""Packages, and the extra of TRL that says which versions it takes; ours have the same names."""


def check_package(package: Literal["deepspeed", "vllm", "bitsandbytes"], asked: str) -> None:
    """Whether a package is there in a version that the installed TRL takes. asked: the option that needs it.

    Raises:
        TrainError: it is not; one line with what to install.
    """
    from packaging.requirements import Requirement
    from packaging.version import Version

    try:
        known = [Requirement(line) for line in metadata.requires("trl") or ()]
    except metadata.PackageNotFoundError as error:
        raise extra_missing(error) from None
    wanted = next(
        (r for r in known if r.name == package and r.marker and r.marker.evaluate({"extra": EXTRAS[package]})), None
    )
    versions = str(wanted.specifier) if wanted is not None else ""
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        found = ""
    # Without a local part such as "+cu129", which counts as newer than the release.
    if found and (wanted is None or wanted.specifier.contains(Version(found).base_version, prereleases=True)):
        return
    there = f"{found} is installed" if found else "it is not installed"
    raise TrainError(
        f"{asked} needs {package}{versions}; {there}. Install it: pip install 'interleave-thinker[{EXTRAS[package]}]'"
    )


LEAST_PIXELS = 16 * 16
"""Of a picture: the tiny critic's own size of a patch."""


def check_numbers(options: Any, **limits: tuple[float, float]) -> None:
    """limits: the least and the most of each number, both allowed.

    Raises:
        ConfigError: one lies outside, or is no number.
    """
    for name, (low, high) in limits.items():
        value = getattr(options, name)
        if not low <= value <= high:
            most = f" and at most {high:g}" if high < 1e6 else ""
            raise ConfigError(f"{name.replace('_', '-')} is {value}; it must be at least {low:g}{most}.")


@dataclass(frozen=True)
class ModelOptions:
    """model: a Qwen3-VL folder. lora_rank: 0 trains the weights themselves, else an adapter of that rank.

    start_adapter: an adapter file of this model (`adapters extract`) that the adapter begins as; its layers learn.
    train_vision: whether the vision tower and its projector learn too (the paper freezes them for SFT).
    precision: "auto" is bfloat16 on a GPU and float32 on a CPU. max_pixels: a larger picture is scaled down to it.
    quantize: "4bit" keeps the language model's frozen weights in 4 bits below the adapter (QLoRA, arXiv 2305.14314).
    """

    model: Path
    lora_rank: int = 0
    lora_alpha: int = 0
    lora_dropout: float = 0.0
    train_vision: bool = False
    precision: Precision = "auto"
    max_pixels: int = 1024 * 1024
    gradient_checkpointing: bool = False
    start_adapter: Path | None = None
    quantize: Literal["", "4bit"] = ""

    def __post_init__(self) -> None:
        if self.quantize and not self.lora_rank:
            raise ConfigError(
                "Weights in 4 bits cannot learn; only an adapter on them can: give --lora-rank, such as 32."
            )
        check_numbers(
            self, lora_alpha=(0, 1e6), lora_dropout=(0, 0.99), max_pixels=(LEAST_PIXELS, 2**31), lora_rank=(-1, 1e9)
        )
        if not 0 <= self.lora_rank <= 1024:
            raise ConfigError(f"lora_rank is {self.lora_rank}; it must be between 0 (no adapter) and 1024.")
        if self.start_adapter is not None and not self.lora_rank:
            raise ConfigError("A start adapter is trained on as an adapter: give lora_rank, its rank or more.")


@dataclass(frozen=True)
class RunOptions:
    """Settings of every training. steps: 0 for `epochs` whole passes. batch: rows a device and step; times accumulate
    and devices it is the global batch. save_every: steps between checkpoints. prompts: folder of prompt texts that is
    kept with the model; default: the base model's own. resume: go on from the last checkpoint.
    """

    base: ModelOptions
    data: Path
    out: Path
    epochs: float = 1.0
    steps: int = 0
    batch: int = 1
    accumulate: int = 1
    learning_rate: float = 1e-5
    schedule: str = "constant"
    weight_decay: float = 0.0
    save_every: int = 100
    log_every: int = 10
    seed: int = 0
    deepspeed: Path | None = None
    prompts: Path | None = None
    resume: bool = False
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_numbers(
            self,
            epochs=(1e-9, 1e9),
            steps=(0, 1e12),
            batch=(1, 1e9),
            accumulate=(1, 1e9),
            learning_rate=(0, 1e3),
            weight_decay=(0, 1e3),
            save_every=(1, 1e12),
            log_every=(1, 1e12),
            seed=(0, 2**32 - 1),
        )
        if self.prompts is not None:
            check_prompt_folder(self.prompts)

    def check_packages(self) -> None:
        """Raises TrainError if a package is missing that the options need, before anything is loaded."""
        if self.deepspeed is not None:
            check_package("deepspeed", "--deepspeed")
            if not self.deepspeed.is_file():
                raise ConfigError(f"--deepspeed: there is no file {self.deepspeed}.")
        if self.base.quantize:
            check_package("bitsandbytes", f"--quantize {self.base.quantize}")

    def arguments(self) -> dict[str, Any]:
        """For transformers' TrainingArguments, which TRL's configurations are.

        Raises:
            ConfigError: there is no such schedule, or no such place to report to.
        """
        import torch
        from transformers import SchedulerType
        from transformers.integrations import get_available_reporting_integrations

        schedules = [kind.value for kind in SchedulerType]
        if self.schedule not in schedules:
            raise ConfigError(f"schedule is {self.schedule!r}; it must be one of {', '.join(schedules)}.")
        places = ["none", "all", *get_available_reporting_integrations()]
        for place in self.report_to:
            if place not in places:
                raise ConfigError(f"report-to is {place!r}; what is installed here is {', '.join(places)}.")

        return {
            "output_dir": str(self.out / CHECKPOINTS),
            "num_train_epochs": self.epochs,
            "max_steps": self.steps or -1,
            "per_device_train_batch_size": self.batch,
            "gradient_accumulation_steps": self.accumulate,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": self.schedule,
            "weight_decay": self.weight_decay,
            "bf16": use_bf16(self.base.precision),
            "use_cpu": not torch.cuda.is_available(),
            _checkpointing_name(): self.base.gradient_checkpointing,
            "logging_steps": self.log_every,
            "logging_first_step": True,
            "save_steps": self.save_every,
            "save_total_limit": 2,
            "seed": self.seed,
            "deepspeed": str(self.deepspeed) if self.deepspeed else None,
            "ddp_timeout": PATIENCE,
            "report_to": list(self.report_to),
            "dataloader_pin_memory": torch.cuda.is_available(),
            "disable_tqdm": True,
        }


def _checkpointing_name() -> str:
    """What TrainingArguments calls gradient checkpointing; newer versions of transformers warn of the older name."""
    from transformers import TrainingArguments

    known = {field.name for field in fields(TrainingArguments)}
    return "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"


def use_bf16(precision: Precision) -> bool:
    import torch

    return precision == "bf16" or (precision == "auto" and torch.cuda.is_available())


def weights_type(options: ModelOptions, *, gpu: bool, keeps_master: bool) -> Literal["bfloat16", "float32"]:
    """The type that weights have while a training runs.

    Whole weights that are trained are float32, and computed with in bfloat16: at a learning rate of 2e-6 almost every
    step of a bfloat16 weight rounds to nothing. Frozen weights below an adapter may be bfloat16, for the adapter is
    float32. So may all where the framework keeps a float32 copy of its own (`keeps_master`: DeepSpeed).
    """
    trained_here = not options.lora_rank and not keeps_master
    return "bfloat16" if gpu and use_bf16(options.precision) and not trained_here else "float32"


def load_model(options: ModelOptions, arguments: Any = None) -> tuple[Any, Any]:
    """(model, processor), ready for a trainer; weights that are not trained are frozen.

    arguments: the trainer's (transformers' TrainingArguments), made before, so that DeepSpeed shares the weights among
    the GPUs while they are loaded.

    Raises:
        AgentError: no such folder, another kind of model, weights are missing.
        TrainError: transformers or peft is missing or too old.
    """
    check_folder(options.model)
    try:
        import torch
        from transformers import AutoProcessor, Qwen3VLForConditionalGeneration
    except ImportError as error:
        raise extra_missing(error) from None
    keeps_master = getattr(arguments, "deepspeed_plugin", None) is not None
    kind = weights_type(options, gpu=torch.cuda.is_available(), keeps_master=keeps_master)
    dtype = getattr(torch, kind)
    if options.quantize:
        model = _in_4_bits(Qwen3VLForConditionalGeneration, options.model, dtype)
    else:
        model = load_weights(Qwen3VLForConditionalGeneration, options.model, dtype)
    processor = AutoProcessor.from_pretrained(options.model, local_files_only=True)
    bound_pixels(processor.image_processor, options.max_pixels)
    if not options.train_vision:
        for parameter in model.model.visual.parameters():
            parameter.requires_grad_(False)
    model.config.use_cache = False
    if not torch.cuda.is_available():
        from .on_cpu import quicken

        quicken(model)
    return model, processor


def _in_4_bits(kind: Any, folder: Path, dtype: Any) -> Any:
    """The model with the linear layers of its language part in 4 bits (NF4, scales quantized, too).

    Raises:
        TrainError: the folder is an adapter, whose pairs cannot be added to such weights.
    """
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    if base_of(folder) != folder:
        raise TrainError(
            f"{folder} is an adapter of {base_of(folder)}, and --quantize takes the folder of a whole model. Leave "
            "--quantize out, or start from a merged model."
        )
    asked = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["model.visual", "lm_head"],
    )
    place = {"": PartialState().device}
    return kind.from_pretrained(folder, dtype=dtype, local_files_only=True, quantization_config=asked, device_map=place)


def learn_in_float32(trainer: Any) -> None:
    """Call it before `run`. TRL makes an adapter on 4-bit weights bfloat16, in which small steps round to nothing."""
    import torch

    if not is_sharded(trainer):
        for parameter in trainer.model.parameters():
            if parameter.requires_grad and parameter.dtype == torch.bfloat16:
                parameter.data = parameter.data.float()


def bound_pixels(images: Any, most: int) -> None:
    """Lower the image processor's own bound on a picture's area to `most` (width x height); never raise it."""
    size = dict(images.size)
    if size.get("longest_edge", 0) > most:
        images.size = {**size, "longest_edge": most, "shortest_edge": min(size["shortest_edge"], most)}


def lora(options: ModelOptions) -> Any:
    """peft's configuration of the adapter, or None without one. Alpha defaults to twice the rank.

    Raises:
        TrainError: the start adapter has other than pairs of linear layers.
        AgentError: it cannot be read.
    """
    if not options.lora_rank:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise extra_missing(error) from None
    targets: str | list[str]
    if options.start_adapter is not None:
        start = read_adapter(options.start_adapter)
        others = any(layer in start.pairs for layer in NOT_LINEAR)
        more = "pairs of other than linear layers" if others else "constants" if start.constants else ""
        if more:
            raise TrainError(
                f"Adapter {start.name} holds {more}, which a LoRA here does not train. Make it again without: "
                "`interleave-thinker adapters extract --linear-only`."
            )
        targets = [hf_name(layer) for layer in start.pairs]
    else:
        where, layers = ("", LINEAR + VISION_LINEAR) if options.train_vision else (r"(?=.*language_model)", LINEAR)
        targets = rf"{where}.*\.({'|'.join(layers)})"
    return LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha or 2 * options.lora_rank,
        lora_dropout=options.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def start_from_file(model: Any, file: Path) -> None:
    """Let a new LoRA (`lora`) begin as the adapter of a file. What it has room for beyond that begins as ever: at zero.

    Raises:
        AgentError: the file is of another base.
        TrainError: it has a higher rank, or a layer that this model does not train.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    adapter = read_adapter(file)
    layers = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}

    def layer_at(place: str) -> Any:
        return layers.get(hf_name(place))

    def first_row(place: str) -> Any:
        layer = layer_at(place)
        return None if layer is None else layer.base_layer.weight.detach()[0]

    adapter.check_base(first_row)
    for place, pair in adapter.pairs.items():
        layer, rank = layer_at(place), pair.down.shape[0]
        if layer is None or rank > layer.r["default"]:
            raise TrainError(f"Adapter {file.name} has rank {rank} at {place}: give --lora-rank {rank} or more.")
        up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        with torch.no_grad():
            up.zero_()[:, :rank] = (pair.up.float() * (pair.scale / layer.scaling["default"])).to(up)
            down[:rank] = pair.down.to(down)


def prompt_texts(options: ModelOptions, prompts: Path | None) -> Path | None:
    """The folder of prompt texts that a trained model is saved with, and asked with; None for ours."""
    return prompts or next((p for p in [options.model / "prompts"] if p.is_dir()), None)


def save_result(trainer: Any, processor: Any, options: ModelOptions, out: Path, prompts: Path | None) -> Path:
    """Write `out`/model: weights or adapter, processor, and the prompt texts that were learned with.

    An adapter's folder names its base in adapter_config.json (peft's own field).
    """
    import torch

    folder = out / RESULT
    trainer.model.config.use_cache = True
    if use_bf16(options.precision) and not options.lora_rank and not is_sharded(trainer):
        trainer.model.to(torch.bfloat16)  # float32 was for learning; checkpoints keep it
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        processor.save_pretrained(folder)
        source = prompt_texts(options, prompts)
        if source is not None and source.is_dir():
            (folder / "prompts").mkdir(exist_ok=True)
            for text in sorted(source.glob("*.md")):
                shutil.copy(text, folder / "prompts" / text.name)
        keep_history(trainer, out)
    return folder


def is_sharded(trainer: Any) -> bool:
    """Whether DeepSpeed or FSDP holds the weights."""
    return bool(trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)


def keep_history(trainer: Any, out: Path) -> None:
    """history.json: the trainer's log, a mapping for each logged step."""
    history = json.dumps(trainer.state.log_history, indent=1, default=str)
    write_atomically(out / "history.json", (history + "\n").encode())


def run(trainer: Any, checkpoints: Path, resume: bool) -> None:
    """Train to the end; with `resume` from the last whole checkpoint, if there is one.

    Raises:
        TrainError: there are checkpoints and `resume` is off, the disk is full, or the memory of a GPU.
    """
    last = last_whole(checkpoints)
    if last is not None and not resume:
        raise TrainError(f"{checkpoints} holds a training. Give --resume to go on with it, or another folder.")
    from safetensors import SafetensorError

    try:
        trainer.train(resume_from_checkpoint=last)
    except SafetensorError as error:
        raise TrainError(
            f"{last} is damaged ({error}). Delete that folder; --resume then goes on from the one before it."
        ) from error
    except (OSError, RuntimeError) as error:
        if _is_memory(error):
            raise TrainError(
                f"Out of memory: {str(error).splitlines()[0]} The same command with --dry-run says what lies on a GPU "
                "and what would help, such as --batch 1 with more --accumulate. Go on with --resume."
            ) from error
        if not _is_disk(error):
            raise
        raise TrainError(f"Cannot write a checkpoint to {checkpoints}: {error}. The last whole one is kept.") from error


def last_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end. The trainer writes its state last, so a checkpoint that a kill
    or a full disk cut off has none."""
    whole = [p.parent for p in checkpoints.glob("checkpoint-*/trainer_state.json") if _is_whole(p)]
    numbered = {int(p.name.rpartition("-")[2]): p for p in whole if p.name.rpartition("-")[2].isdigit()}
    return str(numbered[max(numbered)]) if numbered else None


def _is_whole(state: Path) -> bool:
    """Whether a checkpoint's state is JSON. The trainer writes it last."""
    try:
        return isinstance(json.loads(state.read_bytes()), dict)
    except (OSError, ValueError, RecursionError):
        return False


def _is_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)


def _is_disk(error: Exception) -> bool:
    import errno

    text = str(error).lower()
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return full or "no space left" in text or "inline_container" in text


def is_main_process() -> bool:
    """Whether this is the first of the processes that train together."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)
