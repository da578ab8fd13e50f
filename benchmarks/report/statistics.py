"""How sure a number is: a bootstrap interval over seeds, the exact p of a paired difference, Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap, permutation_test  # type: ignore[import-untyped]

from benchmarks.records.metrics import Difference, paired_difference, sign_flip_p
from benchmarks.tables.comparison import PAIRS

CONFIDENCE = 0.95
RESAMPLES = 9_999
SEED = 0  # of what is drawn, so that the same records always give the same page
EXACT = 12  # pairs; above it there are more sign patterns than resamples, and these are drawn


@dataclass(frozen=True)
class Gain:
    """What sleep adds to the same strategy without it.

    Attributes:
        difference: Mean of the paired differences with its interval, fractions.
        p: Two-sided p of flipped signs; None below six pairs, where it cannot fall under 0.05.
        p_holm: The same after Holm's correction over the comparisons of its benchmark; None where p is.
    """

    difference: Difference
    p: float | None
    p_holm: float | None = None


def bootstrap_interval(values: ArrayLike) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean over resampled seeds, by percentiles; None below two values.

    With three or five seeds it is too narrow: it cannot know of values that none of them had.

    Args:
        values: One per seed, shape (n,).
    """
    given = np.asarray(values, dtype=np.float64)
    if given.size < 2:
        return None
    if np.ptp(given) == 0.0:  # nothing to draw from, and SciPy warns of it
        return float(given[0]), float(given[0])
    found = bootstrap(
        (given,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def paired_p(differences: ArrayLike) -> float | None:
    """Return the two-sided p of paired differences when their signs are flipped; None below six pairs.

    Exact up to twelve pairs; above, 9,999 drawn patterns, the observed one counted with them.

    Args:
        differences: One per pair, shape (n,).
    """
    given = np.asarray(differences, dtype=np.float64)
    if given.size < PAIRS:
        return None
    if given.size <= EXACT:
        return sign_flip_p(given)
    drawn = permutation_test(
        (given,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=np.random.default_rng(SEED)
    )
    return float(drawn.pvalue)


def gain(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Gain | None:
    """Return how much larger ours are than theirs, paired by seed, uncorrected; None without a pair.

    Args:
        ours: Accuracies by seed, with sleep.
        theirs: Those of the same strategy without.
    """
    difference = paired_difference(ours, theirs, confidence=CONFIDENCE)
    if difference is None:
        return None
    return Gain(difference, paired_p([ours[seed] - theirs[seed] for seed in ours if seed in theirs]))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number, in the order given; None stays None and counts for nothing.

    The k-th smallest of m is multiplied by m - k + 1, is never below the one before it, and at most 1.

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6:65-70.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, i) in enumerate(known):
        floor = max(floor, min(1.0, p * (len(known) - rank)))
        corrected[i] = floor
    return corrected
