"""Sizes and addresses of model files that the official templates load, for a workflow whose files are not here.

A file whose size was read nowhere is not here: nothing is guessed. A file of the user's own (`--models`, `--size`)
always comes first. How each number was read, in November 2026:

- page: on the file's own page or in its listing; where that rounds, to three digits.
- copy: on the page of a copy of the file under the same name, rounded.
- lists: in several public download lists, which agree.
- one list: in one, for a file of this name; other conversions of that name may differ.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_HUB: Final = "https://huggingface.co/"
_BFL: Final = "black-forest-labs"
_KLEIN_4B: Final = "Comfy-Org/flux2-klein/blob/main/split_files"
_KLEIN_9B: Final = "Comfy-Org/flux2-klein-9B/blob/main/split_files"
_QWEN_IMAGE: Final = "Comfy-Org/Qwen-Image_ComfyUI/blob/main/split_files"
_QWEN_IMAGE_21: Final = "Comfy-Org/Qwen-Image-2.1/blob/main"
_QWEN3_VL: Final = "Comfy-Org/Qwen3-VL/blob/main/text_encoders"


class KnownSize(NamedTuple):
    """bytes: of the file. read: how the number was read. address: of the file's page."""

    bytes: int
    read: str
    address: str

    @property
    def download(self) -> str:
        """The address of the file itself."""
        return self.address.replace("/blob/", "/resolve/")


KNOWN_SIZES: Final[dict[str, KnownSize]] = {
    name: KnownSize(size, read, f"{_HUB}{folder}/{name}")
    for name, size, read, folder in (
        ("flux-2-klein-4b-fp8.safetensors", 4_070_624_520, "page", f"{_BFL}/FLUX.2-klein-4b-fp8/blob/main"),
        ("flux-2-klein-base-4b-fp8.safetensors", 4_090_000_000, "page", f"{_BFL}/FLUX.2-klein-base-4b-fp8/blob/main"),
        ("flux-2-klein-9b-fp8.safetensors", 9_430_000_000, "copy", f"{_BFL}/FLUX.2-klein-9b-fp8/blob/main"),
        ("qwen_3_4b.safetensors", 8_044_982_048, "page", f"{_KLEIN_4B}/text_encoders"),
        ("qwen_3_8b.safetensors", 16_400_000_000, "page", f"{_KLEIN_9B}/text_encoders"),
        ("qwen_3_8b_fp8mixed.safetensors", 8_660_000_000, "page", f"{_KLEIN_9B}/text_encoders"),
        ("flux2-vae.safetensors", 336_211_292, "lists", "Comfy-Org/flux2-dev/blob/main/split_files/vae"),
        ("qwen_image_2.1_bf16.safetensors", 14_230_280_616, "one list", f"{_QWEN_IMAGE_21}/diffusion_models"),
        ("qwen_image_2.1_int8_convrot.safetensors", 7_256_783_064, "one list", f"{_QWEN_IMAGE_21}/diffusion_models"),
        ("qwen_image_2.1_vae_bf16.safetensors", 675_509_688, "lists", f"{_QWEN_IMAGE_21}/vae"),
        ("qwen3vl_8b_int8_convrot.safetensors", 9_350_798_360, "lists", f"{_QWEN_IMAGE_21}/text_encoders"),
        ("qwen3vl_8b_bf16.safetensors", 17_534_334_616, "one list", f"{_QWEN_IMAGE_21}/text_encoders"),
        ("qwen3vl_8b_fp8_scaled.safetensors", 10_590_000_000, "lists", _QWEN3_VL),
        ("qwen3vl_4b_fp8_scaled.safetensors", 5_242_467_968, "lists", _QWEN3_VL),
        ("qwen3vl_4b_bf16.safetensors", 8_880_000_000, "page", _QWEN3_VL),
        (
            "qwen3vl_4b_int8_convrot.safetensors",
            4_864_124_848,
            "one list",
            f"{_BFL}/flux-3-image-klein-comfy/blob/main/text_encoders",
        ),
        ("qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_380_000_000, "page", f"{_QWEN_IMAGE}/text_encoders"),
    )
}
"""By file name."""
