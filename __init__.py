"""InterleaveThinker for ComfyUI: interleaved text-and-image generation around your own sampler graph."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./js"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
