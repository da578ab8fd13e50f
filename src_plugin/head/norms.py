"""Batch norm beside a layer: folded into one affine map, with statistics over all experiences."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from src_plugin.head.layers import Layer, Pair, Plain


class Moments:
    """Mean and mean square that batch norm saw over all experiences; every presentation counts once.

    Running statistics forget earlier experiences within some batches, and then units that are silent now have almost
    no variance, and weights behind them almost no bound.

    Attributes:
        n: Presentations of earlier experiences.
        now: Presentations of this one.
    """

    def __init__(self, n: int = 0, mean: Tensor | None = None, square: Tensor | None = None) -> None:
        self.n, self.now = n, 0
        self.mean, self.square = mean, square
        self._is_written = False

    def over_all(self, norm: nn.Module) -> Pair:
        """Return mean and variance over all experiences, shape (n_units,) each."""
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean.detach(), norm.running_var.detach()
        if self.mean is None or self.square is None or self._is_written or self.mean.shape != mean.shape:
            return mean, variance
        share = self.now / max(self.n + self.now, 1)
        square = torch.lerp(self.square.to(mean), variance + mean.square(), share)
        mean = torch.lerp(self.mean.to(mean), mean, share)
        return mean, (square - mean.square()).clamp(min=0)

    def written(self) -> None:
        """Note that the batch norm itself has these statistics now."""
        self._is_written = True

    def close(self, norm: nn.Module) -> None:
        """End the experience."""
        mean, variance = self.over_all(norm)
        assert variance is not None
        self.mean, self.square = mean.clone(), variance + mean.square()
        self.n, self.now, self._is_written = self.n + self.now, 0, False

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return 8 + sum(t.numel() * t.element_size() for t in (self.mean, self.square) if t is not None)


class WithNorm(Layer):
    """A layer with batch norm in eval mode before it, behind it, or both: one affine map.

    W = g' * W_0 * g and b = g' * (b_0 + W_0 c) + c', where batch norm maps x to g * x + c. Written back with the
    statistics that the batch norm has then; a unit whose gain is 0 stays as it is.

    Attributes:
        moments: Statistics over all experiences, by batch norm; of one without, those are taken that it has. They are
            written with the weights.
    """

    def __init__(self, core: Plain, *, before: nn.Module | None = None, behind: nn.Module | None = None) -> None:
        self.core, self.before, self.behind = core, before, behind
        self.module = core.module
        self.moments: dict[nn.Module, Moments] = {}

    @property
    def norms(self) -> tuple[nn.Module, ...]:
        """The batch norms, input side first."""
        return tuple(norm for norm in (self.before, self.behind) if norm is not None)

    def _affine(self, norm: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return gain and offset of a batch norm, shape (n,) each."""
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        with torch.no_grad():
            known = self.moments.get(norm)
            mean, variance = (norm.running_mean, norm.running_var) if known is None else known.over_all(norm)
            assert variance is not None
            gain = (variance.to(like) + norm.eps).rsqrt()
            gain = gain if norm.weight is None else gain * norm.weight.to(like)
            offset = -gain * mean.to(like)
            return gain, offset if norm.bias is None else offset + norm.bias.to(like)

    @property
    @override
    def modules(self) -> tuple[nn.Module, ...]:
        return (*self.core.modules, *self.norms)

    @property
    @override
    def entry(self) -> nn.Module:
        return self.core.entry if self.before is None else self.before

    @property
    @override
    def frozen(self) -> str:
        return self.core.frozen

    @property
    def _shift(self) -> Tensor | None:
        """Where biases go: those of the batch norm behind, since in training it takes out those of the Linear."""
        return self.core.bias if self._own is None else self._own

    @property
    def _own(self) -> Tensor | None:
        """The bias of the batch norm behind, if it has one that may be changed."""
        own = getattr(self.behind, "bias", None)
        return own if isinstance(own, Tensor) and own.requires_grad else None

    @staticmethod
    def can_fold(core: Plain, norm: nn.Module, *, behind: bool) -> bool:
        """Whether biases have a place to be written to."""
        if core.frozen_bias is not None:
            return False
        bias = getattr(norm, "bias", None) if behind else None
        return core.bias is not None or (bias is not None and bias.requires_grad)

    @override
    def read(self) -> Pair:
        weight, bias = self.core.read()
        shift = torch.zeros_like(weight[:, 0]) if bias is None else bias
        if self.before is not None:
            gain, offset = self._affine(self.before, weight)
            shift = shift + weight @ offset
            weight = weight * gain
        if self.behind is not None:
            gain, offset = self._affine(self.behind, weight)
            shift = gain * shift + offset
            weight = gain[:, None] * weight
        return weight, shift

    @override
    def targets(self) -> list[Tensor]:
        shift = self._shift
        buffers = [b for norm in self.norms if norm in self.moments for b in (norm.running_mean, norm.running_var)]
        return [*self.core.weight_targets(), *([] if shift is None else [shift]), *buffers]  # type: ignore[list-item]

    @override
    def solve(self, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
        assert bias is not None
        old, old_bias = (None if t is None else t.to(weight) for t in self.core.read())
        assert old is not None
        offset_in = weight.new_zeros(old.shape[1])
        gain_out, offset_out = weight.new_ones(len(old)), weight.new_zeros(len(old))
        if self.behind is not None:
            gain_out, offset_out = self._affine(self.behind, weight)
            weight = torch.where(gain_out[:, None] == 0, 0.0, weight / gain_out[:, None])
        if self.before is not None:
            gain, offset_in = self._affine(self.before, weight)
            weight = torch.where(gain == 0, old, weight / gain)
        weight = torch.where(gain_out[:, None] == 0, old, weight)
        if self._own is None:
            assert old_bias is not None  # by `can_fold`
            shift = (bias - offset_out) / gain_out - weight @ offset_in
            shift = torch.where(gain_out == 0, old_bias, shift)
        else:  # the offset of batch norm is its bias - gain * mean
            inner = weight @ offset_in if old_bias is None else weight @ offset_in + old_bias
            shift = bias - gain_out * inner + (self._own.detach().to(weight) - offset_out)
        buffers = [b for n in self.norms if n in self.moments for b in self.moments[n].over_all(n) if b is not None]
        with torch.no_grad():
            return [*self.core.solve_weight(weight), shift, *buffers]

    @override
    def refresh(self) -> None:
        self.core.refresh()
        for moments in self.moments.values():
            moments.written()

    @override
    def in_model(self, modules: Mapping[str, nn.Module], names: Mapping[nn.Module, str]) -> Layer:
        core = self.core.in_model(modules, names)
        assert isinstance(core, Plain)
        before, behind = (None if n is None else modules[names[n]] for n in (self.before, self.behind))
        layer = WithNorm(core, before=before, behind=behind)
        layer.moments = {modules[names[norm]]: moments for norm, moments in self.moments.items()}
        return layer
