"""Layers of a head: each reads as one plain matrix and bias, and is written back into the model's own parameters.

Whatever holds the weights (a Linear, weight norm, LoRA), and whatever affine map stands beside it (batch norm in eval
mode), a layer computes x W' + b with the `W` and `b` that `read` gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.weight_norm import WeightNorm

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.modes import eval_mode

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
    def modules(self) -> tuple[nn.Module, ...]:  # noqa: D102
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

    def read(self) -> Pair:  # noqa: D102
        with torch.no_grad():
            return self.weight().detach(), None if self.bias is None else self.bias.detach()

    def targets(self) -> list[Tensor]:  # noqa: D102
        return [*self.weight_targets(), *([] if self.bias is None else [self.bias])]

    def solve(self, weight: Tensor, bias: Tensor | None) -> list[Tensor]:  # noqa: D102
        with torch.no_grad():
            return [*self.solve_weight(weight), *([] if bias is None else [bias])]

    def in_model(self, modules: Mapping[str, nn.Module], names: Mapping[nn.Module, str]) -> Layer:  # noqa: D102
        return layer_of(modules[names[self.module]], names[self.module])

    @property
    def frozen(self) -> str:  # noqa: D102
        frozen = {id(p) for p in self.weight_targets() if not p.requires_grad}
        return next((name for name, p in self.module.named_parameters() if id(p) in frozen), "")


class Transposed(Plain):
    """A module whose weight has the shape (n_pre, n_post)."""

    def weight(self) -> Tensor:  # noqa: D102
        return super().weight().T

    def weight_targets(self) -> list[Tensor]:  # noqa: D102
        return [super().weight()]

    def solve_weight(self, weight: Tensor) -> list[Tensor]:  # noqa: D102
        return [weight.T]


class Pointwise(Plain):
    """A 1 x 1 convolution over a single position."""

    def weight(self) -> Tensor:  # noqa: D102
        return super().weight().flatten(1)

    def weight_targets(self) -> list[Tensor]:  # noqa: D102
        return [super().weight()]

    def solve_weight(self, weight: Tensor) -> list[Tensor]:  # noqa: D102
        return [weight[:, :, None, None]]


class Parametrized(Plain):
    """A Linear whose weight is computed by `torch.nn.utils.parametrize`."""

    @property
    def _list(self) -> parametrize.ParametrizationList:
        found = self.module.parametrizations["weight"]  # type: ignore[index, union-attr, operator]
        assert isinstance(found, parametrize.ParametrizationList)
        return found

    def weight_targets(self) -> list[Tensor]:  # noqa: D102
        held = self._list
        if held.is_tensor:
            return [held.original]
        return [getattr(held, f"original{i}") for i in range(held.ntensors)]

    def solve_weight(self, weight: Tensor) -> list[Tensor]:  # noqa: D102
        value: Tensor | Sequence[Tensor] = weight
        for part in reversed(list(self._list)):
            value = part.right_inverse(value)  # type: ignore[operator, union-attr]
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
                given: Tensor = self._list[0](*values)  # type: ignore[operator]
                for part in list(self._list)[1:]:
                    given = part(given)  # type: ignore[operator]
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

    def weight(self) -> Tensor:  # noqa: D102
        with torch.no_grad():
            weight: Tensor = self._hook.compute_weight(self.module)
            return weight

    def weight_targets(self) -> list[Tensor]:  # noqa: D102
        return [self.module.weight_g, self.module.weight_v]  # type: ignore[list-item]

    def solve_weight(self, weight: Tensor) -> list[Tensor]:  # noqa: D102
        norm = torch.norm_except_dim(weight, 2, self._hook.dim)
        return _keep_length([norm, weight], self.weight_targets())

    def refresh(self) -> None:  # noqa: D102
        self.module.weight = self.weight()


class Lora(Plain):
    """A low-rank adapter beside a Linear, as `peft` has it: the merged weight; changes go to the Linear."""

    @property
    def _base(self) -> nn.Linear:
        base = self.module.base_layer
        assert isinstance(base, nn.Linear)
        return base

    @property
    def bias(self) -> Tensor | None:  # noqa: D102
        bias = self._base.bias
        return bias if bias is not None and bias.requires_grad else None

    @property
    def frozen_bias(self) -> Tensor | None:  # noqa: D102
        bias = self._base.bias
        return bias if bias is not None and not bias.requires_grad else None

    def _added(self) -> Tensor:
        added = torch.zeros_like(self._base.weight)
        if getattr(self.module, "disable_adapters", False) or getattr(self.module, "merged", False):
            return added
        pairs = self.module
        for name in getattr(pairs, "active_adapters", None) or list(pairs.lora_A):  # type: ignore[arg-type]
            if name in pairs.lora_A:  # type: ignore[operator]
                up, down = pairs.lora_B[name].weight, pairs.lora_A[name].weight  # type: ignore[index, operator]
                added = added + pairs.scaling[name] * up @ down  # type: ignore[index, operator]
        return added

    def weight(self) -> Tensor:  # noqa: D102
        return self._base.weight + self._added()

    def weight_targets(self) -> list[Tensor]:  # noqa: D102
        return [self._base.weight]

    def solve_weight(self, weight: Tensor) -> list[Tensor]:  # noqa: D102
        return [weight - self._added().to(weight)]


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
        assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
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
        assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            known = self.moments.get(norm)
            mean, variance = (norm.running_mean, norm.running_var) if known is None else known.over_all(norm)
            assert variance is not None
            gain = (variance.to(like) + norm.eps).rsqrt()
            gain = gain if norm.weight is None else gain * norm.weight.to(like)
            offset = -gain * mean.to(like)
            return gain, offset if norm.bias is None else offset + norm.bias.to(like)

    @property
    def modules(self) -> tuple[nn.Module, ...]:  # noqa: D102
        return (*self.core.modules, *self.norms)

    @property
    def entry(self) -> nn.Module:  # noqa: D102
        return self.core.entry if self.before is None else self.before

    @property
    def frozen(self) -> str:  # noqa: D102
        return self.core.frozen

    @property
    def _shift(self) -> Tensor | None:
        """Where biases go: those of the Linear, or where it has none, those of the batch norm behind it."""
        if self.core.bias is not None:
            return self.core.bias
        return getattr(self.behind, "bias", None)

    @staticmethod
    def can_fold(core: Plain, norm: nn.Module, *, behind: bool) -> bool:
        """Whether biases have a place to be written to."""
        if core.frozen_bias is not None:
            return False
        bias = getattr(norm, "bias", None) if behind else None
        return core.bias is not None or (bias is not None and bias.requires_grad)

    def read(self) -> Pair:  # noqa: D102
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

    def targets(self) -> list[Tensor]:  # noqa: D102
        shift = self._shift
        buffers = [b for norm in self.norms if norm in self.moments for b in (norm.running_mean, norm.running_var)]
        return [*self.core.weight_targets(), *([] if shift is None else [shift]), *buffers]  # type: ignore[list-item]

    def solve(self, weight: Tensor, bias: Tensor | None) -> list[Tensor]:  # noqa: D102
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
        if old_bias is not None:
            shift = (bias - offset_out) / gain_out - weight @ offset_in
            shift = torch.where(gain_out == 0, old_bias, shift)
        else:  # into the bias of the batch norm, whose offset is bias - gain * mean
            own: Tensor = self.behind.bias.detach().to(weight)  # type: ignore[union-attr]
            shift = bias - gain_out * (weight @ offset_in) + (own - offset_out)
        buffers = [b for n in self.norms if n in self.moments for b in self.moments[n].over_all(n) if b is not None]
        with torch.no_grad():
            return [*self.core.solve_weight(weight), shift, *buffers]

    def refresh(self) -> None:  # noqa: D102
        self.core.refresh()
        for moments in self.moments.values():
            moments.written()

    def in_model(self, modules: Mapping[str, nn.Module], names: Mapping[nn.Module, str]) -> Layer:  # noqa: D102
        core = self.core.in_model(modules, names)
        assert isinstance(core, Plain)
        before, behind = (None if n is None else modules[names[n]] for n in (self.before, self.behind))
        layer = WithNorm(core, before=before, behind=behind)
        layer.moments = {modules[names[norm]]: moments for norm, moments in self.moments.items()}
        return layer


class Block(Layer):
    """Layers side by side that take the same inputs, and whose outputs are put together: a head that grows."""

    def __init__(self, parts: Sequence[Plain]) -> None:
        self.parts = tuple(parts)
        self.module = parts[0].module

    @property
    def modules(self) -> tuple[nn.Module, ...]:  # noqa: D102
        return tuple(part.module for part in self.parts)

    @property
    def frozen(self) -> str:  # noqa: D102
        return next((part.frozen for part in self.parts if part.frozen), "")

    def read(self) -> Pair:  # noqa: D102
        pairs = [part.read() for part in self.parts]
        weight = torch.cat([w for w, _ in pairs])
        if all(b is None for _, b in pairs):
            return weight, None
        return weight, torch.cat([w.new_zeros(len(w)) if b is None else b for w, b in pairs])

    def targets(self) -> list[Tensor]:  # noqa: D102
        return [target for part in self.parts for target in part.targets()]

    def solve(self, weight: Tensor, bias: Tensor | None) -> list[Tensor]:  # noqa: D102
        values: list[Tensor] = []
        start = 0
        for part in self.parts:
            rows = slice(start, start + part.sizes[1])
            values += part.solve(weight[rows], None if bias is None or part.bias is None else bias[rows])
            start = rows.stop
        return values

    def refresh(self) -> None:  # noqa: D102
        for part in self.parts:
            part.refresh()

    def in_model(self, modules: Mapping[str, nn.Module], names: Mapping[nn.Module, str]) -> Layer:  # noqa: D102
        parts = [part.in_model(modules, names) for part in self.parts]
        return Block([part for part in parts if isinstance(part, Plain)])


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
        bias = layer._base.bias if isinstance(layer, Lora) else bias
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
            f"the weight of {name!r} is pruned: it is computed from 'weight_orig' and a mask, and sleep would fill what "
            "the mask leaves out. Make the pruning permanent first, if that is meant: "
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


def _keep_length(values: Sequence[Tensor], now: Sequence[Tensor]) -> list[Tensor]:
    """Let the direction of weight norm keep its length, on which the size of later steps depends; its scale is free."""
    norm, direction = values
    dims = [d for d in range(direction.ndim) if norm.shape[d] == 1] if norm.ndim == direction.ndim else []
    if not dims:
        return list(values)
    length = now[1].detach().to(direction).norm(dim=dims, keepdim=True)
    own = direction.norm(dim=dims, keepdim=True)
    return [norm, torch.where(own > 0, direction * (length / own.clamp(min=1e-30)), direction)]
