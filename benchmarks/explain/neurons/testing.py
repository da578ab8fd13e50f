"""Exact permutation tests of sums of spike counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb  # type: ignore[import-untyped]

Counts = NDArray[np.int64]


def subset_p(counts: Counts, chosen: Counts) -> float:
    """Return how often a random subset of units has as many spikes as a chosen one, or more.

    All subsets of that size are counted, by the number of ways to each sum; nothing is drawn.

    Args:
        counts: Spikes of all units, the chosen ones among them, shape (n,).
        chosen: Spikes of the chosen ones, shape (k,), k at most 100 where n is above 1,000, or numbers overflow.

    Example:
        >>> subset_p(np.array([5, 3, 0, 0]), np.array([5, 3]))  # one of six subsets of two
        0.16666666666666666
    """
    n, k, least = len(counts), len(chosen), int(chosen.sum())
    firing = np.sort(counts[counts > 0])
    ways = np.zeros((k + 1, least + 1))  # [units taken, their spikes, all from `least` on in the last column]
    ways[0, 0] = 1.0
    for reach, count in zip(np.cumsum(firing), firing, strict=True):
        end = min(int(reach), least)  # no sum is further up yet
        start = min(int(count), least)
        added = ways[:-1, : end + 1 - start].copy()
        beyond = ways[:-1, end + 1 - start : end + 1].sum(1) if end == least else 0.0
        ways[1:, start : end + 1] += added
        ways[1:, least] += beyond
    silent = n - len(firing)
    rest = comb(silent, k - np.arange(k + 1))
    return float(min(1.0, rest @ ways[:, least] / (rest @ ways.sum(1))))


def two_groups_p(ours: Counts, theirs: Counts) -> float:
    """Return the two-sided p of the difference of two groups' sums: twice the smaller of both sides, at most 1.

    Example:
        >>> round(two_groups_p(np.array([9, 8, 7]), np.array([1, 2, 3])), 3)  # 2 of 20
        0.1
    """
    both = np.concatenate([ours, theirs])
    # Ours have few spikes as often as the others have many.
    return min(1.0, 2.0 * min(subset_p(both, ours), subset_p(both, theirs)))
