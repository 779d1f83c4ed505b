"""Call a linear layer or a norm directly, where ComfyUI's casting and PyTorch's hooks would do nothing.

ComfyUI's layers ask before each product whether a weight has to be fetched, converted or patched. For a model that lies
on its device in the number format of the reply the answer is no for the whole reply, and asking costs more than half of
a token's time on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear, rms_norm
from torch.nn.modules import module as torch_module

PLAIN = (torch.Tensor, torch.nn.Parameter)

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

Call = Callable[[torch.Tensor], torch.Tensor]


def straight_call(module: Any, device: torch.device, dtype: torch.dtype) -> Call:
    """The shortest call that gives what `module(x)` gives for x of this device and format.

    The module itself where a hook, an adapter, a patch, quantised, converted or offloaded weights have a say. Holds as
    long as nothing is loaded, patched or hooked.
    """
    call: Call = module
    if module is None or hooked(module):
        return call
    if _is_linear(module):
        ready = _there(module.weight, device, dtype) and (module.bias is None or _there(module.bias, device, dtype))
        return partial(linear, weight=module.weight, bias=module.bias) if ready and not _patched(module) else call
    if _is_norm(module) and _there(module.weight, device, dtype):
        return partial(rms_norm, normalized_shape=module.weight.shape, weight=module.weight, eps=module.eps)
    return call


def hooked(module: Any) -> bool:
    """Whether somebody has a say in what the module gives, or takes."""
    own = vars(module)
    return "forward" in own or any(own.get(name) or vars(torch_module).get(f"_global{name}") for name in _HOOKS)


def _is_linear(module: Any) -> bool:
    """ComfyUI's, as it is known here, or PyTorch's."""
    kind = type(module)
    if kind.forward is torch.nn.Linear.forward:
        return True
    try:
        from comfy.ops import disable_weight_init

        known = disable_weight_init.Linear
        return bool(
            kind.forward is known.forward and kind.forward_comfy_cast_weights is known.forward_comfy_cast_weights
        )
    except (ImportError, AttributeError):
        return False


def _is_norm(module: Any) -> bool:
    """That of ComfyUI's language models, without an offset."""
    try:
        from comfy.text_encoders.llama import RMSNorm
    except (ImportError, AttributeError):
        return False
    return type(module).forward is RMSNorm.forward and getattr(module, "add", True) is False


def _patched(module: Any) -> bool:
    return bool(getattr(module, "weight_function", ()) or getattr(module, "bias_function", ())) or hasattr(module, "_v")


def _there(weight: Any, device: torch.device, dtype: torch.dtype) -> bool:
    return type(weight) in PLAIN and weight.device == device and weight.dtype == dtype
