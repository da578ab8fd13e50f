"""Replay, EWC and LwF as Avalanche has them, to be put underneath sleep; and what each keeps, counted in bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from avalanche.training.plugins import EWCPlugin, LwFPlugin, ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from torch import Tensor

from src_plugin.errors import ConfigError


class Replay(ReplayPlugin):  # type: ignore[misc]
    """Trains on exemplars together with every batch: equally many of every class seen, drawn at random.

    Args:
        fraction: Size of the memory, as a fraction of `n_images`.
        n_images: Training images of the whole stream.

    Raises:
        ConfigError: That is less than one exemplar.

    Source:
        Avalanche, ReplayPlugin with a ClassBalancedBuffer: a batch of exemplars, as large as the batch of new images
        where the memory allows it, comes on top of it. Classes are told apart by their number, so with task labels
        the first classes of all tasks share one part of the memory, and so on.
    """

    def __init__(self, *, fraction: float, n_images: int) -> None:
        size = round(fraction * n_images)
        if size < 1:
            raise ConfigError(
                f"replay with memory_fraction {fraction:g} of {n_images} training images keeps nothing; raise "
                "settings.memory_fraction"
            )
        super().__init__(mem_size=size, storage_policy=ClassBalancedBuffer(max_size=size))

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Choose exemplars; Avalanche's own hook calls a method that is deprecated, which warns and resets filters."""
        self.storage_policy.post_adapt(strategy, strategy.experience)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the exemplars and their labels (8 each)."""
        exemplars = self.storage_policy.buffer
        return len(exemplars) * (exemplars[0][0].nbytes + 8) if len(exemplars) else 0


class EWC(EWCPlugin):  # type: ignore[misc]
    """Elastic weight consolidation with a penalty for each earlier experience.

    Source:
        Kirkpatrick et al. 2017, PNAS; Avalanche, EWCPlugin in separate mode. Differs: the Fisher information is that of
        the mean gradient of a training batch, so it falls with the batch size, and `ewc_lambda` goes with it.
    """

    def __init__(self, *, ewc_lambda: float) -> None:
        super().__init__(ewc_lambda, mode="separate")

    @property
    def kept_bytes(self) -> int:
        """Bytes of Fisher information and anchors, which grow with every experience."""
        kept = [*self.importances.values(), *self.saved_params.values()]
        return _nbytes(values.data for parameters in kept for values in parameters.values())


class LwF(LwFPlugin):  # type: ignore[misc]
    """Learning without forgetting: a copy of the network from before the experience teaches its old classes.

    Source:
        Li & Hoiem 2016, ECCV; Avalanche, LwFPlugin. Differs: the teacher is put into eval mode; Avalanche leaves it in
        training mode, where dropout makes what it teaches random.
    """

    def __init__(self, *, alpha: float, temperature: float) -> None:
        super().__init__(alpha=alpha, temperature=temperature)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Copy the network."""
        super().after_training_exp(strategy, **kwargs)
        self.lwf.prev_model.eval()

    @property
    def kept_bytes(self) -> int:
        """Bytes of the teacher, and 8 for each class it knows."""
        if self.lwf.prev_model is None:
            return 0
        classes = sum(len(known) for known in self.lwf.prev_classes_by_task.values())
        return _nbytes(self.lwf.prev_model.state_dict().values()) + 8 * classes


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
