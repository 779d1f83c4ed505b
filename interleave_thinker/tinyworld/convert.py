"""The tiny generator's weights as the files that ComfyUI's stock loaders read.

    diffusion_models/tiny_kontext.safetensors   Load Diffusion Model  (FLUX.1 Schnell layout)
    vae/tiny_taef1.safetensors                  Load VAE              (TAESD layout, 16 channels)
    text_encoders/tiny_clip_l.pt                Load CLIP, type stable_diffusion

One set of weights, two runtimes: nothing is trained or changed here, only renamed and joined.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..agents.adapter_folder import ADAPTER_NAME, WHOLE_NAME, base_of, whole_weights
from ..errors import ConfigError
from .token_vectors import TOKENS, VOCABULARY, WIDTH, TokenVectors

WEIGHTS = Path(__file__).parent / "weights"
"""The trained models that come with the package: generator/, base/, critic/, and planner/, an adapter of base."""

TRANSFORMER, VAE, TEXT = "tiny_kontext.safetensors", "tiny_taef1.safetensors", "tiny_clip_l.pt"
NAMES = {"planner": "tiny-planner", "critic": "tiny-critic", "generator": "tiny-kontext"}

# FLUX's own latent format maps z to (z - shift) * scale; these values make it see the encoder's output.
_SCALE, _SHIFT = 0.3611, 0.1159


def install(models: Path, weights: Path = WEIGHTS) -> list[Path]:
    """Put the tiny models where ComfyUI looks for them. Returns what was written; repeating is harmless.

    Raises:
        ConfigError: the weights are not there.
    """
    if not (weights / "generator" / "model_index.json").is_file():
        raise ConfigError(f"There are no tiny-world weights in {weights}. Reinstall the package, or train them.")
    pipeline = weights / "generator"
    written = [
        _save(comfy_transformer(pipeline / "transformer"), models / "diffusion_models" / TRANSFORMER),
        _save(comfy_vae(pipeline / "vae"), models / "vae" / VAE),
    ]
    text = models / "text_encoders" / TEXT
    text.parent.mkdir(parents=True, exist_ok=True)
    torch.save(comfy_clip(TokenVectors.load(pipeline / "text_encoder")), text)
    written.append(text)
    for role, kind in (("planner", "VLM"), ("critic", "VLM"), ("generator", "diffusers")):
        if (weights / role).is_dir():
            target = models / kind / NAMES[role]
            shutil.copytree(weights / role, target, dirs_exist_ok=True)
            make_whole(weights / role, target)
            written.append(target)
    return written


def make_whole(folder: Path, copy: Path) -> None:
    """Give a copy of a folder that holds an adapter the whole weights, in float32, in the adapter's place.

    A folder below models/VLM then needs no base beside it. Of a folder with weights of its own nothing is changed.
    """
    if base_of(folder) == folder:
        return
    save_file(whole_weights(folder), copy / WHOLE_NAME, metadata={"format": "pt"})
    shutil.copystat(copy / ADAPTER_NAME, copy / WHOLE_NAME)  # the same weights, installed again, are no other model
    (copy / ADAPTER_NAME).unlink()


def comfy_transformer(folder: Path) -> dict[str, Tensor]:
    """diffusers' FluxTransformer2DModel -> FLUX.1 names; q, k and v joined; the zero pooled branch dropped."""
    source = load_file(folder / "diffusion_pytorch_model.safetensors")
    out: dict[str, Tensor] = {}

    def move(to: str, *names: str) -> None:
        for kind in ("weight", "bias"):
            parts = [source.pop(f"{n}.{kind}") for n in names if f"{n}.{kind}" in source]
            if parts:
                out[f"{to}.{kind}"] = torch.cat(parts)

    move("img_in", "x_embedder")
    move("txt_in", "context_embedder")
    move("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1")
    move("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2")
    for i in _indices(source, "transformer_blocks"):
        a, b = f"transformer_blocks.{i}", f"double_blocks.{i}"
        for ours, norm, qkv, proj, q_norm, k_norm, ff in (
            ("img", "norm1", ("to_q", "to_k", "to_v"), "to_out.0", "norm_q", "norm_k", "ff"),
            (
                "txt",
                "norm1_context",
                ("add_q_proj", "add_k_proj", "add_v_proj"),
                "to_add_out",
                "norm_added_q",
                "norm_added_k",
                "ff_context",
            ),
        ):
            move(f"{b}.{ours}_mod.lin", f"{a}.{norm}.linear")
            move(f"{b}.{ours}_attn.qkv", *(f"{a}.attn.{n}" for n in qkv))
            move(f"{b}.{ours}_attn.norm.query_norm", f"{a}.attn.{q_norm}")
            move(f"{b}.{ours}_attn.norm.key_norm", f"{a}.attn.{k_norm}")
            move(f"{b}.{ours}_attn.proj", f"{a}.attn.{proj}")
            move(f"{b}.{ours}_mlp.0", f"{a}.{ff}.net.0.proj")
            move(f"{b}.{ours}_mlp.2", f"{a}.{ff}.net.2")
    for i in _indices(source, "single_transformer_blocks"):
        a, b = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        move(f"{b}.modulation.lin", f"{a}.norm.linear")
        move(f"{b}.linear1", *(f"{a}.{n}" for n in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")))
        move(f"{b}.norm.query_norm", f"{a}.attn.norm_q")
        move(f"{b}.norm.key_norm", f"{a}.attn.norm_k")
        move(f"{b}.linear2", f"{a}.proj_out")
    move("final_layer.linear", "proj_out")
    for kind in ("weight", "bias"):
        scale, shift = source.pop(f"norm_out.linear.{kind}").chunk(2)
        out[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    left = [n for n in source if not n.startswith("time_text_embed.text_embedder")]
    if left:
        raise ConfigError(f"{folder} has weights that ComfyUI's FLUX does not know: {left[:3]}.")
    return out


def comfy_vae(folder: Path) -> dict[str, Tensor]:
    """diffusers' AutoencoderTiny -> TAESD names (its decoder counts from one: it begins with a clamp)."""
    out = {"vae_scale": torch.tensor(_SCALE), "vae_shift": torch.tensor(_SHIFT)}
    for name, tensor in load_file(folder / "diffusion_pytorch_model.safetensors").items():
        part, _, index, rest = name.split(".", 3)
        position = int(index) + (1 if part == "decoder" else 0)
        out[f"taesd_{part}.{position}.{rest}"] = tensor
    return out


def comfy_clip(vectors: TokenVectors) -> dict[str, Tensor]:
    """CLIP-L's shapes with twelve layers of zeros: identity. Expanded tensors keep the file at 0.1 MB."""

    def zero(*shape: int) -> Tensor:
        return torch.zeros(1, dtype=torch.float16).expand(*shape)

    def one(*shape: int) -> Tensor:
        return torch.ones(1, dtype=torch.float16).expand(*shape)

    hidden = WIDTH * 4
    out = {
        "text_model.embeddings.token_embedding.weight": vectors.table(),
        "text_model.embeddings.position_embedding.weight": vectors.position,
        "text_model.final_layer_norm.weight": one(WIDTH),
        "text_model.final_layer_norm.bias": zero(WIDTH),
        "text_projection.weight": zero(WIDTH, WIDTH),
    }
    for i in range(12):
        layer = f"text_model.encoder.layers.{i}."
        for name in ("layer_norm1", "layer_norm2"):
            out[layer + name + ".weight"], out[layer + name + ".bias"] = one(WIDTH), zero(WIDTH)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out[layer + f"self_attn.{name}.weight"] = zero(WIDTH, WIDTH)
            out[layer + f"self_attn.{name}.bias"] = zero(WIDTH)
        out[layer + "mlp.fc1.weight"], out[layer + "mlp.fc1.bias"] = zero(hidden, WIDTH), zero(hidden)
        out[layer + "mlp.fc2.weight"], out[layer + "mlp.fc2.bias"] = zero(WIDTH, hidden), zero(WIDTH)
    assert out["text_model.embeddings.token_embedding.weight"].shape == (VOCABULARY, WIDTH)
    assert vectors.position.shape == (TOKENS, WIDTH)
    return out


def _indices(state: dict[str, Tensor], prefix: str) -> list[int]:
    return sorted({int(n.split(".")[1]) for n in state if n.split(".")[0] == prefix})


def _save(tensors: dict[str, Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {n: (t.half() if t.ndim else t).contiguous() for n, t in tensors.items()}
    save_file(half, path)
    path.chmod(0o644)
    return path
