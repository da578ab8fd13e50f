"""The binary noise of before: `SleepConfig(noise="binary")` balances outputs on it, so that records can be repeated.

Half of it has independent inputs. The other half keeps the correlations of the current experience's inputs: strokes of
one digit resemble strokes of another, so such noise reaches the hidden units that real inputs reach. No input is kept
for it beyond the sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

N_NOISE, SHORT, N_SHORT = 384, 64, 128
"""Vectors per sleep, and fewer of them after a training of fewer than SHORT iterations."""

N_INPUTS = 300
"""So many inputs are enough to tell correlations."""

STRENGTH = 0.5
"""Where nothing can be measured: input i is 1 with probability min(1, STRENGTH * mean_i)."""

WEAKEST, STRONGEST = 0.35, 1.0
"""Bounds of a measured strength: weaker noise hardly drives a head, stronger noise exceeds the mean."""

VARIATION = 2.0
"""How much more than current inputs correlated noise varies where it matters: all seen classes vary more than a few."""

TRIES, N_TRIED = 3, 64
"""Bisections of the strength, and vectors looked at for each."""


@dataclass(frozen=True)
class Noise:
    """Binary inputs of the head.

    Attributes:
        vectors: Zeros and ones, shape (n, n_0).
        strength: Input i is 1 with probability min(1, strength * mean_i).
    """

    vectors: Tensor
    strength: float


def how_many(iterations: int | None) -> int:
    """Return how many vectors a night has after so many training iterations; None where that is not known."""
    return N_SHORT if iterations is not None and iterations < SHORT else N_NOISE


def draw_binary_noise(
    mean_input: NDArray[np.float64],
    *,
    generator: np.random.Generator,
    dtype: torch.dtype,
    inputs: Tensor | None = None,
    hidden: Callable[[Tensor], Tensor] | None = None,
    n: int,
) -> Noise:
    """Draw binary inputs of the head.

    Args:
        mean_input: Shape (n_0,), 0 or more.
        generator: The only source of randomness.
        dtype: Of the vectors.
        inputs: Inputs of the head in the current experience, shape (m, n_0). With at least two, every second vector
            has the correlations of the last N_INPUTS of them; without, all inputs of all vectors are independent.
        hidden: Gives the last hidden activity, shape (m, n_h), for inputs of the head. With it and `inputs`, the
            strength is measured: that at which correlated noise varies VARIATION times as much there as the inputs do,
            relative to the mean activity. Weak noise leaves most inputs silent, so it varies more.
        n: Number of vectors.

    Returns:
        The noise.

    Source:
        Correlated binary vectors with given means by thresholding correlated Gaussians: Macke et al. 2009, Neural
        Computation 21(2), "Generating spike trains with specified correlation coefficients". Here the correlations of
        the Gaussians are those of the inputs, without Macke's correction for the threshold.
    """
    own = torch.from_numpy(generator.random((n, len(mean_input)), dtype=np.float32))
    if inputs is None or len(inputs) < 2:
        return Noise((own < _probability(mean_input, STRENGTH)).to(dtype), STRENGTH)
    inputs = inputs[-N_INPUTS:].float()
    gaussian = _correlated(inputs, n=(n + 1) // 2, generator=generator)

    def correlated(strength: float, count: int | None = None) -> Tensor:
        below: Tensor = gaussian[:count] < torch.special.ndtri(_probability(mean_input, strength))
        return below.to(dtype)

    strength = STRENGTH
    if hidden is not None:
        goal = VARIATION * _variation(hidden(inputs[:N_TRIED].to(dtype)))
        low, high = WEAKEST, STRONGEST
        for _ in range(TRIES):
            strength = (low * high) ** 0.5
            varies_enough = _variation(hidden(correlated(strength, N_TRIED))) >= goal
            low, high = (strength, high) if varies_enough else (low, strength)
        strength = (low * high) ** 0.5
    vectors = (own < _probability(mean_input, strength)).to(dtype)
    vectors[::2] = correlated(strength)
    return Noise(vectors, strength)


def _probability(mean_input: NDArray[np.float64], strength: float) -> Tensor:
    return torch.from_numpy(np.clip(strength * mean_input, 0.0, 1.0)).float()


def _correlated(inputs: Tensor, *, n: int, generator: np.random.Generator) -> Tensor:
    """Return Gaussians, shape (n, n_0), correlated as the inputs; an input that does not vary gets noise of its own."""
    centred = inputs - inputs.mean(0)
    spread = (centred.square().sum(0) / (len(inputs) - 1)).sqrt()  # std(0) takes ten times as long
    varies = spread > 1e-3 * float(spread.max())
    weights = torch.from_numpy(generator.standard_normal((n, len(inputs)), dtype=np.float32))
    own = torch.from_numpy(generator.standard_normal((n, inputs.shape[1]), dtype=np.float32))
    return torch.where(varies, weights @ centred / (len(inputs) ** 0.5 * spread), own)


def _variation(hidden: Tensor) -> float:
    """Return the variance of activity, shape (n, n_h), relative to the square of its mean, over all units."""
    mean = hidden.mean(0)
    return float((hidden - mean).square().sum(1).mean() / mean.square().sum().clamp(min=1e-30))
