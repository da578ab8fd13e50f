"""Intervals, exact p and Holm's correction, by hand."""

from __future__ import annotations

import pytest

from benchmarks.records.metrics import sign_flip_p
from benchmarks.report.statistics import bootstrap_interval, gain, holm, paired_p


def test_the_bootstrap_of_two_values_reaches_from_one_to_the_other():
    # Four equally likely resamples, with means 0.2, 0.3, 0.3, 0.4: a quarter each lies at the ends.
    assert bootstrap_interval([0.2, 0.4]) == pytest.approx((0.2, 0.4))


def test_the_bootstrap_of_one_value_that_differs_from_eleven():
    # Of twelve draws k hit the value 1 with binomial(12, 1/12): P(k = 0) = 0.35, P(k <= 2) = 0.93, P(k <= 3) = 0.986.
    assert bootstrap_interval([0.0] * 11 + [1.0]) == pytest.approx((0.0, 3 / 12))


@pytest.mark.parametrize(("values", "interval"), [([], None), ([0.5], None), ([0.5, 0.5, 0.5], (0.5, 0.5))])
def test_there_is_nothing_to_resample(values, interval):
    assert bootstrap_interval(values) == interval


def test_the_same_values_give_the_same_interval():
    values = [0.71, 0.74, 0.69, 0.77, 0.70]
    first = bootstrap_interval(values)
    assert first == bootstrap_interval(values)
    assert first is not None
    assert min(values) < first[0] < sum(values) / 5 < first[1] < max(values)


def test_p_needs_six_pairs():
    assert paired_p([1.0] * 5) is None
    assert paired_p([1.0] * 6) == 2 / 64  # all signs as they are, or all flipped


def test_many_pairs_are_drawn_and_agree_with_the_exact_p():
    differences = [0.3, -0.1, 0.2, 0.4, -0.2, 0.1, 0.25, -0.05, 0.15, 0.05, -0.12, 0.22, 0.08, -0.3, 0.11]
    drawn = paired_p(differences)
    assert drawn == paired_p(differences)
    assert drawn == pytest.approx(sign_flip_p(differences), abs=0.02)


def test_a_gain_is_paired_by_seed_and_not_yet_corrected():
    found = gain({0: 0.6, 1: 0.7, 9: 1.0}, {0: 0.2, 1: 0.2, 5: 0.0})
    assert found is not None
    assert (found.difference.mean, found.difference.n) == (pytest.approx(0.45), 2)
    assert (found.p, found.p_holm) == (None, None)
    assert gain({0: 0.6}, {1: 0.2}) is None


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 0.01 x 3, 0.03 x 2, and 0.04 x 1, which is not below 0.06
        ([0.04, None, 0.01], [0.04, None, 0.02]),  # what could not be tested is not counted
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([None], [None]),
        ([], []),
    ],
)
def test_holm(given, corrected):
    assert holm(given) == [None if p is None else pytest.approx(p) for p in corrected]
