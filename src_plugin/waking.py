"""Waking: what a sleep must know of the training before it, collected batch by batch and mostly forgotten again.

Between experiences only the running mean of the head's input, the seen classes and the output layer's name are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src_plugin.drift import checksums, moved
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError
from src_plugin.finding import layers_above, named_head, traced_head
from src_plugin.head import Head, HeadState
from src_plugin.kernel import load
from src_plugin.stimulus import check_mean_input
from src_plugin.tracing import Trace

RECENT = 1000
"""Inputs of the head that are held until the sleep, for the gate of the first sleep and data-based gains."""

ONE_HEAD_PER_TASK = "one head per task: classes of different tasks never compete"
"""Why `auto` stays awake where the model is told the task."""


class _Watched:
    """Stands in for `model.forward` while the model is watched."""

    def __init__(
        self, waking: Waking, model: nn.Module, forward: Callable[..., Any], then: Callable[[Any], None] | None
    ) -> None:
        self.waking, self.model, self.forward, self.then = waking, model, forward, then

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            output = self.waking._run(self.model, self.forward, args, kwargs)
        except BaseException:  # an interrupt counts: nothing stays on a model whose training broke off
            self.waking.release()
            raise
        if self.then is not None:
            self.then(output)
        return output

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the model is not watched: it runs its own forward."""
        return MethodType(type(self.model).forward, memo.get(id(self.model), self.model))


class Waking:
    """Watches training forward passes of one model.

    A watcher (plugin or callback) calls `begin_forward` and `end_forward` around every training forward pass,
    `begin_epoch` before every epoch, and `forget` after the sleep. Hooks exist during a forward pass only, so no copy
    of the model ever carries one. To be made is to load the compiled kernel, so that no sleep has to.

    Args:
        head: Name(s) of the head's layers, or None to find it in the first forward pass of every experience.
        needs_classes: Refuse targets that are not class numbers (pure SRC takes any, and then knows no classes).
    """

    def __init__(self, head: str | Sequence[str] | None = None, *, needs_classes: bool = True) -> None:
        self.head_names = head
        self.needs_classes = needs_classes
        self.has_classes = False  # whether targets are class numbers
        self.seen: set[int] = set()
        self.new: set[int] = set()
        self.shown: set[int] = set()  # all classes of the experience, those that came back or were rehearsed too
        self.before: HeadState | None = None
        self._before_names: tuple[str, ...] = ()  # of the layers that `before` holds
        self._below: dict[str, int] | None = None  # checksums of the parameters outside the head, as old as `before`
        self._ends: set[str] = set()  # names of the output layers that earlier experiences had
        self._total: NDArray[np.float64] | None = None
        self._count = 0
        self._start()
        load()

    def _start(self) -> None:
        """Forget the experience; what is set in `__init__` stays."""
        self.head: Head | None = None
        self._above: list[nn.Linear] = []  # what a named head passes its outputs on to
        self._sum: Tensor | None = None
        self._n = 0
        self._watched: tuple[nn.Module, Any] | None = None  # the model, and a `forward` of its own if it had one
        self._passes: list[tuple[Any, Trace | Tensor]] = []
        self._recent: deque[Tensor] = deque()
        self._rehearsed: list[Tensor] = []  # per batch: (samples of earlier classes, of them classified rightly)

    def begin_epoch(self) -> None:
        """Start to count recall of rehearsed classes anew."""
        self._rehearsed.clear()

    def begin_forward(self, model: nn.Module, *, then: Callable[[Any], None] | None = None) -> None:
        """Watch the forward passes of `model` until `end_forward` or `release`.

        Args:
            model: The model.
            then: Called with the output of each pass when it has ended.
        """
        self.release()
        if hasattr(model, "_orig_mod"):
            raise HeadNotFoundError(
                "a compiled model cannot be watched layer by layer; pass the plain model to the strategy, or compile "
                "only what lies below the head: nn.Sequential(torch.compile(backbone), head)"
            )
        # In place of a hook on the model: only a call of our own can clean up after an interrupted forward pass.
        self._watched = (model, model.__dict__.get("forward"))
        model.__dict__["forward"] = _Watched(self, model, model.forward, then)

    def _run(self, model: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one forward pass, and keep its output with the input of its head, or with its trace."""
        if self.head is None or not self.head.is_in(model):
            record = Trace(model)
            output = record.run(forward, *args, **kwargs)
            self._passes.append((output, record))
            return output
        caught: list[Tensor] = []

        def catch(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            caught.append((inputs[0] if inputs else named["input"]).detach())

        handle = self.head.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
        try:
            output = forward(*args, **kwargs)
        finally:
            handle.remove()
        if self.head.layers[0] is model:  # its own hooks had their turn before its forward
            catch(model, args, kwargs)
        if caught:
            self._passes.append((output, caught[-1]))
        return output

    def end_forward(self, model: nn.Module, outputs: Tensor, targets: Tensor) -> None:
        """Note what the forward pass that just ended has shown.

        Args:
            model: The model.
            outputs: Its outputs, shape (n, classes).
            targets: Class numbers, shape (n,).

        Raises:
            HeadNotFoundError: The model has no head that can sleep.
            StimulusError: The first batch shows that inputs of the head are negative or not finite; a later one, that
                the head has another number of inputs now.
            ConfigError: Targets are not class numbers, or the head has no output for one of them.
        """
        passes, self._passes = self._passes, []
        self.release()
        if not passes:
            return  # nothing went through the model, or through its head
        # Methods that rehearse pass other data too: the pass that counts is the one that made these outputs.
        seen = next((seen for output, seen in passes if output is outputs), passes[-1][1])
        if isinstance(seen, Trace):
            self.head = (
                traced_head(model, seen) if self.head_names is None else named_head(model, self.head_names, seen)
            )
            if self.head.layers[0] not in seen.linear_inputs:
                self.head = None  # a named head that this pass did not go through
                return
            self._above = layers_above(self.head, seen)
            seen = seen.linear_inputs[self.head.layers[0]]
        assert self.head is not None
        x = seen.reshape(-1, self.head.sizes[0])
        total = x.sum(0, dtype=torch.float32 if x.device.type == "mps" else torch.float64)
        if self._sum is not None:
            self._check_same_inputs(len(total), len(self._sum))
        else:
            try:
                check_mean_input((total / len(x)).cpu().double().numpy(), n_inputs=self.head.sizes[0])
            except StimulusError as error:
                raise StimulusError(f"{error} ({self.head.describe()})") from None
            self.has_classes = self._are_classes(outputs, targets)
            if self.before is None:
                self.before, self._before_names = self.head.read(), self.head.names
            if self._below is None:
                self._below = checksums(model, apart_from=(*self.head.layers, *self._above))
        self._sum = total if self._sum is None else self._sum + total
        self._n += len(x)
        self._remember(x)
        if self.has_classes:
            self._note_classes(outputs, targets)

    def _remember(self, x: Tensor) -> None:
        self._recent.append(x)
        while sum(map(len, self._recent)) - len(self._recent[0]) >= RECENT:
            self._recent.popleft()

    def _are_classes(self, outputs: Any, targets: Any) -> bool:
        are = isinstance(targets, Tensor) and isinstance(outputs, Tensor) and (targets.ndim, outputs.ndim) == (1, 2)
        are = are and not (targets.is_floating_point() or targets.is_complex())
        if not are and self.needs_classes:
            what = f"type {type(targets).__name__}"
            if isinstance(targets, Tensor):
                what = f"shape {tuple(targets.shape)} and type {targets.dtype}"
            raise ConfigError(
                f"targets of {what} are not class numbers, so there are no old and new classes to balance: only pure "
                "SRC applies, SleepConfig.preset('src_only')"
            )
        return are

    def _note_classes(self, outputs: Tensor, targets: Tensor) -> None:
        assert self.head is not None
        targets = targets.detach()
        shown = set(torch.unique(targets).tolist())
        missing = sorted(c for c in shown if not 0 <= c < min(outputs.shape[1], self.head.sizes[-1]))
        if missing and self.needs_classes:
            raise ConfigError(
                f"targets {missing} have no output: the head {list(self.head.names)} has {self.head.sizes[-1]}. Give "
                "the model an output for every class and number the classes from 0; if targets are not class numbers, "
                "only pure SRC applies, SleepConfig.preset('src_only')"
            )
        if missing:  # whole numbers that are no classes; a pure sleep does not ask
            self.has_classes, self.new, self.shown = False, set(), set()
            return
        self.new.update(shown - self.seen)
        self.shown.update(shown)
        if self.seen:
            seen = torch.tensor(sorted(self.seen), device=targets.device)
            known = torch.tensor(sorted(self.seen | self.new), device=outputs.device)
            old = torch.isin(targets, seen)
            if bool(old.any()):
                usable = known[known < outputs.shape[1]]
                right = usable[outputs.detach()[:, usable].argmax(1)].to(targets.device) == targets
                self._rehearsed.append(torch.stack([old.sum(), (old & right).sum()]).cpu())

    @property
    def has_seen_input(self) -> bool:
        """Whether anything reached the head since the last `forget`."""
        return self._n > 0

    @property
    def recall(self) -> float | None:
        """Share of rehearsed samples classified rightly in the second half of the last epoch; None without any."""
        if not self._rehearsed:
            return None
        half = torch.stack(self._rehearsed[len(self._rehearsed) // 2 :]).sum(0)
        return float(half[1] / half[0])

    @property
    def recent(self) -> Tensor | None:
        """The last inputs of the head, about `RECENT` of them, shape (n, n_0)."""
        return torch.cat(list(self._recent)) if self._recent else None

    def mean_input(self) -> NDArray[np.float64]:
        """Return the mean input of the head over everything seen, shape (n_0,); every presentation counts once.

        Raises:
            StimulusError: Nothing was seen, or the head has other inputs than earlier.
        """
        total, count = self._sums()
        if count == 0:
            raise StimulusError("nothing was seen in training, so there is no mean input to sleep on")
        return total / count

    def _sums(self) -> tuple[NDArray[np.float64], int]:
        now = None if self._sum is None else self._sum.cpu().double().numpy()
        if self._total is None or now is None:
            total = self._total if now is None else now
            return (np.zeros(0) if total is None else total), self._count + self._n
        self._check_same_inputs(len(now), len(self._total))
        return self._total + now, self._count + self._n

    @staticmethod
    def _check_same_inputs(now: int, earlier: int) -> None:
        if now != earlier:
            raise StimulusError(
                f"the head has {now} inputs now and had {earlier} earlier, so there is no mean over both. Name a head "
                "that keeps its inputs: head='classifier'"
            )

    @property
    def has_other_end(self) -> bool:
        """Whether earlier experiences had another output layer, so that there is nothing to balance; never if pure."""
        return self.needs_classes and self.head is not None and bool(self._ends - {self.head.names[-1]})

    def trained_below(self, model: nn.Module, head: Head) -> list[str]:
        """Return the names of parameters below the head that have moved since the weights before were copied."""
        now = checksums(model, apart_from=(*head.layers, *self._above))
        return [] if self._below is None else moved(self._below, now)

    def _before_now(self) -> HeadState | None:
        """Return the weights before, a tensor per layer of the head as it is now; a layer that is new comes empty."""
        if self.before is None or self.head is None or self.head.names == self._before_names:
            return self.before
        weights = dict(zip(self._before_names, self.before.weights, strict=True))
        biases = dict(zip(self._before_names, self.before.biases, strict=True))
        return HeadState(
            tuple(weights.get(name, torch.zeros(0, 0)) for name in self.head.names),
            tuple(biases.get(name, torch.zeros(0)) for name in self.head.names),
        )

    def knowledge(self) -> dict[str, Any]:
        """Return what `sleep_head` wants to know of the experience, by its own argument names.

        Old classes are those that training may have overwritten. If most of the earlier classes were shown, they were
        rehearsed: all of them are old, and their recall says how well it went. If some came back while most stayed
        away, those that came back stand with the new ones against those that stayed away. If none stayed away and none
        is new, nothing is to be balanced.
        """
        back = self.seen & self.shown
        away = self.seen - self.shown
        returned = bool(away) and (not self.new or 2 * len(back) <= len(self.seen))
        new, old = (self.shown, away) if returned else (self.new, self.seen)
        return {
            "before": self._before_now(),
            "new_classes": tuple(sorted(new)) if self.has_classes else None,
            "old_classes": tuple(sorted(old)),
            "returned_classes": tuple(sorted(back)) if returned and self.has_classes else (),
            "recall": None if returned else self.recall,
        }

    def forget(self, *, slept: bool) -> None:
        """End the experience: fold it into the running mean, and drop all the rest.

        Args:
            slept: False defers the sleep: the weights before and the list of new classes wait for the next one.
        """
        self._total, self._count = self._sums()
        self._ends.update(() if self.head is None else self.head.names[-1:])
        self.release()
        self._start()
        if slept:
            self.before = self._below = None
            self.seen |= self.new
            self.new, self.shown = set(), set()

    def release(self) -> None:
        """Stop to watch a forward pass; leaves no hook behind. Safe to call at any time."""
        self._passes = []
        if self._watched is not None:
            model, own = self._watched
            self._watched = None
            model.__dict__.pop("forward", None)
            if own is not None:
                model.__dict__["forward"] = own

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept between experiences, as plain numbers and arrays."""
        return {
            "total": None if self._total is None else torch.from_numpy(self._total),
            "count": self._count,
            "seen": sorted(self.seen),
            "ends": sorted(self._ends),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._total = None if state["total"] is None else state["total"].numpy()
        self._count = int(state["count"])
        self.seen = set(state["seen"])
        self._ends = set(state.get("ends", ()))

    @property
    def kept_bytes(self) -> int:
        """Bytes kept from one experience to the next."""
        mean = 0 if self._total is None else self._total.nbytes
        before = 0 if self.before is None else self.before.nbytes + 8 * len(self._below or ())
        return mean + before + 8 * (1 + len(self.seen) + len(self.new))


def task_heads_message(model: nn.Module) -> str:
    """Return what a user should know of a model that is told the task."""
    return f"{type(model).__name__} has {ONE_HEAD_PER_TASK}, so there is nothing to balance, and it is left as it is"
