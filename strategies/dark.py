"""DER++ and ER-ACE: losses of their own for exemplars, so that new classes push less on old ones."""

from __future__ import annotations

from typing import Any

from avalanche.models.utils import is_multi_task_module
from avalanche.training import ACECriterion
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.supervised.der import ClassBalancedBufferWithLogits
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from src_plugin.errors import ConfigError
from strategies.rehearsal import MixedTraining, exemplar_bytes
from strategies.setup import TrainingSetup, common


class DER(MixedTraining):
    """DER++: exemplars are kept with the outputs they had, and the network is held to outputs and labels.

    The loss is new + alpha * mean squared distance to the stored outputs + beta * loss of the stored labels.

    Args:
        size: Exemplars, all classes together: equally many of every class, drawn at random.
        alpha: Weight of the distance.
        beta: Weight of the loss of the labels; 0 is DER.
        kwargs: Of Avalanche's SupervisedTemplate.

    Source:
        Buzzega et al. 2020, NeurIPS; Avalanche, DER, which it equals to the bit under cross-entropy. Differs from the
        paper as there: a memory balanced over classes, one batch of exemplars for both terms, outputs stored when an
        experience ends. Differs from Avalanche 0.6: these are those of the slept network, where Avalanche stores them
        before any plugin has run; the criterion is the strategy's, where Avalanche puts cross-entropy in its place from
        the second experience on; a memory smaller than a batch is replayed, where Avalanche silently replays nothing.
    """

    def __init__(self, *, size: int, alpha: float, beta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.memory = ClassBalancedBufferWithLogits(size)
        self.alpha = alpha
        self.beta = beta

    @property
    def exemplars(self) -> Any:
        """Images, labels, task labels and outputs."""
        return self.memory.buffer

    def mixed_loss(self, old: Tensor, old_labels: Tensor, new: Tensor, new_labels: Tensor) -> Tensor:
        """Add the two terms for exemplars to the loss of new images."""
        loss: Tensor = self._criterion(new, new_labels) + self.alpha * mse_loss(old, self.noted[0])
        loss += self.beta * self._criterion(old, old_labels)
        return loss

    def choose_exemplars(self) -> None:
        """Choose images of this experience, and note the outputs in eval mode; older ones keep what was noted."""
        self.memory.update(self)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the exemplars, their labels (8 each) and their outputs."""
        kept = self.exemplars
        return exemplar_bytes(kept) + (len(kept) * int(kept[0][-1].nbytes) if len(kept) else 0)


class ERACE(MixedTraining):
    """ER-ACE: new images compete among the classes of their batch only, exemplars among all.

    The loss is the mean of the two cross-entropies. Exemplars of the new classes are in the memory from the beginning
    of their experience, so its size is shared with them all the time.

    Args:
        size: Exemplars, all classes together: equally many of every class, drawn at random.
        kwargs: Of Avalanche's SupervisedTemplate.

    Source:
        Caccia et al. 2022, ICLR; Avalanche, ER_ACE. Differs from the paper as there: not online. Differs from Avalanche
        0.6: exemplars and new images pass the network together, so that plugins see both, and not one after the other;
        a memory smaller than a batch is replayed, where Avalanche silently replays nothing; replay begins with the
        second experience trained on, whatever its number in the stream.
    """

    def __init__(self, *, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.memory = ClassBalancedBuffer(size)
        self._asymmetric = ACECriterion()

    @property
    def exemplars(self) -> Any:
        """Images, labels and task labels."""
        return self.memory.buffer

    def mixed_loss(self, old: Tensor, old_labels: Tensor, new: Tensor, new_labels: Tensor) -> Tensor:
        """Return the mean of the two cross-entropies."""
        loss: Tensor = self._asymmetric(new, new_labels, old, old_labels)
        return loss

    def _before_training_exp(self, **kwargs: Any) -> None:
        self.memory.post_adapt(self, self.experience)
        super()._before_training_exp(**kwargs)

    def choose_exemplars(self) -> None:
        """Do nothing: they were chosen when the experience began."""


def build_der(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build DER++.

    Raises:
        ConfigError: The memory is too small, or the network has one head per task.
    """
    if is_multi_task_module(setup.model):
        raise ConfigError(
            f"der: stores outputs of one width, and {type(setup.model).__name__} has one head per task; use one head "
            "for all classes (stream.task_labels: false)"
        )
    settings = setup.settings
    size = setup.memory(of="der")
    return DER(**common(setup, plugins), size=size, alpha=settings.der_alpha, beta=settings.der_beta)


def build_er_ace(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build ER-ACE.

    Raises:
        ConfigError: The memory is too small, or the loss is another than cross-entropy.
    """
    if not isinstance(setup.criterion, nn.CrossEntropyLoss):
        raise ConfigError(
            f"er_ace: is made of cross-entropies, and the loss is {type(setup.criterion).__name__}; use "
            "training.loss: cross_entropy"
        )
    return ERACE(**common(setup, plugins), size=setup.memory(of="er_ace"))
