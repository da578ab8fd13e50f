"""What every strategy is built from: TrainingSetup, and Settings for the methods' own numbers."""

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

if TYPE_CHECKING:
    from src_plugin.config import SleepConfig


@dataclass(frozen=True)
class Settings:
    """Numbers of the methods; a row of STRATEGIES says which are its own.

    Attributes:
        memory_fraction: Exemplars that a method may keep, all classes together, as a fraction of the training images of
            the stream.
        memory_size: The same as a number of images; where it is given, the fraction does not count.
        ewc_lambda: Weight of EWC's penalty.
        ewc_online_lambda: Weight of online EWC's penalty.
        ewc_decay: How much of the older Fisher information online EWC keeps, in [0, 1].
        si_lambda: Weight of Synaptic Intelligence's penalty.
        mas_lambda: Weight of the penalty of memory aware synapses.
        lwf_alpha: Weight of LwF's distillation.
        lwf_temperature: Its temperature.
        gem_strength: Margin that GEM adds to its constraints.
        der_alpha: Weight of the distance to stored logits in DER++.
        der_beta: Weight of the loss of stored labels in DER++.
        owm_alpha: Regularisation of OWM's projectors: the smaller, the stricter they protect what was seen.
    """

    memory_fraction: float = 0.0075
    memory_size: int | None = None
    ewc_lambda: float = 100.0
    ewc_online_lambda: float = 100.0
    ewc_decay: float = 0.9
    si_lambda: float = 0.1
    mas_lambda: float = 0.1
    lwf_alpha: float = 1.0
    lwf_temperature: float = 2.0
    gem_strength: float = 0.5
    der_alpha: float = 0.1
    der_beta: float = 0.5
    owm_alpha: float = 1.0


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
    settings: Settings = Settings()
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


def naive_with(plugin: Any, setup: TrainingSetup, plugins: list[Any]) -> Naive:
    """Return plain fine-tuning with one more plugin, behind those that are given: a sleep comes first."""
    return Naive(**common(setup, [*plugins, plugin]))


def nbytes(tensors: Any) -> int:
    """Return the bytes of tensors together."""
    return sum(int(tensor.nbytes) for tensor in tensors)
