"""Noise that stands in for inputs of earlier experiences when outputs are balanced. No input is kept for it.

It is Gaussian, with the correlations of the current experience's inputs, and clipped to what inputs can be:

    z_i = clip(a_i + spread * s_i * g_i, low_i, top_i),      E[z_i] = m_i - min((m_i - low_i) / 2, below * s_i)

m is the running mean of all inputs and low the least of them, at most 0; s is the standard deviation and top the
largest of the current ones. In every second vector g is a mixture of current inputs with random weights, standardised;
in the others it is independent. Where inputs are nearly binary, so is this noise; where they are dense columns, it is
bell-shaped.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.config.constants import DEFAULT, Constants

BISECTIONS = 20
"""For the centre that gives clipped noise its mean."""


def draw_noise(
    mean_input: NDArray[np.float64],
    *,
    generator: np.random.Generator,
    inputs: Tensor | None = None,
    lowest: NDArray[np.float64] | None = None,
    n: int | None = None,
    constants: Constants = DEFAULT,
) -> Tensor:
    """Draw inputs of the head.

    Args:
        mean_input: Shape (n_0,).
        generator: The only source of randomness.
        inputs: Inputs of the head in the current experience, shape (m, n_0); the last `noise_inputs` count. With fewer
            than two, all inputs are independent, and their standard deviations are taken to be their means. The
            same is done for inputs that do not vary now and may have varied earlier.
        lowest: The least value that each input ever had, or 0 if that is less, shape (n_0,); None is 0 for all.
        n: Number of vectors; None is `noise_vectors`.
        constants: `noise_vectors`, `noise_inputs`, `noise_spread` and `noise_below`.

    Returns:
        The noise, float32, shape (n, n_0), on the device of `inputs`.
    """
    device, n = None if inputs is None else inputs.device, constants.noise_vectors if n is None else n
    low = torch.from_numpy(np.zeros_like(mean_input) if lowest is None else lowest).to(device, torch.float32)
    known = None
    if inputs is not None and len(inputs) > 1:
        known = inputs[-constants.noise_inputs :].float() - low  # from here on above low
    mean = torch.from_numpy(mean_input).to(device, torch.float32) - low
    spread, top = mean.clone(), torch.full_like(mean, max(1.0, float(mean.max())))
    g = normal((n, len(mean)), generator, device)
    if known is not None:
        centred = known - known.mean(0)
        deviation = (centred.square().sum(0) / (len(known) - 1)).sqrt()  # std(0) takes ten times as long
        varies = deviation > max(1e-3 * float(deviation.max()), 1e-6 * float(known.abs().max()))  # no rounding error
        mixed = normal((n // 2, len(known)), generator, device) @ centred / ((len(known) - 1) ** 0.5 * deviation)
        g[1::2] = torch.where(varies, mixed, g[1::2])
        spread = torch.where(varies, deviation, spread)
        top = torch.where(varies, known.amax(0), known.max())
    wanted = mean - torch.minimum(mean / 2, constants.noise_below * spread)
    top = torch.maximum(top, mean)
    width = (constants.noise_spread * spread).clamp(min=1e-6)
    return clipped_gaussian(wanted, width, top, width * g) + low


def normal(shape: tuple[int, int], generator: np.random.Generator, device: torch.device | None) -> Tensor:
    """Return standard normal numbers, float32, on a device."""
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)).to(device)


def clipped_gaussian(wanted: Tensor, width: Tensor, top: Tensor, deviations: Tensor) -> Tensor:
    """Return deviations around centres, clipped to [0, top], so that Gaussian ones have the wanted means.

    Args:
        wanted: Mean of each input, shape (n_0,).
        width: Standard deviation of each, shape (n_0,).
        top: The largest value of each, shape (n_0,).
        deviations: Shape (n, n_0), of that standard deviation.
    """
    noise: Tensor = (_centre(wanted, width, top) + deviations).clamp(min=0.0).minimum(top)
    return noise


def _centre(wanted: Tensor, width: Tensor, top: Tensor) -> Tensor:
    """Return the centres at which Gaussians of a width, clipped to [0, top], have the wanted means."""
    low, high = -8.0 * width, top + 8.0 * width
    for _ in range(BISECTIONS):
        centre = (low + high) / 2
        is_high = _clipped_mean(centre, width, top) > wanted
        low, high = torch.where(is_high, low, centre), torch.where(is_high, centre, high)
    return (low + high) / 2


def _clipped_mean(centre: Tensor, width: Tensor, top: Tensor) -> Tensor:
    """Return the mean of clip(centre + width * g, 0, top) for a standard Gaussian g."""
    low, high = -centre / width, (top - centre) / width
    below, above = torch.special.ndtr(low), torch.special.ndtr(-high)
    bells = (torch.exp(-low.square() / 2) - torch.exp(-high.square() / 2)) / math.sqrt(2 * math.pi)
    mean: Tensor = centre * (1 - below - above) + width * bells + top * above
    return mean


def share_of(logits: Tensor, *, seen: tuple[int, ...], new: tuple[int, ...]) -> float:
    """Return the fraction of rows of logits, shape (n, n_L), whose largest entry among seen classes is a new class."""
    winners = logits[:, list(seen)].argmax(1)
    is_new = torch.tensor([c in new for c in seen], device=logits.device)
    return float(is_new[winners].double().mean())
