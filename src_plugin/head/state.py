"""The classifier head: the Linear layers that SRC may change, found in a model and read and written as a whole.

A head is the longest tail of Linear layers joined only by ReLU, Dropout, Flatten or Identity that ends in the model's
output. What lies below it (a frozen backbone) is never touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_plugin.errors import WeightsError
from src_plugin.head.trace import eval_mode


@dataclass(frozen=True)
class HeadState:
    """A copy of a head's parameters.

    Attributes:
        weights: One tensor per layer, shape (n_post, n_pre).
        biases: One tensor per layer, shape (n_post,), or None for a layer without.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]

    def tensors(self) -> list[Tensor]:
        """Return weights, then biases that exist."""
        return [*self.weights, *(b for b in self.biases if b is not None)]

    def towards(self, other: HeadState, share: float) -> HeadState:
        """Return the point `self + share * (other - self)` of the straight line between two states."""
        return HeadState(
            tuple(torch.lerp(a, b, share) for a, b in zip(self.weights, other.weights, strict=True)),
            tuple(
                None if a is None or b is None else torch.lerp(a, b, share)
                for a, b in zip(self.biases, other.biases, strict=True)
            ),
        )

    def to(self, device: torch.device | str) -> HeadState:
        """Return the same parameters on a device: these very tensors, if they lie there."""
        biases = tuple(None if b is None else b.to(device) for b in self.biases)
        return HeadState(tuple(w.to(device) for w in self.weights), biases)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.weights[0].device

    def with_weights(self, weights: Sequence[Tensor]) -> HeadState:
        """Return a state with other weights and the same biases."""
        return HeadState(tuple(weights), self.biases)

    @property
    def above_first(self) -> HeadState:
        """The same without the first layer."""
        return HeadState(self.weights[1:], self.biases[1:])

    @property
    def nbytes(self) -> int:
        """Size of the copy in bytes."""
        return sum(t.numel() * t.element_size() for t in self.tensors())


@dataclass(frozen=True)
class Head:
    """The Linear layers of a head, input side first.

    Attributes:
        names: Dotted name of each layer in the model.
        layers: The layers themselves.
        joints: For each layer, the modules its output passes before the next layer (or the model's output).
        below: What ended the search for more layers, e.g. "'net.1' (LeakyReLU)"; "" if that was the model's input.
    """

    names: tuple[str, ...]
    layers: tuple[nn.Linear, ...]
    joints: tuple[tuple[nn.Module, ...], ...]
    below: str = ""

    def describe(self) -> str:
        """Return which layers the head has, and what lies below it."""
        below = f"; it ends there because {self.below} below it cannot sleep" if self.below else ""
        return f"the head is {self.label}{below}"

    @property
    def label(self) -> str:
        """The names of its layers, for people; a module that is the head itself has none."""
        return ", ".join(self.names) or "the module itself"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units per layer, the inputs first: (n_0, ..., n_L)."""
        return (self.layers[0].in_features, *(layer.out_features for layer in self.layers))

    def is_in(self, model: nn.Module) -> bool:
        """Whether these very layers are in the model: evaluation and other plugins may replace modules."""
        modules = dict(model.named_modules())
        return all(modules.get(name) is layer for name, layer in zip(self.names, self.layers, strict=True))

    def read(self) -> HeadState:
        """Return a copy of all parameters where the first layer lies, in their own precision (half becomes single).

        A device without double precision (mps) is left: its copy lies on the CPU.
        """
        device = self.layers[0].weight.device
        place = torch.device("cpu") if device.type == "mps" else device

        def copy(p: Tensor) -> Tensor:
            return p.detach().to(place, torch.promote_types(p.dtype, torch.float32), copy=True)

        return HeadState(
            tuple(copy(layer.weight) for layer in self.layers),
            tuple(None if layer.bias is None else copy(layer.bias) for layer in self.layers),
        )

    def write(self, state: HeadState) -> None:
        """Write parameters into the same Parameter objects: all of them, or after an exception none."""
        targets = [layer.weight for layer in self.layers] + [
            b for b in (lr.bias for lr in self.layers) if b is not None
        ]
        backup = [target.detach().clone() for target in targets]
        try:
            with torch.no_grad():
                for target, value in zip(targets, state.tensors(), strict=True):
                    target.copy_(value)
        except BaseException:  # an interrupt counts: a head is never left half-written
            with torch.no_grad():
                for target, value in zip(targets, backup, strict=True):
                    target.copy_(value)
            raise

    def activations(self, state: HeadState, inputs: Tensor) -> list[Tensor]:
        """Return what each layer of the awake head passes on, with the given parameters instead of its own.

        Args:
            state: Parameters, in the dtype to compute in.
            inputs: Inputs of the head, shape (n, n_0).

        Returns:
            One tensor per layer: after its ReLU and test-time dropout, the logits before any softmax; shape (n, n_l).
        """
        passed = []
        with eval_mode(*(module for joints in self.joints for module in joints)), torch.no_grad():
            a = inputs
            for weight, bias, joints in zip(state.weights, state.biases, self.joints, strict=True):
                a = F.linear(a, weight, bias)
                for module in joints:
                    a = module(a)
                passed.append(a)
        return passed

    def logits(self, state: HeadState, inputs: Tensor) -> Tensor:
        """Return the outputs of the awake head with the given parameters, before any ReLU or softmax; (n, n_L)."""
        return self.logits_from(state.above_first, F.linear(inputs, state.weights[0], state.biases[0]))

    def hidden(self, state: HeadState, inputs: Tensor) -> Tensor:
        """Return the inputs of the head's last layer; shape (n, n_{L-1})."""
        if len(self.layers) == 1:
            return inputs
        return self.hidden_from(state.above_first, F.linear(inputs, state.weights[0], state.biases[0]))

    def logits_from(self, upper: HeadState, first: Tensor) -> Tensor:
        """Return what `logits` does, given the layers above the first, and what that one answers, shape (n, n_1)."""
        if not upper.weights:
            return first
        return F.linear(self.hidden_from(upper, first), upper.weights[-1], upper.biases[-1])

    def hidden_from(self, upper: HeadState, first: Tensor) -> Tensor:
        """Return what `hidden` does, given what `logits_from` is, for a head of several layers."""
        with eval_mode(*(module for joints in self.joints for module in joints)), torch.no_grad():
            a = first
            for module in self.joints[0]:  # also where it works in place, `first` stays as it is
                a = torch.relu(a) if isinstance(module, nn.ReLU) else module(a)
            for joints, weight, bias in zip(self.joints[1:-1], upper.weights[:-1], upper.biases[:-1], strict=True):
                a = F.linear(a, weight, bias)
                for module in joints:
                    a = torch.relu_(a) if isinstance(module, nn.ReLU) else module(a)
        return a


def check_finite(head: Head) -> None:
    """Refuse parameters that are not finite, by name.

    Raises:
        WeightsError: A weight or bias of the head is NaN or infinite.
    """
    for name, layer in zip(head.names, head.layers, strict=True):
        for kind, parameter in layer.named_parameters(recurse=False):
            if torch.isfinite(parameter.detach().sum()):  # then all are; if not, it may have overflowed
                continue
            bad = int((~torch.isfinite(parameter)).sum())
            if bad:
                raise WeightsError(
                    f"'{name}.{kind}' has {bad} of {parameter.numel()} values that are NaN or infinite: training "
                    "diverged before the sleep. Lower the learning rate or clip gradients; nothing was changed"
                )
