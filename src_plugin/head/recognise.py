"""Which modules compute x W' + b, and how each holds its weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.weight_norm import WeightNorm

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.layers import Plain
from src_plugin.head.weights import Lora, OldWeightNorm, Parametrized, Pointwise, Transposed


def is_lora(module: nn.Module) -> bool:
    """Whether a module is a Linear with low-rank adapters beside it."""
    own = (getattr(module, name, None) for name in ("base_layer", "lora_A", "lora_B"))
    base, down, up = own
    return isinstance(base, nn.Linear) and isinstance(down, nn.ModuleDict) and isinstance(up, nn.ModuleDict)


def looks_linear(module: nn.Module) -> bool:
    """Whether a module may be a layer: a Linear, one with LoRA, or a module with nothing but a matrix and a bias."""
    if isinstance(module, nn.Linear) or is_lora(module):
        return True
    if isinstance(module, nn.Conv2d):
        return (module.kernel_size, module.stride, module.padding, module.groups) == ((1, 1), (1, 1), (0, 0), 1)
    own = dict(module.named_parameters(recurse=False))
    weight, bias = own.get("weight"), own.get("bias")
    has_parts = any(True for _ in module.children())
    if weight is None or weight.ndim != 2 or has_parts or set(own) - {"weight", "bias"}:
        return False
    return (bias is None or bias.ndim == 1) and not isinstance(module, (nn.Embedding, nn.EmbeddingBag))


def is_surely_linear(module: nn.Module) -> bool:
    """Whether its class says that it computes x W' + b."""
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def computes(layer: Plain, x: Tensor, output: Tensor) -> bool:
    """Whether a layer maps x to the output: x W' + b, but for rounding."""
    with torch.no_grad():
        weight, bias = layer.weight(), getattr(layer.module, "bias", None)
        bias = layer.base.bias if isinstance(layer, Lora) else bias
        if x.shape[-1:] != weight.shape[1:] or output.shape != (*x.shape[:-1], len(weight)):
            return False
        wanted = F.linear(x.to(weight.dtype), weight, bias).float()
        tolerance = 1e-4 if output.dtype in (torch.float32, torch.float64) else 3e-2
        given = output.detach().float()
        scale = float(wanted.abs().max()) if wanted.numel() else 0.0
        return bool(torch.allclose(given, wanted, rtol=tolerance, atol=tolerance * scale + 1e-12))


def linear_like(module: nn.Module, x: Tensor, output: Tensor) -> bool:
    """Whether a module that looks linear is: it maps x to the output as x W' + b."""
    if is_surely_linear(module):
        return True
    if isinstance(module, nn.Conv2d):
        return output.ndim == 4 and output.shape[2:] == (1, 1)
    if is_lora(module):
        return computes(Lora(module), x, output)
    return computes(Plain(module), x, output) or computes(Transposed(module), x, output)


def layer_of(module: nn.Module, name: str, *, transposed: bool = False) -> Plain:
    """Return the layer that a linear module is.

    Args:
        module: The module.
        name: Its name in the model, for messages.
        transposed: Whether its weight has the shape (n_pre, n_post).

    Raises:
        HeadNotFoundError: Its weight cannot be written.
    """
    if is_lora(module):
        return Lora(module)
    if parametrize.is_parametrized(module):
        lists: Mapping[str, nn.Module] = dict(module.parametrizations.items())  # type: ignore[union-attr, operator]
        if set(lists) != {"weight"}:
            raise HeadNotFoundError(
                f"the bias of {name!r} is computed from other parameters by a parametrisation, so a slept one would "
                "not last. Remove it before training: torch.nn.utils.parametrize.remove_parametrizations(layer, 'bias')"
            )
        layer = Parametrized(module)
        layer.check(name)
        return layer
    pre_hooks = list(module._forward_pre_hooks.values())
    if any(isinstance(hook, WeightNorm) and hook.name == "weight" for hook in pre_hooks):
        return OldWeightNorm(module)
    if any(isinstance(hook, BasePruningMethod) for hook in pre_hooks):
        raise HeadNotFoundError(
            f"the weight of {name!r} is pruned: it is computed from 'weight_orig' and a mask, and sleep would fill "
            "what the mask leaves out. Make the pruning permanent first, if that is meant: "
            "torch.nn.utils.prune.remove(layer, 'weight')"
        )
    if not isinstance(module._parameters.get("weight"), nn.Parameter):
        raise HeadNotFoundError(
            f"the weight of {name!r} is no parameter of its own but is computed from others before every pass "
            "(spectral norm or the like), so a slept weight would not last. Remove that before training"
        )
    if isinstance(module, nn.Conv2d):
        return Pointwise(module)
    return Transposed(module) if transposed else Plain(module)
