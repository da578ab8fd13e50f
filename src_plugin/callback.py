"""SRCCallback: a sleep at the end of `fit` of a plain PyTorch Lightning Trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from src_plugin.config import SleepConfig, as_config
from src_plugin.errors import ConfigError, HeadNotFoundError, SRCError, StimulusError, Warner
from src_plugin.files.night import NightOfCopies
from src_plugin.files.results import Results
from src_plugin.head.state import Head
from src_plugin.night.sleep import sleep_head
from src_plugin.night.stages import prepare
from src_plugin.night.stimulus import as_generator
from src_plugin.report import SleepReport
from src_plugin.waking.boundary import stay_awake, sum_up
from src_plugin.waking.drift import check_trained
from src_plugin.waking.observer import Waking
from src_plugin.waking.snapshot import check_same_head, restore, snapshot

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


def log_sleep(trainer: Trainer, report: SleepReport) -> None:
    """Tell loggers, `trainer.callback_metrics` and the progress bar what a sleep did: `self.log` is over by then."""
    values = {"slept": float(report.decision == "slept"), "depth": float(report.strength), "seconds": report.seconds}
    metrics = {f"sleep/{name}": value for name, value in values.items()}
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=trainer.global_step)
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
    if trainer.progress_bar_callback is not None:
        trainer.progress_bar_callback.print(f"SRCCallback {str(report).splitlines()[0]}")


def check_same_config(config: SleepConfig, saved: dict[str, Any]) -> None:
    """Refuse the state of a callback with another config.

    Raises:
        ConfigError: A setting is another one.
    """
    now = config.to_dict()
    differ = [name for name in now if now[name] != saved.get(name)]
    if differ:
        told = ", ".join(f"{name}={saved.get(name)!r} (now {now[name]!r})" for name in differ)
        raise ConfigError(
            f"this checkpoint was written by an SRCCallback with {told}. Go on with the same config, or take the "
            "weights alone: Model.load_from_checkpoint(path), and fit without ckpt_path"
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

    Attributes:
        reports: One `SleepReport` per `fit`, in order.

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
        seed: int | np.random.Generator | torch.Generator | None = 0,
    ) -> None:
        super().__init__()
        self.config = as_config(config)
        self.model = model
        self.targets = targets
        self.reports: list[SleepReport] = []
        self._generator = as_generator(seed)
        prepare(self.config)
        pure, rates = self.config.is_pure, self.config.needs_rates
        self._waking = Waking(head, needs_classes=not pure, needs_rates=rates, holds=not self.config.is_off)
        self._saw_forward = False
        self._stage = "fit"  # what the Trainer is doing, in its own word
        self._device: torch.device | str = "cpu"
        self._epoch: int | None = None
        self._warn = Warner("SRCCallback")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Go to the end of the callbacks: whatever others do to the weights at the end of the fit comes before."""
        self._stage, self._device, self._epoch = stage, trainer.strategy.root_device, None
        others = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
        # A new list, since Lightning walks through the old one.
        trainer.callbacks = [*others, self]  # type: ignore[attr-defined]

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
        waking = self._waking
        if not waking.has_seen_input or waking.head is None:
            raise StimulusError("SRCCallback: this fit trained on nothing, so there is no mean input to sleep on")
        night, report = self._sleep(waking.head, pl_module)
        self.reports.append(report)
        waking.forget(slept=True)
        self._epoch = None
        results = Results(night=night, key=self.state_key, state=self.state_dict(), warn=self._warn)
        results.sleep_averages(trainer.callbacks)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            log_sleep(trainer, report)
            for callback in results.sleep_files(trainer.checkpoint_callbacks, trainer.strategy.checkpoint_io):
                for logger in trainer.loggers:
                    logger.after_save_checkpoint(callback)

    def _sleep(self, head: Head, pl_module: LightningModule) -> tuple[NightOfCopies | None, SleepReport]:
        """Put the head to sleep, and return the night for copies; None where no night was planned."""
        index = len(self.reports)
        report = stay_awake(self._waking, pl_module, self.config, index=index, warn=self._warn)
        if report is not None:
            return None, report
        check_trained(pl_module)
        warn = None if self.config.is_off else self._warn
        training = sum_up(self._waking, self._model(pl_module), head, index=index, warn=warn)
        night = NightOfCopies(pl_module, head, training, self.config, self._generator)
        report = sleep_head(head, training, self.config, self._generator)
        night.woke()
        return night, report

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no hook and no mode behind."""
        self._waking.release()
        self._waking.let_go()

    def state_dict(self) -> dict[str, Any]:
        """Return all that is known: a fit that goes on from here gives the same bits as one that never stopped.

        Within a fit that is much: the head's weights before it, and about a thousand inputs of the head. After its
        sleep they are dropped.
        """
        return {
            "waking": snapshot(self._waking),
            "epoch": self._epoch,
            "reports": [report.to_dict() for report in self.reports],
            "generator": self._generator.bit_generator.state,
            "config": self.config.to_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`; a file that is tested or predicted with changes nothing here.

        Raises:
            ConfigError: It is the state of a callback with another config.
        """
        if self._stage != "fit":
            return
        check_same_config(self.config, state_dict["config"])
        restore(self._waking, state_dict["waking"], self._device)
        check_same_head(self._waking)
        self._epoch = state_dict["epoch"]
        self.reports[:] = [SleepReport.from_dict(told) for told in state_dict["reports"]]
        self._generator.bit_generator.state = state_dict["generator"]

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
