"""The targets of a training pass, read from the loss that goes backward: nobody has to hand them over.

A loss keeps its targets in autograd's graph until its backward pass has run. `on_backward` listens to `loss.backward()`
and `torch.autograd.grad`; `targets_of` walks from the loss down to the outputs of the model, through nothing but what
was computed after them, and reads the targets that a loss function kept on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

LOSSES = {
    "NllLossBackward": ("_saved_target",),  # cross_entropy and nll_loss
    "MultiMarginLossBackward": ("_saved_target",),
    "BinaryCrossEntropyBackward": ("_saved_target",),
    "BinaryCrossEntropyWithLogitsBackward": ("_saved_target",),
    "MseLossBackward": ("_saved_target", "_saved_self"),
    "SmoothL1LossBackward": ("_saved_target", "_saved_self"),
    "HuberLossBackward": ("_saved_target", "_saved_self"),
}
"""Steps of the graph that are losses, and the names under which they keep targets."""

WRITTEN_OUT = {
    "GatherBackward": ("_saved_index",),  # -log_softmax(outputs).gather(1, y[:, None])
    "IndexBackward": ("_saved_indices",),  # -log_softmax(outputs)[range(n), y]
    "MulBackward": ("_saved_other", "_saved_self"),  # cross_entropy with one-hot targets
}
"""Steps of losses that are written out; they count where there is no step of `LOSSES`."""

REORDER = ("Index", "IndexSelect", "Gather", "Split", "SplitWithSizes", "Cat", "MaskedSelect", "Unbind", "Take")
"""Steps behind which a column is another class, so that targets told there are no classes of the outputs."""

LAST = (1, -1, 2**64 - 1)  # the dimension of classes, as the graph may write it

Node = Any  # torch.autograd.graph.Node, whose saved values are found by name


def targets_of(roots: Sequence[Node], outputs: Node, *, n: int, n_classes: int) -> Tensor | None:
    """Return the class numbers that a loss was told for outputs of a model, shape (n,); None if it kept none.

    Args:
        roots: Steps of the graph that made the losses.
        outputs: The step that made the outputs.
        n: Samples among the outputs.
        n_classes: Columns of the outputs.
    """
    oldest = outputs._sequence_nr()
    queue, met = deque(root for root in roots if root is not None), set(roots)
    second = None
    while queue:
        node = queue.popleft()
        if node is outputs or node._sequence_nr() < oldest:
            continue
        name = _name(node)
        if name in LOSSES or (second is None and name in WRITTEN_OUT):
            found = _read(node, outputs, n=n, n_classes=n_classes)
            if found is not None and name in LOSSES:
                return found
            second = found if second is None else second
        fresh = [parent for parent, _ in node.next_functions if parent is not None and parent not in met]
        met.update(fresh)
        queue.extend(fresh)
    return second


def _read(node: Node, outputs: Node, *, n: int, n_classes: int) -> Tensor | None:
    """Return the class numbers that a step keeps, if it is one of a loss of these outputs."""
    start = _start_of_columns(node, outputs)
    if start is None:
        return None
    name = _name(node)
    for kept in LOSSES.get(name) or WRITTEN_OUT[name]:
        found = _class_numbers(getattr(node, kept, None), n=n, n_classes=n_classes)
        if found is not None:
            return found + start if start else found
    return None


def _name(node: Node) -> str:
    return type(node).__name__.rstrip("0123456789")


def _start_of_columns(node: Node, outputs: Node) -> int | None:
    """Return which column of the outputs is class 0 to a loss; None if the loss is not of these outputs, or unclear."""
    oldest = outputs._sequence_nr()
    queue: deque[tuple[Node, int]] = deque((parent, 0) for parent, _ in node.next_functions if parent is not None)
    met = set()
    while queue:
        step, start = queue.popleft()
        if step is outputs:
            return start
        name = _name(step).removesuffix("Backward")
        if step in met or step._sequence_nr() < oldest or name in REORDER:
            continue
        met.add(step)
        if name == "Slice" and step._saved_dim in LAST:
            start += int(step._saved_start)
        queue.extend((parent, start) for parent, _ in step.next_functions if parent is not None)
    return None


def _class_numbers(kept: Any, *, n: int, n_classes: int) -> Tensor | None:
    """Return class numbers, shape (n,), from what a loss kept of its targets; None if it is something else."""
    if isinstance(kept, (tuple, list)):  # outputs[rows, classes]
        kept = kept[1] if len(kept) == 2 else None
    if not isinstance(kept, Tensor) or kept.ndim == 0 or len(kept) != n:
        return None
    if kept.dtype == torch.long:
        kept = kept.squeeze(1) if kept.shape == (n, 1) else kept
        return kept if kept.ndim == 1 else None
    if kept.ndim != 2 or kept.shape[1] > n_classes or kept.shape[1] < 2 or not kept.is_floating_point():
        return None
    top, low = kept.amax(1, keepdim=True), kept.amin(1, keepdim=True)
    is_one_hot = ((kept == top).sum(1) == 1) & ((kept == low).sum(1) == kept.shape[1] - 1)  # smoothed ones, too
    is_one_hot &= (kept.sum(1) - 1).abs() < 1e-3
    return kept.argmax(1) if bool(is_one_hot.all()) else None  # looks at values: distilled logits are no targets


_LISTENERS: list[Callable[[list[Node]], None]] = []


@contextmanager
def on_backward(listener: Callable[[list[Node]], None]) -> Iterator[None]:
    """Call a function with the steps that made the losses, before each backward pass while this lasts.

    It stands in for `torch.autograd.backward` and `torch.autograd.grad`, which `loss.backward()` looks up each time. If
    someone else has put something around it meanwhile, it stays in there and does nothing.
    """
    _LISTENERS.append(listener)
    given = {name: getattr(torch.autograd, name) for name in ("backward", "grad")}
    own = {name: _listened(function) for name, function in given.items()} if len(_LISTENERS) == 1 else {}
    for name, function in own.items():
        setattr(torch.autograd, name, function)
    _OWN.update({name: (function, given[name]) for name, function in own.items()})
    try:
        yield
    finally:
        _LISTENERS.remove(listener)
        if not _LISTENERS:
            for name, (function, original) in _OWN.items():
                if getattr(torch.autograd, name) is function:
                    setattr(torch.autograd, name, original)
            _OWN.clear()


_OWN: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}  # ours, and what it stands in for


def _listened(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        losses = args[0] if args else next(iter(kwargs.values()), ())
        losses = [losses] if isinstance(losses, Tensor) else list(losses)
        roots = [loss.grad_fn for loss in losses if isinstance(loss, Tensor)]
        for listener in list(_LISTENERS):
            listener(roots)
        return function(*args, **kwargs)

    return run
