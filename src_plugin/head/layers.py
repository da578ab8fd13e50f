"""Layers of a head: each reads as one plain matrix and bias, and is written back into the model's own parameters.

Whatever holds the weights (a Linear, weight norm, LoRA), and whatever affine map stands beside it (batch norm in eval
mode), a layer computes x W' + b with the `W` and `b` that `read` gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

Pair = tuple[Tensor, Tensor | None]


class Layer(ABC):
    """One linear map of a head.

    Attributes:
        module: The module that holds its weights; of a block the first one.
    """

    module: nn.Module

    @property
    @abstractmethod
    def modules(self) -> tuple[nn.Module, ...]:
        """All modules whose parameters make the map."""

    @property
    def entry(self) -> nn.Module:
        """The module whose input is the input of the layer."""
        return self.module

    @abstractmethod
    def read(self) -> Pair:
        """Return weights, shape (n_post, n_pre), and biases, shape (n_post,), or None; not to be written to."""

    @abstractmethod
    def targets(self) -> list[Tensor]:
        """Return the parameters that `write` changes."""

    @abstractmethod
    def solve(self, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
        """Return the values of `targets` under which `read` gives the weight and bias."""

    @abstractmethod
    def in_model(self, modules: Mapping[str, nn.Module], names: Mapping[nn.Module, str]) -> Layer:
        """Return the same layer, made of the modules that have the same names now."""

    def refresh(self) -> None:  # noqa: B027 - most have nothing to do
        """Bring what is computed from the parameters up to date."""

    @property
    def frozen(self) -> str:
        """Name of a parameter of the weights that is frozen; "" if there is none."""
        return ""

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of inputs and of outputs."""
        weight = self.read()[0]
        return weight.shape[1], weight.shape[0]


class Plain(Layer):
    """A module with a parameter `weight`, shape (n_post, n_pre), and a parameter `bias` or None."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @property
    @override
    def modules(self) -> tuple[nn.Module, ...]:
        return (self.module,)

    @property
    def bias(self) -> Tensor | None:
        """The parameter; None also where it is frozen, since then it is a part of the joint that follows."""
        bias = getattr(self.module, "bias", None)
        return bias if isinstance(bias, Tensor) and bias.requires_grad else None

    @property
    def frozen_bias(self) -> Tensor | None:
        """The bias, if it is frozen while the weights are not."""
        bias = getattr(self.module, "bias", None)
        return bias if isinstance(bias, Tensor) and not bias.requires_grad else None

    def weight(self) -> Tensor:
        """Return the weights, shape (n_post, n_pre)."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        return weight

    def weight_targets(self) -> list[Tensor]:
        """Return the parameters that hold them."""
        return [self.weight()]

    def solve_weight(self, weight: Tensor) -> list[Tensor]:
        """Return the values of these parameters."""
        return [weight]

    @override
    def read(self) -> Pair:
        with torch.no_grad():
            return self.weight().detach(), None if self.bias is None else self.bias.detach()

    @override
    def targets(self) -> list[Tensor]:
        return [*self.weight_targets(), *([] if self.bias is None else [self.bias])]

    @override
    def solve(self, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
        with torch.no_grad():
            return [*self.solve_weight(weight), *([] if bias is None else [bias])]

    @override
    def in_model(self, modules: Mapping[str, nn.Module], names: Mapping[nn.Module, str]) -> Layer:
        return type(self)(modules[names[self.module]])

    @property
    @override
    def frozen(self) -> str:
        frozen = {id(p) for p in self.weight_targets() if not p.requires_grad}
        return next((name for name, p in self.module.named_parameters() if id(p) in frozen), "")


class Block(Layer):
    """Layers side by side that take the same inputs, and whose outputs are put together: a head that grows."""

    def __init__(self, parts: Sequence[Plain]) -> None:
        self.parts = tuple(parts)
        self.module = parts[0].module

    @property
    @override
    def modules(self) -> tuple[nn.Module, ...]:
        return tuple(part.module for part in self.parts)

    @property
    @override
    def frozen(self) -> str:
        return next((part.frozen for part in self.parts if part.frozen), "")

    @override
    def read(self) -> Pair:
        pairs = [part.read() for part in self.parts]
        weight = torch.cat([w for w, _ in pairs])
        if all(b is None for _, b in pairs):
            return weight, None
        return weight, torch.cat([w.new_zeros(len(w)) if b is None else b for w, b in pairs])

    @override
    def targets(self) -> list[Tensor]:
        return [target for part in self.parts for target in part.targets()]

    @override
    def solve(self, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
        values: list[Tensor] = []
        start = 0
        for part in self.parts:
            rows = slice(start, start + part.sizes[1])
            values += part.solve(weight[rows], None if bias is None or part.bias is None else bias[rows])
            start = rows.stop
        return values

    @override
    def refresh(self) -> None:
        for part in self.parts:
            part.refresh()

    @override
    def in_model(self, modules: Mapping[str, nn.Module], names: Mapping[nn.Module, str]) -> Layer:
        parts = [part.in_model(modules, names) for part in self.parts]
        return Block([part for part in parts if isinstance(part, Plain)])
