"""Streams: which classes and which images come when, and what is measured on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.configs.run import StreamConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.selection import Selection
from benchmarks.streams.splitting import hold_out, split_classes
from benchmarks.streams.stream import Stream, build_stream
from src_plugin.errors import ConfigError


def config(**changes: object) -> StreamConfig:
    return StreamConfig.model_validate({"dataset": "digits", "n_experiences": 5, **changes})


def classes_of(stream: Stream) -> list[set[int]]:
    return [set(experience.dataset.targets) for experience in stream.train_stream]


def listed(*groups: list[int], **changes: object) -> StreamConfig:
    return config(n_experiences=None, experiences=list(groups), **changes)


def permuted(n: int, **changes: object) -> StreamConfig:
    return config(n_experiences=None, permutations=n, **changes)


def images_of(stream: Stream, i: int) -> torch.Tensor:
    dataset = stream.train_stream[i].dataset
    return torch.stack([dataset[k][0] for k in range(len(dataset))])


def labelled(stream: Stream, i: int) -> dict[tuple[float, ...], int]:
    dataset = stream.train_stream[i].dataset
    return {tuple(x.flatten().tolist()): y for x, y, _ in (dataset[k] for k in range(len(dataset)))}


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
    for test, group in zip(stream.tests, stream.classes, strict=True):
        assert set(test.labels.tolist()) == set(group)


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


def test_listing_each_class_once_gives_the_images_of_the_plain_stream(digits: Dataset) -> None:
    order = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    plain = build_stream(config(class_order=order, samples_per_experience=50), data=digits, seed=0)
    same = build_stream(listed(*plain.classes, samples_per_experience=50), data=digits, seed=0)
    assert same.class_order == order
    for i in range(5):
        assert labelled(same, i) == labelled(plain, i)
        assert torch.equal(same.tests[i].images, plain.tests[i].images)
        assert torch.equal(same.tests[i].labels, plain.tests[i].labels)


RETURNING = ([0, 1, 2, 3], [4, 0], [5, 6, 7, 8, 9], [1, 0])


def test_a_class_that_comes_back_brings_images_of_its_own(digits: Dataset) -> None:
    stream = build_stream(listed(*RETURNING), data=digits, seed=0)
    assert classes_of(stream) == [set(group) for group in RETURNING]
    zeros = [
        torch.stack([x for x, y, _ in (e.dataset[k] for k in range(len(e.dataset))) if y == 0])
        for e in (stream.train_stream[i] for i in (0, 1, 3))
    ]
    assert torch.equal(torch.cat(zeros), digits.train_images[digits.train_labels == 0])  # in file order, none twice
    assert max(map(len, zeros)) - min(map(len, zeros)) <= 1
    assert sum(len(experience.dataset) for experience in stream.train_stream) == len(digits.train_labels)


def test_test_images_stand_in_the_column_of_the_first_appearance(digits: Dataset) -> None:
    stream = build_stream(listed(*RETURNING), data=digits, seed=0)
    assert [set(test.labels.tolist()) for test in stream.tests] == [{0, 1, 2, 3}, {4}, {5, 6, 7, 8, 9}]
    assert sum(stream.n_test) == len(digits.test_labels)
    assert stream.class_order == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert stream.class_names[3] == ["1", "0"]


def numbered(n_train: int = 6, n_test: int = 4) -> Dataset:
    """Return images whose pixels are 0, 1, 2, ...: what became of them shows where each came from."""
    image = torch.arange(12.0).reshape(1, 3, 4)
    return Dataset(
        name="numbered",
        train_images=image.repeat(n_train, 1, 1, 1),
        train_labels=torch.arange(n_train) % 2,
        test_images=image.repeat(n_test, 1, 1, 1),
        test_labels=torch.arange(n_test) % 2,
        class_names=("even", "odd"),
    )


def test_each_permuted_experience_has_one_order_of_its_own_for_training_and_test() -> None:
    stream = build_stream(permuted(3), data=numbered(), seed=0)
    orders = [test.images[0].flatten().tolist() for test in stream.tests]
    assert orders[0] == list(range(12))  # pixels as they are
    assert orders[0] != orders[1] != orders[2] != orders[0]
    for i, order in enumerate(orders):
        assert sorted(order) == list(range(12))
        images = images_of(stream, i)
        assert images.shape == (6, 1, 3, 4)
        assert all(image.flatten().tolist() == order for image in [*images, *stream.tests[i].images])
        assert stream.tests[i].labels.tolist() == [0, 1, 0, 1]
    assert stream.classes == [[0, 1]] * 3
    assert stream.class_order == [0, 1]


def test_permutations_follow_the_seed_and_leave_the_global_generators_alone() -> None:
    state = torch.get_rng_state()
    second = [
        build_stream(permuted(2), data=numbered(), seed=seed).tests[1].images[0].flatten().tolist()
        for seed in (0, 0, 1)
    ]
    assert second[0] == second[1] != second[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_joint_training_on_permutations_gets_all_of_them() -> None:
    stream = build_stream(permuted(3, samples_per_experience=5), data=numbered(), seed=0, at_once=True)
    assert len(stream.train_stream) == 1
    apart = build_stream(permuted(3, samples_per_experience=5), data=numbered(), seed=0)
    assert torch.equal(images_of(stream, 0), torch.cat([images_of(apart, i) for i in range(3)]))
    assert stream.n_test == [4, 4, 4]


def test_task_labels_number_experiences_and_the_classes_in_each(digits: Dataset) -> None:
    order = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    stream = build_stream(config(class_order=order, task_labels=True), data=digits, seed=0)
    plain = build_stream(config(class_order=order), data=digits, seed=0)
    assert [experience.task_labels for experience in stream.train_stream] == [[0], [1], [2], [3], [4]]
    assert [test.task for test in stream.tests] == [0, 1, 2, 3, 4]
    for i, (a, b) in enumerate([(3, 1), (4, 5), (9, 2), (6, 8), (7, 0)]):
        assert {image: (a, b)[label] for image, label in labelled(stream, i).items()} == labelled(plain, i)
        assert [(a, b)[label] for label in stream.tests[i].labels] == plain.tests[i].labels.tolist()
        assert torch.equal(stream.tests[i].images, plain.tests[i].images)


def test_joint_training_with_task_labels_is_refused(digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="leave joint out"):
        build_stream(config(task_labels=True), data=digits, seed=0, at_once=True)


def test_experiences_in_a_seeded_order_keep_their_classes(digits: Dataset) -> None:
    pairs = [{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}]
    orders = []
    for seed in (0, 0, 1):
        stream = build_stream(config(class_order="seeded_experiences"), data=digits, seed=seed)
        assert sorted(classes_of(stream), key=min) == pairs
        orders.append(stream.class_order)
    assert orders[0] == orders[1] != orders[2]


def cross_modal(**changes: object) -> StreamConfig:
    return StreamConfig.model_validate({"dataset": "digits", "then": ["inverted"], **changes})


def with_inverted(digits: Dataset, **changes: Any) -> Dataset:
    """Digits, and a data set that follows them: the same in black on white, under other names."""
    other = replace(
        digits,
        name="inverted",
        train_images=1 - digits.train_images,
        test_images=1 - digits.test_images,
        class_names=tuple("abcdefghij"),
    )
    return replace(digits, then=(replace(other, **changes),))


def test_one_data_set_after_the_other_on_the_same_outputs(digits: Dataset) -> None:
    data = with_inverted(digits)
    stream = build_stream(cross_modal(), data=data, seed=0)
    assert stream.classes == [list(range(10))] * 2
    assert stream.class_order == list(range(10))
    assert stream.class_names == [list("0123456789"), list("abcdefghij")]
    assert torch.equal(images_of(stream, 0), digits.train_images)
    assert torch.equal(images_of(stream, 1), 1 - digits.train_images)
    assert [torch.equal(test.labels, digits.test_labels) for test in stream.tests] == [True, True]
    assert torch.equal(stream.tests[1].images, 1 - digits.test_images)
    joint = build_stream(cross_modal(), data=data, seed=0, at_once=True)
    assert len(images_of(joint, 0)) == 2 * len(digits.train_labels)
    few = build_stream(cross_modal(samples_per_experience=7), data=data, seed=0)
    assert torch.equal(images_of(few, 1), 1 - digits.train_images[:7])


def test_each_of_several_data_sets_holds_its_own_training_images_out(digits: Dataset) -> None:
    stream = build_stream(cross_modal(validation=True), data=with_inverted(digits), seed=0)
    split = hold_out(digits)
    for i, as_given in enumerate((lambda x: x, lambda x: 1 - x)):
        assert torch.equal(images_of(stream, i), as_given(split.train_images))
        assert torch.equal(stream.tests[i].images, as_given(split.test_images))
        assert torch.equal(stream.tests[i].labels, split.test_labels)


def test_the_first_of_several_data_sets_can_be_had_alone(digits: Dataset) -> None:
    stream = build_stream(cross_modal(first=1), data=with_inverted(digits), seed=0)
    assert stream.class_names == [list("0123456789")]
    assert stream.n_test == [len(digits.test_labels)]
    assert len(stream.train_stream) == 1


def test_data_sets_that_do_not_go_together_are_refused(digits: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"the stream is .*'inverted'.*, and data of .'digits'. were given"):
        build_stream(cross_modal(), data=digits, seed=0)
    square = with_inverted(digits, train_images=digits.train_images.view(-1, 8, 8))
    with pytest.raises(ConfigError, match=r"inverted are \(8, 8\) and 10, those of digits \(64,\) and 10"):
        build_stream(cross_modal(), data=square, seed=0)
    with pytest.raises(ValueError, match="give one of them"):
        cross_modal(n_experiences=5)


LENGTHS = {
    "equal": (config(), 5),
    "first of them": (config(first=2), 5),
    "uneven": (config(n_experiences=None, classes_per_experience=[4, 1, 5]), 3),
    "listed": (listed(*RETURNING), 4),
    "permuted": (permuted(3), 3),
    "cross-modal": (cross_modal(), 2),
}


@pytest.mark.parametrize(("given", "length"), LENGTHS.values(), ids=LENGTHS)
def test_a_config_knows_how_many_experiences_it_has(given: StreamConfig, length: int) -> None:
    assert given.length == length == len(split_classes(given, n_classes=10, seed=0))


# -- fewer images ------------------------------------------------------------------------------------------------------


def counts_of(stream: Stream) -> list[dict[int, int]]:
    return [
        {label: list(experience.dataset.targets).count(label) for label in group}
        for experience, group in zip(stream.train_stream, stream.classes, strict=True)
    ]


FEWER = {
    # images_per_experience -> images of each class of each experience of two classes
    "a number": (50, [[25, 25]] * 5),
    "a fraction": (0.1, None),
    "a list of numbers": ([60, 4, 2, 20, 10], [[30, 30], [2, 2], [1, 1], [10, 10], [5, 5]]),
}


@pytest.mark.parametrize(("wanted", "counts"), FEWER.values(), ids=FEWER)
def test_fewer_images_are_spread_evenly_over_the_classes(
    digits: Dataset, wanted: object, counts: list[list[int]] | None
) -> None:
    stream = build_stream(config(images_per_experience=wanted), data=digits, seed=0)
    whole = build_stream(config(), data=digits, seed=0)
    found = [sorted(group.values()) for group in counts_of(stream)]
    assert found == (counts or [sorted(round(0.1 * n) for n in group.values()) for group in counts_of(whole)])
    for i in range(5):
        assert as_set(images_of(stream, i)) < as_set(images_of(whole, i))
    assert stream.n_test == whole.n_test


def test_an_odd_number_of_images_gives_one_class_one_more(digits: Dataset) -> None:
    stream = build_stream(config(images_per_experience=[7, 0.5, 8, 8, 8]), data=digits, seed=0)
    assert sorted(counts_of(stream)[0].values()) == [3, 4]
    assert sum(counts_of(stream)[1].values()) > 100


def test_which_images_are_drawn_depends_on_the_seed_and_leaves_the_class_order_alone(digits: Dataset) -> None:
    a, again, b = (
        build_stream(config(images_per_experience=10, class_order="seeded"), data=digits, seed=seed)
        for seed in (3, 3, 4)
    )
    assert torch.equal(images_of(a, 0), images_of(again, 0))
    assert a.classes == split_classes(config(class_order="seeded"), n_classes=10, seed=3)
    fixed = [build_stream(config(images_per_experience=10), data=digits, seed=seed) for seed in (3, 4)]
    assert as_set(images_of(fixed[0], 0)) != as_set(images_of(fixed[1], 0))
    assert b.classes != a.classes


IMPOSSIBLE = {
    "more than a class has": (1000, r"asks for 1000 images in experience 0, 500 of each of its 2 classes"),
    "none of a class": (1, r"asks for 1 images in experience 0, which has 2 classes; at least 2"),
    "a short list": ([10, 10], r"has 2 entries for 5 experiences"),
}


@pytest.mark.parametrize(("wanted", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_images_that_cannot_be_had_are_refused(digits: Dataset, wanted: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_stream(config(images_per_experience=wanted), data=digits, seed=0)


def growing(digits: Dataset) -> Dataset:
    """Digits whose pixels reach 1 + label in training, and 100 in testing."""
    tops = 1.0 + digits.train_labels[:, None]
    images = digits.train_images / digits.train_images.amax(1, keepdim=True) * tops
    return replace(digits, train_images=images, test_images=digits.test_images * 100)


SCALES = {"first": [2.0] * 5, "running": [2.0, 4.0, 6.0, 8.0, 10.0], 5.0: [5.0] * 5}


@pytest.mark.parametrize(("scale", "divisors"), SCALES.items(), ids=map(str, SCALES))
def test_images_are_divided_by_what_training_images_reach(
    digits: Dataset, scale: object, divisors: list[float]
) -> None:
    data = growing(digits)
    stream = build_stream(config(scale=scale), data=data, seed=0)
    assert stream.scales == pytest.approx(divisors)
    for i, divisor in enumerate(divisors):
        top = 2.0 + 2 * i  # labels 0 and 1 come first and reach 1 and 2
        assert float(images_of(stream, i).max()) == pytest.approx(top / divisor)
        (whole, labels), *more = stream.tests_after(i)[0].batches(10_000)
        assert more == []
        assert torch.equal(labels, stream.tests[0].labels)
        assert float(whole.max()) == pytest.approx(float(stream.tests[0].images[:].max()) / divisor)


def test_without_a_scale_images_are_as_they_are(digits: Dataset) -> None:
    stream = build_stream(config(), data=digits, seed=0)
    assert stream.scales is None
    assert stream.tests_after(2) is stream.tests


def test_joint_training_divides_by_the_largest_of_all(digits: Dataset) -> None:
    stream = build_stream(config(scale="running"), data=growing(digits), seed=0, at_once=True)
    assert stream.scales == pytest.approx([10.0])
    assert float(images_of(stream, 0).max()) == pytest.approx(1.0)


def test_a_first_experience_without_any_light_has_no_scale(digits: Dataset) -> None:
    dark = replace(digits, train_images=digits.train_images * (digits.train_labels > 1)[:, None])
    with pytest.raises(ConfigError, match=r"largest value of the first experience is 0.0"):
        build_stream(config(scale="first"), data=dark, seed=0)


def test_features_on_disk_have_no_pixels_to_permute(digits: Dataset) -> None:
    on_disk = replace(digits, train_images=Selection(digits.train_images, torch.arange(len(digits.train_labels))))
    with pytest.raises(ConfigError, match="features have none"):
        build_stream(permuted(2), data=on_disk, seed=0)
