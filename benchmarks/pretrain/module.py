"""VGGModule: the article's network as Lightning trains it, its learning rate, and the seconds it may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from benchmarks.errors import TrainingError
from benchmarks.features.vgg import PaperVGG, VGGClassifier
from benchmarks.pretrain.config import PretrainConfig
from benchmarks.pretrain.data import ImageDataModule, seed_of

try:
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.callbacks import Timer
    from pytorch_lightning.utilities.types import OptimizerLRScheduler
    from torchmetrics import MeanMetric
except ImportError as error:
    raise ImportError("pretraining needs the 'lightning' extra: pip install 'src-plugin[lightning]'") from error


def lr_factor(progress: float, config: PretrainConfig) -> float:
    """Return the learning rate as a part of `config.lr`.

    Args:
        progress: Part of the training that is done, in [0, 1].
        config: Schedule and warm-up.

    Source:
        Loshchilov and Hutter 2017, SGDR, equation 5, without restarts: (1 + cos(pi * t)) / 2.
    """
    if progress < config.warm_up:
        return progress / config.warm_up
    if config.schedule == "constant":
        return 1.0
    return (1.0 + math.cos(math.pi * (progress - config.warm_up) / (1.0 - config.warm_up))) / 2.0


class Budget(Timer):
    """Counts the seconds of training, those before an interruption included, and ends it when they are spent.

    Args:
        max_seconds: So many; None for no end.
    """

    def __init__(self, max_seconds: float | None) -> None:
        super().__init__(None if max_seconds is None else timedelta(seconds=max_seconds), verbose=False)
        self.max_seconds = max_seconds

    def spent(self, trainer: Trainer) -> float:
        """Return which part of the seconds is spent, in [0, 1], the same on all devices; 0 if there is no end."""
        if self.max_seconds is None:
            return 0.0
        return float(trainer.strategy.broadcast(min(self.time_elapsed() / self.max_seconds, 1.0)))


class VGGModule(LightningModule):
    """`VGGClassifier` in training. It is built in `setup`, when the classes are known.

    With an end to the seconds the schedule of the learning rate runs by epochs or by seconds, whichever is further, so
    that it comes to its own end within both.

    Args:
        config: How it is trained.
        budget: Counts the seconds.
        console: Where a line for each epoch goes; None for nowhere.

    Attributes:
        classifier: The network; None before `setup`.

    Source:
        Schedules that fit what may be spent: Li, Yumer, Ramanan 2020, Budgeted training.
    """

    def __init__(self, config: PretrainConfig, *, budget: Budget, console: Console | None = None) -> None:
        super().__init__()
        self.config = config
        self.budget = budget
        self.classifier: VGGClassifier | None = None
        self._is_quiet = console is None or console.quiet
        self._console = console

    @property
    def _data(self) -> ImageDataModule:
        return self.trainer.datamodule  # type: ignore[attr-defined, no-any-return]

    def setup(self, stage: str) -> None:
        """Build the network; its initial weights come from the seed alone."""
        # Made here and not before: what a process is given by another may be shared with it, and counts must not be.
        self.loss = MeanMetric(nan_strategy="disable")  # a loss that is not finite must be seen
        self.held_out_accuracy, self.test_accuracy = MeanMetric(), MeanMetric()
        if self.classifier is not None:
            return
        n_classes = len(self._data.found.class_names)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.config.seed, 2))
            classifier = VGGClassifier(PaperVGG(self.config.image_size), n_classes, dropout=self.config.dropout)
        self.classifier = classifier.to(memory_format=torch.channels_last)  # a third faster on CPUs

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores, shape (n, n_classes)."""
        assert self.classifier is not None
        scores: Tensor = self.classifier(images)
        return scores

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return SGD and its schedule, which is followed step by step."""
        config, n_steps = self.config, self._data.n_steps * self.config.epochs
        optimizer = torch.optim.SGD(
            self.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )

        def factor(step: int) -> float:
            by_epochs = min((step + 0.5) / n_steps, 1.0)  # at the middle of the step
            return lr_factor(max(by_epochs, self.budget.spent(self.trainer)), config)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let dropout, too, depend on nothing but seed, epoch, step and device: DataLoaders draw from its generator."""
        torch.manual_seed(seed_of(self.config.seed, 3, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of a batch."""
        images, labels = batch
        loss = functional.cross_entropy(self(images), labels)
        self.loss.update(loss.detach(), len(labels))
        return loss

    def on_train_epoch_end(self) -> None:
        """Write down the loss of the epoch; called after validation, and before the state is kept.

        Raises:
            TrainingError: The loss is not finite.
        """
        loss = float(self.loss.compute())
        self.loss.reset()
        epoch = f"epoch {self.current_epoch + 1}"
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.config.name}: the loss is {loss} in {epoch}: training diverged. Take a smaller lr than "
                f"{self.config.lr:g}, or a longer warm_up"
            )
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict({"train_loss": loss, "lr": lr}, sync_dist=True)  # the same on all devices already
        if self.trainer.is_global_zero:
            held_out = float(self.trainer.callback_metrics["held_out_accuracy"])
            (self._console or Console(quiet=self._is_quiet)).print(
                f"{self.config.name}: {epoch} of {self.config.epochs}: loss {loss:.3f}, held out "
                f"{100 * held_out:.2f} %, {self.budget.time_elapsed():.0f} s",
                highlight=False,
                markup=False,
            )

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count right answers on held-out training images."""
        self._count(self.held_out_accuracy, "held_out_accuracy", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count right answers on test images."""
        self._count(self.test_accuracy, "test_accuracy", batch)

    def _count(self, metric: MeanMetric, name: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        metric.update((self(images).argmax(dim=1) == labels).float())
        self.log(name, metric, on_step=False, on_epoch=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_console": None}  # locks and streams stay in their process

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the state of which training it is."""
        checkpoint["pretrain"] = identity(self._data)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the state of another training.

        Raises:
            TrainingError: Config or images differ.
        """
        refuse_other(self._data, checkpoint.get("pretrain", {}), where="the state on disk")


def identity(data: ImageDataModule) -> dict[str, Any]:
    """Return what decides about the weights, as plain JSON: the config, and what the images are."""
    return {**data.config.identity(), "images": data.fingerprints()}


def refuse_other(data: ImageDataModule, other: Mapping[str, Any], *, where: object) -> None:
    """Refuse what another training left.

    Raises:
        TrainingError: Config or images differ; the message says in what, and has the cures.
        DataError: Only the images could differ, and they cannot be found.
    """
    differing = [key for key, value in data.config.identity().items() if value != other.get(key)]
    if not differing and data.fingerprints() != other.get("images"):
        differing = ["the images"]
    if differing:
        raise TrainingError(
            f"{data.config.name}: {where} is of another training: {', '.join(differing)} differ. Give the config "
            "another name, or begin anew: --restart (resume=False)"
        )
