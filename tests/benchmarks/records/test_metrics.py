"""Metrics against matrices small enough to check on paper."""

from __future__ import annotations

import pytest

from benchmarks.records.metrics import (
    average_accuracy,
    backward_transfer,
    forgetting,
    overall_accuracy,
    paired_difference,
    seen_accuracy,
)

TWO = [[1.0, 0.0], [0.4, 0.8]]
THREE = [[0.9, 0.1, 0.0], [0.5, 0.8, 0.0], [0.6, 0.2, 1.0]]


def test_average_accuracy_is_the_mean_of_the_last_row() -> None:
    assert average_accuracy(TWO) == pytest.approx(0.6)  # (0.4 + 0.8) / 2
    assert average_accuracy(THREE) == pytest.approx(0.6)  # (0.6 + 0.2 + 1.0) / 3


def test_backward_transfer_compares_the_end_with_the_moment_of_learning() -> None:
    assert backward_transfer(TWO) == pytest.approx(-0.6)  # 0.4 - 1.0
    assert backward_transfer(THREE) == pytest.approx(-0.45)  # ((0.6 - 0.9) + (0.2 - 0.8)) / 2


def test_forgetting_compares_the_end_with_the_best_before() -> None:
    assert forgetting(TWO) == pytest.approx(0.6)
    assert forgetting(THREE) == pytest.approx(0.45)  # ((0.9 - 0.6) + (0.8 - 0.2)) / 2
    # An experience that was best later than when it was learnt: 0.9, not 0.5, is what was lost.
    assert forgetting([[0.5, 0.0, 0.0], [0.9, 1.0, 0.0], [0.3, 1.0, 1.0]]) == pytest.approx(0.3)  # (0.6 + 0.0) / 2


def test_a_network_that_improves_has_positive_transfer_and_negative_forgetting() -> None:
    better = [[0.5, 0.0], [0.7, 0.9]]
    assert backward_transfer(better) == pytest.approx(0.2)
    assert forgetting(better) == pytest.approx(-0.2)


@pytest.mark.parametrize("metric", [backward_transfer, forgetting])
@pytest.mark.parametrize("matrix", [[[0.9, 0.8]], [[0.9]], THREE[:2]], ids=["joint", "one experience", "cut short"])
def test_transfer_is_unknown_without_a_square_matrix(metric: object, matrix: list[list[float]]) -> None:
    assert callable(metric)
    assert metric(matrix) is None


def test_overall_accuracy_weights_experiences_by_their_test_images() -> None:
    # (1.0 * 30 + 0.0 * 10) / 40, (0.4 * 30 + 0.8 * 10) / 40
    assert overall_accuracy(TWO, [30, 10]) == pytest.approx([0.75, 0.5])


def test_seen_accuracy_leaves_out_what_is_still_to_come() -> None:
    # 0.9; (0.5 * 10 + 0.8 * 30) / 40; (0.6 * 10 + 0.2 * 30 + 1.0 * 60) / 100
    assert seen_accuracy(THREE, [10, 30, 60]) == pytest.approx([0.9, 0.725, 0.72])


def test_joint_training_has_seen_everything_in_its_only_row() -> None:
    assert seen_accuracy([[0.5, 1.0]], [10, 30]) == pytest.approx([0.875])  # (5 + 30) / 40


@pytest.mark.parametrize("shape", [[0.5, 0.5], [[]], []])
def test_what_is_no_matrix_is_refused(shape: list[object]) -> None:
    with pytest.raises(ValueError, match="n_trained, n_experiences"):
        average_accuracy(shape)


def test_a_paired_difference_has_students_interval() -> None:
    ours, theirs = {0: 0.6, 1: 0.5, 2: 0.8}, {2: 0.5, 0: 0.5, 1: 0.3}
    gain = paired_difference(ours, theirs)  # 0.1, 0.2, 0.3: mean 0.2, sd 0.1, t(0.975, 2) = 4.302653
    assert gain is not None
    assert gain.n == 3
    assert gain.mean == pytest.approx(0.2)
    assert gain.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5)
    narrower = paired_difference(ours, theirs, confidence=0.8)
    assert narrower is not None
    assert narrower.half_width == pytest.approx(1.885618 * 0.1 / 3**0.5)  # t(0.9, 2)


def test_only_shared_seeds_are_paired() -> None:
    gain = paired_difference({0: 0.6, 1: 0.9, 5: 0.1}, {0: 0.5, 1: 0.6, 7: 0.9})  # 0.1, 0.3; t(0.975, 1) = 12.7062
    assert gain is not None
    assert (gain.n, gain.mean) == (2, pytest.approx(0.2))
    assert gain.half_width == pytest.approx(12.7062 * 0.1, rel=1e-4)  # sd / sqrt(2) = 0.1


def test_one_pair_has_no_interval_and_none_no_difference() -> None:
    gain = paired_difference({0: 0.6}, {0: 0.5, 1: 0.2})
    assert gain is not None
    assert (gain.n, gain.half_width) == (1, None)
    assert paired_difference({0: 0.6}, {1: 0.5}) is None
    assert paired_difference({}, {}) is None
