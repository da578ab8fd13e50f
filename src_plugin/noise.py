"""Noise that stands in for inputs when outputs are balanced: binary, with the mean of all that was ever seen.

Half of it has independent inputs. The other half keeps the correlations of the current experience's inputs: strokes of
one digit resemble strokes of another, so such noise reaches the hidden units that real inputs reach. No input is kept
for it beyond the sleep.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

N_NOISE = 512
"""Vectors per sleep; the first half of them is enough to tell shares."""

N_INPUTS = 500
"""So many inputs are enough to tell correlations."""

STRENGTH = 0.5
"""Input i is 1 with probability min(1, STRENGTH * mean_i)."""


def draw_noise(
    mean_input: NDArray[np.float64],
    *,
    generator: np.random.Generator,
    dtype: torch.dtype,
    inputs: Tensor | None = None,
    n: int = N_NOISE,
) -> Tensor:
    """Draw binary inputs of the head.

    Args:
        mean_input: Shape (n_0,), 0 or more.
        generator: The only source of randomness.
        dtype: Of the result.
        inputs: Inputs of the head in the current experience, shape (m, n_0). With at least two, every second vector
            has the correlations of the last N_INPUTS of them; without, all inputs of all vectors are independent.
        n: Number of vectors.

    Returns:
        Zeros and ones, shape (n, n_0).

    Source:
        Correlated binary vectors with given means by thresholding correlated Gaussians: Macke et al. 2009, Neural
        Computation 21(2), "Generating spike trains with specified correlation coefficients". Here the correlations of
        the Gaussians are those of the inputs, without Macke's correction for the threshold.
    """
    p = np.clip(STRENGTH * mean_input, 0.0, 1.0)
    noise = torch.from_numpy(generator.random((n, len(p)), dtype=np.float32) < p.astype(np.float32)).to(dtype)
    if inputs is not None and len(inputs) > 1:
        noise[::2] = _correlated(p, inputs[-N_INPUTS:].float(), n=(n + 1) // 2, generator=generator).to(dtype)
    return noise


def _correlated(p: NDArray[np.float64], inputs: Tensor, *, n: int, generator: np.random.Generator) -> Tensor:
    """Threshold sums of the inputs with random Gaussian weights; inputs that do not vary get noise of their own."""
    centred = inputs - inputs.mean(0)
    spread = centred.std(0)
    varies = spread > 1e-3 * float(spread.max())
    weights = torch.from_numpy(generator.standard_normal((n, len(inputs)), dtype=np.float32))
    own = torch.from_numpy(generator.standard_normal((n, len(p)), dtype=np.float32))
    gaussian = torch.where(varies, weights @ centred / (len(inputs) ** 0.5 * spread), own)
    on: Tensor = gaussian < torch.special.ndtri(torch.from_numpy(p)).float()
    return on
