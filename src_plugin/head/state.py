"""The classifier head: the layers that SRC may change, found in a model and read and written as a whole.

A head is the longest tail of linear layers with activations between them that ends in the model's output. What lies
below it (a frozen backbone) is never touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_plugin.errors import HeadNotFoundError, WeightsError
from src_plugin.head.layers import Layer, Plain
from src_plugin.head.modes import eval_mode
from src_plugin.head.steps import Joint


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


FROZEN = "is frozen"
"""How a reason begins why a layer does not belong to a head, since sleep changes no frozen parameter."""


@dataclass(frozen=True)
class Head:
    """The layers of a head, input side first.

    Attributes:
        names: Dotted name of each layer in the model.
        parts: The layers themselves.
        joints: For each layer, what makes the next layer's input (or the model's output) of the answers so far.
        below: What ended the search for more layers, e.g. "'net.1' (LSTM)"; "" if that was the model's input.
        why: Why it cannot sleep, as a part of a sentence.
        inner: Names of all modules of the layers, in order: a layer may consist of several.
    """

    names: tuple[str, ...]
    parts: tuple[Layer, ...]
    joints: tuple[Joint, ...]
    below: str = ""
    why: str = "cannot sleep"
    inner: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return which layers the head has, and what lies below it."""
        below = f"; it ends there because {self.below} below it {self.why}" if self.below else ""
        return f"the head is {self.label}{below}"

    @property
    def frozen_below(self) -> str:
        """What is frozen right below it; "" if that did not end the head."""
        return f"{self.below} {self.why}" if self.why.startswith(FROZEN) else ""

    @property
    def label(self) -> str:
        """The names of its layers, for people; a module that is the head itself has none."""
        return ", ".join(self.names) or "the module itself"

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The modules that hold the weights, one per layer; of a block of several the first."""
        return tuple(part.module for part in self.parts)

    @property
    def output_layer(self) -> nn.Linear:
        """The layer that makes the outputs, for those who need an ordinary one.

        Raises:
            HeadNotFoundError: It is not an ordinary Linear layer by itself.
        """
        last = self.parts[-1]
        if type(last) is not Plain or not isinstance(last.module, nn.Linear):
            raise HeadNotFoundError(f"{self.names[-1]!r}, which makes the outputs, is no Linear layer by itself")
        return last.module

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All modules whose parameters belong to the head, those of its joints included."""
        own = [module for part in self.parts for module in part.modules]
        return tuple(dict.fromkeys([*own, *(module for joint in self.joints for module in joint.modules)]))

    @property
    def entry(self) -> nn.Module:
        """The module whose input is the input of the head."""
        return self.parts[0].entry

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units per layer, the inputs first: (n_0, ..., n_L)."""
        sizes = [part.sizes for part in self.parts]
        return (sizes[0][0], *(n_out for _, n_out in sizes))

    def is_in(self, model: nn.Module) -> bool:
        """Whether these very layers are in the model: evaluation and other plugins may replace modules."""
        own = (module for part in self.parts for module in part.modules)
        return all(_at(model, name) is module for name, module in zip(self.inner, own, strict=True))

    def read(self) -> HeadState:
        """Return a copy of all parameters where the first layer lies, in their own precision (half becomes single).

        A device without double precision (mps) is left: its copy lies on the CPU.
        """
        pairs = [part.read() for part in self.parts]
        device = pairs[0][0].device
        place = torch.device("cpu") if device.type == "mps" else device

        def copy(p: Tensor) -> Tensor:
            return p.detach().to(place, torch.promote_types(p.dtype, torch.float32), copy=True)

        return HeadState(
            tuple(copy(weight) for weight, _ in pairs),
            tuple(None if bias is None else copy(bias) for _, bias in pairs),
        )

    def write(self, state: HeadState) -> None:
        """Write parameters into the same Parameter objects: all of them, or after an exception none."""
        targets: list[Tensor] = []
        values: list[Tensor] = []
        for part, weight, bias in zip(self.parts, state.weights, state.biases, strict=True):
            targets += part.targets()
            values += part.solve(weight, bias)
        backup = [target.detach().clone() for target in targets]
        try:
            with torch.no_grad():
                for target, value in zip(targets, values, strict=True):
                    target.copy_(value)
        except BaseException:  # an interrupt counts: a head is never left half-written
            with torch.no_grad():
                for target, value in zip(targets, backup, strict=True):
                    target.copy_(value)
            raise
        for part in self.parts:
            part.refresh()

    def next_input(self, answers: Sequence[Tensor]) -> Tensor:
        """Return the input of the layer that follows so many layers' answers, shape (n, n_l), at test time."""
        joint = self.joints[len(answers) - 1]
        with eval_mode(*joint.modules), torch.no_grad():
            return joint(answers)

    def activations(self, state: HeadState, inputs: Tensor) -> list[Tensor]:
        """Return what each layer of the awake head passes on, with the given parameters instead of its own.

        Args:
            state: Parameters, in the dtype to compute in.
            inputs: Inputs of the head, shape (n, n_0).

        Returns:
            One tensor per layer: after its ReLU and test-time dropout, of the last after any softmax; shape (n, n_l).
        """
        answers: list[Tensor] = []
        passed: list[Tensor] = [inputs]
        for weight, bias in zip(state.weights, state.biases, strict=True):
            answers.append(F.linear(passed[-1], weight, bias))
            passed.append(self.next_input(answers))
        return passed[1:]

    def logits(self, state: HeadState, inputs: Tensor) -> Tensor:
        """Return the outputs of the awake head with the given parameters, before any ReLU or softmax; (n, n_L)."""
        return self.logits_from(state.above_first, F.linear(inputs, state.weights[0], state.biases[0]))

    def hidden(self, state: HeadState, inputs: Tensor) -> Tensor:
        """Return the inputs of the head's last layer; shape (n, n_{L-1})."""
        if len(self.parts) == 1:
            return inputs
        return self.hidden_from(state.above_first, F.linear(inputs, state.weights[0], state.biases[0]))

    def logits_from(self, upper: HeadState, first: Tensor) -> Tensor:
        """Return what `logits` does, given the layers above the first, and what that one answers, shape (n, n_1)."""
        if not upper.weights:
            return first
        return F.linear(self.hidden_from(upper, first), upper.weights[-1], upper.biases[-1])

    def hidden_from(self, upper: HeadState, first: Tensor) -> Tensor:
        """Return what `hidden` does, given what `logits_from` is, for a head of several layers."""
        answers = [first]
        with eval_mode(*(module for joint in self.joints[:-1] for module in joint.modules)), torch.no_grad():
            for i, joint in enumerate(self.joints[:-1]):
                needed = i == 0 or any(later.looks_back(i) for later in self.joints[i + 1 : -1])
                a = joint(answers, may_write=not needed)
                if i < len(upper.weights) - 1:
                    answers.append(F.linear(a, upper.weights[i], upper.biases[i]))
        return a


def _at(model: nn.Module, name: str) -> nn.Module | None:
    """Return the module of a dotted name, or None; unlike `named_modules` it walks no other part of the model."""
    module: nn.Module | None = model
    for part in name.split(".") if name else ():
        module = None if module is None else module._modules.get(part)
    return module


def check_finite(head: Head) -> None:
    """Refuse parameters that are not finite, by name.

    Raises:
        WeightsError: A weight or bias of the head is NaN or infinite.
    """
    for part, name in zip(head.parts, head.names, strict=True):
        for label, parameter in _named_parameters(part, name):
            if torch.isfinite(parameter.detach().sum()):  # then all are; if not, it may have overflowed
                continue
            bad = int((~torch.isfinite(parameter)).sum())
            if bad:
                raise WeightsError(
                    f"'{label}' has {bad} of {parameter.numel()} values that are NaN or infinite: training "
                    "diverged before the sleep. Lower the learning rate or clip gradients; nothing was changed"
                )


def _named_parameters(part: Layer, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of a layer, and their names in the model as far as they are known."""
    for module in part.modules:
        prefix = name if module is part.module else type(module).__name__
        yield from ((f"{prefix}.{kind}", parameter) for kind, parameter in module.named_parameters())
