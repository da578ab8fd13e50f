"""Follow one forward pass of a model: which module or function made each tensor, and from what.

Modules that can stand in a head (Linear and what computes the same, activations, norms, Dropout, Flatten) are followed
as units with hooks; everything else is followed function by function, so that `F.relu(self.fc1(x))` is understood as
well as `nn.ReLU`, and `x * (x > 0)` as well as both. The trace keeps no activations alive, except the inputs of layers
until the pass ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from src_plugin.head import functions as known
from src_plugin.head.modes import eval_mode
from src_plugin.head.outputs import Path, pick, tensors_in
from src_plugin.head.recognise import computes, is_lora, linear_like, looks_linear
from src_plugin.head.steps import Call, FunctionCall, ModuleCall, Slot, leaves_unchanged, unchanged
from src_plugin.head.weights import Transposed

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Sigmoid, nn.Tanh,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Mish, nn.PReLU, nn.RReLU, nn.Softsign, nn.LogSigmoid, nn.Threshold,
    nn.Softshrink, nn.Hardshrink, nn.Tanhshrink,
)  # fmt: skip
NORMS: tuple[type[nn.Module], ...] = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
UNITS: tuple[type[nn.Module], ...] = (
    nn.Linear, nn.modules.dropout._DropoutNd, nn.Flatten, nn.Identity, nn.Softmax, nn.LogSoftmax, nn.BatchNorm1d,
    *ACTIVATIONS, *NORMS,
)  # fmt: skip
"""Modules that can stand in a head, and are not looked into."""


class Kind(Enum):
    """What a step of a pass is to a head."""

    INPUT = "the model's input"
    LINEAR = "a layer"
    BATCH_NORM = "batch norm by running statistics"
    ACTIVATION = "not linear, unit by unit"
    PASSIVE = "what may stand beside an activation"
    UNCHANGED = "nothing at test time"
    SOFTMAX = "softmax"
    MASK = "a mask of unseen classes"
    SLICE = "the first classes"
    JOIN = "tensors put together"
    OTHER = "anything else"


@dataclass(frozen=True, eq=False)
class Node:
    """One step of the pass: what made a tensor.

    Attributes:
        kind: What it is to a head.
        name: Dotted name of the module, or name of the function.
        module: The module, if it was one.
        parents: The steps that made its inputs, in the order of `call`.
        index: Number of the step.
        call: Repeats the step on other inputs; None where it cannot be repeated.
        within: Name and kind of the module that called the function, if that is not the model itself.
    """

    kind: Kind
    name: str
    module: nn.Module | None
    parents: tuple[Node, ...]
    index: int
    call: Call | None = None
    within: str = ""

    @property
    def parent(self) -> Node | None:
        """The step that made the first input."""
        return self.parents[0] if self.parents else None

    def describe(self) -> str:
        """Return e.g. "'features.3' (BatchNorm1d)" or "function tanh()"."""
        if self.kind is Kind.INPUT:
            return str(self.kind.value)
        if self.module is None:
            return f"function {self.name}()" + (f" in {self.within}" if self.within else "")
        return f"{self.name!r} ({type(self.module).__name__})"

    def ancestors(self) -> Iterator[Node]:
        """Yield this step and all that lead to it, the last first, each once."""
        waiting = {self.index: self}
        while waiting:
            node = waiting.pop(max(waiting))
            yield node
            waiting.update((parent.index, parent) for parent in node.parents)


class Trace(TorchFunctionMode):
    """A record of one forward pass of `model`, made by `run`.

    Attributes:
        output: The node of the class scores, or None if the output holds no traced tensor.
        path: Where in the output they are; None if two tensors could be.
        candidates: The node at every path that could be it.
        linears: The node of each layer's last call.
        inputs: Input of each layer, and of each batch norm of flat inputs, in its last call.
        sources: What autograd says made each of these inputs; None in a pass without gradients.
        calls: Number of calls of each of these modules.
        order: Modules without children, and those that can stand in a head, in the order of their first calls.
        transposed: Layers whose weight has the shape (n_pre, n_post).
        scores: Shape of the class scores; None where there are none.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.output: Node | None = None
        self.path: Path | None = ()
        self.candidates: dict[Path, Node] = {}
        self.scores: torch.Size | None = None
        self.linears: dict[nn.Module, Node] = {}
        self.inputs: dict[nn.Module, Tensor] = {}
        self.sources: dict[nn.Module, Any] = {}
        self.calls: dict[nn.Module, int] = {}
        self.order: dict[nn.Module, None] = {}
        self.transposed: set[nn.Module] = set()
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._made: Any = WeakIdKeyDictionary()
        self._held = {id(t) for t in (*model.parameters(), *model.buffers())}
        self._inside: nn.Module | None = None  # the unit that is running
        self._running: list[nn.Module] = []  # modules without children that are looked into
        self._numbers = count()

    def run(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return `forward(*args, **kwargs)`, the model's own forward, and record it; no hook or mode outlives it."""
        handles: list[RemovableHandle] = []
        given = Node(Kind.INPUT, "", None, (), next(self._numbers))
        for tensor in tensors_in((args, kwargs)):
            self._made[tensor] = given
        try:
            for module in self._names:
                if module is not self._model and _is_followed(module):
                    handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
                    handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
            with self:
                if _is_followed(self._model):  # the hooks of the model itself belong to its caller
                    self._enter(self._model, args, kwargs)
                output = forward(*args, **kwargs)
                if _is_followed(self._model):
                    self._leave(self._model, args, kwargs, output)
        finally:
            self._inside = None
            for handle in handles:
                handle.remove()
        self._choose(output)
        return output

    def _choose(self, output: Any) -> None:
        """Tell which tensor of the output holds the class scores."""
        found = {path: self._made.get(t) for path, t in pick(output)}
        nodes = {path: node for path, node in found.items() if node is not None}
        if len(nodes) > 1:  # what another one was made of is no answer but a step on the way
            below = {n for node in nodes.values() for n in list(node.ancestors())[1:]}
            nodes = {path: node for path, node in nodes.items() if node not in below}
        self.candidates = nodes
        if len(set(nodes.values())) == 1:
            self.path, self.output = next(iter(nodes.items()))
            self.scores = next(t.shape for path, t in pick(output) if path == self.path)
        elif nodes:
            self.path = None

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.order.setdefault(module)
        if self._inside is not None:
            return
        if looks_linear(module) or isinstance(module, nn.BatchNorm1d):
            x = tensors_in((args, kwargs))
            if x and (x[0].ndim == 2 or not isinstance(module, nn.BatchNorm1d)):
                self.inputs[module], self.sources[module] = x[0].detach(), x[0].grad_fn
            self.calls[module] = self.calls.get(module, 0) + 1
        if isinstance(module, UNITS) or is_lora(module):
            self._inside = module
        else:
            self._running.append(module)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._running and self._running[-1] is module:
            self._running.pop()
            if self._inside is None and looks_linear(module):
                self._leave_linear(module, args, kwargs, output)
            return
        if self._inside is not module:
            return
        self._inside = None
        if looks_linear(module):
            self._leave_linear(module, args, kwargs, output)
            return
        kind = kind_of(module)
        if kind is Kind.BATCH_NORM and module not in self.inputs:
            kind = Kind.OTHER  # over more than one position
        self._record(kind, self._names[module], module, (args, kwargs), output, call=call_of(module))

    def _leave_linear(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Record a module that looks linear, if it is."""
        x, answers = tensors_in((args, kwargs)), tensors_in(output)
        if not x or not answers:
            return
        is_plain = linear_like(module, x[0], answers[0])
        if not is_plain and not isinstance(module, nn.Linear):
            return  # it stays followed function by function
        has_weight = not isinstance(module, (nn.Linear, nn.Conv2d)) and not is_lora(module)
        if is_plain and has_weight and computes(Transposed(module), x[0], answers[0]):
            self.transposed.add(module)
        kind = Kind.LINEAR if is_plain else Kind.OTHER
        self._record(kind, self._names[module], module, (x[0],), answers[0])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and note what it made if no unit is running."""
        kwargs = kwargs or {}
        if self._inside is not None:
            return func(*args, **kwargs)
        name, in_place = known.plain_name(func)
        parents = [self._node(t) for t in tensors_in((args, kwargs))]
        shapes = [t.shape for t in tensors_in((args, kwargs))]
        result = func(*args, **kwargs)
        if name == "setitem":
            self._record_filled(args)
        elif tensors_in(result):
            self._record_function(func, name, in_place, (args, kwargs), parents, shapes, result)
        return result

    def _record_filled(self, args: tuple[Any, ...]) -> None:
        """Note that a part of a tensor was written to: a mask, if some classes got the same number in all rows."""
        tensor, index, value = args
        before = self._made.get(tensor)
        is_masked = isinstance(index, tuple) and len(index) == 2 and index[0] in (Ellipsis, slice(None))
        is_masked = is_masked and not isinstance(value, Tensor) and before is not None
        kind, parents = (Kind.MASK, (before,)) if is_masked else (Kind.OTHER, ())
        self._made[tensor] = Node(kind, "setitem", None, parents, next(self._numbers), within=self._within())

    def _record_function(
        self, func: Any, name: str, in_place: bool, given: Any, parents: list[Node | None], shapes: list[torch.Size],
        result: Any,
    ) -> None:  # fmt: skip
        followed = list(dict.fromkeys(p for p in parents if p is not None))
        kind = _kind_of_function(
            name, given, n_followed=sum(p is not None for p in parents), shapes=shapes, result=result
        )
        call: Call | None = None
        if kind is Kind.UNCHANGED:
            call = unchanged
            followed = followed[:1]
        elif kind in (Kind.ACTIVATION, Kind.PASSIVE, Kind.SOFTMAX):
            call = self._repeat(func, given, followed, in_place=in_place, name=name)
            kind = Kind.OTHER if call is None else kind
        elif kind is Kind.MASK:
            followed = [p for p in parents[:1] if p is not None]
        base = tensors_in(given)[0]._base if in_place and tensors_in(given) else None
        if base is not None and base in self._made:  # an in-place change of a part
            self._made[base] = Node(Kind.OTHER, name, None, (), next(self._numbers), within=self._within())
        node = Node(kind, name, None, tuple(followed), next(self._numbers), call, self._within())
        for tensor in tensors_in(result):
            self._made[tensor] = node

    def _repeat(self, func: Any, given: Any, followed: list[Node], *, in_place: bool, name: str) -> Call | None:
        """Return a call that does the same to other inputs; None if an argument is nothing that stays."""
        if name == "relu":
            return ModuleCall(nn.ReLU())
        lost: list[Tensor] = []

        def keep(value: Any) -> Any:
            if isinstance(value, Tensor):
                node = self._node(value)
                if node is not None:
                    return Slot(followed.index(node))
                if id(value) not in self._held and value.numel() != 1:
                    lost.append(value)
                return value if id(value) in self._held else value.detach().clone()
            if isinstance(value, dict):
                return {key: keep(item) for key, item in value.items()}
            return type(value)(map(keep, value)) if type(value) in (tuple, list) else value

        args, kwargs = keep(given[0]), keep(given[1])
        writes = in_place or kwargs.get("inplace") is True or any(a is True for a in args)
        if "training" in kwargs:
            kwargs["training"] = False
        kwargs.pop("inplace", None)
        return None if lost else FunctionCall(func, tuple(args), kwargs, writes)

    def _node(self, tensor: Tensor) -> Node | None:
        """Return what made a tensor, None for what is constant: parameters, buffers, single numbers."""
        if id(tensor) in self._held:
            return None
        node: Node | None = self._made.get(tensor)
        if node is None and tensor.numel() == 1:
            return None
        if node is not None and not node.parents and node.kind is not Kind.INPUT and tensor.numel() == 1:
            return None
        if node is not None and node.name in known.FACTORIES and tensor.numel() == 1:
            return None
        if node is None:
            node = Node(Kind.OTHER, "unknown", None, (), next(self._numbers), within=self._within())
            self._made[tensor] = node
        return node

    def _record(self, kind: Kind, name: str, module: nn.Module, given: Any, output: Any, *, call: Any = None) -> None:
        parents = [node for node in (self._node(t) for t in tensors_in(given)) if node is not None]
        if kind is not Kind.LINEAR and len(parents) > 1:
            kind = Kind.OTHER
        node = Node(kind, name, module, tuple(parents), next(self._numbers), call)
        if kind is Kind.LINEAR:
            self.linears[module] = node
        for tensor in tensors_in(output):
            self._made[tensor] = node

    def _within(self) -> str:
        if not self._running or self._running[-1] is self._model:
            return ""
        module = self._running[-1]
        return f"{self._names[module]!r} ({type(module).__name__})"


def kind_of(module: nn.Module) -> Kind:
    """Return what a module that is followed as a unit is to a head."""
    if isinstance(module, nn.BatchNorm1d):
        return Kind.OTHER if module.running_mean is None else Kind.BATCH_NORM
    if isinstance(module, (nn.Softmax, nn.LogSoftmax)):
        return Kind.SOFTMAX
    if leaves_unchanged(module):
        return Kind.UNCHANGED
    if isinstance(module, ACTIVATIONS):
        return Kind.ACTIVATION
    return Kind.PASSIVE if isinstance(module, (*NORMS, nn.modules.dropout._DropoutNd)) else Kind.OTHER


def call_of(module: nn.Module) -> Call:
    """Return what repeats a module at test time."""
    return unchanged if leaves_unchanged(module) else ModuleCall(module)


def _is_followed(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return False  # takes no hooks
    return isinstance(module, (*UNITS, _NormBase)) or is_lora(module) or not any(True for _ in module.children())


def _kind_of_function(name: str, given: Any, *, n_followed: int, shapes: list[torch.Size], result: Any) -> Kind:
    """Return what a function is to a head."""
    if not isinstance(result, Tensor) or not n_followed:
        return Kind.OTHER
    if name in known.JOINS:
        return Kind.JOIN
    if name in known.MASKS:
        return Kind.MASK
    if name == "getitem":
        return Kind.SLICE if _is_first_columns(given[0]) else Kind.OTHER
    if n_followed == 1 and name in known.UNCHANGED:
        return Kind.UNCHANGED
    if n_followed == 1 and name in known.SOFTMAX:
        return Kind.SOFTMAX
    if result.shape not in shapes:
        return Kind.OTHER
    if name in known.ACTIVATIONS or (name in known.CHOICES and (n_followed > 1 or not name.endswith(_AFFINE))):
        return Kind.ACTIVATION
    return Kind.PASSIVE if name in known.PASSIVE else Kind.OTHER


_AFFINE = ("mul", "div", "truediv", "multiply")


def _is_first_columns(args: tuple[Any, ...]) -> bool:
    """Whether an index takes all rows, and of the last dimension of two the first entries."""
    index = args[1] if len(args) == 2 else None
    if not isinstance(index, tuple) or len(index) != 2 or index[0] not in (Ellipsis, slice(None)):
        return False
    last = index[1]
    return isinstance(last, slice) and last.start in (None, 0) and last.step in (None, 1)


def trace(model: nn.Module, *args: Any, **kwargs: Any) -> Trace:
    """Run `model(*args, **kwargs)` once in eval mode, without gradients, and return its trace.

    Modes of all modules are restored and nothing is drawn from the global random state.
    """
    return trace_forward(model, plain_forward(model), *args, **kwargs)


def plain_forward(model: nn.Module) -> Callable[..., Any]:
    """Return the model's own forward; of a compiled model (`torch.compile`) that of the model in it."""
    inner = getattr(model, "_orig_mod", None)
    forward: Callable[..., Any] = (inner if isinstance(inner, nn.Module) else model).forward
    return forward


def trace_forward(model: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Trace:
    """Do what `trace` does with the model's own `forward`, where another stands in for it."""
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    record = Trace(model)
    with eval_mode(model), torch.no_grad(), torch.random.fork_rng(devices=devices):
        record.run(forward, *args, **kwargs)
    return record
