"""Which classes and images each experience has, before any stream is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.configs.run import StreamConfig
from benchmarks.data.dataset import Dataset
from benchmarks.streams.splitting import check_split, split_classes
from benchmarks.streams.stream import build_stream
from src_plugin.errors import ConfigError


def config(**changes: object) -> StreamConfig:
    return StreamConfig.model_validate({"dataset": "digits", "n_experiences": 5, **changes})


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
        ({"n_experiences": None, "experiences": [[0, 1, 2, 3], [4, 5, 6, 11]]}, r"labels 0 to 9; see \[7, 8, 9, 11\]"),
    ],
)
def test_impossible_splits_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_classes(config(**changes), n_classes=10, seed=0)


SPLITS: dict[str, dict[str, Any]] = {
    "as it should be": {},
    "unequal experiences": {"n_experiences": 3},
    "classes that do not add up": {"n_experiences": None, "classes_per_experience": [5, 4]},
    "a short order": {"class_order": [0, 1, 2]},
    "too few images of each": {"images_per_experience": 1},
    "as many images as the smallest class has": {"images_per_experience": 2 * 131},
    "one more than that": {"images_per_experience": 2 * 131 + 1},
    "more than some classes have": {"images_per_experience": 2 * 134, "class_order": "seeded"},
    "more than any class has": {"images_per_experience": 2 * 137 + 1, "class_order": "seeded"},
    "a short list": {"images_per_experience": [10, 10]},
    "fractions": {"images_per_experience": [0.1, 0.2, 0.9, 0.99, 0.5]},
    "all that validation leaves": {"images_per_experience": 2 * 110, "validation": True},
    "more than validation leaves": {"images_per_experience": 2 * 115, "validation": True},
    "more experiences than there are": {"first": 6},
    "half of a class that returns": {
        "n_experiences": None,
        "experiences": [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 0]],
        "images_per_experience": [5 * 66, 6 * 66],
    },
    "more than half of it": {
        "n_experiences": None,
        "experiences": [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 0]],
        "images_per_experience": [5 * 67, 6 * 67],
    },
    "permutations": {"n_experiences": None, "permutations": 3, "first": 4},
}


def refusal(act: Callable[[], object]) -> str | None:
    try:
        act()
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("changes", SPLITS.values(), ids=SPLITS)
def test_a_split_is_refused_in_advance_exactly_where_it_cannot_be_made(
    digits: Dataset, changes: dict[str, Any]
) -> None:
    stream = config(**changes)
    sizes = digits.train_labels.bincount().tolist()
    made = [refusal(lambda seed=seed: build_stream(stream, data=digits, seed=seed)) for seed in range(4)]
    told = [
        refusal(lambda seed=seed: check_split(stream, n_classes=10, sizes=sizes, seeds=[seed])) for seed in range(4)
    ]
    assert told == made
    under_none = refusal(lambda: check_split(stream, n_classes=10, sizes=sizes))
    if under_none is not None:  # without a seed, only what fits under none of them
        assert None not in made


def test_without_sizes_numbers_of_images_are_not_checked_but_how_many_there_are() -> None:
    check_split(config(images_per_experience=10**6), n_classes=10)
    with pytest.raises(ConfigError, match="has 2 entries for 5 experiences"):
        check_split(config(images_per_experience=[1, 2]), n_classes=10)


# -- scale -------------------------------------------------------------------------------------------------------------


def test_classes_of_uneven_size_keep_their_first_images_of_training_and_of_testing(digits: Dataset) -> None:
    shares = [1.0, 0.1] * 5
    stream = build_stream(config(class_shares=shares), data=digits, seed=0)
    for labels, was in ((stream.data.train_labels, digits.train_labels), (stream.data.test_labels, digits.test_labels)):
        kept, all_of = labels.bincount(), was.bincount()
        assert (kept[::2] == all_of[::2]).all()
        assert (kept[1::2] == (all_of[1::2] / 10).ceil()).all()
    first = (digits.test_labels == 1).nonzero()[0]
    rows = (stream.data.test_labels == 1).nonzero()[0]
    assert (stream.data.test_images[rows] == digits.test_images[first]).all()


def test_shares_must_be_one_for_each_class(digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="class_shares has 3 entries for 10 classes"):
        build_stream(config(class_shares=[1.0, 0.5, 0.5]), data=digits, seed=0)
