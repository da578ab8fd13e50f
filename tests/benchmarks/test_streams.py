"""Streams: which classes and which images come when."""

from __future__ import annotations

import pytest
import torch

from benchmarks.config import StreamConfig
from benchmarks.data import Dataset
from benchmarks.streams import Stream, build_stream, split_classes
from src_plugin.errors import ConfigError


def config(**changes: object) -> StreamConfig:
    return StreamConfig.model_validate({"dataset": "digits", "n_experiences": 5, **changes})


def classes_of(stream: Stream) -> list[set[int]]:
    return [set(experience.dataset.targets) for experience in stream.train_stream]


def images_of(stream: Stream, i: int) -> torch.Tensor:
    dataset = stream.train_stream[i].dataset
    return torch.stack([dataset[k][0] for k in range(len(dataset))])


def as_set(images: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(image) for image in images.flatten(1).tolist()}


def test_experiences_hold_the_stated_classes_and_share_none(digits: Dataset) -> None:
    order = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    stream = build_stream(config(class_order=order), data=digits, seed=0)
    assert classes_of(stream) == [{3, 1}, {4, 5}, {9, 2}, {6, 8}, {7, 0}]
    assert stream.class_order == order
    assert stream.class_names[0] == ["3", "1"]


def test_no_image_is_lost_or_used_twice(digits: Dataset) -> None:
    stream = build_stream(config(), data=digits, seed=0)
    assert sum(len(experience.dataset) for experience in stream.train_stream) == len(digits.train_labels)
    assert sum(stream.n_test) == len(digits.test_labels)
    for labels, group in zip(stream.test_labels, stream.classes, strict=True):
        assert set(labels.tolist()) == set(group)


def test_uneven_experiences(digits: Dataset) -> None:
    uneven = config(n_experiences=None, classes_per_experience=[4, 1, 5])
    stream = build_stream(uneven, data=digits, seed=0)
    assert classes_of(stream) == [{0, 1, 2, 3}, {4}, {5, 6, 7, 8, 9}]


def test_samples_per_experience_takes_the_first_in_file_order(digits: Dataset) -> None:
    stream = build_stream(config(samples_per_experience=7), data=digits, seed=0)
    for i, group in enumerate(stream.classes):
        rows = [k for k, label in enumerate(digits.train_labels.tolist()) if label in group][:7]
        assert as_set(images_of(stream, i)) == as_set(digits.train_images[rows])
        assert len(stream.train_stream[i].dataset) == 7
    assert sum(stream.n_test) == len(digits.test_labels)  # all test images are used all the same


@pytest.mark.parametrize("samples", [None, 7])
def test_joint_training_gets_the_same_images_at_once(digits: Dataset, samples: int | None) -> None:
    apart = build_stream(config(samples_per_experience=samples), data=digits, seed=0)
    joint = build_stream(config(samples_per_experience=samples), data=digits, seed=0, at_once=True)
    assert len(joint.train_stream) == 1
    assert as_set(images_of(joint, 0)) == set().union(*(as_set(images_of(apart, i)) for i in range(5)))
    assert joint.n_test == apart.n_test


def test_a_seeded_order_follows_the_seed_and_a_fixed_one_does_not() -> None:
    seeded = [split_classes(config(class_order="seeded"), n_classes=10, seed=seed) for seed in (0, 0, 1)]
    assert seeded[0] == seeded[1] != seeded[2]
    assert sorted(label for group in seeded[2] for label in group) == list(range(10))
    fixed = [split_classes(config(), n_classes=10, seed=seed) for seed in (0, 1)]
    assert fixed[0] == fixed[1] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_experiences": 3}, "do not split into 3 equal"),
        ({"n_experiences": None, "classes_per_experience": [5, 4]}, "sums to 9, but digits has 10"),
        ({"class_order": [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]}, "each of the labels 0 to 9 once"),
    ],
)
def test_impossible_splits_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_classes(config(**changes), n_classes=10, seed=0)
