"""Steps: what stands between the layers of a head, repeated on other inputs as the model itself would at test time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Slot:
    """The place of an input among the arguments of a function."""

    number: int


@dataclass(frozen=True)
class FunctionCall:
    """A function with the arguments it had, but for its inputs.

    Attributes:
        function: The function.
        args: Its arguments, with a `Slot` for each input.
        kwargs: Those given by name.
        in_place: Whether it writes to its first input.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    in_place: bool

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what the function gives for other inputs; they stay as they are."""
        inputs = tuple(x.clone() for x in inputs) if self.in_place else inputs
        result: Tensor = self.function(*_fill(self.args, inputs), **_fill(self.kwargs, inputs))
        return result


@dataclass(frozen=True)
class ModuleCall:
    """A module that stands in a joint; its hooks are not run."""

    module: nn.Module

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what the module gives; its parameters are taken in the type of the input, which stays as it is."""
        x = inputs[0]
        inputs = (x.clone(), *inputs[1:]) if getattr(self.module, "inplace", False) else inputs
        own = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        if all(t.dtype == x.dtype and t.device == x.device for t in own.values() if t.is_floating_point()):
            result: Tensor = self.module.forward(*inputs)
        else:
            cast = {name: _like(t, x) for name, t in own.items()}
            result = functional_call(self.module, cast, inputs)
        return result


def unchanged(*inputs: Tensor) -> Tensor:
    """Return the input: what dropout and another shape come to at test time."""
    return inputs[0]


@dataclass(frozen=True)
class Step:
    """One step of a joint.

    Attributes:
        call: What is done.
        inputs: Numbers of the values it takes: answers of layers first, input side first, then results of steps.
    """

    call: Call
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Joint:
    """What makes the input of a layer of the answers of the layers below it.

    Attributes:
        n_answers: So many layers lie below.
        steps: What is done, in order.
        result: Number of the value that is passed on, see `Step.inputs`.
    """

    n_answers: int
    steps: tuple[Step, ...]
    result: int

    def __call__(self, answers: Sequence[Tensor], *, may_write: bool = False) -> Tensor:
        """Return the input of the next layer.

        Args:
            answers: What each layer below answers, shape (n, n_l) each.
            may_write: The last answer is not needed any more.
        """
        if may_write and self.is_relu:
            return torch.relu_(answers[-1])
        values = list(answers)
        for step in self.steps:
            values.append(step.call(*(values[i] for i in step.inputs)))
        return values[self.result]

    @property
    def is_relu(self) -> bool:
        """Whether it is nothing but a ReLU of the layer right below."""
        if len(self.steps) != 1 or self.result != self.n_answers:
            return False
        (step,) = self.steps
        is_relu = isinstance(step.call, ModuleCall) and type(step.call.module) is nn.ReLU
        return is_relu and step.inputs == (self.n_answers - 1,)

    def looks_back(self, number: int) -> bool:
        """Whether it takes the answer of a layer, by its number from 0, that is not the one right below."""
        return self.result == number or any(number in step.inputs for step in self.steps)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules in it."""
        return tuple(step.call.module for step in self.steps if isinstance(step.call, ModuleCall))


def chain(modules: Sequence[nn.Module], *, n_answers: int) -> Joint:
    """Return the joint that is a chain of modules on the answer of the layer right below."""
    steps: list[Step] = []
    last = n_answers - 1
    for module in modules:
        if not leaves_unchanged(module):
            steps.append(Step(ModuleCall(module), (last,)))
            last = n_answers + len(steps) - 1
    return Joint(n_answers, tuple(steps), last)


def leaves_unchanged(module: nn.Module) -> bool:
    """Whether a module does nothing at test time but give another shape."""
    is_one = isinstance(module, (nn.Identity, nn.Flatten, nn.modules.dropout._DropoutNd))
    return is_one and type(module).forward.__module__.startswith("torch.nn.")  # and not by a forward of its own


def _fill(value: Any, inputs: tuple[Tensor, ...]) -> Any:
    if isinstance(value, Slot):
        return inputs[value.number]
    if isinstance(value, Tensor):
        return _like(value, inputs[0]) if inputs else value
    if isinstance(value, dict):
        return {key: _fill(item, inputs) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_fill(item, inputs) for item in value)
    return value


def _like(tensor: Tensor, x: Tensor) -> Tensor:
    return tensor.to(x.device, x.dtype) if tensor.is_floating_point() and x.is_floating_point() else tensor.to(x.device)
