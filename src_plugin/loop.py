"""SRC: sleep in any PyTorch loop, in four lines.

src = SRC(model)
for loader in tasks:
with src.task():
...  # the training loop as it is
"""

from __future__ import annotations

import logging
import operator
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor, nn

from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.head.outputs import pick
from src_plugin.head.state import Head
from src_plugin.head.watch import Pass
from src_plugin.ranks import check_ranks, sleep_once
from src_plugin.report import SleepReport
from src_plugin.sleeper import Seed, Sleeper
from src_plugin.waking.known import Seen
from src_plugin.waking.summary import TrainingSummary
from src_plugin.waking.targets import Node, on_backward, targets_of

PENDING = 8
"""Passes that may wait for their backward pass; older ones are taken for passes that nobody trains on."""

LOG = logging.getLogger("src_plugin")


class SRC:
    """Watches a model in training, and puts its classifier head to sleep after each task.

    A task is what is trained in one `with src.task():` block. While it lasts, training passes of the model are watched:
    those in training mode and with gradients. Targets are read from the loss when it goes backward (`loss.backward()`
    or `torch.autograd.grad`): class numbers in `cross_entropy`, `nll_loss` or `multi_margin_loss`, one-hot rows in
    `cross_entropy`, `mse_loss`, `smooth_l1_loss`, `huber_loss` and both binary cross-entropies. Where a loss keeps
    none that can be read, give the classes of the task. A pure sleep (`src_only`) needs neither.

    When the block ends, the head sleeps, in place: parameters keep their identity and optimizers their state, all below
    the head stays bit-identical, modes are restored, and nothing is drawn from global random states. After an exception
    it does not; the next block goes on with the same task. In several processes (`torch.distributed`) what they have
    seen is put together when the block ends in all of them: one sleeps, and all have its network.

    Args:
        model: The model, as the loop calls it.
        config: A `SleepConfig`, or the name of a preset; None is `auto`, which needs no numbers.
        head: Dotted name of the head (a layer or a container), or a list of names, input side first; None finds it.
        seed: Seed of the sleep's noise, or a NumPy or torch generator.
        seen: Classes that the model knows already, or {class: number of its images}; None: it knows none.
        mean_input: Mean of what reached the head over them, shape (n_0,); None where it is not known.

    Raises:
        ConfigError: A setting that cannot be meant; in training: targets that are no class numbers or have no output.
        HeadNotFoundError: In the first training pass: the model has no head that can sleep.
        StimulusError: In the first training pass: inputs of the head are not finite, all 0, or negative where the sleep
            is simulated. What only later passes show is warned of, and the network stays awake.

    Source:
        Tadros, Krishnan, Ramyaa, Bazhenov, Nat. Commun. 13:7742 (2022).

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> src = SRC(model)
        >>> for classes in ([0, 1], [2, 3]):
        ...     with src.task():
        ...         loss = nn.functional.cross_entropy(model(torch.rand(2, 4)), torch.tensor(classes))
        ...         loss.backward()
        ...         sgd.step()
        >>> len(src.reports), src.summary()[:8]
        (2, '2 nights')
    """

    def __init__(
        self,
        model: nn.Module,
        config: SleepConfig | str | None = None,
        *,
        head: str | Sequence[str] | None = None,
        seed: Seed = 0,
        seen: Seen = None,
        mean_input: ArrayLike | Tensor | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ConfigError(f"SRC({type(model).__name__}): the first argument is the model, a torch.nn.Module")
        self.model = model
        self._sleeper = Sleeper(config, speaker="SRC", head=head, seed=seed, seen=seen, mean_input=mean_input)
        self._task: _Task | None = None
        self._night: Callable[[Head, TrainingSummary], SleepReport] | None = None  # for adapters: passes the night

    @property
    def config(self) -> SleepConfig:
        """How the head sleeps."""
        return self._sleeper.config

    @property
    def reports(self) -> list[SleepReport]:
        """One report per task, in order."""
        return self._sleeper.reports

    @property
    def report(self) -> SleepReport | None:
        """What was done after the last task; None before the first has ended."""
        return self.reports[-1] if self.reports else None

    def summary(self) -> str:
        """Return what all nights so far did, e.g. "5 nights: 1 slept, 4 levelled"."""
        return self._sleeper.summary()

    @contextmanager
    def task(self, classes: Sequence[int] | None = None) -> Iterator[None]:
        """Watch the training of one task, and sleep when it is over.

        Args:
            classes: Class numbers of the task, where targets cannot be read from the loss. How many images each has is
                not known then, and all count the same.

        Raises:
            ConfigError: Another task is not over yet, `classes` are no class numbers, or several processes train and
                class means are to be kept.
        """
        if self._task is not None:
            raise ConfigError("src.task(): the task before is not over yet; end its `with` block first")
        check_ranks(self.config)
        self._sleeper.begin(self.model)
        self._task = _Task(self.model, self._sleeper, None if classes is None else _class_numbers(classes))
        waking = self._sleeper.waking
        waking.begin_epoch(self.model)
        try:
            with on_backward(self._task.went_backward):
                waking.begin_passes(self.model, then=self._task.passed)
                yield
        finally:
            task, self._task = self._task, None
            waking.release()
            waking.let_go()
        model = self.model
        sleep_once(self._sleeper, lambda: task.end(self._night), lambda: [*model.parameters(), *model.buffers()])

    def state_dict(self) -> dict[str, Any]:
        """Return all that is known, as plain numbers and tensors; `torch.load(..., weights_only=True)` reads it.

        With the weights of the model and the state of the optimizer, another process goes on to the same bits.
        """
        return self._sleeper.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`.

        Args:
            state: What it returned.

        Raises:
            ConfigError: It is of another config, or a task is not over.
            HeadNotFoundError: It is of another head.
        """
        if self._task is not None:
            raise ConfigError("src.load_state_dict(): a task is not over yet; load before its `with` block")
        device = next((p.device for p in self.model.parameters()), "cpu")
        self._sleeper.load_state_dict(state, device, self.model)

    def begin_epoch(self) -> None:
        """Say that an epoch begins, within a task.

        Then images of each class are counted once for all epochs, and recall of rehearsed ones is that of the last. It
        matters only if tasks have different numbers of epochs, or if old images are rehearsed.
        """
        self._sleeper.waking.begin_epoch(self.model)


class _Task:
    """What is seen of one task.

    Args:
        model: The model.
        sleeper: Who watches it.
        classes: Of the task; None reads them from the losses.
    """

    def __init__(self, model: nn.Module, sleeper: Sleeper, classes: tuple[int, ...] | None) -> None:
        self._model, self._sleeper, self._classes = model, sleeper, classes
        self._waits = classes is None and sleeper.waking.needs_classes
        self._pending: deque[tuple[Pass, list[Tensor], list[Node]]] = deque(maxlen=PENDING)
        self._n_passes = self._n_backward = self._n_read = 0

    def passed(self, passed: Pass) -> None:
        """Take in a training pass that has ended."""
        self._n_passes += 1
        if not self._waits:
            self._sleeper.waking.note(self._model, passed, None, classes=self._classes)
            return
        scores = [scores for _, scores in pick(passed[0]) if scores.grad_fn is not None]
        if scores:
            self._pending.append((passed, scores, [tensor.grad_fn for tensor in scores]))

    def went_backward(self, roots: list[Node]) -> None:
        """Read the targets of waiting passes from losses that go backward."""
        last = -1
        for i, (passed, scores, nodes) in enumerate(self._pending):
            is_theirs = False
            for tensor, node in zip(scores, nodes, strict=True):
                n_classes = tensor.shape[-1] if tensor.ndim else 1
                targets = targets_of(roots, node, n=len(tensor) if tensor.ndim else 1, n_classes=n_classes)
                if targets is not None:
                    self._n_read += 1
                    self._sleeper.waking.note(self._model, passed, targets)
                    is_theirs = True
                    break
            last = i if is_theirs else last
        self._n_backward += 1
        for _ in range(last + 1):  # those before it were not trained on
            self._pending.popleft()

    def end(self, night: Callable[[Head, TrainingSummary], SleepReport] | None) -> None:
        """Sleep, or say why not."""
        sleeper = self._sleeper
        if sleeper.waking.has_seen_input or sleeper.waking.refusal:
            if self._waits and self._n_read < self._n_passes / 2:
                sleeper.warn(
                    "unread",
                    f"{self._n_passes - self._n_read} of {self._n_passes} training passes {self._why_unread()}",
                )
            sleeper.sleep(self._model, night=night)
            sleeper.waking.forget(slept=True)
            return
        why = f"no training pass of {type(self._model).__name__} was seen"
        if self._n_passes:
            why = f"training passes {self._why_unread()}"
        elif not self._model.training:
            why += ", which is in eval mode: call model.train() before training"
        sleeper.warn("nothing seen", f"stays awake: {why}")
        sleeper.stay_awake(why)

    def _why_unread(self) -> str:
        cure = "Give the classes of the task: src.task(classes=[...])"
        if not self._n_backward:
            return f"were never followed by loss.backward(), from which targets are read. {cure}"
        return f"had losses from which no targets can be read. {cure}"


def _class_numbers(classes: Sequence[int]) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({operator.index(number) for number in classes}))
    except TypeError:
        numbers = ()
    if not numbers or numbers[0] < 0:
        raise ConfigError(f"src.task(classes={classes!r}): give class numbers from 0, e.g. classes=[0, 1]")
    return numbers
