"""SRCPlugin: a sleep at the end of every experience of any Avalanche strategy.

The plugin decides when, and finds its place among the other plugins; `waking` collects what the sleep needs, and
`night` does the sleep.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from avalanche.models.utils import is_multi_task_module
from avalanche.training import JointTraining
from avalanche.training.plugins import CWRStarPlugin, GDumbPlugin, SynapticIntelligencePlugin
from avalanche.training.utils import trigger_plugins
from numpy.typing import ArrayLike
from torch import Tensor, nn

from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError, HeadNotFoundError, Warner
from src_plugin.files.averages import averages_of, with_averages
from src_plugin.head.state import Head
from src_plugin.head.watch import head_inputs
from src_plugin.report import SleepReport
from src_plugin.sleeper import Seed, Sleeper, check_same_layers
from src_plugin.waking.exemplars import exemplars_of, n_generated, recall_of
from src_plugin.waking.known import Seen
from src_plugin.waking.observer import ONE_HEAD_PER_TASK, Waking, task_heads_message
from src_plugin.waking.summary import TrainingSummary

MUST_COME_FIRST = (SynapticIntelligencePlugin, CWRStarPlugin)
"""Plugins that finish their own account of training before the sleep changes weights; all others come after it."""

UNDO_SLEEP = {
    GDumbPlugin: "GDumb begins every experience with its first weights again and trains them on its memory alone",
    CWRStarPlugin: "CWR* begins every experience with the output weights that it has saved itself",
}
"""Plugins that leave nothing of a sleep to the next experience, and why."""


class SRCPlugin(SupervisedPlugin):  # type: ignore[type-arg, misc, unused-ignore]
    """Puts the classifier head of `strategy.model` to sleep after each experience.

    In training it keeps a running mean of the head's input (a forward hook, training batches only); when an experience
    ends, the head sleeps on noise drawn from that mean, in place: parameters keep their identity and the optimizer its
    state, everything below the head stays bit-identical, a sleep keeps train and eval modes, and nothing is drawn from
    global random states. No example is stored. While an experience lasts, a copy of the head's parameters at its first
    training iteration, about 1000 current inputs of the head and, with rehearsal, as many of old and as many
    of new classes are held as well; all are dropped after the sleep.

    Biases: a sleeping unit has no constant drive, as in the paper, whose networks have no biases: one would make units
    fire in silence and blame their inputs for it. So the sleep itself ignores biases and leaves them alone; settling
    then moves them together with the weights.

    Batch norm beside a layer of the head is a part of that layer. Its mean and variance over all experiences are kept,
    and a sleep writes them back with the weights.

    Batch norm in a frozen backbone: Avalanche calls `model.train()`, and then running statistics move although no
    parameter does, and the mean input of earlier experiences no longer fits. So if there are parameters below the head
    and none of them requires a gradient, norm layers with running statistics are put back into eval mode until `train`
    ends (this alone changes what training does), and the backbone stays bit-identical. Dropout stays as it is: the mean
    input is what comes out behind it. The head must be known before anything moves, so the first batch passes once
    more, in eval mode. No mode is touched with zero steps, with every stage off, or with a `reference`. Whatever else
    changes a floating-point buffer below the head is warned of once: a backbone whose parameters could be trained but
    are not, or plugins that call `model.train()` themselves (GEM, A-GEM, MAS). The warning shows how to keep a backbone
    in eval mode whoever calls.

    Models with one head per task (Avalanche's `MultiTaskModule`: `as_multitask`, `MTSimpleMLP`, ...): a network that is
    told the task never lets classes of different tasks compete, so `auto` has nothing to balance and stays awake; the
    reports say so. It does the same from the second task on if another model changes its output layer between
    experiences, or if the named head belongs to one of several tasks. Pure SRC needs the layers named there, e.g. those
    that all tasks share.

    Rehearsal in a forward pass of its own (ER-ACE, MIR): the exemplars that the strategy keeps say how well old classes
    are recalled. Samples of generative replay are not believed: neither the mean nor the judgement of a night knows
    them, since their classes are a guess of the model's.

    With GDumb and CWR* nothing of a sleep outlives the next experience's beginning; it warns once.

    Where it stands: at the start of each `train` call it moves itself in `strategy.plugins` behind Synaptic
    Intelligence and CWR* (whose accounts must not contain the sleep) and before all others (EWC, MAS, LwF, iCaRL, ...
    whose anchors, importances, teachers and means must come from the slept network).

    Around a sleep it triggers `before_sleep(strategy)` and `after_sleep(strategy)` on the strategy's plugins, so that
    metrics and loggers can look at both sides. A plugin that defines these and is passed to a strategy's constructor
    makes Avalanche warn; metrics and loggers, and plugins appended to `strategy.plugins` later, do not.

    An average of the weights that another plugin holds as an attribute, a torch `AveragedModel`, sleeps when the model
    does, on its own weights.

    A plugin that protects what earlier inputs evoke by projecting gradients (OWM, gradient projection memory) says so
    by an attribute, `protects_old_inputs = True`. The sleep itself would move just that, so `auto` leaves it out and
    only settles and levels; the plugin's `after_sleep` can project what these moved.

    Args:
        config: A `SleepConfig`, or the name of a preset; "auto" needs no numbers.
        head: Dotted name of the head (a layer or a container), or a list of names, input side first; None finds it.
        seed: Seed of the sleep's noise, or a NumPy or torch generator.
        every: Sleep after every k-th experience. With `auto` a sleep protects what the last one left, so what was lost
            before the first sleep stays lost.
        first: Number of the first experience (from 1) to sleep after; None means `every`.
        last_only: Sleep after the last experience of the stream only; for pure SRC, see `every`.
        schedule: `schedule(strategy) -> bool` decides instead of `every`, `first` and `last_only`.
        reference: `reference(strategy) -> Tensor` gives inputs of the model, shape (n, ...), from which mean input and
            data-based gains are taken instead of the running mean. For replications: it lets the sleep see data that a
            continual learner would not have, so it is not part of the method.
        seen: Classes that the model knows already, or {class: number of its images}; None: it knows none.
        mean_input: Mean of what reached the head over them, shape (n_0,); None where it is not known.

    Raises:
        ConfigError: A setting that cannot be meant, or targets that are not class numbers or have no output (with
            `auto`).
        HeadNotFoundError: In the first training iteration: the model has no head that can sleep, or one per task and
            a pure sleep was not told which.
        StimulusError: In the first training iteration: inputs of the head are not finite, all 0, or negative where the
            sleep is simulated.

    What only later batches show (NaN, inputs that are all the same or grow without bound, a head that is another one
    now, an experience that trained on nothing, parameters that are not finite) is warned of when the experience ends,
    and the network stays awake: the report says why.

    Source:
        Tadros, Krishnan, Ramyaa, Bazhenov, Nat. Commun. 13:7742 (2022).

    Example:
        >>> from avalanche.training import Naive
        >>> strategy = Naive(model=..., optimizer=..., plugins=[SRCPlugin()])  # doctest: +SKIP
    """

    def __init__(
        self,
        config: SleepConfig | str | None = None,
        *,
        head: str | Sequence[str] | None = None,
        seed: Seed = 0,
        every: int = 1,
        first: int | None = None,
        last_only: bool = False,
        schedule: Callable[[Any], bool] | None = None,
        reference: Callable[[Any], Tensor] | None = None,
        seen: Seen = None,
        mean_input: ArrayLike | Tensor | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("every", every), ("first", every if first is None else first)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"SRCPlugin({name}={value!r}): {name} must be a whole number, 1 or more")
        self.every = every
        self.first = every if first is None else first
        self.last_only = last_only
        self.schedule = schedule
        self.reference = reference
        self._sleeper = Sleeper(
            config,
            speaker="SRCPlugin",
            head=head,
            seed=seed,
            seen=seen,
            mean_input=mean_input,
            holds=reference is None,
        )
        self._experiences = 0
        self._sub_experiences = 0
        self._real = 0  # samples in the batch, without generated ones
        self._run: tuple[Callable[[], Any], Callable[[], Any]] | None = (
            None  # weak: the strategy and the model it is with
        )

    @property
    def config(self) -> SleepConfig:
        """How the head sleeps."""
        return self._sleeper.config

    @property
    def reports(self) -> list[SleepReport]:
        """One `SleepReport` per sleep, in order."""
        return self._sleeper.reports

    def summary(self) -> str:
        """Return what all nights so far did, e.g. "5 nights: 1 slept, 4 levelled"."""
        return self._sleeper.summary()

    @property
    def _waking(self) -> Waking:
        return self._sleeper.waking

    @property
    def _warn(self) -> Warner:
        return self._sleeper.warn

    def state_dict(self) -> dict[str, Any]:
        """Return all that is known, as plain numbers and tensors; `torch.load(..., weights_only=True)` reads it."""
        return self._sleeper.state_dict() | {"experiences": [self._experiences, self._sub_experiences]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; the model is looked at when training begins.

        Args:
            state: What it returned.

        Raises:
            ConfigError: It is of another config, or this plugin has experiences behind it.
            HeadNotFoundError: It is of another head than the one that is named.
        """
        if self._run is not None and self._experiences:
            raise ConfigError(
                f"this SRCPlugin has {self._experiences} experiences behind it: load a state into a new SRCPlugin()"
            )
        self._sleeper.load_state_dict(state)
        self._experiences, self._sub_experiences = state["experiences"]

    # -- waking: watch training forward passes ------------------------------------------------------------------

    def before_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Take the right place among the plugins; refuse to go on from another run."""
        self._check_same_run(strategy)
        self._sleeper.begin(strategy.model)
        plugins = strategy.plugins
        for kind, why in UNDO_SLEEP.items():
            if any(isinstance(p, kind) for p in plugins):
                self._warn(kind.__name__, f"{why}, so a sleep shows until then and nothing of it stays")
        early = [p for p in plugins if isinstance(p, MUST_COME_FIRST)]
        late = [p for p in plugins if p is not self and not isinstance(p, MUST_COME_FIRST)]
        if plugins != [*early, self, *late]:
            strategy.plugins = [*early, self, *late]  # a new list: Avalanche is walking the old one right now

    def _check_same_run(self, strategy: Any) -> None:
        """Refuse another strategy with another model: mean input, classes and number of sleeps are those of the first.

        Raises:
            ConfigError: The plugin has learnt of experiences in another run.
            HeadNotFoundError: It goes on from a state of another head.
        """
        now = (strategy, strategy.model)
        is_other = self._run is not None and all(
            was() is not is_now for was, is_now in zip(self._run, now, strict=True)
        )
        if is_other and self._experiences:
            raise ConfigError(
                f"this SRCPlugin has {self._experiences} experiences of another model behind it, whose mean input and "
                "classes it would go on with. Make a new SRCPlugin() for every run"
            )
        if self._run is None and not self._has_task_heads(strategy.model):  # a state may be of another head
            check_same_layers([r.to_dict() for r in self.reports], self._waking.head_names, strategy.model)
        self._run = (weakref.ref(strategy), weakref.ref(strategy.model))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out strategy and model: a checkpoint or a copy goes on with its own."""
        return {**self.__dict__, "_run": None}

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse `last_only` where the last experience cannot be told."""
        if self.last_only and self.schedule is None and not isinstance(strategy, JointTraining):
            check_stream(strategy.experience)

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Count recall of rehearsed classes anew, and hold batch norms of a frozen backbone in eval mode."""
        self._waking.begin_epoch(None if self._has_task_heads(strategy.model) else strategy.model)

    def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Count the samples of the batch before a generator adds to it."""
        self._real = len(strategy.mb_y)

    def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Watch this forward pass."""
        if not self._has_task_heads(strategy.model):
            self._waking.begin_forward(strategy.model)

    def after_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Note what it showed."""
        generated = n_generated(strategy, real=self._real)
        self._waking.end_forward(strategy.model, strategy.mb_output, strategy.mb_y, generated=generated)

    def after_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Leave modes as training left them."""
        self._waking.let_go()

    # -- sleep --------------------------------------------------------------------------------------------------

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Sleep, if this experience is one to sleep after."""
        if not self._is_boundary(strategy.experience):
            return
        self._experiences += 1
        has_task_heads = self._has_task_heads(strategy.model)
        due = self._is_due(strategy)
        if due:
            self._sleeper.sleep(
                strategy.model,
                has_task_heads=has_task_heads,
                reference=None if self.reference is None else partial(self._reference_inputs, strategy),
                complete=partial(self._ask_others, strategy),
                around=_told_to_plugins(strategy),
                night=with_averages(self._pass_night, self._sleeper, strategy.model, averages_of(strategy.plugins)),
            )
        self._waking.forget(slept=due)

    def _pass_night(self, head: Head, training: TrainingSummary) -> SleepReport:
        return self._sleeper.pass_night(head, training)

    def _reference_inputs(self, strategy: Any, head: Head) -> Tensor:
        assert self.reference is not None
        return head_inputs(strategy.model, head, self.reference(strategy), device=strategy.device)

    def _ask_others(self, strategy: Any, head: Head, training: TrainingSummary) -> TrainingSummary:
        """Add what only other plugins know of training."""
        return replace(self._ask_memory(strategy, head, training), protector=protector_of(strategy))

    def _ask_memory(self, strategy: Any, head: Head, training: TrainingSummary) -> TrainingSummary:
        """Add what exemplars that are kept but not trained on say of old classes, where no batch did."""
        classes = training.classes
        if not (self.config.gates.rehearsal and classes.recall is None and classes.old and classes.new):
            return training
        exemplars = exemplars_of(strategy, old=classes.old)
        if exemplars is None:
            return training
        recall = recall_of(strategy.model, exemplars, known=classes.seen, device=strategy.device)
        fresh, samples = self._waking.fresh, training.samples
        if fresh is not None:
            inputs = head_inputs(strategy.model, head, exemplars[0], device=strategy.device)
            samples = (torch.cat([inputs, fresh[0].cpu()]), torch.cat([exemplars[1], fresh[1].cpu()]))
        return replace(training, classes=replace(classes, recall=recall), samples=samples)

    def _has_task_heads(self, model: nn.Module) -> bool:
        """Whether the model is told the task and has a head for each, so that `auto` has nothing to balance.

        Raises:
            HeadNotFoundError: It is, the sleep is a pure one, and no layers are named for it.
        """
        if not is_multi_task_module(model):
            return False
        tasks = {t for m in model.modules() if isinstance(m, MultiTaskModule) for t in m.known_train_tasks_labels}
        if self._waking.head_names is not None and (self.config.is_pure or len(tasks) < 2):
            return False
        shared = shared_layers(model)
        cure = (
            f"name the layers that all tasks share: SRCPlugin('src_only', head={shared})" if shared else "use one head"
        )
        if self.config.is_pure:
            raise HeadNotFoundError(
                f"{type(model).__name__} has {ONE_HEAD_PER_TASK}, and SRCPlugin cannot choose one of "
                f"them. Leave it out, or {cure}"
            )
        self._warn(
            "task heads",
            f"{task_heads_message(model)}. For pure SRC {cure}; if all experiences have the same task label, use a "
            "model with one head",
        )
        return True

    def _is_due(self, strategy: Any) -> bool:
        if self.schedule is not None:
            return bool(self.schedule(strategy))
        if self.last_only:
            if isinstance(strategy, JointTraining):  # ends once, in the name of the first experience
                return True
            last = len(strategy.experience.origin_stream) - 1
            return int(strategy.experience.current_experience) == last
        n = self._experiences
        return n >= self.first and (n - self.first) % self.every == 0

    def _is_boundary(self, experience: Any) -> bool:
        """Whether a whole experience ends here; sub-experiences of online streams are counted."""
        if not hasattr(experience, "subexp_size"):
            return True
        length = getattr(experience, "sub_stream_length", None)
        if not getattr(experience, "access_task_boundaries", False) or length is None:
            if self.schedule is not None:
                return True
            self._warn(
                "boundaries",
                "this online stream does not tell where an experience ends, so SRCPlugin never sleeps by itself; "
                "pass schedule=lambda strategy: ... to say when",
            )
            return False
        self._sub_experiences += 1
        if self._sub_experiences < int(length):
            return False
        self._sub_experiences = 0
        return True

    @property
    def kept_bytes(self) -> int:
        """Bytes this plugin keeps from one experience to the next."""
        return self._waking.kept_bytes


@contextmanager
def _told_to_plugins(strategy: Any) -> Iterator[None]:
    """Tell the plugins of a strategy when a night begins, and when it is over."""
    trigger_plugins(strategy, "before_sleep")
    yield
    trigger_plugins(strategy, "after_sleep")


def check_stream(experience: Any) -> None:
    """Refuse an experience that does not know its stream, or that is all of it: each would be the last one.

    Raises:
        ConfigError: The last experience cannot be told.
    """
    try:
        length = len(experience.origin_stream)
        int(experience.current_experience)
    except (AttributeError, TypeError):
        why = "this experience does not know its stream, so the last one cannot be told"
    else:
        if length != 1:
            return
        why = "the stream has this one experience only, as with a benchmark for each, and each would be the last"
    raise ConfigError(f"SRCPlugin(last_only=True): {why}; pass schedule=lambda strategy: ... instead")


def shared_layers(model: nn.Module) -> list[str]:
    """Return the names of the Linear layers of a multi-task model that belong to no single task."""
    heads = [part for part in model.modules() if isinstance(part, MultiHeadClassifier)]
    own = {layer for part in heads for layer in part.modules()}
    return [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer not in own]


def protector_of(strategy: Any) -> str | None:
    """Return the class name of the first plugin that has `protects_old_inputs = True`; None if there is none.

    Such a plugin notes, when an experience ends, which inputs its layers had, and lets later training move weights
    where these do not reach. Hidden layers are inputs too: a sleep that changes what they answer to earlier images
    leaves the notes behind.
    """
    protectors = (type(p).__name__ for p in strategy.plugins if getattr(p, "protects_old_inputs", False) is True)
    return next(protectors, None)
