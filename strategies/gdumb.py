"""GDumb: the network begins anew with every experience and sees nothing but the memory."""

from __future__ import annotations

import math
from typing import Any

from avalanche.training.plugins import GDumbPlugin

from strategies.rehearsal import exemplar_bytes
from strategies.setup import TrainingSetup, naive_with, nbytes


class GDumb(GDumbPlugin):  # type: ignore[misc]
    """Puts a fresh copy of the first weights in place of the network, and exemplars in place of the experience.

    The exemplars, those of the new classes among them, are gone through until as many updates are made as the
    experience itself would have taken. `strategy.model` is another object after each experience but the first; the
    optimizer goes with it, and its state begins anew.

    Args:
        size: Exemplars, all classes together: equally many of every class, drawn at random.

    Source:
        Prabhu et al. 2020, ECCV; Avalanche, GDumbPlugin. Differs from Avalanche, which makes as many passes over the
        memory as others make over the data, that is hardly an update where the memory is small and the epoch a single
        one; and from the paper, whose learning rate follows a schedule, with CutMix.
    """

    def __init__(self, size: int) -> None:
        super().__init__(mem_size=size)
        self._epochs = 0

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Choose exemplars; Avalanche's own hook calls a method that is deprecated, which warns and resets filters."""
        self.storage_policy.post_adapt(strategy, strategy.experience)
        strategy.adapted_dataset = self.storage_policy.buffer

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Give the strategy as many passes as make up for the size of the memory."""
        size = strategy.train_mb_size
        passes = math.ceil(len(strategy.experience.dataset) / size) / math.ceil(len(strategy.adapted_dataset) / size)
        self._epochs = strategy.train_epochs
        strategy.train_epochs = math.ceil(self._epochs * passes)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Give back the number of epochs."""
        strategy.train_epochs = self._epochs

    @property
    def kept_bytes(self) -> int:
        """Bytes of the exemplars, their labels (8 each) and the first weights."""
        first = [] if self.init_model is None else self.init_model.state_dict().values()
        return exemplar_bytes(self.storage_policy.buffer) + nbytes(first)


def build_gdumb(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build GDumb."""
    return naive_with(GDumb(setup.memory(of="gdumb")), setup, plugins)
