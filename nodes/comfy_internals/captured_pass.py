"""A pass through a `LayerLoop` as one CUDA graph: on a small batch a GPU waits for Python, not for memory.

All of it stands in fixed memory: the whole cache with a mask, and the place of the first token in a tensor. It lives as
long as one reply, so no address of it outlives the weights and the cache that it names.
"""

from __future__ import annotations

import functools
import logging

import torch

from .layer_loop import LayerLoop

WARM = 3
"""Passes before the capture, as PyTorch asks for them."""
_log = logging.getLogger(__name__)


class FixedPass:
    """`count` tokens at a time, in fixed memory. Fewer are filled up; what comes of the rest is not looked at."""

    def __init__(self, loop: LayerLoop, count: int, like: torch.Tensor):
        """like: hidden states, for size, format and device."""
        self.loop, self.count = loop, count
        self.x = like.new_zeros(1, count, like.shape[-1])
        self.begin = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.offsets = torch.arange(count, device=like.device)
        self.kept = torch.arange(loop.room, device=like.device)[None]
        for layer in loop.layers:  # memory that was never written may hold no numbers, which no mask hides
            layer.keys[:, :, loop.length :] = 0
            layer.values[:, :, loop.length :] = 0

    def fits(self, count: int) -> bool:
        return count <= self.count and self.loop.length + self.count <= self.loop.room

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """As `LayerLoop.read`."""
        count = x.shape[1]
        self.x[:, :count] = x
        self.x[:, count:] = 0
        self.begin.fill_(self.loop.length)
        self.loop.length += count
        return self.run()[:, :count]

    def run(self) -> torch.Tensor:
        """What x gives at its place; may be captured."""
        places = self.begin + self.offsets
        cos, sin = (part.index_select(-2, places - self.loop.first) for part in self.loop.turns)

        def put(kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            return kept.index_copy_(2, places, new)

        return self.loop.through(self.x, cos, sin, self.kept <= places[:, None], put)


class CapturedPass(FixedPass):
    """The same as a CUDA graph."""

    def __init__(self, loop: LayerLoop, count: int, like: torch.Tensor):
        super().__init__(loop, count, like)
        self.begin.fill_(loop.length)
        side = torch.cuda.Stream(like.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(like.device))
        with torch.cuda.stream(side):
            for _ in range(WARM):
                wanted = super().run()
        torch.cuda.current_stream(like.device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = super().run()
        self.graph.replay()
        if not torch.allclose(self.out, wanted, rtol=0.05, atol=0.05):
            raise RuntimeError("the graph gives other numbers")

    def run(self) -> torch.Tensor:
        self.graph.replay()
        return self.out


def captured_pass(loop: LayerLoop, count: int, like: torch.Tensor) -> FixedPass | None:
    """None where there is no CUDA, or something but plain products on weights that lie on the device is called."""
    if like.device.type != "cuda" or not loop.capturable or loop.length + count > loop.room:
        return None
    stream = torch.cuda.current_stream(like.device)
    try:
        return CapturedPass(loop, count, like)
    except RuntimeError as error:
        torch.cuda.set_stream(stream)  # a capture that fails at its end leaves its own
        _say_once(str(error).splitlines()[0][:200])
        return None


@functools.cache
def _say_once(reason: str) -> None:
    _log.warning("InterleaveThinker: agents run without CUDA graphs: %s", reason)
