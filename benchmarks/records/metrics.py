"""Numbers computed from accuracies; pure functions, nothing is stored.

`accuracy[i, j]` is the accuracy on the test images of experience j after training on experience i (and after the sleep,
if there was one): a fraction in [0, 1], shape (n_trained, n_experiences). Joint training has one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]


def _matrix(accuracy: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(accuracy, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"an accuracy matrix has the shape (n_trained, n_experiences), both at least 1; got {matrix.shape}"
        )
    return matrix


def average_accuracy(accuracy: ArrayLike) -> float:
    """Return the mean over experiences of the last row.

    Args:
        accuracy: Fractions, shape (n_trained, n_experiences).

    Source:
        Lopez-Paz & Ranzato 2017, NeurIPS, "Average Accuracy".
    """
    return float(_matrix(accuracy)[-1].mean())


def backward_transfer(accuracy: ArrayLike) -> float | None:
    """Return how much later training changed each experience: mean over j < T of a[T, j] - a[j, j].

    Args:
        accuracy: Fractions, shape (n_trained, n_experiences).

    Returns:
        A number in [-1, 1], negative when the network forgets; None unless the matrix is square with two rows or more.

    Source:
        Lopez-Paz & Ranzato 2017, NeurIPS, "Backward Transfer".
    """
    matrix = _matrix(accuracy)
    n_trained, n_experiences = matrix.shape
    if n_trained != n_experiences or n_trained < 2:
        return None
    return float((matrix[-1] - np.diag(matrix))[:-1].mean())


def forgetting(accuracy: ArrayLike) -> float | None:
    """Return the mean over j < T of the best earlier accuracy minus the last: max over i < T of a[i, j], minus a[T, j].

    Args:
        accuracy: Fractions, shape (n_trained, n_experiences).

    Returns:
        A number in [-1, 1]; None unless the matrix is square with two rows or more.

    Source:
        Chaudhry et al. 2018, ECCV, "Riemannian Walk", equation for f_j^k.
    """
    matrix = _matrix(accuracy)
    n_trained, n_experiences = matrix.shape
    if n_trained != n_experiences or n_trained < 2:
        return None
    return float((matrix[:-1, :-1].max(axis=0) - matrix[-1, :-1]).mean())


def pooled_accuracy(row: ArrayLike, n_test: Sequence[int]) -> float:
    """Return the accuracy over all test images together: the mean of `row` weighted by `n_test`.

    Args:
        row: Fractions, shape (n_experiences,).
        n_test: Test images of each experience, shape (n_experiences,).
    """
    return float(np.average(np.asarray(row, dtype=np.float64), weights=np.asarray(n_test, dtype=np.float64)))


def overall_accuracy(accuracy: ArrayLike, n_test: Sequence[int]) -> list[float]:
    """Return, for each row, the accuracy over all test images, those of classes not yet seen included.

    This is the number of Tadros et al. 2022; its last entry is the final accuracy of a run.

    Args:
        accuracy: Fractions, shape (n_trained, n_experiences).
        n_test: Test images of each experience, shape (n_experiences,).
    """
    return [pooled_accuracy(row, n_test) for row in _matrix(accuracy)]


def seen_accuracy(accuracy: ArrayLike, n_test: Sequence[int]) -> list[float]:
    """Return, for row i, the accuracy over the test images of experiences 0 to i.

    The single row of joint training has seen everything.

    Args:
        accuracy: Fractions, shape (n_trained, n_experiences).
        n_test: Test images of each experience, shape (n_experiences,).
    """
    matrix = _matrix(accuracy)
    n_trained, n_experiences = matrix.shape
    seen = [n_experiences] if n_trained == 1 else range(1, n_trained + 1)
    return [pooled_accuracy(row[:k], n_test[:k]) for row, k in zip(matrix, seen, strict=True)]


@dataclass(frozen=True)
class Difference:
    """A mean over pairs, and how sure it is.

    Attributes:
        mean: Mean of the paired differences.
        half_width: The confidence interval is mean ± half_width; None below two pairs.
        n: Number of pairs.
    """

    mean: float
    half_width: float | None
    n: int


def paired_difference(
    ours: Mapping[int, float], theirs: Mapping[int, float], *, confidence: float = 0.95
) -> Difference | None:
    """Return how much larger ours are than theirs, paired by what both have; None without a pair.

    The interval is Student's: half_width = t sd / sqrt(n), with t the quantile at (1 + confidence) / 2 of n - 1 degrees
    of freedom and sd the standard deviation (ddof 1) of the differences.

    Args:
        ours: Accuracies by seed.
        theirs: Those they are compared with, by seed.
        confidence: How often such intervals hold the true mean, between 0 and 1.
    """
    pairs = np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs])
    n = len(pairs)
    if n == 0:
        return None
    half_width = None
    if n > 1:
        half_width = float(stdtrit(n - 1, (1 + confidence) / 2) * pairs.std(ddof=1) / np.sqrt(n))
    return Difference(mean=float(pairs.mean()), half_width=half_width, n=n)


def sign_flip_p(differences: ArrayLike) -> float | None:
    """Return the exact two-sided p of paired differences: how often flipped signs give a mean at least as far from 0.

    Below six pairs it cannot fall under 0.05. None without a pair.

    Args:
        differences: One per pair, shape (n,), n at most 20.
    """
    given = np.asarray(differences, dtype=np.float64)
    if given.size == 0:
        return None
    signs = np.array(list(product((1.0, -1.0), repeat=given.size)))
    flipped = np.abs(signs @ given)
    return float(np.mean(flipped >= abs(given.sum()) * (1 - 1e-12)))
