"""Layers whose weights are held in another way than a Linear holds them: turned, computed, or with something added."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm
from typing_extensions import override

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.layers import Plain
from src_plugin.head.modes import eval_mode


class Transposed(Plain):
    """A module whose weight has the shape (n_pre, n_post)."""

    @override
    def weight(self) -> Tensor:
        return super().weight().T

    @override
    def weight_targets(self) -> list[Tensor]:
        return [super().weight()]

    @override
    def solve_weight(self, weight: Tensor) -> list[Tensor]:
        return [weight.T]


class Pointwise(Plain):
    """A 1 x 1 convolution over a single position."""

    @override
    def weight(self) -> Tensor:
        return super().weight().flatten(1)

    @override
    def weight_targets(self) -> list[Tensor]:
        return [super().weight()]

    @override
    def solve_weight(self, weight: Tensor) -> list[Tensor]:
        return [weight[:, :, None, None]]


class Parametrized(Plain):
    """A Linear whose weight is computed by `torch.nn.utils.parametrize`."""

    @property
    def _list(self) -> parametrize.ParametrizationList:
        found = getattr(self.module.parametrizations, "weight")  # noqa: B009 - a ModuleDict, for mypy a tensor
        assert isinstance(found, parametrize.ParametrizationList)
        return found

    @override
    def weight_targets(self) -> list[Tensor]:
        held = self._list
        if held.is_tensor:
            return [held.original]
        return [getattr(held, f"original{i}") for i in range(held.ntensors)]

    @override
    def solve_weight(self, weight: Tensor) -> list[Tensor]:
        value: Tensor | Sequence[Tensor] = weight
        for part in reversed(list(self._list)):
            value = getattr(part, "right_inverse")(value)  # noqa: B009 - as above
        values = [value] if isinstance(value, Tensor) else list(value)
        is_norm = len(self._list) == 1 and isinstance(self._list[0], _WeightNorm)
        return _keep_length(values, self.weight_targets()) if is_norm else values

    def check(self, name: str) -> None:
        """Refuse a parametrisation that cannot hold every weight.

        Raises:
            HeadNotFoundError: It has no inverse, or gives back another weight than was written.
        """
        kinds = ", ".join(dict.fromkeys(type(part).__name__.strip("_") for part in self._list))
        with torch.no_grad(), eval_mode(self._list):
            wanted = 1.25 * self.weight() + 0.01 * self.weight().flip(0)
            try:
                for target, value in zip(self.weight_targets(), self.solve_weight(wanted), strict=True):
                    if target.shape != value.shape:
                        raise ValueError("shape")
                values = self.solve_weight(wanted)
                given: Tensor = self._list[0](*values)
                for part in list(self._list)[1:]:
                    given = part(given)
                holds = torch.allclose(given, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
            except Exception:  # a parametrisation is code of the user's
                holds = False
        if not holds:
            raise HeadNotFoundError(
                f"the weight of {name!r} is computed from other parameters by a parametrisation ({kinds}) that cannot "
                "hold every weight, so a slept one would not last. Remove it before training: "
                "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
            )


class OldWeightNorm(Plain):
    """A Linear under `torch.nn.utils.weight_norm`, whose weight is computed before each forward pass."""

    @property
    def _hook(self) -> WeightNorm:
        return next(h for h in self.module._forward_pre_hooks.values() if isinstance(h, WeightNorm))

    @override
    def weight(self) -> Tensor:
        with torch.no_grad():
            weight: Tensor = self._hook.compute_weight(self.module)
            return weight

    @override
    def weight_targets(self) -> list[Tensor]:
        return [self.module.weight_g, self.module.weight_v]  # type: ignore[list-item]

    @override
    def solve_weight(self, weight: Tensor) -> list[Tensor]:
        norm = torch.norm_except_dim(weight, 2, self._hook.dim)
        return _keep_length([norm, weight], self.weight_targets())

    @override
    def refresh(self) -> None:
        self.module.weight = self.weight()


class Lora(Plain):
    """A low-rank adapter beside a Linear, as `peft` has it: the merged weight; changes go to the Linear."""

    @property
    def base(self) -> nn.Linear:
        """The Linear."""
        base = self.module.base_layer
        assert isinstance(base, nn.Linear)
        return base

    @property
    @override
    def bias(self) -> Tensor | None:
        bias = self.base.bias
        return bias if bias is not None and bias.requires_grad else None

    @property
    @override
    def frozen_bias(self) -> Tensor | None:
        bias = self.base.bias
        return bias if bias is not None and not bias.requires_grad else None

    def _added(self) -> Tensor:
        added = torch.zeros_like(self.base.weight)
        if getattr(self.module, "disable_adapters", False) or getattr(self.module, "merged", False):
            return added
        pairs = self.module
        for name in getattr(pairs, "active_adapters", None) or list(pairs.lora_A):  # type: ignore[arg-type]
            if name in pairs.lora_A:  # type: ignore[operator]
                up, down = pairs.lora_B[name].weight, pairs.lora_A[name].weight  # type: ignore[index, union-attr]
                added = added + pairs.scaling[name] * up @ down  # type: ignore[index]
        return added

    @override
    def weight(self) -> Tensor:
        return self.base.weight + self._added()

    @override
    def weight_targets(self) -> list[Tensor]:
        return [self.base.weight]

    @override
    def solve_weight(self, weight: Tensor) -> list[Tensor]:
        return [weight - self._added().to(weight)]


def _keep_length(values: Sequence[Tensor], now: Sequence[Tensor]) -> list[Tensor]:
    """Let the direction of weight norm keep its length, on which the size of later steps depends; its scale is free."""
    norm, direction = values
    dims = [d for d in range(direction.ndim) if norm.shape[d] == 1] if norm.ndim == direction.ndim else []
    if not dims:
        return list(values)
    length = now[1].detach().to(direction).norm(dim=dims, keepdim=True)
    own = direction.norm(dim=dims, keepdim=True)
    return [norm, torch.where(own > 0, direction * (length / own.clamp(min=1e-30)), direction)]
