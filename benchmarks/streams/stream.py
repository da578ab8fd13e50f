"""Streams: a data set, cut into experiences, as an Avalanche benchmark.

Cut by classes (class-incremental; task-incremental with task labels; with classes that come back), or all classes again
and again: under other permutations of the pixels, or from other data sets on the same outputs (cross-modal). Plain
class-incremental streams come from `nc_benchmark` although it sits in a module called deprecated: it is the only
constructor in Avalanche 0.6 on which all strategies run. It knows no class twice, so the others come from
`dataset_benchmark`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import dataset_benchmark, nc_benchmark
from torch import Tensor

from benchmarks.configs.run import StreamConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.selection import Source, batches, select
from benchmarks.streams.batches import LabelledImages, as_avalanche
from benchmarks.streams.splitting import (
    check_first,
    first_appearances,
    hold_out,
    rows_of,
    rows_of_classes,
    split_classes,
    thin_out,
)
from src_plugin.errors import ConfigError


@dataclass(frozen=True)
class TestSet:
    """What one column of the accuracy matrices is measured on.

    Attributes:
        images: Shape (n, ...); in memory, or read batch by batch.
        labels: As the network is to answer them, shape (n,).
        task: The task label that is given with them.
        scale: What the values of the images are divided by.
    """

    images: Source
    labels: Tensor
    task: int = 0
    scale: float = 1.0

    __test__ = False  # no test case, whatever pytest thinks of its name

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels, so many at a time."""
        for images, labels in zip(batches(self.images, size=size), self.labels.split(size), strict=True):
            yield (images if self.scale == 1.0 else images / self.scale), labels


@dataclass(frozen=True)
class Stream:
    """A stream of experiences and everything that is measured on it.

    The accuracy matrices have a row for each experience that is trained on, and a column for each of `tests`. Each test
    image stands in one column, that of the experience which brings its class for the first time; an experience in
    which all classes come back has no column, so a stream with one has more rows than columns. Permuted pixels and
    other data sets are new images: there, every experience has its column.

    Attributes:
        classes: Labels of each experience, in the order they come.
        train_stream: Avalanche's experiences, or the single one of all images when built for joint training.
        train_images: What their data sets are subsets of.
        tests: What is measured after each of them.
        data: The data set the stream was cut from, complete.
        scales: What images are divided by in and after each experience; None for images as they are.
    """

    classes: list[list[int]]
    train_stream: Any
    train_images: LabelledImages
    tests: list[TestSet]
    data: Dataset
    scales: list[float] | None = None

    def tests_after(self, i: int) -> list[TestSet]:
        """Return the test sets as the network meets them after experience `i`."""
        if self.scales is None:
            return self.tests
        return [replace(test, scale=self.scales[i]) for test in self.tests]

    def n_seen(self, i: int) -> int:
        """Return how many of the test sets, the first ones, are of what was shown up to experience `i`."""
        if len(self.train_stream) == 1:  # also where all is learnt at once
            return len(self.tests)
        if len(self.tests) == len(self.train_stream):
            return i + 1
        return len([group for group in first_appearances(self.classes)[: i + 1] if group])

    @property
    def n_test(self) -> list[int]:
        """Test images of each column."""
        return [len(test.labels) for test in self.tests]

    @property
    def class_order(self) -> list[int]:
        """All labels in the order they come first."""
        return [label for group in first_appearances(self.classes) for label in group]

    @property
    def class_names(self) -> list[list[str]]:
        """Names of the classes of each experience."""
        n = len(self.classes)
        sources = (self.data, *self.data.then)[:n] if self.data.then else [self.data] * n
        return [[d.class_names[label] for label in group] for d, group in zip(sources, self.classes, strict=True)]


def build_stream(config: StreamConfig, *, data: Dataset, seed: int, at_once: bool = False) -> Stream:
    """Cut a data set into experiences.

    Args:
        config: Which classes come when, and how many images of each experience are trained on.
        data: All images, those of the data sets that follow included.
        seed: Decides "seeded" orders of classes and experiences, and the permutations of pixels.
        at_once: Give all the images that the experiences would train on as one experience (joint training); what is
            measured stays the same.

    Raises:
        ConfigError: See `split_classes`; or `at_once` with task labels.
    """
    if at_once and config.task_labels:
        raise ConfigError(
            "joint training asks one head for all classes, and under stream.task_labels each experience has its own; "
            "leave joint out of the strategies, or drop task_labels"
        )
    if at_once and config.first is not None:
        raise ConfigError("joint training has no first experiences; leave it out, or drop stream.first")
    classes = split_classes(config, n_classes=data.n_classes, seed=seed)
    check_first(config, len(classes))
    if config.validation:
        data = hold_out(data)
    if config.class_shares is not None:
        data = thin_out(data, config.class_shares)
    if config.permutations is not None:
        images, parts, tests = _permuted(config, data=data, seed=seed)
    elif config.then is not None:
        images, parts, tests = _cross_modal(config, data=data)
    else:
        images, parts, tests = _split(config, data=data, classes=classes, seed=seed)
    scales = None if config.scale is None else _scales(config.scale, images, parts)
    if scales is not None:
        scales = scales[-1:] if at_once else scales  # all at once, "running" is the largest of all
        of_parts = torch.tensor(scales * (len(parts) // len(scales)))
        images = images.scaled(torch.repeat_interleave(of_parts, torch.tensor([len(part) for part in parts])))
    whole = as_avalanche(images)
    if not (config.permutations or config.then or config.experiences or config.task_labels):
        benchmark = nc_benchmark(
            whole,
            LabelledImages(data.test_images, data.test_labels),
            n_experiences=1 if at_once else len(classes),
            task_labels=False,
            shuffle=False,
            fixed_class_order=[label for group in classes for label in group],
            per_exp_classes=None if at_once else {i: len(group) for i, group in enumerate(classes)},
        )
    else:
        benchmark = dataset_benchmark(
            [whole] if at_once else [whole.subset(part) for part in parts],
            [as_avalanche(LabelledImages(test.images, test.labels)) for test in tests],
        )
    n = config.first
    return Stream(
        classes=classes[:n],
        train_stream=benchmark.train_stream[:n],
        train_images=images,
        tests=tests[: len([group for group in first_appearances(classes)[:n] if group or config.experiences is None])],
        data=data,
        scales=scales,
    )


def _scales(scale: str | float, images: LabelledImages, parts: Sequence[range]) -> list[float]:
    """Return what each experience's images are divided by; from training images only."""
    if not isinstance(scale, str):
        return [float(scale)] * len(parts)
    tops = [images.maximum(part) for part in (parts[:1] if scale == "first" else parts)]
    if not tops[0] > 0.0:
        raise ConfigError(
            f"stream.scale: {scale}: the largest value of the first experience is {tops[0]}, so there is nothing to "
            "divide by; are these images or features all 0?"
        )
    return tops * len(parts) if scale == "first" else list(accumulate(tops, max))


Cut = tuple[LabelledImages, list[range], list[TestSet]]
"""All training images, the rows of each experience among them, and what is measured."""


def _split(config: StreamConfig, *, data: Dataset, classes: list[list[int]], seed: int) -> Cut:
    """Cut by classes."""
    there = rows_of(config, data.train_labels, classes, seed=seed)
    kept = [torch.cat(rows).sort().values[: config.samples_per_experience] for rows in there]
    columns = [(i, group) for i, group in enumerate(first_appearances(classes)) if group]
    tested = [rows_of_classes(data.test_labels, group) for _, group in columns]
    labels = [data.train_labels[rows] for rows in kept]
    answers = [data.test_labels[rows] for rows in tested]
    numbers = [0] * len(classes)
    if config.task_labels:
        labels = [_from_zero(part, group) for part, group in zip(labels, classes, strict=True)]
        answers = [_from_zero(part, group) for part, group in zip(answers, classes, strict=True)]
        numbers = list(range(len(classes)))
    tasks = torch.cat([torch.full_like(part, k) for part, k in zip(labels, numbers, strict=True)])
    tests = [
        TestSet(select(data.test_images, rows), part, task=numbers[i])
        for (i, _), rows, part in zip(columns, tested, answers, strict=True)
    ]
    images = LabelledImages(select(data.train_images, torch.cat(kept)), torch.cat(labels), tasks=tasks)
    return images, _ranges([len(rows) for rows in kept]), tests


def _permuted(config: StreamConfig, *, data: Dataset, seed: int) -> Cut:
    """Take all classes again and again: the pixels first as they are, then in one new order per experience."""
    assert config.permutations is not None
    if not isinstance(data.train_images, Tensor) or not isinstance(data.test_images, Tensor):
        raise ConfigError("stream.permutations puts pixels into new orders; features have none, so leave backbone out")
    rng = np.random.default_rng(seed)
    n_pixels = data.n_inputs
    drawn = [rng.permutation(n_pixels) for _ in range(config.permutations - 1)]
    orders = torch.from_numpy(np.stack([np.arange(n_pixels), *drawn]))  # (n_experiences, n_pixels)
    n = config.samples_per_experience
    images = LabelledImages(data.train_images[:n], data.train_labels[:n], orders=orders)
    flat = data.test_images.flatten(1)
    tests = [TestSet(flat[:, order].reshape(data.test_images.shape), data.test_labels) for order in orders]
    return images, _ranges([len(images) // len(orders)] * len(orders)), tests


def _cross_modal(config: StreamConfig, *, data: Dataset) -> Cut:
    """Take all of one data set, then all of the next."""
    sources, wanted = (data, *data.then), [config.title, *(config.then or ())]
    if [source.name for source in sources] != wanted:
        raise ConfigError(f"the stream is {wanted}, and data of {[source.name for source in sources]} were given")
    for source in data.then:
        ours, theirs = ((tuple(d.train_images.shape[1:]), d.n_classes) for d in (data, source))
        if ours != theirs:
            raise ConfigError(
                f"stream.then: images and classes of {source.name} are {theirs[0]} and {theirs[1]}, those of "
                f"{data.name} {ours[0]} and {ours[1]}; both go through the same network, so they must be the same"
            )
    n = config.samples_per_experience
    images = torch.cat([source.train_images[:n] for source in sources])
    labels = torch.cat([source.train_labels[:n] for source in sources])
    tests = [TestSet(source.test_images, source.test_labels) for source in sources]
    return LabelledImages(images, labels), _ranges([len(source.train_labels[:n]) for source in sources]), tests


def _ranges(sizes: Sequence[int]) -> list[range]:
    """Return the rows of parts that lie one behind the other."""
    return [range(a, b) for a, b in pairwise(accumulate(sizes, initial=0))]


def _from_zero(labels: Tensor, group: Sequence[int]) -> Tensor:
    """Return the place of each label in its group: classes are numbered from 0 in each task, as Avalanche does it."""
    return (labels[:, None] == torch.tensor(group)).int().argmax(dim=1).to(labels.dtype)
