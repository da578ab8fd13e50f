"""Whole batches: taken out of images or features at once, where Avalanche fetches and stacks its items one by one.

The same images in the same order, and the same draws from torch's global generator, so training comes out bit-identical
and only faster.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader, MultiDatasetSampler
from avalanche.core import SupervisedPlugin
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.data.selection import Source, maximum, select


class LabelledImages(TorchDataset[tuple[Tensor, int]]):
    """Images and their labels, with the `targets` list that Avalanche asks for.

    With k orders of the pixels there are k times as many rows: all images in the first order, then all in the second,
    and so on; they are put into order when asked for, so memory holds them once.

    Args:
        images: Shape (n, ...); in memory, or read batch by batch.
        labels: Shape (n,).
        tasks: Task labels, shape (n,); None for all 0.
        orders: Where each pixel comes from, shape (k, pixels per image); None for images as they are.
        scales: What the values of each row are divided by, shape (rows,); None for images as they are.
    """

    def __init__(
        self,
        images: Source,
        labels: Tensor,
        *,
        tasks: Tensor | None = None,
        orders: Tensor | None = None,
        scales: Tensor | None = None,
    ) -> None:
        self._images = images
        self._orders = orders
        self._scales = scales
        k = 1 if orders is None else len(orders)
        self.labels = labels.repeat(k)
        self.tasks = torch.zeros_like(self.labels) if tasks is None else tasks.repeat(k)
        self.targets: list[int] = self.labels.tolist()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image and its label."""
        if self._orders is None and self._scales is None:
            return self._images[index], self.targets[index]
        return self.take(torch.tensor([index]))[0][0], self.targets[index]

    def scaled(self, scales: Tensor) -> LabelledImages:
        """Return the same images, the values of each row divided by a number, shape (rows,)."""
        other = copy.copy(self)
        other._scales = scales
        return other

    def maximum(self, rows: range) -> float:
        """Return the largest value of some rows, as they are without scales; -inf for none."""
        if self._orders is not None:
            rows = range(len(self._images))  # each order has all images
        return maximum(select(self._images, torch.arange(rows.start, rows.stop)))

    def take(self, rows: Tensor) -> list[Tensor]:
        """Return images, labels and task labels of some rows: a batch, as a list because strategies assign to it."""
        if self._orders is None:
            images = self._images[rows]
        else:
            plain = self._images[rows % len(self._images)]
            order = self._orders[rows // len(self._images)]
            images = plain.flatten(1).gather(1, order).reshape(plain.shape)
        if self._scales is not None:
            images = images / self._scales[rows].reshape(-1, *[1] * (images.ndim - 1))
        return [images, self.labels[rows], self.tasks[rows]]


def as_avalanche(images: LabelledImages) -> AvalancheDataset:
    """Wrap images for Avalanche; the attribute `rows` says of every item, in every subset, which row it came from."""
    rows = DataAttribute(range(len(images)), "rows")
    attributes = [DataAttribute(images.targets, "targets"), TaskLabels(images.tasks.tolist()), rows]
    return TaskAwareSupervisedClassificationDataset([images], data_attributes=attributes)


class _Joined(TorchDataset[list[Tensor]]):
    """Data sets end to end, as Avalanche's loaders number them; a list of positions gives a whole batch."""

    def __init__(self, images: LabelledImages, datasets: Sequence[AvalancheDataset]) -> None:
        self._images = images
        self._rows = torch.tensor([row for dataset in datasets for row in dataset.rows], dtype=torch.int64)

    def __getitem__(self, positions: list[int]) -> list[Tensor]:
        return self._images.take(self._rows[positions])


class WholeBatchLoader:
    """Does what one of Avalanche's loaders over subsets of the same images does."""

    def __init__(self, images: LabelledImages, loader: MultiDatasetDataLoader) -> None:
        """Look up the rows of all items once."""
        self._loader = loader
        self._joined = _Joined(images, loader.datasets)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[list[Tensor]]:
        """Yield the batches of an epoch, drawing what a DataLoader draws: a base seed, then a seed of each sampler."""
        like = self._loader
        order = {key: like.loader_kwargs[key] for key in ("shuffle", "drop_last")}
        samplers = [
            DataLoader(dataset, batch_size=size, **order).batch_sampler
            for dataset, size in zip(like.datasets, like.batch_sizes, strict=True)
        ]
        batches = MultiDatasetSampler(
            like.datasets,
            samplers,
            termination_dataset_idx=like.termination_dataset,
            oversample_small_datasets=like.oversample_small_datasets,
            never_ending=like.never_ending,
        )
        # Without a batch size, a DataLoader hands what its sampler yields, here a whole batch, to the dataset at once.
        return iter(DataLoader(self._joined, sampler=batches, batch_size=None))


class WholeBatches(SupervisedPlugin):  # type: ignore[misc]
    """Replaces the loader of every experience by a `WholeBatchLoader`, whichever plugin made it.

    To be appended to `strategy.plugins` after construction: then it comes after those that bring loaders of their own,
    such as replay. Loaders that are none of Avalanche's are left alone.

    Args:
        images: What all data sets of the stream are subsets of.
    """

    def __init__(self, images: LabelledImages) -> None:
        super().__init__()
        self._images = images

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Replace the loader."""
        if isinstance(strategy.dataloader, MultiDatasetDataLoader):
            strategy.dataloader = WholeBatchLoader(self._images, strategy.dataloader)
