"""Class-incremental streams: a data set, cut by classes into experiences, as an Avalanche benchmark.

`nc_benchmark` is used although it sits in a module called deprecated: it is the only constructor in Avalanche 0.6 on
which all strategies run.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import nc_benchmark
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from benchmarks.config import StreamConfig
from benchmarks.data import Dataset
from src_plugin.errors import ConfigError


class LabelledImages(TorchDataset[tuple[Tensor, int]]):
    """Images and labels in memory, with the `targets` list that Avalanche asks for."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        """Keep images, shape (n, ...), and labels, shape (n,)."""
        self.images = images
        self.targets: list[int] = labels.tolist()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image and its label."""
        return self.images[index], self.targets[index]


@dataclass(frozen=True)
class Stream:
    """A stream of experiences and everything that is measured on it.

    Attributes:
        classes: Labels of each experience, in the order they come.
        train_stream: Avalanche's experiences, or the single one of all images when built for joint training.
        test_images: Test images of each experience.
        test_labels: Their labels.
        data: The data set the stream was cut from, complete.
    """

    classes: list[list[int]]
    train_stream: Any
    test_images: list[Tensor]
    test_labels: list[Tensor]
    data: Dataset

    @property
    def n_test(self) -> list[int]:
        """Test images of each experience."""
        return [len(labels) for labels in self.test_labels]

    @property
    def class_order(self) -> list[int]:
        """All labels in the order they come."""
        return [label for group in self.classes for label in group]

    @property
    def class_names(self) -> list[list[str]]:
        """Names of the classes of each experience."""
        return [[self.data.class_names[label] for label in group] for group in self.classes]


def split_classes(config: StreamConfig, *, n_classes: int, seed: int) -> list[list[int]]:
    """Return the labels of each experience.

    Args:
        config: Class order and number of classes per experience.
        n_classes: Labels are 0 to n_classes - 1.
        seed: Decides a "seeded" order; draws from a private generator.

    Raises:
        ConfigError: The classes cannot be split as asked, or the order is not a permutation of all labels.
    """
    if isinstance(config.class_order, list):
        order = config.class_order
        if sorted(order) != list(range(n_classes)):
            raise ConfigError(f"stream.class_order must name each of the labels 0 to {n_classes - 1} once; got {order}")
    else:
        is_seeded = config.class_order == "seeded"
        order = np.random.default_rng(seed).permutation(n_classes).tolist() if is_seeded else list(range(n_classes))
    sizes = config.classes_per_experience
    if sizes is None:
        n = config.n_experiences or 1
        if n_classes % n:
            raise ConfigError(
                f"{n_classes} classes do not split into {n} equal experiences; use classes_per_experience"
            )
        sizes = [n_classes // n] * n
    if sum(sizes) != n_classes:
        raise ConfigError(f"classes_per_experience sums to {sum(sizes)}, but {config.dataset} has {n_classes} classes")
    starts = accumulate(sizes, initial=0)
    return [order[a:b] for a, b in pairwise(starts)]


def build_stream(config: StreamConfig, *, data: Dataset, seed: int, at_once: bool = False) -> Stream:
    """Cut a data set into experiences.

    Args:
        config: Which classes come when, and how many images of each experience are trained on.
        data: All images.
        seed: Decides a "seeded" class order.
        at_once: Give all the images that the experiences would train on as one experience (joint training); what is
            measured stays the same.

    Raises:
        ConfigError: See `split_classes`.
    """
    classes = split_classes(config, n_classes=data.n_classes, seed=seed)
    kept = [_rows(data.train_labels, group)[: config.samples_per_experience] for group in classes]
    chosen = torch.cat(kept)
    tests = [_rows(data.test_labels, group) for group in classes]
    benchmark = nc_benchmark(
        LabelledImages(data.train_images[chosen], data.train_labels[chosen]),
        LabelledImages(data.test_images, data.test_labels),
        n_experiences=1 if at_once else len(classes),
        task_labels=False,
        shuffle=False,
        fixed_class_order=[label for group in classes for label in group],
        per_exp_classes=None if at_once else {i: len(group) for i, group in enumerate(classes)},
    )
    return Stream(
        classes=classes,
        train_stream=benchmark.train_stream,
        test_images=[data.test_images[rows] for rows in tests],
        test_labels=[data.test_labels[rows] for rows in tests],
        data=data,
    )


def _rows(labels: Tensor, group: list[int]) -> Tensor:
    """Return the indices of all samples of some classes, in file order."""
    return torch.isin(labels, torch.tensor(group)).nonzero().squeeze(1)
