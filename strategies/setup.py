"""What every strategy is built from: TrainingSetup, and the parts that several share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from src_plugin.errors import ConfigError
from strategies.settings import Settings

if TYPE_CHECKING:
    from src_plugin.config import SleepConfig


@dataclass(frozen=True)
class TrainingSetup:
    """What every strategy is built from.

    Attributes:
        model: The network; trained in place.
        optimizer: Over the network's parameters.
        criterion: Loss of outputs (n, n_classes) and labels (n,).
        batch_size: Images per update.
        epochs: Passes over each experience.
        n_images: Training images of the whole stream.
        n_classes: Classes of the whole stream.
        n_experiences: Experiences of the whole stream.
        settings: Numbers of the method.
        device: Where it is trained.
        plugins: More Avalanche plugins; the list is copied, never changed.
        sleep: Settings or preset name for strategies that end in a suffix.
        every: Sleep after every so many experiences.
        seed: Of the sleep's own random generator.
        reference: Images from which the sleep takes mean input and scales, as a function of the strategy; None for the
            plugin's own running mean.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: nn.Module
    batch_size: int
    epochs: int
    n_images: int = 0
    n_classes: int = 0
    n_experiences: int = 0
    settings: Settings = field(default_factory=Settings)
    device: str = "cpu"
    plugins: list[Any] = field(default_factory=list)
    sleep: SleepConfig | str = "auto"
    every: int = 1
    seed: int = 0
    reference: Callable[[Any], Tensor] | None = None

    def memory(self, *, of: str) -> int:
        """Return how many exemplars a method may keep, all classes together.

        Args:
            of: Name of the method, for people.

        Raises:
            ConfigError: That is less than one for each class.
        """
        settings = self.settings
        size, cure = settings.memory_size, "memory_size"
        what = f"a memory of {size} images"
        if size is None:
            size, cure = round(settings.memory_fraction * self.n_images), "memory_fraction"
            what = f"memory_fraction {settings.memory_fraction:g} of {self.n_images} training images, {size},"
        if size < max(1, self.n_classes):
            raise ConfigError(
                f"{of}: {what} is less than one exemplar for each of {max(1, self.n_classes)} classes; raise "
                f"settings.{cure}"
            )
        return size


class NoLogger(BaseLogger):  # type: ignore[misc]
    """Logs nothing; without any logger, Avalanche warns at every strategy that is built."""

    def log_single_metric(self, name: str, value: object, x_plot: int) -> None:
        """Do nothing."""


def common(setup: TrainingSetup, plugins: list[Any]) -> dict[str, Any]:
    """Return the arguments that all Avalanche strategies share; batch sizes default to 1 there, so both are set."""
    return {
        "model": setup.model,
        "optimizer": setup.optimizer,
        "criterion": setup.criterion,
        "train_mb_size": setup.batch_size,
        "eval_mb_size": setup.batch_size,
        "train_epochs": setup.epochs,
        "device": setup.device,
        "plugins": plugins,
        "evaluator": EvaluationPlugin(loggers=[NoLogger()]),
    }


def build_naive(setup: TrainingSetup, plugins: list[Any]) -> Naive:
    """Return plain fine-tuning."""
    return Naive(**common(setup, plugins))


def naive_with(plugin: Any, setup: TrainingSetup, plugins: list[Any]) -> Naive:
    """Return plain fine-tuning with one more plugin, behind those that are given: a sleep comes first."""
    return Naive(**common(setup, [*plugins, plugin]))


def nbytes(tensors: Any) -> int:
    """Return the bytes of tensors together."""
    return sum(int(tensor.nbytes) for tensor in tensors)
