"""Methods that keep exemplars, and how many bytes those take."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer

from strategies.setup import TrainingSetup, naive_with


class Replay(ReplayPlugin):  # type: ignore[misc]
    """Trains on exemplars together with every batch: equally many of every class seen, drawn at random.

    Args:
        size: Exemplars, all classes together.

    Source:
        Avalanche, ReplayPlugin with a ClassBalancedBuffer: a batch of exemplars, as large as the batch of new images
        where the memory allows it, comes on top of it. Classes are told apart by their number, so with task labels
        the first classes of all tasks share one part of the memory, and so on.
    """

    def __init__(self, size: int) -> None:
        super().__init__(mem_size=size, storage_policy=ClassBalancedBuffer(max_size=size))

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Choose exemplars; Avalanche's own hook calls a method that is deprecated, which warns and resets filters."""
        self.storage_policy.post_adapt(strategy, strategy.experience)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the exemplars and their labels (8 each)."""
        return exemplar_bytes(self.storage_policy.buffer)


def exemplar_bytes(exemplars: Any) -> int:
    """Return the bytes of a data set of images with labels (8 each)."""
    return len(exemplars) * (int(exemplars[0][0].nbytes) + 8) if len(exemplars) else 0


def build_replay(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build replay."""
    return naive_with(Replay(setup.memory(of="replay")), setup, plugins)
