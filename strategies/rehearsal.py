"""Methods that keep exemplars and train on them together with new images, and how many bytes those take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from avalanche.benchmarks.utils.utils import concat_datasets
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.supervised import Cumulative
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor
from torch.utils.data import DataLoader

from src_plugin.errors import ConfigError
from strategies.setup import TrainingSetup, common, naive_with


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


class MixedTraining(SupervisedTemplate):  # type: ignore[misc]
    """Training in which a batch of exemplars stands before every batch of new images, for one forward pass of both.

    From the second experience on. The batch of exemplars is as large as a batch of new images is meant to be, or holds
    all of them if they are fewer. The first `n_old` rows of a batch are the exemplars, whatever their classes; plugins
    see both kinds from `before_forward` on. Exemplars are chosen after all plugins had their turn, so after a sleep.

    Subclasses say what the exemplars are, how they are chosen, and what the loss of both kinds is.
    """

    mbatch: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_old = 0
        self.noted: list[Tensor] = []  # what was stored with the exemplars of this batch, besides images and labels
        self._batches: Iterator[list[Tensor]] | None = None

    @property
    def exemplars(self) -> Any:
        """The data set that is kept."""
        raise NotImplementedError

    def choose_exemplars(self) -> None:
        """Update what is kept, when an experience has ended."""
        raise NotImplementedError

    def mixed_loss(self, old: Tensor, old_labels: Tensor, new: Tensor, new_labels: Tensor) -> Tensor:
        """Return the loss of outputs for exemplars, shape (n_old, n_classes), and for new images, (n, n_classes)."""
        raise NotImplementedError

    def criterion(self) -> Tensor:
        """Return the loss of the present batch."""
        n = self.n_old
        if not (self.is_training and n):
            plain: Tensor = super().criterion()
            return plain
        return self.mixed_loss(self.mb_output[:n], self.mb_y[:n], self.mb_output[n:], self.mb_y[n:])

    def _before_training_exp(self, **kwargs: Any) -> None:
        super()._before_training_exp(**kwargs)
        if self.clock.train_exp_counter and len(self.exemplars):
            self._batches = endless(self.exemplars, self.train_mb_size)

    def _before_forward(self, **kwargs: Any) -> None:
        if self._batches is not None:
            old = [part.to(self.device) for part in next(self._batches)]
            new = self.mbatch
            self.n_old, self.noted = len(old[0]), old[len(new) :]
            self.mbatch = [torch.cat(both) for both in zip(old[: len(new)], new, strict=True)]
        super()._before_forward(**kwargs)

    def _after_training_exp(self, **kwargs: Any) -> None:
        self._batches, self.n_old, self.noted = None, 0, []  # a generator cannot be pickled
        super()._after_training_exp(**kwargs)
        self.choose_exemplars()

    @property
    def kept_bytes(self) -> int:
        """Bytes of the exemplars and their labels (8 each)."""
        return exemplar_bytes(self.exemplars)


class Rehearsal(MixedTraining):
    """Rehearsal as the paper has it: in experience N, the loss is new / N + (1 - 1 / N) * old.

    `new` is the mean loss of a batch of current images, `old` that of a batch of exemplars. When an experience ends,
    the same share of its images as of all others is kept, drawn at random; what is kept is never given up.

    Args:
        size: Exemplars at the end of the stream.
        n_images: Training images of the whole stream.
        kwargs: Of Avalanche's SupervisedTemplate.

    Source:
        Tadros et al. 2022, Methods, equation 1. The authors' code has no weights in the loss, rounds the number of
        exemplars to the nearest 100 and draws them anew for every experience from all images of the past; here they
        are drawn once.
    """

    def __init__(self, *, size: int, n_images: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.n_images = n_images
        self._seen = 0
        self._shares: list[Any] = []

    @property
    def exemplars(self) -> Any:
        """Images of earlier experiences, in the order these came."""
        return concat_datasets(self._shares)

    def mixed_loss(self, old: Tensor, old_labels: Tensor, new: Tensor, new_labels: Tensor) -> Tensor:
        """Weigh the two losses by the number of experiences behind each."""
        n = self.clock.train_exp_counter + 1
        loss: Tensor = self._criterion(new, new_labels) / n + (1.0 - 1.0 / n) * self._criterion(old, old_labels)
        return loss

    def choose_exemplars(self) -> None:
        """Draw the share of this experience; rounded so that the sum over experiences is right."""
        images = self.experience.dataset
        self._seen += len(images)
        wanted = min(self.size, round(self.size * self._seen / self.n_images)) - len(self.exemplars)
        rows = torch.randperm(len(images))[: max(0, wanted)].tolist()
        if rows:  # joined with an empty data set, Avalanche forgets task labels
            self._shares.append(images.subset(rows))


def endless(exemplars: Any, size: int) -> Iterator[list[Tensor]]:
    """Yield batches of `size` exemplars for ever, of all if they are fewer; in a new random order in every pass.

    What is left over when a pass ends is left out of it, so that all batches are equally large.
    """
    loader = DataLoader(exemplars, batch_size=min(size, len(exemplars)), shuffle=True, drop_last=True)
    while True:
        yield from loader


def exemplar_bytes(exemplars: Any) -> int:
    """Return the bytes of a data set of images with labels (8 each)."""
    return len(exemplars) * (int(exemplars[0][0].nbytes) + 8) if len(exemplars) else 0


def build_replay(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build replay."""
    return naive_with(Replay(setup.memory(of="replay")), setup, plugins)


def build_rehearsal(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build the paper's rehearsal.

    Raises:
        ConfigError: The memory is too small, or the setup does not say how many images the stream has.
    """
    size = setup.memory(of="rehearsal")
    if setup.n_images < size:
        raise ConfigError(
            f"rehearsal: keeps {size} of {setup.n_images} training images, the same share of each experience; give "
            "TrainingSetup the n_images of the whole stream, or lower settings.memory_size"
        )
    return Rehearsal(**common(setup, plugins), size=size, n_images=setup.n_images)


def build_cumulative(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build training on all images of all experiences so far."""
    return Cumulative(**common(setup, plugins))
