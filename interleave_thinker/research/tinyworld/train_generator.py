"""Train the tiny generator: first the picture codec, then the flow-matching transformer.

    interleave-thinker tinyworld train vae       --out DIR
    interleave-thinker tinyworld train generator --out DIR

Both follow the shape of diffusers' own training examples (accelerate loop, `save_state` checkpoints)
and resume where they stopped. Measured on two CPU cores: codec 7 minutes, transformer about 45.
The transformer learns the *plain* vocabulary only: see `language.py`.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler
from diffusers.optimization import get_scheduler
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from ...tinyworld.language import Edit, Voice, random_edit
from ...tinyworld.pipeline import (
    LATENT_CHANNELS,
    TinyKontextPipeline,
    new_transformer,
    tokenize,
    velocity,
)
from ...tinyworld.scene import Jitter, Scene, random_scene, render_batch
from ...tinyworld.token_vectors import TOKENS, TokenVectors
from .unknown_words import UnknownWords

# Residual blocks of the codec that are trained; the others stay exactly zero (identity), which makes
# a training step three times cheaper and loses nothing on pictures this simple.
ENCODER_BLOCKS = (3, 7, 8, 11, 12)
DECODER_BLOCKS = (2, 3, 7, 8, 11, 12)


@dataclass(frozen=True)
class TrainOptions:
    out: Path
    steps: int
    batch: int = 64
    learning_rate: float = 1e-3
    seed: int = 1
    checkpoint_every: int = 500
    start_from: Path | None = None
    """A pipeline folder to go on from, with a new learning-rate schedule."""
    unknown_words: float = 0.5
    """Share of the transformer's lessons that may hold unknown words (`unknown_words.py`)."""


class _Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def new_vae() -> AutoencoderTiny:
    """TAESD layout with 16 latent channels; the blocks that will not be trained are zeroed."""
    vae = AutoencoderTiny(latent_channels=LATENT_CHANNELS)
    for layers, trained in ((vae.encoder.layers, ENCODER_BLOCKS), (vae.decoder.layers, DECODER_BLOCKS)):
        for index, layer in enumerate(layers):
            if not hasattr(layer, "conv"):
                continue
            if index in trained:
                layer.conv[4].weight.data.mul_(0.1)
            else:
                for parameter in layer.conv.parameters():
                    parameter.data.zero_()
                    parameter.requires_grad_(False)
    return vae


def without_idle_blocks(vae: AutoencoderTiny) -> AutoencoderTiny:
    """The same function, computed without the blocks that are zero. For training only: not for saving."""
    for part in (vae.encoder, vae.decoder):
        for layer in part.layers:
            if hasattr(layer, "conv") and not layer.conv[4].weight.any():
                layer.conv = _Nothing()
    return vae


def _images(scenes: list[Scene], rng: random.Random) -> Tensor:
    """(batch, 3, 64, 64) in [-1, 1]."""
    array = render_batch(scenes, [Jitter.draw(rng) for _ in scenes])
    return torch.from_numpy(array).permute(0, 3, 1, 2) * 2 - 1


class _Run:
    """Optimizer, schedule, checkpoints and log of both trainings."""

    def __init__(self, options: TrainOptions, model: nn.Module, name: str):
        self.options, self.name = options, name
        self.accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, options.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = get_scheduler("cosine", optimizer, num_warmup_steps=100, num_training_steps=options.steps)
        self.model, self.optimizer, self.schedule = self.accelerator.prepare(model, optimizer, schedule)
        self.trained = trained
        self.folder = options.out / f"{name}-checkpoint"
        self.step = 0
        marker = self.folder / "step.txt"
        if marker.exists():
            self.accelerator.load_state(str(self.folder))
            self.step = int(marker.read_text())
        self.rng = random.Random(options.seed * 1_000_003 + self.step)
        torch.manual_seed(options.seed * 1_000_003 + self.step)

    def steps(self) -> Iterator[int]:
        begun, seen = time.monotonic(), self.step
        while self.step < self.options.steps:
            yield self.step
            self.step += 1
            if self.step % 100 == 0:
                rate = (time.monotonic() - begun) / (self.step - seen)
                print(f"{self.name} step {self.step} {self.note} {rate:.2f} s/step", flush=True)
            if self.step % self.options.checkpoint_every == 0:
                self.save()
        self.save()

    note = ""

    def save(self) -> None:
        self.accelerator.save_state(str(self.folder))
        (self.folder / "step.txt").write_text(str(self.step))

    def update(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


def train_vae(options: TrainOptions) -> AutoencoderTiny:
    """L1 and L2 on pixels; latents pulled towards mean 0 and spread 1, which the flow expects."""
    whole = new_vae()
    fast = without_idle_blocks(whole).to(memory_format=torch.channels_last)
    run = _Run(options, fast, "vae")
    smooth = 0.0
    for step in run.steps():
        pixels = _images([random_scene(run.rng) for _ in range(options.batch)], run.rng)
        if step % 4:
            x, y = run.rng.randrange(33), run.rng.randrange(33)
            pixels = pixels[:, :, y : y + 32, x : x + 32]
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with run.accelerator.autocast():
            latents = fast.encoder(pixels)
            seen = fast.decoder(latents + torch.randn_like(latents) * 0.02)
        error = (seen.float() - pixels) / 2
        z = latents.float()
        spread = z.mean((0, 2, 3)).pow(2).mean() + (z.std((0, 2, 3)) - 1).pow(2).mean()
        loss = error.abs().mean() + 4 * error.pow(2).mean() + 0.02 * spread
        run.update(loss)
        smooth = 0.98 * smooth + 0.02 * error.pow(2).mean().item() if step else error.pow(2).mean().item()
        run.note = f"psnr {-10 * math.log10(smooth):.1f} dB"
    vae = new_vae()
    state = dict(fast.state_dict())
    vae.load_state_dict(state, strict=False)
    vae.half().save_pretrained(options.out / "vae")
    return vae.float()


class LatentPool:
    """Encoded pairs (scene before, edit, scene after), drawn once, so that training need not encode."""

    def __init__(self, vae: AutoencoderTiny, pairs: int, seed: int, cache: Path):
        rng = random.Random(seed)
        self.before: list[Scene] = []
        self.edits: list[Edit] = []
        jitters: list[Jitter] = []
        for _ in range(pairs):
            scene = random_scene(rng)
            self.before.append(scene)
            self.edits.append(random_edit(scene, rng))
            jitters.append(Jitter.draw(rng))
        if cache.exists():
            self.latents = torch.load(cache, weights_only=True)
            return
        encoder = without_idle_blocks(vae).encoder.eval().to(memory_format=torch.channels_last)
        rows = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for i in range(0, pairs, 128):
                cut = slice(i, i + 128)
                after = [e.apply(s) for e, s in zip(self.edits[cut], self.before[cut], strict=True)]
                array = render_batch(self.before[cut] + after, jitters[cut] * 2)
                pixels = torch.from_numpy(array).permute(0, 3, 1, 2) * 2 - 1
                rows.append(encoder(pixels.contiguous(memory_format=torch.channels_last)))
        pairs_of = [torch.stack(z.float().half().chunk(2), 1) for z in rows]
        self.latents = torch.cat(pairs_of).clone()
        torch.save(self.latents, cache)

    def __len__(self) -> int:
        return len(self.before)


def train_transformer(options: TrainOptions, clip_tokenizer: Path, pairs: int = 60_000) -> None:
    """Flow matching, two steps of five from text alone and three edits; text is dropped in one of ten."""
    vae = AutoencoderTiny.from_pretrained(options.out / "vae", torch_dtype=torch.float32)
    pool = LatentPool(vae, pairs, options.seed + 77, options.out / f"latents-{options.seed}-{pairs}.pt")
    tokenizer = CLIPTokenizer.from_pretrained(clip_tokenizer)
    vectors = TokenVectors.random()
    known: dict[str, Tensor] = {}

    def encode(texts: list[str]) -> Tensor:
        for text in texts:
            if text not in known:
                known[text] = tokenize(tokenizer, text)[0]
        hidden: Tensor = vectors(torch.stack([known[t] for t in texts]).view(-1, TOKENS))
        return hidden

    torch.manual_seed(options.seed)
    model = new_transformer()
    if options.start_from is not None:
        trained = load_file(options.start_from / "transformer" / "diffusion_pytorch_model.safetensors")
        model.load_state_dict({name: tensor.float() for name, tensor in trained.items()})
    run = _Run(options, model, "generator")
    losses = {True: 1.0, False: 1.0}
    voice, unknown_words = Voice(run.rng), UnknownWords(tokenizer.get_vocab(), pool.before, run.rng)
    for step in run.steps():
        editing = step % 5 >= 2
        chosen = [run.rng.randrange(len(pool)) for _ in range(options.batch)]
        has_unknown = [run.rng.random() < options.unknown_words for _ in chosen]
        reference = None
        if editing:
            asked = [
                unknown_words.instruction(pool.edits[i], pool.before[i])
                if unknown
                else (voice.instruct(pool.edits[i], pool.before[i]), True)
                for i, unknown in zip(chosen, has_unknown, strict=True)
            ]
            texts = [text for text, _ in asked]
            pair = pool.latents[chosen].float()
            target = pair[torch.arange(len(chosen)), [int(takes_effect) for _, takes_effect in asked]]
            # The reference met in use was made by this generator: less clean than a rendered one.
            reference = pair[:, 0] + torch.randn_like(target) * torch.rand(len(chosen), 1, 1, 1) * 0.15
        else:
            described = [
                unknown_words.caption() if unknown else (i, voice.describe(pool.before[i]))
                for i, unknown in zip(chosen, has_unknown, strict=True)
            ]
            texts = [text for _, text in described]
            target = pool.latents[[i for i, _ in described], 0].float()
        text = encode(texts) * (torch.rand(len(chosen), 1, 1) > 0.1)
        half = len(chosen) // 2
        moment = torch.cat([torch.rand(half), torch.sigmoid(torch.randn(len(chosen) - half) + 0.5)])
        noise = torch.randn_like(target)
        mix = moment.view(-1, 1, 1, 1)
        with run.accelerator.autocast():
            flow = velocity(run.model, mix * noise + (1 - mix) * target, moment, text, reference)
        loss = F.mse_loss(flow.float(), noise - target)
        run.update(loss)
        losses[editing] = 0.98 * losses[editing] + 0.02 * loss.item()
        run.note = f"draw {losses[False]:.4f} edit {losses[True]:.4f}"
    TinyKontextPipeline(
        model.float(),
        AutoencoderTiny.from_pretrained(options.out / "vae", torch_dtype=torch.float32),
        FlowMatchEulerDiscreteScheduler(shift=1.0),
        tokenizer,
        vectors,
    ).save_pretrained(options.out / "generator")
