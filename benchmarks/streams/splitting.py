"""Splitting: which classes, and which training images of them, each experience of a stream has. Needs no Avalanche."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from benchmarks.configs.run import StreamConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.selection import select
from src_plugin.errors import ConfigError

HELD_OUT = 6
"""Of the training images of a class, one of so many is held out for `validation`."""


def split_classes(config: StreamConfig, *, n_classes: int, seed: int) -> list[list[int]]:
    """Return the labels of each experience.

    Args:
        config: How the stream is split.
        n_classes: Labels are 0 to n_classes - 1.
        seed: Decides "seeded" orders; draws from a private generator.

    Raises:
        ConfigError: The classes cannot be split as asked, or what is listed does not name all labels.
    """
    labels = list(range(n_classes))
    if config.permutations is not None:
        return [labels] * config.permutations
    if config.then is not None:
        return [labels] * (1 + len(config.then))
    if config.experiences is not None:
        listed = {label for group in config.experiences for label in group}
        if listed != set(labels):
            wrong = sorted(listed ^ set(labels))
            raise ConfigError(f"stream.experiences must name each of the labels 0 to {n_classes - 1}; see {wrong}")
        return config.experiences
    if isinstance(config.class_order, list):
        order = config.class_order
        if sorted(order) != labels:
            raise ConfigError(f"stream.class_order must name each of the labels 0 to {n_classes - 1} once; got {order}")
    else:
        is_seeded = config.class_order == "seeded"
        order = np.random.default_rng(seed).permutation(n_classes).tolist() if is_seeded else labels
    sizes = config.classes_per_experience
    if sizes is None:
        n = config.n_experiences or 1
        if n_classes % n:
            fitting = ", ".join(str(k) for k in range(1, n_classes + 1) if n_classes % k == 0)
            raise ConfigError(
                f"stream.n_experiences: the {n_classes} classes of {config.title} do not split into {n} equal "
                f"experiences; give one of {fitting}, or classes_per_experience"
            )
        sizes = [n_classes // n] * n
    if sum(sizes) != n_classes:
        raise ConfigError(
            f"stream.classes_per_experience sums to {sum(sizes)}, but {config.title} has {n_classes} classes"
        )
    groups = [order[a:b] for a, b in pairwise(accumulate(sizes, initial=0))]
    if config.class_order == "seeded_experiences":
        return [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    return groups


def check_split(
    config: StreamConfig, *, n_classes: int, sizes: Sequence[int] | None = None, seeds: Sequence[int] = ()
) -> None:
    """Refuse a split that cannot be made of some classes; no image is needed for it.

    Args:
        config: How the stream is split.
        n_classes: Labels are 0 to n_classes - 1.
        sizes: Training images of each class; None if they are not known, and numbers of images are then not checked.
        seeds: Of the runs; numbers of images can fit under one and not under another, where classes differ in size.
            Without any, only what fits under none is refused.

    Raises:
        ConfigError: See `split_classes` and `draw_images`; or `first` asks for more experiences than there are.
    """
    classes = split_classes(config, n_classes=n_classes, seed=0)  # no seed decides whether it can be made
    check_first(config, len(classes))
    if config.images_per_experience is None:
        return
    _for_each(config.images_per_experience, len(classes))
    if sizes is None or not (seeds or config.experiences is None):
        return
    if config.validation:
        sizes = [size - size // HELD_OUT for size in sizes]
    if not seeds:  # were all classes as large as the largest: what fails then fails under every seed
        sizes, seeds = [max(sizes)] * n_classes, (0,)
    labels = torch.arange(n_classes).repeat_interleave(torch.tensor(sizes))
    for seed in seeds:
        rows_of(config, labels, split_classes(config, n_classes=n_classes, seed=seed), seed=seed)


def check_first(config: StreamConfig, n_experiences: int) -> None:
    """Refuse `first` if it asks for more experiences than there are."""
    if config.first is not None and config.first > n_experiences:
        raise ConfigError(f"stream.first asks for {config.first} experiences, and the stream has {n_experiences}")


def rows_of(config: StreamConfig, labels: Tensor, classes: list[list[int]], *, seed: int) -> list[list[Tensor]]:
    """Return the rows of each class of each experience that are to be trained on.

    The images of a class that comes k times are cut into k equal parts, in file order.
    """
    counts = Counter(label for group in classes for label in group)
    left = {label: list(rows_of_classes(labels, [label]).tensor_split(k)) for label, k in counts.items()}
    there = [[left[label].pop(0) for label in group] for group in classes]
    if config.images_per_experience is None:
        return there
    return draw_images(config.images_per_experience, there, seed=seed)


def draw_images(
    wanted: int | float | Sequence[int | float], there: Sequence[Sequence[Tensor]], *, seed: int
) -> list[list[Tensor]]:
    """Draw some of the images of each experience, as evenly over its classes as can be.

    Args:
        wanted: Images of each experience, or a fraction of them; or a list with one for each experience.
        there: Rows of each class of each experience.
        seed: Decides which, and which classes have one image more where a number cannot be split evenly.

    Raises:
        ConfigError: The list has not one entry for each experience, or a class has fewer images than are asked of it.
    """
    each = _for_each(wanted, len(there))
    rng = np.random.default_rng([seed, 1])  # not the draws of the class order
    drawn = []
    for i, (part, classes) in enumerate(zip(each, there, strict=True)):
        if isinstance(part, float):
            sizes = [max(1, round(part * len(rows))) for rows in classes]
        else:
            sizes = [part // len(classes)] * len(classes)
            for k in rng.permutation(len(classes))[: part % len(classes)]:
                sizes[k] += 1
        if isinstance(part, int) and part < len(classes):
            raise ConfigError(
                f"stream.images_per_experience asks for {part} images in experience {i}, which has {len(classes)} "
                f"classes; at least {len(classes)} give each of them one"
            )
        for size, rows in zip(sizes, classes, strict=True):
            if size > len(rows):
                raise ConfigError(
                    f"stream.images_per_experience asks for {part} images in experience {i}, {size} of each of its "
                    f"{len(classes)} classes, and one of them has {len(rows)}; no more than all of a class can be had"
                )
        drawn.append(
            [rows[torch.from_numpy(rng.permutation(len(rows))[:n])] for n, rows in zip(sizes, classes, strict=True)]
        )
    return drawn


def _for_each(wanted: int | float | Sequence[int | float], n: int) -> list[int | float]:
    """Return how many images, or which fraction of them, is wanted of each of n experiences."""
    each = list(wanted) if isinstance(wanted, Sequence) else [wanted] * n
    if len(each) != n:
        raise ConfigError(f"stream.images_per_experience has {len(each)} entries for {n} experiences")
    return each


def thin_out(data: Dataset, shares: Sequence[float]) -> Dataset:
    """Return a data set with a share of the training and the test images of each class, the first in file order.

    Args:
        data: The data set.
        shares: One for each class, in the order of labels, in (0, 1]; at least one image is left.

    Raises:
        ConfigError: There is not one share for each class.
    """
    if len(shares) != data.n_classes:
        raise ConfigError(f"stream.class_shares has {len(shares)} entries for {data.n_classes} classes")

    def rows(labels: Tensor) -> Tensor:
        there = [rows_of_classes(labels, [label]) for label in range(data.n_classes)]
        return (
            torch.cat([part[: math.ceil(s * len(part))] for s, part in zip(shares, there, strict=True)]).sort().values
        )

    train, test = rows(data.train_labels), rows(data.test_labels)
    return replace(
        data,
        train_images=select(data.train_images, train),
        train_labels=data.train_labels[train],
        test_images=select(data.test_images, test),
        test_labels=data.test_labels[test],
    )


def hold_out(data: Dataset) -> Dataset:
    """Return the training images alone: of each class every sixth is for measuring, all others are for training."""
    rank = torch.zeros_like(data.train_labels)
    for label in range(data.n_classes):
        rows = rows_of_classes(data.train_labels, [label])
        rank[rows] = torch.arange(len(rows))
    held = rank % HELD_OUT == HELD_OUT - 1
    return replace(
        data,
        train_images=select(data.train_images, ~held),
        train_labels=data.train_labels[~held],
        test_images=select(data.train_images, held),
        test_labels=data.train_labels[held],
        then=tuple(hold_out(other) for other in data.then),
    )


def first_appearances(classes: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return those labels of each experience that no earlier one had."""
    seen: set[int] = set()
    fresh = []
    for group in classes:
        fresh.append([label for label in group if label not in seen])
        seen.update(group)
    return fresh


def rows_of_classes(labels: Tensor, group: Sequence[int]) -> Tensor:
    """Return the indices of all samples of some classes, in file order."""
    return torch.isin(labels, torch.tensor(group)).nonzero().squeeze(1)
