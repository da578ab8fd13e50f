"""Waking: what a sleep must know of the training before it, collected batch by batch and mostly forgotten again.

Between experiences only the running mean of the head's input, the seen classes, the names of layers, and checksums of
running statistics below the head are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError
from src_plugin.head.find import (
    check_model,
    check_scores,
    layers_above,
    named_head,
    parameters_below,
    parts_below,
    traced_head,
)
from src_plugin.head.norms import Moments, WithNorm
from src_plugin.head.outputs import Path, at
from src_plugin.head.state import Head, HeadState
from src_plugin.head.trace import Trace, trace_forward
from src_plugin.head.watch import Forward, Pass, Watch
from src_plugin.waking.backbone import NormHold, is_candidate
from src_plugin.waking.class_means import ClassMeans
from src_plugin.waking.classes import ClassLedger, why_no_classes
from src_plugin.waking.doubts import doubts
from src_plugin.waking.drift import buffer_checksums, changed, checksums, moved
from src_plugin.waking.inputs import InputSums
from src_plugin.waking.known import Known
from src_plugin.waking.mean import check_mean_input
from src_plugin.waking.recent import Recent
from src_plugin.waking.summary import TrainingSummary

ONE_HEAD_PER_TASK = "one head per task: classes of different tasks never compete"
"""Why `auto` stays awake where the model is told the task."""

ONE_LAYER = (
    "It has no hidden units to sleep, so its outputs are levelled only. On features of a frozen backbone two methods "
    "without training do more: nearest class mean and StreamingLDA (on CIFAR-10 79 and 86 %, levelling 77)"
)
"""What a user should know of a head of one layer."""

NOTHING = (
    "nothing that was trained on passed the head: the data set is empty, there were no epochs, or training does not "
    "pass them through the model that is watched"
)
"""Why a night is spent awake after an experience without a forward pass."""

ENOUGH = 1000
"""Samples that are looked at together: each look costs some, and on a GPU waits for all that was computed before."""

Batch = tuple[Tensor, Any, Any]
"""Inputs of the head, outputs of the model and targets."""

LOG = logging.getLogger("src_plugin")


class Waking:
    """Watches training forward passes of one model.

    A watcher (plugin or callback) calls `begin_forward` and `end_forward` around every training forward pass,
    `begin_epoch` before every epoch, `forget` after the sleep, and `let_go` when training ends. Hooks exist during a
    forward pass only, so no copy of the model ever carries one.

    Args:
        head: Name(s) of the head's layers, or None to find it in the first forward pass of every experience.
        needs_classes: Refuse targets that are not class numbers (pure SRC takes any, and then knows no classes).
        needs_rates: Refuse inputs of the head that are negative on average: they could not spike.
        holds: Keep batch norm below the head in eval mode if all is frozen there; False touches no mode.
        class_means: Keep the mean input of each class, too.
        known: What the model knew before.

    Attributes:
        head: The head of this experience, once it was found.
        before: The head's parameters before the experience, or before the first since the last sleep.
    """

    def __init__(
        self,
        head: str | Sequence[str] | None = None,
        *,
        needs_classes: bool = True,
        needs_rates: bool = False,
        holds: bool = True,
        class_means: bool = False,
        known: Known | None = None,
    ) -> None:
        self.head_names = head
        self.needs_classes = needs_classes
        self.needs_rates = needs_rates
        self._ledger = ClassLedger(needs_classes=needs_classes)
        self.before: HeadState | None = None
        self._before_names: tuple[str, ...] = ()  # of the layers that `before` holds
        self._below: dict[str, int] | None = None  # checksums of the parameters outside the head, as old as `before`
        self._buffers: dict[str, int] | None = None  # of all buffers, as old as the last sleep that looked at them
        self._buffers_now: dict[str, int] | None = None
        self._ends: set[str] = set()  # names of the output layers that earlier experiences had
        self._inputs = InputSums(known)
        if known is not None:
            self._ledger.seen, self._ledger.counts = set(known.counts), dict(known.counts)
        self._iterations = 0  # since the last sleep
        self._norms: dict[str, Moments] = {}  # of batch norm in the head, by its name
        self._class_means = ClassMeans() if class_means else None
        self._has_told = False
        self._watch = Watch()
        self._hold = NormHold() if holds else None
        self._start()

    def _start(self) -> None:
        """Forget the experience; what is set in `__init__` stays."""
        self.head: Head | None = None
        self._sizes: tuple[int, ...] = ()  # of the head
        self._names: tuple[str, ...] = ()
        self._path: Path = ()  # where in the model's output the class scores are
        self._above: list[nn.Module] = []  # what a named head passes its outputs on to
        self._parts_below: set[str] = set()  # names of the modules whose outputs reach the head
        self._parameters_below: set[str] = set()  # and of the parameters that its inputs are made with
        self.refusal = ""  # what ended the watch in the middle of a run
        self._recent = Recent()
        self._aside: list[Batch] = []
        self._n_aside = 0
        self._own_norms: dict[nn.Module, Moments] = {}  # batch norms of the head that are trained

    def begin_epoch(self, model: nn.Module | None = None) -> None:
        """Start to count recall of rehearsed classes anew; hold batch norms of a model whose head was found before."""
        self.ledger.begin_epoch()
        if self._hold is not None and model is not None:
            self._hold(model)

    def begin_forward(self, model: nn.Module, *, then: Callable[[Any], None] | None = None) -> None:
        """Watch the forward passes of `model` until `end_forward` or `release`.

        Args:
            model: The model.
            then: Called with the output of each pass when it has ended.
        """
        self._renew(model)
        is_blind = bool(self.refusal)
        self._watch.begin(model, head=lambda: self.head, ahead=self._look_ahead, then=then, is_blind=is_blind)

    def begin_passes(self, model: nn.Module, *, then: Callable[[Pass], None]) -> None:
        """Watch all training passes of `model` until `release`: those in training mode and with gradients.

        Args:
            model: The model.
            then: Called with each of them when it has ended; see `note`.
        """

        def counts(model: nn.Module) -> bool:
            if self.refusal or not (model.training and torch.is_grad_enabled()):
                return False
            self._renew(model)
            return True

        def after(output: Any) -> None:
            for passed in self._watch.take():
                then(passed)

        self._watch.begin(model, head=lambda: self.head, ahead=self._look_ahead, then=after, counts=counts)

    def _renew(self, model: nn.Module) -> None:
        if self._hold is not None:
            self._hold.renew(model)

    def _look_ahead(self, model: nn.Module, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do what is too late after a forward pass in training mode: running statistics have moved by then.

        Which of them lie below the head only a pass can tell, so the inputs pass in eval mode first.
        """
        if not self._inputs.has_any:
            check_model(model)  # torch's own words for such models come in the pass, and say nothing of sleep
        if self._buffers is None:
            self._buffers = buffer_checksums(model)
        if self._hold is None or not is_candidate(model):
            return
        own = [a.clone() if isinstance(a, Tensor) else a for a in args]  # a model may change its input in place
        try:
            head, above = self._find(model, trace_forward(model, forward, *own, **kwargs))
        except HeadNotFoundError:
            return  # the pass that counts says it
        names = {layer: name for name, layer in model.named_modules()}
        self._hold(model, [names[module] for module in (*head.modules, *above) if module in names])

    def _find(self, model: nn.Module, seen: Trace) -> tuple[Head, list[nn.Module]]:
        """Return the head that a traced pass shows, and the Linear layers that took what came out of it."""
        check_model(model)
        head = traced_head(model, seen) if self.head_names is None else named_head(model, self.head_names, seen)
        if self.needs_classes and head.parts[-1].module in seen.linears:
            check_scores(model, head, seen)
        return head, layers_above(head, seen)

    def end_forward(self, model: nn.Module, outputs: Tensor, targets: Tensor, *, generated: int = 0) -> None:
        """Note what the forward pass that just ended has shown.

        Args:
            model: The model.
            outputs: Its outputs, shape (n, classes).
            targets: Class numbers, shape (n,).
            generated: So many samples, the last ones, were made by a generator; they are not noted.

        Raises:
            HeadNotFoundError: The very first batch shows that the model has no head that can sleep; where that is so
                later, `doubts` says it, and no more is noted of the experience.
            StimulusError: Likewise, inputs of the head that are not finite, all 0, or negative where they give rates.
            ConfigError: Targets are not class numbers, or the head has no output for one of them.
        """
        passes = self._watch.take()
        self.release()
        if not passes:
            return  # nothing went through the model, or through its head
        # Methods that rehearse pass other data too: the pass that counts is the one that made these outputs.
        seen = next((seen for output, seen in passes if output is outputs), passes[-1][1])
        self.note(model, (outputs, seen), targets, generated=generated)

    def note(
        self, model: nn.Module, passed: Pass, targets: Any, *, classes: Sequence[int] | None = None, generated: int = 0
    ) -> None:
        """Note what a forward pass has shown.

        Args:
            model: The model.
            passed: The pass.
            targets: Class numbers, shape (n,); None if they are not known.
            classes: Those of the experience, where there are no targets.
            generated: See `end_forward`.

        Raises:
            SRCError: As `end_forward`.
        """
        if self.refusal:
            return
        try:
            self._note(model, passed, targets, classes=classes, generated=generated)
        except (HeadNotFoundError, StimulusError) as error:
            if not self._inputs.has_any:
                raise
            self.refusal = str(error)

    def _note(
        self, model: nn.Module, passed: Pass, targets: Any, *, classes: Sequence[int] | None, generated: int
    ) -> None:
        outputs, seen = passed
        if isinstance(seen, Trace):
            if not self._take_head(model, seen):
                return
            assert self.head is not None
            seen = seen.inputs[self.head.entry]
        outputs = at(outputs, self._path)
        x = seen.reshape(-1, self._sizes[0])
        if generated:
            rows = len(x) // len(targets)  # of one sample
            x, outputs, targets = x[: -generated * rows], outputs[:-generated], targets[:-generated]
        n = x.shape[0]
        total = x.sum(0, dtype=torch.float32 if x.device.type == "mps" else torch.float64)
        is_first = self._inputs.sum is None
        if is_first:
            self._begin(model, total / n, outputs, targets, is_told=classes is not None)
        self._inputs.note(x, total)
        for moments in self._own_norms.values():
            moments.now += n
        self._iterations += 1
        if classes is not None:
            self._ledger.tell(classes)
            self._recent.note([(x, None)], seen=())
            return
        self._put_aside(x, outputs, targets)
        if is_first or self._n_aside >= ENOUGH:
            self._look()

    def _take_head(self, model: nn.Module, seen: Trace) -> bool:
        """Take the head that a traced pass shows; False where a named one was not gone through."""
        self._look()  # at what was of the one before
        self.head, above = self._find(model, seen)
        if self.head.entry not in seen.inputs:
            self.head = None
            return False
        self._names, self._sizes = self.head.names, self.head.sizes
        if self._inputs.sum is not None:
            self._inputs.check_size(self._sizes[0])
        self._above, self._parts_below = above, parts_below(model, self.head, seen)
        self._parameters_below = parameters_below(model, self.head, seen)
        self._path = seen.path or ()
        self._tell_one_layer()
        self._attend_norms(model)
        return True

    def _begin(self, model: nn.Module, mean: Tensor, outputs: Any, targets: Any, *, is_told: bool) -> None:
        """Look at the first batch of an experience, by its mean too, shape (n_0,); copy the weights before it."""
        assert self.head is not None
        self._inputs.check_size(len(mean))
        self._check_known()
        try:
            check_mean_input(mean.cpu().double().numpy(), n_inputs=self._sizes[0], as_rates=self.needs_rates)
        except StimulusError as error:
            raise StimulusError(f"{error} ({self.head.describe()})") from None
        if not is_told:
            self._ledger.open(outputs, targets)
        if self.before is None:
            self.before, self._before_names = self.head.read(), self.head.names
        if self._below is None:
            self._below = checksums(model, apart_from=(*self.head.modules, *self._above))

    def _check_known(self) -> None:
        """Refuse classes that are said to be known and have no output.

        Raises:
            ConfigError: There are some.
        """
        known = self._inputs.known
        missing = [] if known is None else [c for c in known.counts if c >= self._sizes[-1]]
        if missing:
            raise ConfigError(
                f"seen has classes {missing}, and the head {list(self._names)} has {self._sizes[-1]} outputs: give the "
                "class numbers that the model was trained on, counted from 0"
            )

    def _put_aside(self, x: Tensor, outputs: Any, targets: Any) -> None:
        """Keep a batch until there are enough to be looked at together."""
        if self._ledger.has_classes:
            why = why_no_classes(outputs, targets)
            if why and self.needs_classes:  # those of the first batch were
                self.refusal = why
                return
            if why:
                self._ledger.give_up()
        if self._ledger.has_classes:
            targets = targets.detach().clone()  # a loop may fill the same tensor again, and a loss may write into these
            outputs = outputs.detach().clone() if self._ledger.seen else outputs.detach()
        self._aside.append((x, outputs, targets))
        self._n_aside += x.shape[0]

    def _look(self) -> None:
        """Note the classes of the batches put aside, and hold what is to be held of them."""
        batches, self._aside, self._n_aside = self._aside, [], 0
        if not batches:
            return
        ledger, n_outputs = self._ledger, self._sizes[-1]
        if ledger.has_classes:
            ledger.note([batch[1:] for batch in batches], names=self._names, n_outputs=n_outputs)
        known = [(x, targets if ledger.has_classes else None) for x, _, targets in batches]
        self._recent.note(known, seen=ledger.seen)
        for x, classes in known:
            if self._class_means is not None and classes is not None:
                self._class_means.note(x, classes, n_classes=n_outputs)

    @property
    def ledger(self) -> ClassLedger:
        """The classes, and how well they are recalled."""
        self._look()
        return self._ledger

    def _tell_one_layer(self) -> None:
        """Say once what levelling alone is, and what does more where it is all that can be done."""
        assert self.head is not None
        if len(self.head.parts) > 1 or not self.needs_classes or self._has_told:
            return
        self._has_told = True
        LOG.warning("%s. %s", self.head.describe(), ONE_LAYER)

    def _attend_norms(self, model: nn.Module) -> None:
        """Let batch norms of the head that are trained know their statistics over all experiences."""
        assert self.head is not None
        names = {module: name for name, module in model.named_modules()}
        for part in self.head.parts:
            if isinstance(part, WithNorm):
                trained = [norm for norm in part.norms if norm.training]
                part.moments = {norm: self._norms.setdefault(names[norm], Moments()) for norm in trained}
                self._own_norms.update(part.moments)

    @property
    def has_seen_input(self) -> bool:
        """Whether anything reached the head since the last `forget`."""
        return self._inputs.n > 0

    def doubts(self) -> str:
        """Return why this experience cannot be slept on, as far as its first batch did not say so; "" if it can."""
        if self.refusal or self.head is None or not self._inputs.n:
            return self.refusal or NOTHING
        mean, size = self.mean_input(), self.head.sizes[0]
        why = doubts(mean, self.recent, self._inputs.first, n_inputs=size, as_rates=self.needs_rates)
        return f"{why} ({self.head.describe()})" if why else ""

    @property
    def recent(self) -> Tensor | None:
        """The last inputs of the head, about a thousand, shape (n, n_0)."""
        self._look()
        return self._recent.inputs

    @property
    def fresh(self) -> tuple[Tensor, Tensor] | None:
        """The last inputs of new classes, and their classes; None in a first experience."""
        self._look()
        return self._recent.fresh

    def mean_input(self) -> NDArray[np.float64]:
        """Return the mean input of the head over everything seen, shape (n_0,); every presentation counts once.

        Raises:
            StimulusError: Nothing was seen, or the head has other inputs than earlier.
        """
        return self._inputs.mean(self._counts_now)

    def _counts_now(self) -> dict[int, int]:
        return self.ledger.counts_now()

    @property
    def has_other_end(self) -> bool:
        """Whether earlier experiences had another output layer, so that there is nothing to balance; never if pure."""
        return self.needs_classes and self.head is not None and bool(self._ends - {self.head.names[-1]})

    def trained_below(self, model: nn.Module, head: Head) -> list[str]:
        """Return the names of parameters below the head that have moved since the weights before were copied."""
        now = checksums(model, apart_from=(*head.modules, *self._above))
        names = [] if self._below is None else moved(self._below, now)
        return [name for name in names if name in self._parameters_below]

    def changed_below(self, model: nn.Module) -> list[str]:
        """Return the names of floating-point buffers below the head that changed since the last sleep that looked.

        Or since before the first forward pass in training. Running statistics are such buffers.
        """
        self._buffers_now = buffer_checksums(model)
        names = [] if self._buffers is None else changed(self._buffers, self._buffers_now)
        return [name for name in names if name.rpartition(".")[0] in self._parts_below]

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

    def summary(
        self, *, index: int = 0, inputs: Tensor | None = None, backbone_trained: bool = False
    ) -> TrainingSummary:
        """Return what a night is told of the training since the last one.

        Args:
            index: How many sleeps came before.
            inputs: Inputs of the head, shape (n, n_0), to be taken instead of those that were seen.
            backbone_trained: Whether something below the head moved.

        Raises:
            StimulusError: Nothing was seen, or the head has other inputs than earlier.
        """
        classes = self.ledger.classes()
        return TrainingSummary(
            mean=self.mean_input() if inputs is None else inputs.mean(0, dtype=torch.float64).numpy(),
            lowest=self._inputs.lowest() if inputs is None else None,
            inputs=self._recent.inputs if inputs is None else inputs,
            before=self._before_now(),
            classes=classes,
            samples=self._recent.samples,
            exemplars=self._recent.exemplars(classes.old),
            class_means=None if self._class_means is None or inputs is not None else self._class_means.mapping(),
            fresh=self._recent.fresh,
            iterations=self._iterations,
            index=index,
            backbone_trained=backbone_trained,
        )

    def forget(self, *, slept: bool) -> None:
        """End the experience: fold it into the running mean, unless it is in doubt, and drop all the rest.

        Args:
            slept: False defers the sleep: the weights before and the list of new classes wait for the next one.
        """
        self._look()
        is_in_doubt = bool(self.doubts())
        if not is_in_doubt:
            self._inputs.fold(self._counts_now)
        self._inputs.start()
        if self._class_means is not None:
            self._class_means.close(is_in_doubt=is_in_doubt)
        for norm, moments in self._own_norms.items():
            moments.close(norm)
        self._ends.update(() if self.head is None else self.head.names[-1:])
        self.release()
        self._start()
        self.ledger.close(slept=slept)
        if slept:
            self.before = self._below = None
            self._iterations = 0
            self._buffers, self._buffers_now = self._buffers_now or self._buffers, None

    def let_go(self) -> None:
        """Put batch norms that were held in eval mode back as they were: training is over."""
        if self._hold is not None:
            self._hold.let_go()

    def release(self) -> None:
        """Stop to watch a forward pass; leaves no hook behind. Safe to call at any time."""
        self._watch.release()

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept between experiences, as plain numbers and arrays."""
        return {
            **self._inputs.state_dict(),
            "seen": sorted(self.ledger.seen),
            "ends": sorted(self._ends),
            "counts": dict(self.ledger.counts),
            "class_means": None if self._class_means is None else self._class_means.state_dict(),
            "norms": {name: (moments.n, moments.mean, moments.square) for name, moments in self._norms.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._inputs.load_state_dict(state)
        self.ledger.seen = set(state["seen"])
        self._ends = set(state.get("ends", ()))
        self.ledger.counts = dict(state.get("counts", {}))
        if self._class_means is not None and state.get("class_means") is not None:
            self._class_means.load_state_dict(state["class_means"])
        self._norms = {name: Moments(*moments) for name, moments in state.get("norms", {}).items()}

    @property
    def kept_bytes(self) -> int:
        """Bytes kept from one experience to the next."""
        before = 0 if self.before is None else self.before.nbytes + 8 * len(self._below or ())
        classes = len(self.ledger.seen) + len(self.ledger.new) + len(self.ledger.counts)
        norms = sum(moments.nbytes for moments in self._norms.values())
        class_means = 0 if self._class_means is None else self._class_means.nbytes
        return self._inputs.nbytes + before + norms + class_means + 8 * (1 + classes + len(self._buffers or ()))


def task_heads_message(model: nn.Module) -> str:
    """Return what a user should know of a model that is told the task."""
    return f"{type(model).__name__} has {ONE_HEAD_PER_TASK}, so there is nothing to balance, and it is left as it is"
