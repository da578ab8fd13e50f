"""Follow one forward pass of a model: which module or function made each tensor, and from what.

Modules that can stand in a head (Linear, ReLU, Dropout, Flatten, Identity, Softmax) are followed as units with hooks;
everything else is followed function by function, so that `F.relu(self.fc1(x))` is understood as well as `nn.ReLU`.
The trace keeps no activations alive, except the inputs of Linear layers until the pass ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

UNITS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.ReLU,
    nn.modules.dropout._DropoutNd,
    nn.Flatten,
    nn.Identity,
    nn.Softmax,
    nn.LogSoftmax,
)

# Functions by the name torch knows them under, and the kind of node they make. In-place forms end in "_".
FUNCTIONS = {
    "relu": "relu",
    "dropout": "dropout",
    "feature_dropout": "dropout",
    "flatten": "reshape",
    "view": "reshape",
    "reshape": "reshape",
    "contiguous": "reshape",
    "to": "reshape",
    "float": "reshape",
    "masked_fill": "mask",
    "softmax": "softmax",
    "log_softmax": "softmax",
}


@dataclass(frozen=True)
class Node:
    """One step of the pass: what made a tensor.

    Attributes:
        kind: linear, relu, dropout, reshape, identity, softmax, mask or other.
        name: Dotted name of the module, or name of the function.
        module: The module, if it was one.
        parent: The step that made the input; None for the model's own input.
    """

    kind: str
    name: str
    module: nn.Module | None
    parent: Node | None

    def describe(self) -> str:
        """Return e.g. "'features.3' (BatchNorm1d)" or "function tanh()"."""
        if self.module is None:
            return f"function {self.name}()"
        return f"{self.name!r} ({type(self.module).__name__})"


class Trace(TorchFunctionMode):
    """A record of one forward pass of `model`, made by `run`.

    Attributes:
        output: The node of the model's output, or None if the output is not a traced tensor.
        linears: The node of each Linear module's last call.
        linear_inputs: Input of each Linear module in its last call.
        calls: Number of calls of each Linear module.
        order: Modules without children, and those that can stand in a head, in the order of their first calls.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.output: Node | None = None
        self.linears: dict[nn.Module, Node] = {}
        self.linear_inputs: dict[nn.Module, Tensor] = {}
        self.calls: dict[nn.Module, int] = {}
        self.order: dict[nn.Module, None] = {}
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._made: Any = WeakIdKeyDictionary()
        self._inside: nn.Module | None = None  # the unit or leaf module that is running

    def run(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return `forward(*args, **kwargs)`, the model's own forward, and record it; no hook or mode outlives it."""
        handles: list[RemovableHandle] = []
        try:
            for module in self._names:
                if module is not self._model and (
                    isinstance(module, UNITS) or not any(True for _ in module.children())
                ):
                    handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
                    handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
            with self:
                if isinstance(self._model, UNITS):  # the hooks of the model itself belong to its caller
                    self._enter(self._model, args, kwargs)
                output = forward(*args, **kwargs)
                if isinstance(self._model, UNITS):
                    self._leave(self._model, args, kwargs, output)
        finally:
            for handle in handles:
                handle.remove()
        tensors = _tensors(output)
        self.output = self._made.get(tensors[0]) if tensors else None
        return output

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.order.setdefault(module)
        if self._inside is None:
            self._inside = module
            if isinstance(module, nn.Linear):
                self.linear_inputs[module] = _tensors((args, kwargs))[0].detach()
                self.calls[module] = self.calls.get(module, 0) + 1

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._inside is not module:
            return
        self._inside = None
        self._record(_kind(module), self._names[module], module, (args, kwargs), output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and note what it made if no unit is running."""
        result = func(*args, **(kwargs or {}))
        if self._inside is None:
            name = getattr(func, "__name__", str(func))
            name = name.removesuffix("_") if not name.startswith("__") else name
            self._record(FUNCTIONS.get(name, "other"), name, None, (args, kwargs), result)
        return result

    def _record(self, kind: str, name: str, module: nn.Module | None, inputs: Any, output: Any) -> None:
        outputs = _tensors(output)
        if not outputs:
            return
        parents = [self._made[t] for t in _tensors(inputs) if t in self._made]
        parent = parents[0] if parents else None
        if kind not in ("linear", "mask") and len(parents) > 1:
            kind = "other"  # two traced inputs meet: a residual sum, attention, a concatenation
        if module is None and kind == "mask":
            parent = self._made.get(_tensors(inputs)[0])
        node = Node(kind, name, module, parent)
        if kind == "linear" and module is not None:
            self.linears[module] = node
        for tensor in outputs:
            self._made[tensor] = node


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.ReLU):
        return "relu"
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return "dropout"
    if isinstance(module, nn.Flatten):
        return "reshape"
    if isinstance(module, nn.Identity):
        return "identity"
    if isinstance(module, (nn.Softmax, nn.LogSoftmax)):
        return "softmax"
    return "other"


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


def trace(model: nn.Module, *args: Any, **kwargs: Any) -> Trace:
    """Run `model(*args, **kwargs)` once in eval mode, without gradients, and return its trace.

    Modes of all modules are restored and nothing is drawn from the global random state.
    """
    return trace_forward(model, model.forward, *args, **kwargs)


def trace_forward(model: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Trace:
    """Do what `trace` does with the model's own `forward`, where another stands in for it."""
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    record = Trace(model)
    with eval_mode(model), torch.no_grad(), torch.random.fork_rng(devices=devices):
        record.run(forward, *args, **kwargs)
    return record


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Put modules and all their parts into eval mode for a while, and then each part back into its own mode."""
    modes = {part: part.training for module in modules for part in module.modules()}
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
