"""SRCCallback: a sleep at the end of `fit` of a plain PyTorch Lightning Trainer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError, HeadNotFoundError, SRCError
from src_plugin.files.averages import averages_of, sleep_averages
from src_plugin.files.night import NightOfCopies
from src_plugin.files.results import Results, tensors_of
from src_plugin.head.state import Head
from src_plugin.ranks import check_ranks, of_all_ranks, of_this_rank, sleep_once
from src_plugin.report import SleepReport, Status
from src_plugin.sleeper import Seed, Sleeper
from src_plugin.waking.drift import checksums
from src_plugin.waking.known import Seen
from src_plugin.waking.observer import Waking
from src_plugin.waking.snapshot import check_same_head
from src_plugin.waking.summary import TrainingSummary

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer


def _bases() -> tuple[type, ...]:
    """Return the `Callback` of each of the two packages that hold Lightning: a Trainer takes those of its own alone.

    Raises:
        ImportError: Neither is installed.
    """
    found = []
    for package in ("lightning.pytorch", "pytorch_lightning"):
        try:
            found.append(import_module(package).Callback)
        except ModuleNotFoundError as error:
            if error.name not in ("lightning", package):
                raise
    if not found:
        raise ImportError(
            "SRCCallback needs Lightning, and neither lightning nor pytorch_lightning is installed: "
            "pip install 'src-plugin[lightning]'"
        )
    return tuple(found)


if not TYPE_CHECKING:
    Callback = type("Callback", _bases(), {"__doc__": "A callback for the Trainer of each package of Lightning."})


def _prints(model: nn.Module) -> set[int]:
    """Return checksums of all parameters."""
    return set(checksums(model, apart_from=()).values())


def log_sleep(trainer: Trainer, report: SleepReport) -> None:
    """Tell loggers, `trainer.callback_metrics` and the progress bar what a sleep did: `self.log` is over by then."""
    values = {"slept": float(report.status is Status.SLEPT), "depth": float(report.strength), "seconds": report.seconds}
    metrics = {f"sleep/{name}": value for name, value in values.items()}
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=trainer.global_step)
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
    if trainer.progress_bar_callback is not None:
        trainer.progress_bar_callback.print(f"SRCCallback {str(report).splitlines()[0]}")


SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")
"""Strategies of Lightning that keep a part of each weight in each process."""


def check_strategy(strategy: Any) -> None:
    """Refuse strategies under which no sleep is possible, or its memory would be lost.

    Raises:
        ConfigError: The strategy is one of those.
    """
    name = next((kind.__name__ for kind in type(strategy).__mro__ if kind.__name__ in SHARDED), None)
    if name is not None:
        raise ConfigError(
            f"SRCCallback cannot sleep under {name}: each process has a part of each weight there, and a sleep needs "
            "whole ones. Take Trainer(strategy='ddp')"
        )
    method = getattr(strategy, "_start_method", "popen")
    if method != "popen":
        raise ConfigError(
            f"SRCCallback cannot sleep under {getattr(strategy, 'strategy_name', type(strategy).__name__)}: its mean "
            f"input and its classes would be lost with the processes that it starts by {method}. Take "
            "Trainer(strategy='ddp') in a script, or Trainer(devices=1) in a notebook"
        )


def second_of_batch(batch: Any) -> Tensor:
    """Return the targets of a batch `(inputs, targets, ...)`.

    Raises:
        ConfigError: The batch is no such sequence.
    """
    if isinstance(batch, (tuple, list)) and len(batch) > 1 and isinstance(batch[1], Tensor):
        return batch[1]
    raise ConfigError(
        f"SRCCallback found no targets in a batch of type {type(batch).__name__}; say where they are: "
        "SRCCallback(targets=lambda batch: batch['label'])"
    )


class SRCCallback(Callback):
    """Collects the mean input of the head on training batches, and puts the head to sleep when training ends.

    Use one callback for all the `fit` calls of a sequence of tasks: it remembers the running mean and the classes seen
    (and carries them in Lightning checkpoints). The classes that are new are those first met in this `fit`. After a fit
    that used another output layer than earlier ones `auto` stays awake: with one head per task nothing competes. Batch
    norms of a frozen backbone are kept in eval mode, as `SRCPlugin` says.

    Args:
        config: A `SleepConfig` or the name of a preset; None is `auto`.
        model: Dotted name of the submodule of the LightningModule that maps inputs to class scores; None takes the
            LightningModule itself, whose `forward` the training step must then call as `self(x)`.
        head: Name(s) of the head's layers within that model; None finds them.
        targets: Gives the class numbers of a batch, shape (n,); by default its second element.
        seed: Seed of the sleep's noise, or a generator.
        seen: Classes that the model knows already, or {class: number of its images}; None: it knows none.
        mean_input: Mean of what reached the head over them, shape (n_0,); None where it is not known.

    Raises:
        SRCError: As `SRCPlugin`, in the first training batch or when the sleep would begin.

    Example:
        >>> trainer = Trainer(max_epochs=1, callbacks=[SRCCallback()])  # doctest: +SKIP
    """

    def __init__(
        self,
        config: SleepConfig | str | None = None,
        *,
        model: str | None = None,
        head: str | Sequence[str] | None = None,
        targets: Callable[[Any], Tensor] = second_of_batch,
        seed: Seed = 0,
        seen: Seen = None,
        mean_input: ArrayLike | Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.targets = targets
        self._sleeper = Sleeper(config, speaker="SRCCallback", head=head, seed=seed, seen=seen, mean_input=mean_input)
        self._copies: NightOfCopies | None = None  # the last night, until the fit ends
        self._saw_forward = False
        self._stage = "fit"  # what the Trainer is doing, in its own word
        self._device: torch.device | str = "cpu"
        self._epoch: int | None = None
        self._left: tuple[weakref.ref[nn.Module], set[int]] | None = None  # what the last fit left, and its checksums

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the model: a copy goes on with its own."""
        return {**self.__dict__, "_left": None}

    @property
    def config(self) -> SleepConfig:
        """How the head sleeps."""
        return self._sleeper.config

    @property
    def reports(self) -> list[SleepReport]:
        """One report per `fit`, in order."""
        return self._sleeper.reports

    def summary(self) -> str:
        """Return what all nights so far did, e.g. "5 nights: 1 slept, 4 levelled"."""
        return self._sleeper.summary()

    @property
    def _waking(self) -> Waking:
        return self._sleeper.waking

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Go to the end of the callbacks: whatever others do to the weights at the end of the fit comes before.

        Raises:
            ConfigError: No sleep is possible under the strategy of the Trainer.
        """
        self._stage, self._device, self._epoch = stage, trainer.strategy.root_device, None
        if stage == "fit":
            check_strategy(trainer.strategy)
        others = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
        # A new list, since Lightning walks through the old one.
        trainer.callbacks = [*others, self]  # type: ignore[attr-defined]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse another network than that of the last fit, and what several processes cannot put together.

        Raises:
            ConfigError: It is another one; or several train, and class means are to be kept.
        """
        check_ranks(self.config)
        model = self._model(pl_module)
        if self._left is not None and self._left[0]() is not model and not self._left[1] & _prints(model):
            raise ConfigError(
                f"this SRCCallback has the mean input and classes of another {type(model).__name__}, and no weights of "
                "this one are those that its last fit left: use a new SRCCallback() for another network; for the same "
                "one with weights of a file, give a new one the state, load_state_dict(old.state_dict())"
            )
        self._sleeper.begin(model)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take states again from whoever gives one."""
        self._stage = "fit"

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Watch the first forward pass of this batch; in a new epoch, count recall of rehearsed classes anew."""
        self._saw_forward = False
        model = self._model(pl_module)
        if trainer.current_epoch != self._epoch:  # a fit that goes on from a file may leave out on_train_epoch_start
            self._epoch = trainer.current_epoch
            self._waking.begin_epoch(model)

        def after(output: Any) -> None:
            if not self._saw_forward:  # before the optimizer steps, unlike on_train_batch_end
                self._saw_forward = True
                targets = self.targets(batch) if self._waking.needs_classes else torch.zeros(0)
                self._waking.end_forward(model, output, targets)
                check_same_head(self._waking)

        self._waking.begin_forward(model, then=after)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check that the model was called."""
        self._waking.release()
        if not self._saw_forward:
            raise HeadNotFoundError(
                f"the training step never called {self.model or type(pl_module).__name__}; name the part "
                "that maps inputs to class scores: SRCCallback(model='net')"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sleep, and put what the fit leaves behind to sleep as well."""
        self._waking.let_go()
        if getattr(trainer, "interrupted", False):
            return
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        sleeps = sleep_once(
            self._sleeper,
            lambda: self._sleep(pl_module, callbacks),
            lambda: tensors_of([pl_module, *averages_of(callbacks).values()]),
        )
        self._epoch = None
        if sleeps:  # one process of all
            for callback in self._results().sleep_files(trainer.checkpoint_callbacks, trainer.strategy.checkpoint_io):
                for logger in trainer.loggers:
                    logger.after_save_checkpoint(callback)
        if trainer.is_global_zero:
            log_sleep(trainer, self.reports[-1])
        self._copies = None
        model = self._model(pl_module)
        self._left = weakref.ref(model), _prints(model)
        trainer.strategy.barrier("SRCCallback.on_train_end")

    def _sleep(self, pl_module: LightningModule, callbacks: Sequence[Callback]) -> None:
        """Put the head to sleep, and averages of its weights; forget what training showed."""

        def night(head: Head, training: TrainingSummary) -> SleepReport:
            self._copies = NightOfCopies(pl_module, head, training, self.config, self._sleeper.generator)
            report = self._sleeper.pass_night(head, training)
            self._copies.woke()
            return report

        self._copies = None
        self._sleeper.sleep(self._model(pl_module), night=night, whole=pl_module)
        self._waking.forget(slept=True)
        sleep_averages(self._copies, averages_of(callbacks), self._sleeper.warn)

    def _results(self) -> Results:
        state = self._sleeper.state_dict() | {"epoch": None}
        return Results(night=self._copies, key=self.state_key, state=state, warn=self._sleeper.warn)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no hook and no mode behind."""
        self._waking.release()
        self._waking.let_go()

    def state_dict(self) -> dict[str, Any]:
        """Return all that is known: a fit that goes on from here gives the same bits as one that never stopped.

        Within a fit that is much: the head's weights before it, and about a thousand inputs of the head. After its
        sleep they are dropped.
        """
        return self._sleeper.state_dict() | {"epoch": self._epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`; a file that is tested or predicted with changes nothing here.

        Raises:
            ConfigError: It is the state of a callback with another config.
            HeadNotFoundError: It is of the middle of a fit with another head.
        """
        if self._stage == "fit":
            self._sleeper.load_state_dict(of_this_rank(state_dict), self._device)
            self._epoch, self._left = state_dict["epoch"], None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what the other processes have seen of this fit."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state is not None:
            state.update(of_all_ranks(self._waking))

    def _model(self, pl_module: LightningModule) -> nn.Module:
        if self.model is None:
            return pl_module
        try:
            return pl_module.get_submodule(self.model)
        except AttributeError as error:
            children = [name for name, _ in pl_module.named_children()]
            raise SRCError(
                f"SRCCallback(model={self.model!r}): {type(pl_module).__name__} has no such part; it has {children}"
            ) from error
