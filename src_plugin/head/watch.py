"""Watch: what reaches the head in the forward passes of a model, and which pass made which output.

Hooks exist during a forward pass only, so no copy of the model ever carries one.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Signature, signature
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from src_plugin.head.modes import eval_mode
from src_plugin.head.state import Head
from src_plugin.head.trace import Trace, plain_forward

Forward = Callable[..., Any]

Pass = tuple[Any, Trace | Tensor]
"""The output of a forward pass, and what reached the head in it, or its trace."""


class _Watched:
    """Stands in for `model.forward` while the model is watched."""

    def __init__(self, watch: Watch, model: nn.Module, forward: Forward) -> None:
        self.watch, self.model, self.forward = watch, model, forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.watch._run(self.model, self.forward, args, kwargs)

    @property
    def __signature__(self) -> Signature:
        """Who asks for the arguments of a watched model, as Hugging Face's Trainer does, gets those of its own."""
        return signature(self.forward)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the model is not watched: it runs its own forward."""
        return MethodType(type(self.model).forward, memo.get(id(self.model), self.model))

    def __reduce__(self) -> Any:
        """Nor is one that was saved."""
        return (getattr, (self.model, "forward"))  # when it is read, the model has no attribute of that name yet


class Watch:
    """Watches the forward passes of one model between `begin` and `release`.

    Hooks do not fire in compiled code, so a compiled model runs uncompiled while it is watched.
    """

    def __init__(self) -> None:
        self._head: Callable[[], Head | None] | None = None
        self._ahead: Callable[..., None] | None = None
        self._then: Callable[[Any], None] | None = None
        self._counts: Callable[[nn.Module], bool] | None = None
        self._is_blind = False
        self._watched: tuple[nn.Module, Any] | None = None  # the model, and a `forward` of its own if it had one
        self._passes: list[Pass] = []

    def begin(
        self,
        model: nn.Module,
        *,
        head: Callable[[], Head | None],
        ahead: Callable[[nn.Module, Forward, tuple[Any, ...], dict[str, Any]], None],
        then: Callable[[Any], None] | None = None,
        counts: Callable[[nn.Module], bool] | None = None,
        is_blind: bool = False,
    ) -> None:
        """Watch the forward passes of `model` until `release`, or until one breaks off.

        Args:
            model: The model.
            head: Returns its head; where it is not known, or no longer in the model, passes are traced.
            ahead: Called with the model, its own forward and the arguments of a pass, before one that is traced.
            then: Called with the output of each pass when it has ended.
            counts: Whether a pass that begins is one to watch; None watches all. If given, what watches lasts until
                `release` even if a pass breaks off.
            is_blind: Call `then` and look at nothing else.
        """
        self.release()
        self._head, self._ahead, self._then, self._counts = head, ahead, then, counts
        self._is_blind = is_blind
        # In place of a hook on the model: only a call of our own can clean up after an interrupted forward pass.
        self._watched = (model, model.__dict__.get("forward"))
        model.__dict__["forward"] = _Watched(self, model, plain_forward(model))

    def take(self) -> list[Pass]:
        """Return what passed, and forget it: the output of each pass with the input of its head, or with its trace."""
        passes, self._passes = self._passes, []
        return passes

    def release(self) -> None:
        """Stop to watch, and forget what passed; leaves no hook behind. Safe to call at any time."""
        self._passes = []
        self._head = self._ahead = self._counts = None
        if self._watched is not None:
            model, own = self._watched
            self._watched = None
            model.__dict__.pop("forward", None)
            if own is not None:
                model.__dict__["forward"] = own

    def _run(self, model: nn.Module, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        then = self._then
        if self._counts is not None and not self._counts(model):
            return forward(*args, **kwargs)
        try:
            output = self._pass(model, forward, args, kwargs)
        except BaseException:  # an interrupt counts: nothing stays on a model whose training broke off
            if self._counts is None:
                self.release()
            raise
        if then is not None:
            then(output)
        return output

    def _pass(self, model: nn.Module, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one forward pass, and keep its output with the input of its head, or with its trace."""
        if self._is_blind:
            return forward(*args, **kwargs)
        head = None if self._head is None else self._head()
        if head is None or not head.is_in(model):
            if self._ahead is not None:
                self._ahead(model, forward, args, kwargs)
            record = Trace(model)
            output = record.run(forward, *args, **kwargs)
            self._passes.append((output, record))
            return output
        caught: list[Tensor] = []

        def catch(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            caught.append((inputs[0] if inputs else named["input"]).detach())

        handle = head.entry.register_forward_pre_hook(catch, with_kwargs=True)
        try:
            output = forward(*args, **kwargs)
        finally:
            handle.remove()
        if head.entry is model:  # its own hooks had their turn before its forward
            catch(model, args, kwargs)
        if caught:
            self._passes.append((output, caught[-1]))
        return output


def head_inputs(model: nn.Module, head: Head, inputs: Tensor, *, device: torch.device | str) -> Tensor:
    """Return what reaches the head when the model sees `inputs`; eval mode, modes restored; CPU, shape (n, n_0)."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        caught.append((args[0] if args else named["input"]).detach().reshape(-1, head.sizes[0]).cpu())

    handle = head.entry.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        with eval_mode(model), torch.no_grad():
            for batch in inputs.split(512):
                model(batch.to(device))
    finally:
        handle.remove()
    return torch.cat(caught)
