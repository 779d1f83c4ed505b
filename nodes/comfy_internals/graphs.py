"""What ComfyUI's own `generate` leaves on the GPU until the running node ends."""

from __future__ import annotations


def release_graphs() -> None:
    """Free the captured GPU graphs. Call it between two replies of one node.

    ComfyUI captures GPU graphs for it. They keep the addresses of its cache, which the next call makes anew, and
    ComfyUI lets go of them only when the node ends. Does nothing where there are none.
    """
    try:
        from comfy.model_prefetch import cleanup_prefetch_queues

        cleanup_prefetch_queues()
    except (ImportError, AttributeError, TypeError):
        return
